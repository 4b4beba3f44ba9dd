import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.crypto import base64url, hashing
from capx.errors import MalformedToken
from capx.tokens import chain


@given(st.binary(max_size=70))
def test_base64url_has_one_spelling(data: bytes) -> None:
    assert base64url.unb64u(base64url.b64u(data)) == data


@given(st.text(max_size=20))
def test_any_text_is_base64url_or_malformed(text: str) -> None:
    try:
        data = base64url.unb64u(text)
    except MalformedToken:
        return
    assert base64url.b64u(data) == text


@pytest.mark.parametrize("text", ["A", "AAAAA", "AB", "AAB", "AA==", "AAA=", "====", "=", "A A", "+/+/", "é", "\udc80"])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(MalformedToken, match="base64url"):
        base64url.unb64u(text)


@pytest.mark.parametrize("text", ["A A", "A=A", "+/+/", "AAA\n", "\u00e9", "\udc80"])
def test_a_character_of_no_alphabet_is_refused_before_anything_is_made_of_the_rest(text: str) -> None:
    with pytest.raises(MalformedToken, match="without padding"):
        base64url.whole_bytes(text)


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=4), st.lists(st.binary(max_size=5), min_size=1, max_size=4))
def test_a_digest_covers_where_its_parts_end(one: list[bytes], other: list[bytes]) -> None:
    assert (hashing.digest(*one) == hashing.digest(*other)) == (one == other)


def test_a_digest_is_not_the_same_under_another_label() -> None:
    assert hashing.digest(b"capx/1/token", b"x") != hashing.digest(b"capx/1/block", b"x")
    assert chain.block_digest(b"p", b"x") != chain.block_digest(b"p", chain.ThirdParty(b"x", b""))


def test_a_mac_is_hmac_sha256() -> None:
    assert hashing.mac(b"key", b"message") == hmac.new(b"key", b"message", "sha256").digest()


def hashed(*parts: bytes) -> bytes:
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


def test_each_digest_goes_on_from_the_one_before_under_its_own_label() -> None:
    token = hashed(b"capx/1/token", b"identifier")
    block = hashed(b"capx/1/block", token, b"block")
    third = hashed(b"capx/1/third", block, b"vid", b"cid")
    assert chain.digests(b"identifier", [b"block", chain.ThirdParty(b"vid", b"cid")]) == (token, block, third)


def test_each_node_goes_on_from_the_one_above_it() -> None:
    root = hashed(b"capx/1/root", b"R1")[:16]
    first = hashed(b"capx/1/node", root, b"AgICAgICAgI")[:16]
    second = hashed(b"capx/1/node", first, b"AwMDAwMDAwM")[:16]
    assert chain.nodes("R1", ["AgICAgICAgI", "AwMDAwMDAwM"]) == (root, first, second)


def test_a_third_party_caveat_is_chained_as_libmacaroons_does() -> None:
    tail, vid, cid = b"t" * 32, b"vid", b"cid"
    both = hmac.digest(tail, vid, "sha256") + hmac.digest(tail, cid, "sha256")
    assert chain.extend(tail, chain.ThirdParty(vid, cid)) == hmac.digest(tail, both, "sha256")


@pytest.mark.parametrize(
    "text",
    ["AA!A", "AA A", "AA\nA", "AA.A", "+AAA", "A/AA", "AAA=", "AA==", "A=", "AAé", "AAAA!", "AAAA!!!!", "    AAAA"],
)
def test_what_is_not_of_the_alphabet_is_no_base64url_wherever_it_stands(text: str) -> None:
    with pytest.raises(MalformedToken):
        base64url.whole_bytes(text)
