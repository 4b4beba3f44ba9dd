"""The library agrees with tokens that were worked out without it."""

import json
from pathlib import Path
from typing import Any

import pytest

from capx import chain, wire
from capx.capability import Capability, Token, mint
from capx.keys import RootKey
from capx.present import HttpRequest, Received, ToolCall
from capx_caveats import DEFAULT, Caveat, Hop, Presented, encode_block
from tests.vectors import generate

FILE = Path(__file__).with_name("vectors") / "tokens.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
TOKENS: dict[str, Any] = VECTORS["tokens"]
KEY = RootKey(bytes.fromhex(VECTORS["root_key"]))


def test_the_vectors_are_what_their_generator_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == generate.text()


@pytest.mark.parametrize("vector", TOKENS.values(), ids=list(TOKENS))
def test_a_token_is_read_as_it_was_worked_out(vector: dict[str, Any]) -> None:
    frame = wire.decode(vector["text"])
    token = Token(frame, vector["text"])
    assert frame.identifier_bytes.decode() == vector["identifier"]
    assert [block.decode() for block in token.blocks if isinstance(block, bytes)] == vector["blocks"]
    assert frame.signature.hex() == vector["signature"]
    assert list(map(chain.b64u, token.ids)) == vector["ids"]
    assert list(map(chain.b64u, token.path)) == vector["nodes"]
    assert (token.kid, token.audience) == (vector["kid"], vector["audience"])


@pytest.mark.parametrize("vector", TOKENS.values(), ids=list(TOKENS))
def test_a_token_is_made_as_it_was_worked_out(vector: dict[str, Any]) -> None:
    grant, *blocks = (DEFAULT.decode(block.encode()) for block in vector["blocks"])
    key = KEY.audience_key(vector["audience"])
    capability = mint(key, grant, now=generate.ISSUED_AT, nonce="AQEBAQEBAQEBAQEBAQEBAQ")
    token: Token = capability
    for block in blocks:
        token = capability = appended(capability, block)
    assert token.text == vector["text"]


def appended(capability: Capability, block: tuple[Caveat, ...]) -> Any:
    first, *rest = block
    if isinstance(first, Presented):
        received = REQUESTS[first.profile]
        return capability.present(received, now=first.at, nonce=first.nonce)
    if isinstance(first, Hop):
        return capability.delegate(to=first.to, nonce=first.nonce, caveats=rest)
    return capability.attenuate(*block)


TOOL: dict[str, Any] = VECTORS["calls"]["tool"]
HTTP: dict[str, Any] = VECTORS["calls"]["http"]
REQUESTS: dict[str, Received] = {
    "tool": ToolCall(TOOL["action"], TOOL["args"]),
    "http": HttpRequest(method=HTTP["method"], target=HTTP["target"]),
}


def test_blocks_are_written_as_compactly_as_they_stand_there() -> None:
    for vector in TOKENS.values():
        for block in vector["blocks"]:
            assert encode_block(DEFAULT.decode(block.encode())).decode() == block
