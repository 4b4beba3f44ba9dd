"""Approvals, attacked: dodged, forged, moved, replayed, stretched (attacks 24 to 41)."""

from itertools import product

import pytest

from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import Signer
from capx.crypto.hashing import digest, macaroon_key
from capx.errors import MalformedToken
from capx.intents.principal_key import PrincipalKey
from capx.tokens import chain, wire
from capx.tokens.approval import approval_message
from capx.tokens.approval_caveat import KeyedCaveat
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.discharge import Discharge, tail_of
from capx.tokens.revocation_key import of_key
from capx_caveats import (
    CALLS,
    Allow,
    Approved,
    Budget,
    Call,
    Caveat,
    Expires,
    Holder,
    Hop,
    Intent,
    Presented,
    Root,
    Signed,
    Task,
    UntilCompleted,
    action,
    allow,
    encode_block,
)
from tests.labs.approving import (
    ARGS,
    BEN,
    CLEO,
    KEY,
    LEA,
    ApprovalLab,
    approved,
    demanding,
    fresh_key,
    keyed,
    put_together,
    request,
    signed_too,
    terms,
)
from tests.labs.keyed import PLANNER
from tests.labs.keyed import keyed as bound_to
from tests.labs.lab import NONCES, NOW, appended, codes, minted, raw

BAD = ("bad_discharge",)
TOKEN = demanding()
SHOWN = request(TOKEN).shown
STATED = Approved("crm", request(TOKEN).node, SHOWN, NOW)
PINNED = Allow((action("a.write", args=ARGS),))


@pytest.fixture
def lab() -> ApprovalLab:
    return ApprovalLab()


def stated(*others: Caveat, claim: Approved = STATED, task: str = "T1", ends: int = NOW + 600) -> tuple[Caveat, ...]:
    """A statement of the approval that TOKEN demands, and what else it says."""
    return (claim, Task(task), PINNED, Expires(ends), *others)


def forged(*others: Caveat, **parts: object) -> Discharge:
    """The same, signed by Lea."""
    return put_together(stated(*others, **parts), (0, LEA))  # type: ignore[arg-type] # of what a test says


def test_the_good_one_passes(lab: ApprovalLab) -> None:
    assert lab.told(TOKEN, approved(TOKEN)) == ()
    assert lab.told(TOKEN, forged()) == ()


# 24


def test_a_call_without_its_approval_is_denied(lab: ApprovalLab) -> None:
    assert lab.told(TOKEN) == ("needs_discharge",)


def test_an_approval_that_is_not_bound_is_refused(lab: ApprovalLab) -> None:
    assert lab.told_of(f"{lab.text(TOKEN)},{approved(TOKEN).text}") == BAD


def test_an_approval_of_another_presentation_is_refused(lab: ApprovalLab) -> None:
    _, bound = lab.text(TOKEN, approved(TOKEN)).split(",")
    assert lab.told_of(f"{lab.text(TOKEN)},{bound}") == BAD


def test_a_presentation_is_replayed_with_its_approval(lab: ApprovalLab) -> None:
    text = lab.text(TOKEN, approved(TOKEN, uses=None))
    assert lab.told_of(text) == ()
    assert lab.told_of(text) == ("replayed",)


# 25


def test_one_approval_twice_is_refused(lab: ApprovalLab) -> None:
    once = approved(TOKEN)
    assert lab.told(TOKEN, once, once) == BAD


def test_an_approval_that_is_left_over_is_refused(lab: ApprovalLab) -> None:
    assert lab.told(minted(), approved(TOKEN)) == BAD
    other = demanding(keyed(BEN, nonce=b"o" * 16))
    assert lab.told(TOKEN, approved(TOKEN), approved(other, BEN)) == BAD


@pytest.mark.parametrize("strange", ["capxd1_", "capxd1_AA", "capxd1_+"])
def test_a_malformed_one_beside_a_good_one_is_refused(lab: ApprovalLab, strange: str) -> None:
    assert lab.told_of(f"{lab.text(TOKEN, approved(TOKEN))},{strange}") == BAD


