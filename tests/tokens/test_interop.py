"""Beside pymacaroons: the same bytes, the same verdict on the MAC, in and out."""

import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymacaroons import MACAROON_V1, MACAROON_V2, Caveat, Macaroon, Verifier
from pymacaroons.serializers import BinarySerializer, JsonSerializer

from capx.crypto import base64url, hashing
from capx.errors import InvalidRequest, MalformedToken
from capx.tokens import chain, wire
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability, mint
from capx.tokens.interop import MAX_SPELLED, Format, from_macaroon, from_text, to_macaroon, to_text
from capx.verify.decision import Denied
from capx_caveats import expires, tenant
from tests.labs.counts import repeated
from tests.labs.lab import KEY, NONCES, NOW, Lab, appended, grant, minted, raw

AUDIENCE_KEY = hashing.mac(bytes(range(32)), b"capx/1/audience/crm\x01")
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
    except Denied as denied:
        # 403: the MAC is good, and the blocks are no capability of ours.
        return denied.status == 403
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


DATA = base64url.unb64u(CHILD.text.removeprefix("capx1_"))


def test_no_flipped_byte_is_authentic_to_us() -> None:
    for at in range(len(DATA)):
        changed = bytearray(DATA)
        changed[at] ^= 1
        text = base64url.b64u(bytes(changed))
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
@settings(max_examples=repeated(200))
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


def test_an_unsigned_caveat_that_others_skip_is_refused_by_us() -> None:
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
        macaroon = Macaroon.deserialize(base64url.b64u(DATA[:120] + noise))
    except Exception:  # noqa: BLE001 - it raises some ten kinds
        return
    try:
        capability = from_macaroon(macaroon)
    except MalformedToken:
        return
    assert Capability.parse(capability.text) == capability


FORMATS: tuple[Format, ...] = get_args(Format)
SPELLED: dict[str, str] = {format: to_text(CHILD, format) for format in FORMATS}
THIRD = appended(CHILD, chain.ThirdParty(b"\xffvid", b"\xfecid"))


def version_1() -> Macaroon:
    """The same macaroon as they hold it in version 1."""
    return Macaroon.deserialize(SPELLED["v1"])


SPELLINGS: dict[str, str] = {
    **SPELLED,
    "padded": urlsafe_b64encode(DATA).decode(),
    "the standard alphabet": b64encode(DATA).decode(),
    "version 1 in the standard alphabet": b64encode(BinarySerializer().serialize_raw(version_1())).decode(),
    "version 1 as JSON": version_1().serialize(JsonSerializer()),
    "JSON of several lines": json.dumps(json.loads(SPELLED["v2json"]), indent=2, ensure_ascii=False),
    "JSON of base64": json.dumps(
        {
            "v": 2,
            "l64": b64encode(b"crm").decode(),
            "i64": b64encode(IDENTIFIER).decode(),
            "c": [{"i64": b64encode(block).decode()} for block in CHILD.blocks if isinstance(block, bytes)],
            "s64": b64encode(wire.decode(CHILD.text).signature).decode(),
        }
    ),
    "blanks around it": f" \r\n{SPELLED['v1']}\n",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_comes_in_as_the_very_token_or_not_at_all(spelling: str) -> None:
    text = SPELLINGS[spelling]
    assert from_text(text).text == CHILD.text
    assert not we_accept(text)
    assert we_accept(f"capx1_{text}") is (spelling == "v2")


def test_a_token_comes_in_as_itself() -> None:
    assert from_text(CHILD.text + "\n") == CHILD


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.booleans())
def test_what_goes_out_comes_in_byte_for_byte_or_does_not_go_out(blocks: list[bytes], third: bool) -> None:
    token = raw(*blocks, *([chain.ThirdParty(blocks[0], blocks[-1])] if third else []))
    for format in FORMATS:
        try:
            text = to_text(token, format)
        except InvalidRequest:
            assert (format == "v1" and third) or (format == "v2json" and b"" in blocks)
        else:
            assert text.isascii()
            assert from_text(text).text == token.text


def test_a_third_party_caveat_goes_out_and_comes_in_by_location() -> None:
    with pytest.raises(InvalidRequest, match="v1 cannot hold a third-party caveat without its location"):
        to_text(THIRD, "v1")
    for format in ("v2", "v2json"):
        assert from_text(to_text(THIRD, format)) == THIRD
    located = to_macaroon(THIRD)
    located.caveats[-1].location = "https://elsewhere.example/"
    assert from_text(located.serialize()) == from_text(located.serialize(JsonSerializer())) == THIRD
    old = version_1()
    old.caveats.append(Caveat(b"\xfecid", b"\xffvid", "elsewhere", MACAROON_V1))
    old.signature = located.signature
    assert from_text(old.serialize()) == THIRD


