"""Writes decisions.json beside it: tokens, the calls they are presented for, and what docs/spec says of each.

python -m tests.vectors.decisions

Nothing of capx is used: tokens are worked out with hashlib and hmac, and what is expected is written down here.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.vectors.generate import ISSUED_AT, ROOT_KEY, b64u, compact, digest, field, mac

ABOUT = {
    "what": "Each case is one token presented once; `expected` are the reason codes in order, none: allowed.",
    "token": "The text. It may be cut, or no token at all.",
    "defaults": "What a case does not say is as it stands there.",
    "audience": "The verifier's.",
    "keys": "The verifier's audience keys by kid, in hex.",
    "received": "What came in: a tool call, or a request whose body is base64url. Its digest is what is presented.",
    "call": "The facts that caveats judge; absent: action and args as received, no tenant, no attributes.",
    "now": "Unix seconds.",
    "age": "Seconds since deaths were last heard of; null: never.",
    "deaths": "By task, and by id or node in base64url, with the reason.",
    "seen": "Ids of presentations burnt before; null: the memory cannot tell.",
    "require": "What the authority's block must carry besides the rule.",
    "bearer": "Whether bare tokens are accepted.",
}
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
READ = {"profile": "tool", "action": "crm.read", "args": {}}
GET: dict[str, Any] = {
    "profile": "http",
    "method": "GET",
    "target": "/accounts/42?limit=5",
    "content_type": None,
    "content_encoding": None,
    "body": "",
}
POST = {**GET, "method": "POST", "target": "/notes", "content_type": "application/json", "body": b64u(b'{"text":"hi"}')}
DEFAULTS: dict[str, Any] = {
    "audience": "crm",
    "keys": {},
    "received": READ,
    "now": NOW,
    "age": 0,
    "deaths": {"tasks": {}, "ids": {}},
    "seen": [],
    "require": [],
    "bearer": False,
}
Case = dict[str, Any]
Block = Any
"""A list of caveats, raw bytes, or a third-party caveat as (vid, cid)."""


# Making tokens


def kid(root: bytes) -> str:
    return b64u(digest(b"capx/1/kid", root)[:8])


def audience_key(root: bytes, audience: str) -> bytes:
    return mac(root, f"capx/1/audience/{audience}\x01".encode())


def identifier(*, root: bytes = ROOT_KEY, audience: str = "crm", at: int = ISSUED_AT) -> bytes:
    return compact([1, kid(root), audience, ID16, at]).encode()


def as_bytes(block: Block) -> bytes:
    return block if isinstance(block, bytes) else compact(block).encode()


def signed(key: bytes, named: bytes, blocks: list[Block]) -> bytes:
    tail = mac(mac(b"macaroons-key-generator", key), named)
    for block in blocks:
        third = isinstance(block, tuple)
        tail = mac(tail, mac(tail, block[0]) + mac(tail, block[1]) if third else as_bytes(block))
    return tail


def caveat(block: Block) -> bytes:
    return (field(2, block[1]) + field(4, block[0]) if isinstance(block, tuple) else field(2, as_bytes(block))) + b"\0"


def assembled(named: bytes, blocks: list[Block], signature: bytes, audience: bytes = b"crm") -> bytes:
    head = b"\x02" + field(1, audience) + field(2, named) + b"\0"
    return head + b"".join(map(caveat, blocks)) + b"\0" + field(6, signature)


def token(*blocks: Block, root: bytes = ROOT_KEY, audience: str = "crm", named: bytes | None = None) -> str:
    named = named or identifier(root=root, audience=audience)
    signature = signed(audience_key(root, audience), named, list(blocks))
    return text(assembled(named, list(blocks), signature, audience.encode()))


def text(data: bytes) -> str:
    return "capx1_" + b64u(data)


def raw(token: str) -> bytes:
    import base64

    return base64.urlsafe_b64decode(token[6:] + "===")


def ids(*blocks: Block) -> list[str]:
    d = [digest(b"capx/1/token", identifier())]
    for block in blocks:
        third = isinstance(block, tuple)
        d.append(digest(b"capx/1/third", d[-1], *block) if third else digest(b"capx/1/block", d[-1], as_bytes(block)))
    return [b64u(each[:16]) for each in d]


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


def told(name: str, expected: str, *blocks: Block, grant: list[Any] | None = None, at: int = NOW, **more: Any) -> Case:
    """A case: the authority's block and these, presented for what is received; `expected` are codes, or nothing."""
    received = more.get("received", READ)
    first = WHOLE if grant is None else grant
    presented = token(first, *blocks, [mark(received, at, more.pop("written", None))])
    return {"name": name, "expected": expected.split(), "token": more.pop("token", presented), **more}


def plain(name: str, expected: str, token: str, **more: Any) -> Case:
    """A case about a text."""
    return {"name": name, "expected": expected.split(), "token": token, **more}


def but(*tags: str) -> list[Any]:
    return [each for each in WHOLE if each[0] not in tags]


def dead(*ids: str, **tasks: str) -> Case:
    return {"tasks": tasks, "ids": dict.fromkeys(ids, "revoked")}


# The cases


def chains() -> Iterator[Case]:
    yield told("what was minted", "")
    yield told("one hop", "", [HOP, ["allow", [["crm.read"]]]])
    yield told("two hops, a name with an accent", "", [HOP], [HOP2, ["max_hops", 0], ["expires", NOW + 1]])
    yield told("a block without a hop", "", [["expires", NOW + 1]])
    yield told("two identical blocks", "", [["max_hops", 1]], [["max_hops", 1]])
    yield told("a request", "", received=GET, call={"action": "crm.read", "args": {"id": 42}})
    yield told("a request with a body", "", received=POST, call={"action": "crm.notes.add", "args": {"text": "hi"}})
    yield told("an intent", "", grant=[*WHOLE, ["intent", KEY32]], require=["intent"])
    yield told("white space and escapes in a block", "", b' [ [ "e\\u0078pires" , 1795600200 ] ]\r\n\t')
    steps = [["root", "R1", [["asker", NONCES[2]], ["helper", NONCES[3]]]]]
    yield told("a root with a path", "", [HOP], grant=[*but("root"), *steps])
    path = nodes(NONCES[2], NONCES[3], NONCES[0])
    for at, name in enumerate(("the root", "the first step", "the second step", "the hop")):
        yield told(
            f"a root with a path, {name} revoked", "revoked", [HOP], grant=[*but("root"), *steps], deaths=dead(path[at])
        )
    yield told("nodes that a path would make without its steps are others", "", [HOP], grant=[*but("root"), *steps],
               deaths=dead(*nodes(NONCES[0])[1:]))  # fmt: skip


