"""Demands and approvals beside pymacaroons: the same bytes, the same verdict, whoever of the two made them."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from nacl.secret import SecretBox
from pymacaroons import MACAROON_V1, MACAROON_V2, Macaroon, Verifier

from capx.crypto import hashing
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.boxes import NONCE, lock
from capx.crypto.hashing import macaroon_key
from capx.errors import MalformedToken
from capx.tokens import wire
from capx.tokens.approval_caveat import KeyedCaveat, caveat_key
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.chain import Block, ThirdParty, tail_of
from capx.tokens.discharge import LOCATION, PREFIX, Discharge, bound_signature, written
from capx.tokens.interop import from_macaroon, to_macaroon
from capx.tokens.lineage import TokenRefused
from capx.verify.approvals import match_discharges, split_credential
from capx.verify.cache import Cache
from capx_caveats import DEFAULT, expires, tenant
from tests.labs.approving import ARGS, BEN, KEY, LEA, ApprovalLab, approved, demanding, keyed, put_together
from tests.labs.counts import repeated
from tests.labs.lab import KEY as AUDIENCE_KEY
from tests.labs.lab import NONCES, NOW, appended, minted, raw

SECRET = hashing.mac(bytes(range(32)), b"capx/1/audience/crm\x01")
"""What a macaroon library is given as the key of the audience."""
IDENTIFIER = wire.decode(minted().text).identifier_bytes


def macaroon(key: bytes, *blocks: bytes, identifier: bytes = IDENTIFIER, version: int = MACAROON_V2) -> Macaroon:
    """A token of theirs, or an approval if it has another identifier."""
    location = "crm" if identifier == IDENTIFIER else "approval"
    return narrowed(Macaroon(location=location, identifier=identifier, key=key, version=version), blocks)


def narrowed(theirs: Macaroon, blocks: Iterable[bytes]) -> Macaroon:
    for block in blocks:
        theirs.add_first_party_caveat(block)
    return theirs


def demand(theirs: Any, key: bytes, cid: bytes, nonce: bytes | None = None, location: str | None = None) -> None:
    """Append a demand as they do; without a nonce, theirs is random."""
    theirs.add_third_party_caveat(location, key, cid, nonce=nonce)


def spelled(token: Macaroon, *discharges: Macaroon) -> str:
    """The credential of macaroons of theirs."""
    return ",".join([wire.PREFIX + token.serialize(), *(PREFIX + one.serialize() for one in discharges)])


def read(text: str) -> Macaroon:
    return Macaroon.deserialize(text.removeprefix(wire.PREFIX).removeprefix(PREFIX))


def they_accept(credential: str) -> bool:
    verifier = Verifier()
    verifier.satisfy_general(lambda _: True)
    try:
        token, *discharges = map(read, credential.split(","))
        return verifier.verify(token, SECRET, discharges)
    except Exception:  # noqa: BLE001 - it raises some ten kinds
        return False


def we_accept(credential: str) -> bool:
    """Whether all MACs are good, and each demand is answered: what the blocks say is not looked at."""
    try:
        token, texts = split_credential(credential)
        frame = wire.decode(token)
        if tail_of(AUDIENCE_KEY, frame.identifier_bytes, frame.blocks) != frame.signature:
            return False
        found = match_discharges(frame, AUDIENCE_KEY, texts, DEFAULT, keys={}, memory=Cache(64))
    except (MalformedToken, TokenRefused):
        return False
    return [one.block for one in found] == [at for at, each in enumerate(frame.blocks) if isinstance(each, ThirdParty)]


def both_accept(credential: str) -> bool:
    ours, theirs = we_accept(credential), they_accept(credential)
    assert ours is theirs, "one of the two is wrong"
    return ours


blocks = st.lists(st.text(max_size=200).map(str.encode), max_size=3)
statements = st.lists(st.text(max_size=200).map(str.encode), min_size=1, max_size=3)
cids = st.binary(max_size=300).filter(lambda cid: cid != IDENTIFIER) | st.just(keyed().cid)
# They sign nothing with an empty key.
keys = st.binary(min_size=1, max_size=100)
nonces = st.none() | st.binary(min_size=NONCE, max_size=NONCE)


@given(before=blocks, key=keys, cid=cids, nonce=nonces, after=blocks, said=statements)
def test_what_they_demand_and_discharge_is_what_we_make(
    *, before: list[bytes], key: bytes, cid: bytes, nonce: bytes | None, after: list[bytes], said: list[bytes]
) -> None:
    token = macaroon(SECRET, *before)
    tail = bytes.fromhex(token.signature)
    demand(token, key, cid, nonce)
    (drawn,) = (caveat.verification_key_id or b"" for caveat in token.third_party_caveats())
    narrowed(token, after)
    third = ThirdParty(lock(macaroon_key(key), drawn[:NONCE], tail), cid)
    ours = appended(raw(*before), third, *after)
    assert wire.PREFIX + token.serialize() == ours.text
    assert caveat_key(tail, third) == macaroon_key(key)

    discharge = macaroon(key, *said, identifier=cid)
    approval = put_together(said[0], *said[1:], cid=cid, key=key)
    assert PREFIX + discharge.serialize() == approval.text
    bound = token.prepare_for_request(discharge)
    assert PREFIX + bound.serialize() == approval.bound_to(bytes.fromhex(token.signature))
    assert both_accept(spelled(token, bound))
    assert not both_accept(spelled(token, discharge))
    assert not both_accept(spelled(token))


@given(blocks, keys, cids)
def test_with_our_nonce_their_demand_is_ours(before: list[bytes], key: bytes, cid: bytes) -> None:
    ours = raw(*before).demanding(KeyedCaveat(cid, macaroon_key(key)))
    third = ours.blocks[-1]
    assert isinstance(third, ThirdParty)
    token = macaroon(SECRET, *before)
    demand(token, key, cid, third.vid[:NONCE])
    assert wire.PREFIX + token.serialize() == ours.text


@given(
    blocks,
    keys,
    st.text(max_size=100).map(str.encode) | st.just(keyed().cid),
    st.sampled_from([MACAROON_V1, MACAROON_V2]),
    statements,
)
def test_their_version_and_location_change_no_mac(
    before: list[bytes], key: bytes, cid: bytes, version: int, said: list[bytes]
) -> None:
    token = macaroon(SECRET, *before, version=version)
    demand(token, key, cid, location="https://approvals.example/")
    bound = token.prepare_for_request(macaroon(key, *said, identifier=cid, version=version))
    ours = from_macaroon(token)
    approval = put_together(said[0], *said[1:], cid=cid, key=key).bound_to(wire.decode(ours.text).signature)
    assert Discharge.parse(approval).signature.hex() == bound.signature
    assert both_accept(f"{ours.text},{approval}")


# Approvals that people signed

OF_BOTH = keyed(LEA, BEN, count=2, key=bytes(range(32)), nonce=b"3" * 16)
OF_BEN = keyed(BEN, key=bytes(range(1, 33)), nonce=b"2" * 16)
DEMANDS = {"lea": (keyed(), [LEA]), "ben": (OF_BEN, [BEN]), "both": (OF_BOTH, [BEN, LEA])}
STEPS = st.lists(st.sampled_from(["delegate", "narrow", *DEMANDS]), max_size=5, unique=True)


@given(STEPS, st.integers(0, 2))
@settings(max_examples=repeated(100), deadline=None)
def test_what_we_make_and_allow_is_authentic_to_both(steps: list[str], narrower: int) -> None:
    token = minted()
    for step in steps:
        match step:
            case "delegate":
                token = token.delegate(to="a", nonce=NONCES[0], allow=["a.write"])
            case "narrow":
                token = token.attenuate(expires(NOW + 300))
            case who:
                token = token.demanding(DEMANDS[who][0])
    approvals: list[Discharge] = []
    for cid, people in ((DEMANDS[step][0].cid, DEMANDS[step][1]) for step in steps if step in DEMANDS):
        approval = approved(token, *people, said={"cid": cid}, uses=None)
        for at in range(narrower):
            approval = approval.attenuate(expires(NOW + 60 - at), now=NOW)
        approvals.append(approval)
    lab = ApprovalLab()
    for order in (approvals, approvals[::-1]):
        credential = lab.text(token, *order)
        assert lab.told_of(credential) == ()
        assert both_accept(credential)
        assert spelled(*map(read, credential.split(","))) == credential


TOKEN = demanding()
APPROVAL = approved(TOKEN, uses=None)


def test_they_read_our_approval() -> None:
    theirs = read(APPROVAL.text)
    assert (theirs.location, theirs.identifier_bytes) == ("approval", APPROVAL.cid)
    assert [caveat.caveat_id_bytes for caveat in theirs.caveats] == list(APPROVAL.blocks)
    assert theirs.signature == APPROVAL.signature.hex()
    assert PREFIX + theirs.serialize() == APPROVAL.text


def test_what_they_demand_discharge_and_bind_is_allowed() -> None:
    token = to_macaroon(minted())
    demand(token, KEY, keyed().cid)
    approval = approved(from_macaroon(token), uses=None)
    discharge = macaroon(KEY, *approval.blocks, identifier=keyed().cid)
    assert PREFIX + discharge.serialize() == approval.text
    shown = to_macaroon(from_macaroon(token).present(ToolCall("a.write", ARGS), now=NOW))
    assert ApprovalLab().told_of(spelled(shown)) == ("needs_discharge",)
    assert ApprovalLab().told_of(spelled(shown, shown.prepare_for_request(discharge))) == ()


@pytest.mark.parametrize(
    ("block", "told"), [(b'[["expires",9]]', ("expired",)), (b'[["allow",[["a.read"]]]]', ("action_not_allowed",))]
)
def test_an_approval_that_they_narrow_is_narrower(block: bytes, told: tuple[str, ...]) -> None:
    narrower = Discharge.parse(PREFIX + narrowed(read(APPROVAL.text), [block]).serialize())
    assert narrower == APPROVAL.extended(block)
    assert ApprovalLab().told(TOKEN, APPROVAL) == ()
    assert ApprovalLab().told(TOKEN, narrower) == told


# What is changed


class Part(Struct):
    """A macaroon that a test takes apart; `head` is the cid of an approval, and None for a token."""

    head: bytes | None
    blocks: list[Any]
    signature: bytes

    def text(self) -> str:
        if self.head is None:
            return wire.encode(wire.decode(TOKEN.text).identifier, tuple(self.blocks), self.signature)
        return written(self.head, tuple(self.blocks), self.signature).text

    def spoil(self, change: str, at: int) -> None:
        place = at % max(1, len(self.blocks))
        match change:
            case "drop" if self.blocks:
                del self.blocks[place]
            case "double":
                self.blocks.insert(place, self.blocks[place] if self.blocks else b"[]")
            case "swap" if self.blocks:
                self.blocks[place], self.blocks[-1] = self.blocks[-1], self.blocks[place]
            case "edit" if self.blocks:
                self.blocks[place] = edited(self.blocks[place], at)
            case "cid" if self.head is not None:
                self.head += b" "
            case _:
                self.signature = flipped(self.signature, at)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def edited(block: Block, at: int) -> Block:
    if isinstance(block, bytes):
        return block + b" "
    return ThirdParty(flipped(block.vid, at), block.cid) if at % 2 else ThirdParty(block.vid, block.cid + b" ")


MANY = TOKEN.delegate(to="a", nonce=NONCES[0]).demanding(OF_BEN).attenuate(tenant("Zoë"))
OTHER = bytes.fromhex(read(MANY.present(ToolCall("a.write", ARGS), now=NOW).text).signature)
OF_MANY = [approved(MANY, uses=None), approved(MANY, BEN, said={"cid": OF_BEN.cid}, uses=None).extended(b"[]")]


def parts() -> list[Part]:
    """A token with two demands, and both approvals, bound to it."""
    frame = wire.decode(MANY.text)
    bound = [Part(one.cid, list(one.blocks), bound_signature(frame.signature, one.signature)) for one in OF_MANY]
    return [Part(None, list(frame.blocks), frame.signature), *bound]


def of_parts(several: Iterable[Part]) -> str:
    return ",".join(part.text() for part in several)


def gone(several: list[Part]) -> None:
    del several[-1]


def exchanged(several: list[Part]) -> None:
    several[1].signature, several[2].signature = several[2].signature, several[1].signature


def unbound(several: list[Part]) -> None:
    several[1].signature = OF_MANY[0].signature


def bound_to_another(several: list[Part]) -> None:
    several[1].signature = bound_signature(OTHER, OF_MANY[0].signature)


def bound_twice(several: list[Part]) -> None:
    several[1].signature = bound_signature(several[0].signature, several[1].signature)


def bound_to_the_tail_of_its_demand(several: list[Part]) -> None:
    several[1].signature = bound_signature(wire.decode(TOKEN.text).signature, OF_MANY[0].signature)


def under_another_key(several: list[Part]) -> None:
    other = put_together(*OF_MANY[0].blocks, key=bytes(32))
    several[1].signature = bound_signature(several[0].signature, other.signature)


def for_another_cid(several: list[Part]) -> None:
    other = put_together(*OF_MANY[0].blocks, cid=OF_BEN.cid)
    several[1:] = [
        Part(other.cid, list(other.blocks), bound_signature(several[0].signature, other.signature)),
        several[1],
    ]


def narrowed_when_bound(several: list[Part]) -> None:
    several[1].blocks.append(b"[]")
    several[1].signature = hashing.mac(several[1].signature, b"[]")


def token_narrowed_when_bound(several: list[Part]) -> None:
    several[0].blocks.append(b"[]")
    several[0].signature = hashing.mac(several[0].signature, b"[]")


CHANGES: list[Callable[[list[Part]], None]] = [
    gone,
    exchanged,
    unbound,
    bound_to_another,
    bound_twice,
    bound_to_the_tail_of_its_demand,
    under_another_key,
    for_another_cid,
    narrowed_when_bound,
    token_narrowed_when_bound,
]


def spoiling(which: int, change: str, at: int) -> Callable[[list[Part]], None]:
    return lambda several: several[which].spoil(change, at)


SPOILING = ["drop", "double", "swap", "edit", "cid", "sign"]


def test_whatever_order_they_come_in_they_are_accepted() -> None:
    token, first, second = parts()
    assert both_accept(of_parts([token, first, second]))
    assert both_accept(of_parts([token, second, first]))


@pytest.mark.parametrize("change", CHANGES)
def test_both_refuse_what_is_bound_or_made_otherwise(change: Callable[[list[Part]], None]) -> None:
    several = parts()
    change(several)
    assert not both_accept(of_parts(several))


@pytest.mark.parametrize("which", range(3), ids=["token", "first", "second"])
@pytest.mark.parametrize("change", SPOILING)
def test_both_refuse_each_change_of_each_block(which: int, change: str) -> None:
    for at in range(len(parts()[which].blocks)):
        several = parts()
        several[which].spoil(change, at)
        # The last block was put in its own place.
        assert both_accept(of_parts(several)) is (of_parts(several) == of_parts(parts()))


@given(
    st.lists(
        st.builds(spoiling, st.integers(0, 2), st.sampled_from(SPOILING), st.integers(0, 31))
        | st.sampled_from(CHANGES),
        max_size=3,
    ),
    st.booleans(),
)
@settings(max_examples=repeated(500))
def test_both_say_the_same_of_several_changes(changes: list[Callable[[list[Part]], None]], turned: bool) -> None:
    several = parts()
    for change in changes:
        if len(several) < 3:
            break
        change(several)
    untouched = of_parts(several) == of_parts(parts())
    if turned:
        several[1:] = several[:0:-1]
    assert both_accept(of_parts(several)) is untouched


def test_both_refuse_each_flipped_byte_but_in_a_location() -> None:
    texts = of_parts(parts()).split(",")
    for which, text in enumerate(texts):
        prefix = PREFIX if which else wire.PREFIX
        data = unb64u(text.removeprefix(prefix))
        location = range(3, 3 + len(LOCATION if which else b"crm"))
        for at in range(len(data)):
            changed = ",".join([*texts[:which], prefix + b64u(flipped(data, at)), *texts[which + 1 :]])
            assert not we_accept(changed), (which, at)
            assert they_accept(changed) is (at in location), (which, at)


# Where the two differ

FOREIGN = b"another demand"


def left_over() -> str:
    token, *approvals = parts()
    return of_parts([token, *approvals, approvals[0]])


def one_for_two() -> str:
    token = TOKEN.demanding(keyed())
    return f"{token.text},{APPROVAL.bound_to(wire.decode(token.text).signature)}"


def elsewhere() -> str:
    token, approval = to_macaroon(TOKEN), read(APPROVAL.text)
    approval.location = "https://approvals.example/"
    return spelled(token, token.prepare_for_request(approval))


def located() -> str:
    token = macaroon(SECRET)
    demand(token, KEY, keyed().cid, location="https://approvals.example/")
    return spelled(token, token.prepare_for_request(read(APPROVAL.text)))


def leading_on() -> str:
    token, approval = to_macaroon(TOKEN), read(APPROVAL.text)
    demand(approval, b"key", FOREIGN)
    further = macaroon(b"key", b"[]", identifier=FOREIGN)
    return spelled(token, token.prepare_for_request(approval), token.prepare_for_request(further))


def saying_nothing() -> str:
    token = to_macaroon(TOKEN)
    return spelled(token, token.prepare_for_request(macaroon(KEY, identifier=keyed().cid)))


def under_a_short_key() -> str:
    tail = wire.decode(minted().text).signature
    vid = bytes(SecretBox(tail).encrypt(b"short"))
    token = appended(minted(), ThirdParty(vid, FOREIGN))
    approval = written(FOREIGN, (b"[]",), hashing.mac(hashing.mac(b"short", FOREIGN), b"[]"))
    return f"{token.text},{approval.bound_to(wire.decode(token.text).signature)}"


@pytest.mark.parametrize(
    "credential", [left_over, one_for_two, elsewhere, located, leading_on, saying_nothing, under_a_short_key]
)
def test_we_are_stricter_than_they_are(credential: Callable[[], str]) -> None:
    assert they_accept(credential())
    assert not we_accept(credential())


def test_of_two_keys_for_one_cid_they_know_the_first_only() -> None:
    token = TOKEN.demanding(KeyedCaveat(keyed().cid, macaroon_key(b"another key")))
    other = put_together(*APPROVAL.blocks, key=b"another key")
    first, second = (one.bound_to(wire.decode(token.text).signature) for one in (APPROVAL, other))
    assert we_accept(f"{token.text},{first},{second}")
    assert not they_accept(f"{token.text},{first},{second}")
    assert not both_accept(f"{token.text},{second},{first}")


def test_a_token_without_demands_is_as_it_was() -> None:
    assert both_accept(minted().text)
    assert both_accept(Capability.parse(raw(b"x", b"").text).text)
