"""Macaroons of other libraries: the same MACs, the same formats, the same refusals.

Without anything else: macaroons that pymacaroons mints here, and the signature that libmacaroons' README is known by.
With CAPX_MACAROON_VECTORS=FILE: every vector of a JSON file of published ones, by its `kind`.
"""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from pymacaroons import MACAROON_V1, MACAROON_V2, Macaroon
from pymacaroons.serializers import BinarySerializer, JsonSerializer

from capx.crypto import base64url, hashing
from capx.crypto.base64url import b64u
from capx.crypto.boxes import NONCE, lock
from capx.crypto.keys import AudienceKey
from capx.errors import MalformedToken
from capx.tokens import chain, wire
from capx.tokens.approval_caveat import KeyedCaveat, caveat_key, read_approval_caveat
from capx.tokens.chain import Block, ThirdParty
from capx.tokens.discharge import (
    PREFIX,
    Discharge,
    bound_signature,
    is_made_with,
    tail_of,
    written,
)
from capx.tokens.interop import from_text, to_text
from capx.tokens.lineage import TokenRefused
from capx.verify.approvals import match_discharges
from capx.verify.cache import Cache
from capx_caveats import DEFAULT
from tests.labs.lab import minted

OURS = wire.decode(minted().text)
"""A token whose identifier, location and signature stand in for those of a vector that is none of ours."""
HEADER = b"\x02\x01\x03crm\x02" + bytes([len(OURS.identifier_bytes)]) + OURS.identifier_bytes + b"\x00"
END = b"\x00\x06\x20" + OURS.signature
TAIL = hashing.mac(hashing.macaroon_key(b"a secret"), b"user 7")
"""The signature of a macaroon without caveats, under the key `a secret`."""


def chained(key: bytes, identifier: bytes, blocks: Iterable[Block]) -> bytes:
    """The signature of a macaroon, as capx computes it."""
    return reduce(chain.extend, blocks, hashing.mac(key, identifier))


def answered(key: bytes, identifier: bytes, blocks: tuple[Block, ...], text: str) -> list[int]:
    """The caveats of a macaroon that a discharge answers, as a verifier of capx finds them; none if it is refused.

    `key` is what other libraries are given as the key.
    """
    # Keys of capx have 32 bytes, those of the vectors have not.
    audience = AudienceKey(OURS.identifier.kid, "crm", bytes(range(32)))
    audience.mac_key = hashing.macaroon_key(key)
    frame = wire.Frame(OURS.identifier, identifier, blocks, chained(audience.mac_key, identifier, blocks), b"")
    try:
        found = match_discharges(frame, audience, [text], DEFAULT, keys={}, memory=Cache(64))
    except TokenRefused:
        return []
    return [one.block for one in found]


def check_sealed(tail: bytes, block: ThirdParty, key: bytes) -> None:
    """The vid holds this key of the caveat's MACs under the tail, and under no other; and capx writes the same vid."""
    assert caveat_key(tail, block) == key
    assert caveat_key(hashing.mac(tail, b""), block) is None
    assert lock(key, block.vid[:NONCE], tail) == block.vid
    again = KeyedCaveat(block.cid, key).below(tail)
    assert (len(again.vid), caveat_key(tail, again)) == (len(block.vid), key)


def check_answer(root: bytes, identifier: bytes, blocks: tuple[Block, ...], discharge: Discharge) -> bytes:
    """A verifier takes a discharge for its caveat only if it is bound to this macaroon; the bound signature."""
    at = [place for place, block in enumerate(blocks) if isinstance(block, ThirdParty)]
    signature = chained(hashing.macaroon_key(root), identifier, blocks)
    assert answered(root, identifier, blocks, discharge.bound_to(signature)) == at
    for text in (discharge.text, discharge.bound_to(bytes(32)), discharge.extended(b"more").text):
        assert answered(root, identifier, blocks, text) == []
    # What is bound cannot be narrowed any more, and answers no caveat of a longer macaroon.
    bound = Discharge.parse(discharge.bound_to(signature))
    assert answered(root, identifier, blocks, bound.extended(b"more").text) == []
    assert answered(root, identifier, (*blocks, b"more"), bound.text) == []
    return bound.signature


