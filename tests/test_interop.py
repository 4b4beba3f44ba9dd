"""Beside pymacaroons: the same bytes, the same verdict on the MAC, in and out."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymacaroons import MACAROON_V2, Caveat, Macaroon, Verifier

from capx import chain, wire
from capx.capability import Capability, mint
from capx.decision import Denied
from capx.errors import MalformedToken
from capx.interop import from_macaroon, to_macaroon
from capx.present import ToolCall
from capx_caveats import expires, tenant
from tests.lab import KEY, NONCES, NOW, Lab, appended, grant, minted, raw

AUDIENCE_KEY = chain.mac(bytes(range(32)), b"capx/1/audience/crm\x01")
IDENTIFIER = wire.decode(minted().text).identifier_bytes
CHILD = minted().delegate(to="a", nonce=NONCES[0], allow=["a.read"]).attenuate(expires(NOW + 9), tenant("Zoë"))


def theirs(
    *blocks: bytes, identifier: bytes = IDENTIFIER, location: str = "crm", key: bytes = AUDIENCE_KEY
) -> Macaroon:
    macaroon = Macaroon(location=location, identifier=identifier, key=key, version=MACAROON_V2)
    for block in blocks:
        macaroon.add_first_party_caveat(block)
    return macaroon


def they_accept(macaroon: Macaroon) -> bool:
    verifier = Verifier()
    verifier.satisfy_general(lambda _: True)
    try:
        return verifier.verify(macaroon, AUDIENCE_KEY)
    except Exception:  # noqa: BLE001 - it raises some ten kinds
        return False


def we_accept(text: str) -> bool:
    try:
        Lab().verifier.authenticate(text)
    except Denied:
        return False
    return True


utf8_blocks = st.lists(st.text(min_size=1, max_size=200).map(str.encode), min_size=1, max_size=5)


@given(utf8_blocks)
def test_the_same_bytes_are_minted_and_appended(blocks: list[bytes]) -> None:
    ours = raw(blocks[0])
    for block in blocks[1:]:
        ours = appended(ours, block)
    assert "capx1_" + theirs(*blocks).serialize() == ours.text


def test_a_capability_is_minted_and_narrowed_alike() -> None:
    blocks = [block for block in CHILD.blocks if isinstance(block, bytes)]
    assert "capx1_" + theirs(*blocks).serialize() == CHILD.text
    assert mint(KEY, grant(), now=NOW, nonce="AQEBAQEBAQEBAQEBAQEBAQ").text == "capx1_" + theirs(blocks[0]).serialize()


@given(utf8_blocks)
def test_a_valid_chain_is_authentic_to_both(blocks: list[bytes]) -> None:
    token = raw(*blocks)
    assert we_accept(token.text)
    assert they_accept(to_macaroon(token))


DATA = chain.unb64u(CHILD.text.removeprefix("capx1_"))


def test_no_flipped_byte_is_authentic_to_us_and_only_a_location_is_to_them() -> None:
    for at in range(len(DATA)):
        changed = bytearray(DATA)
        changed[at] ^= 1
        text = chain.b64u(bytes(changed))
        assert not we_accept("capx1_" + text)
        try:
            macaroon = Macaroon.deserialize(text)
        except Exception:  # noqa: BLE001 - it raises some ten kinds
            continue
        assert not they_accept(macaroon) or macaroon.location != "crm"


mutations = st.lists(
    st.tuples(st.sampled_from(["drop", "double", "swap", "edit", "sign"]), st.integers(0, 3)), max_size=3
)


@given(mutations)
@settings(max_examples=200)
def test_both_say_the_same_of_altered_chains(changes: list[tuple[str, int]]) -> None:
    frame = wire.decode(CHILD.text)
    blocks: list[Any] = list(frame.blocks)
    signature = bytearray(frame.signature)
    for change, at in changes:
        place = at % max(1, len(blocks))
        match change:
            case "drop" if len(blocks) > 1:
                del blocks[place]
            case "double":
                blocks.insert(place, blocks[place])
            case "swap":
                blocks[place], blocks[-1] = blocks[-1], blocks[place]
            case "edit":
                blocks[place] += b" "
            case _:
                signature[at] ^= 1
    text = wire.encode(frame.identifier, tuple(blocks), bytes(signature))
    assert we_accept(text) == they_accept(Macaroon.deserialize(text.removeprefix("capx1_")))


def test_they_read_our_text_and_what_they_write_is_our_text() -> None:
    for token in (CHILD, CHILD.present(ToolCall("a.read"), now=NOW)):
        macaroon = to_macaroon(token)
        assert they_accept(macaroon)
        assert "capx1_" + macaroon.serialize() == token.text
        assert [caveat.caveat_id_bytes for caveat in macaroon.caveats] == list(token.blocks)


def test_a_macaroon_comes_back_as_the_capability_it_was() -> None:
    assert from_macaroon(to_macaroon(CHILD)) == CHILD


def test_what_they_narrow_is_narrowed_for_us() -> None:
    macaroon = to_macaroon(minted())
    macaroon.add_first_party_caveat(b'[["allow",[["a.write"]]]]')
    lab = Lab()
    assert lab.codes(from_macaroon(macaroon)) == ("action_not_allowed",)
    assert lab.codes(from_macaroon(macaroon), "a.write") == ()


def test_a_third_party_caveat_comes_in_and_goes_out() -> None:
    ours = appended(minted(), chain.ThirdParty(b"vid", b"cid"))
    macaroon = to_macaroon(ours)
    assert [caveat.verification_key_id for caveat in macaroon.caveats] == [None, b"vid"]
    assert from_macaroon(macaroon) == ours


def test_an_unsigned_caveat_that_their_verifier_skips_is_not_authentic_to_us() -> None:
    macaroon = to_macaroon(CHILD)
    macaroon.caveats.insert(1, Caveat(caveat_id=b"unsigned", version=MACAROON_V2))
    skipping = Verifier()
    skipping.satisfy_general(lambda predicate: "unsigned" not in str(predicate))
    assert skipping.verify(macaroon, AUDIENCE_KEY)
    assert not we_accept("capx1_" + macaroon.serialize())


BAD: dict[str, Macaroon] = {
    "version 1 with another location": Macaroon(location="hr", identifier=IDENTIFIER.decode(), key="key"),
    "a foreign identifier": theirs(identifier=b"account 5"),
    "no identifier": theirs(identifier=b""),
    "another location": theirs(location="slides"),
    "no location": theirs(location=""),
    "an identifier in other spelling": theirs(identifier=IDENTIFIER.replace(b",", b", ")),
    "too many blocks": theirs(*[b"x"] * 65),
    "a block too large": theirs(b"x" * 4097),
    "a presentation": to_macaroon(minted().present(ToolCall("a.read"), now=NOW)),
    "no signature": Macaroon(location="crm", identifier=IDENTIFIER, version=MACAROON_V2),
    "a signature cut short": Macaroon(location="crm", identifier=IDENTIFIER, signature="ab", version=MACAROON_V2),
    "a signature that is no hexadecimal": Macaroon(
        location="crm", identifier=IDENTIFIER, signature="x" * 64, version=MACAROON_V2
    ),
    "a caveat of nothing": Macaroon(
        location="crm", identifier=IDENTIFIER, key=AUDIENCE_KEY, caveats=[Caveat()], version=MACAROON_V2
    ),
}


@pytest.mark.parametrize("macaroon", BAD.values(), ids=list(BAD))
def test_any_other_macaroon_is_malformed(macaroon: Macaroon) -> None:
    with pytest.raises(MalformedToken):
        from_macaroon(macaroon)


def test_what_is_no_macaroon_at_all_is_malformed() -> None:
    nothing: Any = object()
    with pytest.raises(MalformedToken):
        from_macaroon(nothing)


@given(st.binary(max_size=300))
def test_any_macaroon_they_read_is_a_capability_or_malformed(noise: bytes) -> None:
    try:
        macaroon = Macaroon.deserialize(chain.b64u(DATA[:120] + noise))
    except Exception:  # noqa: BLE001 - it raises some ten kinds
        return
    try:
        capability = from_macaroon(macaroon)
    except MalformedToken:
        return
    assert Capability.parse(capability.text) == capability
