"""Every way to write a token that is not one: refused, by one family of errors, and never allowed."""

import base64
import json
import time
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capx.crypto import base64url
from capx.errors import MalformedToken
from capx.tokens import chain, wire
from capx.tokens.capability import Capability
from capx_caveats import expires
from tests.labs.counts import repeated
from tests.labs.keyed import keyed
from tests.labs.lab import KEY, NOW, ROOT_KEY, Lab, codes, minted, raw

PARENT = minted()
TOKEN = PARENT.delegate(to="slides-agent", nonce="AgICAgICAgI", allow=["a.read"], now=NOW).attenuate(expires(NOW + 60))
DATA = base64url.unb64u(TOKEN.text.removeprefix("capx1_"))
IDENTIFIER = wire.decode(TOKEN.text).identifier_bytes
BLOCKS = [block for block in TOKEN.blocks if isinstance(block, bytes)]
SIGNATURE = wire.decode(TOKEN.text).signature


def text(data: bytes) -> str:
    return "capx1_" + base64url.b64u(data)


def field(kind: int, content: bytes, length: bytes | None = None) -> bytes:
    if length is None:
        size = len(content)
        length = bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
    return bytes([kind]) + length + content


def packed(
    *blocks: bytes, location: bytes = b"crm", identifier: bytes = IDENTIFIER, signature: bytes = SIGNATURE
) -> bytes:
    body = b"".join(field(2, block) + b"\0" for block in blocks)
    return b"\x02" + field(1, location) + field(2, identifier) + b"\0" + body + b"\0" + field(6, signature)


def refused(spelling: str) -> str:
    with pytest.raises(MalformedToken) as caught:
        wire.decode(spelling)
    assert " " in str(caught.value)
    assert "None" not in str(caught.value)
    return caught.value.code


def test_this_file_writes_tokens_as_the_library_does() -> None:
    assert text(packed(*BLOCKS)) == TOKEN.text


def test_decode_then_encode_gives_the_same_text() -> None:
    frame = wire.decode(TOKEN.text)
    assert wire.encode(frame.identifier, frame.blocks, frame.signature) == TOKEN.text


blocks = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.builds(chain.ThirdParty, vid=st.binary(max_size=300), cid=st.binary(max_size=300)),
    ),
    max_size=8,
)


@given(blocks, st.binary(min_size=32, max_size=32), st.integers(0, 2**53 - 1))
def test_encode_then_decode_gives_the_same_parts(parts: list[chain.Block], signature: bytes, issued_at: int) -> None:
    identifier = wire.Identifier(ROOT_KEY.kid, "crm", "AQEBAQEBAQEBAQEBAQEBAQ", issued_at)
    frame = wire.decode(wire.encode(identifier, tuple(parts), signature))
    assert (frame.identifier, frame.blocks, frame.signature) == (identifier, tuple(parts), signature)


@given(st.text(), st.booleans())
def test_any_text_is_a_token_or_malformed(noise: str, prefixed: bool) -> None:
    spelling = "capx1_" + noise if prefixed else noise
    try:
        frame = wire.decode(spelling)
    except MalformedToken:
        return
    assert wire.encode(frame.identifier, frame.blocks, frame.signature) == spelling


@given(st.binary(max_size=200), st.integers(0, len(DATA)), st.integers(0, len(DATA)))
@settings(max_examples=repeated(500))
def test_any_bytes_spliced_into_a_token_are_a_token_or_malformed(noise: bytes, start: int, end: int) -> None:
    spelling = text(DATA[:start] + noise + DATA[end:])
    try:
        capability = Capability.parse(spelling)
    except MalformedToken:
        return
    frame = wire.decode(spelling)
    assert wire.encode(frame.identifier, frame.blocks, frame.signature) == capability.text == spelling
    assert capability.caveats is not None
    assert repr(capability)


def test_any_byte_flipped_is_refused() -> None:
    lab = Lab()
    token = lab.present(TOKEN)
    data = base64url.unb64u(token.removeprefix("capx1_"))
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            decision = lab.decide(text(bytes(changed)))
            assert not decision.allowed
            assert set(codes(decision)) <= {
                "malformed", "truncated", "too_large", "unknown_version", "wrong_audience", "not_authentic",
            }  # fmt: skip
    assert lab.decide(token).allowed


def test_any_character_changed_is_refused() -> None:
    lab = Lab()
    token = lab.present(TOKEN)
    for at in range(len(token)):
        for other in "A_-z=+/ é":
            if other != token[at]:
                assert not lab.decide(token[:at] + other + token[at + 1 :]).allowed
    assert lab.decide(token).allowed


