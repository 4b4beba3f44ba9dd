"""Revoking a node, a capability, a root, a key, everything up to an instant, or everything of a tenant or agent.

A *death* is the store's record that something is revoked, or that a task has ended.

Laws:

- There is one death for each thing. Revoking it again changes nothing, and returns the position of the first death.
- An event of the log names up to 64 nodes of one task that one revocation kills. All else has an event of its own.
- One revocation is one transaction, which is durable before the caller gets an answer.
- A grant that was made because of a token dies with that token, with its key and with its instant. It needs a death of
  its own, because it has another chain, maybe another key, and a later time. It also dies with each agent's key that
  the token named, of which it names only the last itself.
- An agent's key can be revoked before it was ever seen. Only agents know which hops name it, so a preview cannot say
  what dies below them.
- A death of an instant reaches everything that the log shows as issued, also what was issued while a clock was ahead.
  Until such an instant has come, all that is issued is dead. So the caller has to say that this is meant.
- An agent can revoke only below its own node: the authority computes the nodes from the node of the agent.
- What a resource reports decides nothing but which nodes have the label of an agent. It can only add to what is
  revoked with that agent.
- What an operator revokes gives back the room of its requests (capx.authority.requests.quotas); what an agent revokes
  does not.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from capx.api.messages.outcomes import Impact, Killed, Revocation
from capx.authority.ending import as_of, has_ended, root_keys
from capx.authority.graph.agents import nodes_of_agent
from capx.authority.graph.impact import impact_in, read_tree, together
from capx.crypto.base64url import b64u, is_bytes, unb64u
from capx.crypto.keys import is_kid
from capx.errors import InvalidRequest
from capx.intents.intent import demand_agent_key
from capx.store import events
from capx.store.lifecycle import is_final
from capx.store.log import Event
from capx.store.protocols import Reading, Writing
from capx.store.records import TaskRecord
from capx.tokens import revocation_key
from capx.tokens.bundle import Bundle
from capx.tokens.chain import node_below, root_node
from capx.tokens.revocation_key import RevocationKey
from capx.tokens.wire import MAX_BLOCKS
from capx_caveats import is_id, is_label, shown_instant

_IN_AN_EVENT: Final = 64
"""The most nodes that one event of the log says were revoked."""
_MOST_KEPT: Final = 1_000
"""The most events of one task that a preview has in memory: as many as are read at once in any case."""
MAX_OF_NODE, MAX_OF_TASK = 1_000, 10_000
"""Revocations by the agent of one node, and by all agents of one task.

The next one beyond the limit of a node revokes that node. The next one beyond the limit of a task revokes the node of
the first hop towards the agent that asked, whichever agents below that used up the limit.
"""
CLOCKS_DIFFER = 10
"""The most seconds by which two clocks differ, if each is as the security model assumes."""
SELECTORS = ("tenant", "agent", "purpose", "principal")
"""The names that `where` may use."""


class Target(Struct, frozen=True, gc=False):
    """One thing to revoke, and the event that the log gets."""

    key: RevocationKey
    event: events.Revoked

    @property
    def shown(self) -> str:
        """The key as people write it."""
        # The event of an id or of an agent's key has it as text.
        return self.event.id or self.event.key or str(self.key)


def target_id(target: str | bytes | Bundle) -> str:
    """The id of a target as text. For a bundle, the id of its node; InvalidRequest if it has none."""
    node = target.node if isinstance(target, Bundle) else target
    if node is None:
        raise InvalidRequest("this bundle has no node: give the id of a node, capability or task")
    return b64u(node) if isinstance(node, bytes) else node


def by_name(reading: Reading, target: str) -> Target:
    """The target of a node, capability, root or task id; a task id means its root. InvalidRequest for other text."""
    if is_id(target):
        # By the log: a row that somebody took away must not let the task go on.
        opened = next(iter(reading.events(task=target, kind=events.TaskOpened.kind, limit=1)), None)
        if opened is not None:
            return _of_id(root_node(opened.read(events.TaskOpened).root), is_root=True, task=target)
        # Roots and nodes look alike.
        if task := reading.rooted(root_node(target)):
            return _of_id(root_node(task.root), is_root=True, task=task.id)
    if not is_bytes(target, 16):
        raise InvalidRequest(
            f"{target!r:.80} cannot be revoked: give a node or capability id (22 characters, as capx graph and capx "
            "inspect show them), or the root id or task id of a known task"
        )
    key = unb64u(target)
    task = reading.rooted(key)
    return _of_id(key, is_root=task is not None, task=None if task is None else task.id)


def by_kid(kid: str) -> Target:
    """The target for everything that was minted under one root key; InvalidRequest if `kid` is not a key id."""
    if not is_kid(kid):
        raise InvalidRequest(f"{kid!r:.80} is not a key id: capx keys list shows the key ids")
    return Target(revocation_key.of_kid(kid), events.Revoked(kid=kid))


def by_key(key: str) -> Target:
    """The target for everything of one agent's public key; InvalidRequest for a text that is no safe key."""
    demand_agent_key(key)
    return Target(revocation_key.of_public(key), events.Revoked(key=key))


