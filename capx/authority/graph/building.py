"""Builds the execution graph of one task from its events, within bounds.

Laws:

- The root of a task is in the graph when the task was opened. What agents delegated offline is in it when it was used.
  A run-time grant is at the node of its asker.
- The path of a decision is computed from the root and the nonces of the hops. So a resource can invent nodes, and
  cannot move one below another. A path without nonces is a claim of the resource.
  A node on it is shown where it was claimed to be, until a path with nonces says otherwise, and dies with its task,
  its root and the key of its holder only. If that is deeper than any token leads, it is shown below the root.
- A decision counts at the node that acted, if its task and its root were opened together. A denial does not count if
  a later decision was about the same call (capx.store.decision_groups).
- A resource records its own decisions, and may write anything into them. An impossible decision is skipped, and hides
  nothing else.
- What one audience reports is bounded by itself: it takes nothing from another audience, nor from what the authority
  itself logged, and is shown in the order of the log. So what was reported before a resource was taken over stays.
- The key of an agent is the word of the audience where it acted. Its death ends what this audience says that the key
  held, and what was delegated or granted from that; it ends no node.
- The work is linear in the size of the reports, times the number of audiences that label one node. The memory is linear
  in the bounds and the number of audiences.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import islice, pairwise, repeat, takewhile
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from capx.authority.graph.graph import Budgeted, Held, Node, Omitted, Tree, keys_of
from capx.authority.graph.reported import Reported, is_node_id
from capx.crypto.base64url import b64u, unb64u
from capx.errors import KeyProblem
from capx.store.decision_groups import grouped
from capx.store.decision_query import DEEPEST
from capx.store.events import BudgetLimit, CapabilityMinted, TaskOpened
from capx.store.log import Event
from capx.tokens.chain import node_below, root_node
from capx.tokens.lineage import AUTHORITY
from capx.tokens.revocation_key import RevocationKey, of_public
from capx.tokens.uses_counter import is_uses_counter
from capx.tokens.wire import MAX_BLOCKS
from capx_caveats import is_amount, shown_amount

Dead = Callable[[Iterable[RevocationKey]], Mapping[RevocationKey, str]]
"""Returns the reasons of the keys' own deaths. The death of an instant is also that of every earlier instant."""
Counters = Callable[[Sequence[str]], Mapping[tuple[str, str], Decimal]]
"""Returns the amounts in the counters of some ids, by id and unit."""


class Bounds(Struct, frozen=True):
    """The most that the reports of one audience add to the graph of a task; `labels` is for each node."""

    nodes: int
    labels: int
    capabilities: int
    budgets: int


OF_ONE_TASK: Final = Bounds(nodes=1_000, labels=8, capabilities=2_000, budgets=64)
"""The bounds if the graph of one task is read."""
OF_EACH_TASK: Final = Bounds(nodes=100, labels=4, capabilities=200, budgets=16)
"""The bounds if the graphs of many tasks are read together."""


class _Decided(Reported, frozen=True, kw_only=True):
    ids: tuple[str, ...] = ()
    spent: tuple[BudgetLimit, ...] = ()
    key: str | None = None


class _Mint(Struct, frozen=True):
    """The key and the time of a minting, and the ids of the token that asked for it."""

    kid: str | None = None
    issued: int | None = None
    asker: tuple[str, ...] = ()


class _Reports:
    """What one audience added to the graph, within its bounds, and what was left out."""

    def __init__(self, audience: str, bounds: Bounds) -> None:
        self.audience = audience
        self.bounds = bounds
        self.nodes = self.capabilities = self.budgets = 0
        self.left_out = dict.fromkeys(("calls", "labels", "capabilities", "budgets"), 0)

    def omitted(self) -> Omitted:
        return Omitted(self.audience, **self.left_out)


class _Seen(Struct, gc=False):
    """A node while the log is being read. Labels and capabilities keep the order of the log."""

    id: str
    key: bytes
    parent: str | None = None
    is_claim: bool = False
    labels: dict[str, _Reports] = {}
    """Each label, with the reports of whoever gave it first."""
    capabilities: dict[tuple[str, str], tuple[str, ...]] = {}
    """The ids of each capability, by its own id and its audience: nobody can replace those of another audience."""
    below: dict[str, "_Seen"] = {}
    """The nodes below, by the nonces of their hops, as far as they were computed."""
    allowed: int = 0
    denied: int = 0


