"""The execution graph, as far as the log shows it.

Laws:

- The root of a task is in the graph when the task was opened. What agents delegated offline is in it when it was used.
  A run-time grant is at the node of its asker.
- A node is what can be revoked. Its labels are the names that delegators gave it: claims, not proven.
- The path of a decision follows from the root and the nonces of the hops, and is computed anew. So a resource can
  invent nodes, and cannot move one below another. Older versions gave no nonces: such a path is a claim. A node on it
  is shown where it was claimed to be, until a path with nonces says otherwise, and dies with its task and its root
  only.
- A decision counts at the node that acted, if its task and its root were opened together. A denial does not count if
  a later decision was about the same call (capx.store.decision_groups).
- Everything below a dead node is dead of the same death. The end of a task is the death of its root.
- A resource records its own decisions, and may write anything into them. An impossible decision is skipped, and hides
  nothing else.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from capx.crypto.base64url import b64u, is_bytes, unb64u
from capx.store.decision_groups import grouped
from capx.store.decision_query import Recorded
from capx.store.events import BudgetLimit, CapabilityMinted, TaskOpened
from capx.store.log import Event
from capx.tokens.chain import is_path, root_node
from capx.tokens.revocation_key import RevocationKey, of_instant, of_kid
from capx.tokens.uses_counter import is_uses_counter
from capx_caveats import is_amount, rest_of, shown_amount

_DEEPEST = 256
"""The most nodes on a path. No token can hold more, so a longer path in a decision was made up."""

Dead = Callable[[RevocationKey], str | None]
"""Returns the reason of a key's own death, or None. The death of an instant is also that of every earlier instant."""
Counters = Callable[[Sequence[str]], Mapping[tuple[str, str], Decimal]]
"""Returns the amounts in the counters of some ids, by id and unit."""


class Held(Struct, frozen=True):
    """A capability that was minted or used; `dead` is a reason code.

    `ids` are the ids of its chain, from the minted token to this one. `kid` and `issued` (Unix seconds) are those of
    the minting, if the log has it. If it was granted at run time, `asker` has the ids of the token that asked for it,
    and `asker_keys` has the keys of that token, as `keys` has its own.
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

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the deaths of its root key and of its instant."""
        return _keys(self.kid, self.issued)


def _keys(kid: str | None, issued: int | None) -> tuple[str, ...]:
    return () if kid is None or issued is None else (of_kid(kid), of_instant(issued))


