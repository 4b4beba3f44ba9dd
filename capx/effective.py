"""What a token can still allow: the intersection over all its hops, in plain words.

Laws: it is worked out from what the token says, without a key, so nothing here is verified. A call that is not
described here would be refused; whether one that is would be allowed, only a verifier knows, for it sees deaths.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from msgspec import UNSET, Struct, to_builtins

from capx import wire
from capx.capability import Token
from capx.decision import sentence, whose
from capx.lineage import Demand, Lineage, Refused, read
from capx.overlap import constraint_in_common, entries_in_common, entry_in_common, simplest
from capx_caveats import (
    DEFAULT,
    Allow,
    Anything,
    Caveat,
    Entry,
    Expires,
    Hop,
    MaxHops,
    NotBefore,
    NotUnderstood,
    Pair,
    Presented,
    Tenant,
    Vocabulary,
    Where,
    shown_instant,
)

C = TypeVar("C", bound=Caveat)

_PAIRS = 4096
"""How many pairs of entries are compared for one more allowlist; a longer one is shown beside the others."""


class Effective(Struct, frozen=True, kw_only=True):
    """What is left of a token; times in Unix seconds, `hops` the labels of those it was delegated to.

    `entries` are what may be done, `also` further demands on each call in plain words, `until` the tasks whose end
    ends it. `hops_left` is None when delegation is not limited. If `why_nothing` is not empty, it allows nothing.
    """

    audience: str
    task: str | None = None
    tenant: str | None = None
    hops: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    also: tuple[str, ...] = ()
    not_before: int | None = None
    expires: int | None = None
    until: tuple[str, ...] = ()
    hops_left: int | None = None
    why_nothing: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; instants as RFC 3339."""
        return {
            "audience": self.audience,
            "task": self.task,
            "tenant": self.tenant,
            "for": list(self.hops),
            "may": [] if self.why_nothing else [_as_json(entry) for entry in self.entries],
            "also": list(self.also),
            "from": None if self.not_before is None else shown_instant(self.not_before),
            "until": None if self.expires is None else shown_instant(self.expires),
            "until_completed": list(self.until),
            "hops_left": self.hops_left,
            "why_nothing": list(self.why_nothing),
        }


def effective(token: Token, now: int, vocabulary: Vocabulary = DEFAULT) -> Effective:
    """What this token can still allow at `now` (Unix seconds), as far as it says itself."""
    frame = wire.decode(token.text)
    blocks = frame.blocks[:-1] if _presented(token.caveats[-1:]) else frame.blocks
    try:
        lineage = read(frame.identifier_bytes, blocks, vocabulary, frozenset())
    except Refused as problem:
        reason = sentence(problem.refusal)
        return Effective(audience=token.audience, task=token.task, hops=token.hops, why_nothing=(reason,))
    entries, beside, disjoint = _allowed(lineage.demands)
    wheres = [demand for demand in lineage.demands if isinstance(demand.caveat, Where)]
    left = tuple(entry for entry in map(_judging(wheres), entries) if entry is not None)
    not_before = max((caveat.at for caveat in _all(lineage, NotBefore)), default=None)
    return Effective(
        audience=token.audience,
        task=lineage.task,
        tenant=next((caveat.name for caveat in _all(lineage, Tenant)), None),
        hops=lineage.hops,
        entries=left,
        also=(*_demanded(wheres, left), *beside, *_others(lineage)),
        not_before=not_before,
        expires=lineage.expires,
        until=tuple(sorted(key for key in lineage.mortal if isinstance(key, str))),
        hops_left=hops_left(token.caveats),
        why_nothing=(
            *disjoint,
            *(_contradictory(wheres) or (_starved(wheres) if entries and not left else ())),
            *_two_tenants(lineage.demands),
            *_no_time(lineage.expires, not_before, now),
            *(sentence(refusal) for refusal in lineage.standing),
            *(_whose(demand) for demand in lineage.demands if isinstance(demand.caveat, NotUnderstood)),
        ),
    )


def hops_left(blocks: tuple[tuple[Caveat, ...], ...]) -> int | None:
    """How often a token with these blocks can still be delegated; None without a limit, negative beyond it."""
    limits: list[int] = []
    after = 0
    for block in reversed(blocks):
        limits.extend(caveat.n - after for caveat in block if isinstance(caveat, MaxHops))
        after += bool(block) and isinstance(block[0], Hop)
    return min(limits, default=None)