def bytes_of_it() -> Iterator[Case]:
    blocks = [WHOLE, [HOP, ["allow", [["crm.read"]]]], [["max_hops", 0]], [mark(READ)]]
    named, signature = identifier(), signed(audience_key(ROOT_KEY, "crm"), identifier(), blocks)

    def as_if(*blocks: Block) -> str:
        return text(assembled(named, list(blocks), signature))

    first, second, third, last = blocks
    good = token(*blocks)
    data = raw(good)
    yield plain("as it was presented", "", good)
    yield plain("without its presentation", "not_authentic", as_if(first, second, third))
    yield plain("without its middle block", "not_authentic", as_if(first, third, last))
    yield plain("without its first block", "not_authentic", as_if(second, third, last))
    yield plain("without any block", "not_authentic", as_if())
    yield plain("blocks in another order", "not_authentic", as_if(first, third, second, last))
    yield plain("a block twice", "not_authentic", as_if(first, second, second, third, last))
    extra = [["expires", NOW + 9]]
    yield plain("an unsigned block first", "not_authentic", as_if(extra, *blocks))
    yield plain("an unsigned block in the middle", "not_authentic", as_if(first, extra, second, third, last))
    yield plain("an unsigned block last", "not_authentic", as_if(*blocks, extra))
    yield plain("a third-party caveat turned into a block", "not_authentic", text(assembled(
        named, [WHOLE, b"cid"], signed(audience_key(ROOT_KEY, "crm"), named, [WHOLE, (b"vid", b"cid")]))))  # fmt: skip
    for at, name in (
        (13, "the kid"),
        (45, "the nonce"),
        (160, "the first block"),
        (-50, "the last block"),
        (-1, "the signature"),
    ):
        changed = bytearray(data)
        changed[at] ^= 1
        yield plain(f"a bit of {name} flipped", "not_authentic", text(bytes(changed)))
    for at in (1, 2, 4, 6, 9, 20, 70, 71, 72, 200, len(data) - 35, len(data) - 34, len(data) - 33, len(data) - 1):
        yield plain(f"cut after {at} bytes", "truncated", text(data[:at]))
    yield plain("nothing after the prefix", "truncated", "capx1_")
    yield plain("cut within the prefix", "truncated", "capx")
    yield plain("no text", "no_token", "")
    yield plain("a byte after the end", "malformed", text(data + b"\0"))
    yield plain("two tokens run together as bytes", "malformed", text(data + data))
    yield plain("two tokens joined as a bundle is", "malformed", f"{good},{good}")
    yield plain("padding", "malformed", good + "=")
    yield plain("a space before", "malformed", f" {good}")
    yield plain("a line break after", "malformed", f"{good}\n")
    yield plain("a line break within", "malformed", good[:40] + "\n" + good[40:])
    yield plain("the other base64 alphabet", "malformed", "capx1_" + good[6:].replace("_", "/").replace("-", "+") + "+")
    yield plain("a letter that is no ASCII", "malformed", good[:-1] + "\u00e9")
    lengths = {
        len(raw(one)) % 3: one
        for pad in range(3)
        for one in [token(WHOLE, [["expires", 10**10 * 10**pad]], [mark(READ)])]
    }
    yield plain("one character too many", "malformed", lengths[0] + "A")
    odd = lengths[1]
    spare = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    yield plain("final bits that are not zero", "malformed", odd[:-1] + spare[spare.index(odd[-1]) + 1])
    yield plain("upper-case prefix", "malformed", "CAPX1_" + good[6:])
    yield plain("no prefix", "malformed", good[6:])
    yield plain("another version of the prefix", "unknown_version", "capx2_" + good[6:])
    yield plain("the prefix of version ten", "unknown_version", "capx10_")
    yield plain("the version 1 format", "unknown_version", text(b"0014location crm\n" + data))
    yield plain("the JSON format", "unknown_version", text(b'{"v":2,"l":"crm","i":"x","c":[],"s64":"x"}'))
    yield plain("JSON as it stands", "malformed", '{"v":2,"l":"crm"}')
    yield plain("bytes of version 3", "unknown_version", text(b"\x03" + data[1:]))

    head, rest = field(1, b"crm") + field(2, named) + b"\0", data[1 + 5 + 2 + len(named) + 1 :]
    assert b"\x02" + head + rest == data
    location = field(1, b"crm")
    for name, expected, changed in (
        ("no location", "malformed", head[5:]),
        ("an empty location", "malformed", b"\x01\0" + head[5:]),
        ("the location of another audience", "malformed", field(1, b"erp") + head[5:]),
        ("the location twice", "malformed", location + head),
        ("the location after the identifier", "malformed", field(2, named) + location + b"\0"),
        ("no identifier", "malformed", location + b"\0"),
        ("the identifier twice", "malformed", head[:-1] + field(2, named) + b"\0"),
        ("no end of the first section", "malformed", head[:-1]),
        ("two ends of the first section", "malformed", head + b"\0"),
        ("a length that is not minimal", "malformed", b"\x01\x83\0crm" + head[5:]),
        ("a length of three bytes", "malformed", b"\x01\x83\x80\0crm" + head[5:]),
        ("a length of ten bytes", "malformed", b"\x01" + b"\xff" * 9 + b"\x01" + head[2:]),
        ("a location of 64 bytes", "too_large", field(1, b"a" * 64) + head[5:]),
        ("an identifier of 257 bytes", "too_large", location + field(2, b"a" * 257) + b"\0"),
        ("a length beyond the end", "too_large", b"\x01\xff\x7f" + head[2:]),
        ("a field of an unknown kind", "malformed", location + field(3, b"x") + head[5:]),
    ):
        yield plain(name, expected, text(b"\x02" + changed + rest))
    start, end = data[: len(data) - 34], field(6, signature)
    big = b"[" + b" " * 4095 + b"]"
    for name, expected, changed in (
        ("a caveat with a location", "malformed", start[:-1] + field(1, b"crm") + caveat(b"x") + b"\0" + end),
        ("a vid without a cid", "malformed", start[:-1] + field(4, b"x") + b"\0\0" + end),
        ("a vid twice", "malformed", start[:-1] + field(2, b"x") + field(4, b"x") + field(4, b"x") + b"\0\0" + end),
        ("a cid twice", "malformed", start[:-1] + field(2, b"x") + field(2, b"x") + b"\0\0" + end),
        ("no end of a caveat", "malformed", start[:-1] + field(2, b"x") + end),
        ("no signature", "truncated", start),
        ("another field for the signature", "malformed", start + field(5, signature)),
        *((f"a signature of {n} bytes", "malformed", start + field(6, bytes(n))) for n in (0, 16, 31, 33)),
        ("a signature of zeros", "not_authentic", start + field(6, bytes(32))),
        ("the signature twice", "malformed", start + end + end),
        ("a block of 4097 bytes", "too_large", start[:-1] + caveat(big) + b"\0" + end),
        ("a vid of 4097 bytes", "too_large", start[:-1] + caveat((big, b"x")) + b"\0" + end),
        ("65 blocks", "too_large", start[:-1] + caveat(b"") * 61 + b"\0" + end),
    ):
        yield plain(name, expected, text(changed))
    yield told("64 blocks", "", *[[["max_hops", 0]]] * 62)
    wide = [compact([["expires", NOW + 9]]).encode().ljust(size) for size in (4096, 4096, 3759)]
    full = told("a text of 16384 characters, blocks of 4096 bytes", "", *wide)
    assert len(full["token"]) == 16384, len(full["token"])
    yield full
    yield plain("a text of 16385 characters", "too_large", full["token"] + "A")
    yield plain("a long text that is no token", "too_large", "x" * 16385)


def identifiers() -> Iterator[Case]:
    key, at = kid(ROOT_KEY), ISSUED_AT
    for name, expected, named in (
        ("of another version", "unknown_version", f'[2,"{key}","crm","{ID16}",{at}]'),
        ("with a space", "malformed", f'[1, "{key}","crm","{ID16}",{at}]'),
        ("with a line break after it", "malformed", f'[1,"{key}","crm","{ID16}",{at}]\n'),
        ("with an escape", "malformed", f'[1,"{key}","\\u0063rm","{ID16}",{at}]'),
        ("with one element more", "malformed", f'[1,"{key}","crm","{ID16}",{at},0]'),
        ("without its time", "malformed", f'[1,"{key}","crm","{ID16}"]'),
        ("with a time of leading zeros", "malformed", f'[1,"{key}","crm","{ID16}",0{at}]'),
        ("with a negative time", "malformed", f'[1,"{key}","crm","{ID16}",-1]'),
        ("with a fraction of a second", "malformed", f'[1,"{key}","crm","{ID16}",{at}.0]'),
        ("with a time as text", "malformed", f'[1,"{key}","crm","{ID16}","{at}"]'),
        ("with a time of 2^53", "malformed", f'[1,"{key}","crm","{ID16}",9007199254740992]'),
        ("with a short nonce", "malformed", f'[1,"{key}","crm","AQ",{at}]'),
        ("with a nonce in another spelling", "malformed", f'[1,"{key}","crm","{ID16[:-1]}R",{at}]'),
        ("with an empty kid", "malformed", f'[1,"","crm","{ID16}",{at}]'),
        ("with a kid that is a path", "malformed", f'[1,"../../etc/x","crm","{ID16}",{at}]'),
        ("with a kid in another spelling", "malformed", f'[1,"{key[:-1]}l","crm","{ID16}",{at}]'),
        ("with an upper-case audience", "malformed", f'[1,"{key}","CRM","{ID16}",{at}]'),
        ("that is an object", "malformed", '{"v":1}'),
        ("that is no JSON", "malformed", "capx"),
        ("that is empty", "malformed", ""),
    ):  # fmt: skip
        blocks = [WHOLE, [mark(READ)]]
        signature = signed(audience_key(ROOT_KEY, "crm"), named.encode(), blocks)
        yield plain(f"an identifier {name}", expected, text(assembled(named.encode(), blocks, signature)))
    yield told("an identifier of the year 1970", "", token=token(WHOLE, [mark(READ)], named=identifier(at=0)))
    yield told("an identifier from the future", "", token=token(WHOLE, [mark(READ)], named=identifier(at=2**53 - 1)))


