"""Which of an agent's approvals go with a capability."""

import pytest

from capx.errors import InvalidRequest, MalformedToken
from capx.tokens.approval_caveat import KeyedCaveat
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.bundle import MAX_TOKENS, Bundle
from capx.tokens.discharge import Discharge
from capx.tokens.held_approvals import choose, demands_of, missing_signatures
from capx_caveats import CALLS, Budget, Call, Expires, Glob, where
from tests.labs.approving import ARGS, BEN, CLEO, LEA, approved, demanding, keyed, put_together, request, terms
from tests.labs.lab import NONCES, NOW, minted

TOKEN = demanding()
CALL = Call("a.write", ARGS)
SECOND = keyed(BEN, nonce=b"2" * 16)


def test_the_newest_that_may_serve_is_chosen() -> None:
    old, new = approved(TOKEN), approved(TOKEN)
    other = approved(TOKEN, args={"amount": 1})
    assert choose(TOKEN, [old, new, other], CALL, NOW) == [new]
    assert choose(TOKEN, [old, new, other], Call("a.write", {"amount": 1}), NOW) == [other]
    assert choose(TOKEN, [other], CALL, NOW) == []


def test_before_the_call_is_known_no_call_rules_it_out() -> None:
    other = approved(TOKEN, args={"amount": 1})
    assert choose(TOKEN, [approved(TOKEN), other], None, NOW) == [other]


def test_what_has_expired_is_left_out() -> None:
    short = approved(TOKEN, lasts=60)
    assert choose(TOKEN, [short], CALL, NOW + 59) == [short]
    assert choose(TOKEN, [short], CALL, NOW + 60) == []


def test_what_is_for_others_is_left_out() -> None:
    child, sibling = (TOKEN.delegate(to="a", nonce=nonce) for nonce in NONCES[:2])
    assert choose(child, [approved(sibling)], CALL, NOW) == []
    assert choose(TOKEN, [approved(child)], CALL, NOW) == []
    assert len(choose(child, [approved(TOKEN)], CALL, NOW)) == 1
    there = demanding(audience="erp")
    assert choose(TOKEN, [approved(there)], CALL, NOW) == []


def test_what_is_not_complete_is_left_out() -> None:
    token = demanding(keyed(LEA, BEN, count=2))
    one = LEA.approve(request(token), now=NOW)
    assert choose(token, [one], CALL, NOW) == []
    assert missing_signatures(one) == 1
    assert missing_signatures(approved(token, LEA, BEN)) == 0
    assert missing_signatures(put_together(b"[]", cid=b"strange")) is None


def test_what_says_nothing_is_left_out() -> None:
    assert choose(TOKEN, [put_together(b'[["expires",1]]')], CALL, NOW) == []


def test_each_demand_gets_an_approval_of_its_own() -> None:
    token = TOKEN.demanding(SECOND)
    one, two = approved(token), approved(token, BEN, said={"cid": SECOND.cid})
    assert choose(token, [two, one], CALL, NOW) == [one, two]
    twice = TOKEN.demanding(keyed())
    again = approved(twice)
    assert choose(twice, [one := approved(twice)], CALL, NOW) == [one, one]
    assert choose(twice, [one, again], CALL, NOW) == [again, again]


def test_the_demand_of_another_call_comes_first() -> None:
    token = TOKEN.demanding(SECOND)
    other = approved(token, args={"amount": 1})
    mine = approved(token, BEN, said={"cid": SECOND.cid})
    assert demands_of(token, [other], CALL, NOW) == [keyed().cid, SECOND.cid]
    assert demands_of(token, [other, mine], CALL, NOW) == [keyed().cid, SECOND.cid]
    assert demands_of(token, [approved(token), mine], CALL, NOW) == [keyed().cid, SECOND.cid]
    assert demands_of(token, [approved(token), other], CALL, NOW) == [SECOND.cid, keyed().cid]


def test_what_is_too_much_to_foresee_is_not_ruled_out() -> None:
    patterns = [where("args.note", Glob(f"{number}*{'a*' * 40}")) for number in range(30)]
    found = approved(TOKEN, args={"note": "x"}).attenuate(*patterns, now=NOW)
    assert choose(TOKEN, [found], Call("a.write", {"note": "y"}), NOW) == []
    assert choose(TOKEN, [found], Call("a.write", {"note": "y" * 500_000}), NOW) == [found]


def bundle(*approvals: Discharge) -> Bundle:
    return Bundle([minted(audience="erp"), TOKEN], approvals=approvals)


def test_a_bundle_holds_approvals_behind_its_tokens() -> None:
    held = bundle(approved(TOKEN))
    assert held.text.count("capx1_") == 2
    assert held.text.count(",capxd1_") == 1
    assert Bundle.parse(held.text) == held
    assert Bundle.parse(held.text).approvals == held.approvals
    assert held != bundle()
    assert hash(held) == hash(Bundle.parse(held.text))
    with pytest.raises(MalformedToken, match="begins with an approval, which is of no use alone"):
        Bundle.parse(",".join(reversed(held.text.split(","))))


