"""A backup holds all, stands alone, and is never written half."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem, StoreProblem
from capx.store.backup import backup
from capx.store.sqlite.store import SQLiteStore
from tests.labs.restoring import KEYS


def test_a_backup_holds_all_and_stands_alone(authority: Authority, saved: Path) -> None:
    opened = authority.open(allow=["crm.read"])
    authority.complete(opened.id)
    head = backup(authority.store, saved)
    assert head.position == 4
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert [path.name for path in saved.parent.iterdir() if path.name.startswith((".", "saved"))] == ["saved.db"]
    with contextlib.closing(SQLiteStore(saved)) as copy, copy.read() as there, authority.store.read() as here:
        assert there.head() == here.head() == head
        assert list(there.events()) == list(here.events())
        assert list(there.deaths()) == list(here.deaths())
        assert there.tasks() == here.tasks()


def test_a_backup_is_read_where_nothing_may_be_written(authority: Authority, saved: Path, tmp_path: Path) -> None:
    backup(authority.store, saved)
    assert saved.read_bytes()[18:20] == b"\x01\x01"  # SQLite's mark of a file that needs no -wal beside it


def test_a_backup_is_never_written_over_anything(authority: Authority, saved: Path) -> None:
    saved.write_text("precious")
    with pytest.raises(ConfigurationProblem, match="exists already"):
        backup(authority.store, saved)
    saved.unlink()
    saved.symlink_to(saved.with_name("nowhere"))
    with pytest.raises(ConfigurationProblem, match="exists already"):
        backup(authority.store, saved)
    with pytest.raises(StoreProblem, match="nothing can be written"):
        backup(authority.store, saved.parent / "no" / "folder.db")


WRITING = """
import sys
from pathlib import Path
from capx.store.backup import backup
from capx.store.sqlite.store import SQLiteStore
store = SQLiteStore(sys.argv[1])
print("begun", flush=True)
backup(store, Path(sys.argv[2]))
"""


def store_of_many_events(folder: Path) -> Path:
    path = folder / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority, authority.store.write() as transaction:
        for number in range(3_000):
            transaction.append("noted", b'{"n":%d}' % number, at=1)
    return path


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.06, 0.15])
def test_a_backup_that_is_cut_short_leaves_none(tmp_path: Path, saved: Path, how: signal.Signals, delay: float) -> None:
    path = store_of_many_events(tmp_path)
    # Without what measures coverage, which an interrupt may leave waiting for itself.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(path), str(saved)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(how)
    process.wait(timeout=30)
    process.stdout.close()
    if saved.exists():
        with contextlib.closing(SQLiteStore(saved)) as whole, whole.read() as reading:
            assert reading.head().position == 3_000
    elif how is signal.SIGINT:
        assert sorted(found.name for found in tmp_path.iterdir() if "draft" in found.name or found.name[0] == ".") == []


def test_a_disk_that_is_full_leaves_no_backup(tmp_path: Path, saved: Path) -> None:
    path = store_of_many_events(tmp_path)
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n{WRITING}"
    done = subprocess.run(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n{limited}", path, saved],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "StoreProblem" in done.stderr
    assert sorted(found.name for found in tmp_path.iterdir() if not found.name.startswith("capx.db")) == []