def last_issue(reading: Reading, now: int) -> int:
    """The last second in which anything was issued that still lives: `now`, or a later one, if a clock was ahead."""
    known = max(now, reading.revoked_until())
    later = [one for one in reading.events(kind=events.CapabilityMinted.kind) if one.at > known]
    return max((one.at for one in later if _is_live(reading, one.read(events.CapabilityMinted).task, now)), default=now)


def _is_live(reading: Reading, task_id: str, now: int) -> bool:
    task = reading.task(task_id)
    return task is not None and not is_final(as_of(task, now).state) and not reading.deaths_of(root_keys(task))


def demand_forced(issued: int, now: int) -> None:
    """Raise InvalidRequest for a second that is ahead by more than clocks may differ."""
    if issued > now + CLOCKS_DIFFER:
        until = shown_instant(issued)
        raise InvalidRequest(
            f"a clock was ahead: the log has live tokens that were issued up to {until}. With --force they are "
            f"revoked, and all that is issued here until {until} is dead too, which nothing can undo. Or end their "
            f"tasks (capx task list --active), or give {shown_instant(now)} to revoke only what was issued until now"
        )


def by_instant(issued: int, latest: int) -> Target:
    """The target for everything that was issued up to a second; InvalidRequest if that is later than `latest`."""
    if not 0 <= issued <= latest:
        raise InvalidRequest(f"{shown_instant(max(0, issued))} is in the future: give a time that has passed")
    return Target(revocation_key.of_instant(issued), events.Revoked(issued=issued))


def by_where(reading: Reading, where: Mapping[str, str], now: int, *, after: int | None = None) -> list[Target]:
    """The roots of the live tasks that match, or with `agent`, the live nodes of that agent in these tasks.

    Of nodes that are computed, only the topmost of each path. If one audience reported more than 1 000 live nodes of
    the agent in a task, the root of that task: deaths are sent to every service, so reports must not make endlessly
    many. With `after`, only tasks that were opened after this position of the log. InvalidRequest for an unknown name,
    or a value that cannot be right.
    """
    targets: list[Target] = []
    for task in _tasks_where(reading, where, now, after):
        targets += _in_task(reading, task, where.get("agent"))
    return targets


def _tasks_where(reading: Reading, where: Mapping[str, str], now: int, after: int | None) -> list[TaskRecord]:
    unknown = set(where).difference(SELECTORS)
    if unknown or not where:
        named = ", ".join(sorted(unknown)) or "nothing"
        raise InvalidRequest(f"cannot select by {named:.80}: only by {', '.join(SELECTORS)}")
    for name, text in where.items():
        if not is_label(text):
            raise InvalidRequest(
                f"{text!r:.80} is not a valid {name}: write 1 to 128 characters, without hidden or control characters"
            )
    return [
        task
        for task in (reading.tasks() if after is None else _opened(reading, after))
        if where.get("tenant") in {None, task.tenant}
        and where.get("purpose") in {None, task.purpose}
        and where.get("principal") in {None, task.principal}
        and now < task.expires
        and not has_ended(reading, task, now)
        and reading.death(root_node(task.root)) is None
    ]


