"""How a task ends.

Laws: an end is final: to end a task again changes nothing and says when it was. The event and the death it caused are
one transaction, durable before it answers. A task whose time ran out was not completed, whoever says so now.
"""

import msgspec

from capx.api.messages.outcomes import Ended
from capx.authority.graph.impact import impact_below, read_graph
from capx.errors import UnknownTask
from capx.store import lifecycle
from capx.store.events import TASK_ENDS
from capx.store.protocols import Reading, Store, Writing
from capx.store.records import KEPT_BEYOND_TTL, Pruned, TaskRecord
from capx.tokens.chain import root_node
from capx_caveats import is_id


def known_task(reading: Reading, task_id: str) -> TaskRecord:
    """The task with this id; UnknownTask if there is none."""
    task = reading.task(task_id) if is_id(task_id) else None
    if task is None:
        raise UnknownTask(f"there is no task {task_id!r:.80}: capx task list shows those that there are")
    return task


def as_of(task: TaskRecord, now: int) -> TaskRecord:
    """A task in the state that it is in at `now`: one whose time ran out is expired, though nobody ended it."""
    state = lifecycle.after(task.state, "expire") if now >= task.expires else task.state
    return msgspec.structs.replace(task, state=state)


def end_task(store: Store, task_id: str, move: lifecycle.Move, *, now: int, dry_run: bool) -> Ended:
    """How a task ended, now or before; of a dry run, how it would end and what is known to die."""
    if dry_run:
        with store.read() as reading:
            task = known_task(reading, task_id)
            dying = impact_below(read_graph(reading, now, task_id), root_node(task.root))
        return Ended(
            task.id, lifecycle.after(as_of(task, now).state, move), None, lifecycle.is_final(task.state), dying
        )
    with store.write() as transaction:
        return end(transaction, known_task(transaction, task_id), move, now=now)


def end(transaction: Writing, task: TaskRecord, move: lifecycle.Move, *, now: int) -> Ended:
    """The end of a task within a transaction, now or before."""
    if lifecycle.is_final(task.state):
        return Ended(task.id, task.state, task.position, again=True)
    state = lifecycle.after(as_of(task, now).state, move)
    event = TASK_ENDS[state](task.id).write(transaction, at=now)
    transaction.end_task(task.id, state, at=now, position=event.position)
    transaction.kill(task.id, lifecycle.DEATH[state], at=now, position=event.position)
    return Ended(task.id, state, event.position)


def end_overdue(transaction: Writing, *, now: int, limit: int) -> list[Ended]:
    """The ends of tasks whose time has run out and that nobody ended, at most `limit`."""
    return [end(transaction, task, "expire", now=now) for task in transaction.overdue(now, limit)]


def forget_ended(transaction: Writing, *, now: int, max_ttl: int) -> Pruned:
    """Forget what protects nothing any more, where nothing lives longer than `max_ttl` seconds.

    What happened while a task may still have a live token is kept, however long tasks live here or elsewhere.
    """
    before, below = now - max_ttl - KEPT_BEYOND_TTL, None
    oldest = transaction.oldest_unexpired(now - KEPT_BEYOND_TTL)
    if oldest is not None:
        before = min(before, oldest.opened)
        opening = next(transaction.events(task=oldest.id, kind="task_opened"), None)
        below = 0 if opening is None else opening.position
    return transaction.forget(before, below=below)