def keys() -> Iterator[Case]:
    blocks = [WHOLE, [mark(READ)]]
    yield plain("for another audience", "wrong_audience", token(*blocks, audience="billing"))
    yield plain("for an audience that begins alike", "wrong_audience", token(*blocks, audience="crm.internal"))
    yield plain("at its other audience", "", token(*blocks, audience="billing"), audience="billing",
                keys={kid(ROOT_KEY): audience_key(ROOT_KEY, "billing").hex()})  # fmt: skip
    yield plain("under a key that nobody knows", "not_authentic", token(*blocks, root=OTHER_KEY))
    both = {kid(root): audience_key(root, "crm").hex() for root in (ROOT_KEY, OTHER_KEY)}
    yield plain("under the second of two live keys", "", token(*blocks, root=OTHER_KEY), keys=both)
    yield plain("under a retired key", "not_authentic", token(*blocks), keys={kid(OTHER_KEY): both[kid(OTHER_KEY)]})
    yield plain("no key at all", "not_authentic", token(*blocks), keys={})
    named = identifier(root=OTHER_KEY)
    forged = assembled(named, blocks, signed(audience_key(ROOT_KEY, "crm"), named, blocks))
    yield plain("the kid of another key", "not_authentic", text(forged), keys=both)
    named = identifier(audience="billing")
    forged = assembled(named, blocks, signed(audience_key(ROOT_KEY, "crm"), named, blocks), b"billing")
    yield plain("minted for another audience with a resource's own key", "not_authentic", text(forged), audience="billing",
                keys={kid(ROOT_KEY): audience_key(ROOT_KEY, "billing").hex()})  # fmt: skip
    forged = assembled(identifier(), blocks, signed(ROOT_KEY, identifier(), blocks))
    yield plain("under the root key itself", "not_authentic", text(forged))
    tail = mac(audience_key(ROOT_KEY, "crm"), identifier())
    for block in blocks:
        tail = mac(tail, as_bytes(block))
    yield plain(
        "under the audience key without the generator", "not_authentic", text(assembled(identifier(), blocks, tail))
    )
    bare = assembled(identifier(), [], signed(audience_key(ROOT_KEY, "crm"), identifier(), []))
    yield plain("an authentic token without blocks", "not_authentic", text(bare))


def blocks() -> Iterator[Case]:
    for name, block in (
        ("nothing", b""),
        ("an empty array", b"[]"),
        ("no JSON", b"junk"),
        ("a text", b'"expires"'),
        ("null", b"null"),
        ("an object", b'{"expires":9999999999}'),
        ("an array cut short", b'[["expires",9999999999]'),
        ("a comma at the end", b'[["expires",9999999999],]'),
        ("a comment", b'[["expires",9999999999]]//'),
        ("two arrays", b'[["expires",9999999999]][]'),
        ("NUL after it", b'[["expires",9999999999]]\0'),
        ("a byte-order mark", b'\xef\xbb\xbf[["expires",9999999999]]'),
        ("UTF-16", '[["expires",9999999999]]'.encode("utf-16-le")),
        ("a lone surrogate", b'[["tenant","\\ud800"]]'),
        ("surrogates the wrong way round", b'[["tenant","\\ude00\\ud83d"]]'),
        ("bytes that are no UTF-8", b'[["tenant","\xff"]]'),
        ("a surrogate as bytes", b'[["tenant","\xed\xa0\x80"]]'),
        ("an overlong NUL", b'[["tenant","\xc0\x80"]]'),
        ("a raw line break in a text", b'[["tenant","a\nb"]]'),
        ("an escape that JSON lacks", b'[["tenant","\\x41"]]'),
        ("NaN", b'[["where","x",["eq",NaN]]]'),
        ("Infinity", b'[["where","x",["range",0,Infinity]]]'),
        ("a number with a leading zero", b'[["expires",09999999999]]'),
        ("a number with a plus sign", b'[["expires",+9999999999]]'),
        ("a bare caveat", b'["expires",9999999999]'),
    ):  # fmt: skip
        count = 2 if block.startswith(b'["') else 1
        yield told(f"a block that is {name}", " ".join(["not_understood"] * count), block)
        if name in {"nothing", "an object", "no JSON"}:
            yield told(f"an authority's block that is {name}", "incomplete_authority", grant=block)
    for name, one in (
        ("an unknown caveat", ["near", 5]),
        ("a tag of a service that is not known here", ["acme.region", "eu"]),
        ("a tag without a dot that nobody has", ["region", "eu"]),
        ("a tag in capitals", ["Expires", NOW + 9]),
        ("an empty array for a caveat", []),
        ("null for a caveat", None),
        ("an object for a caveat", {"expires": NOW + 9}),
        ("a number for a tag", [1, NOW + 9]),
        ("a field too many", ["expires", NOW + 9, 1]),
        ("a field too few", ["expires"]),
        ("null for a field", ["expires", None]),
        ("text for an integer", ["expires", str(NOW + 9)]),
        ("true for an integer", ["max_hops", True]),
        ("an integer beyond 2^53 - 1", ["expires", 2**53]),
        ("an integer of thirty digits", ["expires", 10**30]),
        ("a negative integer", ["expires", -1]),
        ("an object within a field", ["where", "x", {"eq": 1}]),
        ("a text for an array", ["allow", "crm.read"]),
        ("an empty allow", ["allow", []]),
        ("an entry without a pattern", ["allow", [[]]]),
        ("an entry that is a text", ["allow", ["crm.read"]]),
        ("null for absent pairs", ["allow", [["crm.read", None]]]),
        ("an argument twice", ["allow", [["crm.read", [["id", ["eq", 1]], ["id", ["eq", 2]]]]]]),
        ("an argument without a name", ["allow", [["crm.read", [["", ["eq", 1]]]]]]),
        ("absent for all other arguments", ["allow", [["crm.read", [["*", ["absent"]]]]]]),
        ("a lone star", ["allow", [["*"]]]),
        ("a star within a pattern", ["allow", [["crm.*.read"]]]),
        ("a star that is no label", ["allow", [["crm*"]]]),
        ("an empty label in a pattern", ["allow", [["crm..read"]]]),
        ("a pattern of 129 characters", ["allow", [["a" * 129]]]),
        ("an empty tenant", ["tenant", ""]),
        ("a tenant of 129 characters", ["tenant", "a" * 129]),
        ("a tenant with a line break", ["tenant", "Acme\n"]),
        ("a tenant with a right-to-left override", ["tenant", "Acme\u202e"]),
        ("a tenant with a zero-width space", ["tenant", "Ac\u200bme"]),
        ("a tenant with a line separator", ["tenant", "Acme\u2028"]),
        ("a task id with a space", ["until_completed", "T 1"]),
        ("a task id of 65 characters", ["until_completed", "T" * 65]),
        ("an attribute in capitals", ["where", "Region", ["eq", "eu"]]),
        ("an attribute that is empty", ["where", "", ["eq", "eu"]]),
        ("an argument that is empty", ["where", "args.", ["eq", "eu"]]),
        ("an attribute that may be absent", ["where", "region", ["absent"]]),
        ("an attribute that may be absent, deep within", ["where", "region", ["any", [["not", ["absent"]], ["eq", 1]]]]),
        ("a hop nonce in another spelling", ["hop", "x", NONCES[0][:-1] + "J"]),
        ("a hop nonce of nine bytes", ["hop", "x", b64u(bytes(9))]),
        ("a hop without a name", ["hop", "", NONCES[0]]),
        ("a hop key of 31 bytes", ["hop", "x", NONCES[0], b64u(bytes(31))]),
        ("a task that is no text, where no task may be", ["task", 5]),
        ("a fraction for fresh", ["fresh", 0.5]),
        ("a signature of 63 bytes", ["sig", b64u(bytes(63))]),
        ("a budget in capitals", ["budget", "EUR", "9"]),
        ("a budget that is a number", ["budget", "calls", 9]),
        ("a budget with a leading zero", ["budget", "calls", "09"]),
        ("a budget of seven decimals", ["budget", "eur", "0.1234567"]),
        ("a budget with a comma", ["budget", "eur", "0,5"]),
        ("a budget of sixteen digits", ["budget", "eur", "1" * 16]),
        ("a negative budget", ["budget", "eur", "-1"]),
    ):  # fmt: skip
        yield told(name, "not_understood", [one])
    yield told("1e3 for an integer", "not_understood", b'[["expires",1e10]]')
    yield told("5.0 for an integer", "not_understood", b'[["expires",9999999999.0]]')
    yield told("-0 for an integer", "expired", b'[["expires",-0]]')
    yield told("a number that is no double", "not_understood", b'[["where","args.x",["eq",1e400]]]')
    yield told("what is not understood does not hide its neighbours", "expired not_understood wrong_tenant",
               [["expires", NOW], ["near", 1], ["tenant", "Globex"]], grant=[*WHOLE, ["tenant", "Acme"]],
               call={"tenant": "Acme"})  # fmt: skip
    yield told("64 caveats", "", [["max_hops", 0], *[["not_before", 0]] * 63])
    yield told("65 caveats", "too_large", [["max_hops", 0], *[["not_before", 0]] * 64])
    yield told("65 things that are no caveats", "too_large", [1] * 65)
    deep: Any = ["anything"]
    for _ in range(253):
        deep = ["not", deep]
    yield told("256 brackets", "attribute_missing", [["where", "args.x", deep]])
    yield told("257 brackets", "too_large", [["where", "args.x", ["not", deep]]])
    yield told(
        "257 brackets in a block with an unknown tag", "too_large", b'[["near",' + b"[" * 255 + b"]" * 255 + b"]]"
    )
    yield told("257 brackets in a text", "too_large", [["tenant", "[" * 256]])
    yield told("brackets that never close", "too_large", b"[" * 3000)
    yield told("an authority's block of 65 caveats", "too_large", grant=[*WHOLE, *[["not_before", 0]] * 60])
    yield told("refusals beyond the 32nd", " ".join(["expired"] * 32), [["expires", 0]] * 40)