def read(text: str) -> Macaroon:
    return Macaroon.deserialize(text, JsonSerializer() if text.startswith("{") else BinarySerializer())


def blocks_of(macaroon: Macaroon) -> tuple[Block, ...]:
    return tuple(
        caveat.caveat_id_bytes
        if caveat.verification_key_id is None
        else ThirdParty(caveat.verification_key_id, caveat.caveat_id_bytes)
        for caveat in macaroon.caveats
    )


def with_our_head(text: str) -> str:
    """The macaroon of a text in the same spelling, its caveats behind an identifier of ours."""
    signature, identifier = OURS.signature, OURS.identifier_bytes
    if text.startswith("{"):
        ours = {"identifier": identifier.decode(), "location": "crm", "signature": signature.hex()}
        ours |= {"i": identifier.decode(), "i64": b64encode(identifier).decode(), "l": "crm", "s64": b64u(signature)}
        return json.dumps({name: ours.get(name, value) for name, value in json.loads(text).items()})
    macaroon = read(text)
    assert macaroon.serialize() == text.translate(str.maketrans("+/", "-_", "="))
    macaroon.identifier, macaroon.location, macaroon.signature = identifier, "crm", signature.hex()
    return macaroon.serialize()


README_KEY = b"this is our super secret key; only we should know it"


def test_the_signature_that_everybody_knows() -> None:
    signature = chained(hashing.macaroon_key(README_KEY), b"we used our secret key", ())
    assert signature.hex() == "e3d9e02908526c4c0039ae15114115d97fdd68bf2ba379b342aaf0f617d0552f"


@pytest.mark.parametrize("version", [MACAROON_V1, MACAROON_V2])
@pytest.mark.parametrize("caveats", [[], ["a = 1"], ["a = 1", "a = 1", "b < 2"], ["ä", "ü \n'\"", "x" * 4096]])
def test_what_they_mint_has_the_mac_that_we_compute(version: int, caveats: list[str]) -> None:
    theirs = Macaroon(location="anywhere", identifier="user 7", key="a secret", version=version)
    for caveat in caveats:
        theirs.add_first_party_caveat(caveat)
    assert chained(hashing.macaroon_key(b"a secret"), b"user 7", map(str.encode, caveats)).hex() == theirs.signature


@pytest.mark.parametrize("version", [MACAROON_V1, MACAROON_V2])
def test_third_party_caveats_and_discharges_have_our_macs(version: int) -> None:
    root = Macaroon(location="crm", identifier="user 7", key="a secret", version=version)
    root.add_first_party_caveat("before")
    tail = bytes.fromhex(root.signature)
    root.add_third_party_caveat("elsewhere", "caveat key", "ask them")
    root.add_first_party_caveat("after")
    blocks = blocks_of(root)
    assert chained(hashing.macaroon_key(b"a secret"), b"user 7", blocks).hex() == root.signature

    third = blocks[1]
    assert isinstance(third, ThirdParty)
    sealed = hashing.macaroon_key(b"caveat key")
    check_sealed(tail, third, sealed)
    discharge = Macaroon(location="elsewhere", identifier="ask them", key="caveat key", version=version)
    discharge.add_first_party_caveat("soon")
    ours = written(third.cid, (b"soon",), tail_of(sealed, third.cid, [b"soon"]))
    assert ours.signature.hex() == discharge.signature
    bound = check_answer(b"a secret", b"user 7", blocks, ours)
    assert bound.hex() == root.prepare_for_request(discharge).signature


def key_of(vector: dict[str, Any]) -> bytes:
    return hashing.macaroon_key(vector["root_key"].encode())


def blocks_in(vector: dict[str, Any]) -> tuple[Block, ...]:
    return tuple(
        ThirdParty(base64url.unb64u(caveat["vid_b64url"]), caveat["cid"].encode())
        if caveat["type"] == "third_party"
        else caveat["cid"].encode()
        for caveat in vector["caveats"]
    )


