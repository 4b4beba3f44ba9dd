"""Whatever is sent for whatever was received, only a presentation of that very call is allowed, once.

An input is `T` and a token's text, sent for a fixed call; or, with NULs between, the call received, as JSON, and the
blocks that a holder appends, under a good MAC.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import Any

import rfc8785

from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.errors import CapxError
from capx.tokens.binding import HttpRequest, McpRequest, Received, ToolCall
from capx.tokens.wire import MAX_BLOCK, MAX_BLOCKS
from capx.verify.decision import Decision
from capx_caveats import Call, allow, demand_json
from tests.fuzz import words
from tests.labs.lab import KEY, NOW, Lab, appended, codes, minted
from tests.models import naive

NONCE = "A" * 16
PARENT = minted().delegate(to="slides-agent", nonce="AgICAgICAgI", allow=[*allow("a.read", "a.write").entries], now=NOW)
READ = ToolCall("a.read", {"x": 1, "y": ["\u00e9", None], "\ufb33": 1, "\U0001f600": 2})
POST = HttpRequest(method="POST", target="/x?y=1", content_type="application/json", body=b"{}")
KEYS = {KEY.kid: hmac.digest(bytes(range(32)), b"capx/1/audience/crm\x01", "sha256")}
UNTOUCHED = {PARENT.present(READ, now=NOW + late, nonce=NONCE).text for late in (-60, 0, 5)}
USED = {"expires", "not_before", "until_completed", "allow", "where", "tenant", "max_hops", "hop", "fresh", "budget"}
CALL = Call("a.read", {"x": 1})


def seeds() -> Iterable[bytes]:
    for text in UNTOUCHED:
        yield b"T" + text.encode()
    yield b"T" + PARENT.text.encode()
    for received, spelled in (
        (READ, ["a.read", READ.args]),
        (POST, ["POST", "/x?y=1", "application/json", None, "{}"]),
    ):
        head = json.dumps(spelled).encode()
        for at in (NOW - 61, NOW - 60, NOW, NOW + 5, NOW + 6):
            mark = presented(received, at)
            yield head + b"\0" + mark
            yield head + b"\0" + mark + b"\0" + mark
        for block in words.BLOCKS:
            yield head + b"\0" + block + b"\0" + presented(received, NOW)


def presented(received: Received, at: int) -> bytes:
    """The block that presents for a call."""
    block = PARENT.present(received, now=at, nonce=NONCE).blocks[-1]
    assert isinstance(block, bytes)
    return block


def check(data: bytes) -> None:
    if data.startswith(b"T"):
        tampered(data[1:].decode(errors="surrogateescape"))
        return
    head, *blocks = data.split(b"\0")
    received = received_of(head)
    if received is None or len(blocks) > MAX_BLOCKS - 4 or any(len(block) > MAX_BLOCK for block in blocks):
        return
    try:
        token = appended(PARENT, *blocks)
    except CapxError:  # too large
        return
    decision = decided(Lab(), token.text, received)
    if not any(b"regex" in block for block in blocks):
        said = naively(token.text, received)
        assert decision.allowed == (not said), "only one of both verifiers allows"
        # Of a block that is no JSON in one of its caveats, the naive one reads nothing, and ours the others.
        if [naive.UNKNOWN] not in [naive.read(block) for block in blocks if block.count(b"[") <= 256]:
            assert list(codes(decision)) == said, "both verifiers refuse, and give other reasons"
    if decision.allowed:
        assert fits(blocks, received), "what was presented is not what was received"


def tampered(text: str) -> None:
    decision = Lab().verifier.decide(text, READ, CALL)
    assert decision.allowed == (text in UNTOUCHED), "a token that was touched is allowed, or one that was not refused"


def decided(lab: Lab, token: str, received: Received) -> Decision:
    """The verdict; sent again, with what the verifier remembers of it, it is the same, but that it was used."""
    first = lab.verifier.decide(token, received, CALL)
    again = lab.verifier.decide(token, received, CALL)
    unburnt = first.refusals and codes(again) == codes(first)
    assert unburnt or codes(again) == ("replayed",), "one presentation was used twice"
    cold, warm = (lab.verifier.explain(token, CALL, received) for lab in (Lab(), lab))
    assert cold == warm, "a memory changes what a token says"
    assert not (first.allowed and cold.refusals), "what is explained is not what is decided"
    return first


def naively(token: str, received: Received) -> list[str]:
    """The codes of the naive verifier."""
    said = {"profile": received.profile, **{field: getattr(received, field) for field in received.__struct_fields__}}
    if isinstance(received, HttpRequest):
        said["body"] = b64u(received.body)
    facts = {field: getattr(CALL, field) for field in CALL.__struct_fields__}
    return naive.codes(token, "crm", KEYS, said, facts, now=NOW, deaths={}, age=0.0)


def received_of(head: bytes) -> Received | None:
    """The call that some JSON spells; its digest is that of RFC 8785, or it has none."""
    try:
        spelled: Any = json.loads(head)
        if len(spelled) == 2 and isinstance(spelled[1], dict):
            digested(spelled[1])
            return ToolCall(spelled[0], spelled[1])
        method, target, kind, encoding, body = (one if isinstance(one, str) else None for one in spelled)
        received = HttpRequest(
            method=method or "GET",
            target=target or "/",
            content_type=kind,
            content_encoding=encoding,
            body=(body or "").encode(),
        )
        received.digest()
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return received


def digested(args: dict[str, Any]) -> None:
    demand_json(args)
    assert canonical(args) == rfc8785.dumps(args), "not the canonical JSON"


def fits(blocks: list[bytes], received: Received) -> bool:
    """Told from the words of the format: one block more, alone and last, that fits; before it nothing but caveats."""
    *held, last = [json.loads(block) for block in blocks]
    if isinstance(received, ToolCall):
        covered: dict[str, Any] = {"action": received.action, "args": received.args}
    elif isinstance(received, McpRequest):
        covered = {"method": received.method, "params": received.params}
    else:
        body = b64u(hashlib.sha256(received.body).digest())
        covered = {
            field: getattr(received, field) for field in ("method", "target", "content_type", "content_encoding")
        }
        covered["body_sha256"] = body
    digest = b64u(hashlib.sha256(rfc8785.dumps(covered)).digest())
    ((tag, profile, said, at, nonce),) = last
    return (
        (tag, profile, said) == ("call", received.profile, digest)
        and NOW - 60 <= at <= NOW + 5
        and len(nonce) == 16
        and all(caveat[0] in USED for block in held for caveat in block)
    )
