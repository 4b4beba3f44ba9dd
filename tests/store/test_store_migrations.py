"""What holds for a migration of either kind of store: it is killed and done again, and backups are migrated, too."""

import random
import shutil
import time
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.authority.restore import restore
from capx.errors import StoreProblem
from capx.store.backup import backup
from capx.store.check import check_store
from capx.store.factory import is_postgres, open_store
from capx.store.postgres.store import migrate as migrate_database
from capx.store.records import DecisionRecord
from capx.store.sqlite.connection import migrate as migrate_file
from tests.labs.commands import start_program
from tests.labs.next_capx import be_next
from tests.labs.restoring import KEYS

DECISIONS = 20_000
KILLS = 6
NOW = 1_800_000_000


def migrated(place: str) -> tuple[int, int]:
    return migrate_database(place) if is_postgres(place) else migrate_file(Path(place))


MIGRATES = """
import sys
import pytest
from tests.labs.next_capx import be_next
from tests.store.test_store_migrations import migrated

be_next(pytest.MonkeyPatch())
print("began", flush=True)
migrated(sys.argv[1])
print("done", flush=True)
"""


def test_a_killed_migration_is_done_by_the_next(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(place)
    body = b'{"id":"d.%d","audience":"crm"}'
    records = [DecisionRecord(f"d.{nth}", NOW, body % nth) for nth in range(DECISIONS)]
    for nth in range(0, DECISIONS, 1_000):
        store.record(records[nth : nth + 1_000])
    store.close()
    be_next(monkeypatch)
    chance, killed = random.Random(7), 0
    while killed < KILLS:
        if _was_killed(place, chance.random() * 0.03):
            killed += 1
            with pytest.raises(StoreProblem, match="capx store migrate"):
                open_store(place)
    assert migrated(place) == (1, 2)
    store = open_store(place)
    with store.read() as reading:
        assert check_store(reading).position == DECISIONS
    store.close()


def _was_killed(place: str, after: float) -> bool:
    """Kill a process so many seconds after it has begun to migrate; it must not have come to its end."""
    process = start_program(MIGRATES, place)
    assert process.stdout is not None
    assert process.stdout.readline() == b"began\n"
    time.sleep(after)
    process.kill()
    said, _ = process.communicate(timeout=30)
    assert said == b""
    return process.wait() < 0


def test_an_older_backup_is_restored_after_it_was_migrated(
    place: str, authority: Authority, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = authority.open(allow=["crm.read"])
    backup(authority.store, saved)
    authority.complete(opened.id)
    authority.store.close()
    be_next(monkeypatch)
    assert migrated(place) == (1, 2)
    before = saved.read_bytes()
    for dry_run in (True, False):
        with pytest.raises(StoreProblem, match=r"saved\.db was written by an older capx .*capx store migrate"):
            restore(saved, place, dry_run=dry_run)
    assert saved.read_bytes() == before
    with Authority(open_store(place), KEYS) as there:
        assert there.task(opened.id).state == "completed"
    copy = tmp_path / "copy.db"
    shutil.copy(saved, copy)
    assert migrate_file(copy) == (1, 2)
    restore(copy, place)
    with Authority(open_store(place), KEYS) as there:
        assert there.task(opened.id).state == "withdrawn"
        there.check()


def test_a_backup_of_another_schema_is_refused(
    place: str, authority: Authority, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = authority.open(allow=["crm.read"])
    backup(authority.store, saved)
    with monkeypatch.context() as upgraded:
        be_next(upgraded)
        assert migrate_file(saved) == (1, 2)
        with pytest.raises(StoreProblem, match=r"written by an older capx .*capx store migrate"):
            restore(saved, place)
    with pytest.raises(StoreProblem, match=r"saved\.db was written by a newer capx .*upgrade capx here"):
        restore(saved, place)
    assert authority.task(opened.id).state == "active"
