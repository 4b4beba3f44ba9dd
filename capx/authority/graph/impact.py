"""The impact of a revocation or an end: the nodes and capabilities that a dry run lists."""

from collections.abc import Sequence
from decimal import Decimal

from capx.api.messages.outcomes import Impact
from capx.authority.graph.graph import Graph, Held, build
from capx.store.protocols import Reading
from capx.tokens.revocation_key import RevocationKey, instant_of


def read_graph(reading: Reading, now: int, task_id: str | None = None) -> Graph:
    """The graph of one task, or of all, from one snapshot of the store."""
    revoked_until = reading.revoked_until()

    def dead(key: RevocationKey) -> str | None:
        # The death of one instant covers every earlier instant, so only the latest has to be compared.
        if (instant := instant_of(key)) is not None:
            return "revoked" if instant <= revoked_until else None
        found = reading.death(key)
        return None if found is None else found.reason

    def counters(ids: Sequence[str]) -> dict[tuple[str, str], Decimal]:
        return {(one.counter, one.unit): one.spent for one in reading.counters(ids)}

    return build(reading.events(task=task_id), dead, counters=counters, now=now, task_id=task_id)


def impact_below(graph: Graph, key: bytes) -> Impact:
    """The live nodes and capabilities at or below this node or capability id, as far as the graph knows them."""
    nodes, capabilities = graph.below(key)
    return Impact(
        tuple(node.id for node in nodes if node.dead is None),
        tuple(capability.id for capability in capabilities if capability.dead is None),
    )


def impact_of(graph: Graph, key: str) -> Impact:
    """The live capabilities that die with a root key, or with everything issued up to an instant."""
    until = instant_of(key)

    def dies(held: Held) -> bool:
        keys = (*held.keys, *held.asker_keys)
        if until is None:
            return key in keys
        return any(at is not None and at <= until for at in map(instant_of, keys))

    alive = [held for node in graph.nodes() for held in node.capabilities if held.dead is None]
    return Impact((), tuple(held.id for held in alive if dies(held)))


def together(found: list[Impact]) -> Impact:
    """Several impacts as one, with each node and capability once."""
    return Impact(
        tuple(dict.fromkeys(node for one in found for node in one.nodes)),
        tuple(dict.fromkeys(capability for one in found for capability in one.capabilities)),
    )
