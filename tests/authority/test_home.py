"""A home is its owner's alone, and opens again."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.authority.home import PLACE, create_home, store_place
from capx.crypto.keys import KeyRing
from capx.errors import ConfigurationProblem, KeyProblem, StoreProblem
from capx.store.sqlite.store import SQLiteStore
from tests.labs.postgres import shared_server


def test_a_home_is_its_owners_alone_and_opens_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "deep" / "home"
    with Authority.create_home(home) as authority:
        opened = authority.open(allow=["a.b"])
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()} == {0o600}
    monkeypatch.setenv("CAPX_HOME", str(home))
    with Authority.open_home() as again:
        assert again.task(opened.id).state == "active"
    with pytest.raises(ConfigurationProblem, match="already"):
        create_home(home)


def test_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreProblem, match="capx init"):
        Authority.open_home(tmp_path)


def test_keys_whose_store_is_gone_do_not_get_a_new_one(tmp_path: Path) -> None:
    create_home(tmp_path / "home")
    (tmp_path / "home" / "capx.db").unlink()
    with pytest.raises(ConfigurationProblem, match="forgotten what was revoked"):
        create_home(tmp_path / "home")


def test_a_home_that_was_made_half_is_finished(tmp_path: Path) -> None:
    home = create_home(tmp_path / "home")
    (home / "root.keys").unlink()
    with pytest.raises(KeyProblem, match="are missing"):
        Authority.open_home(home)
    create_home(home)
    Authority.open_home(home).close()
    (home / "root.keys").write_bytes(b"")
    with pytest.raises(KeyProblem, match="holds no key"):
        Authority.open_home(home)
    create_home(home)
    Authority.open_home(home).close()


def test_init_writes_into_the_keys_whose_store_it_made(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Authority.create_home(tmp_path / name).close()
    one, two = (KeyRing.load(tmp_path / name / "root.keys").authority for name in ("one", "two"))
    assert one != two
    with SQLiteStore(tmp_path / "one" / "capx.db").read() as reading:
        assert reading.head().epoch.partition(".")[0] == one
    # New keys for the same store are those of the same authority.
    (tmp_path / "one" / "root.keys").unlink()
    create_home(tmp_path / "one")
    assert KeyRing.load(tmp_path / "one" / "root.keys").authority == one


def test_hosts_that_share_a_database_are_one_authority(tmp_path: Path) -> None:
    database = shared_server().database()
    create_home(tmp_path / "first", store=shared_server().url(database))
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    with Authority.open_home(tmp_path / "first") as first, Authority.open_home(tmp_path / "second") as second:
        opened = first.open(allow=["crm.read"])
        second.complete(opened.id)
        assert first.export_keys("crm").authority == second.export_keys("crm").authority == first.id
        assert first.task(opened.id).state == "completed"
    shared_server().give_back(database)


def test_root_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    home = create_home(tmp_path / "home")
    (home / "root.keys").chmod(0o640)
    with pytest.raises(KeyProblem, match="chmod 600"):
        Authority.open_home(home)


def test_a_pipe_as_the_name_of_a_store_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / PLACE, 0o600)
    with pytest.raises(ConfigurationProblem, match="is not a regular file"):
        store_place(tmp_path)
