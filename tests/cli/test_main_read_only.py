"""A home where nothing can be written: every view works, and what would change it says why not."""

import subprocess
from pathlib import Path

from tests.cli.conftest import Shell
from tests.labs.commands import COMMAND
from tests.labs.read_only import AS_ANYBODY, obeys_permissions, without_writing

VIEWS = [
    ("log",),
    ("find", "--denied"),
    ("why", "last"),
    ("graph", "last"),
    ("requests", "list"),
    ("task", "list"),
    ("task", "show", "last"),
    ("task", "complete", "last", "--dry-run"),
    ("intent", "list"),
    ("keys", "list"),
    ("store", "check"),
    ("store", "stats"),
    ("doctor",),
]
CHANGES = [
    ("task", "open", "--allow", "crm.read"),
    ("task", "complete", "last"),
    ("mint", "last", "--allow", "crm.read"),
    ("store", "prune"),
    ("store", "migrate"),
]


def run(home: Shell, *args: str, token: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        (*AS_ANYBODY, *COMMAND, *args),
        env=home.unmeasured,
        input=token,
        capture_output=True,
        text=True,
        check=False,
    )


@obeys_permissions
def test_a_read_only_home_is_looked_at_and_not_changed(home: Shell, task: str, tmp_path: Path) -> None:
    home.decide(task, "crm.write", "Acme")
    before = {each.name: each.read_bytes() for each in home.home.iterdir()}
    shown = {view: home(*view).out for view in VIEWS[:-1]}
    with without_writing(home.home):
        for view in VIEWS[:-1]:
            done = run(home, *view)
            assert (done.returncode, done.stdout) == (0, shown[view]), (view, done.stderr)
        doctor = run(home, "doctor")
        assert (doctor.returncode, doctor.stdout.count("warning")) == (0, 1)
        assert "capx.db is read-only here: it can be looked at, and nothing can be written" in doctor.stdout
        inspected = run(home, "inspect", "--store", token=task).stdout
        assert "as far as this store knows" in inspected
        assert run(home, "verify", "--action", "crm.read", "--tenant", "Acme", token=task).returncode == 0
        backup = run(home, "store", "backup", str(tmp_path / "backup.db"))
        assert (backup.returncode, "whole, up to position" in backup.stdout) == (0, True)
        for change in CHANGES:
            done = run(home, *change)
            assert (done.returncode, done.stdout) == (3, "")
            assert f"the store {home.home / 'capx.db'} is read-only here, so nothing was written" in done.stderr
    assert {each.name: each.read_bytes() for each in home.home.iterdir()} == before