def test_a_bundle_passes_its_approvals_down() -> None:
    held = bundle(approved(TOKEN))
    assert held.attenuate(Expires(NOW + 5), now=NOW).approvals == held.approvals
    assert held.delegate(to="a", audiences=["crm"]).approvals == held.approvals
    assert held.holding(minted(audience="hr"), now=NOW).approvals == held.approvals
    assert held.without(*held.approvals).approvals == ()
    assert held.without(TOKEN).approvals == held.approvals


def test_a_bundle_presents_with_the_approval_of_the_call() -> None:
    one = approved(TOKEN)
    held = bundle(one)
    text = held.present("crm", ToolCall("a.write", ARGS), now=NOW).text
    assert text.count(",capxd1_") == 1
    assert "," not in held.present("crm", ToolCall("a.write", {"amount": 1}), now=NOW).text
    assert "," not in held.present("erp", ToolCall("a.write", ARGS), now=NOW).text
    assert "," in held.present("crm", HttpRequest(method="POST", target="/"), now=NOW).text


def test_a_bundle_takes_the_approvals_that_it_demands() -> None:
    one = approved(TOKEN)
    assert bundle().holding(one, now=NOW).approvals == (one,)
    other = approved(TOKEN)
    assert bundle(one, other).holding(one, now=NOW).approvals == (other, one)
    stranger = approved(demanding(SECOND), BEN)
    with pytest.raises(InvalidRequest, match="no capability of this bundle demands this approval"):
        bundle().holding(stranger)


def test_a_bundle_takes_no_half_of_an_approval() -> None:
    token = demanding(keyed(LEA, BEN, count=2))
    half = LEA.approve(request(token), now=NOW)
    with pytest.raises(InvalidRequest, match="cannot be used: 1 more must sign it"):
        Bundle([token]).holding(half)
    third = put_together(half.blocks[0], (0, LEA), (1, BEN), (2, CLEO), cid=token.demands[0])
    with pytest.raises(InvalidRequest, match="more signatures than its demand wants"):
        Bundle([token]).holding(third)


def test_a_full_bundle_drops_what_has_expired_then_the_oldest() -> None:
    held = [approved(TOKEN) for _ in range(MAX_TOKENS - 1)]
    short = approved(TOKEN, lasts=1)
    full = Bundle([TOKEN], approvals=[*held, short])
    new = approved(TOKEN)
    assert full.holding(new, now=NOW + 1).approvals == (*held, new)
    assert full.holding(new, now=NOW).approvals == (*held[1:], short, new)
    with pytest.raises(MalformedToken, match="and as many approvals"):
        Bundle([TOKEN], approvals=[*held, short, new])
    with pytest.raises(MalformedToken, match="and as many approvals"):
        Bundle.parse(",".join(["x"] * (2 * MAX_TOKENS + 1)))


def test_a_bundle_asks_for_what_it_lacks() -> None:
    held = Bundle([TOKEN.demanding(SECOND)])
    asked = held.approval_request("a.write", ARGS, audience="crm", now=NOW)
    assert (asked.cid.encode(), asked.action, asked.args) == (keyed().cid, "a.write", ARGS)
    fuller = held.holding(approved(next(iter(held))), now=NOW)
    assert fuller.approval_request("a.write", ARGS, audience="crm", now=NOW).cid.encode() == SECOND.cid
    with pytest.raises(InvalidRequest, match="no capability for erp that may allow this call demands an approval"):
        bundle().approval_request("a.write", ARGS, audience="erp")


def test_a_child_of_a_demanding_bundle_may_ask_for_approvals() -> None:
    whole = Bundle([TOKEN, minted(audience="authority")])
    child = whole.delegate(to="a", allow=["a.write"])
    assert child.audiences == ("crm", "authority")
    (own,) = (one for one in child if one.audience == "authority")
    assert "approval.request" in str([caveat.sentence() for caveat in own.caveats[-1]])
    plain = Bundle([minted(), minted(audience="authority")])
    assert plain.delegate(to="a", allow=["a.write"]).audiences == ("crm",)
    asking = plain.delegate(to="a", allow=["a.write"], approval=terms())
    assert asking.audiences == ("crm", "authority")
    assert len({cid for one in asking for cid in one.demands}) == 1


def test_nobody_names_the_ask_for_approvals() -> None:
    with pytest.raises(InvalidRequest, match="do not name approval"):
        bundle().delegate(to="a", allow=["approval.request"])


def test_nine_approvals_do_not_go_with_one_presentation() -> None:
    token = TOKEN
    for number in range(8):
        token = token.demanding(keyed(nonce=bytes([number + 1]) * 16))
    held = [approved(token, said={"cid": cid}) for cid in token.demands]
    with pytest.raises(InvalidRequest, match="at most 8 approvals"):
        Bundle([token], approvals=held).present("crm", ToolCall("a.write", ARGS), now=NOW)


def test_a_large_call_is_not_foreseen() -> None:
    found = approved(TOKEN, args={"note": "x" * 1900})
    assert choose(TOKEN, [found], Call("a.write", {"note": "y" * 500_000}), NOW) == []
    assert isinstance(keyed(), KeyedCaveat)
    assert Budget(CALLS, "1") in found.caveats[0]
