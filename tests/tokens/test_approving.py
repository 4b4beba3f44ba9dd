"""Approving: what a person signs, alone and beside others."""

from typing import Any

import pytest

from capx.crypto.hashing import macaroon_key
from capx.errors import InvalidRequest
from capx.intents.principal_key import PrincipalKey
from capx.tokens import approving
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.approving import has_expired, is_for, signatures_in
from capx.tokens.discharge import Discharge, is_made_with
from capx_caveats import (
    CALLS,
    Allow,
    Approved,
    Budget,
    Entry,
    Expires,
    Fresh,
    Hop,
    Intent,
    Signed,
    Task,
    allow,
    budget,
    encode_block,
    expires,
)
from tests.labs.approving import BEN, CLEO, KEY, LEA, demanding, fresh_key, keyed, put_together, request
from tests.labs.lab import NONCES, NOW

TOKEN = demanding()
ASKED = request(TOKEN)
PAIR = demanding(keyed(LEA, BEN, CLEO, count=2))
PAIRS = request(PAIR)


def approve(asked: ApprovalRequest = ASKED, person: PrincipalKey = LEA, now: int = NOW, **how: Any) -> Discharge:
    return person.approve(asked, now=now, **how)


def cosign(approval: Discharge, person: PrincipalKey = BEN, now: int = NOW) -> Discharge:
    return person.cosign(PAIRS, approval, now=now)


def test_by_default_once_for_ten_minutes() -> None:
    found = approve()
    stated, task, allowed, ends, uses = found.caveats[0]
    assert stated == Approved("crm", ASKED.node, ASKED.shown, NOW)
    assert (task, allowed) == (Task("T1"), Allow((ASKED.entry,)))
    assert (ends, uses) == (Expires(NOW + 600), Budget(CALLS, "1"))
    assert isinstance(found.caveats[1][0], Signed)
    assert is_made_with(macaroon_key(KEY), found)
    assert signatures_in(found) == (0,)


def test_the_approver_may_say_how_long_and_how_often() -> None:
    found = approve(uses=None, lasts=1, caveats=[Fresh(5)])
    assert found.caveats[0][3:] == (Expires(NOW + 1), Fresh(5))
    assert Budget(CALLS, "1000000") in approve(uses=1_000_000).caveats[0]


def test_it_lasts_no_longer_than_the_demand_permits() -> None:
    short = request(demanding(keyed(lasts=60)))
    assert Expires(NOW + 60) in approve(short).caveats[0]
    assert signatures_in(approve(short, lasts=60)) == (0,)
    for lasts in (61, 0, -1, True, 1.5):
        with pytest.raises(InvalidRequest, match="the token permits approvals that last from 1s to 1m"):
            approve(short, lasts=lasts)


@pytest.mark.parametrize("uses", [0, -1, 1_000_001, True, "1", 1.0])
def test_other_numbers_of_uses_are_refused(uses: Any) -> None:
    with pytest.raises(InvalidRequest, match="`uses` must be a whole number from 1 to 1000000, or None"):
        approve(uses=uses)


BESIDE = {
    "hop": Hop("a", NONCES[0]),
    "allow": allow("a.write"),
    "ends": expires("5m"),
    "counter": budget("calls", 5, counter="x"),
}


@pytest.mark.parametrize("caveat", BESIDE.values(), ids=list(BESIDE))
def test_what_an_approval_says_by_itself_is_refused(caveat: Any) -> None:
    with pytest.raises(InvalidRequest, match="beside its statement"):
        approve(caveats=[caveat])


def test_who_is_not_asked_cannot_approve() -> None:
    with pytest.raises(InvalidRequest, match="this request asks ed25519:"):
        approve(person=BEN)


def test_a_box_for_somebody_else_is_told() -> None:
    # The key of the request is Lea's, and the box is not for her.
    box = keyed(BEN, nonce=b"x" * 16).cid.split(b'["')[-1]
    cid = keyed(nonce=b"y" * 16).cid
    strange = cid[: cid.rindex(b'["') + 2] + box
    with pytest.raises(InvalidRequest, match="the demand has no key for you in it"):
        approve(request(TOKEN, cid=strange))


def test_two_people_sign_the_same_statement() -> None:
    one = approve(PAIRS)
    both = cosign(one)
    assert both.blocks[: len(one.blocks)] == one.blocks
    assert (both.id, signatures_in(both)) == (one.id, (0, 1))
    assert signatures_in(cosign(approve(PAIRS, CLEO), LEA)) == (2, 0)


def told(other: Discharge, person: PrincipalKey = BEN, asked: ApprovalRequest = PAIRS, now: int = NOW) -> str:
    with pytest.raises(InvalidRequest) as error:
        person.cosign(asked, other, now=now)
    return str(error.value)


def test_nobody_signs_twice() -> None:
    assert "you have signed this approval already" in told(approve(PAIRS), LEA)


def test_nobody_signs_beside_all_who_must() -> None:
    both = cosign(approve(PAIRS))
    assert "has all its signatures already" in told(both, CLEO)
    narrowed = approve(PAIRS).attenuate(Expires(NOW + 5), now=NOW)
    assert "1 to 2 signatures, and nothing behind them" in told(narrowed)


