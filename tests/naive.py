"""A second verifier, written from docs/spec alone: naive, slow, with the standard library, sharing no code.

It answers with the reason codes, in the order that the specification has; none: allowed.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Any

from tests.naive_rules import MISSING, SAFE, closed, fits, judge

Facts = Mapping[Any, Any]
UNKNOWN = ["not understood"]
MARKS = {"task", "intent", "root", "holder", "hop", "max_hops", "call", "sig"}
LAST = "[AEIMQUYcgkosw048]"
IDENTIFIER = rf'\[1,"([\w-]{{10}}{LAST})","([a-z0-9][a-z0-9.-]{{0,62}})","[\w-]{{21}}[AQgw]",(0|[1-9]\d{{0,15}})\]'


class Stop(Exception):
    """Refused at once, for this reason."""


def demand(good: Any, code: str = "malformed") -> None:
    if not good:
        raise Stop(code)


def codes(
    token: str,
    audience: str,
    keys: Facts,
    received: Facts,
    call: Facts,
    *,
    now: int,
    deaths: Facts,
    age: float,
    **more: Any,
) -> list[str]:
    """The reasons that refuse. `more`: `seen`, the ids burnt before (None: cannot tell), `require` and `bearer`."""
    try:
        identifier, blocks, signature = decoded(token)
        _, kid, mine, *_ = json.loads(identifier)
        demand(mine == audience, "wrong_audience")
        demand(kid in keys and blocks and chained(keys[kid], identifier, blocks) == signature, "not_authentic")
        chain, presented = shaped(blocks, more.get("require", ()))
        demand(presented or more.get("bearer"), "bearer_refused")
        ids, seen = digests(identifier, blocks), more.get("seen", ())
        if presented:
            demand(presented[1:3] == [received["profile"], call_digest(received)], "call_mismatch")
            demand(presented[3] - 5 <= now <= presented[3] + 60, "call_window")
            demand(seen is not None, "unavailable")
            demand(ids[-1] not in seen, "replayed")
    except Stop as stop:
        return [str(stop)]
    told: list[str | None] = [*lifeless(ids, chain, deaths, age), *standing(blocks, chain, call)]
    told += [refusal(caveat, call, now, age) for caveats in chain for caveat in caveats]
    return [code for code in told if code][:32]


def decoded(token: str) -> tuple[bytes, list[Any], bytes]:
    demand(token, "no_token")
    demand(len(token) <= 16384, "too_large")
    demand(token not in {"c", "ca", "cap", "capx", "capx1"}, "truncated")
    demand(token.startswith("capx1_") or not re.match("capx[0-9]+_", token), "unknown_version")
    demand(re.fullmatch("capx1_[A-Za-z0-9_-]*", token))
    data, at = unb64u(token[6:]), 1

    def byte(where: int) -> int:
        demand(where < len(data), "truncated")
        return data[where]

    def field(kind: int, limit: int | None = None) -> bytes:
        nonlocal at
        demand(byte(at) == kind)
        at += 1
        if limit is None:
            return b""
        size, at = byte(at), at + 1
        if size > 127:
            demand(0 < byte(at) < 128)
            size, at = size - 128 + data[at] * 128, at + 1
        demand(size <= limit, "too_large")
        demand(at + size <= len(data), "truncated")
        at += size
        return data[at - size : at]

    demand(byte(0) == 2, "unknown_version")
    location, identifier, _ = field(1, 63), field(2, 256), field(0)
    match = re.fullmatch(IDENTIFIER.encode(), identifier)
    demand(match or not identifier.startswith(b"[") or identifier.startswith(b"[1,"), "unknown_version")
    demand(match and int(match[3]) <= SAFE and match[2] == location)
    blocks: list[Any] = []
    while byte(at) != 0:
        demand(len(blocks) < 64, "too_large")
        block = field(2, 4096)
        blocks.append((field(4, 4096), block) if byte(at) == 4 else block)
        field(0)
    field(0)
    signature = field(6, 256)
    demand(len(signature) == 32 and at == len(data) and b64u(data) == token[6:])
    return identifier, blocks, signature


def b64u(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def unb64u(text: str) -> bytes:
    return urlsafe_b64decode(text[: len(text) - (len(text) % 4 == 1)] + "===")


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def chained(key: bytes, identifier: bytes, blocks: list[Any]) -> bytes:
    tail = mac(mac(b"macaroons-key-generator", key), identifier)
    for block in blocks:
        tail = mac(tail, block if type(block) is bytes else mac(tail, block[0]) + mac(tail, block[1]))
    return tail


def hashed(label: str, *parts: bytes) -> bytes:
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in (label.encode(), *parts))).digest()


def digests(identifier: bytes, blocks: list[Any]) -> list[bytes]:
    d = [hashed("capx/1/token", identifier)]
    for block in blocks:
        d += [hashed("capx/1/block", d[-1], block) if type(block) is bytes else hashed("capx/1/third", d[-1], *block)]
    return [each[:16] for each in d]


def call_digest(received: Facts) -> str:
    covered = {name: value for name, value in received.items() if name not in {"profile", "body"}}
    body = {"body_sha256": b64u(sha256(unb64u(received["body"])).digest())} if "body" in received else {}
    return b64u(sha256(canonical({**covered, **body}).encode()).digest())


def canonical(value: Any) -> str:
    """RFC 8785, within ±(2⁵³ - 1)."""
    if isinstance(value, dict):
        names = sorted(map(str, value), key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(name)}:{canonical(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if type(value) is float and not value.is_integer():
        return f"{Decimal(repr(value)):f}" if abs(value) >= 1e-6 else repr(value).replace("e-0", "e-")
    return json.dumps(int(value) if type(value) is float else value, ensure_ascii=False)


def shaped(blocks: list[Any], require: Any) -> tuple[list[list[Any]], Any]:
    """The caveats of each block but the presentation, and the presentation."""
    last = read(blocks[-1])
    tags = [caveat[0] for caveat in last]
    demand(tags != ["call", "sig"], "hop_unsigned")
    presented = last[0] if tags == ["call"] else None
    chain = [read(block) for block in (blocks[:-1] if presented else blocks)]
    for at, caveats in enumerate(chain):
        tags = [caveat[0] for caveat in caveats]
        marks = [tag for tag in tags if tag in MARKS]
        wrong = {"task", "intent", "root", "holder", "call"} if at else {"hop", "sig", "call"}
        demand(wrong.isdisjoint(marks) and len(set(marks)) == len(marks), "misplaced")
        demand("hop" not in tags[1:] and "sig" not in tags[:-1], "misplaced")
        demand(not (at and any(caveat[0] == "budget" and len(caveat) == 4 for caveat in caveats)), "misplaced")
    claims = {caveat[0]: caveat for caveat in chain[0]} if chain else {}
    demand({"task", "root", "until_completed", "expires", "allow", *require} <= claims.keys(), "incomplete_authority")
    demand(["until_completed", claims["task"][1]] in chain[0], "incomplete_authority")
    demand(sum(caveat[0] == "budget" for caveats in chain for caveat in caveats) <= 16, "too_large")
    return chain, presented


def read(block: Any) -> list[Any]:
    if type(block) is tuple:
        return []
    demand(block.count(b"[") <= 256, "too_large")
    try:
        caveats = json.loads(block.decode(), parse_constant=int)
        json.dumps(caveats, ensure_ascii=False).encode()  # a lone surrogate fails
    except ValueError:
        return [UNKNOWN]
    demand(type(caveats) is not list or len(caveats) <= 64, "too_large")
    known = [caveat if fits(caveat, "caveats") else UNKNOWN for caveat in caveats] if type(caveats) is list else []
    return known or [UNKNOWN]


def lifeless(ids: list[bytes], chain: list[list[Any]], deaths: Facts, age: float) -> list[str]:
    claims = {caveat[0]: caveat for caveat in chain[0]}
    nonces = [step[1] for path in claims["root"][2:] for step in path]
    nodes = [hashed("capx/1/root", claims["root"][1].encode())[:16]]
    for nonce in nonces + [caveats[0][2] for caveats in chain if caveats and caveats[0][0] == "hop"]:
        nodes.append(hashed("capx/1/node", nodes[-1], nonce.encode())[:16])
    tasks = [caveat[1] for caveats in chain for caveat in caveats if caveat[0] == "until_completed"]
    mortal = dict.fromkeys([claims["task"][1], *tasks, *nodes, *ids])
    stale = ["unknown_liveness"] if age == float("inf") else ["stale_liveness"] if age > 30 else []
    return [deaths[key] for key in mortal if key in deaths] + stale


def standing(blocks: list[Any], chain: list[list[Any]], call: Facts) -> list[str]:
    named = any(caveat[0] == "tenant" for caveat in chain[0])
    told = ["incomplete_authority"] if call["tenant"] is not None and not named else []
    for at, caveats in enumerate(chain):
        hops = sum(later[0][0] == "hop" for later in chain[at + 1 :] if later)
        for tag, *fields in caveats:
            told += ["hop_unsigned"] if tag in {"holder", "sig"} or (tag == "hop" and len(fields) == 3) else []
            told += ["too_many_hops"] if tag == "max_hops" and hops > fields[0] else []
    return told + ["needs_discharge"] * any(type(block) is tuple for block in blocks)


def refusal(caveat: Any, call: Facts, now: int, age: float) -> str | None:
    match caveat:
        case ["expires", at] if now >= at:
            return "expired"
        case ["not_before", at] if now < at:
            return "not_yet"
        case ["fresh", seconds] if age > seconds:
            return "stale_liveness"
        case ["tenant", name] if call["tenant"] != name:
            return "attribute_missing" if call["tenant"] is None else "wrong_tenant"
        case ["budget", *_]:
            return "no_meter"
        case ["where", fact, rule]:
            facts, name = (call["args"], fact[5:]) if fact.startswith("args.") else (call["attributes"], fact)
            good = judge(facts.get(name, MISSING), rule) is True
            return None if good else "argument_refused" if name in facts else "attribute_missing"
        case ["allow", entries]:
            pairs = [pairs for pattern, *pairs in entries if matches(call["action"], pattern)]
            faults = [[code for code, said in closed(call["args"], *one) if said is not True] for one in pairs if one]
            return "action_not_allowed" if not pairs else faults[0][0] if [] not in pairs and all(faults) else None
        case _:
            return "not_understood" if caveat is UNKNOWN else None


def matches(action: str, pattern: str) -> bool:
    return action == pattern or (pattern.endswith(".*") and action.startswith(pattern[:-1]))
