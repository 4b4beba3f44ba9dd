"""One consent is good for as many calls as the policy says, and for no more."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority import uses
from capx.authority.row_guard import replace_marks
from capx.authority.uses import MOST_USES_SHOWN
from capx.crypto.base64url import b64u
from capx.crypto.keys import RootKey
from capx.errors import InvalidRequest
from capx.store.events import GivenBack
from capx.store.records import Damaged, DecisionRecord, RequestRecord
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.uses_counter import uses_counter
from capx.verify.ask import Granted
from capx.verify.decision import Allowed
from capx.verify.meter import Spend
from capx_caveats import Budget, Call, action, budget
from tests.labs.granting_lab import GrantingLab, policy, rule
from tests.labs.lab import NOW
from tests.labs.payers import payer
from tests.labs.processes import ended_with_test
from tests.labs.waiting import until

SEND, QUERY = "mail.send", "warehouse.query"


def asking(good_for: int | None = 1, *offers: Any) -> Any:
    return policy(rule("ask", *(offers or (SEND,)), uses=good_for), rule("on_request", QUERY))


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab()
    made.policy = asking()
    with made.authority:
        yield made


def consented(lab: GrantingLab, bundle: Bundle, args: Any = None) -> Capability:
    lab.decide(lab.pending(bundle, SEND, args).request)
    return lab.granted(bundle, SEND, args)


def request(lab: GrantingLab) -> RequestRecord:
    (found,) = lab.authority.requests()
    return found


def test_a_consent_to_one_call_allows_one_call(lab: GrantingLab) -> None:
    opened = lab.open()
    granted = consented(lab, opened.bundle, {"to": "ann"})
    assert lab.codes(granted, SEND, {"to": "ann"}) == ()
    assert lab.codes(granted, SEND, {"to": "ann"}) == ("budget_exhausted",)
    assert lab.codes(granted.delegate(to="helper"), SEND, {"to": "ann"}) == ("budget_exhausted",)


def test_a_denied_call_uses_nothing_up(lab: GrantingLab) -> None:
    granted = consented(lab, lab.open().bundle, {"to": "ann"})
    assert lab.codes(granted, SEND, {"to": "eve"}) == ("argument_refused",)
    assert lab.codes(granted, SEND, {"to": "ann"}) == ()


def test_the_same_ask_gets_the_same_bytes_while_a_use_is_left(lab: GrantingLab) -> None:
    lab.policy = asking(2)
    opened = lab.open()
    granted = consented(lab, opened.bundle)
    assert lab.codes(granted, SEND) == ()
    assert lab.granted(opened.bundle, SEND) == granted
    assert lab.codes(granted, SEND) == ()
    assert lab.pending(opened.bundle, SEND).request == request(lab).id


def test_a_used_up_consent_is_asked_for_again_and_says_so(lab: GrantingLab) -> None:
    opened = lab.open()
    first = consented(lab, opened.bundle)
    before = lab.authority.inquiry(request(lab).id)
    assert not [one for one in before.sentences() if "before" in one and "granted" in one]
    assert lab.codes(first, SEND) == ()
    assert lab.pending(opened.bundle, SEND).request == request(lab).id
    # Decisions are written a moment later.
    until(lambda: bool(lab.authority.inquiry(request(lab).id).uses))
    inquiry = lab.authority.inquiry(request(lab).id)
    (use,) = inquiry.uses
    decided = lab.authority.decision(use.decision)
    assert decided is not None
    assert (decided.facts()["outcome"], decided.facts()["action"], decided.at) == ("allowed", SEND, use.at)
    told = "\n".join(inquiry.sentences())
    assert "it was granted before, once" in told
    assert f"mail reports that decision {use.decision} allowed a call with it at " in told
    second = consented(lab, opened.bundle)
    assert second != first
    assert (lab.codes(first, SEND), lab.codes(second, SEND)) == (("budget_exhausted",), ())
    assert request(lab).round == 2


def test_only_the_uses_of_the_round_before_are_told(lab: GrantingLab) -> None:
    opened, other = lab.open(), lab.open()
    lab.authority.store.record([DecisionRecord("bad", NOW, f'{{"id":"bad","task":"{opened.id}"}}'.encode())])
    for bundle in (opened.bundle, other.bundle):
        first = consented(lab, bundle, {"to": "ann"})
        assert lab.codes(first, SEND, {"to": "eve"}) == ("argument_refused",)
        assert lab.codes(first, SEND, {"to": "ann"}) == ()
    second = consented(lab, opened.bundle, {"to": "ann"})
    assert lab.codes(second, SEND, {"to": "ann"}) == ()
    waits = lab.pending(opened.bundle, SEND, {"to": "ann"}).request
    until(lambda: bool(lab.authority.inquiry(waits).uses))
    (use,) = lab.authority.inquiry(waits).uses
    found = lab.authority.decision(use.decision)
    assert found is not None
    assert b64u(second.id) in found.facts()["ids"]
    assert "it was granted before, 2 times" in lab.authority.inquiry(waits).sentences()


def test_a_person_is_not_kept_waiting_by_a_long_log(lab: GrantingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "_MOST_EVENTS", 1)
    opened = lab.open()
    granted = consented(lab, opened.bundle, {"to": "ann"})
    for to in ("eve", "eve", "ann"):
        lab.codes(granted, SEND, {"to": to})
    waits = lab.pending(opened.bundle, SEND, {"to": "ann"}).request
    until(lambda: sum(event.kind == "decision" for event in lab.authority.log()) >= 3)
    assert lab.authority.inquiry(waits).uses == ()


def test_what_a_resource_claims_of_uses_is_bounded_and_harmless(lab: GrantingLab) -> None:
    opened = lab.open()
    assert lab.codes(consented(lab, opened.bundle), SEND) == ()
    lab.pending(opened.bundle, SEND)
    until(lambda: bool(lab.authority.inquiry(request(lab).id).uses))
    counter = uses_counter(request(lab).id, 1)
    claim = (
        f'"task":"{opened.id}","outcome":"allowed","audience":"mail","spent":[{{"counter":"{counter}","unit":"calls"}}]'
    )
    odd = [f'{{"id":"x","task":"{opened.id}","outcome":5}}', f'{{"id":"y","task":"{opened.id}"}}']
    odd += [f'{{"id":"say yes, Bob",{claim}}}', f'{{"id":"crm",{claim.replace("mail", "crm")}}}']
    odd += [
        f'{{"id":"denied",{claim.replace("allowed", "denied")}}}',
        f'{{"id":"eur",{claim.replace("calls", "eur")}}}',
    ]
    bodies = [*odd, *(f'{{"id":"claim-{nth}",{claim}}}' for nth in range(20))]
    lab.authority.store.record([DecisionRecord(f"r{nth}", NOW, one.encode()) for nth, one in enumerate(bodies)])
    inquiry = lab.authority.inquiry(request(lab).id)
    assert len(inquiry.uses) == MOST_USES_SHOWN
    assert [use.decision for use in inquiry.uses[1:]] == ["claim-0", "claim-1", "claim-2", "claim-3"]


def test_the_person_is_told_for_how_many_calls_it_is_good(lab: GrantingLab) -> None:
    for good_for, told in ((1, "one call"), (3, "3 calls"), (None, "any number of calls until the task ends")):
        lab.policy = asking(good_for)
        inquiry = lab.authority.inquiry(lab.pending(lab.open().bundle, SEND).request)
        assert f"your consent is good for {told}" in inquiry.sentences()
        assert not [sentence for sentence in inquiry.sentences() if "shared by everyone below" in sentence]


def test_a_consent_to_one_round_is_none_to_the_next(lab: GrantingLab) -> None:
    opened = lab.open()
    verdict = lab.verdict(lab.pending(opened.bundle, SEND).request)
    lab.authority.answer(verdict)
    assert lab.codes(lab.granted(opened.bundle, SEND), SEND) == ()
    lab.pending(opened.bundle, SEND)
    with pytest.raises(InvalidRequest):
        lab.authority.answer(verdict)
    assert lab.pending(opened.bundle, SEND).request == request(lab).id


def test_a_no_to_a_later_round_is_final(lab: GrantingLab) -> None:
    opened = lab.open()
    granted = consented(lab, opened.bundle)
    assert lab.codes(granted, SEND) == ()
    lab.decide(lab.pending(opened.bundle, SEND).request, yes=False)
    assert lab.refused(opened.bundle, SEND) == ("request_denied",)


def test_a_revoked_grant_is_not_had_by_a_later_round(lab: GrantingLab) -> None:
    opened = lab.open()
    granted = consented(lab, opened.bundle)
    assert lab.codes(granted, SEND) == ()
    lab.authority.revoke(granted.id)
    assert lab.refused(opened.bundle, SEND) == ("grant_revoked",)


def test_a_grant_minted_again_under_another_key_shares_its_uses(lab: GrantingLab) -> None:
    opened, asked_with = lab.open(), lab.authority.keyring.active
    fresh_key = RootKey.generate()
    lab.authority.rekey(lab.authority.keyring.added(fresh_key).activated(fresh_key.kid))
    first = consented(lab, opened.bundle)
    lab.authority.rekey(lab.authority.keyring.activated(asked_with.kid))
    with lab.authority.store.write() as transaction:
        replace_marks(transaction, lab.authority.keyring, of=fresh_key.kid)
    lab.authority.rekey(lab.authority.keyring.retired(fresh_key.kid))
    again = lab.granted(opened.bundle, SEND)
    assert (first.kid, again.kid) == (fresh_key.kid, asked_with.kid)
    lab.authority.rekey(lab.authority.keyring.added(fresh_key))
    assert lab.codes(again, SEND) == ()
    assert lab.codes(first, SEND) == ("budget_exhausted",)


def test_a_consent_for_the_task_is_good_until_it_ends(lab: GrantingLab) -> None:
    lab.policy = asking(None)
    opened = lab.open()
    granted = consented(lab, opened.bundle)
    assert [lab.codes(granted, SEND) for _ in range(5)] == [()] * 5
    assert not [caveat for caveat in granted.caveats[0] if isinstance(caveat, Budget)]
    assert lab.granted(opened.bundle, SEND) == granted


def test_what_needs_no_person_has_no_uses(lab: GrantingLab) -> None:
    granted = lab.granted(lab.open().bundle, QUERY)
    assert not [caveat for caveat in granted.caveats[0] if isinstance(caveat, Budget)]


def test_two_asks_have_counters_of_their_own(lab: GrantingLab) -> None:
    lab.policy = asking(1, action(SEND, to="ann"), action(SEND, to="ben"))
    opened = lab.open()
    ann, ben = (consented(lab, opened.bundle, {"to": to}) for to in ("ann", "ben"))
    assert lab.codes(ann, SEND, {"to": "ann"}) == ()
    assert lab.codes(ben, SEND, {"to": "ben"}) == ()
    ids = [one.id for one in lab.authority.requests()]
    counters = {uses_counter(id_, round_) for id_ in ids for round_ in (1, 2)}
    assert len(counters) == 4
    assert {len(counter) for counter in counters} == {22}


def test_the_uses_of_a_consent_are_no_budget_of_the_task(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, uses=1, budgets=[budget("calls", 9)]))
    opened = lab.open()
    for _ in range(2):
        assert lab.codes(consented(lab, opened.bundle), SEND) == ()
    (tree,) = lab.authority.graph(opened.id).trees
    assert [(one.counter, one.unit, one.spent) for one in tree.budgets] == [(opened.id, "calls", "2")]


def test_a_request_of_before_is_decided_anew(lab: GrantingLab) -> None:
    lab.policy = asking(None)
    opened = lab.open()
    old = consented(lab, opened.bundle)
    lab.policy = asking(1)
    lab.pending(opened.bundle, SEND)
    assert lab.codes(old, SEND) == ()
    new = consented(lab, opened.bundle)
    assert (lab.codes(new, SEND), lab.codes(new, SEND)) == ((), ("budget_exhausted",))


KILLED = """
import os, signal, sys
from capx.crypto.keys import AudienceKeys
from capx.resource import connect
from capx.resource.replay import Replay
from capx.tokens.binding import ToolCall
from capx_caveats import Call
from pathlib import Path