def test_nobody_signs_an_approval_of_another_demand() -> None:
    other = demanding(keyed(LEA, BEN, CLEO, count=2, nonce=b"o" * 16))
    assert "of another demand, or was changed" in told(approve(request(other)))
    one = approve(PAIRS)
    assert "of another demand, or was changed" in told(Discharge.parse(one.bound_to(bytes(32))))


def test_nobody_signs_an_approval_of_another_request() -> None:
    again = request(PAIR)
    assert "for another call than the request" in told(approve(again))
    assert "for another call than the request" in told(approve(request(PAIR, args={"amount": 400})))


@pytest.mark.parametrize("mark", [Intent("A" * 43), Task("T1"), Hop("a", NONCES[0])], ids=["intent", "task", "hop"])
def test_nobody_signs_a_mark_that_is_not_shown(mark: Any) -> None:
    stated, task, *rest = approve(PAIRS).caveats[0]
    for statement in ((stated, task, mark, *rest), (stated, task, *rest, mark)):
        assert "for another call" in told(put_together(statement, (0, LEA), cid=PAIR.demands[0]))


@pytest.mark.parametrize(("at", "ends", "said"), [(6, 60, "in the future"), (0, 901, "longer than the 900 s")])
def test_nobody_signs_other_times_than_the_demand_permits(at: int, ends: int, said: str) -> None:
    statement = [
        Approved(one.audience, one.node, one.shown, NOW + at)
        if isinstance(one, Approved)
        else Expires(NOW + ends)
        if isinstance(one, Expires)
        else one
        for one in approve(PAIRS).caveats[0]
    ]
    assert said in told(put_together(statement, (0, LEA), cid=PAIR.demands[0]))


def test_nobody_signs_beside_a_signature_that_is_not_good() -> None:
    statement = approve(PAIRS).caveats[0]
    assert "did not make" in told(put_together(statement, (0, CLEO), cid=PAIR.demands[0]))


def test_nobody_signs_what_only_looks_the_same() -> None:
    real = approve(PAIRS).caveats[0]
    wider = tuple(allow("a.write") if isinstance(one, Allow) else one for one in real)
    both = (*real, allow("a.write"))
    for statement in (wider, both):
        assert "for another call" in told(put_together(statement, (0, LEA), cid=PAIR.demands[0]))


def test_one_is_not_true_for_the_second_person() -> None:
    asked = request(PAIR, args={"n": 1})
    real = approve(asked).caveats[0]
    entry = Entry("a.write", request(PAIR, args={"n": True}).entry.args)
    swapped = tuple(Allow((entry,)) if isinstance(one, Allow) else one for one in real)
    assert "for another call" in told(put_together(swapped, (0, LEA), cid=PAIR.demands[0]), asked=asked)


def test_nobody_signs_what_has_expired() -> None:
    one = approve(PAIRS, lasts=60)
    assert signatures_in(cosign(one, now=NOW + 59)) == (0, 1)
    assert "has expired: approve the request anew" in told(one, now=NOW + 60)


def test_a_statement_is_for_its_request_only() -> None:
    one = approve()
    assert is_for(one, ASKED)
    others: list[dict[str, Any]] = [{"task": "T2"}, {"intent": "A" * 43}, {"audience": "erp"}, {"action": "a.read"}]
    for changed in others:
        assert not is_for(one, request(TOKEN, **changed)), changed
    on_intent = request(TOKEN, intent="A" * 43)
    assert is_for(approve(on_intent), on_intent)
    assert not is_for(put_together(b"[]"), ASKED)
    assert not is_for(put_together(encode_block((Task("T1"),))), ASKED)
    assert not is_for(put_together(encode_block(one.caveats[0][:1])), ASKED)


def test_a_statement_repeats_task_and_intent() -> None:
    # What was shown is the same in all of them.
    asked = request(TOKEN, intent="A" * 43)
    stated, task, intent, *rest = approve(asked).caveats[0]
    assert is_for(put_together((stated, task, intent, *rest)), asked)
    strange = ((Task("T2"), intent), (task, Intent("B" * 42 + "A")), (task,), (intent, task))
    assert [is_for(put_together((stated, *claims, *rest)), asked) for claims in strange] == [False] * 4
    assert not is_for(put_together((Task("T1"), task, intent, *rest)), asked)


def test_without_a_word_an_approval_is_for_one_call() -> None:
    assert Budget(CALLS, "1") in approving.approve(ASKED, LEA, now=NOW).caveats[0]


def test_expiry_is_what_any_block_says() -> None:
    one = approve(lasts=60)
    assert not has_expired(one, NOW + 59)
    assert has_expired(one, NOW + 60)
    assert has_expired(one.attenuate(Expires(NOW + 5), now=NOW), NOW + 5)


def test_signatures_end_at_the_first_other_block() -> None:
    one = approve()
    assert signatures_in(put_together(one.blocks[0])) == ()
    narrowed = one.attenuate(Fresh(1), now=NOW)
    assert signatures_in(narrowed.extended(encode_block((Signed(3, "A" * 86),)))) == (0,)
    two = encode_block((Signed(1, "A" * 86), Fresh(1)))
    assert signatures_in(one.extended(two)) == (0,)


def test_a_new_person_has_a_new_key() -> None:
    person = fresh_key()
    asked = request(demanding(keyed(person, nonce=b"n" * 16)))
    assert signatures_in(approve(asked, person)) == (0,)
