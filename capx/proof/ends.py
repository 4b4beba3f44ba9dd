"""When authority ended, and the calls that were allowed too long after it."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from capx.proof.chains import Chains
from capx.proof.recorded import LoggedDecision, Recorded
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


def allowed_after_end(
    events: Iterable[Event], opened_at: int, decisions: Iterable[LoggedDecision], chains: Chains
) -> Iterator[tuple[Recorded, int]]:
    """The calls that were allowed after something ended that they stood on, each with how many seconds after it."""
    deaths = _Deaths(events)
    for one in decisions:
        recorded = one.recorded
        if not recorded.is_allowed:
            continue
        chain = chains.get(recorded.digest)
        keys = set[RevocationKey]() if chain is None else set(chain.lineage.revocation_keys)
        for named in recorded.approvals:
            approval = chains.approvals.get(named.digest)
            keys.update(() if approval is None else approval.revocation_keys)
        keys.update(() if recorded.task is None else (recorded.task,))
        first = deaths.first(keys, opened_at if chain is None else chain.lineage.issued)
        if first is not None and first < recorded.at:
            yield recorded, recorded.at - first


class _Deaths:
    """When each key died first, and from when on everything issued up to some second was dead."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._at: dict[RevocationKey, int] = {}
        instants: list[tuple[int, int]] = []
        for event in events:
            for key in _killed(event):
                self._at[key] = min(event.at, self._at.get(key, event.at))
                if isinstance(key, str) and (instant := instant_of(key)) is not None:
                    instants.append((instant, event.at))
        # Ascending, each with the earliest death of that instant or a later one: that one covers it, too.
        instants.sort()
        earliest = list(accumulate((at for _, at in reversed(instants)), min))[::-1]
        self._instants = [instant for instant, _ in instants]
        self._earliest = earliest

    def first(self, keys: Iterable[RevocationKey], issued: int) -> int | None:
        """When the first of these keys died, or all that was issued at that second; None if nothing of it did."""
        found = [self._at[key] for key in keys if key in self._at]
        nth = bisect_left(self._instants, issued)
        if nth < len(self._earliest):
            found.append(self._earliest[nth])
        return min(found, default=None)


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