def _allowed(demands: Iterable[Demand]) -> tuple[tuple[Entry, ...], list[str], list[str]]:
    """The entries in common, the lists that were too long to combine, and why nothing is in common."""
    entries: tuple[Entry, ...] | None = None
    beside: list[str] = []
    for demand in demands:
        caveat = demand.caveat
        if not isinstance(caveat, Allow):
            continue
        if entries is None:
            found = simplest(caveat.entries)
        elif len(entries) * len(caveat.entries) > _PAIRS:
            beside.append(_whose(demand))
            continue
        else:
            found = entries_in_common(entries, caveat.entries)
        if not found:
            above = "" if entries is None else "; above it was only " + "; ".join(entry.sentence() for entry in entries)
            return (), beside, [f"nothing is allowed by all: {_whose(demand)}{above}"]
        entries = found
    return entries or (), beside, []


def _judging(wheres: list[Demand]) -> Callable[[Entry], Entry | None]:
    """Fold what every call must satisfy into an entry that names its arguments."""
    rules = [
        Pair(demand.caveat.attribute.removeprefix("args."), demand.caveat.constraint)
        for demand in wheres
        if isinstance(demand.caveat, Where) and demand.caveat.attribute.startswith("args.")
    ]

    def fold(entry: Entry) -> Entry | None:
        left: Entry | None = entry
        for rule in rules:
            if left is not None and left.args is not UNSET and rule.name != "*":
                left = entry_in_common(left, Entry(left.pattern, (rule, Pair("*", Anything()))))
        return left

    return fold


def _demanded(wheres: list[Demand], entries: tuple[Entry, ...]) -> list[str]:
    """What the entries do not say already."""
    free = any(entry.args is UNSET for entry in entries)
    return [
        demand.caveat.sentence()
        for demand in wheres
        if isinstance(demand.caveat, Where) and (free or not demand.caveat.attribute.startswith("args."))
    ]


def _starved(wheres: list[Demand]) -> list[str]:
    return ["no allowed action can satisfy what every call must: " + "; ".join(map(_whose, wheres))]


def _contradictory(wheres: list[Demand]) -> list[str]:
    by_attribute: dict[str, list[Demand]] = {}
    for demand in wheres:
        if isinstance(demand.caveat, Where):
            by_attribute.setdefault(demand.caveat.attribute, []).append(demand)
    return [
        "nothing is all of this: " + "; ".join(map(_whose, alike))
        for alike in by_attribute.values()
        if constraint_in_common(*(d.caveat.constraint for d in alike if isinstance(d.caveat, Where))) is None
    ]


def _others(lineage: Lineage) -> list[str]:
    known = Allow | Where | Expires | NotBefore | Tenant | NotUnderstood
    return [demand.caveat.sentence() for demand in lineage.demands if not isinstance(demand.caveat, known)]


def _all(lineage: Lineage, kind: type[C]) -> list[C]:
    return [demand.caveat for demand in lineage.demands if isinstance(demand.caveat, kind)]


def _two_tenants(demands: Iterable[Demand]) -> list[str]:
    named = [demand for demand in demands if isinstance(demand.caveat, Tenant)]
    other = [demand for demand in named if demand.caveat != named[0].caveat]
    return [f"no call has two tenants: {_whose(named[0])}; {_whose(other[0])}"] if other else []


def _no_time(expires: int, not_before: int | None, now: int) -> list[str]:
    if not_before is not None and not_before >= expires:
        return [f"no time is left: not before {shown_instant(not_before)}, and until {shown_instant(expires)}"]
    return [f"expired at {shown_instant(expires)}"] if now >= expires else []


def _presented(last: tuple[tuple[Caveat, ...], ...]) -> bool:
    return any(isinstance(caveat, Presented) for block in last for caveat in block)


def _whose(demand: Demand) -> str:
    name = whose(demand.hop, demand.name)
    words = demand.caveat.sentence()
    return f"{name} says {words}" if isinstance(demand.caveat, Tenant | Where) else f"{name} {words}"


def _as_json(entry: Entry) -> dict[str, Any]:
    value: dict[str, Any] = {"action": entry.pattern, "words": entry.sentence(), "args": None}
    if entry.args is not UNSET:
        value["args"] = {pair.name: to_builtins(pair.constraint.wire()) for pair in entry.args}
    return value
