"""The execution graph, as far as the log shows it.

Laws:

- A node is what can be revoked. Its labels are the names that delegators gave it: claims, not proven.
- A node below a dead one is dead of the same death, unless it has one of its own. A node that is only claimed to be
  there dies with its task, its root or the key of its holder only. When a task ends, its root is dead, and `died_with`
  names the task. When the key dies for which it was opened, its root is dead, and `died_with` names the key.
- What was reported and is not shown is counted, by the audience that reported it.
"""

from collections.abc import Iterator
from decimal import Decimal

from msgspec import Struct

from capx.tokens.revocation_key import of_instant, of_kid
from capx_caveats import rest_of, shown_amount


class Held(Struct, frozen=True, gc=False):
    """A capability that was minted or used; `dead` is a reason code.

    `ids` are the ids of its chain, from the minted token to this one. `kid` and `issued` (Unix seconds) are those of
    the minting, if the log has it. If it was granted at run time, `asker` has the ids of the token that asked for it,
    and `asker_keys` has the keys of that token, as `keys` has its own. `holder` is the public key of the agent that
    acted with it (`ed25519:` and 43 characters), by the word of the audience.
    """

    id: str
    audience: str
    node: str
    ids: tuple[str, ...]
    dead: str | None
    kid: str | None = None
    issued: int | None = None
    asker: tuple[str, ...] = ()
    asker_keys: tuple[str, ...] = ()
    holder: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the deaths of its root key and of its instant."""
        return keys_of(self.kid, self.issued)


def keys_of(kid: str | None, issued: int | None) -> tuple[str, ...]:
    """The keys of the deaths of a root key and of an instant (Unix seconds); none if the log has no minting."""
    return () if kid is None or issued is None else (of_kid(kid), of_instant(issued))


class Node(Struct, frozen=True, gc=False):
    """An agent at work: its names, its capabilities, the counts of its calls, and its sub-agents.

    `dead` is a reason code, and `died_with` the id of the node or task, or the key of the task's holder, whose death
    killed it.
    """

    id: str
    task: str
    labels: tuple[str, ...]
    capabilities: tuple[Held, ...]
    allowed: int
    denied: int
    dead: str | None
    died_with: str | None
    children: tuple["Node", ...]

    @property
    def label(self) -> str | None:
        """The first label; None for a root."""
        return self.labels[0] if self.labels else None

    def walk(self) -> Iterator["Node"]:
        """This node and all nodes below it, parents first."""
        waiting: list[Node] = [self]
        while waiting:
            node = waiting.pop()
            yield node
            if node.children:
                waiting.extend(reversed(node.children))


class Budgeted(Struct, frozen=True):
    """One counter of a task. Amounts are decimal text; `limit` is the tightest limit that the log has seen."""

    counter: str
    unit: str
    spent: str
    limit: str

    @property
    def left(self) -> str:
        """The rest of the budget, as decimal text."""
        return shown_amount(rest_of(Decimal(self.limit), Decimal(self.spent)))


class Omitted(Struct, frozen=True):
    """What one audience reported about a task beyond the bounds of its graph, and is not shown.

    `calls` are decisions at nodes that are not shown. The others count reports of a label, a capability or a budget,
    the same one each time that it was reported.
    """

    audience: str
    calls: int = 0
    labels: int = 0
    capabilities: int = 0
    budgets: int = 0


class Tree(Struct, frozen=True):
    """One task: its claims at its opening, its root, and its counters, as far as the log shows them.

    `holder` is the public key of its first agent (`ed25519:` and 43 characters), if it names one.
    """

    task: str
    root: str
    tenant: str | None
    purpose: str | None
    opened: int
    expires: int
    node: Node
    budgets: tuple[Budgeted, ...] = ()
    omitted: tuple[Omitted, ...] = ()
    holder: str | None = None


class Graph(Struct, frozen=True):
    """The trees of tasks, in the order in which they were opened; `older` is how many older tasks are left out."""

    trees: tuple[Tree, ...]
    older: int = 0

    def nodes(self) -> Iterator[Node]:
        """All nodes, parents first."""
        for tree in self.trees:
            yield from tree.node.walk()