def marks() -> Iterator[Case]:
    mine = mark(READ)
    for name, caveat in (
        ("task", ["task", "T1"]),
        ("intent", ["intent", KEY32]),
        ("root", ["root", "R2"]),
        ("holder", ["holder", KEY32]),
        ("counter", ["budget", "calls", "9", "C1"]),
    ):
        yield told(f"a holder's {name}", "misplaced", [caveat])
        yield told(f"a holder's {name} behind a hop", "misplaced", [HOP, caveat])
    for name, caveat in (("task", ["task", "T1"]), ("root", ["root", "R1"]), ("max_hops", ["max_hops", 1])):
        yield told(f"{name} twice in the authority's block", "misplaced", grant=[*WHOLE, caveat, caveat])
    yield told("intent twice in the authority's block", "misplaced", grant=[*WHOLE, *[["intent", KEY32]] * 2])
    yield told("max_hops twice in a block", "misplaced", [["max_hops", 1], ["max_hops", 2]])
    yield told("a hop in the authority's block", "misplaced", grant=[HOP, *WHOLE])
    yield told("a hop that is not first", "misplaced", [["max_hops", 1], HOP])
    yield told("two hops in one block", "misplaced", [HOP, HOP2])
    yield told("a presentation in the authority's block", "misplaced", grant=[*WHOLE, mine])
    yield told("a presentation in a holder's block", "misplaced", [HOP, mine])
    yield told("two presentations", "misplaced", [mine])
    yield told("a block after the presentation", "misplaced", token=token(WHOLE, [mine], [["expires", NOW + 9]]))
    yield told("a caveat beside the presentation", "misplaced", token=token(WHOLE, [mine, ["expires", NOW + 9]]))
    yield told("a presentation twice in one block", "misplaced", token=token(WHOLE, [mine, mine]))
    yield told("a signature in the authority's block", "misplaced", grant=[*WHOLE, ["sig", SIG64]])
    yield told("a signature that is not last", "misplaced", [HOP, ["sig", SIG64], ["max_hops", 1]])
    yield told("a signature behind a hop", "hop_unsigned", [HOP, ["sig", SIG64]])
    yield told("a signed presentation", "hop_unsigned", token=token(WHOLE, [mine, ["sig", SIG64]]))
    yield told("a first holder with a key", "hop_unsigned", grant=[*WHOLE, ["holder", KEY32]])
    yield told("a hop with a key", "hop_unsigned", [[*HOP, KEY32]])
    yield told("a hop with a key, and another", "hop_unsigned hop_unsigned", [[*HOP, KEY32]], [[*HOP2, KEY32]])
    yield told("what is misplaced stops before what refuses", "misplaced", [["expires", 0]], [["task", "T1"]])
    for n, hops, expected in ((0, 0, ""), (0, 1, "too_many_hops"), (1, 1, ""), (1, 2, "too_many_hops")):
        below = [[HOP], [HOP2]][:hops]
        yield told(f"max_hops {n} and {hops} hops", expected, *below, grant=[*WHOLE, ["max_hops", n]])
    yield told("max_hops does not count its own hop", "", [HOP, ["max_hops", 0]])
    yield told(
        "a later max_hops does not widen", "too_many_hops", [["max_hops", 9]], [HOP], grant=[*WHOLE, ["max_hops", 0]]
    )
    yield told(
        "a later max_hops narrows", "too_many_hops", [HOP, ["max_hops", 0]], [HOP2], grant=[*WHOLE, ["max_hops", 9]]
    )
    yield told("max_hops does not count the path of the root", "",
               grant=[*but("root"), ["root", "R1", [["asker", NONCES[2]]]], ["max_hops", 0]])  # fmt: skip


