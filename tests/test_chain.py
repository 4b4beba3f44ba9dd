import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx import chain
from capx.errors import MalformedToken


@given(st.binary(max_size=70))
def test_base64url_has_one_spelling(data: bytes) -> None:
    assert chain.unb64u(chain.b64u(data)) == data


@given(st.text(max_size=20))
def test_any_text_is_base64url_or_malformed(text: str) -> None:
    try:
        data = chain.unb64u(text)
    except MalformedToken:
        return
    assert chain.b64u(data) == text


@pytest.mark.parametrize("text", ["A", "AAAAA", "AB", "AAB", "AA==", "AAA=", "====", "=", "A A", "+/+/", "é", "\udc80"])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(MalformedToken):
        chain.unb64u(text)


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=4), st.lists(st.binary(max_size=5), min_size=1, max_size=4))
def test_a_digest_covers_where_its_parts_end(one: list[bytes], other: list[bytes]) -> None:
    assert (chain.digest(*one) == chain.digest(*other)) == (one == other)


def test_a_digest_is_not_the_same_under_another_label() -> None:
    assert chain.digest(b"capx/1/token", b"x") != chain.digest(b"capx/1/block", b"x")
    assert chain.block_digest(b"p", b"x") != chain.block_digest(b"p", chain.ThirdParty(b"x", b""))


def test_a_mac_is_hmac_sha256() -> None:
    assert chain.mac(b"key", b"message") == hmac.new(b"key", b"message", "sha256").digest()
