"""The library agrees with tokens that were worked out without it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from capx.crypto import base64url
from capx.crypto.keys import AudienceKey, AudienceKeys, RootKey
from capx.errors import Unavailable
from capx.resource.replay import Replay
from capx.tokens import wire
from capx.tokens.binding import HttpRequest, Received, ToolCall
from capx.tokens.capability import Capability, Token, mint
from capx.verify.decision import STATUS
from capx.verify.verifier import Verifier
from capx_caveats import DEFAULT, Call, Caveat, Hop, Presented, encode_block
from tests.labs.enumerations import each_case
from tests.labs.lab import Deaths
from tests.labs.received_calls import as_received
from tests.models import naive
from tests.project.vectors import decisions, generate

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
    assert list(map(base64url.b64u, token.ids)) == vector["ids"]
    assert list(map(base64url.b64u, token.path)) == vector["nodes"]
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


# Decisions

DECISIONS = Path(__file__).with_name("vectors") / "decisions.json"
FOUND: dict[str, Any] = json.loads(DECISIONS.read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = [{**FOUND["defaults"], **case} for case in FOUND["cases"]]


def test_the_decisions_are_what_their_generator_writes() -> None:
    assert DECISIONS.read_text(encoding="utf-8") == decisions.written()


def test_no_two_cases_have_one_name() -> None:
    names = [case["name"] for case in CASES]
    assert sorted(set(names)) == sorted(names)
    assert len(names) >= 200


def test_every_reason_is_told_by_some_case() -> None:
    # No verifier of the vectors counts what is spent.
    assert {code for case in CASES for code in case["expected"]} == STATUS.keys() - {"budget_exhausted"}


@each_case("case", CASES, ids=lambda case: case["name"])
def test_the_verifier_decides_as_the_specification_does(case: dict[str, Any]) -> None:
    keys = (AudienceKey(kid, case["audience"], bytes.fromhex(key)) for kid, key in case["keys"].items())
    verifier = Verifier(
        case["audience"],
        AudienceKeys(case["audience"], keys),
        liveness=known(case),
        replay=Memory(case["seen"]),
        require=case["require"],
        bearer=case["bearer"],
        clock=lambda: case["now"],
    )
    decision = verifier.decide(case["token"], as_received(case["received"]), Call(**facts(case)))
    assert [refusal.code for refusal in decision.refusals] == case["expected"]
    assert decision.allowed == (case["expected"] == [])


@each_case("case", CASES, ids=lambda case: case["name"])
def test_the_naive_verifier_decides_as_the_specification_does(case: dict[str, Any]) -> None:
    seen = None if case["seen"] is None else list(map(base64url.unb64u, case["seen"]))
    liveness = known(case)
    assert case["expected"] == naive.codes(
        case["token"],
        case["audience"],
        {kid: bytes.fromhex(key) for kid, key in case["keys"].items()},
        case["received"],
        facts(case),
        now=case["now"],
        deaths=liveness.deaths,
        age=liveness.age(),
        seen=seen,
        require=case["require"],
        bearer=case["bearer"],
    )


def facts(case: dict[str, Any]) -> dict[str, Any]:
    received = case["received"]
    stated: dict[str, Any] = {
        "action": received.get("action", ""),
        "args": received.get("args", {}),
        "tenant": None,
        "attributes": {},
        "defaults": {},
    }
    return {**stated, **case.get("call", {})}


def known(case: dict[str, Any]) -> Deaths:
    deaths = Deaths()
    deaths.deaths.update(case["deaths"]["tasks"])
    deaths.deaths.update({base64url.unb64u(text): code for text, code in case["deaths"]["ids"].items()})
    deaths.deaths.update({f"kid:{kid}": code for kid, code in case["deaths"].get("kids", {}).items()})
    deaths.deaths.update({f"issued:{at}": code for at, code in case["deaths"].get("issued", {}).items()})
    deaths.years = math.inf if case["age"] is None else case["age"]
    return deaths


class Memory(Replay):
    """Knows what it is told; None: cannot tell."""

    blocking = False

    def __init__(self, seen: list[str] | None) -> None:
        self._seen = seen

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        if self._seen is None:
            raise Unavailable("cannot tell")
        return base64url.b64u(presentation) not in self._seen
