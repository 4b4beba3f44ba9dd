"""Each reason of a decision can be reached, and a decision says what was decided of whom."""

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from capx.crypto.base64url import b64u, unb64u
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.lineage import unverified_lineage
from capx.verify.ask import Ask
from capx.verify.decision import STATUS, Decision, Denied, decision_id, is_decision_id, may_name_decision
from capx.verify.spending import Spent
from capx_caveats import (
    Budget,
    Call,
    Expires,
    Hop,
    Intent,
    NotBefore,
    Refusal,
    Root,
    Task,
    Tenant,
    action,
    allow,
    encode_block,
    max_hops,
    tenant,
    where,
)
from tests.labs.approving import demanding
from tests.labs.keyed import SLIDES, THIEF, hop, keyed, signed
from tests.labs.lab import NONCES, NOW, Lab, appended, codes, holding, minted, raw, spoiled

READ = ToolCall("a.read")
CALL = Call("a.read")


def made(lab: Lab, capability: Capability, name: str = "a.read", **args: Any) -> Decision:
    return lab.decide(lab.present(capability, name, args), name, args)


def under(change: Callable[[Lab], object], capability: Capability | None = None) -> Decision:
    lab = Lab()
    change(lab)
    return made(lab, capability or minted())


def twice(token: str, lab: Lab) -> Decision:
    lab.decide(token)
    return lab.decide(token)


def overspent() -> Decision:
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore.create(Path(folder) / "capx.db")
        try:
            return made(Lab(meter=store), minted(Budget("calls", "0")))
        finally:
            store.close()


def died(code: str) -> Callable[[Lab], object]:
    return lambda lab: lab.deaths.deaths.__setitem__("T1", code)


PINNED = minted(allowed=allow(action("a.read", id=1)))
REASONS: dict[str, Callable[[], Decision]] = {
    "no_token": lambda: Lab().decide(""),
    "malformed": lambda: Lab().decide("junk"),
    "truncated": lambda: Lab().decide(minted().text[:50]),
    "too_large": lambda: Lab().decide("capx1_" + "A" * 20_000),
    "unknown_version": lambda: Lab().decide("capx2_AAAA"),
    "wrong_audience": lambda: made(Lab(), minted(audience="slides")),
    "not_authentic": lambda: Lab().decide(spoiled(Lab().present(minted()))),
    "bearer_refused": lambda: Lab().decide(minted().text),
    "call_mismatch": lambda: Lab().decide(Lab().present(minted(), "a.write")),
    "call_window": lambda: Lab().decide(minted().present(READ, now=NOW - 61).text),
    "replayed": lambda: twice(Lab().present(minted()), Lab()),
    "incomplete_authority": lambda: made(Lab(), raw(encode_block((Task("T1"), Root("R1"))))),
    "misplaced": lambda: made(Lab(), holding([Task("T2")])),
    "not_understood": lambda: made(Lab(), appended(minted(), b'[["acme.region","eu"]]')),
    "revoked": lambda: under(lambda lab: lab.deaths.deaths.__setitem__(minted().ids[0], "revoked")),
    "task_completed": lambda: under(died("task_completed")),
    "task_withdrawn": lambda: under(died("task_withdrawn")),
    "task_expired": lambda: under(died("task_expired")),
    "expired": lambda: made(Lab(), holding([Expires(NOW)])),
    "not_yet": lambda: made(Lab(), holding([NotBefore(NOW + 1)])),
    "wrong_tenant": lambda: Lab().decide(Lab().present(minted(tenant("Acme"))), tenant="Globex"),
    "action_not_allowed": lambda: made(Lab(), minted(), "a.export"),
    "argument_refused": lambda: made(Lab(), PINNED, id=2),
    "argument_not_named": lambda: made(Lab(), PINNED, id=1, x=1),
    "attribute_missing": lambda: made(Lab(), holding([where("region", "eu")])),
    "budget_exhausted": overspent,
    "too_many_hops": lambda: made(Lab(), holding([max_hops(0)], [Hop("a", NONCES[0])])),
    "hop_unsigned": lambda: made(Lab(), holding([Hop("a", NONCES[0], "A" * 43)])),
    "hop_signature": lambda: made(Lab(), signed(keyed(), THIEF, hop(THIEF)).with_key(THIEF)),
    "needs_discharge": lambda: made(Lab(), demanding()),
    "bad_discharge": lambda: Lab().decide(f"{Lab().present(minted())},capxd1_AAAA"),
    "unknown_liveness": lambda: under(lambda lab: setattr(lab.deaths, "years", float("inf"))),
    "stale_liveness": lambda: under(lambda lab: setattr(lab.deaths, "years", 31.0)),
    "no_meter": lambda: made(Lab(), minted(Budget("calls", "20"))),
    "unavailable": lambda: under(lambda lab: setattr(lab.records, "full", True)),
}