def check_macs(vector: dict[str, Any]) -> None:
    """Signature, sealed caveat keys, and the binding of discharges."""
    signature, tail = bytes.fromhex(vector["signature_hex"]), hashing.mac(key_of(vector), vector["identifier"].encode())
    for block, caveat in zip(blocks_in(vector), vector["caveats"], strict=True):
        if isinstance(block, ThirdParty):
            sealed = caveat_key(tail, block)
            assert sealed is not None
            if "caveat_root_key" in caveat:
                assert sealed == hashing.macaroon_key(caveat["caveat_root_key"].encode())
            check_sealed(tail, block, sealed)
            if "discharge" in vector:
                check_bare_discharge(signature, block, sealed, vector["discharge"])
        tail = chain.extend(tail, block)
    assert tail == signature


def check_bare_discharge(root: bytes, block: ThirdParty, key: bytes, discharge: dict[str, Any]) -> None:
    """A bound discharge without a caveat has the MACs of ours. But it says nothing, so it is none of ours."""
    assert block.cid == discharge["identifier"].encode()
    bound = bound_signature(root, tail_of(key, block.cid))
    assert bound.hex() == discharge["bound_signature_hex"]
    for name in ("v1_b64", "v2_b64"):
        macaroon = read(discharge[name])
        assert macaroon.signature == bound.hex()
        with pytest.raises(MalformedToken):
            Discharge.parse(PREFIX + discharge[name])
        macaroon.location = "approval"
        with pytest.raises(MalformedToken, match="one block at least" if name == "v2_b64" else "version 2"):
            Discharge.parse(PREFIX + macaroon.serialize())


def check_discharge(vector: dict[str, Any]) -> None:
    """What discharges a caveat of other vectors does so for a verifier of capx, once it is bound to them."""
    cid, blocks, signature = vector["identifier"].encode(), blocks_in(vector), bytes.fromhex(vector["signature_hex"])
    demanding = {
        each["id"]: each
        for each in VECTORS.values()
        for caveat in each.get("caveats", ())
        if caveat["cid"] == vector["identifier"] and caveat.get("caveat_root_key") == vector["root_key"]
    }
    if not demanding:
        assert "bound_to" not in vector
        return
    first_party = tuple(block for block in blocks if isinstance(block, bytes))
    assert tail_of(key_of(vector), cid, first_party) == signature
    discharge = written(cid, first_party, signature)
    assert is_made_with(key_of(vector), discharge)
    bound = {
        name: check_answer(root["root_key"].encode(), root["identifier"].encode(), blocks_in(root), discharge).hex()
        for name, root in demanding.items()
    }
    if "bound_to" in vector:
        assert bound[vector["bound_to"]] == vector["bound_signature_hex"]


def check_texts(vector: dict[str, Any]) -> None:
    """Every text is the macaroon that it is said to be, none of ours, and read behind an identifier of ours."""
    blocks = blocks_in(vector)
    ours = wire.encode(OURS.identifier, blocks, OURS.signature)
    for name, text in vector["serialized"].items():
        if name == "json_v2_s64":
            assert base64url.unb64u(text).hex() == vector["signature_hex"]
            continue
        macaroon = read(text)
        assert macaroon.identifier_bytes == vector["identifier"].encode(), name
        assert macaroon.location == vector["location"], name
        assert (blocks_of(macaroon), macaroon.signature) == (blocks, vector["signature_hex"]), name
        with pytest.raises(MalformedToken, match="the identifier is not that of a capx token"):
            from_text(text)
        assert from_text(with_our_head(text)).text == ours, name
        if name.startswith("v2_") and not any(isinstance(block, ThirdParty) for block in blocks):
            assert "capx1_" + with_our_head(text) == ours, name


def check_mint(vector: dict[str, Any]) -> None:
    check_macs(vector)
    check_discharge(vector)
    check_texts(vector)


def check_verify(vector: dict[str, Any]) -> None:
    """The verdict follows from the MAC that capx computes, and from the predicates that are satisfied."""
    (text,) = vector["macaroons_b64url"]
    macaroon = read(text)
    blocks = blocks_of(macaroon)
    authentic = chained(key_of(vector), macaroon.identifier_bytes, blocks).hex() == macaroon.signature
    satisfied = {each.encode() for each in vector["exact"]}.issuperset(blocks)
    assert (authentic and satisfied) is (vector["expect"] == "authorized")
    assert from_text(with_our_head(text)).blocks == blocks