@pytest.mark.parametrize("strange", ["", "capx1_AA", "x", "capxd2_AA", " capxd1_AA"])
def test_only_approvals_follow_a_token(lab: ApprovalLab, strange: str) -> None:
    assert lab.told_of(f"{lab.text(TOKEN, approved(TOKEN))},{strange}") == ("malformed",)


def test_a_ninth_approval_is_too_large(lab: ApprovalLab) -> None:
    once = approved(TOKEN)
    text = lab.text(TOKEN)
    assert lab.told_of(",".join([text, *[once.text] * 9])) == ("too_large",)
    assert lab.told_of(text + "," * 100_000) == ("too_large",)
    assert lab.told_of(text + ",x" * 9) == ("too_large",)


# 26


def test_a_swapped_cid_is_not_authentic(lab: ApprovalLab) -> None:
    frame = wire.decode(TOKEN.text)
    third = frame.blocks[-1]
    assert isinstance(third, chain.ThirdParty)
    mine = keyed(BEN, nonce=b"m" * 16)
    swapped = chain.ThirdParty(third.vid, mine.cid)
    text = wire.encode(frame.identifier, (*frame.blocks[:-1], swapped), frame.signature)
    assert lab.told(Capability(wire.decode(text), text)) == ("not_authentic",)


def test_a_vid_that_does_not_open_is_refused(lab: ApprovalLab) -> None:
    demand = keyed()
    strange = [b"", bytes(72), demand.below(bytes(32)).vid]
    for vid in strange:
        token = appended(minted(), chain.ThirdParty(vid, demand.cid))
        assert lab.told(token) == ("needs_discharge",)
        assert lab.told(token, approved(token)) == BAD


def test_a_vid_of_another_position_is_refused(lab: ApprovalLab) -> None:
    third = TOKEN.blocks[-1]
    moved = appended(minted(nonce="BQUFBQUFBQUFBQUFBQUFBQ"), third)
    assert lab.told(moved, approved(moved)) == BAD


# 27


def test_a_dropped_demand_is_not_authentic(lab: ApprovalLab) -> None:
    frame = wire.decode(TOKEN.text)
    text = wire.encode(frame.identifier, frame.blocks[:-1], frame.signature)
    assert lab.told(Capability(wire.decode(text), text)) == ("not_authentic",)


def test_a_child_cannot_drop_the_demand_of_its_parent(lab: ApprovalLab) -> None:
    child = TOKEN.delegate(to="a")
    assert lab.told(child) == ("needs_discharge",)
    assert lab.told(child, approved(TOKEN)) == ()


# 28


def test_the_demander_alone_cannot_approve(lab: ApprovalLab) -> None:
    # It knows K, so its MACs are good.
    me = fresh_key()
    assert lab.told(TOKEN, put_together(stated())) == BAD
    assert lab.told(TOKEN, put_together(stated(), encode_block((Signed(0, "A" * 86),)))) == BAD
    assert lab.told(TOKEN, put_together(stated(), (0, me))) == BAD


def test_the_demander_cannot_change_what_was_signed(lab: ApprovalLab) -> None:
    real = approved(TOKEN)
    wider = put_together(
        tuple(one if not isinstance(one, Allow) else allow("a.write") for one in real.caveats[0]), real.blocks[1]
    )
    assert lab.told(TOKEN, wider) == BAD


def test_every_changed_byte_of_a_statement_is_refused(lab: ApprovalLab) -> None:
    real = approved(TOKEN, uses=None)
    statement, signature = real.blocks
    for at, bit in product(range(len(statement)), (1, 32)):
        changed = bytearray(statement)
        changed[at] ^= bit
        assert lab.told(TOKEN, put_together(bytes(changed), signature)) != (), at
    for at in range(len(signature)):
        changed = bytearray(signature)
        changed[at] ^= 1
        assert lab.told(TOKEN, put_together(statement, bytes(changed))) != (), at


def test_every_changed_byte_of_a_demand_is_refused(lab: ApprovalLab) -> None:
    demand = keyed()
    real = approved(TOKEN, uses=None)
    for at in range(len(demand.cid)):
        changed = bytearray(demand.cid)
        changed[at] ^= 1
        token = minted().demanding(KeyedCaveat(bytes(changed), demand.key))
        forgery = put_together(real.blocks[0], real.blocks[1], cid=bytes(changed))
        assert lab.told(token, forgery) == BAD, at


