"""Replacing a store with a backup. The restored store begins a new epoch.

Laws:

- What happened after the backup is unknown. So in the new epoch everything that was issued before is dead, no task is
  active, and no earlier intent opens a task. It is still the same authority.
- "Before" means up to the time of the clock, or up to the last second that either store knows of, whichever is later.
  If the clock is far behind the stores, nothing is restored.
- Nothing is lost unasked: a store that has not gone on from the backup, but in another way, is replaced only if the
  caller gives up what it holds.
- A key that was revoked after the backup stays revoked: the thief of a root key could mint new tokens, and a revoked
  key of an agent is never named again.
- Anybody may have written the backup file. So it is refused unless everything in it is as capx writes it.
"""

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec
from msgspec import Struct

from capx.authority.ending import as_of, end
from capx.authority.revoking import by_instant, by_key, by_kid, kill
from capx.errors import ConfigurationProblem, StoreProblem
from capx.intents.epoch import authority_of, began, new_epoch
from capx.store import events
from capx.store.check import check_store
from capx.store.factory import is_postgres, open_store, replaceable
from capx.store.lifecycle import is_final
from capx.store.protocols import Reading, Writing
from capx.store.records import Head
from capx.store.replace import Replaceable, StoreSurvey, demand_authority, survey
from capx.store.restore_checks import CLOCKS_APART, demand_possible
from capx.store.sqlite.backup_reader import open_backup
from capx.tokens.revocation_key import KID, of_instant, of_public, revoked_until
from capx_caveats import shown_instant

Clock = Callable[[], float]