_UNBOUNDED: Final = 2**63 - 1
_AUTHORITY: Final = Bounds(_UNBOUNDED, _UNBOUNDED, _UNBOUNDED, _UNBOUNDED)


class _Task:
    """A task while the log is being read."""

    def __init__(self, opened: TaskOpened, at: int, bounds: Bounds) -> None:
        self.opened = opened
        self.at = at
        self.bounds = bounds
        top = root_node(opened.root)
        self.root = b64u(top)
        self.nodes = {self.root: _Seen(self.root, top)}
        self.holder_id = None if opened.holder is None else of_public(opened.holder)
        self.limits: dict[tuple[str, str], Decimal] = {}
        """The tightest limits that were reported."""
        self.logged_limits: dict[tuple[str, str], Decimal] = {}
        """Those that the authority itself logged. No report makes them tighter."""
        self.mints: dict[str, _Mint] = {}
        self.holders: dict[tuple[str, str], tuple[str, bytes]] = {}
        """The public key that a capability was held with, and the id of the key, by its own id and its audience."""
        self.logged = _Reports("", _AUTHORITY)
        self.reports: dict[str, _Reports] = {}

    def minted(self, minted: CapabilityMinted, at: int) -> None:
        self._limit(minted.budgets, self.logged)
        self.mints[minted.ids[0]] = _Mint(minted.kid, at, minted.asker)
        # The authority has verified the token that asked.
        path = minted.path or (self.root,)
        below = [self._place(child, unb64u(child), parent) for parent, child in pairwise(path)]
        self._label(below, minted.hops, self.logged)
        holder = below[-1] if below else self.nodes[self.root]
        holder.capabilities[minted.ids[-1], minted.audience] = minted.ids

    def decided(self, decided: _Decided, *, counts: bool) -> None:
        is_possible = decided.is_possible(task=self.opened.task, root=self.opened.root, root_node=self.root)
        if not is_possible or not _are_ids(decided.ids):
            return
        reports = self.reports.get(decided.audience)
        if reports is None:
            reports = self.reports[decided.audience] = _Reports(decided.audience, self.bounds)
        if decided.is_claim:
            path = self._claimed(decided.path, reports)
        else:
            path = self._computed(decided.nonces or (), reports)
        if path is None:
            return
        self._label(path[1:], decided.hops, reports)
        if len(path) <= len(decided.hops):
            reports.left_out["calls"] += 1
            return
        acting = path[-1]
        if decided.outcome == "allowed":
            acting.allowed += counts
        else:
            acting.denied += counts
        # The last id is of the capability that the agent held. The presentation, good for one call, is not in `ids`.
        if ids := decided.ids:
            self._hold(acting, ids, decided.key, reports)
        if decided.spent:
            self._limit(decided.spent, reports)

    def _claimed(self, path: tuple[str, ...], reports: _Reports) -> list[_Seen] | None:
        """Add the unknown nodes of a path, as far as the bound permits; None if the path is impossible.

        The path ends before the first node that is not there.
        """
        unknown: dict[str, str] = {}
        for parent, child in pairwise(path):
            if child not in self.nodes:
                unknown.setdefault(child, parent)
        if not all(map(is_node_id, unknown)):
            return None
        for child, parent in islice(unknown.items(), reports.bounds.nodes - reports.nodes):
            self.nodes[child] = _Seen(child, unb64u(child), parent, is_claim=True)
            reports.nodes += 1
        return [self.nodes[id_] for id_ in takewhile(self.nodes.__contains__, path)]

    def _computed(self, nonces: tuple[str, ...], reports: _Reports) -> list[_Seen]:
        """Add the nodes along hops with these nonces; the path ends before the first one beyond the bound."""
        above = self.nodes[self.root]
        path = [above]
        for nonce in nonces:
            # A node that was computed once is not computed again.
            seen = above.below.get(nonce)
            if seen is None:
                key = node_below(above.key, nonce)
                id_ = b64u(key)
                if id_ not in self.nodes:
                    if reports.nodes == reports.bounds.nodes:
                        break
                    reports.nodes += 1
                seen = above.below[nonce] = self._place(id_, key, above.id)
            path.append(seen)
            above = seen
        return path

    def _place(self, id_: str, key: bytes, parent: str) -> _Seen:
        """The node where it was computed to be; this replaces a claim."""
        seen = self.nodes.get(id_)
        if seen is None:
            seen = self.nodes[id_] = _Seen(id_, key, parent)
        elif seen.is_claim:
            seen.parent, seen.is_claim = parent, False
        return seen

    @staticmethod
    def _label(below: Iterable[_Seen], hops: Iterable[str], reports: _Reports) -> None:
        """Label the nodes below the root on a path."""
        most = reports.bounds.labels
        for seen, label in zip(below, hops, strict=False):
            if label not in seen.labels:
                if len(seen.labels) < most or sum(one is reports for one in seen.labels.values()) < most:
                    seen.labels[label] = reports
                else:
                    reports.left_out["labels"] += 1

    def _hold(self, holder: _Seen, ids: tuple[str, ...], key: str | None, reports: _Reports) -> None:
        capability = ids[-1], reports.audience
        if capability not in holder.capabilities:
            if reports.capabilities == reports.bounds.capabilities:
                reports.left_out["capabilities"] += 1
                return
            reports.capabilities += 1
            holder.capabilities[capability] = ids
        if key is not None and capability not in self.holders:
            # A resource may write anything.
            with suppress(KeyProblem):
                self.holders[capability] = key, of_public(key)

    def _limit(self, limits: Iterable[BudgetLimit], reports: _Reports) -> None:
        held = self.logged_limits if reports is self.logged else self.limits
        # The tightest limit counts: every token of the chain must fit the counter.
        for one in limits:
            # The uses of one consent are no budget of the task.
            if not is_amount(one.limit) or is_uses_counter(one.counter):
                continue
            counter = one.counter, one.unit
            known = held.get(counter)
            if known is None and reports.budgets == reports.bounds.budgets:
                reports.left_out["budgets"] += 1
            else:
                reports.budgets += known is None
                limit = Decimal(one.limit)
                held[counter] = limit if known is None else min(limit, known)

    def tree(self, dead: Dead, counters: Counters, now: int) -> Tree:
        opened = self.opened
        limits = self.limits | self.logged_limits
        held: Mapping[tuple[str, str], Decimal] = counters([id_ for id_, _ in limits]) if limits else {}
        deaths = dead(self._keys())
        end = deaths.get(opened.task) or ("task_expired" if now >= opened.expires else None)
        ends_with = opened.task if end else opened.holder
        if end is None and self.holder_id is not None:
            end = deaths.get(self.holder_id)
        return Tree(
            opened.task,
            opened.root,
            opened.tenant,
            opened.purpose,
            self.at,
            opened.expires,
            self._drawn(deaths, end, ends_with if end else None),
            tuple(
                Budgeted(counter, unit, shown_amount(held.get((counter, unit), Decimal(0))), shown_amount(limit))
                for (counter, unit), limit in sorted(limits.items())
            ),
            tuple(one.omitted() for one in self.reports.values() if any(one.left_out.values())),
            opened.holder,
        )

    def _keys(self) -> Iterator[RevocationKey]:
        """The keys of all deaths that can kill anything of this task."""
        yield self.opened.task
        if self.holder_id is not None:
            yield self.holder_id
        yield from (id_ for _, id_ in self.holders.values())
        yield from (seen.key for seen in self.nodes.values())
        for mint in self.mints.values():
            yield from keys_of(mint.kid, mint.issued)
        held = {id_ for seen in self.nodes.values() for ids in seen.capabilities.values() for id_ in ids}
        yield from map(unb64u, held)

    def _drawn(self, deaths: Mapping[RevocationKey, str], end: str | None, ends_with: str | None) -> Node:
        """The root with all nodes below it. Without recursion, because a path may be deep."""
        below = self._below()
        drawn: dict[str, Node] = {}
        # What each node died of, and with which node; first what it inherits from the one above.
        died = {self.root: (end, ends_with)}
        order = [self.root]
        for id_ in order:
            seen = self.nodes[id_]
            dead, died_with = died[id_]
            # A resource only claims where this node is. If it dies with another one, nobody knows.
            if seen.is_claim and died_with not in {self.root, ends_with}:
                dead, died_with = None, None
            if own := deaths.get(seen.key):
                dead, died_with = own, id_
            died[id_] = dead, died_with
            if children := below.get(id_):
                died |= dict.fromkeys(children, (dead, died_with))
                order += children
        for id_ in reversed(order):
            seen, (dead, died_with), children = self.nodes[id_], died[id_], below.get(id_)
            held = [
                self._held(Held(capability, audience, id_, ids, dead), deaths)
                for (capability, audience), ids in seen.capabilities.items()
            ]
            drawn[id_] = Node(
                id_,
                self.opened.task,
                tuple(seen.labels),
                tuple(held),
                seen.allowed,
                seen.denied,
                dead,
                died_with,
                tuple(map(drawn.pop, children)) if children else (),
            )
        return drawn[self.root]

    def _below(self) -> dict[str, list[str]]:
        """The children of each node; what would be too deep is below the root."""
        below: dict[str, list[str]] = {}
        for id_, seen in self.nodes.items():
            if seen.parent is not None:
                below.setdefault(seen.parent, []).append(id_)
        waiting = [(self.root, 1)]
        while waiting:
            id_, depth = waiting.pop()
            # A claim that was computed later is deeper than it was claimed to be, with all that is claimed below it.
            if depth == DEEPEST and id_ in below:
                deeper, depth = below.pop(id_), 1
                below[self.root] += deeper
            else:
                deeper = below.get(id_, [])
            waiting.extend([(child, depth + 1) for child in deeper if child in below])
        return below

    def _held(self, seen: Held, deaths: Mapping[RevocationKey, str]) -> Held:
        mint = self.mints.get(seen.ids[0], _Mint())
        # A run-time grant also dies with the key and the instant of the token that asked for it.
        strength = self.mints.get(mint.asker[0], _Mint()) if mint.asker else _Mint()
        asker_keys = keys_of(strength.kid, strength.issued)
        chain = [(id_, seen.audience) for id_ in seen.ids] + [(id_, AUTHORITY) for id_ in mint.asker]
        holders = [self.holders[one] for one in chain if one in self.holders]
        holder, _ = self.holders.get((seen.id, seen.audience), (None, None))
        held = replace(seen, kid=mint.kid, issued=mint.issued, asker=mint.asker, asker_keys=asker_keys, holder=holder)
        keys: tuple[RevocationKey, ...] = (*map(unb64u, held.ids), *held.keys, *(id_ for _, id_ in holders))
        own = map(deaths.get, keys)
        return replace(held, dead=next(filter(None, own), held.dead))