FAULTS = {
    "ambiguous": "occurs twice",
    "signature length 31": "the signature has 31 bytes",
    "signature length 33": "the signature has 33 bytes",
    "unsupported version": r"`\$\.v`",
}


def check_refused_json(vector: dict[str, Any]) -> None:
    """Refused for the fault that it is published for, and for that alone."""
    (fault,) = (said for expected, said in FAULTS.items() if vector["expect"].startswith(expected))
    faulty = {**json.loads(vector["input"]), "i": OURS.identifier_bytes.decode(), "l": "crm"}
    for text in (vector["input"], json.dumps(faulty)):
        with pytest.raises(MalformedToken, match=fault if text != vector["input"] else None):
            from_text(text)
    sound = {name: value for name, value in faulty.items() if name in ("i", "l", "c")}
    sound["c"] = [{"i": each["i"]} for each in faulty.get("c", ())]
    assert from_text(json.dumps({**sound, "s64": b64u(OURS.signature)})).audience == "crm"


def check_refused_packets(vector: dict[str, Any]) -> None:
    """Neither at the head nor in place of a caveat."""
    section = bytes.fromhex(vector["input_hex"])
    for data in (b"\x02" + section, HEADER + section):
        for refusing, text in ((wire.decode, "capx1_" + b64u(data)), (from_text, b64u(data))):
            with pytest.raises(MalformedToken):
                refusing(text)
    assert from_text(b64u(HEADER + END)).audience == "crm"


def check_decode_error(vector: dict[str, Any]) -> None:
    (check_refused_packets if "input_hex" in vector else check_refused_json)(vector)


def check_varint(vector: dict[str, Any]) -> None:
    """A length is written as published, or too large for a token."""
    for length, spelled in vector["cases"]:
        varint = bytes.fromhex(spelled)
        if length <= wire.MAX_BLOCK:
            block = b"x" * length
            data = HEADER + b"\x02" + varint + block + b"\x00" + END
            assert wire.encode(OURS.identifier, (block,), OURS.signature) == "capx1_" + b64u(data)
        else:
            with pytest.raises(MalformedToken, match="too large"):
                wire.decode("capx1_" + b64u(HEADER + b"\x02" + varint + b"x" * 100))


def check_bakery_caveat_id(vector: dict[str, Any]) -> None:
    """What a bakery seals for a third party is no demand for an approval, and a token carries it unopened.

    The key in it is the key of a discharge as any other is.
    """
    text = vector["caveat_id_b64"]
    key = hashing.macaroon_key(b64decode(vector["expect"]["root_key_b64"]))
    # Version 1 stands in a macaroon as text, the others as bytes.
    cid = text.encode() if vector["expect"]["version"] == 1 else base64url.unb64u(text)
    assert read_approval_caveat(cid) is None
    token = minted().demanding(KeyedCaveat(cid, key))
    assert from_text(to_text(token, "v2json")) == token
    third = token.blocks[-1]
    assert isinstance(third, ThirdParty)
    check_sealed(OURS.signature, third, key)
    discharge = written(cid, (b"condition",), tail_of(key, cid, (b"condition",)))
    check_answer(b"a secret", b"user 7", (KeyedCaveat(cid, key).below(TAIL),), discharge)


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "mint": check_mint,
    "verify": check_verify,
    "decode_error": check_decode_error,
    "varint": check_varint,
    "bakery_caveat_id": check_bakery_caveat_id,
}
PUBLISHED = os.environ.get("CAPX_MACAROON_VECTORS")
VECTORS: dict[str, dict[str, Any]] = (
    {each["id"]: each for each in json.loads(Path(PUBLISHED).read_bytes())["vectors"]} if PUBLISHED else {}
)


@pytest.mark.skipif(not PUBLISHED, reason="CAPX_MACAROON_VECTORS names no file of published vectors")
@pytest.mark.parametrize("name", VECTORS or ["published"])
def test_a_published_vector_agrees(name: str) -> None:
    CHECKS[VECTORS[name]["kind"]](VECTORS[name])
