"""A backup copies a store into one file, while others go on writing to the store.

Laws:

- The backup appears whole, checked and on the disk; or it does not appear, even if the process is killed.
- It can be restored: it passes the checks of a restoration, which are about each row.
- It never overwrites a file.
- Only its owner can read it.
- It needs no file beside it (no `-wal`), so it can be read where nothing may be written.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

from capx.crypto.private_file import sync
from capx.store.atomic_file import demand_nothing_at, draft_beside, publish
from capx.store.check import check_store
from capx.store.protocols import Reading, Store
from capx.store.records import Head
from capx.store.restore_checks import demand_possible
from capx.store.sqlite.connection import connect, explained
from capx.store.sqlite.store import SQLiteStore
from capx_caveats import SAFE_INTEGER


def backup(store: Store, path: Path) -> Head:
    """Write what a store holds now into a new file, and give the head of the copy.

    ConfigurationProblem if something is at `path` already; StoreProblem if the file cannot be written, or the store is
    not whole; Damaged if it has a row that no restoration would take over.
    """
    with store.read() as reading:
        return copy_to(path, reading, _demand_restorable)


def copy_to(path: Path, reading: Reading, demand: Callable[[Reading], object] = check_store) -> Head:
    """Write one instant of a store into a new file, as `backup` does, if the copy has what is demanded."""
    path = path.absolute()
    # `publish` checks this again, for good. Here it saves the work of a copy that could not be published.
    demand_nothing_at(path)
    with draft_beside(path) as draft:
        with contextlib.closing(SQLiteStore.create(draft)) as copy:
            with copy.write() as writing:
                writing.adopt(reading)
            # The copy is checked, not the original: this also finds what went wrong in the copying.
            with copy.read() as written:
                demand(written)
                head = written.head()
        with explained(draft), contextlib.closing(connect(draft)) as connection:
            # Moves everything from the -wal into the file itself, and lets a reader open it in a read-only folder.
            connection.execute("PRAGMA journal_mode = DELETE")
        # First the bytes, then the name: after a crash, a file with this name is never half a backup.
        sync(draft)
        publish(draft, path)
    return head


def _demand_restorable(reading: Reading) -> None:
    # At any later time: the epoch may have begun while a clock was ahead.
    demand_possible(reading, SAFE_INTEGER)
    check_store(reading)
