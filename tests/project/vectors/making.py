"""Makes tokens with hashlib and hmac alone, and cases of them: what is presented, and what is said of it."""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tests.project.vectors.generate import ISSUED_AT, ROOT_KEY, b64u, compact, digest, field, mac

Case = dict[str, Any]
Block = list[Any] | bytes | tuple[bytes, bytes]
"""Caveats, raw bytes, or a third-party caveat as (vid, cid)."""
NOW = ISSUED_AT + 100
OTHER_KEY = bytes(range(32, 64))
NONCES = [b64u(bytes([number] * 8)) for number in range(2, 7)]
ID16, KEY32, SIG64 = b64u(bytes([1] * 16)), b64u(bytes([7] * 32)), b64u(bytes([7] * 64))
WHOLE: list[Any] = [
    ["task", "T1"],
    ["root", "R1"],
    ["until_completed", "T1"],
    ["expires", ISSUED_AT + 3600],
    ["allow", [["crm.read"], ["crm.notes.*"]]],
]
HOP, HOP2 = ["hop", "research-agent", NONCES[0]], ["hop", "Zoë's agent", NONCES[1]]
READ: Case = {"profile": "tool", "action": "crm.read", "args": {}}
GET: Case = {
    "profile": "http",
    "method": "GET",
    "target": "/accounts/42?limit=5",
    "content_type": None,
    "content_encoding": None,
    "body": "",
}
MCP: Case = {"profile": "mcp", "method": "tools/call", "params": {"name": "read", "arguments": {"path": "/a"}}}
POST: Case = {
    **GET,
    "method": "POST",
    "target": "/notes",
    "content_type": "application/json",
    "body": b64u(b'{"text":"hi"}'),
}


def kid(root: bytes) -> str:
    return b64u(digest(b"capx/1/kid", root)[:8])


def audience_key(root: bytes, audience: str) -> bytes:
    return mac(root, f"capx/1/audience/{audience}\x01".encode())


def identifier(*, root: bytes = ROOT_KEY, audience: str = "crm", at: int = ISSUED_AT) -> bytes:
    return compact([1, kid(root), audience, ID16, at]).encode()


def as_bytes(block: list[Any] | bytes) -> bytes:
    return block if isinstance(block, bytes) else compact(block).encode()


def signed(key: bytes, named: bytes, blocks: Sequence[Block]) -> bytes:
    tail = mac(mac(b"macaroons-key-generator", key), named)
    for block in blocks:
        message = mac(tail, block[0]) + mac(tail, block[1]) if isinstance(block, tuple) else as_bytes(block)
        tail = mac(tail, message)
    return tail


def caveat(block: Block) -> bytes:
    return (field(2, block[1]) + field(4, block[0]) if isinstance(block, tuple) else field(2, as_bytes(block))) + b"\0"


def assembled(named: bytes, blocks: Sequence[Block], signature: bytes, audience: bytes = b"crm") -> bytes:
    head = b"\x02" + field(1, audience) + field(2, named) + b"\0"
    return head + b"".join(map(caveat, blocks)) + b"\0" + field(6, signature)


def token(*blocks: Block, root: bytes = ROOT_KEY, audience: str = "crm", named: bytes | None = None) -> str:
    named = named or identifier(root=root, audience=audience)
    signature = signed(audience_key(root, audience), named, blocks)
    return text(assembled(named, blocks, signature, audience.encode()))


def text(data: bytes) -> str:
    return "capx1_" + b64u(data)


def raw(token: str) -> bytes:
    return base64.urlsafe_b64decode(token[6:] + "===")


def digests(*blocks: Block) -> list[bytes]:
    """d of what was minted, and of each block."""
    d = [digest(b"capx/1/token", identifier())]
    for block in blocks:
        parts = (
            (b"capx/1/third", d[-1], *block) if isinstance(block, tuple) else (b"capx/1/block", d[-1], as_bytes(block))
        )
        d.append(digest(*parts))
    return d


def ids(*blocks: Block) -> list[str]:
    return [b64u(each[:16]) for each in digests(*blocks)]


def nodes(*nonces: str, root: str = "R1") -> list[str]:
    found = [digest(b"capx/1/root", root.encode())[:16]]
    for nonce in nonces:
        found.append(digest(b"capx/1/node", found[-1], nonce.encode())[:16])
    return list(map(b64u, found))


def call_digest(received: Case, written: str | None = None) -> str:
    """The digest of what is presented; `written` is its canonical JSON where Python's own would differ."""
    covered = {name: value for name, value in received.items() if name not in {"profile", "body"}}
    if "body" in received:
        covered["body_sha256"] = b64u(hashlib.sha256(raw("capx1_" + received["body"])).digest())
    canonical = written or json.dumps(covered, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return b64u(hashlib.sha256(canonical.encode()).digest())


def mark(received: Case, at: int = NOW, written: str | None = None) -> list[Any]:
    return ["call", received["profile"], call_digest(received, written), at, b64u(bytes([9] * 12))]


def tool(action: str = "crm.read", **args: Any) -> Case:
    return {"profile": "tool", "action": action, "args": args}


def told(name: str, expected: str, *blocks: Block, grant: Block | None = None, at: int = NOW, **more: Any) -> Case:
    """A case: the authority's block and these, presented for what is received; `expected` are codes, or nothing."""
    received, audience = more.get("received", READ), more.get("audience", "crm")
    first = WHOLE if grant is None else grant
    presented = token(first, *blocks, [mark(received, at, more.pop("written", None))], audience=audience)
    return {"name": name, "expected": expected.split(), "token": more.pop("token", presented), **more}


def plain(name: str, expected: str, token: str, **more: Any) -> Case:
    """A case about a text."""
    return {"name": name, "expected": expected.split(), "token": token, **more}


def but(*tags: str) -> list[Any]:
    return [each for each in WHOLE if each[0] not in tags]


def dead(*ids: str, **tasks: str) -> Case:
    return {"tasks": tasks, "ids": dict.fromkeys(ids, "revoked")}


def dead_kids(*kids: str, **more: Any) -> Case:
    return {**dead(), "kids": dict.fromkeys(kids, "revoked"), **more}


def dead_up_to(*seconds: int, **more: Any) -> Case:
    return {**dead(), "issued": {str(second): "revoked" for second in seconds}, **more}


DEFAULTS: dict[str, Any] = {
    "audience": "crm",
    "keys": {kid(ROOT_KEY): audience_key(ROOT_KEY, "crm").hex()},
    "received": READ,
    "now": NOW,
    "age": 0,
    "deaths": {"tasks": {}, "ids": {}},
    "seen": [],
    "require": [],
    "bearer": False,
}
"""What a case does not say."""