def _in_task(
    reading: Reading, task: TaskRecord, agent: str | None, events: Iterable[Event] | None = None
) -> list[Target]:
    """The targets in a task that matches: its root, or the nodes of the agent; `events` as in `nodes_of_agent`."""
    nodes = None if agent is None else nodes_of_agent(reading, task, agent, events)
    keys = [root_node(task.root)] if nodes is None else nodes
    return [_of_id(key, is_root=nodes is None, task=task.id) for key in keys]


def _opened(reading: Reading, after: int) -> list[TaskRecord]:
    opened = [event.read(events.TaskOpened).task for event in reading.events(after=after, kind=events.TaskOpened.kind)]
    return [task for id_ in opened if (task := reading.task(id_)) is not None]


def by_agent(path: Sequence[bytes], hops: Sequence[str], task: str) -> Target:
    """The node that these hop nonces lead to from the last node of `path`; InvalidRequest for invalid nonces."""
    if not 0 < len(hops) <= MAX_BLOCKS or not all(is_bytes(hop, 8) for hop in hops):
        raise InvalidRequest(
            f"give the nonces of the hops from your own node to the node to revoke: 1 to {MAX_BLOCKS}, each 8 bytes in "
            "base64url"
        )
    below = path[-1]
    for nonce in hops:
        below = node_below(below, nonce)
    return _by_agent(below, path, task)


def kill_for_agent(transaction: Writing, task: str, path: Sequence[bytes], hops: Sequence[str], *, now: int) -> Killed:
    """Revoke a node below the last node of `path`, and count it. An agent beyond its limit is revoked instead."""
    target = by_agent(path, hops, task)
    # Deaths are kept and sent to every service, so an agent must not make endlessly many. A repeat makes none.
    if transaction.death(target.key) is None:
        of_node, of_task = transaction.count_revocation(task, path[-1], now=now)
        beyond = path[min(1, len(path) - 1)] if of_task > MAX_OF_TASK else path[-1] if of_node > MAX_OF_NODE else None
        # An agent may be let in before its node dies. Each count has one event, with which `store check` compares it.
        if beyond is not None and transaction.death(beyond) is None:
            target = _by_agent(beyond, path, task)
    return kill(transaction, target, now=now)


def _by_agent(node: bytes, path: Sequence[bytes], task: str) -> Target:
    return Target(node, events.Revoked(b64u(node), is_root=node == path[0], task=task, by=b64u(path[-1])))


def revoke(transaction: Writing, targets: Sequence[Target], *, now: int, by: events.By | None = None) -> Revocation:
    """Revoke all targets for an operator or a person, each with the grants made because of it, and return their deaths.

    They include deaths from before, but not those of grants. The requests of the targets count no more.
    """
    if by is not None:
        targets = [replace(one, event=replace(one.event, person=by)) for one in targets]
    # Also if a target was dead before: an agent may have revoked it.
    transaction.uncount_requests([target.shown for target in targets])
    granted = transaction.granted_by(target.key for target in targets)
    dying: list[Target] = []
    with_another = set[int]()
    for target in targets:
        dying.append(target)
        for id_ in granted.get(target.key, ()):
            with_another.add(len(dying))
            dying.append(_of_id(id_, is_root=False, task=target.event.task))
    killed = _kill_all(transaction, dying, now=now)
    return Revocation(tuple([one for nth, one in enumerate(killed) if nth not in with_another or not one.again]))


def kill(transaction: Writing, target: Target, *, now: int) -> Killed:
    """Revoke one target within a transaction, and return its death, also one from before."""
    return _kill_all(transaction, [target], now=now)[0]