def test_a_format_that_there_is_not_is_told_those_that_there_are() -> None:
    unknown: Any = "v3"
    with pytest.raises(InvalidRequest, match="'v3' is not a format: use v1, v2, v2json"):
        to_text(CHILD, unknown)


@pytest.mark.parametrize("format", FORMATS)
def test_a_wrong_signature_is_carried_in_and_refused_in_use(format: Format) -> None:
    frame = wire.decode(CHILD.text)
    forged = Capability.parse(wire.encode(frame.identifier, frame.blocks, bytes(32)))
    assert from_text(to_text(forged, format)) == forged
    assert Lab().codes(from_text(to_text(forged, format))) == ("not_authentic",)


def test_a_presentation_goes_out_and_does_not_come_in() -> None:
    presentation = CHILD.present(ToolCall("a.read"), now=NOW)
    for format in FORMATS:
        with pytest.raises(MalformedToken, match="this is a presentation"):
            from_text(to_text(presentation, format))


PACKETS = BinarySerializer().serialize_raw(version_1())
LOCATION, SIGNATURE = PACKETS[:17], PACKETS[-47:]
JSON: dict[str, Any] = json.loads(SPELLED["v2json"])
OLD_JSON: dict[str, Any] = json.loads(SPELLINGS["version 1 as JSON"])


def changed(*without: str, **members: Any) -> str:
    return json.dumps({**{name: value for name, value in JSON.items() if name not in without}, **members})


def added(member: str, text: str = SPELLED["v2json"]) -> str:
    return f"{text[:-1]}, {member}}}"