def test_this_table_holds_every_reason() -> None:
    assert list(REASONS) == list(STATUS)


@pytest.mark.parametrize("code", REASONS)
def test_each_reason_can_be_reached_and_says_what_would_do(code: str) -> None:
    decision = REASONS[code]()
    assert codes(decision) == (code,)
    denied = Denied(decision)
    assert denied.code == code
    assert str(denied)
    assert denied.problem()["status"] == STATUS[code]
    assert json.loads(json.dumps(denied.problem()))["decision"] == decision.id
    assert json.loads(json.dumps(decision.body()))["outcome"] == "denied"


def test_no_answer_is_true_or_false_by_accident() -> None:
    decision: object = Lab().decide(minted().text)
    explanation: object = Lab().verifier.explain(minted().text, CALL)
    for answer in (decision, explanation):
        with pytest.raises(TypeError, match="allowed"):
            bool(answer)


def test_a_decision_says_what_was_decided_of_whom() -> None:
    lab = Lab()
    held = minted(Tenant("Acme")).delegate(to="a", nonce=NONCES[0])
    presentation = held.present(READ, now=NOW)
    decision = lab.verifier.decide(presentation.text, READ, Call("a.read", tenant="Acme"))
    assert decision.body() == {
        "id": decision.id,
        "at": NOW,
        "outcome": "allowed",
        "audience": "crm",
        "action": "a.read",
        "task": "T1",
        "tenant": "Acme",
        "root": "R1",
        "hops": ["a"],
        "nonces": [NONCES[0]],
        "ids": list(map(b64u, presentation.ids[:-1])),
        "presentation": b64u(presentation.id),
        "args_digest": decision.args_digest,
        "args": decision.args,
        "digest": b64u(held.digest),
        "chain": json.loads(msgspec.json.encode(held.chain_text)),
    }
    assert decision.id != lab.decide(lab.present(minted())).id


def test_a_decision_names_the_key_of_who_acted() -> None:
    lab = Lab()
    decision = made(lab, keyed().delegate(to="slides", to_key=SLIDES))
    assert (decision.key, decision.body()["key"]) == (SLIDES.public, SLIDES.public)
    assert made(lab, minted()).key is None


def test_the_id_of_a_decision_is_the_id_of_nothing_else() -> None:
    new = decision_id(NOW)
    assert (new[:2], len(unb64u(new[2:]))) == ("d.", 16)
    assert new != decision_id(NOW)
    # Ids of one time begin alike, so that they are near to each other in an index.
    assert new[:8] == decision_id(NOW)[:8] != decision_id(NOW + 100)[:8]
    assert is_decision_id(new)
    others = (new[2:], f"e.{new[2:]}", f"{new[2:]}d.", "d.", f"d.{b64u(bytes(15))}", f"d.{b64u(bytes(17))}", f"d.{new}")
    assert not any(map(is_decision_id, others))


def test_a_decision_of_another_program_may_have_a_shorter_id() -> None:
    assert may_name_decision(decision_id(NOW))
    assert may_name_decision(b64u(bytes(16)))
    assert not any(map(may_name_decision, ("", "d.", "d.a", "a b", f"d.{b64u(bytes(17))}")))