def _kill_all(transaction: Writing, targets: Sequence[Target], *, now: int) -> list[Killed]:
    """Revoke all targets with few statements and events: a resource can name very many nodes."""
    at = {key: death.position for key, death in transaction.deaths_of(one.key for one in targets).items()}
    new: dict[RevocationKey, Target] = {}
    for target in targets:
        if target.key not in at:
            new.setdefault(target.key, target)
    groups = list(_grouped(new.values()))
    bodies = (msgspec.json.encode(_event(group)) for group in groups)
    positions = transaction.append_all(events.Revoked.kind, bodies, at=now)
    written = {one.key: position for group, position in zip(groups, positions, strict=True) for one in group}
    transaction.kill_all(written, "revoked", at=now)
    at |= written
    for target in targets:
        # Somebody may have revoked the id of a key before. Only an event that names the key keeps it dead for ever.
        if (
            target.event.key is not None
            and target.key not in written
            and target.event.key not in set(events.revoked_agent_keys(transaction))
        ):
            events.Revoked(key=target.event.key, again=True).write(transaction, at=now)
    return [Killed(one.shown, at[one.key], one.event.is_root, again=new.get(one.key) is not one) for one in targets]


def _grouped(targets: Iterable[Target]) -> Iterator[list[Target]]:
    """The targets in their order, with those in one list that one event can name: nodes of one task, one by one."""
    for task, of_task in groupby(targets, lambda one: None if one.event.is_root else one.event.task):
        most = 1 if task is None else _IN_AN_EVENT
        while group := list(islice(of_task, most)):
            yield group


def _event(group: Sequence[Target]) -> events.Revoked:
    first, *others = group
    return replace(first.event, others=tuple([one.shown for one in others])) if others else first.event


def _of_id(key: bytes, *, is_root: bool, task: str | None) -> Target:
    return Target(key, events.Revoked(b64u(key), is_root=is_root, task=task))


def preview_where(reading: Reading, where: Mapping[str, str], *, now: int) -> Revocation:
    """The result that revoking everything that matches would have; InvalidRequest as in `by_where`."""
    killed: list[Killed] = []
    found: list[Impact] = []
    for task in _tasks_where(reading, where, now, None):
        # They are needed twice. A task with very many of them is read twice.
        events = list(islice(reading.events(task=task.id, naming=task.root), _MOST_KEPT + 1))
        kept = events if len(events) <= _MOST_KEPT else None
        targets = _in_task(reading, task, where.get("agent"), kept)
        killed += [Killed(one.shown, None, one.event.is_root) for one in targets]
        tree = read_tree(reading, now, task.id, counting=False, events=kept) if targets else None
        if tree is not None:
            found.append(impact_in(tree, {one.shown for one in targets}))
    return Revocation(tuple(killed), together(found))


def preview(reading: Reading, targets: Sequence[Target], *, now: int) -> Revocation:
    """The result that revoking these targets would have. It reads the tasks that a target may be in, one by one."""
    dead = reading.deaths_of(target.key for target in targets)
    killed = tuple(Killed(one.shown, None, one.event.is_root, again=one.key in dead) for one in targets)
    keys = defaultdict[str, set[str]](set)
    for target in targets:
        if target.event.key is not None:
            _add_held(keys, reading, target.event.key)
            continue
        task = target.event.task
        for id_ in _tasks_with(reading, target, now) if task is None else (task,):
            keys[id_].add(target.shown)
    trees = ((read_tree(reading, now, task, counting=False), dying) for task, dying in keys.items())
    return Revocation(killed, together(impact_in(tree, dying) for tree, dying in trees if tree is not None))


def _add_held(keys: dict[str, set[str]], reading: Reading, key: str) -> None:
    """Add what is known to die with an agent's key: tasks that name it, and grants to tokens that named it."""
    for task in reading.tasks():
        if task.holder == key:
            keys[task.id].add(b64u(root_node(task.root)))
    for request in reading.requests():
        if key in request.keys:
            keys[request.task].update(request.granted)


def _tasks_with(reading: Reading, target: Target, now: int) -> list[str]:
    """The tasks in which a target without a task may kill something: all whose log has its id, else all live ones."""
    if isinstance(target.key, bytes):
        return reading.tasks_with(target.shown)
    return [task.id for task in reading.tasks() if not is_final(as_of(task, now).state)]