def authority() -> Iterator[Case]:
    for tag in ("task", "root", "until_completed", "expires", "allow"):
        missing = next(each for each in WHOLE if each[0] == tag)
        yield told(f"no {tag} in the authority's block", "incomplete_authority", grant=but(tag))
        if tag not in {"task", "root"}:
            yield told(f"{tag} from a holder", "incomplete_authority", [missing], grant=but(tag))
    other = [*but("until_completed"), ["until_completed", "T2"]]
    yield told("the end of another task alone", "incomplete_authority", grant=other)
    yield told("an allow that is not understood", "incomplete_authority", grant=[*but("allow"), ["allow", [["*"]]]])
    yield told("nothing but a presentation", "incomplete_authority", token=token([mark(READ)]))
    yield told("a third-party caveat first", "incomplete_authority", [["expires", NOW + 9]], grant=(b"vid", b"cid"))
    yield told("the whole of an authority's block below another", "misplaced", WHOLE, grant=but("allow"))
    for name, have in (("tenant", ["tenant", "Acme"]), ("intent", ["intent", KEY32])):
        yield told(f"no {name} where it is required", "incomplete_authority", require=[name])
        more = {"call": {"tenant": "Acme"}} if name == "tenant" else {}
        yield told(f"{name} where it is required", "", grant=[*WHOLE, have], require=[name], **more)
    acme = {"call": {"tenant": "Acme"}}
    yield told(
        "a tenant from a holder where it is required",
        "incomplete_authority",
        [["tenant", "Acme"]],
        require=["tenant"],
        **acme,
    )
    yield told("a call with a tenant that nobody granted", "incomplete_authority", **acme)
    yield told("a call with a tenant that a holder claims", "incomplete_authority", [["tenant", "Acme"]], **acme)


def caveats() -> Iterator[Case]:
    for at, expected in ((NOW + 1, ""), (NOW, "expired"), (0, "expired")):
        yield told(f"expires {at - NOW:+} s from now", expected, [["expires", at]])
    yield told(
        "a later expiry does not widen", "expired", [["expires", NOW + 9]], grant=[*but("expires"), ["expires", NOW]]
    )
    for at, expected in ((NOW, ""), (NOW + 1, "not_yet"), (2**53 - 1, "not_yet")):
        yield told(f"not_before {min(at - NOW, 2):+} s from now", expected, [["not_before", at]])
    for seconds, age, expected in (
        (5, 5, ""),
        (5, 5.5, "stale_liveness"),
        (0, 0, ""),
        (60, 30, ""),
        (60, 30.5, "stale_liveness"),
        (5, 31, "stale_liveness stale_liveness"),
        (5, None, "unknown_liveness stale_liveness"),
    ):
        yield told(f"fresh {seconds}, news {age} s old", expected, [["fresh", seconds]], age=age)
    yield told("news 30 s old", "", age=30)
    yield told("news too old", "stale_liveness", age=30.25)
    yield told("no news ever", "unknown_liveness", age=None)

    acme = [*WHOLE, ["tenant", "Acme"]]
    yield told("its tenant", "", grant=acme, call={"tenant": "Acme"})
    yield told("another tenant", "wrong_tenant", grant=acme, call={"tenant": "Globex"})
    yield told("a tenant in other letters", "wrong_tenant", grant=acme, call={"tenant": "ACME"})
    yield told("a tenant with a Cyrillic letter", "wrong_tenant", grant=acme, call={"tenant": "\u0410cme"})
    yield told("a call without a tenant", "attribute_missing", grant=acme)
    yield told("tenant B after tenant A", "wrong_tenant", [["tenant", "Globex"]], grant=acme, call={"tenant": "Acme"})
    for one, other, expected in (("Zo\u00eb", "Zo\u00eb", ""), ("Zo\u00eb", "Zoe\u0308", "wrong_tenant")):
        yield told(f"a tenant in {'the same' if one == other else 'another'} normal form", expected,
                   grant=[*WHOLE, ["tenant", one]], call={"tenant": other})  # fmt: skip
    yield told("a tenant of 128 emoji, with delimiters", "", grant=[*WHOLE, ["tenant", '"],["' + "\U0001f600" * 123]],
               call={"tenant": '"],["' + "\U0001f600" * 123})  # fmt: skip

    for pattern, action, expected in (
        ("crm.read", "crm.read", ""),
        ("crm.read", "crm.read.all", "action_not_allowed"),
        ("crm.*", "crm.read", ""),
        ("crm.*", "crm.notes.add", ""),
        ("crm.*", "crm", "action_not_allowed"),
        ("crm.*", "crmx.read", "action_not_allowed"),
        ("crm.*", "CRM.read", "action_not_allowed"),
        ("crm.r", "crm.read", "action_not_allowed"),
    ):
        yield told(
            f"{pattern} and {action}", expected, grant=[*but("allow"), ["allow", [[pattern]]]], received=tool(action)
        )
    yield told("no wider by a holder", "action_not_allowed", [["allow", [["crm.*"]]]], received=tool("crm.export"))
    yield told(
        "narrower by a holder", "action_not_allowed", [["allow", [["crm.read"]]]], received=tool("crm.notes.add")
    )

    def arguments(name: str, expected: str, entries: list[Any], action: str = "crm.read", **args: Any) -> Case:
        return told(name, expected, [["allow", entries]], received=tool(action, **args))

    yield arguments("arguments are free without pairs", "", [["crm.read"]], id=1)
    yield arguments("no arguments where none may be", "", [["crm.read", []]])
    yield arguments("an argument where none may be", "argument_not_named", [["crm.read", []]], id=1)
    one = [["crm.read", [["id", ["eq", 1]]]]]
    yield arguments("the argument", "", one, id=1)
    yield arguments("another value", "argument_refused", one, id=2)
    yield arguments("an argument that is missing", "argument_refused", one)
    yield arguments("an argument that is not named", "argument_not_named", one, id=1, to="x")
    yield arguments("an argument refused and one not named", "argument_refused", one, id=2, to="x")
    others = [["crm.read", [["id", ["eq", 1]], ["*", ["prefix", "a"]]]]]
    yield arguments("all others judged, and good", "", others, id=1, to="ab", cc="a")
    yield arguments("all others judged, one refused", "argument_refused", others, id=1, to="ab", cc="b")
    yield arguments("an argument whose name is a star", "argument_refused", others, **{"id": 1, "*": "b"})
    yield arguments("one that may be absent", "", [["crm.read", [["id", ["absent"]]]]])
    yield arguments("one that must be absent", "argument_refused", [["crm.read", [["id", ["absent"]]]]], id=1)
    yield arguments("null is not absent", "argument_refused", [["crm.read", [["id", ["absent"]]]]], id=None)
    yield arguments("absent or 1", "", [["crm.read", [["id", ["any", [["absent"], ["eq", 1]]]]]]])
    yield arguments("not absent, and it is missing", "argument_refused", [["crm.read", [["id", ["not", ["absent"]]]]]])
    yield arguments("the second entry fits", "", [*one, ["crm.read", [["id", ["eq", 2]]]]], id=2)
    yield arguments("the first entry that matches says why", "argument_not_named", [["crm.read", []], *one], id=2)
    yield arguments("an entry for another action says nothing", "argument_refused", [["crm.notes.*", []], *one], id=2)
    yield arguments(
        "an argument name with an accent", "", [["crm.read", [["caf\u00e9 1", ["eq", 1]]]]], **{"caf\u00e9 1": 1}
    )

    def where(name: str, expected: str, fact: str, rule: Any, attributes: Any = None, **args: Any) -> Case:
        more = {"call": {"args": args, "attributes": attributes}} if attributes else {}
        return told(name, expected, [["where", fact, rule]], received=tool(**args), **more)

    eu = ["eq", "eu"]
    yield where("an attribute", "", "region", eu, {"region": "eu"})
    yield where("another value of an attribute", "argument_refused", "region", eu, {"region": "us"})
    yield where("an attribute that is missing", "attribute_missing", "region", eu)
    yield where("an argument is no attribute", "attribute_missing", "region", eu, region="eu")
    yield where("a condition that a missing attribute does not meet", "attribute_missing", "region", ["not", eu])
    yield where("an attribute is no argument", "attribute_missing", "args.region", eu, {"region": "eu"})
    yield where("an argument", "", "args.id", ["eq", 1], id=1)
    yield where("another value of an argument", "argument_refused", "args.id", ["eq", 1], id=2)
    yield where("an argument that may be missing", "", "args.id", ["absent"])
    yield where("a dot in an argument's name is no path", "attribute_missing", "args.a.b", ["eq", 1], a={"b": 1})
    yield where("an argument with a dot in its name", "", "args.a.b", ["eq", 1], **{"a.b": 1})

    yield told("a budget where nothing counts", "no_meter", [["budget", "calls", "20"]])
    yield told("a budget with a counter", "no_meter", grant=[*WHOLE, ["budget", "eur", "0.5", "C1"]])
    yield told("16 budgets", " ".join(["no_meter"] * 16), [["budget", "calls", "1"]] * 16)
    yield told("17 budgets", "too_large", [["budget", "calls", "1"]] * 16, [["budget", "eur", "1"]])
    yield told(
        "one denial tells all",
        "task_completed revoked stale_liveness too_many_hops needs_discharge expired action_not_allowed",
        [HOP, ["expires", 1]],
        (b"vid", b"cid"),
        [["allow", [["crm.export"]]]],
        grant=[*WHOLE, ["max_hops", 0]],
        age=99,
        deaths=dead(nodes(NONCES[0])[1], T1="task_completed"),
    )


