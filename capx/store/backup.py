"""A copy of a store in one file, taken while others go on writing to it.

Laws: it is there whole, checked and on the disk, or it is not there, whatever cut its making short. Nothing is ever
written over. It is its owner's alone, and needs no file beside it, so that it can be read where nothing may be written.
"""

import contextlib
from pathlib import Path

from capx.crypto.private_file import sync
from capx.store.atomic_file import demand_nothing_at, draft_beside, publish
from capx.store.check import check_store
from capx.store.protocols import Reading, Store
from capx.store.records import Head
from capx.store.sqlite.connection import connect, explained
from capx.store.sqlite.store import SQLiteStore


def backup(store: Store, path: Path) -> Head:
    """Write what a store holds now into a new file; gives the head that it reaches.

    ConfigurationProblem if something is there, StoreProblem if it cannot be written or what was read is not whole.
    """
    with store.read() as reading:
        return copy_to(path, reading)


def copy_to(path: Path, reading: Reading) -> Head:
    """Write what this instant of a store holds into a new file, as `backup` does."""
    path = path.absolute()
    demand_nothing_at(path)
    with draft_beside(path) as draft:
        with contextlib.closing(SQLiteStore.create(draft)) as copy:
            with copy.write() as writing:
                writing.adopt(reading)
            with copy.read() as written:
                check_store(written)
                head = written.head()
        with explained(draft), contextlib.closing(connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        sync(draft)
        publish(draft, path)
    return head
