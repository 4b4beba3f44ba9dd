"""The log is followed as it grows."""

import json
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.authority.restore import restore
from capx.store.backup import backup
from tests.cli.conftest import Shell
from tests.labs.following_log import Following


@pytest.mark.parametrize("shape", ["text", "json"])
def test_the_log_is_followed_as_it_grows(home: Shell, shape: str) -> None:
    home("task", "open", "--allow", "crm.read")
    options = ("--json",) if shape == "json" else ()
    following = Following(home, "log", "--follow", "--since", "1", *options)
    following.until(lambda out, _: out.count("\n") == 2)
    home("task", "complete", "last")
    following.until(lambda out, _: out.count("\n") == 3)
    out = following.said[following.master]
    if shape == "json":
        assert [json.loads(line)["position"] for line in out.splitlines()] == [2, 3, 4]
    else:
        assert [line.split()[0] for line in out.splitlines()] == ["2", "3", "4"]
    assert following.end() == 0
    assert following.said[following.err] == ""


def test_without_since_only_what_is_new_is_told(home: Shell, tmp_path: Path) -> None:
    home("task", "open", "--allow", "crm.read")
    following = Following(home, "log", "--follow", "--limit", "1")
    following.until(lambda out, _: out.startswith("3 "))
    home("task", "complete", "last")
    following.until(lambda out, _: "\n4 " in out)
    assert following.end() == 0


def test_who_follows_survives_a_store_that_is_away_or_restored(home: Shell, tmp_path: Path) -> None:
    home("task", "open", "--allow", "crm.read")
    path = home.home / "capx.db"
    with Authority.open_home(home.home) as authority:
        backup(authority.store, tmp_path / "saved.db")
    following = Following(home, "log", "--follow", "--since", "2")
    following.until(lambda out, _: out.startswith("3 "))
    path.rename(home.home / "away.db")
    following.until(lambda _, err: err.count("trying again") == 1)
    (home.home / "away.db").rename(path)
    home("task", "complete", "last")
    following.until(lambda out, err: "task_completed" in out and "can be read again" in err)
    restore(tmp_path / "saved.db", str(path))
    following.until(lambda out, err: "restored" in out and "the log was replaced" in err)
    home("task", "open", "--allow", "crm.read")
    following.until(lambda out, _: out.count("task_opened") == 1)
    assert following.end() == 0
    assert following.said[following.master].count("restored ") == 1