# 29


def test_an_approval_for_another_task_is_refused(lab: ApprovalLab) -> None:
    assert lab.told(TOKEN, approved(TOKEN, said={"task": "T2"})) == BAD


def test_an_approval_for_another_intent_is_refused(lab: ApprovalLab) -> None:
    mine, other = "A" * 43, "B" * 42 + "A"
    on_intent = demanding(None, Intent(mine))
    assert lab.told(on_intent, approved(on_intent)) == ()
    assert lab.told(on_intent, approved(on_intent, said={"intent": other})) == BAD
    assert lab.told(on_intent, approved(on_intent, said={"intent": None})) == BAD
    assert lab.told(TOKEN, approved(TOKEN, said={"intent": mine})) == BAD


def test_an_approval_for_another_audience_is_refused(lab: ApprovalLab) -> None:
    assert lab.told(TOKEN, approved(TOKEN, said={"audience": "erp"})) == BAD


def test_an_approval_for_a_sibling_or_a_child_is_refused(lab: ApprovalLab) -> None:
    one, other = (TOKEN.delegate(to="a", nonce=nonce) for nonce in NONCES[:2])
    assert lab.told(one, approved(one)) == ()
    assert lab.told(one, approved(other)) == BAD
    assert lab.told(TOKEN, approved(one)) == BAD
    assert lab.told(one.delegate(to="b"), approved(one)) == ()


# 30


def test_an_approval_is_for_one_call_only(lab: ApprovalLab) -> None:
    token = demanding(None, allowed=allow("a.write", "a.read"))
    found = approved(token, uses=None)
    assert lab.told(token, found) == ()
    assert lab.told(token, found, action="a.read") == ("action_not_allowed",)
    assert lab.told(token, found, args={"amount": 400}) == ("argument_refused",)
    assert lab.told(token, found, args={}) == ("argument_refused",)
    assert lab.told(token, found, args={**ARGS, "to": "me"}) == ("argument_not_named",)
    assert lab.told(token, found, args={"amount": "40"}) == ("argument_refused",)


def test_one_is_not_true(lab: ApprovalLab) -> None:
    found = approved(TOKEN, args={"amount": 1}, uses=None)
    assert lab.told(TOKEN, found, args={"amount": True}) == ("argument_refused",)
    assert lab.told(TOKEN, found, args={"amount": 1}) == ()


# 31


def test_a_signature_is_not_moved_to_another_demand(lab: ApprovalLab) -> None:
    mine = keyed(nonce=b"m" * 16)
    token, real = minted().demanding(mine), approved(TOKEN, uses=None)
    assert lab.told(token, put_together(*real.blocks, cid=mine.cid)) == BAD


def test_a_box_that_was_copied_opens_nothing_new(lab: ApprovalLab) -> None:
    # With the boxes of somebody else's demand in one's own cid: the approver then makes MACs under a key that the
    # thief's vid does not hold.
    copied = keyed().cid.replace(b'"AAAAAAAAAAAAAAAAAAAAAA"', b'"BBBBBBBBBBBBBBBBBBBBBA"')
    token = minted().demanding(KeyedCaveat(copied, macaroon_key(bytes(32))))
    assert lab.told(token, approved(token)) == BAD


# 32


def test_an_approval_expires(lab: ApprovalLab) -> None:
    found = approved(TOKEN, uses=None, lasts=60)
    lab.clock.now = NOW + 59
    assert lab.told(TOKEN, found) == ()
    lab.clock.now = NOW + 60
    assert lab.told(TOKEN, found) == ("expired",)


def test_an_approval_from_the_future_is_refused(lab: ApprovalLab) -> None:
    for ahead, told in ((5, ()), (6, BAD)):
        claim = Approved("crm", STATED.node, SHOWN, NOW + ahead)
        assert lab.told(TOKEN, forged(claim=claim)) == told