YES, NO, CANNOT = "yes", "no", "cannot judge"
CONSTRAINTS: list[tuple[list[Any], list[tuple[Any, str]]]] = [
    (["eq", 1], [(1, YES), (1.0, YES), (2, NO), (True, CANNOT), ("1", CANNOT), (None, CANNOT), ([1], CANNOT)]),
    (["eq", True], [(True, YES), (False, NO), (1, CANNOT)]),
    (["eq", None], [(None, YES), (False, CANNOT), (0, CANNOT)]),
    (["eq", "a"], [("a", YES), ("A", NO), ("a ", NO), ("", NO), ({"a": 1}, CANNOT)]),
    (["eq", "\u00e9"], [("\u00e9", YES), ("e\u0301", NO)]),
    (["eq", [1, "a"]], [([1, "a"], YES), ([1, "b"], NO), ([1], NO), ([True, "a"], CANNOT), ([], NO), ([[1], "a"], CANNOT)]),
    (["eq", 9007199254740991], [(9007199254740991, YES), (9007199254740990, NO)]),
    (["in", [1, "a"]], [(1, YES), ("a", YES), (2, NO), ("b", NO), (True, CANNOT), (None, CANNOT)]),
    (["range", 1, 2], [(1, YES), (2.0, YES), (0.5, NO), (3, NO), ("1", CANNOT), (True, CANNOT)]),
    (["range", None, 0.5], [(-9007199254740991, YES), (0.5, YES), (0.6, NO)]),
    (["prefix", "warehouse."], [("warehouse.read", YES), ("warehouse.", YES), ("warehouse", NO), (1, CANNOT)]),
    (["glob", "/a/*"], [("/a/b", YES), ("/a/", YES), ("/a/b/c", NO), ("/b", NO), (1, CANNOT)]),
    (["glob", "/a/**"], [("/a/b/c", YES), ("/a", NO)]),
    (["glob", "a?c"], [("abc", YES), ("a/c", NO), ("ac", NO), ("a\U0001f600c", YES)]),
    (["glob", "[a].b"], [("[a].b", YES), ("a.b", NO), ("[a]xb", NO)]),
    (["regex", "a|b+"], [("a", YES), ("bb", YES), ("ab", NO), ("xa", NO), ("a\n", NO), (None, CANNOT)]),
    (["regex", "a.c"], [("abc", YES), ("a\nc", NO)]),
    (["path", "/data"], [("/data", YES), ("/data/a", YES), ("/database", NO), ("/", NO), ("/data/", CANNOT),
        ("/data/../etc", CANNOT), ("/data/./a", CANNOT), ("/data//a", CANNOT), ("/data/%2e%2e", CANNOT),
        ("/data\\a", CANNOT), ("/data/a\0", CANNOT), ("data", CANNOT), ("", CANNOT), (1, CANNOT),
        ("/data/..a", YES), ("/DATA", NO), ("/data/" + "a" * 4090, YES), ("/data/" + "a" * 4091, CANNOT)]),
    (["path", "/"], [("/", YES), ("/a", YES), ("//", CANNOT)]),
    (["url", ["https"], ["x.example", "*.y.example"], []], [("https://x.example/", YES), ("https://a.y.example/b?c=d", YES),
        ("https://y.example/", NO), ("https://x.example.evil.example/", NO), ("https://ax.example/", NO),
        ("http://x.example/", NO), ("https://x.example:8443/", NO), ("https://x.example:443/", CANNOT),
        ("https://x.example", CANNOT), ("HTTPS://x.example/", CANNOT), ("https://X.example/", CANNOT),
        ("https://u@x.example/", CANNOT), ("https://x.example./", CANNOT), ("https://x.example/#a", CANNOT),
        ("https://x.example/a/../b", CANNOT), ("https://x.example/%61", CANNOT), ("https://x.example/a%2fb", CANNOT),
        ("https://x.example/a\r\nb", CANNOT), ("https://x.example\\@evil.example/", CANNOT), ("//x.example/", CANNOT),
        ("https://10.0.0.1/", CANNOT), ("https://0x7f000001/", CANNOT), ("https://2130706433/", CANNOT),
        ("https://[::1]/", CANNOT), ("https://localhost/", CANNOT), ("https://metadata.google.internal/", CANNOT),
        ("https://127.0.0.1.nip.io/", CANNOT), ("ftp://x.example/", CANNOT), (1, CANNOT)]),
    (["url", ["https"], ["x.example"], [8443], "/api"], [("https://x.example:8443/api", YES), ("https://x.example:8443/api/a", YES),
        ("https://x.example:8443/apis", NO), ("https://x.example/api", NO)]),
    (["host", ["x.example", "*.y.example"]], [("x.example", YES), ("a.y.example", YES), ("a.b.y.example", YES), ("y.example", NO),
        ("ax.example", NO), ("x.example.", CANNOT), ("X.example", CANNOT), ("x_.example", CANNOT), ("10.0.0.1", CANNOT),
        ("::1", CANNOT), ("", CANNOT), ("a..x.example", CANNOT), ("-x.example", CANNOT), ("p\u00e4.example", CANNOT), (1, CANNOT)]),
    (["cidr", ["10.0.0.0/8", "2001:db8::/32"]], [("10.1.2.3", YES), ("2001:db8::1", YES), ("11.0.0.1", NO), ("2001:db9::1", NO),
        ("010.0.0.1", CANNOT), ("10.1", CANNOT), ("0xa000001", CANNOT), ("::ffff:10.0.0.1", CANNOT), ("::ffff:a00:1", CANNOT),
        ("2001:DB8::1", CANNOT), ("2001:db8:0:0::1", CANNOT), ("fe80::1%eth0", CANNOT), ("10.0.0.0/8", CANNOT), (167772161, CANNOT)]),
    (["each", ["range", 0, 9]], [([1, 2], YES), ([1, 10], NO), ([], NO), ([1, "2"], CANNOT), (["2", 10], NO), (1, CANNOT),
        ({"a": 1}, CANNOT), ([1] * 1024, YES), ([1] * 1025, CANNOT)]),
    (["each", ["eq", 1], 0], [([], YES)]),
    (["each", ["eq", 1], 2], [([1, 1], YES), ([1], NO)]),
    (["contains", [1, "a"]], [(["a", 2, 1], YES), ([1, 1.0, "a"], YES), ([], NO), ("a", CANNOT), ({"a": 1}, CANNOT)]),
    (["contains", ["a"]], [(["b", "c"], NO), (["b", "a"], YES)]),
    (["length", 1, 2], [("a", YES), ("\U0001f600\U0001f600", YES), ([1, 2], YES), ("", NO), ([], NO), ("abc", NO), (1, CANNOT),
        ({"a": 1}, CANNOT), (None, CANNOT)]),
    (["length", None, 0], [("", YES), ([1], NO)]),
    (["fields", [["a", ["eq", 1]]]], [({"a": 1}, YES), ({"a": 2}, NO), ({"a": "1"}, CANNOT), ({"a": 1, "b": 1}, NO),
        ({"a": "1", "b": 1}, NO), ({}, CANNOT), ([], CANNOT), ("a", CANNOT)]),
    (["fields", [["a", ["absent"]], ["*", ["eq", 1]]]], [({}, YES), ({"b": 1}, YES), ({"b": 2}, NO), ({"a": 1}, NO), ({"*": 1}, YES)]),
    (["argv", ["git"]], [(["git"], YES), (["git", "push"], YES), (["/bin/git"], NO), (["git "], NO), (["GIT"], NO), ([], NO),
        (["git;rm"], NO), ("git", CANNOT), (["git", 1], CANNOT)]),
    (["argv", ["git"], [["log"], ["remote", "-v"]]], [(["git", "log"], YES), (["git", "log", "-p"], YES), (["git", "remote", "-v"], YES),
        (["git", "remote"], NO), (["git"], NO), (["git", "push", "log"], NO)]),
    (["any", [["eq", 1], ["eq", "a"]]], [(1, YES), ("a", YES), (2, CANNOT), (None, CANNOT)]),
    (["any", [["eq", 1], ["eq", 2]]], [(2, YES), (3, NO)]),
    (["all", [["range", 0, 9], ["not", ["eq", 5]]]], [(4, YES), (5, NO), ("4", CANNOT)]),
    (["all", [["eq", 1], ["prefix", "a"]]], [(1, CANNOT), (2, NO), ("b", NO), (None, CANNOT)]),
    (["not", ["eq", 1]], [(2, YES), (1, NO), ("1", CANNOT)]),
    (["absent"], [(None, NO), (1, NO)]),
    (["anything"], [(None, YES), ({}, YES), ([], YES)]),
]  # fmt: skip