def test_a_decision_that_has_spent_says_what_of_whose_intent() -> None:
    lineage = unverified_lineage(minted(Tenant("Acme"), Intent("A" * 43)))
    spent = Spent("T1", "eur", "2", "3", "20")
    refusal = Refusal("expired", "expired", "later", hop=1, hop_name="reader", general="g", detail="d")
    decision = Decision(
        id="d1",
        at=NOW,
        allowed=False,
        audience="crm",
        refusals=(refusal,),
        lineage=lineage,
        presented=bytes(16),
        spent=(spent,),
    )
    assert decision.body() == {
        "id": "d1",
        "at": NOW,
        "outcome": "denied",
        "audience": "crm",
        "task": "T1",
        "tenant": "Acme",
        "intent": "A" * 43,
        "root": "R1",
        "ids": list(map(b64u, lineage.ids)),
        "presentation": "A" * 22,
        "spent": [{"counter": "T1", "unit": "eur", "cost": "2", "spent": "3", "limit": "20"}],
        "reasons": [
            {
                "code": "expired",
                "wanted": "later",
                "hop": 1,
                "hop_name": "reader",
                "sentence": 'hop 1 ("reader") expired; d',
            }
        ],
    }


VALUE = Refusal(
    "argument_refused", "id is 4711", "another", given={"id": 4711}, general="id is refused", detail="secret"
)
DENIAL = Decision(id="d1", at=NOW, allowed=False, audience="crm", refusals=(VALUE,))
ASKED = Ask(audience="crm", action="crm.read", args={"id": 7})


def test_a_denial_says_nothing_that_its_bearer_did_not_send() -> None:
    denied = Denied(DENIAL)
    assert (denied.ask, denied.advice, denied.notes, str(denied)) == (None, "", (), "id is refused")
    assert denied.problem() == {
        "type": "urn:capx:reason:argument_refused",
        "title": "argument refused",
        "status": 403,
        "code": "argument_refused",
        "detail": "id is refused",
        "decision": "d1",
        "reasons": [{"code": "argument_refused", "wanted": "another", "sentence": "id is refused"}],
    }
    assert repr(denied) == "Denied('argument_refused', decision d1)"
    assert denied.args == ("d1",)


def test_a_denial_says_what_was_sent_and_what_to_ask_for() -> None:
    denied = Denied(DENIAL, ASKED, "Ask the team.", sent=True)
    assert denied.refusals == (msgspec.structs.replace(VALUE, detail=""),)
    assert denied.problem() == {
        "type": "urn:capx:reason:argument_refused",
        "title": "argument refused",
        "status": 403,
        "code": "argument_refused",
        "detail": "id is 4711; Ask the team.",
        "decision": "d1",
        "reasons": [{"code": "argument_refused", "wanted": "another", "given": {"id": 4711}, "sentence": "id is 4711"}],
        "ask": {"audience": "crm", "action": "crm.read", "args": {"id": 7}},
        "advice": "Ask the team.",
    }


def test_a_denial_may_tell_other_reasons_than_it_records() -> None:
    told = Refusal("wrong_tenant", "is of another tenant")
    denied = Denied(DENIAL, told=(told,))
    assert (denied.refusals, denied.code, denied.decision) == ((told,), "wrong_tenant", DENIAL)


def test_a_denial_passes_between_processes_as_it_is() -> None:
    denied = Denied(DENIAL, ASKED, "Ask the team.", told=(Refusal("wrong_tenant", "is of another tenant"),))
    denied.notes = ("asked, and refused",)
    there = pickle.loads(pickle.dumps(denied))
    assert isinstance(there, Denied)
    assert vars(there) == vars(denied)
    assert (there.args, str(there)) == (("d1",), "is of another tenant; Ask the team.; asked, and refused")


def test_a_reason_of_a_service_is_answered_as_not_allowed() -> None:
    refusal = Refusal("acme_wrong_region", "is of another region")
    assert Denied(msgspec.structs.replace(DENIAL, refusals=(refusal,))).problem()["status"] == 403


OPTIMISED = """
from tests.labs.lab import Lab, codes, minted
from tests.verify.test_decision import REASONS
for code, make in REASONS.items():
    print(code, codes(make()))
print("allowed", Lab().codes(minted()))
print("optimised", __debug__)
"""


@pytest.mark.parametrize("option", ["-O", "-OO"])
def test_python_without_assertions_refuses_as_ever(checkout: Path, option: str) -> None:
    done = subprocess.run(
        [sys.executable, option, "-W", "error", "-c", OPTIMISED],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert told == {**{code: f"('{code}',)" for code in REASONS}, "allowed": "()", "optimised": "False"}
