"""Finds allowed calls that their chains and approvals do not permit. It reads public bytes only.

Laws: a call is judged only by what a reader has: the action, the time, and the arguments if they are disclosed. What
needs facts of the service, such as its attributes, is the service's word. Where the reader cannot know which arguments
the service has filled in, it takes the reading by which more calls are allowed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from capx.proof.chains import Chains, ProvenChain
from capx.proof.recorded import LoggedDecision, Recorded
from capx.store.events import GivenBack
from capx.store.log import Event
from capx.tokens.lineage import AUTHORITY, Allotment
from capx_caveats import CALLS, Allow, Call, Caveat, Facts, InvalidCaveat, NotBefore, Where


def unlawful(recorded: Recorded, chain: ProvenChain, tolerance: int) -> Iterator[str]:
    """Say why a call must not have been allowed with this chain, whatever its arguments were."""
    if recorded.action is not None and not chain.permits(recorded.action):
        yield f"was allowed, and its chain has no entry for {recorded.action}"
    if recorded.at >= chain.lineage.expires:
        yield "was allowed after its chain had expired"
    if recorded.at + tolerance < chain.lineage.issued:
        yield "was allowed before its chain was issued"
    for caveat in chain.lineage.caveats:
        if isinstance(caveat, NotBefore) and recorded.at < caveat.at:
            yield "was allowed before its chain becomes valid"
    for refusal in chain.lineage.standing:
        yield f"was allowed, and its chain {refusal.sentence}"
    if chain.is_keyed and recorded.key != chain.keys[-1]:
        yield "was allowed, and does not name the key of its holder"


def of_other_arguments(
    recorded: Recorded, caveats: Iterable[Caveat], args: Mapping[str, Any], filled: Iterable[str] | None
) -> bool:
    """Whether caveats deny a call with these arguments. `filled` are those that the service has filled in, if known."""
    unsent = {*args} if filled is None else {*filled}
    sent = {name: value for name, value in args.items() if name not in unsent}
    defaults = {name: value for name, value in args.items() if name in unsent}
    try:
        facts = Facts(Call(recorded.action or "", sent, defaults=defaults), recorded.at, 0.0)
    except InvalidCaveat:
        return True
    return any(one.refusal(facts) is not None for one in caveats if _is_of_arguments(one))


def _is_of_arguments(caveat: Caveat) -> bool:
    return isinstance(caveat, Allow) or (isinstance(caveat, Where) and caveat.attribute.startswith("args."))


def overspent(decisions: Iterable[LoggedDecision], chains: Chains, events: Iterable[Event]) -> Iterator[str]:
    """Say which budgets of calls, of chains and of approvals, were used more often than they say.

    A presentation pays once, however often it was judged, and what gave back has not paid. Tokens with different limits
    may share a counter: then the largest limit counts, because a call under it may come last. Each audience counts by
    itself, because it may have a meter of its own.
    """
    returned = {event.read(GivenBack).presentation for event in events if event.kind == GivenBack.kind}
    paid: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    limits: dict[tuple[str, str], Decimal] = {}
    for one in decisions:
        recorded = one.recorded
        # Asks at the authority itself cost nothing.
        presentation = recorded.presentation
        if (
            not recorded.is_allowed
            or recorded.audience == AUTHORITY
            or presentation is None
            or presentation in returned
        ):
            continue
        for name, limit in _call_limits(recorded, chains).items():
            counter = recorded.audience, name
            paid[counter].add(presentation)
            limits[counter] = max(limit, limits.get(counter, limit))
    for counter, presentations in paid.items():
        if len(presentations) > limits[counter]:
            audience, _ = counter
            yield (
                f"{len(presentations)} calls were allowed at {audience} on a budget or an approval of "
                f"{limits[counter]} calls"
            )


def _call_limits(recorded: Recorded, chains: Chains) -> dict[str, Decimal]:
    """The limit of each counter of calls that one call pays to: of several budgets the tightest."""
    found: dict[str, Decimal] = {}
    for allotment in _allotments(recorded, chains):
        if allotment.budget.unit == CALLS:
            limit = Decimal(allotment.budget.limit)
            found[allotment.counter] = min(limit, found.get(allotment.counter, limit))
    return found


def _allotments(recorded: Recorded, chains: Chains) -> Iterator[Allotment]:
    if (chain := chains.get(recorded.digest)) is not None:
        yield from chain.lineage.allotments
    for named in recorded.approvals:
        if (approval := chains.approvals.get(named.digest)) is not None:
            yield from approval.allotments
