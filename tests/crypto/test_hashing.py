"""Digests and MACs."""

import hmac

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


def test_a_mac_is_hmac_sha256() -> None:
    assert hashing.mac(b"key", b"message") == hmac.new(b"key", b"message", "sha256").digest()
