"""What fuzzing begins with: blocks of every caveat and constraint, and arguments that they meet."""

import json
from typing import Any

from capx.crypto.base64url import b64u

DIGEST, NONCE, SHORT = b64u(bytes(32)), b64u(bytes(12)), b64u(bytes(8))

CONSTRAINTS: tuple[list[Any], ...] = (
    ["eq", "deck-42"],
    ["eq", [1, True, None, "x"]],
    ["in", ["a", 1, None, [1, 2]]],
    ["range", 0, 50],
    ["range", None, 1.5],
    ["prefix", "/data/"],
    ["glob", "/data/**/x?.*"],
    ["regex", "[a-z]+(-[0-9]{1,3})?"],
    ["path", "/data/acme"],
    ["url", ["https"], ["*.example.com"], []],
    ["url", ["https", "http"], ["example.com"], [8080], "/v1"],
    ["host", ["example.com", "*.example.org"]],
    ["cidr", ["10.0.0.0/8", "2001:db8::/32"]],
    ["each", ["eq", 1], 0],
    ["each", ["each", ["in", ["a"]]]],
    ["contains", ["a", 1]],
    ["length", 1, 10],
    ["length", None, 3],
    ["fields", [["id", ["eq", 1]], ["*", ["anything"]]]],
    ["argv", ["ls", "cat"], [["-l"], ["-a", "-l"]]],
    ["any", [["absent"], ["eq", "x"]]],
    ["all", [["anything"], ["not", ["eq", 1]]]],
    ["absent"],
    ["acme.multiple", 2],
    ["each", ["not", ["acme.multiple", 3]]],
    ["fields", [["id", ["any", [["acme.multiple", 2], ["absent"]]]]]],
)
ENTRIES: list[Any] = [["a.read", [["x", constraint], ["*", ["anything"]]]] for constraint in CONSTRAINTS]
CAVEATS: tuple[list[Any], ...] = (
    ["task", "T1"],
    ["intent", DIGEST],
    ["root", "R1", [["researcher", SHORT]]],
    ["hop", "slides-agent", SHORT],
    ["hop", "slides-agent", SHORT, DIGEST],
    ["max_hops", 2],
    ["call", "tool", DIGEST, 1795600000, NONCE],
    ["sig", b64u(bytes(64))],
    ["holder", DIGEST],
    ["until_completed", "T1"],
    ["expires", 1795603600],
    ["not_before", 1795600000],
    ["fresh", 30],
    ["tenant", "Acme"],
    ["allow", [["a.read"], ["a.*", []]]],
    *(["allow", [entry]] for entry in ENTRIES),
    *(["where", "args.x", constraint] for constraint in CONSTRAINTS),
    ["where", "region", ["in", ["eu", "us"]]],
    ["budget", "calls", "20"],
    ["budget", "usd", "1.50", "shared"],
    ["acme.region", "eu"],
)
BLOCKS = (
    *(json.dumps([caveat], separators=(",", ":")).encode() for caveat in CAVEATS),
    json.dumps([caveat for caveat in CAVEATS if caveat[0] in {"task", "root", "expires", "hop"}]).encode(),
    *(b"[]", b"1", b"null", b'"x"', b"{}", b"[1]", b"[[]]", b"[[1]]"),
    b'[["expires",1e3],["expires",9007199254740992],["where","args.x",["eq","\\ud800"]],["allow",[]],{"a":1}]',
)
ARGUMENTS = tuple(
    json.dumps({"x": value, "y": None}).encode()
    for value in (
        "deck-42", "", 1, 1.5, True, None, "/data/acme/1/../x", "https://api.example.com:443/v1/x", "10.1.2.3", [1, 1],
        [["a"]], ["ls", "-l"], {"id": 1, "n": "2"}, "2001:db8::1", "\u00e9\u202e", "é" * 100,
    )
)  # fmt: skip
