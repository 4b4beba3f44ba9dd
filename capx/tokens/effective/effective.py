"""Effective authority: the calls that a token can still allow, as the intersection over all its hops.

Laws:

- There is no key here, so nothing is verified.
- A service denies every call that is not described here, unless it knows caveats that are unknown here.
- Only a verifier knows whether a call that is described here is allowed: it knows revocations and its own caveats.
- The work is bounded. A list that would take too long to combine is shown next to the others.
"""

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, TypeVar

from msgspec import UNSET, Struct, to_builtins

from capx.tokens.capability import Token
from capx.tokens.effective import may_ask
from capx.tokens.effective.intersection import (
    constraint_in_common,
    entries_in_common,
    entry_in_common,
    simplest,
    size,
    work,
)
from capx.tokens.lineage import AUTHORITY, Allotment, Demand, Lineage, TokenRefused, caveats_of, unverified_lineage
from capx.tokens.revocation_key import is_lasting
from capx.tokens.wording import sentence, whose
from capx_caveats import (
    CALLS,
    DEFAULT,
    OTHERS,
    Allow,
    AnyConstraint,
    Anything,
    Caveat,
    Entry,
    Expires,
    Hop,
    MaxHops,
    NotBefore,
    NotUnderstood,
    Pair,
    Refusal,
    Tenant,
    Vocabulary,
    Where,
    shown_instant,
)

C = TypeVar("C", bound=Caveat)

_AT_ONCE = 2**18
"""About how many bytes of entries may be written to combine one more allowlist, or the `where` caveats."""
_IN_ALL = 2**20
"""The same for all of a token. It is enough for many hops that each name few actions."""


class Work:
    """The bytes of entries, about, that may still be written to combine the lists of one token, or of several."""

    def __init__(self, left: int = _IN_ALL) -> None:
        self.left = left

    def spend(self, needed: int) -> bool:
        """Spend this much; whether there was that much left, and it is not too much at once."""
        if needed > min(self.left, _AT_ONCE):
            return False
        self.left -= needed
        return True


_UNKNOWN_GRANT = "its grant has caveats that are unknown here: only the service that defines them can judge them"


class Effective(Struct, frozen=True, kw_only=True):
    """The authority that a token still has, not verified; times in Unix seconds.

    `hops` are the labels of the agents it was delegated to. `entries` are the allowed actions, `also` further
    conditions on each call in words, `until` the tasks whose end ends the token. `hops_left` is None when delegation is
    not limited. If `why_nothing` is not empty, the token allows nothing. But if `untold` is set, its grant has caveats
    that are unknown here, and only the service that defines them knows what it allows.
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
    untold: bool = False

    def sentences(self) -> tuple[str, ...]:
        """What each entry allows, in words; empty for a token that allows nothing."""
        entries = () if self.why_nothing else self.entries
        own = self.audience == AUTHORITY
        return tuple((own and may_ask.sentence(entry)) or entry.sentence() for entry in entries)

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values; times as RFC 3339."""
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
            "untold": self.untold,
        }


def effective(token: Token, now: int, vocabulary: Vocabulary = DEFAULT) -> Effective:
    """The authority that this token still has at `now` (Unix seconds), read without a key."""
    try:
        lineage = unverified_lineage(token, vocabulary)
    except TokenRefused as problem:
        untold = grant_untold(problem.refusal, token, vocabulary)
        reason = _UNKNOWN_GRANT if untold else sentence(problem.refusal)
        return Effective(
            audience=token.audience, task=token.task, hops=token.hops, why_nothing=(reason,), untold=untold
        )
    return effective_of(lineage, token.audience, token.caveats, now)


def effective_of(
    lineage: Lineage, audience: str, blocks: tuple[tuple[Caveat, ...], ...], now: int, bound: Work | None = None
) -> Effective:
    """The authority that a chain with this lineage has at `now`; `blocks` are the caveats of each of its blocks."""
    bound = Work() if bound is None else bound
    entries, beside, disjoint = _allowed(lineage.demands, bound)
    wheres = [demand for demand in lineage.demands if type(demand.caveat) is Where]
    rules, contradictory = _rules(wheres)
    left, said = _judged(entries, rules, bound)
    not_before = max((caveat.at for caveat in _all(lineage, NotBefore)), default=None)
    return Effective(
        audience=audience,
        task=lineage.task,
        tenant=next((caveat.name for caveat in _all(lineage, Tenant)), None),
        hops=lineage.hops,
        entries=left,
        also=(*_demanded(wheres, said), *beside, *_others(lineage), *_approvals(lineage)),
        not_before=not_before,
        expires=lineage.expires,
        until=tuple(sorted(key for key in lineage.revocation_keys if isinstance(key, str) and not is_lasting(key))),
        hops_left=hops_left(blocks),
        why_nothing=tuple(
            dict.fromkeys(
                (
                    *disjoint,
                    *(contradictory or (_starved(wheres) if entries and not left else ())),
                    *_no_tenant(lineage),
                    *_no_time(lineage.expires, not_before, now),
                    *_no_calls(lineage.allotments),
                    *(sentence(refusal) for refusal in (*lineage.unsigned, *lineage.standing, *_strange(lineage))),
                    *_foreign(lineage.demands),
                )
            )
        ),
    )


