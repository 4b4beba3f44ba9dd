"""The execution graph, as the chains in a proof show it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from capx.crypto.base64url import b64u
from capx.proof.chains import ProvenChain
from capx.proof.decisions import Chains, InLog
from capx.proof.report import ProvenNode
from capx.store.events import TaskOpened
from capx.tokens.chain import root_node


def nodes_in(opened: TaskOpened, grouped: Sequence[Sequence[InLog]], chains: Chains) -> Iterator[ProvenNode]:
    """Return the nodes of a task, each behind the one above it, with what was decided about its calls."""
    root = b64u(root_node(opened.root))
    found = {root: ProvenNode(root, "task", None, opened.holder, 0, 0)}
    may: defaultdict[str, list[str]] = defaultdict(list)
    for chain in chains.chains.values():
        may[chain.path[-1]] += chain.may
        for node in _nodes_of(chain):
            known = found.get(node.id)
            if known is None or (known.key is None and node.key is not None):
                found[node.id] = node
    counts: Counter[tuple[str, bool]] = Counter()
    for logged in grouped:
        recorded = logged[0].recorded
        about = None if recorded is None else chains.chains.get(recorded.digest or "")
        if recorded is not None and about is not None:
            counts[about.path[-1], recorded.outcome == "allowed"] += 1
    for id_, node in found.items():
        said = tuple(dict.fromkeys(may[id_]))
        yield replace(node, allowed=counts[id_, True], denied=counts[id_, False], may=said)


def _nodes_of(chain: ProvenChain) -> Iterator[ProvenNode]:
    """Return the nodes below the root; the keys of a chain belong to its last nodes, from the grant's holder on."""
    first = len(chain.path) - len(chain.keys)
    for at, label in enumerate(chain.lineage.hops, 1):
        key = chain.keys[at - first] if chain.keys and at >= first else None
        yield ProvenNode(chain.path[at], label, chain.path[at - 1], key, 0, 0)
