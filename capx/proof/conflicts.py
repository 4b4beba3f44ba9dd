"""What cannot be true together in a proof, beyond single decisions: mintings, times, and the logs beside each other."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from capx.crypto.ed25519 import public_text
from capx.proof.chains import ProvenChain
from capx.proof.decisions import DECISION, InLog
from capx.proof.sources import CheckedSource
from capx.store.events import CapabilityMinted, TaskOpened
from capx.tokens.binding import OPEN_WINDOWS


def misfits(opened: TaskOpened, minted: CapabilityMinted, chain: ProvenChain) -> Iterator[str]:
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
        if seen_by is not None and event.at > seen_by + tolerance:
            yield f"{where} is dated {event.at - seen_by} s after a witness had seen it"


def told_differently(grouped: Sequence[Sequence[InLog]]) -> Iterator[str]:
    """Say which decisions stand differently in two logs, in a wrong one, or not where they must."""
    reported = {one.recorded.audience for found in grouped for one in found if one.is_authority and one.recorded}
    for found in grouped:
        recorded = found[0].recorded
        if recorded is None:
            continue
        if len({one.event.body for one in found}) > 1:
            yield f"decision {recorded.id} of {recorded.audience} is told differently in its logs"
        if recorded.audience in reported and not any(one.is_authority for one in found):
            yield f"decision {recorded.id} of {recorded.audience} is in its ledger, and not in the authority's log"
        for one in found:
            if not one.is_authority and one.origin.split("/")[1:2] != [recorded.audience]:
                yield f"decision {recorded.id} of {recorded.audience} is in the log of another resource, {one.origin}"
        if len({one.origin for one in found}) < len(found):
            yield f"decision {recorded.id} of {recorded.audience} stands in one log twice"


def presented_twice(grouped: Iterable[Sequence[InLog]]) -> Iterator[str]:
    """Say which presentations were used twice: allowed at two audiences, or long apart. One is for one call."""
    allowed: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for found in grouped:
        recorded = found[0].recorded
        if recorded is not None and recorded.outcome == "allowed" and recorded.presentation is not None:
            allowed[recorded.presentation].append((recorded.audience, recorded.at))
    for presentation, uses in allowed.items():
        times = [at for _, at in uses]
        if len({audience for audience, _ in uses}) > 1 or max(times) - min(times) > OPEN_WINDOWS:
            yield f"presentation {presentation} was allowed twice"