@pytest.mark.parametrize("blocks", range(3))
def test_cut_short_at_every_length_is_truncated(blocks: int) -> None:
    whole = raw(*BLOCKS[:blocks]).text
    for length in range(1, len(whole)):
        assert refused(whole[:length]) == "truncated", length


def test_removing_the_last_or_a_middle_block_is_refused() -> None:
    lab = Lab()
    frame = wire.decode(lab.present(TOKEN))
    for at in range(len(frame.blocks)):
        rest = (*frame.blocks[:at], *frame.blocks[at + 1 :])
        assert codes(lab.decide(wire.encode(frame.identifier, rest, frame.signature))) == ("not_authentic",)


def test_reordered_blocks_are_refused() -> None:
    lab = Lab()
    frame = wire.decode(lab.present(TOKEN))
    for order in permutations(frame.blocks):
        allowed = lab.decide(wire.encode(frame.identifier, order, frame.signature)).allowed
        assert allowed == (order == frame.blocks)


def test_a_duplicated_block_is_refused() -> None:
    lab = Lab()
    frame = wire.decode(lab.present(TOKEN))
    for at in range(len(frame.blocks)):
        twice = (*frame.blocks[: at + 1], *frame.blocks[at:])
        assert codes(lab.decide(wire.encode(frame.identifier, twice, frame.signature))) == ("not_authentic",)


@pytest.mark.parametrize("inserted", [b'[["allow",[["a.*"]]]]', b"", b"[]", b"junk"])
def test_an_unsigned_block_inserted_anywhere_is_refused(inserted: bytes) -> None:
    lab = Lab()
    frame = wire.decode(lab.present(TOKEN))
    for at in range(len(frame.blocks) + 1):
        more = (*frame.blocks[:at], inserted, *frame.blocks[at:])
        assert codes(lab.decide(wire.encode(frame.identifier, more, frame.signature))) == ("not_authentic",)


def test_an_unsigned_third_party_caveat_anywhere_is_refused() -> None:
    lab = Lab()
    frame = wire.decode(lab.present(TOKEN))
    for at in range(len(frame.blocks) + 1):
        more = (*frame.blocks[:at], chain.ThirdParty(b"vid", b"cid"), *frame.blocks[at:])
        assert codes(lab.decide(wire.encode(frame.identifier, more, frame.signature))) == ("not_authentic",)


def test_an_altered_token_is_refused_though_its_prefix_is_cached() -> None:
    lab = Lab()
    assert lab.decide(lab.present(TOKEN)).allowed
    frame = wire.decode(lab.present(TOKEN))
    *held, mark = frame.blocks
    for altered in ((*held, b'[["allow",[["a.*"]]]]', mark), (*held[:-1], mark), (held[0], held[0], *held[1:], mark)):
        assert codes(lab.decide(wire.encode(frame.identifier, altered, frame.signature))) == ("not_authentic",)


