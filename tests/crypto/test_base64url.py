"""Base64url has one spelling."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capx.crypto import base64url
from capx.errors import MalformedToken


@given(st.binary(max_size=70))
@example(b"\xfb\xef\xbe\xff\xff\xff").via("----____")
@example(b"\x00\x00\x17").via("AAAX")
def test_base64url_has_one_spelling(data: bytes) -> None:
    text = base64url.b64u(data)
    assert base64url.unb64u(text) == base64url.canonical_bytes(text) == data


@given(st.text(max_size=20))
def test_any_text_is_base64url_or_malformed(text: str) -> None:
    try:
        data = base64url.unb64u(text)
    except MalformedToken:
        return
    assert base64url.b64u(data) == text


def test_only_the_canonical_text_of_so_many_bytes_counts() -> None:
    assert base64url.is_bytes("AAAAAAAAAAA", 8)
    for text in ("AAAAAAAAAAB", "AAAAAAAAAAA=", "AAAAAAAAAA", "AAAAAAAAAAAA", "", "é", "AAAAAAAAAA\n"):
        assert not base64url.is_bytes(text, 8)


@pytest.mark.parametrize("text", ["A", "AAAAA", "AB", "AAB", "AA==", "AAA=", "====", "=", "A A", "+/+/", "é", "\udc80"])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(MalformedToken, match="base64url"):
        base64url.unb64u(text)


@pytest.mark.parametrize("text", ["A A", "A=A", "+/+/", "AAA\n", "\u00e9", "\udc80"])
def test_a_character_of_no_alphabet_is_refused_before_all_else(text: str) -> None:
    with pytest.raises(MalformedToken, match="without padding"):
        base64url.whole_bytes(text)


@pytest.mark.parametrize(
    "text",
    ["AA!A", "AA A", "AA\nA", "AA.A", "+AAA", "A/AA", "AAA=", "AA==", "A=", "AAé", "AAAA!", "AAAA!!!!", "    AAAA"],
)
def test_what_is_not_of_the_alphabet_is_refused_everywhere(text: str) -> None:
    with pytest.raises(MalformedToken):
        base64url.whole_bytes(text)


@pytest.mark.parametrize(("text", "size"), [("AB", 1), ("A=", 1), (None, 0), (b"AA", 1)])
def test_what_is_not_canonical_text_is_no_bytes(text: object, size: int) -> None:
    assert not base64url.is_bytes(text, size)