def _approvals(lineage: Lineage) -> list[str]:
    """The demands for an approval."""
    caveats = (one.caveat for one in lineage.undischarged)
    return list(dict.fromkeys(caveat.sentence() for caveat in caveats if caveat is not None))


def _strange(lineage: Lineage) -> list[Refusal]:
    """The refusals of third-party caveats that are no demand for an approval."""
    return [one.refusal() for one in lineage.undischarged if one.caveat is None]


def grant_untold(refusal: Refusal, token: Token, vocabulary: Vocabulary) -> bool:
    """Whether a grant lacks its allowlist and has an unknown caveat: that caveat may be the allowlist."""
    lacks = refusal.code == "incomplete_authority" and refusal.wanted == "allow"
    return lacks and any(
        isinstance(caveat, NotUnderstood) and not of_another_version(caveat)
        for caveat in caveats_of(token.blocks[0], vocabulary)
    )


def of_another_version(caveat: Caveat) -> bool:
    """Whether no service with this version of capx can read a caveat; a service defines only names with a dot."""
    found = _BUILT_IN.match(caveat.what) if isinstance(caveat, NotUnderstood) else None
    return found is not None and found[1] not in _CONSTRAIN


def hops_left(blocks: tuple[tuple[Caveat, ...], ...]) -> int | None:
    """How often a token with these blocks can be delegated further; None without a limit, negative beyond it."""
    limits: list[int] = []
    after = 0
    for block in reversed(blocks):
        limits.extend(caveat.n - after for caveat in block if isinstance(caveat, MaxHops))
        after += bool(block) and isinstance(block[0], Hop)
    return min(limits, default=None)


def _allowed(demands: Iterable[Demand], bound: Work) -> tuple[tuple[Entry, ...], list[str], list[str]]:
    """The common entries, the lists that were too long to combine, and the reason if there are no common entries."""
    entries: tuple[Entry, ...] | None = None
    beside: list[str] = []
    written = 0
    for demand in demands:
        caveat = demand.caveat
        if type(caveat) is not Allow:
            continue
        if entries is None:
            found = simplest(caveat.entries)
        elif not bound.spend(work(written, len(entries), caveat.entries)):
            beside.append(_whose(demand))
            continue
        else:
            found = entries_in_common(entries, caveat.entries)
        if not found:
            above = ""
            if entries is not None:
                above = "; the token above it allows only " + "; ".join(entry.sentence() for entry in entries)
            return (), beside, [f"no action is left: {_whose(demand)}{above}"]
        entries, written = found, size(found)
    return entries or (), beside, []


def _rules(wheres: list[Demand]) -> tuple[dict[str, AnyConstraint], list[str]]:
    """The rules for every call, one for each attribute, and those that no value can satisfy."""
    alike: dict[str, list[tuple[Demand, Where]]] = {}
    for demand in wheres:
        if type(demand.caveat) is Where:
            alike.setdefault(demand.caveat.attribute, []).append((demand, demand.caveat))
    rules: dict[str, AnyConstraint] = {}
    contradictory: list[str] = []
    for attribute, demanded in alike.items():
        rule = constraint_in_common(*(where.constraint for _, where in demanded))
        if rule is None:
            contradictory.append(
                "no value satisfies all of: " + "; ".join(_each_once((demand for demand, _ in demanded), _whose))
            )
        else:
            rules[attribute] = rule
    return rules, contradictory


def _judged(
    entries: tuple[Entry, ...], rules: dict[str, AnyConstraint], bound: Work
) -> tuple[tuple[Entry, ...], frozenset[str]]:
    """The entries, with the rules merged into those that name arguments, and the attributes covered by that."""
    # A rule for an argument whose name is "*" cannot be merged: in an entry "*" means all arguments without a name.
    said = frozenset(rule for rule in rules if rule.startswith("args.") and rule != "args.*")
    judging = (*(Pair(rule[5:], rules[rule]) for rule in rules if rule in said), Pair(OTHERS, Anything()))
    closed = [entry for entry in entries if entry.args is not UNSET]
    if not said or not closed:
        return entries, frozenset()
    if not bound.spend(work(size(closed), len(closed), (Entry(closed[0].pattern, judging),))):
        return entries, frozenset()
    folded = (
        entry if entry.args is UNSET else entry_in_common(entry, Entry(entry.pattern, judging)) for entry in entries
    )
    left = tuple(entry for entry in folded if entry is not None)
    return left, said if len(closed) == len(entries) else frozenset()