TRAILING = {
    "a byte": text(DATA + b"\0"),
    "two bytes": text(DATA + b"\0\0"),
    "a second token": text(DATA + DATA),
    "a second text": TOKEN.text + TOKEN.text,
    "a character": TOKEN.text + "A",
    "a newline": TOKEN.text + "\n",
    "a space before": " " + TOKEN.text,
}
ENDINGS = {-len(whole.removeprefix("capx1_")) % 4: whole for whole in (raw(b"x" * size).text for size in range(3))}
"""A token for each amount of padding that other base64 would end with."""
BASE64 = {
    "one padding that is due": ENDINGS[1] + "=",
    "two paddings that are due": ENDINGS[2] + "==",
    "one padding of two": ENDINGS[2] + "=",
    "two paddings for one": ENDINGS[1] + "==",
    "padding not due": ENDINGS[0] + "=",
    "more padding": TOKEN.text + "====",
    "padding within": TOKEN.text[:40] + "=" + TOKEN.text[40:],
    "the standard alphabet": "capx1_" + base64.b64encode(DATA + b"\xff\xff\xff").decode().rstrip("="),
    "a mixed alphabet": "capx1_" + base64url.b64u(DATA + b"\xff\xff\xfb").replace("_", "/", 1),
    "a line break within": TOKEN.text[:40] + "\n" + TOKEN.text[40:],
    "a NUL within": TOKEN.text[:40] + "\0" + TOKEN.text[40:],
    "full-width letters": TOKEN.text[:40] + "\uff21" + TOKEN.text[41:],
    "a lone surrogate": TOKEN.text[:40] + "\ud800" + TOKEN.text[41:],
    "upper-case prefix": TOKEN.text.replace("capx1_", "CAPX1_"),
    "no prefix": TOKEN.text.removeprefix("capx1_"),
    "the prefix twice": "capx1_" + TOKEN.text,
    "percent-encoding": TOKEN.text.replace("_", "%5F", 1),
}
FIELDS = {
    "a location of another audience": packed(*BLOCKS, location=b"crn"),
    "an empty location": packed(*BLOCKS, location=b""),
    "no location": packed(*BLOCKS).replace(field(1, b"crm"), b"", 1),
    "two locations": packed(*BLOCKS).replace(field(1, b"crm"), field(1, b"crm") * 2, 1),
    "identifier before location": b"\x02"
    + field(2, IDENTIFIER)
    + field(1, b"crm")
    + packed(*BLOCKS)[8 + len(IDENTIFIER) :],
    "no identifier": packed(*BLOCKS).replace(field(2, IDENTIFIER), b"", 1),
    "two identifiers": packed(*BLOCKS).replace(field(2, IDENTIFIER), field(2, IDENTIFIER) * 2, 1),
    "no end of the header": packed(*BLOCKS).replace(field(2, IDENTIFIER) + b"\0", field(2, IDENTIFIER), 1),
    "two cids": packed(*BLOCKS).replace(field(2, BLOCKS[1]), field(2, BLOCKS[1]) * 2, 1),
    "a location in a caveat": packed(*BLOCKS).replace(field(2, BLOCKS[1]), field(1, b"x") + field(2, BLOCKS[1]), 1),
    "vid before cid": packed(*BLOCKS).replace(field(2, BLOCKS[1]), field(4, b"x") + field(2, BLOCKS[1]), 1),
    "two vids": packed(*BLOCKS).replace(field(2, BLOCKS[1]), field(2, BLOCKS[1]) + field(4, b"x") * 2, 1),
    "an unknown field": packed(*BLOCKS).replace(field(2, BLOCKS[1]), field(3, BLOCKS[1]), 1),
    "a length whose second byte says that a third follows": packed(*BLOCKS).replace(
        field(2, BLOCKS[1]), b"\x02\xff\x80\x01" + BLOCKS[1], 1
    ),
    "a three-byte length": packed(*BLOCKS).replace(field(2, BLOCKS[1]), b"\x02\xff\xff\x7f" + BLOCKS[1], 1),
    "a length beyond the end of memory": packed(*BLOCKS).replace(
        field(2, BLOCKS[1]), b"\x02" + b"\xff" * 9 + b"\x01" + BLOCKS[1], 1
    ),
    "no signature": packed(*BLOCKS)[:-34],
    "two signatures": packed(*BLOCKS) + field(6, SIGNATURE),
    "a signature within": packed(*BLOCKS).replace(field(2, BLOCKS[1]), field(6, SIGNATURE), 1),
    **{f"a signature of {size} bytes": packed(*BLOCKS, signature=bytes(size)) for size in (0, 16, 31, 33)},
}
NOT_MINIMAL = {
    "the location's": packed(*BLOCKS).replace(field(1, b"crm"), field(1, b"crm", b"\x83\x00"), 1),
    "the identifier's": packed(*BLOCKS).replace(
        field(2, IDENTIFIER), field(2, IDENTIFIER, bytes([len(IDENTIFIER) | 0x80, 0])), 1
    ),
    "a block's": packed(*BLOCKS, signature=SIGNATURE).replace(
        field(2, BLOCKS[2]), field(2, BLOCKS[2], bytes([len(BLOCKS[2]) | 0x80, 0])), 1
    ),
    "the signature's": packed(*BLOCKS)[:-34] + field(6, SIGNATURE, b"\xa0\x00"),
}


@pytest.mark.parametrize("spelling", TRAILING.values(), ids=list(TRAILING))
def test_anything_around_a_token_is_refused(spelling: str) -> None:
    assert refused(spelling) == "malformed"


@pytest.mark.parametrize("spelling", BASE64.values(), ids=list(BASE64))
def test_any_other_base64_is_refused(spelling: str) -> None:
    assert all(wire.decode(whole) for whole in (TOKEN.text, *ENDINGS.values()))
    assert refused(spelling) in {"malformed", "unknown_version"}


def test_final_bits_that_are_not_zero_are_refused() -> None:
    tokens = [raw(b"x" * size).text for size in range(3)]
    loose = 0
    for token in tokens:
        for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
            changed = token[:-1] + last
            if (
                base64.urlsafe_b64decode(changed[6:] + "==") == base64.urlsafe_b64decode(token[6:] + "==")
                and changed != token
            ):
                loose += 1
                assert refused(changed) == "malformed"
    assert loose > 10