def test_an_approval_lasts_no_longer_than_the_demand_permits(lab: ApprovalLab) -> None:
    assert lab.told(TOKEN, forged(ends=NOW + 900)) == ()
    assert lab.told(TOKEN, forged(ends=NOW + 901)) == BAD


# 33


def test_an_approval_for_one_call_serves_one(lab: ApprovalLab) -> None:
    found = approved(TOKEN)
    assert lab.told(TOKEN, found) == ()
    assert lab.told(TOKEN, found) == ("budget_exhausted",)
    assert lab.told(TOKEN, found.attenuate(Expires(NOW + 60), now=NOW)) == ("budget_exhausted",)
    assert lab.told(TOKEN.delegate(to="a"), found) == ("budget_exhausted",)


def test_another_signature_does_not_renew_an_approval(lab: ApprovalLab) -> None:
    token = demanding(keyed(LEA, BEN, CLEO, count=2))
    asked = request(token)
    one = LEA.approve(asked, now=NOW)
    assert lab.told(token, BEN.cosign(asked, one, now=NOW)) == ()
    assert lab.told(token, CLEO.cosign(asked, one, now=NOW)) == ("budget_exhausted",)


def test_a_use_needs_a_meter() -> None:
    lab = ApprovalLab(meter=None)
    assert lab.told(TOKEN, approved(TOKEN)) == ("no_meter",)
    assert lab.told(TOKEN, approved(TOKEN, uses=None)) == ()


def test_two_approvals_of_one_call_are_two(lab: ApprovalLab) -> None:
    one, other = approved(TOKEN), approved(TOKEN)
    assert lab.told(TOKEN, one) == ()
    assert lab.told(TOKEN, other) == ()
    assert lab.told(TOKEN, other) == ("budget_exhausted",)


# 34


def test_fewer_and_more_signatures_are_refused(lab: ApprovalLab) -> None:
    token = demanding(keyed(LEA, BEN, CLEO, count=2))
    cid, statement = keyed(LEA, BEN, CLEO, count=2).cid, stated()
    one = put_together(statement, (0, LEA), cid=cid)
    assert lab.told(token, one) == BAD
    assert lab.told(token, signed_too(one, 0, LEA)) == BAD
    assert lab.told(token, signed_too(one, 0, BEN)) == (*BAD, *BAD)
    assert lab.told(token, signed_too(one, 1, BEN)) == ()
    assert lab.told(token, signed_too(signed_too(one, 1, BEN), 2, CLEO)) == BAD
    assert lab.told(token, signed_too(one, 3, CLEO)) == BAD
    assert lab.told(token, signed_too(one, 2**53 - 1, CLEO)) == BAD


@pytest.mark.parametrize("cid", [b"", b"approve, please", b'[1,2,["AAAA"],1,"",[]]', keyed().cid + b" "])
def test_a_strange_demand_is_not_understood(lab: ApprovalLab, cid: bytes) -> None:
    strange = KeyedCaveat(cid, macaroon_key(KEY))
    token = minted().delegate(to="a").demanding(strange)
    decision = lab.verifier.decide(lab.text(token), ToolCall("a.write", ARGS), Call("a.write", ARGS))
    assert codes(decision) == ("not_understood",)
    assert (decision.refusals[0].hop, decision.refusals[0].hop_name) == (1, "a")
    assert lab.told(token, put_together(stated(), (0, LEA), cid=cid)) == BAD


# 35


def test_who_approves_does_not_act(lab: ApprovalLab) -> None:
    seed = Signer(bytes(range(7, 39)))
    me, agent = PrincipalKey("somebody", seed), AgentKey("agent", seed)
    demand = terms(me).drawn(KEY, bytes(16))
    found = put_together(stated(), (0, me), cid=demand.cid)
    assert lab.told(bound_to(PLANNER).demanding(demand), found) == ()
    assert lab.told(bound_to(agent).demanding(demand), found) == BAD
    claim = Approved("crm", b64u(bound_to(PLANNER).delegate(to="a", to_key=agent, nonce=NONCES[0]).path[0]), SHOWN, NOW)
    below = bound_to(PLANNER).demanding(demand).delegate(to="a", to_key=agent, nonce=NONCES[0])
    assert lab.told(below, put_together(stated(claim=claim), (0, me), cid=demand.cid)) == BAD