class Node(Struct, frozen=True):
    """An agent at work: its names, its capabilities, the counts of its calls, and its sub-agents.

    `dead` is a reason code, and `died_with` the id of the node or task whose death killed it.
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


class Tree(Struct, frozen=True):
    """One task: its claims at its opening, its root, and its counters, as far as the log shows them."""

    task: str
    root: str
    tenant: str | None
    purpose: str | None
    opened: int
    expires: int
    node: Node
    budgets: tuple[Budgeted, ...] = ()


class Graph(Struct, frozen=True):
    """The trees of all tasks, in the order in which they were opened."""

    trees: tuple[Tree, ...]

    def nodes(self) -> Iterator[Node]:
        """All nodes, parents first."""
        for tree in self.trees:
            yield from tree.node.walk()

    def below(self, key: bytes) -> tuple[list[Node], list[Held]]:
        """The known nodes and capabilities at or below a node or capability id."""
        id_ = b64u(key)
        nodes = [below for node in self.nodes() if node.id == id_ for below in node.walk()]
        at = {node.id for node in nodes}
        return nodes, [
            capability
            for node in self.nodes()
            for capability in node.capabilities
            if capability.node in at or id_ in capability.ids or id_ in capability.asker
        ]


class _Decided(Recorded, frozen=True, kw_only=True):
    audience: str
    root: str | None = None
    nonces: tuple[str, ...] | None = None
    ids: tuple[str, ...] = ()
    spent: tuple[BudgetLimit, ...] = ()


class _Mint(Struct, frozen=True):
    """The key and the time of a minting, and the ids of the token that asked for it."""

    kid: str | None = None
    issued: int | None = None
    asker: tuple[str, ...] = ()


class _Seen:
    """A node while the log is being read."""

    def __init__(self, depth: int = 0, parent: str | None = None, *, is_claim: bool = False) -> None:
        self.depth = depth
        self.parent = parent
        self.is_claim = is_claim
        # A dict instead of a set, because it keeps the order of the log.
        self.labels: dict[str, None] = {}
        self.capabilities: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.children: dict[str, None] = {}
        self.allowed = 0
        self.denied = 0


class _Task:
    """A task while the log is being read."""

    def __init__(self, opened: TaskOpened, at: int) -> None:
        self.opened = opened
        self.at = at
        self.root = b64u(root_node(opened.root))
        self.nodes = {self.root: _Seen()}
        self.limits: dict[tuple[str, str], Decimal] = {}
        self.mints: dict[str, _Mint] = {}

    def minted(self, minted: CapabilityMinted, at: int) -> None:
        self._limited(minted.budgets)
        self.mints[minted.ids[0]] = _Mint(minted.kid, at, minted.asker)
        holder = self._reached(minted.path or (self.root,), minted.hops)
        if holder is not None:
            holder.capabilities[minted.ids[-1]] = (minted.audience, minted.ids)

    def decided(self, decided: _Decided, *, counts: bool) -> None:
        # A resource may name this task and the root of another one. Such a call happened at no node of this task.
        if decided.root != self.opened.root or decided.path[:1] != (self.root,):
            return
        # A resource may write anything into its decisions, also what cannot be the id of a node or capability.
        if not all(is_bytes(id_, 16) for id_ in (*decided.path, *decided.ids)):
            return
        is_claim = decided.nonces is None
        if not is_claim and not is_path(decided.path, decided.root, decided.nonces or ()):
            return
        acting = self._reached(decided.path, decided.hops, is_claim=is_claim)
        if acting is None:
            return
        if decided.outcome == "allowed":
            acting.allowed += counts
        else:
            acting.denied += counts
        # The last id is of the capability that the agent held. The presentation, good for one call, is not in `ids`.
        if ids := decided.ids:
            acting.capabilities[ids[-1]] = (decided.audience, ids)
        self._limited(decided.spent)

    def _reached(self, path: tuple[str, ...], labels: tuple[str, ...], *, is_claim: bool = False) -> _Seen | None:
        """The node at the end of a path from the root, with new nodes on the way; None if the path is too long."""
        for parent, child, label in zip(path, path[1:], labels, strict=False):
            # A root has no label: it is nobody's sub-agent.
            if child == self.root:
                return None
            seen = self.nodes.get(child)
            # What follows from nonces takes the place of what was only claimed.
            if seen is None or (seen.is_claim and not is_claim):
                depth = self.nodes[parent].depth + 1
                if depth > _DEEPEST:
                    return None
                seen = self._placed(child, seen or _Seen(is_claim=is_claim), parent, depth)
                seen.is_claim = is_claim
            seen.labels[label] = None
        return self.nodes.get(path[-1])

    def _placed(self, id_: str, seen: _Seen, parent: str, depth: int) -> _Seen:
        if seen.parent is not None:
            del self.nodes[seen.parent].children[id_]
        seen.parent, seen.depth = parent, depth
        self.nodes[id_] = seen
        self.nodes[parent].children[id_] = None
        return seen

    def _limited(self, limits: Iterable[BudgetLimit]) -> None:
        # The tightest limit counts: every token of the chain must fit the counter.
        for one in limits:
            # The uses of one consent are no budget of the task.
            if is_amount(one.limit) and not is_uses_counter(one.counter):
                counter, limit = (one.counter, one.unit), Decimal(one.limit)
                self.limits[counter] = min(limit, self.limits.get(counter, limit))

    def tree(self, dead: Dead, counters: Counters, now: int) -> Tree:
        opened = self.opened
        held: Mapping[tuple[str, str], Decimal] = counters([id_ for id_, _ in self.limits]) if self.limits else {}
        end = dead(opened.task) or ("task_expired" if now >= opened.expires else None)
        return Tree(
            opened.task,
            opened.root,
            opened.tenant,
            opened.purpose,
            self.at,
            opened.expires,
            self._node(self.root, dead, end, opened.task if end else None),
            tuple(
                Budgeted(counter, unit, shown_amount(held.get((counter, unit), Decimal(0))), shown_amount(limit))
                for (counter, unit), limit in sorted(self.limits.items())
            ),
        )

    def _node(self, id_: str, is_dead: Dead, dead: str | None, died_with: str | None) -> Node:
        seen = self.nodes[id_]
        # A resource only claims where this node is. If it dies with another one, nobody knows.
        if seen.is_claim and died_with not in {self.root, self.opened.task}:
            dead, died_with = None, None
        if own := is_dead(unb64u(id_)):
            dead, died_with = own, id_
        return Node(
            id=id_,
            task=self.opened.task,
            labels=tuple(seen.labels),
            capabilities=tuple(
                self._held(Held(capability, audience, id_, ids, dead), is_dead)
                for capability, (audience, ids) in seen.capabilities.items()
            ),
            allowed=seen.allowed,
            denied=seen.denied,
            dead=dead,
            died_with=died_with,
            children=tuple(self._node(child, is_dead, dead, died_with) for child in seen.children),
        )

    def _held(self, seen: Held, is_dead: Dead) -> Held:
        mint = self.mints.get(seen.ids[0], _Mint())
        # A run-time grant also dies with the key and the instant of the token that asked for it.
        strength = self.mints.get(mint.asker[0], _Mint()) if mint.asker else _Mint()
        asker_keys = _keys(strength.kid, strength.issued)
        held = replace(seen, kid=mint.kid, issued=mint.issued, asker=mint.asker, asker_keys=asker_keys)
        deaths = (*(is_dead(unb64u(id_)) for id_ in held.ids), *map(is_dead, held.keys))
        return replace(held, dead=next(filter(None, deaths), held.dead))


def build(events: Iterable[Event], dead: Dead, *, counters: Counters, now: int, task_id: str | None = None) -> Graph:
    """Build the graph of one task, or of all, from the events of the log.

    `dead` returns the reason of a death, or None if the key itself is not dead. `counters` returns the amounts in
    counters. `now` is in Unix seconds.
    """
    tasks: dict[str, _Task] = {}
    for event, is_last in ((event, event is group.last) for group in grouped(events) for event in group.events):
        if event.kind == TaskOpened.kind:
            opened = event.read(TaskOpened)
            if task_id in {None, opened.task}:
                tasks[opened.task] = _Task(opened, event.at)
        elif event.kind == CapabilityMinted.kind:
            minted = event.read(CapabilityMinted)
            if minted.task in tasks:
                tasks[minted.task].minted(minted, event.at)
        elif event.kind == "decision":
            # Resources write decisions, so one that cannot be read is skipped. The other events are the authority's
            # own: if one of these cannot be read, the log is broken.
            decided = event.read_if(_Decided)
            if decided is not None and decided.task in tasks:
                tasks[decided.task].decided(decided, counts=is_last)
    return Graph(tuple(task.tree(dead, counters, now) for task in tasks.values()))