@pytest.mark.parametrize("data", FIELDS.values(), ids=list(FIELDS))
def test_fields_out_of_order_repeated_or_missing_are_refused(data: bytes) -> None:
    assert data != DATA
    assert refused(text(data)) in {"malformed", "truncated"}


@pytest.mark.parametrize("data", NOT_MINIMAL.values(), ids=list(NOT_MINIMAL))
def test_a_length_that_is_not_minimal_is_refused(data: bytes) -> None:
    assert data != DATA
    assert refused(text(data)) == "malformed"


def test_the_other_spellings_of_a_valid_token_are_refused() -> None:
    def packet(name: str, value: bytes) -> bytes:
        return f"{len(name) + len(value) + 6:04x}{name} ".encode() + value + b"\n"

    version_1 = packet("location", b"crm") + packet("identifier", IDENTIFIER)
    version_1 += b"".join(packet("cid", block) for block in BLOCKS) + packet("signature", SIGNATURE)
    as_json = json.dumps(
        {
            "v": 2,
            "l": "crm",
            "i": IDENTIFIER.decode(),
            "c": [{"i": block.decode()} for block in BLOCKS],
            "s64": base64url.b64u(SIGNATURE),
        }
    )
    assert refused(text(version_1)) == "unknown_version"
    assert refused(base64url.b64u(version_1)) == "malformed"
    assert refused(text(as_json.encode())) == "unknown_version"
    assert refused(as_json) == "malformed"


@pytest.mark.parametrize("version", ["capx2_", "capx10_", "capx0_"])
def test_a_later_version_says_so(version: str) -> None:
    assert refused(TOKEN.text.replace("capx1_", version)) == "unknown_version"


IDENTIFIERS = {
    "white space": b'[1, "%s","crm","%s",1]',
    "a leading zero": b'[1,"%s","crm","%s",01]',
    "a fraction": b'[1,"%s","crm","%s",1.0]',
    "an exponent": b'[1,"%s","crm","%s",1e3]',
    "minus zero": b'[1,"%s","crm","%s",-0]',
    "an escape": b'[1,"%s","\\u0063rm","%s",1]',
    "another field": b'[1,"%s","crm","%s",1,2]',
    "a short kid": b'[1,"%.3s","crm","%s",1]',
    "an upper-case audience": b'[1,"%s","CRM","%s",1]',
    "no array": b'{"1":"%s","crm":"%s"}',
    "a byte-order mark": b'\xef\xbb\xbf[1,"%s","crm","%s",1]',
    "a time beyond any": b'[1,"%s","crm","%s",10000000000000000]',
    "a time that no double holds": b'[1,"%s","crm","%s",9007199254740992]',
}


@pytest.mark.parametrize("form", IDENTIFIERS.values(), ids=list(IDENTIFIERS))
def test_an_identifier_in_any_other_spelling_is_refused(form: bytes) -> None:
    identifier = form % (KEY.kid.encode(), b"AQEBAQEBAQEBAQEBAQEBAQ")
    assert refused(text(packed(*BLOCKS, identifier=identifier))) == "malformed"


def test_the_last_time_that_a_double_holds_is_read() -> None:
    identifier = wire.Identifier(KEY.kid, "crm", "AQEBAQEBAQEBAQEBAQEBAQ", 2**53 - 1)
    assert wire.Identifier.decode(identifier.encode()) == identifier


def test_an_identifier_of_another_format_version_says_so() -> None:
    assert refused(text(packed(*BLOCKS, identifier=IDENTIFIER.replace(b"[1,", b"[2,")))) == "unknown_version"


@pytest.mark.parametrize(
    ("parts", "limit"),
    [
        ([b""] * 64, None),
        ([b""] * 65, "too_large"),
        ([bytes(4096)], None),
        ([bytes(4097)], "too_large"),
        ([bytes(4000)] * 4, "too_large"),
        ([chain.ThirdParty(bytes(4097), b"")], "too_large"),
        ([chain.ThirdParty(b"", bytes(4097))], "too_large"),
    ],
)
def test_what_is_too_large_is_neither_written_nor_read(parts: list[chain.Block], limit: str | None) -> None:
    identifier = wire.Identifier(ROOT_KEY.kid, "crm", "AQEBAQEBAQEBAQEBAQEBAQ", NOW)
    if limit is None:
        assert wire.decode(wire.encode(identifier, tuple(parts), SIGNATURE)).blocks == tuple(parts)
        return
    with pytest.raises(MalformedToken, match="more than") as caught:
        wire.encode(identifier, tuple(parts), SIGNATURE)
    assert caught.value.code == limit