def constraints() -> Iterator[Case]:
    """Each verdict, by the constraint itself where it is yes and else by its negation, which only a no turns to yes."""
    for rule, table in CONSTRAINTS:
        for value, verdict in table:
            stated, expected = (
                (rule, "") if verdict == YES else (["not", rule], "" if verdict == NO else "argument_refused")
            )
            shown = compact(value)
            name = f"{compact(rule)}: {shown if len(shown) < 80 else shown[:40] + f'… ({len(shown)} characters)'}: {verdict}"
            yield told(name, expected, [["where", "args.x", stated]], call={"args": {"x": value}})
    missing = [rule for rule, _ in CONSTRAINTS if rule[0] != "absent"]
    yield told("no constraint but absent judges what is missing", " ".join(["attribute_missing"] * 2 * 14),
               *([["where", "args.x", rule], ["where", "args.x", ["not", rule]]] for rule in missing[::3]))  # fmt: skip
    for name, rule in (
        ("an unknown constraint", ["near", 1]),
        ("an unknown constraint within", ["any", [["anything"], ["near", 1]]]),
        ("an array of constraints", [["eq", 1]]),
        ("no constraint", []),
        ("an empty text", ["eq", ""]),
        ("an empty array", ["eq", []]),
        ("a nested array", ["eq", [[1]]]),
        ("an object for a literal", ["eq", {"a": 1}]),
        ("a number beyond 2^53 - 1", ["eq", 2**53]),
        ("a fraction beyond 2^53 - 1", ["eq", 1e16]),
        ("two literals", ["eq", 1, 2]),
        ("in nothing", ["in", []]),
        ("in a text", ["in", "abc"]),
        ("a range without ends", ["range", None, None]),
        ("a range the wrong way round", ["range", 2, 1]),
        ("a range of text", ["range", "a", "b"]),
        ("a range with one end", ["range", 1]),
        ("an empty prefix", ["prefix", ""]),
        ("an empty glob", ["glob", ""]),
        ("three stars", ["glob", "a***"]),
        ("a lookahead", ["regex", "(?=a)b"]),
        ("a backreference", ["regex", "(a)\\1"]),
        ("a pattern cut short", ["regex", "(a"]),
        ("a relative path", ["path", "data"]),
        ("a path with a slash at its end", ["path", "/data/"]),
        ("a path with dots", ["path", "/data/../etc"]),
        ("a URL of any host", ["url", ["https"], ["*"], []]),
        ("a URL without schemes", ["url", [], ["x.example"], []]),
        ("a URL of a scheme without hosts", ["url", ["file"], ["x.example"], [1]]),
        ("a URL of a scheme whose port is not known", ["url", ["ssh"], ["x.example"], []]),
        ("a URL of this machine", ["url", ["https"], ["localhost"], []]),
        ("a URL with a port as text", ["url", ["https"], ["x.example"], ["443"]]),
        ("a URL with port 0", ["url", ["https"], ["x.example"], [0]]),
        ("a host in capitals", ["host", ["X.example"]]),
        ("a host that is an address", ["host", ["10.0.0.1"]]),
        ("a star within a host", ["host", ["a.*.example"]]),
        ("a network with host bits", ["cidr", ["10.0.0.1/8"]]),
        ("a network without its size", ["cidr", ["10.0.0.1"]]),
        ("a network in another spelling", ["cidr", ["2001:DB8::/32"]]),
        ("a network that spells IPv4 ones", ["cidr", ["::ffff:10.0.0.0/104"]]),
        ("elements that may be absent", ["each", ["absent"]]),
        ("a negative number of elements", ["each", ["eq", 1], -1]),
        ("null for a number of elements", ["each", ["eq", 1], None]),
        ("a length of half", ["length", 0.5, None]),
        ("a negative length", ["length", -1, None]),
        ("a length without ends", ["length", None, None]),
        ("a field twice", ["fields", [["a", ["eq", 1]], ["a", ["eq", 2]]]]),
        ("absent for all other fields", ["fields", [["*", ["absent"]]]]),
        ("no programs", ["argv", []]),
        ("an empty list of arguments", ["argv", ["git"], [[]]]),
        ("any of nothing", ["any", []]),
        ("all of nothing", ["all", []]),
        ("not of nothing", ["not"]),
        ("absent with a field", ["absent", 1]),
    ):
        yield told(
            f"a constraint that is no form: {name}",
            "not_understood",
            [["where", "args.x", rule]],
            call={"args": {"x": 1}},
        )


