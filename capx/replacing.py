"""How another store takes the place of one: a file under its name, or the rows of a database in one transaction.

Laws: the store that is there stays until the other one is whole, and is kept. Whoever waits for it meanwhile can append
nothing to it any more, for that would be told as kept and then not be there. A file never stands beside the `-wal` of
another one: it is moved away first, and what stands beside it with it.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Generator
from pathlib import Path

from capx.backup import copy_to, draft_beside, sync
from capx.death import KID, is_lasting
from capx.errors import ConfigurationProblem, StoreProblem
from capx.log import GENESIS
from capx.store import Head, Reading, Writing, origin_of
from capx.store.opening import create_store, is_postgres, open_store
from capx.store.sqlite import SQLiteStore
from capx.store.sqlite_file import connect, explained
from capx.store.sqlite_rows import Rows

Clock = Callable[[], float]


class There:
    """What is known of the store that is replaced, as far as it can be read: its head, and the keys revoked in it."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.kids: list[str] = []
        self.unread = False

    def look(self, reading: Reading) -> None:
        """Read where it stands, and which keys were revoked."""
        self.head = reading.head()
        self.kids.extend(str(death.key)[len(KID) :] for death in reading.deaths() if is_lasting(death.key))

    @contextlib.contextmanager
    def as_far_as_possible(self) -> Generator[None]:
        """A block that ends where a file is damaged; that a store cannot be reached just now stays an error."""
        try:
            yield
        except (StoreProblem, sqlite3.Error) as error:
            if not _is_beyond_reading(error):
                raise
            self.unread = True


Begin = Callable[[Writing, There], None]
"""What is written into a store after it took over another one's content, and before anybody sees it."""


def demand_origin(head: Head, there: There) -> None:
    """Refuse to replace a store that was used by one of another origin."""
    if there.head is not None and there.head.position > 0 and origin_of(there.head.epoch) != origin_of(head.epoch):
        raise ConfigurationProblem(
            "this backup is of another store than the one that is there, whose services would refuse it for good: "
            "give a backup of this store, or a home or database of its own"
        )


def look_at(place: str, keep: Path | None, now: int) -> tuple[There, str, str | None]:
    """What is at a place, the place as people may read it, and where what is there would be kept."""
    there, shown = There(), place
    if not is_postgres(place) and not Path(place).exists():
        return there, shown, None
    with there.as_far_as_possible(), contextlib.closing(open_store(place)) as live, live.read() as reading:
        shown = live.place
        there.look(reading)
    kept = keep if is_postgres(place) else _free_name(Path(place).absolute(), now)
    return there, shown, None if kept is None else str(kept)


def put_file(reading: Reading, path: Path, begin: Begin, clock: Clock) -> tuple[str, str | None]:
    """Make a store from another one's content beside the one at `path`, and let it take that name."""
    with draft_beside(path) as draft, _held(path) as there:
        demand_origin(reading.head(), there)
        with contextlib.closing(SQLiteStore.create(draft)) as new:
            with new.write() as writing:
                writing.adopt(reading)
            with new.write() as writing:
                begin(writing, there)
        sync(draft)
        kept = _exchange(draft, path, int(clock()))
    if kept is None:
        return str(path), None
    # Its -wal is written into it, if nobody else has it open.
    with contextlib.suppress(StoreProblem):
        connect(kept).close()
    return str(path), str(kept)


def put_in_database(reading: Reading, place: str, keep: Path | None, begin: Begin) -> tuple[str, str | None]:
    """Put another store's content in the place of what a database holds; there need be no store in it yet."""
    from capx.store import postgres_rows
    from capx.store.postgres_errors import explained as explained_there
    from capx.store.postgres_link import PATIENCE, Address, open_store_link

    try:
        create_store(place).close()
    except StoreProblem:
        # Whatever it is, opening it says so.
        open_store(place).close()
    address = Address(place)
    with (
        explained_there(address.shown),
        contextlib.closing(open_store_link(address, PATIENCE)) as link,
        link.patient(),
        link.writing(postgres_rows.WRITE) as row,
    ):
        live, there = postgres_rows.Rows(link, row), There()
        there.look(live)
        demand_origin(reading.head(), there)
        if keep is not None:
            copy_to(keep, live)
        for emptying in _EMPTYING:
            link.execute(emptying)
        rows = postgres_rows.Rows(link, (live.head().epoch, 0, GENESIS, 0, 0))
        rows.adopt(reading)
        begin(rows, there)
        rows.keep_head()
    return address.shown, None if keep is None else str(keep)


# Not TRUNCATE: who reads an instant of before would see nothing all at once.
_EMPTYING = (
    "DELETE FROM capx.events",
    "DELETE FROM capx.tasks",
    "DELETE FROM capx.deaths",
    "DELETE FROM capx.counters",
    "DELETE FROM capx.sightings",
)


def _is_beyond_reading(problem: Exception) -> bool:
    """Whether a file holds no store any more, rather than one that cannot be reached just now."""
    cause = problem if isinstance(problem, sqlite3.Error) else problem.__cause__
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(code, int):
        return code & 0xFF in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
    return str(problem).endswith("is not a capx store") or "has lost its head" in str(problem)


@contextlib.contextmanager
def _held(path: Path) -> Generator[There]:
    """What is in a file, alone with it until it was replaced; from then on nothing is appended to it."""
    there, connection = There(), None
    if path.exists():
        with there.as_far_as_possible():
            connection = connect(path)
    if connection is None:
        yield there
        return
    try:
        with there.as_far_as_possible(), explained(path):
            connection.execute("BEGIN IMMEDIATE")
            there.look(Rows(connection))
            connection.execute(_CLOSED)
        yield there
        # The other one is in its place by now, whether this succeeds or not.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("COMMIT")
    finally:
        connection.close()


_CLOSED = """
CREATE TRIGGER replaced BEFORE UPDATE ON head
BEGIN SELECT RAISE(ABORT, 'it was replaced by a backup: try again'); END
"""


def _exchange(draft: Path, path: Path, now: int) -> Path | None:
    """Let the draft be the store; gives the name of the one that was there, with what stands beside it."""
    moved: list[tuple[Path, Path]] = []
    kept = _free_name(path, now)
    if Path(f"{draft}-wal").exists():
        raise StoreProblem(f"the store {path} was not replaced: somebody opened what was to take its place")
    with explained(path):
        try:
            for suffix in ("", "-wal", "-shm"):
                old, new = Path(f"{path}{suffix}"), Path(f"{kept}{suffix}")
                if old.exists():
                    old.rename(new)
                    moved.append((old, new))
            draft.rename(path)
        except BaseException:
            for old, new in reversed(moved):
                new.rename(old)
            raise
        sync(path.parent)
    return kept if any(new == kept for _, new in moved) else None


def _free_name(path: Path, now: int) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    kept = path.with_name(f"{path.name}.before-restore-{stamp}")
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.before-restore-{stamp}-{number}")
    return kept