connection = connect(AudienceKeys.load(Path(sys.argv[1]), "mail"), store=sys.argv[2])
call = ToolCall("mail.send")
connection.verifier(clock=lambda: int(sys.argv[4])).verify(sys.argv[3], call, Call("mail.send", tenant="Acme"))
os.kill(os.getpid(), signal.SIGKILL)
print("sent")
"""


def test_a_call_killed_after_its_payment_is_not_made_twice(lab: GrantingLab, tmp_path: Path) -> None:
    opened = lab.open()
    granted = consented(lab, opened.bundle)
    key_file = tmp_path / "mail.keys"
    lab.authority.export_keys("mail").save(key_file)
    text = granted.present(ToolCall(SEND), now=int(lab.clock.now)).text
    command = (sys.executable, "-c", KILLED, str(key_file), lab.authority.store.place, text, str(int(lab.clock.now)))
    killed = ended_with_test(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    out, err = killed.communicate(timeout=60)
    assert (killed.returncode, out, err) == (-signal.SIGKILL, "", "")
    assert lab.codes(granted, SEND) == ("budget_exhausted",)
    lab.pending(opened.bundle, SEND)
    inquiry = lab.authority.inquiry(request(lab).id)
    # The decision died with the process: the payment is known, and its decision is not.
    assert inquiry.uses == ()
    assert "it was granted before, once" in inquiry.sentences()
    assert lab.codes(consented(lab, opened.bundle), SEND) == ()


def used(lab: GrantingLab, granted: Capability) -> Allowed:
    """The decision that allowed a call with it."""
    call = ToolCall(SEND)
    text = granted.present(call, now=int(lab.clock.now)).text
    return lab.authority.verifier("mail").verify(text, call, Call(SEND, tenant="Acme"))


def test_a_use_that_was_given_back_needs_no_other_consent(lab: GrantingLab) -> None:
    opened = lab.open()
    granted = consented(lab, opened.bundle)
    used(lab, granted).give_back("the mail server was away")
    assert lab.granted(opened.bundle, SEND) == granted
    assert request(lab).round == 1
    assert (lab.codes(granted, SEND), lab.codes(granted, SEND)) == ((), ("budget_exhausted",))


def test_a_use_given_back_late_is_one_of_the_round_before(lab: GrantingLab) -> None:
    opened = lab.open()
    first = consented(lab, opened.bundle)
    late = used(lab, first)
    second = consented(lab, opened.bundle)
    assert lab.codes(second, SEND) == ()
    late.give_back("the mail server was away")
    # Two consents, two calls, whichever grant is presented.
    assert lab.codes(second, SEND) == ("budget_exhausted",)
    assert (lab.codes(first, SEND), lab.codes(first, SEND)) == ((), ("budget_exhausted",))
    assert lab.pending(opened.bundle, SEND).request == request(lab).id
    assert request(lab).round == 3


def test_a_person_is_told_of_no_use_that_was_given_back(lab: GrantingLab) -> None:
    lab.policy = asking(2)
    opened = lab.open()
    granted = consented(lab, opened.bundle)
    late, real = used(lab, granted), used(lab, granted)
    lab.pending(opened.bundle, SEND)
    until(lambda: len(lab.authority.inquiry(request(lab).id).uses) == 2)
    late.give_back("the mail server was away")
    assert [use.decision for use in lab.authority.inquiry(request(lab).id).uses] == [real.decision.id]


def test_a_resource_takes_back_no_use_of_another(lab: GrantingLab) -> None:
    opened = lab.open()
    real = used(lab, consented(lab, opened.bundle))
    by = payer("slides")
    lab.authority.store.spend(by, [Spend("a", "calls", Decimal(1), Decimal(1))], now=NOW)
    lab.authority.store.give_back(by, decision=real.decision.id, reason="x", now=NOW)
    with lab.authority.store.write() as transaction:
        GivenBack(opened.id, "slides", real.decision.id, "p", (), "x").write(transaction, at=NOW)
    lab.pending(opened.bundle, SEND)
    until(lambda: bool(lab.authority.inquiry(request(lab).id).uses))


def test_asks_after_the_last_use_begin_one_round(lab: GrantingLab) -> None:
    opened = lab.open()
    assert lab.codes(consented(lab, opened.bundle), SEND) == ()
    first, second = lab.pending(opened.bundle, SEND), lab.pending(opened.bundle, SEND)
    assert (first.request, request(lab).round) == (second.request, 2)
    lab.decide(first.request)
    answers = [lab.ask(opened.bundle, SEND) for _ in range(3)]
    assert all(isinstance(answer, Granted) for answer in answers)
    assert len({answer.capability for answer in answers}) == 1


def test_half_a_call_that_somebody_spent_is_no_dead_end(lab: GrantingLab) -> None:
    opened = lab.open()
    granted = consented(lab, opened.bundle)
    counter = uses_counter(request(lab).id, 1)
    lab.authority.store.spend(payer("mail"), [Spend(counter, "calls", Decimal("0.5"), Decimal(1))], now=NOW)
    lab.authority.store.spend(payer("mail"), [Spend(counter, "x", Decimal(9), Decimal(9))], now=NOW)
    assert lab.codes(granted, SEND) == ("budget_exhausted",)
    lab.pending(opened.bundle, SEND)
    assert lab.codes(consented(lab, opened.bundle), SEND) == ()


def test_another_unit_at_the_counter_uses_nothing_up(lab: GrantingLab) -> None:
    opened = lab.open()
    granted = consented(lab, opened.bundle)
    counter = uses_counter(request(lab).id, 1)
    lab.authority.store.spend(payer("mail"), [Spend(counter, "x", Decimal(9), Decimal(9))], now=NOW)
    assert lab.granted(opened.bundle, SEND) == granted
    assert lab.codes(granted, SEND) == ()


def test_fewer_uses_than_were_used_begin_another_round(lab: GrantingLab) -> None:
    lab.policy = asking(3)
    opened = lab.open()
    first = consented(lab, opened.bundle)
    assert [lab.codes(first, SEND) for _ in range(2)] == [(), ()]
    lab.policy = asking(1)
    second = consented(lab, opened.bundle)
    assert (lab.codes(second, SEND), lab.codes(second, SEND)) == ((), ("budget_exhausted",))


def test_a_grant_on_other_terms_is_told(lab: GrantingLab) -> None:
    lab.policy = asking(None)
    opened = lab.open()
    consented(lab, opened.bundle)
    lab.policy = asking(1)
    told = lab.authority.inquiry(lab.pending(opened.bundle, SEND).request).sentences()
    assert "it was granted before on other terms, and that grant may still be good" in told


@pytest.mark.parametrize("round_", [2, 3, 2**31 - 1])
def test_a_record_of_another_round_than_its_grant_is_not_shown(lab: GrantingLab, round_: int) -> None:
    inquiry = lab.authority.inquiry(lab.pending(lab.open().bundle, SEND).request)
    other = replace(inquiry, request=replace(inquiry.request, round=round_))
    with pytest.raises(InvalidRequest, match="of another round than its grant"):
        other.sentences()


@pytest.mark.parametrize("round_", [-1, 0, 2**31, 10**30, True, "1"])
def test_a_record_of_no_round_is_damaged(lab: GrantingLab, round_: Any) -> None:
    lab.pending(lab.open().bundle, SEND)
    record = replace(request(lab), round=round_)
    with pytest.raises(Damaged):
        RequestRecord.parse(record.text())
