"""A store where nothing can be written: it is read, with its `-wal`, and each write says why not."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from capx.errors import StoreProblem
from capx.store.sqlite.backup_reader import open_backup
from capx.store.sqlite.store import SQLiteStore
from tests.labs.processes import in_a_child
from tests.labs.read_only import AS_ANYBODY, mounted_read_only, obeys_permissions, without_writing
from tests.labs.store_writes import note

READ_ONLY = "is read-only here, so nothing was written"
STATES = {"closed": {""}, "its -wal and -shm are left": {"", "-wal", "-shm"}, "its -wal is left": {"", "-wal"}}


@pytest.fixture(params=[*STATES])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with a store of three events; the last one is in the -wal, if that is left."""
    made = tmp_path / "store"
    made.mkdir(mode=0o700)
    path = made / "capx.db"
    store = SQLiteStore.create(path)
    note(store)
    note(store)
    store.close()

    def written() -> bool:
        writing = SQLiteStore(path)
        note(writing)
        if request.param == "closed":
            writing.close()
        # What is not closed leaves its files, as after a kill.
        os._exit(0)

    assert in_a_child(written)
    if request.param == "its -wal is left":
        (made / "capx.db-shm").unlink()
    assert {each.name[7:] for each in made.iterdir()} == STATES[request.param]
    return made


def files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if not each.name.endswith("-shm")}


def position(store: SQLiteStore) -> int:
    with store.read() as reading:
        return reading.head().position


def test_a_store_on_a_read_only_mount_is_read_whole(folder: Path) -> None:
    before = files(folder)
    with mounted_read_only(folder) as there:
        store = SQLiteStore(there / "capx.db")
        assert [position(store), position(store)] == [3, 3]
        assert store.source().news(None).head.position == 3
        with open_backup(there / "capx.db") as reading:
            assert reading.head().position == 3
        with pytest.raises(StoreProblem, match=READ_ONLY):
            note(store)
        assert position(store) == 3
        store.close()
    assert files(folder) == before


LOOKS = """
import sys
from capx.errors import StoreProblem
from capx.store.sqlite.connection import migrate
from capx.store.sqlite.store import SQLiteStore
from tests.labs.store_writes import note

store = SQLiteStore(sys.argv[1])
with store.read() as reading:
    print(reading.head().position)
create = lambda: SQLiteStore.create(f"{sys.argv[1]}.new")
for write in (lambda: note(store), lambda: migrate(store.path), create):
    try:
        write()
        print("written")
    except StoreProblem as problem:
        print(problem)
"""


@obeys_permissions
def test_a_store_in_a_folder_without_writing_is_read_whole(folder: Path, checkout: Path) -> None:
    shared = (folder / "capx.db-shm").exists()
    with without_writing(folder):
        done = subprocess.run(
            (*AS_ANYBODY, sys.executable, "-c", LOOKS, folder / "capx.db"),
            capture_output=True,
            cwd=checkout,
            text=True,
            check=True,
        )
    head, wrote, migrated, created = done.stdout.splitlines()
    assert head == "3"
    # With its -wal and -shm it needs no new file: then it is not read-only.
    assert (
        [wrote, READ_ONLY in migrated] == ["written", False] if shared else READ_ONLY in wrote and READ_ONLY in migrated
    )
    assert "cannot be opened: Permission denied" in created


def test_nothing_counts_that_was_read_while_the_store_changed(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    SQLiteStore.create(folder / "capx.db").close()
    with mounted_read_only(folder) as there, closing(SQLiteStore(there / "capx.db")) as looking:
        # Nobody has the store open: there is no -shm with which it could be locked.
        with pytest.raises(StoreProblem, match="was changed while it was read"):
            read_while_it_changes(looking, folder / "capx.db")
        assert position(looking) == 1


def read_while_it_changes(looking: SQLiteStore, path: Path) -> None:
    with looking.read() as reading, closing(SQLiteStore(path)) as writing:
        note(writing)
        assert reading.head().position == 0


def test_whoever_writes_lends_its_locks_to_a_read_only_mount(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    SQLiteStore.create(folder / "capx.db").close()
    with mounted_read_only(folder) as there, closing(SQLiteStore(there / "capx.db")) as looking:
        assert position(looking) == 0
        with closing(SQLiteStore(folder / "capx.db")) as writing:
            note(writing)
            assert position(looking) == 1
            note(writing)
            assert position(looking) == 2
        assert position(looking) == 2


def test_a_store_of_others_is_not_read_there_either(folder: Path) -> None:
    (folder / "capx.db").chmod(0o640)
    with mounted_read_only(folder) as there, pytest.raises(StoreProblem, match="may be read or changed by others"):
        SQLiteStore(there / "capx.db")
