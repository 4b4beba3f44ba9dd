"""The discharges that come with a token: taken apart, matched with the demands, and joined to the lineage."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from capx.crypto.hashing import macaroon_key, zero_mac
from capx.tokens import wire
from capx.tokens.approval import MAX_SIGNATURES, Approval
from capx.tokens.approval_caveat import KeyedCaveat
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.chain import ThirdParty
from capx.tokens.discharge import MAX_DISCHARGES, Discharge
from capx.tokens.lineage import MAX_BUDGETS, Lineage, TokenRefused, unverified_lineage
from capx.tokens.revocation_key import of_key
from capx.verify.approvals import (
    CaveatKeys,
    Known,
    Matched,
    approvals_of,
    keyed_caveats,
    match_discharges,
    split_credential,
    with_approvals,
)
from capx.verify.cache import Cache
from capx_caveats import CALLS, DEFAULT, Budget, Expires, UntilCompleted, allow, encode_block, expires, where
from tests.labs.approving import (
    ARGS,
    BEN,
    KEY,
    LEA,
    ApprovalLab,
    approved,
    demanding,
    fresh_key,
    keyed,
    put_together,
    terms,
)
from tests.labs.lab import KEY as AUDIENCE_KEY
from tests.labs.lab import NOW, appended, minted

TOKEN = demanding()
SECOND = keyed(BEN, key=bytes(32), nonce=b"2" * 16)
BOTH = TOKEN.demanding(SECOND)
OF_LEA = approved(BOTH, uses=None)
OF_BEN = approved(BOTH, BEN, said={"cid": SECOND.cid}, uses=None)


def code_of(refused: pytest.ExceptionInfo[TokenRefused]) -> str:
    return refused.value.refusal.code


# The text


@pytest.mark.parametrize("token", ["", "capx1_AA", "anything at all", "x" * (wire.MAX_CREDENTIAL + 1)])
def test_a_text_without_a_comma_is_a_token_alone(token: str) -> None:
    assert split_credential(token) == (token, ())


def test_discharges_follow_a_token_in_their_order() -> None:
    assert split_credential("capx1_AA,capxd1_BB,capxd1_AA") == ("capx1_AA", ("capxd1_BB", "capxd1_AA"))
    assert split_credential(",capxd1_") == ("", ("capxd1_",))


def test_a_credential_has_8_discharges_at_most() -> None:
    one = ",capxd1_AA"
    assert MAX_DISCHARGES == 8
    assert len(split_credential("capx1_AA" + one * 8)[1]) == 8
    for more in (one * 9, one * 100, "," * 9, f"{one * 8},", f"{one * 8},x"):
        with pytest.raises(TokenRefused) as refused:
            split_credential("capx1_AA" + more)
        assert code_of(refused) == "too_large"
        assert "more than 8 approvals" in refused.value.refusal.sentence


def test_a_credential_has_as_many_characters_as_two_tokens() -> None:
    begin = "capx1_AA,capxd1_"
    most = begin + "A" * (wire.MAX_CREDENTIAL - len(begin))
    assert wire.MAX_CREDENTIAL == 2 * wire.MAX_TEXT
    assert split_credential(most) == ("capx1_AA", (most[len("capx1_AA,") :],))
    # Neither what follows the token, nor how many there are, is looked at then.
    for longer in (f"{most}A", f"{most[:-1]},x", "," * (wire.MAX_CREDENTIAL + 1)):
        with pytest.raises(TokenRefused) as refused:
            split_credential(longer)
        assert code_of(refused) == "too_large"
        assert "characters" in refused.value.refusal.sentence


@pytest.mark.parametrize("other", ["", "x", "capx1_AA", "capxd2_AA", "capxd1", " capxd1_AA", "CAPXD1_AA"])
def test_nothing_but_discharges_follows_a_token(other: str) -> None:
    for rest in (other, f"capxd1_AA,{other}", f"{other},capxd1_AA"):
        with pytest.raises(TokenRefused) as refused:
            split_credential(f"capx1_AA,{rest}")
        assert code_of(refused) == "malformed"
        assert "only approvals may follow" in refused.value.refusal.sentence


# Which demand each of them answers


def presented(token: Capability, *discharges: Discharge) -> tuple[wire.Frame, list[str]]:
    """The frame of a presentation, and the texts of the discharges that are bound to it."""
    text = token.present(ToolCall("a.write", ARGS), approvals=discharges, now=NOW).text
    own, *others = text.split(",")
    return wire.decode(own), others


def matched(
    frame: wire.Frame,
    texts: Sequence[str],
    keys: CaveatKeys | None = None,
    memory: Cache[Known] | None = None,
) -> tuple[Matched, ...]:
    return match_discharges(
        frame,
        AUDIENCE_KEY,
        texts,
        DEFAULT,
        keys={} if keys is None else keys,
        memory=Cache(64) if memory is None else memory,
    )


def match(token: Capability, *discharges: Discharge) -> tuple[Matched, ...]:
    return matched(*presented(token, *discharges))


def is_bad(frame: wire.Frame, texts: Sequence[str], keys: CaveatKeys | None = None) -> bool:
    """Whether these are refused as approvals that do not belong to the token."""
    try:
        matched(frame, texts, keys)
    except TokenRefused as refused:
        return refused.refusal.code == "bad_discharge"
    return False


def test_without_discharges_nothing_is_matched() -> None:
    for token in (minted(), TOKEN, appended(minted(), ThirdParty(b"", b"of somebody else"))):
        assert match(token) == ()


def test_a_discharge_is_matched_with_the_block_of_its_demand() -> None:
    (found,) = match(TOKEN, OF_LEA)
    assert found.block == len(TOKEN.blocks) - 1
    assert found.known.hidden == zero_mac(OF_LEA.signature)
    assert found.known.approval is not None
    assert (found.known.approval.ids, found.known.approval.caveat.cid) == (OF_LEA.ids, keyed().cid)


def test_they_are_matched_in_the_order_of_the_demands() -> None:
    for given in ((OF_LEA, OF_BEN), (OF_BEN, OF_LEA)):
        found = match(BOTH, *given)
        assert [one.block for one in found] == [1, 2]
        assert [one.known.hidden for one in found] == [zero_mac(one.signature) for one in (OF_LEA, OF_BEN)]
    assert [one.block for one in match(BOTH, OF_BEN)] == [2]


def test_a_demand_that_is_there_twice_takes_one_each() -> None:
    twice = TOKEN.demanding(keyed())
    other = approved(TOKEN, uses=None)
    for given in ((OF_LEA, other), (other, OF_LEA)):
        assert [one.known.hidden for one in match(twice, *given)] == [zero_mac(one.signature) for one in given]
    assert [one.block for one in match(twice, OF_LEA)] == [1]
    assert is_bad(*presented(twice, OF_LEA, other, other))


def test_one_that_is_left_over_is_refused() -> None:
    assert is_bad(*presented(minted(), OF_LEA))
    assert is_bad(*presented(TOKEN, OF_BEN))
    assert is_bad(*presented(TOKEN, OF_LEA, OF_BEN))
    assert is_bad(*presented(TOKEN, OF_LEA, OF_LEA))


@pytest.mark.parametrize("strange", ["", "capxd1_", "capxd1_AA", "capxd1_=", "capx1_AA"])
def test_one_that_cannot_be_read_is_refused_and_not_shown(strange: str) -> None:
    frame, texts = presented(TOKEN, OF_LEA)
    with pytest.raises(TokenRefused) as refused:
        matched(frame, [*texts, strange])
    assert code_of(refused) == "bad_discharge"
    # The error of the decoder would carry the discharge in its frames.
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_one_that_is_bound_to_nothing_or_another_is_refused() -> None:
    frame, texts = presented(TOKEN, OF_LEA)
    again, others = presented(TOKEN, OF_LEA)
    assert not is_bad(frame, texts)
    assert is_bad(frame, [OF_LEA.text])
    assert is_bad(frame, others)
    assert is_bad(again, texts)
    assert is_bad(frame, [OF_LEA.bound_to(wire.decode(TOKEN.text).signature)])


def test_a_bare_token_is_bound_by_its_own_signature() -> None:
    frame, keys = wire.decode(TOKEN.text), dict[int, bytes | None]()
    assert not is_bad(frame, [OF_LEA.bound_to(frame.signature)], keys)
    # The demand is the last block: another token has the same blocks before, and is remembered by those alone.
    assert keys == {}


def test_one_under_another_key_is_refused() -> None:
    # As the good one, but made by somebody who does not know K.
    other = put_together(*OF_LEA.blocks, key=bytes(32))
    assert is_bad(*presented(TOKEN, other))


@pytest.mark.parametrize("vid", [b"", bytes(72), keyed().below(bytes(32)).vid], ids=["none", "zeros", "elsewhere"])
def test_the_vid_has_to_open_at_its_place(vid: bytes) -> None:
    token = appended(minted(), ThirdParty(vid, keyed().cid))
    keys: CaveatKeys = {}
    assert is_bad(*presented(token, OF_LEA), keys)
    assert keys == {1: None}
    assert is_bad(*presented(token, OF_LEA), keys)


def test_the_key_of_a_demand_is_remembered_by_its_block() -> None:
    keys: CaveatKeys = {}
    matched(*presented(BOTH, OF_BEN), keys)
    assert keys == {2: macaroon_key(bytes(32))}
    matched(*presented(BOTH, OF_LEA, OF_BEN), keys)
    assert keys == {1: macaroon_key(KEY), 2: macaroon_key(bytes(32))}
    # No vid is opened again.
    assert is_bad(*presented(BOTH, OF_LEA), {1: bytes(32)})


def test_what_a_discharge_says_is_remembered_by_bytes_and_key() -> None:
    memory: Cache[Known] = Cache(64)
    (first,) = matched(*presented(TOKEN, OF_LEA), memory=memory)
    assert memory.get(OF_LEA.body + macaroon_key(KEY)) is first.known
    (again,) = matched(*presented(TOKEN, OF_LEA), memory=memory)
    assert again.known is first.known
    # The same demand in another token: the discharge says the same. Whether it fits, others find out.
    (elsewhere,) = matched(*presented(demanding(task="T2"), OF_LEA), memory=memory)
    assert elsewhere.known is first.known


def test_a_remembered_discharge_still_has_to_be_bound() -> None:
    memory: Cache[Known] = Cache(64)
    frame, texts = presented(TOKEN, OF_LEA)
    matched(frame, texts, memory=memory)
    with pytest.raises(TokenRefused, match="bad_discharge"):
        matched(frame, [OF_LEA.text], memory=memory)


def test_a_discharge_that_is_not_authentic_is_not_remembered() -> None:
    memory: Cache[Known] = Cache(64)
    frame, _ = presented(TOKEN)
    with pytest.raises(TokenRefused, match="bad_discharge"):
        matched(frame, [OF_LEA.text], memory=memory)
    assert memory.get(OF_LEA.body + macaroon_key(KEY)) is None


def test_without_a_memory_the_answers_are_the_same() -> None:
    for _ in range(2):
        frame, texts = presented(BOTH, OF_LEA, OF_BEN)
        assert [one.block for one in matched(frame, texts, memory=Cache(0))] == [1, 2]


# What they say


def of(*found: Matched) -> tuple[Approval, ...]:
    return approvals_of(found)


def test_what_they_say_is_in_the_order_of_the_demands() -> None:
    assert of() == ()
    assert [one.ids for one in of(*match(BOTH, OF_BEN, OF_LEA))] == [OF_LEA.ids, OF_BEN.ids]


def test_one_that_is_no_approval_is_refused_though_authentic() -> None:
    strange = put_together((Expires(NOW + 60),))
    (found,) = match(TOKEN, strange)
    assert found.known.approval is None
    good = match(TOKEN, OF_LEA)
    for several in ((found,), (found, *good), (*good, found)):
        with pytest.raises(TokenRefused) as refused:
            of(*several)
        assert code_of(refused) == "bad_discharge"


def test_nothing_discharges_what_is_no_demand() -> None:
    third = KeyedCaveat(b"somebody else's", macaroon_key(KEY))
    (found,) = match(minted().demanding(third), put_together(OF_LEA.blocks[0], cid=third.cid))
    assert found.known.approval is None


@pytest.mark.parametrize(("more", "fits"), [(7, True), (8, True), (9, False)])
def test_the_discharges_have_16_signatures_at_most(more: int, fits: bool) -> None:
    people = [fresh_key() for _ in range(9)]
    demands = [terms(*people[:count], count=count).drawn() for count in (8, more)]
    token = minted().demanding(demands[0]).demanding(demands[1])
    signed = [
        approved(token, *people[:count], said={"cid": demand.cid}, uses=None)
        for count, demand in zip((8, more), demands, strict=True)
    ]
    found = match(token, *signed)
    assert MAX_SIGNATURES == 16
    if fits:
        assert sum(len(one.signed) for one in of(*found)) == 8 + more
        return
    with pytest.raises(TokenRefused) as refused:
        of(*found)
    assert code_of(refused) == "too_large"
    assert "16 signatures" in refused.value.refusal.sentence


# What they add to the lineage


def joined(token: Capability, *discharges: Discharge) -> Lineage:
    found = match(token, *discharges)
    return with_approvals(unverified_lineage(token), found, approvals_of(found))


def test_their_blocks_are_judged_behind_those_of_the_token() -> None:
    own = unverified_lineage(BOTH)
    narrowed = OF_LEA.attenuate(where("region", "eu"), now=NOW)
    found = joined(BOTH, OF_BEN, narrowed)
    assert found.judged[: len(own.sections)] == own.sections == found.sections
    assert [one.caveats for one in found.judged[len(own.sections) :]] == [
        narrowed.caveats[0],
        narrowed.caveats[2],
        OF_BEN.caveats[0],
    ]
    assert found.size == own.size + sum(len(block) for one in (narrowed, OF_BEN) for block in one.blocks)


def test_only_what_has_no_discharge_is_still_demanded() -> None:
    assert [one.block for one in unverified_lineage(BOTH).undischarged] == [1, 2]
    assert [one.cid for one in joined(BOTH, OF_BEN).undischarged] == [keyed().cid]
    assert [one.cid for one in joined(BOTH, OF_LEA).undischarged] == [SECOND.cid]
    assert joined(BOTH, OF_LEA, OF_BEN).undischarged == ()
    assert [one.block for one in joined(TOKEN.demanding(keyed()), OF_LEA).undischarged] == [2]


def test_the_earliest_of_all_ends_is_the_end() -> None:
    own = unverified_lineage(BOTH).expires
    short, shorter = approved(BOTH, uses=None, lasts=60), OF_BEN.attenuate(Expires(NOW + 30), now=NOW)
    assert joined(BOTH, short).expires == NOW + 60 < own
    assert joined(BOTH, short, shorter).expires == NOW + 30
    ending = demanding(expires=NOW + 10)
    assert joined(ending, approved(ending)).expires == NOW + 10


def test_their_deaths_are_those_of_the_presentation() -> None:
    own = unverified_lineage(BOTH).revocation_keys
    one = approved(BOTH, uses=None, caveats=[UntilCompleted("T7"), UntilCompleted("T1")])
    (caveat,) = [each.caveat for each in approvals_of(match(BOTH, one))]
    found = joined(BOTH, one)
    assert "T1" in own
    assert found.revocation_keys == (*own, "T7", *one.ids, of_key(caveat.keys[0]))
    assert {"T7", *one.ids, of_key(caveat.keys[0])} <= set(found.approval_keys)
    # A person who signs both has one key.
    twice = minted().demanding(keyed()).demanding(keyed(LEA, nonce=b"2" * 16))
    signed = [approved(twice, said={"cid": cid}) for cid in twice.demands]
    assert len(set(joined(twice, *signed).revocation_keys)) == len(joined(twice, *signed).revocation_keys)


@pytest.mark.parametrize(("own", "theirs", "fits"), [(16, 0, True), (8, 8, True), (0, 16, True), (8, 9, False)])
def test_a_token_and_its_approvals_have_16_budgets_at_most(own: int, theirs: int, fits: bool) -> None:
    token = demanding(None, *[Budget(CALLS, "9")] * own)
    found = match(token, approved(token, uses=None, caveats=[Budget(CALLS, "9")] * theirs))
    approvals, lineage = approvals_of(found), unverified_lineage(token)
    assert MAX_BUDGETS == 16
    if fits:
        counted = with_approvals(lineage, found, approvals).allotments
        assert counted[:own] == lineage.allotments
        assert len(counted) == own + theirs
        return
    with pytest.raises(TokenRefused) as refused:
        with_approvals(lineage, found, approvals)
    assert code_of(refused) == "too_large"
    assert "16 budgets" in refused.value.refusal.sentence


def test_the_budgets_of_all_discharges_count_together() -> None:
    nine = [Budget(CALLS, "9")] * 9
    found = match(
        BOTH, approved(BOTH, caveats=nine), approved(BOTH, BEN, said={"cid": SECOND.cid}, uses=None, caveats=nine)
    )
    with pytest.raises(TokenRefused) as refused:
        with_approvals(unverified_lineage(BOTH), found, approvals_of(found))
    assert code_of(refused) == "too_large"


def test_a_lineage_in_a_memory_stays_as_it_is() -> None:
    own = unverified_lineage(BOTH)
    before = replace(own)
    found = match(BOTH, OF_LEA)
    assert with_approvals(own, found, approvals_of(found)) != own
    assert own == before


# The demands of an asker


def demands(token: Capability, first: int | None = None) -> list[KeyedCaveat | None]:
    frame = wire.decode(token.text)
    return list(keyed_caveats(frame, AUDIENCE_KEY, frame.blocks[:first]))


def test_the_demands_of_a_chain_come_with_their_keys() -> None:
    assert demands(minted()) == []
    child = TOKEN.delegate(to="a", allow=["a.write"], now=NOW).demanding(SECOND)
    assert demands(child) == [keyed(), SECOND]


def test_a_presentation_changes_nothing_of_the_demands() -> None:
    frame, _ = presented(BOTH)
    assert list(keyed_caveats(frame, AUDIENCE_KEY, frame.blocks[:-1])) == [keyed(), SECOND]


def test_only_the_demands_among_the_blocks_are_given() -> None:
    assert demands(BOTH, 1) == []
    assert demands(BOTH, 2) == [keyed()]


def test_what_is_no_demand_or_does_not_open_is_none() -> None:
    foreign = KeyedCaveat(b"somebody else's", macaroon_key(KEY))
    shut = appended(minted(), ThirdParty(bytes(72), keyed().cid))
    assert demands(minted().demanding(foreign)) == [None]
    assert demands(shut) == [None]
    assert demands(shut.demanding(SECOND)) == [None, SECOND]
    narrowed = appended(shut, encode_block((allow("a.write"),))).demanding(foreign)
    assert demands(narrowed) == [None, None]


def test_a_chain_that_is_remembered_forgets_no_approval() -> None:
    lab, pair = ApprovalLab(), demanding(keyed(LEA, BEN))
    both = [approved(pair, person, uses=None) for person in (LEA, BEN)]
    narrowed = both[0].attenuate(expires(NOW + 1), now=NOW)
    for one in (*both, both[0], narrowed, *both):
        assert lab.told(pair, one) == ()
    lab.clock.now += 2
    assert [lab.told(pair, one) for one in (both[0], narrowed, both[1])] == [(), ("expired",), ()]
    lab.deaths.deaths[both[0].id] = "revoked"
    assert [lab.told(pair, one) for one in (both[1], both[0], both[1])] == [(), ("revoked",), ()]
    assert lab.told(pair) == ("needs_discharge",)


def test_what_was_read_shows_no_approval() -> None:
    lab = ApprovalLab()
    text = lab.text(TOKEN, approved(TOKEN))
    assert "capxd1_" in text
    assert "capxd1_" not in repr(lab.verifier.authenticate(text))
