"""Cases about holders with keys: whose signature each block needs, and what a wrong one is told."""

import base64
from collections.abc import Iterator
from typing import Any

from nacl.signing import SigningKey

from tests.project.vectors.generate import b64u, compact, digest
from tests.project.vectors.making import (
    HOP,
    NONCES,
    READ,
    WHOLE,
    Block,
    Case,
    but,
    dead,
    digests,
    ids,
    mark,
    plain,
    token,
    tool,
)

FIRST, SECOND, THIRD, THIEF = (SigningKey(bytes([number]) * 31 + b"\0") for number in range(1, 5))
SMALL_ORDER = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
NOT_CANONICAL = bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")
ORDER = 2**252 + 27742317777372353535851937790883648493


def public(key: SigningKey) -> str:
    return b64u(bytes(key.verify_key))


def key_id(key: SigningKey) -> str:
    return b64u(digest(b"capx/1/key", bytes(key.verify_key))[:16])


def signed(key: SigningKey, caveats: list[Any], *before: Block) -> bytes:
    """The block with these caveats and a signature at its end, behind the blocks before it."""
    head = compact(caveats).encode()[:-1]
    signature = key.sign(digest(b"capx/1/sig", digests(*before)[-1], head)).signature
    return head + b',["sig","%b"]]' % b64u(signature).encode()


def hop(key: SigningKey, nonce: str = NONCES[0]) -> list[Any]:
    return ["hop", "slides-agent", nonce, public(key)]


KEYED: list[Any] = [*WHOLE, ["holder", public(FIRST)]]


def case(name: str, expected: str, *blocks: Block, by: SigningKey | None = FIRST, **more: Any) -> Case:
    """These blocks behind an authority's block with a holder, presented with the signature of `by`."""
    before = (more.pop("grant", KEYED), *blocks)
    presented = [mark(more.get("received", READ))]
    return plain(name, expected, token(*before, presented if by is None else signed(by, presented, *before)), **more)