NO_TOKENS: dict[str, tuple[str, str]] = {
    "nothing": ("", "neither base64 nor JSON"),
    "words": ("hello world", "neither base64 nor JSON"),
    "a JSON list": ("[]", "neither base64 nor JSON"),
    "two alphabets": ("-_+/", "neither base64 nor JSON"),
    "a byte-order mark": ("\ufeff" + SPELLED["v2json"], "neither base64 nor JSON"),
    "two tokens": (f"{CHILD.text},{CHILD.text}", "base64url"),
    "a bundle without prefixes": (f"{SPELLED['v2']},{SPELLED['v2']}", "neither base64 nor JSON"),
    "a megabyte": ("A" * 1_000_000, "too large"),
    "as much as is read, of nothing": ("A" * MAX_SPELLED, "pymacaroons cannot read"),
    "as many brackets": ('{"c":' + "[" * (MAX_SPELLED - 5), "pymacaroons cannot read"),
    "a length without end": (base64url.b64u(b"\x02" + b"\xff" * 49_000), "pymacaroons cannot read"),
    "other bytes": ("AA", "pymacaroons cannot read"),
    "version 1 with a length in capitals": (
        base64url.b64u(PACKETS.replace(b"004b", b"004B")),
        "not the canonical form",
    ),
    "version 1 with a signed length": (base64url.b64u(b"+011" + PACKETS[4:]), "pymacaroons cannot read"),
    "version 1 with a length as Python writes it": (base64url.b64u(b"0x11" + PACKETS[4:]), "not the canonical form"),
    "version 1 with a length of nothing": (base64url.b64u(b"0000" + PACKETS[4:]), "pymacaroons cannot read"),
    "version 1 without a location": (base64url.b64u(PACKETS[17:]), "location is not the identifier's audience"),
    "version 1 with two locations": (base64url.b64u(LOCATION + PACKETS), "not the canonical form"),
    "version 1 with its location last": (base64url.b64u(PACKETS[17:] + LOCATION), "not the canonical form"),
    "version 1 with two signatures": (base64url.b64u(PACKETS + SIGNATURE), "not the canonical form"),
    "version 1 twice": (base64url.b64u(PACKETS * 2), "not the canonical form"),
    "version 1 with a vid and no location": (
        base64url.b64u(PACKETS[:-47] + b"000avid x\n" + SIGNATURE),
        "not the canonical form",
    ),
    "version 1 cut short": (base64url.b64u(PACKETS[:-1]), "not the canonical form"),
    "version 1 and a byte": (base64url.b64u(PACKETS + b"0"), "pymacaroons cannot read"),
    "version 2 and a byte": (base64url.b64u(DATA + b"\x00"), "not the canonical form"),
    "version 2 with a longer length": (base64url.b64u(DATA[:2] + b"\x83\x00" + DATA[3:]), "not the canonical form"),
    "version 2 without a location": (base64url.b64u(DATA[:1] + DATA[6:]), "location is not the identifier's audience"),
    "JSON cut short": (SPELLED["v2json"][:-1], "pymacaroons cannot read"),
    "JSON twice": (SPELLED["v2json"] * 2, "pymacaroons cannot read"),
    "JSON without a location": (changed("l"), "location is not the identifier's audience"),
    "JSON with another location": (changed(l="hr"), "location is not the identifier's audience"),
    "JSON with two locations": (added('"l": "crm"'), "occurs twice"),
    "JSON with i and i64": (added('"i64": "aGVsbG8"'), "occurs twice"),
    "JSON with an i64 of nothing": (added('"i64": null'), "occurs twice"),
    "JSON with s and s64": (added('"s": "x"'), "occurs twice"),
    "JSON with a caveat of two ids": (changed(c=[{"i": "a", "i64": "YQ"}]), "occurs twice"),
    "JSON with a caveat of one id twice": (added('"c": [{"i": "a", "i": "b"}]', changed("c")), "occurs twice"),
    "JSON with a member that nobody knows": (changed(x=1), "unknown field `x`"),
    "JSON with a caveat's member that nobody knows": (changed(c=[{"i": "a", "x": 1}]), "unknown field `x`"),
    "JSON with members of both versions": (changed(identifier=OLD_JSON["identifier"]), "unknown field `i`"),
    "JSON of version 3": (changed(v=3), "enum value 3"),
    "JSON of version true": (changed(v=True), "got `bool`"),
    "JSON of version 9…9": (added(f'"v": {"9" * 5_000}'), "pymacaroons cannot read"),
    "JSON of version 1e999": (added('"v": 1e999'), "got `float`"),
    "JSON without a signature": (changed("s64"), "pymacaroons cannot read"),
    "JSON with junk in base64": (changed(s64=f"!{JSON['s64']}"), "matching regex"),
    "JSON with a line end in base64": (changed(s64=f"{JSON['s64']}\n"), "matching regex"),
    "JSON with a short signature": (changed(s64="AAAA"), "the signature has 3 bytes"),
    "JSON with half a character": (added('"l": "\\ud800"', changed("l")), "pymacaroons cannot read"),
    "JSON with a caveat of nothing": (changed(c=[{}]), "has an invalid field|pymacaroons cannot read"),
    "JSON with a text for caveats": (changed(c="x"), "got `str`"),
    "JSON with 65 caveats": (changed(c=[{"i": "x"}] * 65), "more than 64 blocks"),
    "old JSON with blanks in the signature": (json.dumps({**OLD_JSON, "signature": " " * 64}), "matching regex"),
    "old JSON without a location": (
        json.dumps({name: value for name, value in OLD_JSON.items() if name != "location"}),
        "missing required field `location`",
    ),
}


@pytest.mark.parametrize(("text", "says"), NO_TOKENS.values(), ids=list(NO_TOKENS))
def test_what_is_no_token_in_any_spelling_says_why(text: str, says: str) -> None:
    with pytest.raises(MalformedToken, match=says) as caught:
        from_text(text)
    assert len(str(caught.value)) < 300


def test_a_fault_that_is_put_right_is_none() -> None:
    for text in (changed(), changed(v=2), added('"v": 2'), json.dumps(OLD_JSON)):
        assert from_text(text) == CHILD
    assert from_text(base64url.b64u(LOCATION + PACKETS[17:])) == CHILD


@given(st.sampled_from(FORMATS), st.integers(0, 2_000), st.text(max_size=3), st.integers(0, 3))
def test_any_change_of_a_spelling_is_a_token_or_malformed(format: Format, at: int, new: str, gone: int) -> None:
    text = SPELLED[format]
    at %= len(text)
    try:
        capability = from_text(text[:at] + new + text[at + gone :])
    except MalformedToken:
        return
    assert Capability.parse(capability.text) == capability
    assert capability == CHILD or not we_accept(capability.text)


@given(st.text(max_size=100) | st.binary(max_size=100).map(base64url.b64u))
def test_any_text_is_a_token_or_malformed(text: str) -> None:
    with pytest.raises(MalformedToken):
        from_text(text)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists))
def test_any_json_in_any_member_is_a_token_or_malformed(value: Any) -> None:
    for document in (JSON, OLD_JSON):
        for name in document:
            try:
                capability = from_text(json.dumps({**document, name: value}))
            except MalformedToken:
                continue
            assert capability == CHILD or not we_accept(capability.text)
