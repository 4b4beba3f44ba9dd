"""The discharge: one text for its bytes, and a chain that only shrinks what it says."""

import copy
import pickle
from typing import Any

import pytest

from capx.crypto.base64url import b64u, unb64u
from capx.crypto.hashing import digest, mac, macaroon_key
from capx.errors import InvalidRequest, MalformedToken
from capx.tokens import wire
from capx.tokens.capability import Capability
from capx.tokens.discharge import (
    MAX_BLOCKS,
    PREFIX,
    Discharge,
    bound_signature,
    is_made_with,
    tail_of,
    written,
)
from capx_caveats import Expires, Hop, InvalidCaveat, allow, budget, encode_block, expires
from tests.labs.approving import KEY, LEA, approved, demanding, keyed, put_together
from tests.labs.lab import NONCES, NOW, minted

CID = keyed().cid
ROOT = macaroon_key(KEY)
ONE = approved(demanding())
BLOCK = b'[["expires",1]]'


def text_of(data: bytes) -> str:
    return PREFIX + b64u(data)


DATA = unb64u(ONE.text.removeprefix(PREFIX))


def test_its_bytes_are_those_of_a_macaroon() -> None:
    assert DATA.startswith(
        b"\x02\x01\x08approval\x02" + bytes([len(CID) & 0x7F | 0x80, len(CID) >> 7]) + CID + b"\0\x02"
    )
    assert DATA.endswith(b"\0\0\x06\x20" + ONE.signature)
    assert ONE.body == DATA[:-32]


def test_one_text_reads_back_as_itself() -> None:
    read = Discharge.parse(ONE.text)
    assert (read, read.cid, read.blocks, read.signature, read.body) == (ONE, CID, ONE.blocks, ONE.signature, ONE.body)
    assert hash(read) == hash(ONE)
    assert read != object()


def test_the_chain_is_made_under_the_demands_key() -> None:
    tail = mac(mac(b"macaroons-key-generator", KEY), CID)
    assert tail == tail_of(ROOT, CID)
    for block in ONE.blocks:
        tail = mac(tail, block)
    assert ONE.signature == tail == tail_of(ROOT, CID, ONE.blocks)
    assert is_made_with(ROOT, ONE)
    assert not is_made_with(bytes(32), ONE)
    assert not is_made_with(ROOT, written(CID, ONE.blocks, bytes(32)))


def test_ids_are_digests_of_public_bytes() -> None:
    found = [digest(b"capx/1/discharge", CID)]
    for block in ONE.blocks:
        found.append(digest(b"capx/1/block", found[-1], block))
    assert ONE.digests == tuple(found)
    assert ONE.ids == tuple(each[:16] for each in found)
    assert ONE.id == found[1][:16]


def test_its_id_stays_when_it_is_narrowed() -> None:
    assert ONE.attenuate(expires(NOW + 1), now=NOW).id == ONE.id


def test_a_narrower_one_has_one_more_block() -> None:
    narrower = ONE.attenuate(allow("a.read"), expires("5m"), now=NOW)
    assert narrower.blocks == (*ONE.blocks, encode_block((allow("a.read"), Expires(NOW + 300))))
    assert narrower.signature == mac(ONE.signature, narrower.blocks[-1])
    assert Discharge.parse(narrower.text) == narrower


def test_a_mark_narrows_nothing() -> None:
    with pytest.raises(InvalidCaveat, match="narrowed by `delegated to a`"):
        ONE.attenuate(Hop("a", NONCES[0]))


def test_a_bound_one_has_another_signature_only() -> None:
    token = bytes(range(32))
    zero = bytes(32)
    bound = Discharge.parse(ONE.bound_to(token))
    assert (bound.cid, bound.blocks) == (ONE.cid, ONE.blocks)
    assert bound.signature == mac(zero, mac(zero, token) + mac(zero, ONE.signature))
    assert bound.signature == bound_signature(token, ONE.signature)
    assert bound.signature != Discharge.parse(ONE.bound_to(zero)).signature


def test_a_token_is_no_discharge_and_no_discharge_is_a_token() -> None:
    token = minted().text
    with pytest.raises(MalformedToken, match="a discharge begins with capxd1_"):
        Discharge.parse(token)
    with pytest.raises(MalformedToken, match="the location is not that of an approval"):
        Discharge.parse(PREFIX + token.removeprefix(wire.PREFIX))
    with pytest.raises(MalformedToken, match="a token begins with capx1_"):
        Capability.parse(ONE.text)
    with pytest.raises(MalformedToken):
        Capability.parse(wire.PREFIX + ONE.text.removeprefix(PREFIX))