def signatures() -> Iterator[Case]:
    first = signed(FIRST, [hop(SECOND)], KEYED)
    second = signed(SECOND, [hop(THIRD, NONCES[1]), ["allow", [["crm.read"]]]], KEYED, first)
    again = signed(FIRST, [hop(FIRST)], KEYED)
    yield case("a holder's signed presentation", "")
    yield case("a holder's signed presentation where keys are required", "", require=["holder"])
    yield case("a signed hop", "", first, by=SECOND)
    yield case("two signed hops", "", first, second, by=THIRD)
    yield case("a hop to the same key", "", again)
    yield case("an unsigned restriction behind a signed hop", "", first, [["max_hops", 1]], by=SECOND)
    yield case("a signed restriction", "", signed(FIRST, [["max_hops", 1]], KEYED))
    yield case("a restriction that refuses", "action_not_allowed", [["allow", [["crm.notes.add"]]]])
    yield plain(
        "no holder where keys are required", "incomplete_authority", token(WHOLE, [mark(READ)]), require=["holder"]
    )
    yield case("a holder's unsigned presentation", "hop_unsigned", by=None)
    yield case("an unsigned presentation below a signed hop", "hop_unsigned", first, by=None)
    yield plain("a holder's bare token at a bearer verifier", "hop_unsigned", token(KEYED), bearer=True)
    yield plain("a holder's bare token", "bearer_refused", token(KEYED))
    yield case("a presentation signed by a thief", "hop_signature", by=THIEF)
    yield case("a presentation signed by the parent", "hop_signature", first)
    yield case("a presentation signed by a child", "hop_signature", by=SECOND)
    yield case("an unsigned hop", "hop_unsigned", [hop(SECOND)], by=SECOND)
    yield case("a hop signed by a thief", "hop_signature", signed(THIEF, [hop(THIEF)], KEYED), by=THIEF)
    yield case("a signed hop without a key", "hop_unsigned", signed(FIRST, [HOP], KEYED))
    yield case("an unsigned hop without a key", "hop_unsigned", [HOP])
    yield case("a bad hop without a key", "hop_unsigned hop_signature", signed(THIEF, [HOP], KEYED))
    yield case(
        "a restriction signed by the delegator",
        "hop_signature",
        first,
        signed(FIRST, [["max_hops", 1]], KEYED, first),
        by=SECOND,
    )
    yield case("a hop of another token", "hop_signature", signed(FIRST, [hop(SECOND)], WHOLE), by=SECOND)
    yield case("a hop one block deeper", "hop_signature", [["max_hops", 9]], first, by=SECOND)
    yield case(
        "a presentation and a hop signed by a thief",
        "hop_signature hop_signature",
        signed(THIEF, [hop(SECOND)], KEYED),
        by=THIEF,
    )
    spelled = first[:-2]
    for name, block, expected in (
        ("a space in the ending", spelled + b" ]]", "hop_signature"),
        ("a line end behind the ending", first + b"\n", "hop_signature"),
        ("an escape in the ending", first.replace(b'"sig"', b'"s\\u0069g"'), "hop_signature"),
        ("63 bytes in the ending", first[:-89] + b64u(bytes(63)).encode() + b'"]]', "hop_unsigned not_understood"),
    ):
        yield case(name, expected, block, by=SECOND)
    signature = signed(FIRST, [hop(SECOND)], KEYED)[-89:-3].decode()
    raw = base64.urlsafe_b64decode(signature + "===")
    for name, other in (
        (
            "S above the order of the group",
            raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little"),
        ),
        ("R of small order", SMALL_ORDER + raw[32:]),
        ("R and S zero", bytes(64)),
    ):
        yield case(name, "hop_signature", first[:-89] + b64u(other).encode() + b'"]]', by=SECOND)
    for name, weak in (("all zero", bytes(32)), ("of small order", SMALL_ORDER), ("not canonical", NOT_CANONICAL)):
        named = ["hop", "a", NONCES[0], b64u(weak)]
        yield case(f"a hop's key {name}", "hop_signature hop_signature", signed(FIRST, [named], KEYED), by=THIEF)
        weak_grant = [*WHOLE, ["holder", b64u(weak)]]
        yield case(f"a holder's key {name}", "hop_signature hop_signature", grant=weak_grant, by=THIEF)
    yield plain("a key below a bearer", "hop_unsigned", token(WHOLE, [hop(SECOND)], [mark(READ)]))
    yield plain("a signed hop below a bearer", "hop_unsigned", token(WHOLE, signed(FIRST, [HOP], WHOLE), [mark(READ)]))
    bearer = signed(FIRST, [mark(READ)], WHOLE)
    yield plain("a signed presentation of a bearer", "hop_unsigned", token(WHOLE, bearer))
    yield case("a signature twice", "misplaced", signed(FIRST, [hop(SECOND), ["sig", signature]], KEYED), by=SECOND)
    yield case("signed for another call", "call_mismatch", received=tool(id=1)) | {"received": READ}
    many: list[Block] = [KEYED]
    for _ in range(31):
        many.append(signed(FIRST, [hop(FIRST)], *many))
    yield case("31 signed hops and a signed presentation", "", *many[1:])
    yield case("32 signed hops and a signed presentation", "too_large", *many[1:], signed(FIRST, [hop(FIRST)], *many))
    strays: list[Block] = [signed(FIRST, [["max_hops", 99 - nth]], WHOLE) for nth in range(32)]
    yield plain("32 signatures below a bearer", " ".join(["hop_unsigned"] * 32), token(WHOLE, *strays, [mark(READ)]))
    beyond = signed(FIRST, [mark(READ)], WHOLE, *strays)
    yield plain("33 signatures below a bearer", "too_large", token(WHOLE, *strays, beyond))
    for name, key, expected in (
        ("the holder's key", FIRST, "revoked"),
        ("the key of a hop above", SECOND, "revoked"),
        ("the key of the presenter", THIRD, "revoked"),
        ("another key", THIEF, ""),
    ):
        yield case(f"{name} revoked", expected, first, second, by=THIRD, deaths=dead(key_id(key)))
    made = ids(KEYED, first, second)
    yield case(
        "a key revoked, and what it made",
        "revoked revoked",
        first,
        second,
        by=THIRD,
        deaths=dead(key_id(FIRST), made[2]),
    )
    yield case("a dead key that is named twice", "revoked", again, deaths=dead(key_id(FIRST)))
    yield case("a dead key that did not sign", "revoked", first, by=THIEF, deaths=dead(key_id(FIRST)))
    yield case("a thief, and no news", "hop_signature unknown_liveness", by=THIEF, age=None)
    yield case(
        "signed, without a tenant", "incomplete_authority", call={"action": "crm.read", "args": {}, "tenant": "Acme"}
    )
    yield plain(
        "a holder and no expiry",
        "incomplete_authority",
        token([*but("expires"), ["holder", public(FIRST)]], [mark(READ)]),
    )
