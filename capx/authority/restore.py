"""Bringing a store back from a backup: the epoch that begins when a backup takes its place.

Laws: a restored store is a later epoch of the same origin, in which all that was issued before is dead, no task is
active and no intent of before opens one, for what happened since the backup is unknown. Before is what the clock says,
or the last second that either store knows of, whichever is later; a clock that is far behind them restores nothing. A
key that somebody revoked since stays revoked, for who has it could mint anew. A backup is a file that anybody may have
written: it is believed when nothing in it is anything else than capx writes.
"""

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec
from msgspec import Struct

from capx.authority.ending import as_of, end
from capx.authority.revoking import by_instant, by_kid, kill
from capx.errors import ConfigurationProblem, StoreProblem
from capx.intents.epoch import began, new_epoch, origin_of
from capx.store import events
from capx.store.check import check_store
from capx.store.factory import is_postgres, open_store, replaceable
from capx.store.lifecycle import is_final
from capx.store.protocols import Reading, Writing
from capx.store.records import Head
from capx.store.replace import Replaceable, StoreSurvey, demand_origin, survey
from capx.store.restore_checks import CLOCKS_APART, demand_possible
from capx.store.sqlite.backup_reader import open_backup
from capx.tokens.revocation_key import KID, of_instant, revoked_until
from capx_caveats import shown_instant

Clock = Callable[[], float]


class Restoration(Struct, frozen=True):
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
) -> Restoration:
    """Put a backup in the place of the store at `place`, a path or a `postgresql://` URL, as a later epoch.

    What is there is kept: a file beside it under another name, a database as a backup at `keep` if that is given.
    Answers when the second is over up to which all is dead; waits up to five minutes for a clock that is behind what
    the stores know of. ConfigurationProblem for one that is further behind, for a backup that is the store itself, and
    for one of another origin than a store that was used; StoreProblem for one that is not whole.
    """
    source = source.absolute()
    _demand_another(source, place)
    with open_backup(source) as reading:
        with _told_of(source):
            demand_possible(reading, int(clock()))
            check_store(reading)
        target, backup = replaceable(place, keep), survey(reading)
        there = target.look()
        demand_origin(reading.head(), there)
        second = _last_second(reading, (backup, there), clock)
        if dry_run:
            return _foreseen(reading, target, there, int(clock()))
        # Before anybody is kept from writing: others go on meanwhile.
        _wait_until(second, clock)
        begun: list[Restoration] = []

        def begin(writing: Writing, there: StoreSurvey) -> None:
            begun[:] = [_begin_epoch(writing, reading, (backup, there), clock)]

        kept = target.put(reading, begin, int(clock()))
    (restored,) = begun
    issued = _kill_what_was_issued_meanwhile(place, restored.issued or 0, clock)
    return msgspec.structs.replace(
        restored, place=target.shown, kept=None if kept is None else str(kept), issued=issued
    )


@contextlib.contextmanager
def _told_of(source: Path) -> Generator[None]:
    """A block in which what is wrong with a backup is said of its file."""
    try:
        yield
    except StoreProblem as error:
        # The error itself goes on: a BrokenLog says where.
        error.args = (f"the backup {source} is refused, give another one: {error}",)
        raise


def _demand_another(source: Path, place: str) -> None:
    if not is_postgres(place) and source.exists() and Path(place).exists() and source.samefile(place):
        raise ConfigurationProblem(f"{source} is the store itself: give a backup, as capx store backup makes one")


def _foreseen(reading: Reading, target: Replaceable, there: StoreSurvey, now: int) -> Restoration:
    kept = target.would_keep(there, now)
    return Restoration(
        place=target.shown,
        backup=reading.head(),
        replaced=there.head,
        unread=there.unread,
        withdrawn=tuple(task.id for task in reading.tasks() if not is_final(as_of(task, now).state)),
        kids=tuple(kid for kid in there.kids if reading.death(KID + kid) is None),
        kept=None if kept is None else str(kept),
    )


def _last_second(reading: Reading, known: tuple[StoreSurvey, StoreSurvey], clock: Clock) -> int:
    """The last second in which anything can have been issued; ConfigurationProblem if the clock is far behind it.

    Not one up to which all is dead in the backup: a death is told once.
    """
    now, newest = int(clock()), max(one.newest for one in known)
    if newest > now + CLOCKS_APART:
        raise ConfigurationProblem(
            f"the clock here is behind: it says {shown_instant(now)}, and something happened in the "
            f"{'backup' if newest == known[0].newest else 'store that is there'} at {shown_instant(newest)}, so that "
            "what was issued up to then would stay alive: set the clock"
        )
    return max(now, newest, revoked_until(death.key for death in reading.deaths()) + 1)


def _wait_until(second: int, clock: Clock) -> None:
    while (left := second - clock()) > 0:
        time.sleep(min(0.05, left))


def _begin_epoch(
    writing: Writing, reading: Reading, known: tuple[StoreSurvey, StoreSurvey], clock: Clock
) -> Restoration:
    """Begin a later epoch in what was taken over from a backup: all that was issued is dead, and no task is active."""
    head, there = reading.head(), known[1]
    second = _last_second(reading, known, clock)
    epochs = [head.epoch, *([] if there.head is None else [there.head.epoch])]
    before = [began(epoch) for epoch in epochs if origin_of(epoch) == origin_of(head.epoch)]
    epoch = new_epoch(origin_of(head.epoch), max(second, *(each + 1 for each in before)))
    writing.begin_epoch(epoch)
    event = events.Restored(second, epoch, head.position).write(writing, at=second)
    writing.kill(of_instant(second), "revoked", at=second, position=event.position)
    kids = tuple([kid for kid in there.kids if not kill(writing, by_kid(kid), now=second).again])
    active = [task for task in writing.tasks() if not is_final(task.state)]
    ended = [end(writing, task, "withdraw", now=second) for task in active]
    return Restoration(
        place="",
        backup=head,
        replaced=there.head,
        unread=there.unread,
        withdrawn=tuple(one.task for one in ended if one.end == "withdrawn"),
        kids=kids,
        kept=None,
        epoch=epoch,
        position=writing.head().position,
        issued=second,
    )


def _kill_what_was_issued_meanwhile(place: str, issued: int, clock: Clock) -> int:
    """Kill also what was issued while the store was being replaced, and wait until that second is over."""
    if (now := int(clock())) > issued:
        issued = now
        with contextlib.closing(open_store(place)) as store, store.write() as transaction:
            kill(transaction, by_instant(issued, now), now=now)
    _wait_until(issued + 1, clock)
    return issued
