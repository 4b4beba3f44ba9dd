"""Decisions are read once, from the authority's copy if it has one; what cannot be read is counted."""

import msgspec

from capx.proof.recorded import decisions_in
from capx.proof.sources import CheckedSource
from capx.store.log import Event


def source(origin: str, *bodies: dict[str, object], is_authority: bool = False) -> CheckedSource:
    events = [Event(nth, 1, "decision", msgspec.json.encode(body), bytes(32)) for nth, body in enumerate(bodies, 1)]
    return CheckedSource(origin, is_authority, len(events), bytes(32), 1, (), (), tuple(events))


def body(**changed: object) -> dict[str, object]:
    return {"id": "d.1", "at": 1, "outcome": "allowed", "audience": "crm", **changed}


def test_the_copy_of_the_authority_is_read() -> None:
    own = source("capx/A", body(outcome="denied"), is_authority=True)
    found, unreadable = decisions_in([own, source("capx-ledger/crm/R", body())])
    assert unreadable == 0
    (one,) = found
    assert one.recorded.outcome == "denied"
    assert not one.recorded.is_allowed
    assert [each.origin for each in one.logs] == ["capx/A", "capx-ledger/crm/R"]


def test_one_id_at_two_audiences_is_two_decisions() -> None:
    found, _ = decisions_in([source("capx/A", body(), body(audience="hr"), is_authority=True)])
    assert [one.recorded.name for one in found] == ["decision d.1 of crm", "decision d.1 of hr"]


def test_what_is_no_decision_is_counted() -> None:
    hostile: list[dict[str, object]] = [{}, body(outcome="Allowed"), body(hops=7), body(approvals=[{"x": 1}])]
    found, unreadable = decisions_in([source("capx/A", *hostile, body(), is_authority=True)])
    assert (len(found), unreadable) == (1, 4)
