"""What a lying authority or resource writes of calls is held against chains, approvals, signatures and times."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

import capx.authority.opening
from capx.crypto.base64url import b64u
from capx.ledger.note import Note, NoteKey
from capx.proof import Proof, export, receipt
from capx.proof.receipts import Receipt
from capx.store.records import TaskRecord
from capx.tokens import wire
from capx.tokens.approval_caveat import approval
from capx.tokens.bundle import Bundle
from capx.tokens.chain import digests
from capx.tokens.chain_text import ChainText
from capx_caveats import action, budget, not_before
from tests.labs.granting_lab import CARA
from tests.labs.lab import NOW
from tests.labs.proving import PLANNER, READER, ProofLab, Told, full_trust, read, told


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProofLab]:
    found = ProofLab(tmp_path)
    yield found
    found.close()


def allowing(proof: Proof, *ids: str) -> list[Told]:
    """The events of a proof in which these decisions are told as allowed."""
    events = told(proof)
    for _, kind, body in events:
        if kind == "decision" and body["id"] in ids:
            body["outcome"] = "allowed"
            body.pop("reasons", None)
    return events


def contradictions(lab: ProofLab, proof: Proof, events: list[Told], **settings: Any) -> list[str]:
    return list(read(lab.rewritten(proof, *events, **settings), full_trust(lab)).contradictions)


def of_reader(lab: ProofLab, planner: Bundle, **narrowing: Any) -> Bundle:
    return planner.delegate(to="reader", to_key=READER, now=int(lab.clock.now), **narrowing).with_key(READER)


def exported(lab: ProofLab, task: str, **settings: Any) -> Proof:
    lab.authority.flush()
    part = lab.ledger_part(task) if (lab.folder / "slides.jsonl").exists() else None
    parts = [] if part is None else [part]
    return export(lab.authority, task, parts=parts, now=int(lab.clock.now), **settings)


def trusted_only(lab: ProofLab, proof: Proof, events: list[Told]) -> list[str]:
    return list(read(lab.rewritten(proof, *events), lab.trust()).contradictions)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"tenant": "Globex"}, "the task was opened for another tenant than its intent says"),
        ({"purpose": "payroll"}, "the task was opened for another purpose than its intent says"),
        ({"holder": READER.public}, "the task was opened for another key than its intent names"),
        ({"holder": None}, "the task was opened for another key than its intent names"),
        ({"expires": NOW + 315_360_000}, "the task lives longer than its intent"),
    ],
)
def test_a_task_is_held_against_what_was_signed(lab: ProofLab, changed: dict[str, Any], why: str) -> None:
    honest: Any = vars(capx.authority.opening)["_open"]

    def lying(minting: Any, task: TaskRecord, *given: Any, **more: Any) -> Any:
        return honest(minting, msgspec.structs.replace(task, **changed), *given, **more)

    with mock.patch.object(capx.authority.opening, "_open", lying):
        task = lab.open(agent_key=PLANNER.public)
    assert why in read(exported(lab, task.id), lab.trust()).contradictions


def test_an_intent_that_had_ended_opens_nothing(lab: ProofLab) -> None:
    task, _ = lab.started()
    proof = exported(lab, task.id)
    late = [(at + 90_000, kind, body) for at, kind, body in told(proof)]
    assert "the task was opened at a time at which its intent was not good" in trusted_only(lab, proof, late)


def test_a_report_says_what_the_intent_says(lab: ProofLab) -> None:
    task, _ = lab.started()
    intent = read(exported(lab, task.id), lab.trust()).intent
    assert intent is not None
    assert (intent.tenant, intent.purpose, intent.agent_key) == ("Acme", "work", PLANNER.public)
    assert intent.issued <= NOW < intent.not_after


def test_disclosed_arguments_are_judged_by_the_chain(lab: ProofLab) -> None:
    task, planner = lab.started()
    reader = of_reader(lab, planner, allow=[action("crm.read", id=1)])
    decided = lab.call(reader, "crm.read", {"id": 999})
    assert not decided.allowed
    proof = exported(lab, task.id, disclose={decided.id: {"id": 999}})
    (why,) = trusted_only(lab, proof, allowing(proof, decided.id))
    assert why.endswith("was allowed, and its chain does not allow these arguments")


def test_disclosed_arguments_that_fit_are_no_fault(lab: ProofLab) -> None:
    task, planner = lab.started()
    reader = of_reader(lab, planner, allow=[action("crm.read", id=1)])
    decided = lab.call(reader, "crm.read", {"id": 1})
    proof = exported(lab, task.id, disclose={decided.id: {"id": 1}})
    report = read(proof, lab.trust())
    assert report.contradictions == ()
    assert [one.compared for one in report.decisions] == [True]


def test_a_call_before_its_chain_begins_is_told(lab: ProofLab) -> None:
    task, planner = lab.started()
    reader = of_reader(lab, planner, caveats=[not_before(NOW + 500)])
    decided = lab.call(reader, "crm.read")
    assert not decided.allowed
    proof = exported(lab, task.id)
    (why,) = trusted_only(lab, proof, allowing(proof, decided.id))
    assert why.endswith("was allowed before its chain becomes valid")


def test_a_call_before_the_task_is_told(lab: ProofLab) -> None:
    task, _ = lab.started(agent_key=None)
    decided = lab.call(task.bundle, "crm.read")
    proof = exported(lab, task.id)
    events = [
        (at - 1_000, kind, {**body, "at": body["at"] - 1_000}) if kind == "decision" else (at, kind, body)
        for at, kind, body in told(proof)
    ]
    found = trusted_only(lab, proof, events)
    assert f"decision {decided.id} of crm is dated 1000 s before the task was opened" in found
    assert f"decision {decided.id} of crm was allowed before its chain was issued" in found


@pytest.mark.parametrize(("by", "why"), [(-970, "s after the log has it"), (970, "s before anybody had asked")])
def test_an_answer_is_dated_as_it_was_signed(lab: ProofLab, by: int, why: str) -> None:
    task, planner = lab.started()
    lab.pending(planner, "billing.refund", {"amount": 40})
    lab.clock.now += 1_000
    request = lab.pending(planner, "billing.refund", {"amount": 41})
    lab.decide(request.request)
    proof = exported(lab, task.id)
    moved = "request_approved" if by < 0 else "request_made"
    events = [(at + by, kind, body) if kind == moved else (at, kind, body) for at, kind, body in told(proof)]
    assert any(why in one for one in trusted_only(lab, proof, events))


def test_an_answer_shows_the_time_that_was_signed(lab: ProofLab) -> None:
    task, planner = lab.started()
    lab.decide(lab.pending(planner, "billing.refund", {"amount": 40}).request)
    (answer,) = read(exported(lab, task.id), lab.trust()).answers
    assert answer.signed_at == NOW


def test_an_approval_for_one_call_allows_one(lab: ProofLab) -> None:
    task, planner = lab.started()
    reader = of_reader(lab, planner, allow=["crm.read"], approval=approval(by=[CARA.public]))
    reader = reader.holding(lab.approved(reader, "crm.read", {"id": 2}), now=NOW)
    decided = [lab.call(reader, "crm.read", {"id": 2}) for _ in range(3)]
    assert [one.allowed for one in decided] == [True, False, False]
    proof = exported(lab, task.id)
    assert read(proof, lab.trust()).contradictions == ()
    found = trusted_only(lab, proof, allowing(proof, *(one.id for one in decided)))
    assert found == ["3 calls were allowed at crm on a budget or an approval of 1 calls"]


def test_a_counter_that_tokens_share_has_the_largest_limit(lab: ProofLab) -> None:
    large, small = (budget("calls", limit, counter="all-agents-of-acme") for limit in (3, 1))
    task = lab.authority.open(tenant="Acme", allow=["crm.read"], caveats=[large])
    narrow = lab.authority.mint(task.id, allow=["crm.read"], caveats=[small])
    calls = (narrow, narrow, task.bundle, task.bundle, task.bundle)
    assert [lab.call(one, "crm.read").allowed for one in calls] == [True, False, True, True, False]
    assert read(exported(lab, task.id), lab.trust()).contradictions == ()


def test_what_was_given_back_is_not_used(lab: ProofLab) -> None:
    task, planner = lab.started()
    reader = of_reader(lab, planner, allow=["crm.read"], approval=approval(by=[CARA.public]))
    reader = reader.holding(lab.approved(reader, "crm.read", {"id": 2}), now=NOW)
    verifier = lab.authority.verifier("crm")
    from capx.tokens.binding import ToolCall
    from capx_caveats import Call

    for _ in range(2):
        received = ToolCall("crm.read", {"id": 2})
        admitted = verifier.admit(reader.present("crm", received, now=NOW).text, received)
        admitted.judge(Call("crm.read", {"id": 2}, tenant="Acme")).give_back("nothing was read")
    assert read(exported(lab, task.id), lab.trust()).contradictions == ()


def test_a_yes_cannot_be_moved_to_another_audience(lab: ProofLab) -> None:
    task, planner = lab.started()
    lab.decide(lab.pending(planner, "billing.refund", {"amount": 40}).request)
    lab.ask(planner, "billing.refund", {"amount": 40})
    proof = exported(lab, task.id)
    events: list[Told] = []
    for at, kind, body in told(proof):
        if kind == "capability_minted" and body.get("request"):
            identifier, blocks = msgspec.convert(body["chain"], ChainText).read()
            moved = msgspec.structs.replace(wire.Identifier.decode(identifier), audience="crm").encode()
            hashes = digests(moved, blocks)
            ids = [b64u(one[:16]) for one in hashes]
            chain = {**body["chain"], "identifier": moved.decode()}
            changed = {"audience": "crm", "digest": b64u(hashes[-1]), "ids": ids, "chain": chain}
            events.append((at, kind, {**body, **changed}))
        else:
            events.append((at, kind, body))
    found = trusted_only(lab, proof, events)
    assert any("is not what was shown to who agreed to request" in why for why in found)
    assert any("is at another audience than was asked for" in why for why in found)


def test_what_is_granted_is_what_the_chain_says(lab: ProofLab) -> None:
    task, _ = lab.started()
    proof = exported(lab, task.id)
    events: list[Told] = []
    for at, kind, body in told(proof):
        changed = {"allow": ["less"], "expires": 1, "hops": ["x"]} if kind == "capability_minted" else {}
        events.append((at, kind, {**body, **changed}))
    honest = read(proof, lab.trust()).granted
    assert [(one.allow, one.expires, one.asked_by) for one in honest] == [
        (one.allow, one.expires, one.asked_by) for one in read(lab.rewritten(proof, *events), lab.trust()).granted
    ]
    assert ("crm.*",) in [one.allow for one in honest]


def test_one_presentation_is_not_for_two_actions(lab: ProofLab) -> None:
    task, planner = lab.started()
    decided = lab.call(planner, "crm.read", {"id": 1})
    proof = exported(lab, task.id)
    events: list[Told] = []
    for at, kind, body in told(proof):
        events.append((at, kind, body))
        if kind == "decision":
            events.append((at, kind, {**body, "id": "d." + "A" * 22, "action": "crm.export"}))
    found = trusted_only(lab, proof, events)
    assert found == [f"presentation {decided.presentation} was allowed for two actions"]


def test_an_event_is_dated_as_the_decision_in_it(lab: ProofLab) -> None:
    task, planner = lab.started()
    lab.clock.now += 3_000
    lab.call(planner, "crm.read", {"id": 1})
    proof = exported(lab, task.id)
    events = [(NOW if kind == "decision" else at, kind, body) for at, kind, body in told(proof)]
    why = "; ".join(trusted_only(lab, proof, events))
    assert why.endswith("is dated otherwise than the decision in it")


def test_a_log_says_no_earlier_time_than_its_events(lab: ProofLab) -> None:
    task, planner = lab.started()
    lab.call(planner, "crm.read", {"id": 1})
    proof = exported(lab, task.id)
    found = read(lab.rewritten(proof, *told(proof), at=1), lab.trust()).contradictions
    assert all("after its log says that this is all" in why for why in found)
    assert found


def test_a_stated_call_of_a_ledger_is_listed(lab: ProofLab) -> None:
    task, body = lab.short(agent_key=None)
    proof = exported(lab, task.id)
    made_up = {**body, "id": "d." + "B" * 22, "action": "slides.delete_all", "stated": True}
    for event in ({**made_up, "stated": False}, made_up):
        missing = read(lab.rewritten(proof, *told(proof), (NOW, "decision", event)), full_trust(lab)).gaps
        assert any("decisions of slides in its ledger" in one for one in missing), event


def test_a_receipt_of_a_later_log_is_no_excuse(lab: ProofLab) -> None:
    task, planner = lab.started()
    decided = lab.call(planner, "crm.read", {"id": 1})
    proof = exported(lab, task.id)
    authority, _, seconds = lab.authority.epoch().partition(".")
    later = f"{authority}.{int(seconds) + 500}"
    with mock.patch.object(lab.authority, "epoch", return_value=later):
        newer = lab.rewritten(proof, *told(proof)).sources[0]
    event = next(one for one in newer.events if decided.id in one.body)
    kept = Receipt(event, newer.note)
    left_out = lab.rewritten(proof, *(one for one in told(proof) if one[1] != "decision"))
    origin, key = f"capx/{later}", lab.trust().logs[0]
    trust = lab.trust(f"log {NoteKey(origin, key.public).text()}", f"authority {origin}")
    (why,) = read(left_out, trust, receipts=[kept]).contradictions
    assert why == f"a receipt is of the log {origin}, and the proof has no source of it"
    assert Note.parse(newer.note).text.startswith(origin)
    assert receipt(lab.authority, decided.id) != kept