def _demanded(wheres: list[Demand], said: frozenset[str]) -> list[str]:
    """The rules that the entries do not cover."""
    uncovered = (demand for demand in wheres if type(demand.caveat) is Where and demand.caveat.attribute not in said)
    return _each_once(uncovered, _in_words)


def _starved(wheres: list[Demand]) -> list[str]:
    return ["no allowed action can satisfy the rules for every call: " + "; ".join(_each_once(wheres, _whose))]


_BUILT_IN = re.compile(r'\["([A-Za-z0-9_-]+)"')
"""The beginning of a caveat whose name has no dot."""
_CONSTRAIN = frozenset({"allow", "where"})
"""These may hold a constraint that a service defines."""
_KNOWN = frozenset({Allow, Where, Expires, NotBefore, Tenant})
"""Compared by exact type: a service's own caveat that is derived from one of these may mean more or less."""


def _others(lineage: Lineage) -> list[str]:
    others = (demand for demand in lineage.demands if type(demand.caveat) not in _KNOWN)
    return _each_once((demand for demand in others if not of_another_version(demand.caveat)), _in_words)


def _in_words(demand: Demand) -> str:
    if not isinstance(demand.caveat, NotUnderstood):
        return demand.caveat.sentence()
    words = f"unknown here, only the service that defines it can judge it: {demand.caveat.what}"
    return f"a caveat of {whose(demand.hop, demand.name)} is satisfied ({words})"


def _all(lineage: Lineage, kind: type[C]) -> list[C]:
    caveats = (demand.caveat for demand in lineage.demands)
    return [caveat for caveat in caveats if isinstance(caveat, kind) and type(caveat) in _KNOWN]


def _no_tenant(lineage: Lineage) -> list[str]:
    named = [demand for demand in lineage.demands if type(demand.caveat) is Tenant]
    if named and lineage.tenant is None:
        return [f"no call can have a tenant, because the task's grant names none: {_whose(named[0])}"]
    other = [demand for demand in named if demand.caveat != named[0].caveat]
    return [f"no call has two tenants: {_whose(named[0])}; {_whose(other[0])}"] if other else []


def _no_time(expires: int, not_before: int | None, now: int) -> list[str]:
    if not_before is not None and not_before >= expires:
        return [f"no time is left: not before {shown_instant(not_before)}, and until {shown_instant(expires)}"]
    return [f"expired at {shown_instant(expires)}"] if now >= expires else []


def _no_calls(allotments: Iterable[Allotment]) -> list[str]:
    """The budgets that not even one call fits into."""
    return [
        f"no call fits into a budget: {whose(one.hop, one.name)} allows {one.budget.sentence()}"
        for one in allotments
        if one.budget.unit == CALLS and one.budget.exhausted(Decimal(0), Decimal(1))
    ]


def _foreign(demands: Iterable[Demand]) -> list[str]:
    return [
        f"every service with this version of capx denies all calls: {whose(demand.hop, demand.name)} has a caveat "
        f"that this version does not know, {demand.caveat.what}"
        for demand in demands
        if isinstance(demand.caveat, NotUnderstood) and of_another_version(demand.caveat)
    ]


def _each_once(demands: Iterable[Demand], words: Callable[[Demand], str]) -> list[str]:
    """The words of each demand, without repetitions; but two that differ stay two, even if they read alike."""
    said: list[str] = []
    # By equality: a service's own caveat may hold what has no hash.
    read_alike: dict[str, list[Caveat]] = {}
    for demand in demands:
        told = words(demand)
        others = read_alike.setdefault(told, [])
        if demand.caveat not in others:
            others.append(demand.caveat)
            said.append(told)
    return said


def _whose(demand: Demand) -> str:
    name = whose(demand.hop, demand.name)
    words = demand.caveat.sentence()
    return f"{name} says {words}" if isinstance(demand.caveat, Tenant | Where) else f"{name} {words}"


def _as_json(entry: Entry) -> dict[str, Any]:
    value: dict[str, Any] = {"action": entry.pattern, "words": entry.sentence(), "args": None}
    if entry.args is not UNSET:
        value["args"] = {pair.name: to_builtins(pair.constraint.wire()) for pair in entry.args}
    return value
