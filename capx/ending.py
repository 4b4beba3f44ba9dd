"""How authority ends: a task's end, and the revocation of a node, a capability or a root.

Laws: an end is final, and a death is told once: to end or revoke again changes nothing and says when it was. The event
and the death it caused are one transaction, durable before it answers. A task whose time ran out was not completed,
whoever says so now.
"""

from itertools import zip_longest

import msgspec
from msgspec import Struct

from capx import task as life
from capx.chain import b64u, root_node, unb64u
from capx.errors import InvalidRequest, MalformedToken, StoreProblem
from capx.graph import Graph, build
from capx.log import BrokenLog, Event, Place, check
from capx.store import Death, Reading, Store, TaskRecord
from capx_caveats import is_id

_ENDINGS = frozenset({"revoked", *life.DEATH.values()})


class Dying(Struct, frozen=True):
    """What is known to die: node ids and capability ids. Everything below them dies too, seen or not."""

    nodes: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


class Ended(Struct, frozen=True):
    """How a task ended, and at which position of the log; `again` if it had ended before.

    Of a dry run: how it would end, no position, and what is known to die.
    """

    task: str
    end: life.State
    position: int | None
    again: bool = False
    dying: Dying | None = None


class Revoked(Struct, frozen=True):
    """The node or capability id that is dead, and at which position it died; `again` if it was dead before.

    Of a dry run: what would die, no position, and what is known to die.
    """

    id: str
    is_root: bool
    position: int | None
    again: bool = False
    dying: Dying | None = None


def known_task(reading: Reading, task_id: str) -> TaskRecord:
    """The task with this id; InvalidRequest if there is none."""
    task = reading.task(task_id) if is_id(task_id) else None
    if task is None:
        raise InvalidRequest(f"there is no task {task_id!r:.80}: capx task list shows those that there are")
    return task


def as_of(task: TaskRecord, now: int) -> TaskRecord:
    """A task in the state that it is in at `now`: one whose time ran out is expired, though nobody ended it."""
    state = life.after(task.state, "expire") if now >= task.expires else task.state
    return msgspec.structs.replace(task, state=state)


def draw(reading: Reading, now: int, task_id: str | None = None) -> Graph:
    """The graph of one task, or of all, as this instant of the store has seen it."""
    deaths = {death.key: death.reason for death in reading.deaths()}
    return build(reading.events(), deaths, now=now, task_id=task_id)


def end_task(store: Store, task_id: str, move: life.Move, *, now: int, dry_run: bool) -> Ended:
    """How a task ended, now or before; of a dry run, how it would end and what is known to die."""
    if dry_run:
        with store.read() as reading:
            task = known_task(reading, task_id)
            dying = _dying(draw(reading, now, task_id), root_node(task.root))
        return Ended(task.id, life.after(as_of(task, now).state, move), None, life.is_final(task.state), dying)
    with store.write() as transaction:
        task = known_task(transaction, task_id)
        if life.is_final(task.state):
            return Ended(task.id, task.state, task.position, again=True)
        end = life.after(as_of(task, now).state, move)
        event = transaction.append(f"task_{end}", msgspec.json.encode({"task": task.id}), at=now)
        transaction.end_task(task.id, end, at=now, position=event.position)
        transaction.kill(task.id, life.DEATH[end], at=now, position=event.position)
    return Ended(task.id, end, event.position)


def revoke(store: Store, target: str, *, now: int, dry_run: bool) -> Revoked:
    """The death of what `target` names, now or before; of a dry run, what is known to die."""
    with store.read() as reading:
        key, is_root = _named(reading, target)
        if dry_run:
            again = reading.death(key) is not None
            return Revoked(b64u(key), is_root, None, again, _dying(draw(reading, now), key))
    with store.write() as transaction:
        if death := transaction.death(key):
            return Revoked(b64u(key), is_root, death.position, again=True)
        event = transaction.append("revoked", msgspec.json.encode({"id": b64u(key), "is_root": is_root}), at=now)
        transaction.kill(key, "revoked", at=now, position=event.position)
    return Revoked(b64u(key), is_root, event.position)


def check_store(reading: Reading) -> Place:
    """The place that the log of this store reaches, every event bound to the one before, every death to its event.

    BrokenLog names the first position that does not fit; StoreProblem says what else does not.
    """
    head = reading.head()
    reached = check(reading.events(), head=head.place)
    caused = (event for event in reading.events() if event.kind in _ENDINGS)
    number = 0
    for number, (event, death) in enumerate(zip_longest(caused, reading.deaths()), 1):
        if event is None:
            raise BrokenLog(death.position, "a death is kept that no event caused")
        if death is None or death != _caused(event, number):
            first = event.position if death is None else min(event.position, death.position)
            raise BrokenLog(first, f"the death that a {event.kind} event caused is not the one that is kept")
    if number != head.deaths:
        raise StoreProblem(f"the store counts {head.deaths} deaths and holds {number}: it is damaged")
    return reached


def _caused(event: Event, number: int) -> Death:
    try:
        named = msgspec.convert(event.facts().get("id" if event.kind == "revoked" else "task"), str)
        key = unb64u(named) if event.kind == "revoked" else named
    except (msgspec.ValidationError, MalformedToken) as error:
        raise BrokenLog(event.position, f"its body is not that of a {event.kind}") from error
    return Death(number, key, event.kind, event.at, event.position)


def _named(reading: Reading, target: str) -> tuple[bytes, bool]:
    """The key that dies, and whether it is a root's."""
    if is_id(target) and (task := reading.task(target) or reading.rooted(root_node(target))):
        return root_node(task.root), True
    try:
        key = unb64u(target)
    except MalformedToken:
        key = b""
    if len(key) != 16:
        raise InvalidRequest(
            f"{target!r:.80} is nothing that can be revoked: give a node or capability id (22 characters, as "
            "capx graph and capx inspect show them), or the root id or task id of a known task"
        )
    return key, reading.rooted(key) is not None


def _dying(graph: Graph, key: bytes) -> Dying:
    nodes, capabilities = graph.below(key)
    return Dying(
        tuple(node.id for node in nodes if node.dead is None),
        tuple(capability.id for capability in capabilities if capability.dead is None),
    )