# 36


@pytest.mark.parametrize(
    "mark",
    [
        Root("R1"),
        Holder("A" * 43),
        Hop("a", NONCES[0]),
        Presented("tool", "A" * 43, NOW, "A" * 16),
        Signed(0, "A" * 86),
        STATED,
        Task("T1"),
        Budget(CALLS, "1", "other"),
    ],
    ids=lambda mark: type(mark).__name__,
)
def test_a_mark_in_a_statement_or_behind_it_is_refused(lab: ApprovalLab, mark: Caveat) -> None:
    assert lab.told(TOKEN, forged(mark)) == BAD
    assert lab.told(TOKEN, put_together(stated(), (0, LEA), encode_block((mark,)))) == BAD


def test_a_statement_without_its_parts_is_refused(lab: ApprovalLab) -> None:
    whole = stated()
    for left_out in range(len(whole)):
        assert lab.told(TOKEN, put_together(whole[:left_out] + whole[left_out + 1 :], (0, LEA))) == BAD, left_out
    assert lab.told(TOKEN, put_together((whole[1], whole[0], *whole[2:]), (0, LEA))) == BAD
    assert lab.told(TOKEN, forged(Expires(NOW + 60))) == BAD


def test_a_caveat_that_nobody_knows_refuses(lab: ApprovalLab) -> None:
    statement = encode_block(stated())[:-1] + b',["unknown",1]]'
    assert lab.told(TOKEN, put_together(statement, (0, LEA))) == ("not_understood",)
    narrower = put_together(stated(), (0, LEA), b'[["unknown",1]]')
    assert lab.told(TOKEN, narrower) == ("not_understood",)


def test_an_approval_ends_with_another_task(lab: ApprovalLab) -> None:
    found = forged(UntilCompleted("T7"))
    assert lab.told(TOKEN, found) == ()
    lab.deaths.deaths["T7"] = "task_completed"
    assert lab.told(TOKEN, found) == ("task_completed",)


# 37


@pytest.mark.parametrize("mark", [STATED, Signed(0, "A" * 86)], ids=["approved", "signed"])
def test_the_marks_of_a_discharge_are_misplaced_in_a_token(lab: ApprovalLab, mark: Caveat) -> None:
    assert lab.told(appended(minted(), encode_block((mark,)))) == ("misplaced",)
    assert lab.told(minted(mark)) == ("misplaced",)


def test_a_discharge_is_no_token_and_a_token_no_discharge(lab: ApprovalLab) -> None:
    assert lab.told_of(approved(TOKEN).text) == ("malformed",)
    assert lab.told_of(f"{lab.text(TOKEN)},{lab.text(minted())}") == ("malformed",)
    with pytest.raises(MalformedToken):
        Discharge.parse(lab.text(TOKEN))


def test_a_discharge_cannot_be_minted_as_a_token(lab: ApprovalLab) -> None:
    # A token whose identifier is a cid: no identifier has this form.
    token = raw(encode_block(stated()))
    frame = wire.decode(token.text)
    assert lab.told(Capability(frame, token.text)) != ()
    with pytest.raises(MalformedToken):
        wire.Identifier.decode(keyed().cid)


# 38


def test_an_approval_can_be_taken_back(lab: ApprovalLab) -> None:
    found = approved(TOKEN, uses=None)
    assert lab.told(TOKEN, found) == ()
    for id_ in found.ids:
        lab.deaths.deaths = {id_: "revoked"}
        assert lab.told(TOKEN, found) == ("revoked",)
    lab.deaths.deaths = {}
    assert lab.told(TOKEN, found) == ()


def test_the_key_of_an_approver_can_be_revoked(lab: ApprovalLab) -> None:
    found = approved(TOKEN, uses=None)
    caveat = request(TOKEN).caveat
    lab.deaths.deaths = {of_key(caveat.keys[0]): "revoked"}
    assert lab.told(TOKEN, found) == ("revoked",)
    assert lab.told(TOKEN) == ("needs_discharge",)


