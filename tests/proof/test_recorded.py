"""Decisions are read once, from the authority's copy if it has one; what cannot be read is told of its resource."""

import json
from pathlib import Path

import msgspec
import pytest

from capx.proof.document import ProofBroken
from capx.proof.recorded import Unreadable, decisions_in, events_schema
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
    assert unreadable == []
    (one,) = found
    assert one.recorded.outcome == "denied"
    assert not one.recorded.is_allowed
    assert [(each.origin, each.is_authority, each.event.position) for each in one.logs] == [
        ("capx/A", True, 1),
        ("capx-ledger/crm/R", False, 1),
    ]


def test_events_of_other_kinds_are_passed_over() -> None:
    log = source("capx/A", body(outcome="denied"), body(), is_authority=True)
    log = msgspec.structs.replace(log, events=(Event(0, 1, "task_opened", b"{}", bytes(32)), *log.events))
    found, unreadable = decisions_in([log])
    assert unreadable == []
    assert len(found) == 1


def test_the_schema_is_the_one_of_the_reference() -> None:
    committed = Path(__file__).parents[2] / "docs" / "reference" / "events.schema.json"
    assert json.loads(committed.read_bytes()) == json.loads(json.dumps(events_schema()))


def test_one_id_at_two_audiences_is_two_decisions() -> None:
    found, _ = decisions_in([source("capx/A", body(), body(audience="hr"), is_authority=True)])
    assert [one.recorded.name for one in found] == ["decision d.1 of crm", "decision d.1 of hr"]


HOSTILE: list[dict[str, object]] = [
    {"audience": 7},
    body(outcome="Allowed"),
    body(hops=7),
    body(approvals=[{"x": 1}]),
    body(at="1"),
    body(at=1.0),
    {"id": "d.1", "at": 1, "audience": "crm"},
    {"at": 1, "outcome": "allowed", "audience": "crm"},
]


def test_what_is_no_decision_is_told_of_its_resource() -> None:
    found, unreadable = decisions_in([source("capx/A", *HOSTILE, body(), is_authority=True)])
    assert len(found) == 1
    assert unreadable == [Unreadable(1, None), *(Unreadable(nth, "crm") for nth in range(2, len(HOSTILE) + 1))]


@pytest.mark.parametrize("nth", range(len(HOSTILE)))
def test_what_the_owner_of_a_log_wrote_breaks_the_proof(nth: int) -> None:
    with pytest.raises(ProofBroken, match="its owner wrote it"):
        decisions_in([source("capx-ledger/crm/R", HOSTILE[nth])])
    own = {**HOSTILE[nth], "audience": "authority"}
    with pytest.raises(ProofBroken, match="event 1 of capx/A"):
        decisions_in([source("capx/A", own, is_authority=True)])
