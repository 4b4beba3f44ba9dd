"""Reading graphs from a store, and the impact of a revocation or an end: what a dry run lists.

Law: only the tasks that are asked for are read, one after the other. So a revocation takes no longer because of what is
reported about other tasks.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal

from capx.api.messages.outcomes import Impact
from capx.authority.graph.building import OF_EACH_TASK, OF_ONE_TASK, Bounds, build
from capx.authority.graph.graph import Graph, Held, Tree
from capx.store.events import TaskOpened
from capx.store.log import Event
from capx.store.protocols import Reading
from capx.tokens.revocation_key import RevocationKey, instant_of


def read_tree(
    reading: Reading,
    now: int,
    task_id: str,
    bounds: Bounds = OF_ONE_TASK,
    *,
    counting: bool = True,
    events: Iterable[Event] | None = None,
) -> Tree | None:
    """The graph of one task, from one snapshot of the store; None if its log has no such task.

    `events` are those of the task that name its root; without them, they are read.
    """
    revoked_until = reading.revoked_until()

    def dead(keys: Iterable[RevocationKey]) -> dict[RevocationKey, str]:
        found: dict[RevocationKey, str] = {}
        others: list[RevocationKey] = []
        for key in keys:
            # The death of one instant covers every earlier instant, so only the latest has to be compared.
            if (instant := instant_of(key)) is None:
                others.append(key)
            elif instant <= revoked_until:
                found[key] = "revoked"
        return found | {key: death.reason for key, death in reading.deaths_of(others).items()}

    def counters(ids: Sequence[str]) -> dict[tuple[str, str], Decimal]:
        return {(one.counter, one.unit): one.spent for one in reading.counters(ids)}

    found = _events(reading, task_id) if events is None else events
    return build(found, dead, counters=counters, now=now, bounds=bounds, counting=counting)


def _events(reading: Reading, task_id: str) -> Iterator[Event]:
    """The events of a task, without decisions that do not name its root: these are impossible.

    A resource can report very many of them. JSON needs no escapes for an id, so who uses one hides only its own report.
    """
    # Nobody knows the id of a task before it is opened, so this is its first event.
    opening = next(reading.events(task=task_id, limit=1), None)
    if opening is None or opening.kind != TaskOpened.kind:
        return iter(())
    return reading.events(task=task_id, naming=opening.read(TaskOpened).root)


def read_graph(reading: Reading, now: int, limit: int) -> Graph:
    """The graphs of the newest tasks, at most `limit`, each with the bounds of a graph among many."""
    shown = reading.task_page(limit=limit)
    trees = (read_tree(reading, now, task.id, OF_EACH_TASK) for task in shown)
    return Graph(tuple(tree for tree in trees if tree is not None), older=reading.task_count() - len(shown))


def impact_in(tree: Tree, keys: Collection[str]) -> Impact:
    """The live nodes and capabilities of a task that die with these keys, as far as its graph knows them.

    A key is the id of a node or capability, a root key, or everything issued up to an instant.
    """
    until = max((instant for key in keys if (instant := instant_of(key)) is not None), default=-1)

    def dies(held: Held) -> bool:
        by = (*held.keys, *held.asker_keys)
        return any(key in keys for key in (*held.ids, *held.asker, *by)) or any(
            instant <= until for instant in map(instant_of, by) if instant is not None
        )

    nodes, capabilities = list[str](), list[str]()
    waiting = [(tree.node, False)]
    while waiting:
        node, below = waiting.pop()
        dying = below or node.id in keys
        if dying and node.dead is None:
            nodes.append(node.id)
        if node.capabilities:
            alive = [held for held in node.capabilities if held.dead is None]
            capabilities += [held.id for held in alive if dying or dies(held)]
        if node.children:
            waiting += [(child, dying) for child in reversed(node.children)]
    return Impact(tuple(nodes), tuple(capabilities))


def together(found: Iterable[Impact]) -> Impact:
    """Several impacts as one, with each node and capability once."""
    nodes: dict[str, None] = {}
    capabilities: dict[str, None] = {}
    for one in found:
        nodes.update(dict.fromkeys(one.nodes))
        capabilities.update(dict.fromkeys(one.capabilities))
    return Impact(tuple(nodes), tuple(capabilities))
