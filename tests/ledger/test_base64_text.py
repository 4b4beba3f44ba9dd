"""Base64 with padding has one spelling."""

import pytest

from capx.errors import InvalidRequest
from capx.ledger.base64_text import b64, unb64


@pytest.mark.parametrize("text", ["A", "AAA", "AAB=", "AA==\n", "AA", "é===", "A-_=", "====", "AA==AA=="])
def test_base64_has_one_spelling(text: str) -> None:
    with pytest.raises(InvalidRequest):
        unb64(text)


def test_base64_is_read_back() -> None:
    for size in range(70):
        assert unb64(b64(bytes(range(size)))) == bytes(range(size))
