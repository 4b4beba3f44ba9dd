"""The execution graph, as the chains in a proof show it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import public_text
from capx.proof.allowed import Allowed
from capx.proof.chains import Chains, ProvenChain
from capx.proof.recorded import LoggedDecision
from capx.proof.report import ProvenNode
from capx.proof.trust import Trust
from capx.store.events import TaskOpened
from capx.tokens.chain import root_node


def nodes_in(
    opened: TaskOpened, decisions: Sequence[LoggedDecision], chains: Chains, allowed: Allowed, trust: Trust
) -> Iterator[ProvenNode]:
    """Return the nodes of a task, each behind the one above it, with what was decided about its calls.

    A chain of another root is a contradiction, which is named elsewhere: its nodes are left out.
    """
    root = b64u(root_node(opened.root))
    found = {root: ProvenNode(root, "task", None, opened.holder, 0, 0)}
    may: defaultdict[str, list[str]] = defaultdict(list)
    for chain in chains.all():
        if chain.path[0] != root:
            continue
        may[chain.path[-1]] += allowed.sentences(chain)
        for node in _nodes_of(chain):
            known = found.get(node.id)
            if known is None or (known.key is None and node.key is not None):
                found[node.id] = node
    counts: Counter[tuple[str, bool]] = Counter()
    for one in decisions:
        chain_of = chains.get(one.recorded.digest)
        if chain_of is not None:
            counts[chain_of.path[-1], one.recorded.is_allowed] += 1
    for id_, node in found.items():
        said = tuple([_with_names(each, trust) for each in dict.fromkeys(may[id_])])
        yield replace(node, allowed=counts[id_, True], denied=counts[id_, False], may=said)


def _with_names(sentence: str, trust: Trust) -> str:
    """The sentence, with the names of people behind their keys."""
    for name, key in trust.principals:
        sentence = sentence.replace(public_text(key), f"{name} ({public_text(key)})")
    return sentence


def _nodes_of(chain: ProvenChain) -> Iterator[ProvenNode]:
    """Return the nodes below the root; the keys of a chain belong to its last nodes, from the grant's holder on."""
    first = len(chain.path) - len(chain.keys)
    for at, label in enumerate(chain.lineage.hops, 1):
        key = chain.keys[at - first] if chain.keys and at >= first else None
        yield ProvenNode(chain.path[at], label, chain.path[at - 1], key, 0, 0)
