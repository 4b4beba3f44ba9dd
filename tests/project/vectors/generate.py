"""Writes tokens.json beside it: tokens worked out with hashlib and hmac alone, for any implementation to agree with.

python tests/project/vectors/generate.py
"""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

ROOT_KEY = bytes(range(32))
ISSUED_AT = 1_795_600_000
GRANT = [
    ["task", "T1"],
    ["root", "R1"],
    ["until_completed", "T1"],
    ["expires", ISSUED_AT + 3600],
    ["tenant", "Acme"],
    ["allow", [["crm.accounts.read"], ["crm.accounts.list", [["limit", ["range", 1, 100]]]]]],
]
HOPS = [
    [["hop", "research-agent", "AgICAgICAgI"], ["allow", [["crm.accounts.read", [["id", ["eq", 42]]]]]]],
    [
        ["hop", "Zoë's agent", "AwMDAwMDAwM"],
        ["expires", ISSUED_AT + 600],
        ["max_hops", 0],
        ["where", "region", ["eq", "eu"]],
    ],
]
CALLS: dict[str, dict[str, Any]] = {
    "tool": {"action": "crm.accounts.read", "args": {"id": 42}},
    "http": {
        "body_sha256": "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        "content_encoding": None,
        "content_type": None,
        "method": "GET",
        "target": "/accounts/42",
    },
}


def b64u(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def field(kind: int, content: bytes) -> bytes:
    size = len(content)
    return bytes([kind, size] if size < 128 else [kind, size & 127 | 128, size >> 7]) + content


def token(audience: str, blocks: list[Any]) -> dict[str, Any]:
    kid = b64u(digest(b"capx/1/kid", ROOT_KEY)[:8])
    key = mac(ROOT_KEY, f"capx/1/audience/{audience}\x01".encode())
    identifier = compact([1, kid, audience, b64u(bytes([1] * 16)), ISSUED_AT]).encode()
    tail = mac(mac(b"macaroons-key-generator", key), identifier)
    ids = [digest(b"capx/1/token", identifier)]
    nodes = [digest(b"capx/1/root", b"R1")[:16]]
    data = b"\x02" + field(1, audience.encode()) + field(2, identifier) + b"\0"
    for block in blocks:
        raw = compact(block).encode()
        tail = mac(tail, raw)
        ids.append(digest(b"capx/1/block", ids[-1], raw))
        if block[0][0] == "hop":
            nodes.append(digest(b"capx/1/node", nodes[-1], block[0][2].encode())[:16])
        data += field(2, raw) + b"\0"
    return {
        "kid": kid,
        "audience": audience,
        "identifier": identifier.decode(),
        "blocks": [compact(block) for block in blocks],
        "ids": [b64u(each[:16]) for each in ids],
        "nodes": list(map(b64u, nodes)),
        "signature": tail.hex(),
        "text": "capx1_" + b64u(data + b"\0" + field(6, tail)),
    }


def presentation(profile: str) -> list[Any]:
    call = json.dumps(CALLS[profile], separators=(",", ":"), sort_keys=True).encode()
    return [["call", profile, b64u(hashlib.sha256(call).digest()), ISSUED_AT + 10, b64u(bytes([4] * 12))]]


def vectors() -> dict[str, Any]:
    """Everything that stands in the file."""
    return {
        "root_key": ROOT_KEY.hex(),
        "calls": CALLS,
        "tokens": {
            "minted": token("crm", [GRANT]),
            "one hop": token("crm", [GRANT, HOPS[0]]),
            "two hops": token("crm", [GRANT, *HOPS]),
            "presented for a tool call": token("crm", [GRANT, *HOPS, presentation("tool")]),
            "presented for a request": token("crm", [GRANT, *HOPS, presentation("http")]),
            "at another audience": token("tickets.internal", [GRANT]),
        },
    }


def text() -> str:
    """The file."""
    return json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("tokens.json").write_text(text(), encoding="utf-8")