@pytest.mark.parametrize("data", [packed(*[b""] * 65), packed(bytes(4097)), packed(*[bytes(4000)] * 4)])
def test_bytes_too_large_are_too_large(data: bytes) -> None:
    assert refused(text(data)) == "too_large"


@pytest.mark.parametrize("huge", ["capx1_" + "A" * 1_000_000, text(packed(*[b""] * 100_000))])
def test_a_huge_token_is_refused_before_parsing(huge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(wire, "whole_bytes")
    assert refused(huge) == "too_large"


def test_reading_the_largest_token_takes_linear_time() -> None:
    def seconds(count: int) -> float:
        token = text(packed(*[b"x" * 180] * count))
        begun = time.perf_counter()
        for _ in range(200):
            wire.decode(token)
        return time.perf_counter() - begun

    assert min(seconds(60) for _ in range(3)) < 15 * min(seconds(15) for _ in range(3))


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 129, 255, 256, 4096])
def test_a_length_is_written_and_read_in_the_fewest_bytes(size: int) -> None:
    block = b"x" * size
    identifier = wire.decode(TOKEN.text).identifier
    assert wire.encode(identifier, (block,), SIGNATURE) == text(packed(block))
    assert wire.decode(text(packed(block))).blocks == (block,)


@pytest.mark.parametrize(("size", "code"), [(63, "malformed"), (64, "too_large")])
def test_a_location_is_no_longer_than_an_audience(size: int, code: str) -> None:
    assert refused(text(packed(*BLOCKS, location=b"a" * size))) == code


def test_the_largest_text_is_a_token_one_more_is_refused() -> None:
    identifier = wire.decode(TOKEN.text).identifier
    filling = [b"x" * 4000] * 3
    rest = (wire.MAX_TEXT - len(wire.PREFIX)) * 3 // 4 - len(packed(*filling)) - 4
    largest = (*filling, b"x" * rest)
    spelling = wire.encode(identifier, largest, SIGNATURE)
    assert len(spelling) == wire.MAX_TEXT
    assert wire.decode(spelling).blocks == largest
    with pytest.raises(MalformedToken, match="characters"):
        wire.encode(identifier, (*largest[:-1], largest[-1] + b"x"), SIGNATURE)
    assert refused(text(packed(*largest[:-1], largest[-1] + b"x"))) == "too_large"


# What an earlier reading is good for


@pytest.mark.parametrize("blocks", range(len(BLOCKS) + 1))
def test_a_body_is_what_stands_before_the_last_block(blocks: int) -> None:
    data = packed(*BLOCKS[:blocks])
    last = 1 + 2 + len(SIGNATURE) + sum(len(field(2, block)) + 1 for block in BLOCKS[:blocks][-1:])
    assert wire.decode(text(data)).body == data[:-last]


def test_presentations_of_one_capability_have_one_body() -> None:
    one, other = (wire.decode(Lab().present(TOKEN)) for _ in range(2))
    assert one.body == other.body == DATA[: -1 - 2 - len(SIGNATURE)]


def test_an_earlier_reading_of_a_shared_prefix_changes_nothing() -> None:
    lab = Lab()
    token = lab.present(TOKEN)
    earlier = wire.decode(token)
    data = base64url.unb64u(token.removeprefix("capx1_"))
    for at in range(len(earlier.body), len(data)):
        for changed in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:at], data[:at] + data[at + 1 :]):
            assert outcome(text(changed), earlier) == outcome(text(changed))


def outcome(spelling: str, *earlier: wire.Frame) -> wire.Frame | str:
    try:
        return wire.decode(spelling, {frame.body: frame for frame in earlier}.get)
    except MalformedToken as error:
        return error.code


def test_what_an_earlier_presentation_shared_is_not_read_again() -> None:
    lab = Lab()
    earlier, token = wire.decode(lab.present(TOKEN)), lab.present(TOKEN)
    frame = wire.decode(token, {earlier.body: earlier}.get)
    assert frame == wire.decode(token)
    assert frame.identifier is earlier.identifier
    assert all(one is other for one, other in zip(frame.blocks[:-1], earlier.blocks, strict=False))


def test_nor_what_an_earlier_signed_presentation_shared() -> None:
    lab, held = Lab(), keyed()
    earlier, token = wire.decode(lab.present(held)), lab.present(held)
    frame = wire.decode(token, {earlier.body: earlier}.get)
    assert frame == wire.decode(token)
    assert frame.identifier is earlier.identifier
