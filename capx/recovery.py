"""Bringing a store back from a backup: the epoch that begins when a backup takes its place.

    backup     a copy of a store in one file (capx.backup)
    restore    a backup takes the place of a store (capx.replacing)

Laws: a restored store is a later epoch of the same origin, in which all that was issued before is dead and no task is
active, for what happened since the backup is unknown. A key that somebody revoked since stays revoked, for who has it
could mint anew. What takes the place of a store is whole, and nobody goes on with the one that was there.
"""

import contextlib
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from capx.backup import backup
from capx.checking import check_store
from capx.death import KID, of_instant
from capx.ending import as_of, end
from capx.errors import ConfigurationProblem
from capx.replacing import Clock, There, demand_origin, look_at, put_file, put_in_database
from capx.revoking import by_instant, by_kid, kill
from capx.store import Head, Reading, Writing, new_epoch, origin_of
from capx.store.opening import is_postgres, open_store
from capx.store.sqlite import SQLiteStore
from capx.task import is_final

__all__ = ["Restored", "backup", "restore"]


class Restored(Struct, frozen=True):
    """What a restoration did; of a dry run, what it would do, with no epoch, position and instant.

    `backup` is where the backup stood, `replaced` where the store did whose place it took: None if there was none, or
    none that could be read; `unread` if it could not be read to its end, so that later revocations of keys are unknown.
    `withdrawn` are the tasks that were active in the backup, `kids` the keys that were revoked since, `kept` where the
    store is that was there. All that was issued up to `issued` is dead (Unix seconds).
    """

    place: str
    backup: Head
    replaced: Head | None
    unread: bool
    withdrawn: tuple[str, ...]
    kids: tuple[str, ...]
    kept: str | None
    epoch: str | None = None
    position: int | None = None
    issued: int | None = None


def restore(
    source: Path, place: str, *, keep: Path | None = None, dry_run: bool = False, clock: Clock = time.time
) -> Restored:
    """Put a backup in the place of the store at `place`, a path or a `postgresql://` URL, as a later epoch.

    What is there is kept: a file beside it under another name, a database as a backup at `keep` if that is given.
    Answers when the second is over in which it was done. ConfigurationProblem for a backup that is the store itself, or
    of another origin than a store that was used; StoreProblem for one that is not whole.
    """
    source = source.absolute()
    _demand_another(source, place)
    with contextlib.closing(SQLiteStore(source)) as copy, copy.read() as reading:
        check_store(reading)
        if dry_run:
            return _foreseen(reading, place, keep, int(clock()))
        begun: list[Restored] = []

        def begin(writing: Writing, there: There) -> None:
            begun[:] = [_begin_epoch(writing, reading.head(), there, clock)]

        if is_postgres(place):
            shown, kept = put_in_database(reading, place, keep, begin)
        else:
            shown, kept = put_file(reading, Path(place).absolute(), begin, clock)
    (restored,) = begun
    issued = _kill_what_was_issued_meanwhile(place, restored.issued or 0, clock)
    return msgspec.structs.replace(restored, place=shown, kept=kept, issued=issued)


def _demand_another(source: Path, place: str) -> None:
    if not is_postgres(place) and source.exists() and Path(place).exists() and source.samefile(place):
        raise ConfigurationProblem(f"{source} is the store itself: give a backup, as capx store backup makes one")


def _foreseen(reading: Reading, place: str, keep: Path | None, now: int) -> Restored:
    there, shown, kept = look_at(place, keep, now)
    head = reading.head()
    demand_origin(head, there)
    return Restored(
        place=shown,
        backup=head,
        replaced=there.head,
        unread=there.unread,
        withdrawn=tuple(task.id for task in reading.tasks() if not is_final(as_of(task, now).state)),
        kids=tuple(kid for kid in there.kids if reading.death(KID + kid) is None),
        kept=kept,
    )


def _begin_epoch(writing: Writing, head: Head, there: There, clock: Clock) -> Restored:
    """Begin a later epoch in what was taken over from a backup: all that was issued is dead, and no task is active."""
    epochs = [head.epoch, *([] if there.head is None else [there.head.epoch])]
    began = [_began(epoch) for epoch in epochs if origin_of(epoch) == origin_of(head.epoch)]
    now = _fresh_second(writing, clock)
    epoch = new_epoch(origin_of(head.epoch), max(now, *(second + 1 for second in began)))
    writing.begin_epoch(epoch)
    facts = {"issued": now, "epoch": epoch, "backup": head.position}
    event = writing.append("restored", msgspec.json.encode(facts), at=now)
    writing.kill(of_instant(now), "revoked", at=now, position=event.position)
    kids = tuple([kid for kid in there.kids if not kill(writing, by_kid(kid), now=now).again])
    active = [task for task in writing.tasks() if not is_final(task.state)]
    ended = [end(writing, task, "withdraw", now=now) for task in active]
    return Restored(
        place="",
        backup=head,
        replaced=there.head,
        unread=there.unread,
        withdrawn=tuple(one.task for one in ended if one.end == "withdrawn"),
        kids=kids,
        kept=None,
        epoch=epoch,
        position=writing.head().position,
        issued=now,
    )


def _began(epoch: str) -> int:
    seconds = epoch.partition(".")[2]
    return int(seconds) if seconds.isdecimal() else 0


def _fresh_second(writing: Writing, clock: Clock) -> int:
    """The second that it is; the next one if all of this one is dead in the backup, for a death is told once."""
    while writing.death(of_instant(int(clock()))):
        time.sleep(0.01)
    return int(clock())


def _kill_what_was_issued_meanwhile(place: str, issued: int, clock: Clock) -> int:
    """Kill also what was issued while the store was being replaced, and wait until that second is over."""
    if (now := int(clock())) > issued:
        issued = now
        with contextlib.closing(open_store(place)) as store, store.write() as transaction:
            kill(transaction, by_instant(issued, now), now=now)
    while (left := issued + 1 - clock()) > 0:
        time.sleep(min(0.05, left))
    return issued