def _calls(events: Iterable[Event]) -> Iterator[tuple[Event, bool]]:
    """The events, each with whether it is the last one about its call."""
    return ((event, event is group.last) for group in grouped(events) for event in group.events)


def _are_ids(ids: tuple[str, ...]) -> bool:
    # One id for what was minted, and one for each block.
    return not ids or (len(ids) <= MAX_BLOCKS + 1 and all(map(is_node_id, ids)))


def build(
    events: Iterable[Event],
    dead: Dead,
    *,
    counters: Counters,
    now: int,
    bounds: Bounds = OF_ONE_TASK,
    counting: bool = True,
) -> Tree | None:
    """Build the graph of one task from its events; None if none of them opened it. Unless `counting`, no call counts.

    `dead` returns the reasons of deaths. `counters` returns the amounts in counters. `now` is in Unix seconds.
    """
    task: _Task | None = None
    for event, is_last in _calls(events) if counting else zip(events, repeat(False)):
        if event.kind == TaskOpened.kind:
            task = _Task(event.read(TaskOpened), event.at, bounds)
        elif task is not None and event.kind == CapabilityMinted.kind:
            task.minted(event.read(CapabilityMinted), event.at)
        elif task is not None and event.kind == "decision":
            # Resources write decisions, so one that cannot be read is skipped. The other events are the authority's
            # own: if one of these cannot be read, the log is broken.
            decided = event.read_if(_Decided)
            if decided is not None:
                task.decided(decided, counts=is_last)
    return None if task is None else task.tree(dead, counters, now)
