"""Digests and MACs."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.crypto import hashing
from capx.tokens import chain


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=4), st.lists(st.binary(max_size=5), min_size=1, max_size=4))
def test_a_digest_covers_where_its_parts_end(one: list[bytes], other: list[bytes]) -> None:
    assert (hashing.digest(*one) == hashing.digest(*other)) == (one == other)


def test_a_digest_is_not_the_same_under_another_label() -> None:
    assert hashing.digest(b"capx/1/token", b"x") != hashing.digest(b"capx/1/block", b"x")
    assert chain.block_digest(b"p", b"x") != chain.block_digest(b"p", chain.ThirdParty(b"x", b""))


@given(st.binary(max_size=150), st.binary(max_size=300))
def test_a_mac_is_hmac_sha256(key: bytes, message: bytes) -> None:
    assert hashing.mac(key, message) == hmac.digest(key, message, "sha256")


@pytest.mark.parametrize("length", [0, 32, 63, 64, 65, 131])
def test_a_mac_is_hmac_sha256_around_the_size_of_a_block(length: int) -> None:
    for message in (b"", b"m", bytes(5_000)):
        assert hashing.mac(bytes(length), message) == hmac.digest(bytes(length), message, "sha256")
        assert hashing.mac(length * b"\xff", message) == hmac.digest(length * b"\xff", message, "sha256")


def test_a_mac_is_that_of_the_vectors_of_rfc_4231() -> None:
    vectors = {
        (20 * b"\x0b", b"Hi There"): "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        (b"Jefe", b"what do ya want for nothing?"): "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        (131 * b"\xaa", b"Test Using Larger Than Block-Size Key - Hash Key First"): (
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        ),
    }
    assert {hashing.mac(*given).hex(): given for given in vectors} == {mac: given for given, mac in vectors.items()}


def test_a_key_of_a_chain_is_derived_as_libmacaroons_does() -> None:
    assert hashing.macaroon_key(b"k" * 32) == hmac.digest(b"macaroons-key-generator", b"k" * 32, "sha256")