HEAD = b"\x02\x01\x08approval\x02\x01c\0"
MALFORMED: dict[str, tuple[str, str, str]] = {
    "nothing": ("", "malformed", "a discharge begins with"),
    "another version of the text": ("capxd2_AA", "unknown_version", "another format version than capxd1_"),
    "nothing behind the prefix": (PREFIX, "truncated", "cut short at byte 0"),
    "another alphabet": (f"{PREFIX}A+", "malformed", "not base64url"),
    "padding": (f"{ONE.text}=", "malformed", "not base64url"),
    "unused bits": (text_of(DATA)[:-1] + chr(ord(text_of(DATA)[-1]) + 1), "malformed", "not canonical"),
    "version 1 of the bytes": (text_of(b"\x01" + DATA[1:]), "unknown_version", "version 2"),
    "another location": (text_of(DATA.replace(b"approval", b"APPROVAL", 1)), "malformed", "location"),
    "a longer location": (text_of(b"\x02\x01\x09approvals" + DATA[11:]), "too_large", "more than 8 bytes"),
    "no location": (text_of(b"\x02" + DATA[11:]), "malformed", "another field must begin at byte 1"),
    "no end behind the cid": (text_of(HEAD[:-1] + b"\x02"), "malformed", "must end its section"),
    "no block": (text_of(HEAD + b"\0\x06\x20" + bytes(32)), "malformed", "one block at least"),
    "a third-party caveat": (
        text_of(HEAD + b"\x02\x01b\x04\x01v\0\0\x06\x20" + bytes(32)),
        "malformed",
        "must end its",
    ),
    "a short signature": (text_of(HEAD + b"\x02\x01b\0\0\x06\x1f" + bytes(31)), "malformed", "31 bytes, not 32"),
    "bytes behind it": (text_of(DATA + b"\0"), "malformed", "1 bytes follow the end of the discharge"),
    "a text too long": (PREFIX + "A" * 16_384, "too_large", "more than 16384 characters"),
    "a block too long": (text_of(HEAD + b"\x02\x81\x20" + bytes(4097)), "too_large", "more than 4096 bytes"),
    "33 blocks": (text_of(HEAD + b"\x02\x01b\0" * 33 + b"\0\x06\x20" + bytes(32)), "too_large", "more than 32 blocks"),
}


@pytest.mark.parametrize(("text", "code", "told"), MALFORMED.values(), ids=MALFORMED.keys())
def test_any_other_text_is_none(text: str, code: str, told: str) -> None:
    with pytest.raises(MalformedToken) as error:
        Discharge.parse(text)
    assert (error.value.code, told in str(error.value)) == (code, True), str(error.value)


def test_a_text_of_as_many_characters_as_fit_is_read() -> None:
    # All zeros are no discharge; what matters is that they are looked at.
    with pytest.raises(MalformedToken, match="version 2"):
        Discharge.parse(PREFIX + "A" * (wire.MAX_TEXT - len(PREFIX)))


@pytest.mark.parametrize(("data", "at"), [(HEAD[:-1] + b"\x02", 14), (HEAD + b"\x02\x01b\x04", 18)])
def test_a_section_without_an_end_is_told_by_its_byte(data: bytes, at: int) -> None:
    with pytest.raises(MalformedToken, match=f"byte {at} "):
        Discharge.parse(text_of(data))


def test_different_discharges_have_different_hashes() -> None:
    one, other = written(CID, (BLOCK,), bytes(32)), written(CID, (BLOCK,), b"x" * 32)
    assert len({hash(one), hash(other)}) == 2


def test_what_is_written_can_be_bound_and_extended() -> None:
    made = written(CID, (BLOCK,), bytes(32))
    assert made.body == Discharge.parse(made.text).body
    assert Discharge.parse(made.bound_to(bytes(32))).blocks == (BLOCK,)


def test_a_counter_of_the_authority_narrows_nothing() -> None:
    with pytest.raises(InvalidCaveat, match="a discharge cannot be narrowed by"):
        ONE.attenuate(budget("calls", 1, counter="x"))


@pytest.mark.parametrize("size", range(0, len(DATA), 7))
def test_a_part_of_one_is_none(size: int) -> None:
    with pytest.raises(MalformedToken):
        Discharge.parse(text_of(DATA[:size]))


def test_every_changed_bit_is_another_discharge_or_none() -> None:
    for at in range(len(DATA)):
        changed = bytearray(DATA)
        changed[at] ^= 1
        try:
            read = Discharge.parse(text_of(bytes(changed)))
        except MalformedToken:
            continue
        assert not is_made_with(ROOT, read), at


def test_no_more_blocks_than_fit() -> None:
    most = put_together(BLOCK, *[BLOCK] * (MAX_BLOCKS - 1))
    assert len(Discharge.parse(most.text).blocks) == MAX_BLOCKS
    with pytest.raises(MalformedToken, match="more than 32 blocks"):
        most.extended(BLOCK)


def test_no_longer_text_than_fits() -> None:
    long = b'[["expires",1]]' + b" " * 4000
    with pytest.raises(MalformedToken, match="more than 16384 characters"):
        put_together(long, long, long, long)
    with pytest.raises(MalformedToken, match="more than 4096 bytes"):
        put_together(long + b" " * 100)


def test_what_no_verifier_reads_can_be_looked_at() -> None:
    strange = put_together(b'["too",' + b"[" * 257 + b"]")
    assert [type(one).__name__ for one in strange.caveats[0]] == ["NotUnderstood"]
    assert "brackets" in str(strange.caveats[0][0])


def test_it_does_not_change_and_is_not_copied_by_accident() -> None:
    found: Any = ONE
    with pytest.raises(AttributeError, match="a discharge is immutable: text cannot be set"):
        found.text = "x"
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(InvalidRequest, match="pass its `text`"):
            way(ONE)
    assert repr(ONE) == f"Discharge(id={b64u(ONE.id)!r})"
    assert ONE.text not in repr(ONE)


def test_budgets_and_expiries_may_narrow() -> None:
    assert len(ONE.attenuate(budget("calls", 1), now=NOW).blocks) == len(ONE.blocks) + 1
    assert approved(demanding(), LEA, uses=None) != ONE


def test_white_space_around_an_approval_is_told() -> None:
    for text in (f"{ONE.text}\n", f" {ONE.text}"):
        with pytest.raises(MalformedToken, match="white space around the text of the approval: strip it"):
            Discharge.parse(text)
