"""The nodes of an agent in a task: what `revoke --where agent=` kills.

Laws:

- A label is a claim, and every report of it counts: nothing that is reported takes back what another report says.
- A node that follows from the root and its nonces is above the rest of its path: each verifier tests all nodes of a
  path, so its death kills them too. Where a path is only claimed, each node with the label counts by itself.
- A node with a death of its own needs no other one. A death above it does not count: a resource may have claimed it.
- If one audience reports more than `MAX_OF_AUDIENCE` nodes that are alive, nobody can tell the true ones from the
  invented ones. To leave out some would spare a rogue that another process of the same audience has seen.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import islice
from typing import Final

from capx.authority.graph.reported import Reported, is_node_id
from capx.crypto.base64url import b64u, unb64u
from capx.store.events import CapabilityMinted
from capx.store.log import Event
from capx.store.protocols import Reading
from capx.store.records import TaskRecord
from capx.tokens import chain

MAX_OF_AUDIENCE: Final = 1_000
"""The most live nodes of one agent in one task that the reports of one audience can have revoked one by one."""


def nodes_of_agent(
    reading: Reading, task: TaskRecord, agent: str, events: Iterable[Event] | None = None
) -> list[bytes] | None:
    """The live nodes of an agent in a task, in the order of the log; None if one audience reported too many.

    `events` are those of the task that name its root; without them, they are read.
    """
    live: list[bytes] = []
    live_of = Counter[str]()
    named = _all_named(task, agent, reading.events(task=task.id, naming=task.root) if events is None else events)
    # Many at once, because a resource can name very many.
    while batch := dict(islice(named, MAX_OF_AUDIENCE)):
        dead = reading.deaths_of(batch)
        for node, audience in batch.items():
            if node in dead:
                continue
            live.append(node)
            live_of[audience] += 1
            if audience and live_of[audience] > MAX_OF_AUDIENCE:
                return None
    return live


def _all_named(task: TaskRecord, agent: str, events: Iterable[Event]) -> Iterator[tuple[bytes, str]]:
    """The nodes of an agent, each once, with the audience that named it first; "" is the authority itself."""
    root = chain.root_node(task.root)
    root_node = b64u(root)
    found = {root}
    for event in events:
        if event.kind == "decision":
            # A resource may write anything into its decisions.
            decided = event.read_if(Reported)
            if decided is None or agent not in decided.hops:
                continue
            if not decided.is_possible(task=task.id, root=task.root, root_node=root_node):
                continue
            named, audience = _named(decided, root, agent), decided.audience
        elif event.kind == CapabilityMinted.kind:
            minted = event.read(CapabilityMinted)
            # The authority has verified the token that asked.
            named, audience = islice(_labelled(minted.path, minted.hops, agent), 1), ""
        else:
            continue
        for node in named:
            if node not in found:
                found.add(node)
                yield node, audience


def _named(decided: Reported, root: bytes, agent: str) -> Iterable[bytes]:
    """The nodes of a decision that have the label: the topmost one if it is computed, else all that are claimed."""
    if decided.is_claim:
        return _labelled(decided.path, decided.hops, agent)
    return (reduce(chain.node_below, (decided.nonces or ())[: decided.hops.index(agent) + 1], root),)


def _labelled(path: tuple[str, ...], hops: tuple[str, ...], agent: str) -> Iterator[bytes]:
    """The nodes of a path that have the label and an id that can be one."""
    return (unb64u(id_) for id_, label in zip(path[1:], hops, strict=False) if label == agent and is_node_id(id_))
