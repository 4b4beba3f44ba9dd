"""Rotation: never an outage, never a lost key, whoever else is at it."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from capx.authority.home import change_keys
from capx.crypto.agent_key import AgentKey
from capx.crypto.keys import AudienceKeys, KeyRing, RootKey
from tests.cli.conftest import first
from tests.labs.commands import COMMAND
from tests.labs.read_only import AS_ANYBODY, obeys_permissions


def ring(home: Any) -> KeyRing:
    return KeyRing.load(home.home / "root.keys")


def listed(home: Any) -> dict[str, tuple[str, int]]:
    return {each["kid"]: (each["state"], each["live_tasks"]) for each in home("keys", "list", "--json").json}


def test_a_rotation_refuses_nothing_until_the_old_key_is_retired(home: Any, tmp_path: Path) -> None:
    (old,) = listed(home)
    before = home("task", "open", "--allow", "crm.read").token
    home("keys", "export", "crm", "--out", str(tmp_path / "crm.keys"))

    added = home("keys", "add")
    new = added.out.strip()
    assert "it verifies, but does not mint yet" in added.err
    assert "restart each, then capx keys activate" in added.err
    assert listed(home) == {old: ("active", 1), new: ("verifies", 0)}
    assert first(home("task", "open", "--allow", "crm.read").token).kid == old

    out = ("keys", "export", "crm", "--out", str(tmp_path / "crm.keys"))
    assert "choose another name, or give --replace" in home(*out, code=3).err
    home(*out, "--replace")
    exported = AudienceKeys.load(tmp_path / "crm.keys", "crm")
    assert exported.get(old) is not None
    assert exported.get(new) is not None

    said = home("keys", "activate", new).err
    assert "mints from now on" in said
    assert "have not read this key deny what it mints: capx keys export, and restart each" in said
    assert "Next: restart what opened this home, and capx keys retire" in said
    after = home("task", "open", "--allow", "crm.read").token
    assert first(after).kid == new
    for token in (before, after):
        home("verify", "--action", "crm.read", token=token)
    assert listed(home) == {new: ("active", 1), old: ("verifies", 2)}

    said = home("keys", "retire", old, code=2).err
    assert f"2 live tasks hold tokens of {old}: complete what capx task list --active shows" in said
    for task in home("task", "list", "--active", "--json").json[:2]:
        home("task", "complete", task["id"])
    assert "is retired" in home("keys", "retire", old).err
    assert listed(home) == {new: ("active", 1)}
    assert "not_authentic" in home("verify", "--action", "crm.read", token=before, code=1).out
    home("verify", "--action", "crm.read", token=after)
    assert old not in home("keys", "export", "crm").out


def test_a_key_that_leaked_is_retired_at_once(home: Any) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    (leaked,) = listed(home)
    home("keys", "activate", home("keys", "add").out.strip())
    assert "a live task holds tokens" in home("keys", "retire", leaked, code=2).err
    home("keys", "retire", leaked, "--force")
    home("verify", "--action", "crm.read", token=token, code=1)


def test_what_cannot_be_meant_is_one_line_and_changes_nothing(home: Any, tmp_path: Path) -> None:
    (kid,) = listed(home)
    home("task", "open", "--allow", "crm.read")
    text = (home.home / "root.keys").read_text()
    for args, code, says in (
        (("retire", kid), 2, "mints: activate another one first, then retire it"),
        (("retire", kid, "--force"), 2, "activate another one first"),
        (("activate", "AAAAAAAAAAA"), 2, "there is no live key 'AAAAAAAAAAA': capx keys list shows"),
        (("activate", "\x1b[31m\u202e\n"), 2, "there is no live key"),
        (("retire", "../../etc/passwd"), 2, "there is no live key"),
        (("retire",), 2, "Missing argument 'KID'"),
        (("export", "crm", "--replace"), 2, "--replace needs --out"),
        (("export", "crm", "--out", str(tmp_path)), 3, "is a folder: name a file in it"),
        (("export", "crm", "--out", str(tmp_path), "--replace"), 3, "is a folder: name a file in it"),
        (("export", "crm", "--out", str(tmp_path / "no" / "x"), "--replace"), 3, "No such file or directory"),
    ):
        said = home("keys", *args, code=code)
        assert says in said.err, said.err
        assert said.err.count("\n") == 1
        assert said.err[:-1].isprintable()
        assert said.out == ""
    assert (home.home / "root.keys").read_text() == text


def test_an_export_replaces_a_linked_file_and_only_a_file(home: Any, tmp_path: Path) -> None:
    pipe, file, link = tmp_path / "pipe", tmp_path / "svc.keys", tmp_path / "crm.keys"
    os.mkfifo(pipe)
    said = home("keys", "export", "crm", "--out", str(pipe), "--replace", code=3).err
    assert "is not a regular file: choose another name" in said
    assert said.count("\n") == 1
    assert pipe.is_fifo()
    home("keys", "export", "crm", "--out", str(file))
    link.symlink_to("svc.keys")
    home("keys", "add")
    home("keys", "export", "crm", "--out", str(link), "--replace")
    assert link.is_symlink()
    assert sum(line.startswith("audience crm ") for line in file.read_text().splitlines()) == 2
    assert sorted(found.name for found in tmp_path.glob("*.*")) == ["crm.keys", "svc.keys"]


def test_a_kid_may_begin_with_a_dash(home: Any) -> None:
    key = next(key for key in iter(RootKey.generate, None) if key.kid.startswith("-"))
    change_keys(lambda held: held.added(key), home.home)
    (old,) = (kid for kid in ring(home).kids if kid != key.kid)
    home("keys", "activate", key.kid)
    assert first(home("task", "open", "--allow", "crm.read").token).kid == key.kid
    home("keys", "retire", old)
    assert ring(home).kids == (key.kid,)
    assert home("keys", "retire", "-h").out.startswith("Usage: capx keys retire")


def test_without_a_home_or_its_keys_it_is_said_what_to_do(capx: Any) -> None:
    for args in (("list",), ("add",), ("activate", "x"), ("retire", "x")):
        assert "create one with capx init" in capx("keys", *args, code=3).err
    capx("init")
    (capx.home / "root.keys").rename(capx.home / "away")
    for args in (("list",), ("add",), ("activate", "x"), ("retire", "x")):
        assert "put them back from your backup" in capx("keys", *args, code=3).err
    assert not (capx.home / "root.keys").exists()


def test_keys_added_by_many_processes_at_once_are_all_kept(home: Any) -> None:
    processes = [home.start("keys", "add") for _ in range(8)]
    kids: set[str] = set()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        kids.add(out.strip())
    assert len(kids) == 8
    assert kids < set(ring(home).kids)
    assert len(ring(home).kids) == 9


def test_whoever_works_meanwhile_never_meets_half_a_key_file(home: Any) -> None:
    changing = [home.start("keys", "add") for _ in range(3)]
    changing += [home.start("keys", "activate", ring(home).kids[-1]) for _ in range(2)]
    for _ in range(4):
        token = home("task", "open", "--allow", "crm.read").token
        home("verify", "--action", "crm.read", token=token)
    for process in changing:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    home("doctor")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_change_that_is_killed_leaves_the_keys_before_or_after(home: Any, end: signal.Signals) -> None:
    (first,) = ring(home).kids
    for delay in (0.05, 0.1, 0.15, 0.2, 0.3):
        process = home.start("keys", "add")
        time.sleep(delay)
        process.send_signal(end)
        process.communicate(timeout=60)
        assert ring(home).active.kid == first
    kid = home("keys", "add").out.strip()
    assert kid in ring(home).kids
    assert {file.name for file in home.home.iterdir() if "keys" in file.name} == {"root.keys"}


@obeys_permissions
def test_a_home_that_cannot_be_written_is_said_to_be(home: Any) -> None:
    home("task", "open", "--allow", "crm.read")
    before = ring(home).kids
    try:
        for mode, command, says in (
            (0o500, ("keys", "add"), "Permission denied"),
            (0o500, ("task", "complete", "last"), "is read-only here, so nothing was written: look at the permissions"),
            (0o000, ("keys", "add"), "capx.db cannot be looked at: Permission denied"),
            (0o000, ("task", "list"), "capx.db cannot be looked at: Permission denied"),
        ):
            home.home.chmod(mode)
            done = subprocess.run(
                (*AS_ANYBODY, *COMMAND, *command), env=home.env, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 3, done.stderr
            assert says in done.stderr
            assert done.stderr.count("\n") == 1
    finally:
        home.home.chmod(0o700)
    assert ring(home).kids == before


def test_a_change_cut_short_is_found_by_doctor_until_the_next(home: Any) -> None:
    left = home.home / "root.keys.new"
    left.write_text("root half a li")
    left.chmod(0o600)
    assert f"an interrupted change left {left}" in home("doctor").out
    home("keys", "add")
    assert "cut short" not in home("doctor").out


def test_help_says_when_services_read_their_keys(capx: Any) -> None:
    said = " ".join(capx("keys", "--help").out.split())
    assert "`add` a key. `export` to every resource, and restart it. `activate` the new key" in said
    said = " ".join(capx("keys", "activate", "--help").out.split())
    assert "before this, export again and restart the services" in said


def test_root_keys_that_name_no_authority_are_refused(home: Any) -> None:
    path = home.home / "root.keys"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "authority " not in line))
    for args in (("task", "list"), ("keys", "add"), ("keys", "export", "crm"), ("revoke", "last")):
        assert "does not name its authority: put the root keys back from your backup" in home(*args, code=3).err
    assert "does not name its authority" in home("doctor", code=3).out


def test_keys_of_another_authority_are_not_used(home: Any) -> None:
    path = home.home / "root.keys"
    text = path.read_text()
    path.write_text(text.replace(text.split()[1], "AAAAAAAAAAAAAAAAAAAAAA"))
    for args in (("keys", "list"), ("keys", "export", "crm")):
        assert "put the store and the keys of one authority together" in home(*args, code=3).err
    found = {finding["what"]: finding for finding in home("doctor", "--json", code=3).json}
    assert found["identity"]["state"] == "FAIL"
    assert "these root keys are those of authority AAAAAAAAAAAAAAAAAAAAAA" in found["identity"]["says"]


def test_keys_are_sealed_to_no_key_that_was_revoked(home: Any) -> None:
    lost = AgentKey.generate("lost").public
    home("revoke", "--key", lost)
    said = home("keys", "export", "crm", "--seal-to", lost, code=2)
    assert said.out == ""
    assert f"{lost} was revoked, and nothing is bound or sealed to it any more: make another key" in said.err
