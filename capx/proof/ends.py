"""When authority ended, and the calls that were allowed too long after it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from capx.proof.decisions import Chains, InLog
from capx.proof.report import ProvenEnd
from capx.store.events import TASK_ENDS, Restored, Revoked, TaskOpened
from capx.store.log import Event
from capx.tokens.revocation_key import RevocationKey, instant_of, kid_of
from capx_caveats import shown_instant

_STATES: Final = {fact.kind: state for state, fact in TASK_ENDS.items()}


def ends_in(events: Iterable[Event], opened: TaskOpened) -> Iterator[ProvenEnd]:
    """Return what ended authority in a task, in the order of the log; at last, that it expires."""
    for event in events:
        if event.kind in _STATES:
            yield ProvenEnd(event.position, event.at, f"the task is {_STATES[event.kind]}")
        elif event.kind == Revoked.kind:
            yield ProvenEnd(event.position, event.at, _revoked(event.read(Revoked)))
        elif event.kind == Restored.kind:
            yield ProvenEnd(event.position, event.at, f"{_issued(event.read(Restored).issued)}: a restoration")
    yield ProvenEnd(0, opened.expires, "the task expires at the latest")


def allowed_after(
    events: Iterable[Event], opened_at: int, grouped: Iterable[Sequence[InLog]], chains: Chains, max_staleness: int
) -> Iterator[str]:
    """Say which calls were allowed more than `max_staleness` seconds after something ended that they stood on."""
    deaths = [(event.at, key) for event in events for key in _killed(event)]
    for found in grouped:
        recorded = found[0].recorded
        if recorded is None or recorded.outcome != "allowed":
            continue
        chain = chains.chains.get(recorded.digest or "")
        keys = set[RevocationKey]() if chain is None else set(chain.lineage.revocation_keys)
        keys.update(() if recorded.task is None else (recorded.task,))
        issued = opened_at if chain is None else chain.lineage.issued
        dead = [
            at
            for at, key in deaths
            if at + max_staleness < recorded.at
            and (key in keys or (isinstance(key, str) and (instant_of(key) or -1) >= issued))
        ]
        if dead:
            late = recorded.at - min(dead)
            yield f"decision {recorded.id} of {recorded.audience} was allowed {late} s after its authority had ended"


def _killed(event: Event) -> Sequence[RevocationKey]:
    if event.kind in _STATES:
        return (str(event.facts().get("task")),)
    if event.kind == Restored.kind:
        return (f"issued:{event.read(Restored).issued}",)
    if event.kind == Revoked.kind:
        return [key for key in event.read(Revoked).revocation_keys if key is not None]
    return ()


def _revoked(revoked: Revoked) -> str:
    by = f", by the agent at node {revoked.by}" if revoked.by else ""
    key = revoked.revocation_key
    if revoked.key is not None:
        return f"the agent's key {revoked.key} is dead{by}"
    if isinstance(key, str) and (kid := kid_of(key)) is not None:
        return f"all that was minted under the root key {kid} is dead{by}"
    if isinstance(key, str):
        return f"{_issued(instant_of(key) or 0)}{by}"
    what = "the root of the task" if revoked.is_root else "the node or capability"
    more = f" and {len(revoked.others)} more" if revoked.others else ""
    return f"{what} {revoked.id}{more} is dead{by}"


def _issued(instant: int) -> str:
    return f"all that was issued up to {shown_instant(instant)} is dead"
