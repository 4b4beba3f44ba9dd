"""What cannot be true together in a proof, beyond single decisions: mintings, times, and the logs beside each other."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from capx.crypto.base64url import is_bytes, unb64u
from capx.crypto.ed25519 import public_text
from capx.proof.chains import BadChain, Chains, ProvenChain, ProvenPresentation
from capx.proof.recorded import DECISION, LoggedDecision, Recorded
from capx.proof.sources import CheckedSource
from capx.store.events import (
    TASK_ENDS,
    ApprovalMade,
    CapabilityMinted,
    RequestApproved,
    RequestDenied,
    RequestMade,
    Revoked,
    TaskOpened,
)
from capx.store.log import Event
from capx.tokens.binding import OPEN_WINDOWS
from capx.tokens.lineage import caveats_of
from capx.tokens.uses_counter import is_uses_counter
from capx_caveats import DEFAULT, Root, Step


def mint_faults(opened: TaskOpened, minted: CapabilityMinted, chain: ProvenChain) -> Iterator[str]:
    """Say what of a minted capability is not what the task was opened with, or the event says."""
    lineage = chain.lineage
    if chain.ids != minted.ids or chain.identifier.audience != minted.audience or chain.identifier.kid != minted.kid:
        yield "has another chain than its ids, audience or root key say"
    for name in ("task", "root", "tenant", "intent"):
        if getattr(lineage, name) != getattr(opened, name):
            yield f"claims another {name} than the task was opened with"
    if lineage.expires > opened.expires:
        yield "lives longer than the task"
    holder = public_text(lineage.keys[0]) if lineage.keys else None
    # What is granted at run time names the key of the agent that asked.
    if minted.request is None and holder != opened.holder:
        yield "names another first holder than the task"
    if minted.request is not None and (holder is None) != (opened.holder is None):
        yield "was granted without the key that the task demands"
    if len(lineage.hops) != len(_steps(chain)):
        yield "has a delegation behind the block that the authority wrote"
    if minted.request is None and lineage.hops:
        yield "was minted by hand at the node of an agent that nobody delegated to"
    if minted.request is None and any(is_uses_counter(one.counter) for one in lineage.allotments):
        yield "was minted by hand with the uses of a request"


def _steps(chain: ProvenChain) -> tuple[Step, ...]:
    """The path along which a capability was granted."""
    roots = [one for one in caveats_of(chain.blocks[0], DEFAULT) if isinstance(one, Root)]
    return roots[0].steps if roots else ()


_ENDS = frozenset(fact.kind for fact in TASK_ENDS.values())
_OF_LIVING = frozenset(
    {CapabilityMinted.kind, *(fact.kind for fact in (RequestMade, RequestApproved, RequestDenied, ApprovalMade))}
)


def minted_twice(events: Iterable[Event]) -> Iterator[str]:
    """Say which grants of a request cannot all have been made: the same one twice in a round, or one too early.

    Asked again, the authority gives the same grant. It makes another one if the root key of the first is gone, if the
    policy makes another block, or if people were asked again.
    """
    rounds: dict[str, int] = {}
    made = dict[tuple[str, int], tuple[str, object]]()
    for event in events:
        if event.kind not in {RequestMade.kind, CapabilityMinted.kind}:
            continue
        said = event.read(RequestMade) if event.kind == RequestMade.kind else event.read(CapabilityMinted)
        if said.request is None:
            continue
        where, number = f"event {event.position} is about request {said.request}", said.round or 0
        if not 1 <= number <= rounds.get(said.request, 0) + 1:
            yield f"{where}, and of a round that cannot follow the one before"
        rounds[said.request] = max(number, rounds.get(said.request, 0))
        if isinstance(said, RequestMade):
            made.pop((said.request, number), None)
            continue
        grant = said.kid, None if said.chain is None else said.chain.blocks[:1]
        if made.get((said.request, number)) == grant:
            yield f"{where}, and its round has been granted already under this root key"
        made[said.request, number] = grant


def after_end(events: Iterable[Event], chains: Chains) -> Iterator[str]:
    """Say what was asked, answered or minted behind the end of the task, or of what it stands on, in the log."""
    over, dead = False, set[str | bytes | None]()
    for event in events:
        where = f"event {event.position}"
        if event.kind in _ENDS:
            over = True
        elif event.kind == Revoked.kind:
            dead.update(event.read(Revoked).revocation_keys)
        elif over and event.kind in _OF_LIVING:
            yield f"{where} stands behind the end of the task"
        elif event.kind == CapabilityMinted.kind:
            minted = event.read(CapabilityMinted)
            chain = chains.get(minted.digest)
            keys = set[object](() if chain is None else chain.lineage.revocation_keys)
            if not dead.isdisjoint({*keys, *(unb64u(one) for one in minted.asker if is_bytes(one, 16))}):
                yield f"{where} mints what stands on something that was revoked before"


def misdated(source: CheckedSource, tolerance: int) -> Iterator[str]:
    """Say which events of a log cannot be of the time that they state, however clocks differ by `tolerance` seconds.

    An authority writes its own events as they happen, and decisions as they arrive. What a witness had cosigned existed
    then.
    """
    latest = 0
    seen_by = min((one.at for one in source.witnesses), default=None)
    for event in source.events:
        where = f"event {event.position} of {source.origin}"
        if event.kind != DECISION:
            if event.at + tolerance < latest:
                yield f"{where} is dated {latest - event.at} s before an event that stands before it"
            latest = max(latest, event.at)
        elif event.at != _decided_at(event):
            yield f"{where} is dated otherwise than the decision in it"
        if event.at > source.at + tolerance:
            yield f"{where} is dated {event.at - source.at} s after its log says that this is all"
        if seen_by is not None and event.at > seen_by + tolerance:
            yield f"{where} is dated {event.at - seen_by} s after a witness had seen it"


class _Dated(Struct):
    at: int


def _decided_at(event: Event) -> int:
    found = event.read_if(_Dated)
    # One that cannot be read counts as unreadable elsewhere.
    return event.at if found is None else found.at


def log_conflicts(decisions: Sequence[LoggedDecision]) -> Iterator[str]:
    """Say which decisions stand differently in two logs, twice in one, or in a wrong one."""
    for one in decisions:
        recorded, logs = one.recorded, one.logs
        if len({each.event.body for each in logs}) > 1:
            yield f"{recorded.name} is told differently in its logs"
        for each in logs:
            if not each.is_authority and _audience_of(each.origin) != recorded.audience:
                yield f"{recorded.name} is in the log of another resource, {each.origin}"
        if len({each.origin for each in logs}) < len(logs):
            yield f"{recorded.name} stands in one log twice"


def in_one_log(decisions: Sequence[LoggedDecision], sources: Iterable[CheckedSource]) -> Iterator[str]:
    """Say how many decisions of a resource are in one log only, if it has a ledger here and reported, too.

    A resource that begins to keep a ledger reports no more. But an authority may also have made decisions up, or left
    some out.
    """
    with_ledger = {_audience_of(source.origin) for source in sources if not source.is_authority}
    reported: Counter[str] = Counter()
    for one in decisions:
        recorded = one.recorded
        if recorded.audience in with_ledger:
            reported[recorded.audience] += all(each.is_authority for each in one.logs)
    for audience, count in reported.items():
        if count:
            yield (
                f"{count} decisions of {audience} in its ledger: they are in the authority's log only, from "
                "before it kept one, or made up"
            )


def _audience_of(origin: str) -> str:
    """The audience that the origin of a ledger names: capx-ledger/AUDIENCE/R."""
    return origin.split("/")[1] if origin.count("/") >= 2 else ""


def presented_twice(decisions: Iterable[LoggedDecision], chains: Chains) -> Iterator[str]:
    """Say which presentations were used twice: allowed at two audiences, or long apart. One is for one call.

    One of a tool call is for one action; a request of HTTP may need several.
    """
    allowed: defaultdict[str, list[Recorded]] = defaultdict(list)
    for one in decisions:
        if one.recorded.is_allowed and one.recorded.presentation is not None:
            allowed[one.recorded.presentation].append(one.recorded)
    for presentation, uses in allowed.items():
        times = [one.at for one in uses]
        if len({one.audience for one in uses}) > 1 or max(times) - min(times) > OPEN_WINDOWS:
            yield f"presentation {presentation} was allowed twice"
        elif len({one.action for one in uses}) > 1 and any(_is_of_tool(one, chains) for one in uses):
            yield f"presentation {presentation} was allowed for two actions"


def _is_of_tool(recorded: Recorded, chains: Chains) -> bool:
    chain = chains.get(recorded.digest)
    if chain is None or recorded.presented is None:
        return False
    try:
        return ProvenPresentation.read(chain, recorded.presented).profile == "tool"
    except BadChain:
        return False
