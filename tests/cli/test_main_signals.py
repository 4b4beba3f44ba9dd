"""Commands that are told to end while they work: in order, and with nothing left behind."""

import select
import signal
import subprocess
import time

import msgspec
import pytest

from capx.authority.authority import Authority
from tests.cli.conftest import Shell
from tests.labs.commands import COMMAND
from tests.labs.processes import ended_with_test


def fill(home: Shell, count: int) -> None:
    """A long log."""
    body = msgspec.json.encode({"id": "A" * 22, "outcome": "denied", "audience": "crm", "reasons": []})
    with Authority.open_home(home.home) as authority, authority.store.write() as transaction:
        for _ in range(count):
            transaction.append("decision", body, at=1)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_backup_that_is_told_to_end_leaves_no_draft(home: Shell, signum: int, code: int) -> None:
    fill(home, 20_000)
    folder = home.home.parent / "backups"
    folder.mkdir()
    process = ended_with_test(
        subprocess.Popen(
            (*COMMAND, "store", "backup", str(folder / "monday.db")), env=home.unmeasured, stderr=subprocess.DEVNULL
        )
    )
    while not any(folder.glob(".monday.db.*/*")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signum)
    assert process.wait(timeout=30) == code
    assert list(folder.iterdir()) == []
    assert home("store", "check").out.startswith("whole, up to position 20000")


def test_who_follows_the_log_ends_quietly(home: Shell) -> None:
    process = home.start("log", "--follow", "--json")
    assert process.stdout is not None
    while not select.select([process.stdout], [], [], 0.2)[0]:
        assert process.poll() is None
        fill(home, 1)
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (143, "")
