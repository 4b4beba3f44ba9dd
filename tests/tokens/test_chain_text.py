"""The public bytes of a chain as JSON, in one form."""

from typing import Any

import msgspec
import pytest

from capx.crypto.base64url import b64u
from capx.errors import MalformedToken
from capx.tokens.chain import ThirdParty
from capx.tokens.chain_text import BlockText, ChainText, block_text, read_block
from tests.labs.lab import minted


def test_its_digests_are_those_of_the_token() -> None:
    held = minted().delegate(to="a").delegate(to="b")
    text = msgspec.json.decode(msgspec.json.encode(held.chain_text), type=ChainText)
    assert (text.digests()[-1], len(text.digests())) == (held.digest, 4)
    assert text.read()[1] == held.blocks


@pytest.mark.parametrize(
    "block", [b"", b"[]", "Zoë".encode(), b"\xff\xfe", bytes(range(256)), ThirdParty(b"v" * 72, b"c")]
)
def test_a_block_has_one_text(block: bytes | ThirdParty) -> None:
    text = block_text(block)
    assert read_block(text) == block
    again: BlockText = msgspec.json.decode(msgspec.json.encode(text), type=BlockText)
    assert read_block(again) == block


@pytest.mark.parametrize("text", [(), ("AAAA",), (b64u(b"[]"),), ("!",), ("A", "B", "C"), ("!", "AAAA"), "\ud800"])
def test_another_text_is_no_block(text: Any) -> None:
    if text == ("AAAA",):
        # Three zero bytes are UTF-8, and so have another form.
        assert block_text(bytes(3)) == "\0\0\0"
    with pytest.raises(MalformedToken):
        read_block(text)


def test_a_chain_with_another_identifier_is_no_chain() -> None:
    with pytest.raises(MalformedToken):
        ChainText("é", ()).read()
