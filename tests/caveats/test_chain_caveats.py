"""Marks: how their bytes are spelled, and where each may stand."""

from base64 import urlsafe_b64decode

import pytest

from capx.crypto.base64url import b64u
from capx_caveats import Hop, Intent, Presented, chain_caveats

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


BYTES = {size: b64u(bytes(size)) for size in (8, 12, 32, 64)}


@pytest.mark.parametrize("count", [1, 2, 3, 8, 12, 16, 32, 64])
def test_so_many_bytes_have_one_spelling(count: int) -> None:
    whole = chain_caveats._spelled(count)
    text = b64u(bytes(range(count)))
    assert whole(text)
    for last in ALPHABET:
        other = text[:-1] + last
        canonical = b64u(urlsafe_b64decode(other + "=" * (-len(other) % 4))) == other
        assert bool(whole(other)) == canonical
    for wrong in (text[:-1], text + "A", text + "=", f"{text}\n", text[:-1] + "+", "é" + text[1:], ""):
        assert not whole(wrong)


def test_the_profiles_are_three() -> None:
    for profile in ("tool", "http", "mcp"):
        assert Presented(profile, BYTES[32], 1, BYTES[12]).profile == profile


def test_fields_of_bytes_keep_their_text() -> None:
    text = b64u(bytes(range(32)))
    assert Intent(text).digest == Hop("a", BYTES[8], text).key == text