def test_who_did_not_sign_does_not_take_back(lab: ApprovalLab) -> None:
    token = demanding(keyed(LEA, BEN))
    caveat = request(token).caveat
    lab.deaths.deaths = {of_key(caveat.keys[1]): "revoked"}
    assert lab.told(token, approved(token, LEA)) == ()
    assert lab.told(token, approved(token, BEN)) == ("revoked",)


# 39


def test_no_discharge_leads_to_another(lab: ApprovalLab) -> None:
    demand = keyed()
    tail = tail_of(macaroon_key(KEY), demand.cid)
    third = demand.below(tail)
    body = bytearray(b"\x02\x01\x08approval")
    wire.put_field(body, wire.CID, demand.cid)
    body.append(0)
    wire.put_field(body, wire.CID, third.cid)
    wire.put_field(body, wire.VID, third.vid)
    body += b"\0\0"
    wire.put_field(body, wire.MAC, chain.extend(tail, third))
    text = f"capxd1_{b64u(bytes(body))}"
    with pytest.raises(MalformedToken):
        Discharge.parse(text)
    assert lab.told_of(f"{lab.text(TOKEN)},{text}") == BAD


# 41


def test_what_a_resource_unbinds_is_good_at_itself_only(lab: ApprovalLab) -> None:
    # It knows K by its own key, so it can make any MAC; but not for another audience, and no signature.
    other = ApprovalLab("erp")
    demand = keyed()
    there = minted(audience="erp").demanding(demand)
    unbound = approved(TOKEN, uses=None)
    assert lab.told(TOKEN, unbound) == ()
    assert other.told(there, unbound) == BAD


def test_a_remembered_approval_is_judged_anew(lab: ApprovalLab) -> None:
    found = approved(TOKEN, uses=None)
    assert lab.told(TOKEN, found) == ()
    sibling = minted(task="T2", root="R2").demanding(keyed())
    assert lab.told(sibling, found) == (*BAD, *BAD)
    assert lab.told(TOKEN, found, args={"amount": 41}) == ("argument_refused",)
    tampered = put_together(*found.blocks[:1], encode_block((Signed(0, "A" * 86),)))
    assert lab.told(TOKEN, tampered) == BAD
    assert lab.told(TOKEN, found) == ()


def test_two_demands_need_two_approvals(lab: ApprovalLab) -> None:
    second = keyed(BEN, nonce=b"2" * 16)
    token = TOKEN.demanding(second)
    one, two = approved(TOKEN, uses=None), approved(token, BEN, said={"cid": second.cid}, uses=None)
    assert lab.told(token) == ("needs_discharge", "needs_discharge")
    assert lab.told(token, one) == ("needs_discharge",)
    assert lab.told(token, one, two) == lab.told(token, two, one) == ()


def test_17_signatures_are_too_large(lab: ApprovalLab) -> None:
    people = [fresh_key() for _ in range(9)]
    demands = [terms(*people, count=9).drawn() for _ in range(2)]
    token = minted().demanding(demands[0]).demanding(demands[1])
    found = [approved(token, *people, said={"cid": demand.cid}, uses=None) for demand in demands]
    assert lab.told(token, *found) == ("too_large",)


def test_budgets_of_token_and_approvals_count_together(lab: ApprovalLab) -> None:
    many = [Budget(CALLS, "9")] * 8
    token = demanding(None, *many)
    fits, over = (forged(*[Budget(CALLS, "9")] * number) for number in (8, 9))
    assert lab.told(token, fits) == ()
    assert lab.told(token, over) == ("too_large",)


def test_the_log_names_whose_approval_refuses(lab: ApprovalLab) -> None:
    decision = lab.verifier.decide(
        lab.text(TOKEN, approved(TOKEN, args={"amount": 1})), ToolCall("a.write", ARGS), Call("a.write", ARGS)
    )
    assert [(one.hop, one.hop_name) for one in decision.refusals] == [(0, "an approval")]


def test_a_message_of_an_approver_is_no_other_message() -> None:
    statement = approved(TOKEN).digests[1]
    assert approval_message(statement) == digest(b"capx/1/approval", statement)
    assert len(approval_message(statement)) == 32
