"""Cases about text, bytes, identifiers and keys."""

from collections.abc import Iterator

from tests.project.vectors.generate import ISSUED_AT, ROOT_KEY, compact, field, mac
from tests.project.vectors.making import (
    GET,
    HOP,
    HOP2,
    ID16,
    KEY32,
    NONCES,
    NOW,
    OTHER_KEY,
    POST,
    READ,
    WHOLE,
    Block,
    Case,
    as_bytes,
    assembled,
    audience_key,
    but,
    caveat,
    dead,
    identifier,
    kid,
    mark,
    nodes,
    plain,
    raw,
    signed,
    text,
    token,
    told,
)


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
    yield told(
        "nodes that a path would make without its steps are others",
        "",
        [HOP],
        grant=[*but("root"), *steps],
        deaths=dead(*nodes(NONCES[0])[1:]),
    )


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
    yield plain(
        "a third-party caveat turned into a block",
        "not_authentic",
        text(
            assembled(named, [WHOLE, b"cid"], signed(audience_key(ROOT_KEY, "crm"), named, [WHOLE, (b"vid", b"cid")]))
        ),
    )
    for at, name in (
        (13, "the kid"),
        (45, "the nonce"),
        (160, "the first block"),
        (-50, "the last block"),
        (-1, "the signature"),
    ):
        flipped = bytearray(data)
        flipped[at] ^= 1
        yield plain(f"a bit of {name} flipped", "not_authentic", text(bytes(flipped)))
    for at in (1, 2, 4, 6, 9, 20, 70, 71, 72, 200, len(data) - 35, len(data) - 34, len(data) - 33, len(data) - 1):
        yield plain(f"cut after {at} bytes", "truncated", text(data[:at]))
    yield plain("cut, and a single character that makes no byte", "truncated", text(data[:90]) + "A")
    yield plain("cut, and a single character of no alphabet", "malformed", text(data[:90]) + "!")
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
    yield plain(
        "at its other audience",
        "",
        token(*blocks, audience="billing"),
        audience="billing",
        keys={kid(ROOT_KEY): audience_key(ROOT_KEY, "billing").hex()},
    )
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
    yield plain(
        "minted for another audience with a resource's own key",
        "not_authentic",
        text(forged),
        audience="billing",
        keys={kid(ROOT_KEY): audience_key(ROOT_KEY, "billing").hex()},
    )
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