class Restoration(Struct, frozen=True):
    """The result of a restoration. A dry run has no epoch, position and `issued`.

    `backup` is the head of the backup. `replaced` is the head of the old store: None if there was none, or none that
    could be read. `unread` says that the old store could not be read to its end, so that later revocations of keys are
    unknown. `withdrawn` are the tasks that were active in the backup. `kids` are the root keys, and `agent_keys` the
    keys of agents, that were revoked after the backup. `kept` is the place of the old store. Everything that was issued
    up to `issued` is dead (Unix seconds). `parted` is the position up to which the old store and the backup are the
    same, if each went on in its own way.
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
    parted: int | None = None
    agent_keys: tuple[str, ...] = ()


def restore(
    source: Path,
    place: str,
    *,
    keep: Path | None = None,
    discard: bool = False,
    dry_run: bool = False,
    clock: Clock = time.time,
) -> Restoration:
    """Replace the store at `place`, a path or a `postgresql://` URL, with a backup, as a later epoch.

    The old store is kept: a file beside the new one under another name; a database as a backup at `keep`, if given.
    Everything that was issued up to some second is dead. It returns when that second is over. If the clock is behind
    the stores, it waits up to five minutes. `discard` gives up what the old store holds and the backup lacks, if the
    old store has not gone on from the backup, but in another way.

    ConfigurationProblem without `discard` for such a store, if the clock is further behind, if the backup is the store
    itself, or if the old store was used and is of another authority. StoreProblem if the backup is damaged.
    """
    source = source.absolute()
    _demand_another(source, place)
    with open_backup(source) as reading:
        with _told_of(source):
            demand_possible(reading, int(clock()))
            check_store(reading)
        target, backup = replaceable(place, keep), survey(reading)
        there = target.look(reading)
        demand_authority(reading.head(), there)
        second = _last_second(reading, (backup, there), clock)
        if dry_run:
            return _foreseen(reading, target, there, int(clock()))
        _demand_given_up(there, discard=discard)
        # Wait before the store is locked, so that other processes can write meanwhile.
        _wait_until(second, clock)
        begun: list[Restoration] = []

        def begin(writing: Writing, there: StoreSurvey) -> None:
            # Again, under the lock.
            _demand_given_up(there, discard=discard)
            # `put` begins again, with a new file, if the old one turns out to be damaged. The last result counts.
            begun[:] = [_begin_epoch(writing, reading, (backup, there), clock)]

        kept = target.put(reading, begin, int(clock()))
    (restored,) = begun
    issued = _kill_what_was_issued_meanwhile(place, restored.issued or 0, clock)
    return msgspec.structs.replace(
        restored, place=target.shown, kept=None if kept is None else str(kept), issued=issued
    )


@contextlib.contextmanager
def _told_of(source: Path) -> Generator[None]:
    """Name the file of the backup in each StoreProblem of the block."""
    try:
        yield
    except StoreProblem as error:
        # Change the same error, because a BrokenLog also carries the position.
        error.args = (f"the backup {source} is refused, give another one: {error}",)
        raise


def _demand_given_up(there: StoreSurvey, *, discard: bool) -> None:
    if there.head is None or there.parted is None or discard:
        return
    only_there = there.head.position - there.parted
    raise ConfigurationProblem(
        f"the store that is there has not gone on from this backup: they are the same up to position {there.parted}, "
        f"and the store has {only_there} events since that the backup lacks; look at them (capx log --since "
        f"{there.parted}), then give --discard to replace the store all the same"
    )


def _demand_another(source: Path, place: str) -> None:
    # By the file and not by its name, because a link is another name for the same file.
    if not is_postgres(place) and source.exists() and Path(place).exists() and source.samefile(place):
        raise ConfigurationProblem(f"{source} is the store itself: give a backup that capx store backup has made")


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
        parted=there.parted,
        agent_keys=tuple(key for key in there.agent_keys if reading.death(of_public(key)) is None),
    )


def _last_second(reading: Reading, known: tuple[StoreSurvey, StoreSurvey], clock: Clock) -> int:
    """The last second in which anything can have been issued; ConfigurationProblem if the clock is far behind it.

    It is later than every instant that the backup holds as a death: the death of this one must be a new one.
    """
    now, newest = int(clock()), max(one.newest for one in known)
    if newest > now + CLOCKS_APART:
        raise ConfigurationProblem(
            f"the clock here is behind: it says {shown_instant(now)}, but the "
            f"{'backup' if newest == known[0].newest else 'old store'} has an event of {shown_instant(newest)}; tokens "
            "that were issued up to then would stay alive: set the clock"
        )
    return max(now, newest, revoked_until(death.key for death in reading.deaths()) + 1)


def _wait_until(second: int, clock: Clock) -> None:
    while (left := second - clock()) > 0:
        time.sleep(min(0.05, left))


def _begin_epoch(
    writing: Writing, reading: Reading, known: tuple[StoreSurvey, StoreSurvey], clock: Clock
) -> Restoration:
    """Begin a new epoch in the copy of the backup: all that was issued is dead, and no task is active."""
    head, there = reading.head(), known[1]
    # Again, because until now other processes could write to the old store.
    second = _last_second(reading, known, clock)
    epochs = [head.epoch, *([] if there.head is None else [there.head.epoch])]
    # Later than both epochs, also within one second: services tell a restored store by its later epoch.
    before = [began(epoch) for epoch in epochs if authority_of(epoch) == authority_of(head.epoch)]
    epoch = new_epoch(authority_of(head.epoch), max(second, *(each + 1 for each in before)))
    writing.begin_epoch(epoch)
    event = events.Restored(second, epoch, head.position).write(writing, at=second)
    writing.kill(of_instant(second), "revoked", at=second, position=event.position)
    kids = tuple([kid for kid in there.kids if not kill(writing, by_kid(kid), now=second).again])
    keys = tuple([key for key in there.agent_keys if not kill(writing, by_key(key), now=second).again])
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
        parted=there.parted,
        agent_keys=keys,
    )


def _kill_what_was_issued_meanwhile(place: str, issued: int, clock: Clock) -> int:
    """Also revoke what was issued while the store was being replaced, and wait until that second is over."""
    if (now := int(clock())) > issued:
        issued = now
        with contextlib.closing(open_store(place)) as store, store.write() as transaction:
            kill(transaction, by_instant(issued, now), now=now)
    _wait_until(issued + 1, clock)
    return issued