def presentations() -> Iterator[Case]:
    yield told("a bare token", "bearer_refused", token=token(WHOLE))
    yield told("a bare token that refuses besides", "bearer_refused", token=token(WHOLE, [["expires", 0]]))
    yield told("a bare token where it is accepted", "", token=token(WHOLE), bearer=True)
    yield told(
        "a bare token where it is accepted, judged", "expired", token=token(WHOLE, [["expires", 0]]), bearer=True
    )
    yield told("a presentation where bare tokens are accepted", "call_mismatch", bearer=True,
               token=token(WHOLE, [mark(tool("crm.write"))]))  # fmt: skip
    for name, block in (
        ("of an unknown profile", ["call", "grpc", *mark(READ)[2:]]),
        ("with a short nonce", [*mark(READ)[:4], "AAAA"]),
        ("with a digest in hex", ["call", "tool", "00" * 32, NOW, b64u(bytes(12))]),
        ("without a nonce", mark(READ)[:4]),
        ("at a fraction of a second", [*mark(READ)[:3], NOW + 0.5, b64u(bytes(12))]),
    ):
        yield told(f"a presentation {name} is none", "bearer_refused", token=token(WHOLE, [block]))
    for at, expected in (
        (NOW - 60, ""),
        (NOW - 61, "call_window"),
        (NOW + 5, ""),
        (NOW + 6, "call_window"),
        (0, "call_window"),
    ):
        yield told(f"presented {at - NOW:+} s from now", expected, at=at)
    presented = ids(WHOLE, [mark(READ)])[-1]
    yield told("presented before", "replayed", seen=[presented])
    yield told("presented before, and refused besides", "replayed", seen=[presented], deaths=dead(T1="task_completed"))
    yield told("another presentation was seen", "", seen=ids(WHOLE, [mark(READ, NOW - 1)])[-1:])
    yield told("a memory that cannot tell", "unavailable", seen=None)

    def misfit(name: str, made_for: Case, received: Case, expected: str = "call_mismatch", **more: Any) -> Case:
        return told(
            name,
            expected,
            token=token(WHOLE, [mark(made_for, NOW, more.pop("written", None))]),
            received=received,
            **more,
        )

    yield misfit("for another action", tool("crm.write"), READ)
    yield misfit("for other arguments", tool(id=1), tool(id=2))
    yield misfit("for one argument less", tool(), tool(id=1))
    yield misfit("for true rather than 1", tool(id=True), tool(id=1))
    yield misfit("for the text 1", tool(id="1"), tool(id=1))
    yield misfit("for 1, and 1.0 came", tool(id=1), tool(id=1.0), "")
    yield misfit("arguments in another order", tool(a=1, b=2), tool(b=2, a=1), "")
    yield misfit("a fraction", tool(x=1e-7), tool(x=1e-7), "", written='{"action":"crm.read","args":{"x":1e-7}}')
    yield misfit(
        "a small fraction", tool(x=0.00001), tool(x=0.00001), "", written='{"action":"crm.read","args":{"x":0.00001}}'
    )
    yield misfit("negative zero", tool(x=-0.0), tool(x=-0.0), "", written='{"action":"crm.read","args":{"x":0}}')
    yield misfit("names beyond the first plane sort as UTF-16 does", READ, {**READ, "args": {"\ufb33": 1, "\U0001f600": 2}}, "",
                 written='{"action":"crm.read","args":{"\U0001f600":2,"\ufb33":1}}')  # fmt: skip
    yield misfit("texts are escaped as little as may be", READ, {**READ, "args": {"x": "\u2028</\x7f\x1f\n\"\\\u00e9"}}, "",
                 written='{"action":"crm.read","args":{"x":"\u2028</\x7f\\u001f\\n\\"\\\\\u00e9"}}')  # fmt: skip
    facts: Case = {"call": {"action": "crm.read", "args": {}}}
    for name, change in (
        ("method", {"method": "PUT"}),
        ("path", {"target": "/notes/1"}),
        ("query", {"target": "/notes?a=1"}),
        ("path in another spelling", {"target": "/%6Eotes"}),
        ("body", {"body": b64u(b'{"text":"ho"}')}),
        ("empty body", {"body": ""}),
        ("content type", {"content_type": "text/plain"}),
        ("content type that is missing", {"content_type": None}),
        ("content encoding", {"content_encoding": "gzip"}),
    ):
        yield misfit(f"for another {name}", POST, {**POST, **change}, **facts)
    yield misfit("for a request, and a tool call came", GET, READ)
    yield misfit("for a tool call, and a request came", READ, GET, **facts)
    swapped = token(WHOLE, [["call", "http", *mark(READ)[2:]]])
    yield told("the digest of a tool call under the other profile", "call_mismatch", token=swapped)
    yield misfit("another call is told before a window that has passed", tool("crm.write"), READ, now=NOW + 99)
    yield told("caveats judge what is executed, not what was sent", "argument_refused", [["where", "args.id", ["eq", 1]]],
               received=tool(), call={"action": "crm.read", "args": {"id": 2}})  # fmt: skip
    yield told(
        "caveats judge the action that is executed", "action_not_allowed", call={"action": "crm.export", "args": {}}
    )


def deaths() -> Iterator[Case]:
    blocks = [WHOLE, [HOP, ["until_completed", "T2"]], [["max_hops", 1]], [HOP2]]
    made, path, later = ids(*blocks, [mark(READ)]), nodes(NONCES[0], NONCES[1]), blocks[1:]
    for at, name in enumerate(("what was minted", "the authority's block", "the first hop's block", "a block without a hop",
                               "the last hop's block", "the presentation")):  # fmt: skip
        yield told(f"the id of {name} revoked", "revoked", *later, deaths=dead(made[at]))
    for at, name in enumerate(("the root", "a middle hop", "the last hop")):
        yield told(f"the node of {name} revoked", "revoked", *later, deaths=dead(path[at]))
    for reason in ("task_completed", "task_withdrawn", "task_expired"):
        yield told(f"its task: {reason}", reason, *later, deaths=dead(T1=reason))
    yield told("another task that a holder named", "task_completed", *later, deaths=dead(T2="task_completed"))
    yield told("a task that nobody named", "", *later, deaths=dead(T3="task_completed"))
    yield told("the node of a sibling revoked", "", *later, deaths=dead(*nodes(NONCES[2])[1:]))
    yield told(
        "the same nonces under another root revoked", "", *later, deaths=dead(*nodes(NONCES[0], NONCES[1], root="R2"))
    )
    yield told("the last hop's nonce under the root revoked", "", *later, deaths=dead(*nodes(NONCES[1])[1:]))
    yield told("the id of a child revoked", "", deaths=dead(*ids(WHOLE, [HOP])[2:]))
    yield told("the node of a child revoked", "", [HOP], deaths=dead(path[2]))
    yield told(
        "a task whose id is the text of a node", "", *later, deaths={"tasks": {path[0]: "task_completed"}, "ids": {}}
    )
    yield told("deaths in their order", "task_withdrawn task_completed revoked revoked revoked", *later,
               deaths=dead(made[-1], made[0], path[2], T2="task_completed", T1="task_withdrawn"))  # fmt: skip
    yield told("the root named as the task is", "task_completed", grant=[*but("root"), ["root", "T1"]],
               deaths=dead(T1="task_completed"))  # fmt: skip
    yield told("deaths and stale news", "revoked stale_liveness", deaths=dead(made[0]), age=31)
    yield told("deaths and caveats are told together", "revoked expired", [["expires", 0]], deaths=dead(made[0]))


def third_parties() -> Iterator[Case]:
    third = (b"a sealed key", b"an approval by finance")
    yield told("a third-party caveat", "needs_discharge", third)
    yield told("two third-party caveats", "needs_discharge", third, third)
    yield told("a third-party caveat between hops", "needs_discharge", [HOP], third, [HOP2])
    yield told("an empty third-party caveat", "needs_discharge", (b"", b""))
    yield told("a third-party caveat last", "bearer_refused", token=token(WHOLE, third))
    yield told("a third-party caveat, and what else refuses", "needs_discharge expired", [["expires", 0]], third)
    yield told(
        "the id of a third-party caveat revoked", "revoked needs_discharge", third, deaths=dead(ids(WHOLE, third)[-1])
    )
    yield told("a cid that is a block of caveats", "needs_discharge", (b"vid", b'[["expires",0]]'))


ALL: tuple[Callable[[], Iterator[Case]], ...] = (
    chains, bytes_of_it, identifiers, keys, blocks, marks, authority, caveats, constraints, presentations, deaths, third_parties,
)  # fmt: skip


def vectors() -> dict[str, Any]:
    """Everything that stands in the file."""
    cases = [case for make in ALL for case in make()]
    DEFAULTS["keys"] = {kid(ROOT_KEY): audience_key(ROOT_KEY, "crm").hex()}
    return {"about": ABOUT, "defaults": DEFAULTS, "cases": cases}


def written() -> str:
    """The file: one line for each case."""
    found = vectors()
    lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in found.pop("cases"))
    return json.dumps(found, indent=1, ensure_ascii=False)[:-2] + ',\n "cases": [\n' + lines + "\n ]\n}\n"


if __name__ == "__main__":
    Path(__file__).with_name("decisions.json").write_text(written(), encoding="utf-8")
