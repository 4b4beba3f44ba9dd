"""Ending tasks.

Laws:

- An end is final. Ending a task again changes nothing, and returns the position of the first end.
- The event and the death are written in one transaction, which is durable before the caller gets an answer.
- A task whose time ran out ends as `expired`, even if somebody completes it later.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from capx.api.messages.outcomes import Ended, Impact
from capx.authority.graph.impact import impact_in, read_tree
from capx.errors import KeyProblem, UnknownTask
from capx.store import lifecycle
from capx.store.events import TASK_ENDS, By, TaskWithdrawn
from capx.store.protocols import Reading, Store, Writing
from capx.store.records import KEPT_BEYOND_TTL, Pruned, TaskRecord
from capx.tokens.chain import root_node
from capx.tokens.revocation_key import instant_of, of_public
from capx_caveats import is_id

NOTICED_WITHIN = 86_400
"""Seconds within which an operator notices a wrong clock and sets it right."""
_STATES: Final[Mapping[str, lifecycle.State]] = {reason: state for state, reason in lifecycle.DEATH.items()}


def known_task(reading: Reading, task_id: str) -> TaskRecord:
    """The task with this id; UnknownTask if there is none."""
    task = reading.task(task_id) if is_id(task_id) else None
    if task is None:
        raise UnknownTask(f"there is no task {task_id!r:.80}: capx task list shows all tasks")
    return task


def as_of(task: TaskRecord, now: int) -> TaskRecord:
    """A task in its state at `now`. It is `expired` when its time has run out, even if the store does not say so."""
    state = lifecycle.after(task.state, "expire") if now >= task.expires else task.state
    return msgspec.structs.replace(task, state=state)


def shown_tasks(reading: Reading, tasks: Iterable[TaskRecord], now: int) -> list[TaskRecord]:
    """Tasks in their states at `now`. One that is active is `revoked` if no token of it can be alive."""
    found = [as_of(task, now) for task in tasks]
    keys = {task.id: root_keys(task) for task in found if task.state == lifecycle.FIRST}
    dead, until = reading.deaths_of(key for each in keys.values() for key in each).keys(), reading.revoked_until()
    return [
        msgspec.structs.replace(task, state="revoked")
        if task.id in keys and (task.opened <= until or not dead.isdisjoint(keys[task.id]))
        else task
        for task in found
    ]


def has_ended(reading: Reading, task: TaskRecord, now: int) -> bool:
    """Whether somebody has ended a task. Its state alone, which has no mark, does not say so while its tokens may live.

    Its death says so, and is forgotten only when all tokens have expired.
    """
    return lifecycle.is_final(task.state) and (now >= task.expires or reading.death(task.id) is not None)


def root_keys(task: TaskRecord) -> tuple[bytes, ...]:
    """The ids of which one death leaves no token of a task alive: that of its root, and that of its holder's key."""
    root = root_node(task.root)
    try:
        return (root,) if task.holder is None else (root, of_public(task.holder))
    except KeyProblem:
        # Somebody changed the row: `store check` says so, and what is minted from it demands its mark.
        return (root,)


def dying_with(reading: Reading, task: TaskRecord, now: int) -> Impact:
    """What is known to die with a task."""
    tree = read_tree(reading, now, task.id, counting=False)
    return Impact() if tree is None else impact_in(tree, {tree.node.id})


def end_task(
    store: Store,
    task_id: str,
    move: lifecycle.Move,
    *,
    clock: Callable[[], int],
    dry_run: bool,
    by: By | None = None,
) -> Ended:
    """End a task, and return its end, also one from before. A dry run only returns what would happen.

    `by` is the person who withdraws it over the network.
    """
    if dry_run:
        with store.read() as reading:
            now, task = clock(), known_task(reading, task_id)
            again, dying = has_ended(reading, task, now), dying_with(reading, task, now)
        return Ended(task.id, task.state if again else _end(task, move, now), None, again, dying)
    with store.write() as transaction:
        return end(transaction, known_task(transaction, task_id), move, now=clock(), by=by)


def end(transaction: Writing, task: TaskRecord, move: lifecycle.Move, *, now: int, by: By | None = None) -> Ended:
    """End a task within a transaction, and return its end, also one from before."""
    if has_ended(transaction, task, now):
        return Ended(task.id, task.state, task.position, again=True)
    state = _end(task, move, now)
    # The death comes first, because it says whether there is one: somebody may have made the row active again. Then the
    # log gets no second end, which would cause no death.
    position = transaction.head().position + 1
    death = transaction.kill(task.id, lifecycle.DEATH[state], at=now, position=position)
    if death.position != position and (before := _STATES.get(death.reason)) is not None:
        transaction.end_task(task.id, before, at=death.at, position=death.position)
        return Ended(task.id, before, death.position, again=True)
    fact = TASK_ENDS[state](task.id)
    if by is not None and isinstance(fact, TaskWithdrawn):
        fact = msgspec.structs.replace(fact, by=by)
    fact.write(transaction, at=now)
    transaction.end_task(task.id, state, at=now, position=position)
    return Ended(task.id, state, position)


def _end(task: TaskRecord, move: lifecycle.Move, now: int) -> lifecycle.State:
    """The state in which a task ends that has not ended yet. One that is overdue ends as expired, whatever the move."""
    return lifecycle.after("expired" if now >= task.expires else lifecycle.FIRST, move)


def end_overdue(transaction: Writing, *, now: int, limit: int) -> list[Ended]:
    """End the tasks whose time has run out, at most `limit`."""
    return [end(transaction, task, "expire", now=now) for task in transaction.overdue(now, limit)]


def forget_ended(transaction: Writing, *, now: int, max_ttl: int) -> Pruned:
    """Delete what no live token can need any more, where no token lives longer than `max_ttl` seconds.

    It keeps everything that happened after the opening of the oldest task that may still have a live token. So it does
    not matter how long tasks last, here or at another authority on the same store.

    A clock that is ahead would forget what live tokens need as soon as it is right again. So the time is that of the
    newest event of the authority which is a day old by this clock: an event of before, if the clock went wrong since.
    """
    now = min(now, transaction.last_event(now - NOTICED_WITHIN))
    before, below = now - max_ttl - KEPT_BEYOND_TTL, None
    # Another authority on this store may have a longer max_ttl, so the tasks bound this too.
    oldest = transaction.oldest_unexpired(now - KEPT_BEYOND_TTL)
    if oldest is not None:
        # What happened in its first second may have an earlier time, from a service whose clock is behind.
        before = min(before, oldest.opened - KEPT_BEYOND_TTL)
        # By position as well: clocks of several authorities may differ, positions do not.
        opening = next(transaction.events(task=oldest.id, kind="task_opened"), None)
        below = 0 if opening is None else opening.position
    # A clock was ahead: what this death ended was issued later than the death, and expires later.
    ahead = (one.position for one in transaction.deaths() if (instant_of(one.key) or -1) >= before)
    if (first := next(ahead, None)) is not None:
        below = first if below is None else min(below, first)
    return transaction.forget(before, below=below)
