"""Cases about demands for approvals, and the discharges that answer them."""

from collections.abc import Iterator
from typing import Any

from nacl.signing import SigningKey

from tests.project.vectors import about_keys
from tests.project.vectors.about_keys import FIRST, KEYED, SECOND, key_id, public
from tests.project.vectors.approving import (
    BEN,
    BENS,
    BENS_GOOD,
    CLEO,
    DEMANDING,
    GOOD,
    ID32,
    KEYED_DEMAND,
    LASTS,
    LEA,
    LEAS,
    NODE,
    ONCE,
    OTHER_K,
    SHOWN,
    THIEF,
    ZERO,
    Held,
    K,
    asking,
    below,
    bound,
    bound_to,
    bytes_of,
    case,
    chain,
    credential,
    demand,
    discharge,
    given,
    shown,
    spelled,
    statement,
    unsigned,
    written,
)
from tests.project.vectors.generate import ROOT_KEY, b64u, compact, digest, field, mac
from tests.project.vectors.making import (
    HOP,
    HOP2,
    ID16,
    NONCES,
    NOW,
    READ,
    SIG64,
    WHOLE,
    Block,
    Case,
    audience_key,
    but,
    caveat,
    dead,
    ids,
    kid,
    mark,
    nodes,
    plain,
    raw,
    token,
    told,
    tool,
)


def demands() -> Iterator[Case]:
    yield case("a demand without an approval", "needs_discharge")
    yield case("two demands", "needs_discharge needs_discharge", blocks=chain(LEAS, BENS))
    yield case("a demand twice", "needs_discharge needs_discharge", blocks=chain(LEAS, LEAS))
    yield case("a demand between hops", "needs_discharge", blocks=chain([HOP], LEAS, [HOP2]))
    strange = (b"vid", b"an approval by finance")
    yield case("a demand, and one that is none", "needs_discharge not_understood", blocks=chain(LEAS, strange))
    yield case("one that is no demand, and a demand", "not_understood needs_discharge", blocks=chain(strange, LEAS))
    yield case(
        "a demand, and what else refuses", "needs_discharge not_yet", blocks=chain([["not_before", NOW + 1]], LEAS)
    )
    yield case("a demand, and news too old", "stale_liveness needs_discharge", age=31)
    yield case(
        "a demand, and too many hops", "too_many_hops needs_discharge", blocks=chain(LEAS, [["max_hops", 0]], [HOP])
    )
    yield case("a demand, and expired", "expired", blocks=chain(LEAS, [["expires", NOW]]))
    yield case("a demand revoked", "revoked", deaths=dead(ids(*DEMANDING)[-1]))
    yield case(
        "a demand for the authority's block", "incomplete_authority", blocks=[demand(LEAS), [["expires", NOW + 9]]]
    )
    yield plain("a demand last", "bearer_refused", token(*DEMANDING))
    yield plain("a demand last, where bare tokens are accepted", "needs_discharge", token(*DEMANDING), bearer=True)
    for name, vid in (("no vid", b""), ("a vid of zeros", bytes(72)), ("the vid of another place", demand(LEAS)[0])):
        yield case(f"a demand with {name}", "needs_discharge", blocks=[WHOLE, (vid, LEAS)])
        yield case(f"a demand with {name}, and an approval", "bad_discharge", GOOD, blocks=[WHOLE, (vid, LEAS)])
    yield from cids()


def cids() -> Iterator[Case]:
    many = [SigningKey(bytes([number]) * 32) for number in range(30, 47)]
    lea, all_of = public(LEA), list(map(public, many))
    for name, cid in (
        ("of 16 people, all of whom must sign", spelled(16, all_of[:16])),
        ("for a second", spelled(1, [lea], 1)),
        ("for a day", spelled(1, [lea], 86_400)),
    ):
        yield case(f"a demand {name}", "needs_discharge", blocks=chain(cid))
    good, other = LEAS, b64u(bytes([2]) * 80)
    weak = (("of zeros", ZERO), ("of small order", about_keys.SMALL_ORDER), ("not canonical", about_keys.NOT_CANONICAL))
    for name, cid in (
        ("of nobody", spelled(1, [])),
        ("of 17 people", spelled(1, all_of)),
        ("of one person twice", spelled(1, [lea, lea])),
        ("that nobody must sign", spelled(0, [lea])),
        ("that more people must sign than it names", spelled(2, [lea])),
        ("for no time", spelled(1, [lea], 0)),
        ("for more than a day", spelled(1, [lea], 86_401)),
        ("with a short nonce", spelled(1, [lea], nonce=b64u(bytes(15)))),
        ("with a nonce in another spelling", spelled(1, [lea], nonce=ID16[:-1] + "R")),
        ("without a box", spelled(1, [lea], boxes=[])),
        ("with a box too many", spelled(1, [lea], boxes=[other, other])),
        ("with a box of 79 bytes", spelled(1, [lea], boxes=[b64u(bytes(79))])),
        ("with a box in another spelling", spelled(1, [lea], boxes=[other[:-1] + "J"])),
        ("with a key of 31 bytes", spelled(1, [b64u(bytes(31))])),
        ("with a key in another spelling", spelled(1, [lea[:-1] + chr(ord(lea[-1]) + 1)])),
        *((f"with a key {name}", spelled(1, [b64u(key)])) for name, key in weak),
        ("with a weak key beside a good one", spelled(1, [lea, b64u(ZERO)])),
        ("of another version", b"[2" + good[2:]),
        ("with a space", good.replace(b",", b", ", 1)),
        ("with a line end", good + b"\n"),
        ("with a leading zero", good.replace(b",900,", b",0900,")),
        ("with a fraction", good.replace(b",900,", b",900.0,")),
        ("with a text for a number", good.replace(b",900,", b',"900",')),
        ("with an escape", good.replace(b'"' + lea[:1].encode(), b'"\\u%04x' % ord(lea[0]), 1)),
        ("with one part more", good[:-1] + b",0]"),
        ("with one part less", good[: good.rindex(b",")] + b"]"),
        ("that is cut short", good[:-1]),
    ):
        block = demand(cid, WHOLE)
        yield case(f"a demand {name}", "not_understood", blocks=[WHOLE, block])
        if name in {"with a space", "of another version", "with a weak key beside a good one"}:
            yield case(f"a demand {name}, and an approval", "bad_discharge", given(cid=cid), blocks=[WHOLE, block])


def discharged() -> Iterator[Case]:
    yield case("approved", "", GOOD)
    bare = token(*DEMANDING)
    yield plain("a bare token, approved", "", credential(bare, GOOD), bearer=True)
    yield plain("a bare token, approved, where none is accepted", "bearer_refused", credential(bare, GOOD))
    both = chain(LEAS, BENS)
    yield case("two demands, both approved", "", GOOD, BENS_GOOD, blocks=both)
    yield case("two demands, approved the other way round", "", BENS_GOOD, GOOD, blocks=both)
    yield case("two demands, the first approved", "needs_discharge", GOOD, blocks=both)
    yield case("two demands, the second approved", "needs_discharge", BENS_GOOD, blocks=both)
    yield case("a demand twice, approved twice", "", GOOD, given(ends=NOW + 500), blocks=chain(LEAS, LEAS))
    yield case("a demand twice, with one approval twice", "", GOOD, GOOD, blocks=chain(LEAS, LEAS))
    yield case("a demand twice, approved once", "needs_discharge", GOOD, blocks=chain(LEAS, LEAS))
    deep, path = chain([HOP], LEAS, [HOP2]), nodes(NONCES[0], NONCES[1])
    for name, node in zip(("the root", "the delegator", "the agent itself"), path, strict=True):
        yield case(f"approved for {name}", "", given(node=node), blocks=deep)
    yield case("approved before it was delegated", "", GOOD, blocks=chain(LEAS, [HOP], [["max_hops", 0]]))
    steps = [*but("root"), ["root", "R1", [["asker", NONCES[2]]]]]
    yield case("approved for a step of the root", "", given(node=nodes(NONCES[2])[1]), blocks=chain(LEAS, grant=steps))
    yield case("an intent, approved", "", given(intent=ID32), blocks=chain(LEAS, grant=[*WHOLE, ["intent", ID32]]))
    two = asking(LEA, BEN, CLEO, count=2)
    said = unsigned(statement(), two)
    for numbers in ((0, 1), (1, 0), (0, 2), (2, 1)):
        names = " and ".join(str(number + 1) for number in numbers)
        people = [(number, (LEA, BEN, CLEO)[number]) for number in numbers]
        yield case(f"approved by {names} of three", "", said.signed(*people), blocks=chain(two))
    yield case(
        "approved by the other of two",
        "",
        unsigned(statement(), asking(LEA, BEN)).signed((1, BEN)),
        blocks=chain(asking(LEA, BEN)),
    )
    yield case("narrowed by its holder", "", GOOD.narrowed([["expires", NOW + 1]], [["fresh", 30]]))
    yield case("narrowed to 32 blocks", "", GOOD.narrowed(*[[["not_before", 0]]] * 30))
    spaced = b" " + compact(statement()).encode().replace(b'"approved"', b'"\\u0061pproved"') + b"\n"
    yield case("a statement in another spelling", "", unsigned(spaced).signed((0, LEA)))
    yield case("approved as far ahead as may be", "", given(at=NOW + 5))
    yield case("approved for as long as may be", "", given(ends=NOW + LASTS))
    yield case("approved long before, and still good", "", given(at=NOW - LASTS + 1, ends=NOW + 1))
    eight = [asking(LEA, number=number) for number in range(8)]
    yield case("eight approvals", "", *(given(cid=cid) for cid in eight), blocks=chain(*eight))
    eight_of = [SigningKey(bytes([number]) * 32) for number in range(30, 46)]
    half = [asking(*eight_of, count=8, number=number) for number in range(2)]
    full = [unsigned(statement(), cid).signed(*enumerate(eight_of[:8])) for cid in half]
    yield case("16 signatures in two approvals", "", *full, blocks=chain(*half))
    yield case("17 signatures in three approvals", "too_large", *full, GOOD, blocks=chain(*half, LEAS))
    for name, blocks, by in (("the holder", KEYED_DEMAND, FIRST), ("the next holder", below(LEAS), SECOND)):
        yield case(f"{name} signs, and another approves", "", GOOD, blocks=blocks, by=by)


def texts() -> Iterator[Case]:
    """What is behind the token."""
    good = shown(DEMANDING)
    first = bound(GOOD, good)
    for name, text in (
        ("nothing", ""),
        ("no approval", "x"),
        ("a token", token(WHOLE)),
        ("a space, and an approval", f" {first}"),
        ("a discharge of another version", "capxd2_" + first[7:]),
        ("a discharge in capitals", "CAPXD1_" + first[7:]),
        ("a prefix that is cut", "capxd1"),
    ):
        yield plain(f"behind the token: {name}", "malformed", f"{good},{text}")
        yield plain(f"behind an approval: {name}", "malformed", f"{good},{first},{text}")
    yield plain("an approval alone", "malformed", first)
    yield plain("an approval before the token", "malformed", f"{first},{good}")
    yield plain("an approval behind no text", "no_token", f",{first}")
    yield plain("an approval behind a semicolon", "malformed", f"{good};{first}")
    yield plain("nine approvals", "too_large", ",".join([good, *[first] * 9]))
    yield plain("nine that are none", "too_large", good + ",x" * 9)
    yield plain("eight that are left over", "bad_discharge", ",".join([good, *[first] * 8]))
    fill = 32_768 - len(good) - len(",capxd1_")
    yield plain("a credential of 32768 characters", "bad_discharge", f"{good},capxd1_{'A' * fill}")
    yield plain("a credential of 32769 characters", "too_large", f"{good},capxd1_{'A' * (fill + 1)}")
    yield plain("a credential of 32769 characters of no approval", "too_large", f"{good},{'x' * (fill + 8)}")
    yield from undecodable(good)


def undecodable(good: str) -> Iterator[Case]:
    data = bytes_of(bound(GOOD, good))
    head, signature = field(1, b"approval") + field(2, LEAS) + b"\0", data[-34:]
    body = data[1 + len(head) : -35]
    room, nested, tail = b'[["not_before",0]]', demand(BENS), GOOD.tail()
    inner_tail = mac(tail, mac(tail, nested[0]) + mac(tail, nested[1]))
    inner = b"\x02" + head + body + caveat(nested) + b"\0" + field(6, bound_to(good, inner_tail))
    for name, changed in (
        ("nothing", b""),
        ("one byte", b"\x02"),
        ("bytes of version 3", b"\x03" + data[1:]),
        ("what is cut by a byte", data[:-1]),
        ("a byte after its end", data + b"\0"),
        ("another location", data.replace(b"\x08approval", b"\x08Approval")),
        ("a longer location", data.replace(b"\x08approval", b"\x09approvals")),
        ("no location", b"\x02" + head[10:] + body + b"\0" + signature),
        ("no cid", b"\x02" + head[:10] + b"\0" + body + b"\0" + signature),
        ("no block", bytes_of(bound(Held(LEAS, ()), good))),
        ("33 blocks", bytes_of(bound(GOOD.narrowed(*[room] * 31), good))),
        ("a third-party caveat", inner),
        ("a length that is not minimal", data.replace(b"\x01\x08app", b"\x01\x88\x00app")),
        ("a block of 4097 bytes", bytes_of(bound(GOOD.narrowed(room.ljust(4097)), good))),
        ("a signature of 31 bytes", data[:-34] + field(6, bytes(31))),
        ("no signature", data[:-34]),
        ("the bytes of a token", raw(token(WHOLE))),
    ):
        yield plain(f"a discharge of {name}", "bad_discharge", f"{good},{discharge(changed)}")
    text = bound(GOOD, good)
    lengths = {len(bytes_of(bound(GOOD.narrowed(b" " * n), good))) % 3: GOOD.narrowed(b" " * n) for n in range(3)}
    odd = bound(lengths[1], good)
    spare = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for name, strange in (
        ("with padding", text + "="),
        ("with a line end", text + "\n"),
        ("with final bits that are not zero", odd[:-1] + spare[spare.index(odd[-1]) + 1]),
        ("with one character too many", bound(lengths[0], good) + "A"),
    ):
        yield plain(f"a discharge {name}", "bad_discharge", f"{good},{strange}")
    yield plain("a good discharge, and one that is none", "bad_discharge", f"{good},{text},capxd1_AA")
    yield plain("a discharge that demands another", "bad_discharge", credential(good, discharge(inner), BENS_GOOD))


def not_of_this_token() -> Iterator[Case]:
    """Step 3: which demand a discharge answers, and whether it is bound to this presentation."""
    good = shown(DEMANDING)
    first = bound(GOOD, good)
    for name, text in (
        ("that is not bound", written(GOOD, GOOD.tail())),
        ("bound to another presentation", bound(GOOD, token(*DEMANDING, [mark(READ, NOW - 1)]))),
        ("bound to the token before it was presented", bound(GOOD, token(*DEMANDING))),
        ("bound to nothing", written(GOOD, mac(ZERO, mac(ZERO, b"") + mac(ZERO, GOOD.tail())))),
        ("bound as text is joined", written(GOOD, mac(ZERO, raw(good)[-32:] + GOOD.tail()))),
        ("with a signature of zeros", written(GOOD, ZERO)),
        ("with the signature of the token", written(GOOD, raw(good)[-32:])),
        ("without its last block", written(Held(LEAS, GOOD.blocks[:1]), bytes_of(first)[-32:])),
        ("with a block that its holder did not add", written(GOOD.narrowed([["fresh", 9]]), bytes_of(first)[-32:])),
        ("with another statement", written(given(ends=NOW + 601), bytes_of(first)[-32:])),
    ):
        yield plain(f"a discharge {name}", "bad_discharge", credential(good, text))
    for at, name in (
        (20, "the cid"),
        (-200, "the statement"),
        (-60, "the signature of a person"),
        (-1, "the signature"),
    ):
        flipped = bytearray(bytes_of(first))
        flipped[at] ^= 1
        yield plain(
            f"a discharge, a bit of {name} flipped", "bad_discharge", credential(good, discharge(bytes(flipped)))
        )
    yield case("a discharge under another key", "bad_discharge", GOOD._replace(k=OTHER_K))
    yield case("a discharge under the key of the demand as it is", "bad_discharge", under_k(good))
    yield case("an approval that is not demanded", "bad_discharge", GOOD, blocks=[WHOLE])
    yield case("an approval of another demand", "bad_discharge", BENS_GOOD)
    yield case("an approval of another demand beside a good one", "bad_discharge", GOOD, BENS_GOOD)
    yield case("an approval twice", "bad_discharge", GOOD, GOOD)
    yield case("two approvals of one demand", "bad_discharge", GOOD, given(ends=NOW + 500))
    yield case("a demand twice, approved three times", "bad_discharge", GOOD, GOOD, GOOD, blocks=chain(LEAS, LEAS))
    moved = unsigned(statement(), BENS).narrowed(GOOD.blocks[1])
    yield case("a signature of another demand", "bad_discharge", moved, blocks=chain(BENS))
    yield case(
        "bad, and nothing else is told", "bad_discharge", written(GOOD, ZERO), blocks=chain(LEAS, [["expires", 0]])
    )
    yield case("bad, and misplaced", "bad_discharge", written(GOOD, ZERO), blocks=chain(LEAS, [["task", "T1"]]))
    yield plain("bad, and another audience", "wrong_audience", credential(good, written(GOOD, ZERO)), audience="erp")
    changed = text_changed(good)
    yield plain("bad, and a token that is not authentic", "not_authentic", credential(changed, written(GOOD, ZERO)))
    other_vid: list[Block] = [WHOLE, demand(LEAS, WHOLE, k=OTHER_K)]
    yield case("a demand under another key", "bad_discharge", GOOD, blocks=other_vid)
    yield case("a demand under another key, and its approval", "", GOOD._replace(k=OTHER_K), blocks=other_vid)
    same: list[Block] = [*DEMANDING, demand(LEAS, *DEMANDING, k=OTHER_K)]
    yield case("one cid under two keys", "", GOOD, GOOD._replace(k=OTHER_K), blocks=same)
    yield case("one cid under two keys, the wrong way", "bad_discharge", GOOD._replace(k=OTHER_K), GOOD, blocks=same)


def under_k(presented: str) -> str:
    """GOOD with MACs under K, and not under what is generated of it."""
    tail = mac(K, LEAS)
    for block in GOOD.blocks:
        tail = mac(tail, block)
    return written(GOOD, bound_to(presented, tail))


def text_changed(presented: str) -> str:
    data = bytearray(raw(presented))
    data[-1] ^= 1
    return "capx1_" + b64u(bytes(data))


def shapes() -> Iterator[Case]:
    """Step 4: what stands in a discharge, and where."""

    def shaped(name: str, expected: str, said: list[Any] | bytes, *behind: list[Any] | bytes, **more: Any) -> Case:
        return case(name, expected, unsigned(said).signed((0, LEA)).narrowed(*behind), **more)

    whole = statement()
    for at, name in enumerate(("approved", "task", "allow", "expires")):
        yield shaped(f"a statement without its {name}", "bad_discharge", [*whole[:at], *whole[at + 1 :]])
    yield shaped("a statement that begins with its task", "bad_discharge", [whole[1], whole[0], *whole[2:]])
    yield shaped("a statement whose task comes late", "bad_discharge", [whole[0], *whole[2:], whole[1]])
    late = [*statement(), ["intent", ID32]]
    yield shaped(
        "a statement whose intent comes late",
        "bad_discharge",
        late,
        blocks=chain(LEAS, grant=[*WHOLE, ["intent", ID32]]),
    )
    yield shaped("a statement that expires twice", "bad_discharge", [*whole, ["expires", NOW + 9]])
    yield shaped("a statement that allows twice", "", [*whole, ["allow", [["crm.*"]]]])
    yield shaped("a statement whose allow is not understood", "bad_discharge", statement(allow=[]))
    yield shaped("a statement that is no JSON", "bad_discharge", b"junk")
    yield shaped(
        "a statement of 257 brackets", "bad_discharge", compact(whole).encode()[:-1] + b"," + b"[" * 253 + b"]" * 254
    )
    yield shaped("a statement of 65 caveats", "bad_discharge", [*whole, *[["not_before", 0]] * 61])
    yield shaped("a statement of 64 caveats", "", [*whole, *[["not_before", 0]] * 60])
    marks: list[tuple[str, Any]] = [
        ("approved", whole[0]),
        ("task", ["task", "T1"]),
        ("intent", ["intent", ID32]),
        ("root", ["root", "R1"]),
        ("holder", ["holder", public(FIRST)]),
        ("hop", HOP),
        ("max_hops", ["max_hops", 9]),
        ("call", mark(READ)),
        ("sig", ["sig", SIG64]),
        ("signed", ["signed", 0, SIG64]),
        ("counter", ["budget", "calls", "9", "C1"]),
    ]
    for name, one in marks:
        yield shaped(f"a statement with a {name}", "bad_discharge", [*whole, one])
        yield shaped(f"narrowed by a {name}", "bad_discharge", whole, [one])
    for name, claim in (
        ("of an audience in capitals", ["approved", "CRM", NODE, SHOWN, NOW]),
        ("of a short node", ["approved", "crm", NODE[:-2], SHOWN, NOW]),
        ("of a short digest", ["approved", "crm", NODE, SHOWN[:-2], NOW]),
        ("at a fraction of a second", ["approved", "crm", NODE, SHOWN, NOW + 0.5]),
        ("with one field more", ["approved", "crm", NODE, SHOWN, NOW, 1]),
    ):
        yield shaped(f"a claim {name}", "bad_discharge", [claim, *whole[1:]])
    yield from how_signed()
    for name, discharge_mark in (("approved", whole[0]), ("signed", ["signed", 0, SIG64])):
        yield told(f"{name} in the authority's block", "misplaced", grant=[*WHOLE, discharge_mark])
        yield told(f"{name} in a holder's block", "misplaced", [discharge_mark])
    bad = unsigned(whole)
    yield case("a bad shape, and misplaced", "misplaced", bad, blocks=chain(LEAS, [["task", "T1"]]))
    yield case("a bad shape, and incomplete", "incomplete_authority", bad, blocks=chain(LEAS, grant=but("allow")))
    yield case("a bad shape, and expired", "bad_discharge", bad, blocks=chain(LEAS, [["expires", 0]]))
    yield case("a bad shape, and presented before", "bad_discharge", bad, seen=ids(*DEMANDING, [mark(READ)])[-1:])
    yield plain("a bad shape, and a bare token", "bad_discharge", credential(token(*DEMANDING), bad))
    yield case("a bad shape, and another demand", "bad_discharge", bad, blocks=chain(LEAS, BENS))
    yield case("a bad shape, and 17 budgets", "too_large", bad, blocks=chain(LEAS, [ONCE] * 17))
    yield case("a bad shape, and as many budgets as may be", "bad_discharge", bad, blocks=chain(LEAS, [ONCE] * 16))
    for own, theirs, expected in ((15, 1, " ".join(["no_meter"] * 16)), (16, 1, "too_large"), (0, 17, "too_large")):
        yield case(
            f"{own} budgets, and {theirs} in its approval",
            expected,
            given(*[ONCE] * theirs),
            blocks=chain(LEAS, [ONCE] * own or [["fresh", 99]]),
        )
    yield case(
        "budgets behind the signatures count", "too_large", GOOD.narrowed([ONCE]), blocks=chain(LEAS, [ONCE] * 16)
    )


def how_signed() -> Iterator[Case]:
    """As many blocks with one signature each as the demand wants, and no others."""
    two = asking(LEA, BEN, CLEO, count=2)
    said = unsigned(statement(), two)
    lea, ben, cleo = (0, LEA), (1, BEN), (2, CLEO)
    yield case("nobody signed", "bad_discharge", unsigned(statement()))
    yield case("nobody signed, and it was narrowed", "bad_discharge", unsigned(statement()).narrowed([["fresh", 9]]))
    yield case("one of two signed", "bad_discharge", said.signed(lea), blocks=chain(two))
    yield case(
        "one of two signed, and it was narrowed",
        "bad_discharge",
        said.signed(lea).narrowed([["fresh", 9]]),
        blocks=chain(two),
    )
    yield case("three signed, and two must", "bad_discharge", said.signed(lea, ben, cleo), blocks=chain(two))
    yield case("two signed, and one must", "bad_discharge", GOOD.signed((0, LEA)))
    yield case(
        "signed behind what narrows it", "bad_discharge", unsigned(statement()).narrowed([["fresh", 9]]).signed(lea)
    )
    one, other = (said.signed(each).blocks[1] for each in (lea, ben))
    together = said.narrowed(one[:-1] + b"," + other[1:], [["fresh", 9]])
    yield case("two signatures in one block", "bad_discharge", together, blocks=chain(two))
    beside = unsigned(statement()).narrowed(GOOD.blocks[1][:-1] + b',["fresh",9]]')
    yield case("a restriction beside a signature", "bad_discharge", beside)
    for name, odd in (
        ("of 63 bytes", ["signed", 0, b64u(bytes(63))]),
        ("of a negative number", ["signed", -1, SIG64]),
        ("of no number", ["signed", SIG64]),
        ("of a number as text", ["signed", "0", SIG64]),
    ):
        yield case(f"an approval with a signature {name}", "bad_discharge", unsigned(statement()).narrowed([odd]))


def misfits() -> Iterator[Case]:
    """Step 6.1: one reason for each way in which an approval does not fit."""
    once, twice = "bad_discharge", "bad_discharge bad_discharge"
    yield case("approved for another audience", once, given(audience="erp"))
    yield case("approved for another task", once, given(task="T2"))
    on_intent = chain(LEAS, grant=[*WHOLE, ["intent", ID32]])
    yield case("approved for another intent", once, given(intent=b64u(bytes(32))), blocks=on_intent)
    yield case("approved for no intent", once, GOOD, blocks=on_intent)
    yield case("approved for an intent, and it has none", once, given(intent=ID32))
    child = nodes(NONCES[0])[1]
    yield case("approved for a child", once, given(node=child))
    yield case("approved for a sibling", once, given(node=child), blocks=chain(LEAS, [HOP2]))
    yield case("approved under another root", once, given(node=nodes(root="R2")[0]))
    yield case("approved for longer than may be", once, given(ends=NOW + LASTS + 1))
    yield case("approved in the future", once, given(at=NOW + 6))
    yield case("approved before it ends, and too long", once, given(at=NOW - LASTS, ends=NOW + 1))
    yield case("signed by somebody else", once, given(by=THIEF))
    yield case("signed by the agent's own word", once, unsigned(statement()).narrowed([["signed", 0, SIG64]]))
    changed = unsigned(statement(allow=[["crm.*"]])).narrowed(GOOD.blocks[1])
    yield case("signed, and the statement was changed", once, changed)
    same = unsigned(b" " + GOOD.blocks[0]).narrowed(GOOD.blocks[1])
    yield case("signed, and a space was added", once, same)
    message = digest(b"capx/1/approval", GOOD.digests()[1])
    for name, over in (("the statement itself", GOOD.blocks[0]), ("dd of the statement", GOOD.digests()[1])):
        yield case(
            f"signed over {name}", once, unsigned(statement()).narrowed([["signed", 0, b64u(LEA.sign(over).signature)]])
        )
    good = LEA.sign(message).signature
    for name, odd in (
        (
            "S above the order of the group",
            good[:32] + (int.from_bytes(good[32:], "little") + about_keys.ORDER).to_bytes(32, "little"),
        ),
        ("R of small order", about_keys.SMALL_ORDER + good[32:]),
        ("R and S zero", bytes(64)),
    ):
        yield case(f"approved, {name}", once, unsigned(statement()).narrowed([["signed", 0, b64u(odd)]]))
    yield from numbers()
    yield from who_acts()
    yield case("another audience and another task", twice, given(audience="erp", task="T2"))
    everything = given(audience="erp", task="T2", intent=ID32, node=child, at=NOW + 6, ends=NOW + 9999, by=THIEF)
    yield case("nothing of an approval fits", " ".join([once] * 7), everything)
    both = [given(task="T2"), given(task="T3", cid=BENS, by=BEN)]
    yield case("two approvals for other tasks", twice, *both, blocks=chain(LEAS, BENS))
    wrong = given(task="T2")
    yield case("a misfit, and another demand", "bad_discharge needs_discharge", wrong, blocks=chain(LEAS, BENS))
    yield case("a misfit, and news too old", "bad_discharge stale_liveness", wrong, age=31)
    yield case("a misfit, and a thief", "hop_signature bad_discharge", wrong, blocks=KEYED_DEMAND, by=about_keys.THIEF)
    yield case("a misfit, and not yet", "bad_discharge not_yet", given(["not_before", NOW + 1], task="T2"))
    yield case(
        "a misfit, and another action", "bad_discharge action_not_allowed", wrong, received=tool("crm.notes.add")
    )
    yield case("a misfit, and expired", "expired", wrong, blocks=chain(LEAS, [["expires", 0]]))
    yield case("a misfit, and another call", "call_mismatch", wrong) | {"received": tool(id=1)}
    yield case("a misfit, and presented before", "replayed", wrong, seen=ids(*DEMANDING, [mark(READ)])[-1:])


def numbers() -> Iterator[Case]:
    once, twice = "bad_discharge", "bad_discharge bad_discharge"
    two = asking(LEA, BEN, CLEO, count=2)
    said, blocks = unsigned(statement(), two), chain(two)
    yield case("one person signed twice", once, said.signed((0, LEA), (0, LEA)), blocks=blocks)
    yield case("one person signed under two numbers", once, said.signed((0, LEA), (1, LEA)), blocks=blocks)
    yield case("two people signed under one number", twice, said.signed((0, LEA), (0, BEN)), blocks=blocks)
    yield case("two people signed the wrong way round", twice, said.signed((0, BEN), (1, LEA)), blocks=blocks)
    yield case("a number that is not of a key", once, said.signed((0, LEA), (3, CLEO)), blocks=blocks)
    yield case("the largest number", once, said.signed((0, LEA), (2**53 - 1, CLEO)), blocks=blocks)
    yield case("no number is of a key", once, unsigned(statement()).signed((1, LEA)))
    yield case("one of two is not good", once, said.signed((0, LEA), (1, THIEF)), blocks=blocks)
    yield case("neither of two is good", twice, said.signed((0, THIEF), (1, THIEF)), blocks=blocks)


def who_acts() -> Iterator[Case]:
    """Who approves does not act."""
    for name, person, blocks, by in (
        ("the holder", FIRST, chain(asking(FIRST), grant=KEYED), FIRST),
        ("the holder above", FIRST, below(asking(FIRST)), SECOND),
        ("the next holder", SECOND, below(asking(SECOND)), SECOND),
    ):
        cid = asking(person)
        yield case(f"approved by {name}", "bad_discharge", given(cid=cid, by=person), blocks=blocks, by=by)
    cid = asking(FIRST, LEA)
    lea = unsigned(statement(), cid).signed((1, LEA))
    yield case("the holder could approve, and another does", "", lea, blocks=chain(cid, grant=KEYED), by=FIRST)
    both = asking(FIRST, LEA, count=2)
    said = unsigned(statement(), both).signed((0, FIRST), (1, LEA))
    yield case("approved by the holder and another", "bad_discharge", said, blocks=chain(both, grant=KEYED), by=FIRST)
    forged = unsigned(statement(), asking(FIRST)).signed((0, THIEF))
    yield case(
        "as if approved by the holder",
        "bad_discharge bad_discharge",
        forged,
        blocks=chain(asking(FIRST), grant=KEYED),
        by=FIRST,
    )


def deaths() -> Iterator[Case]:
    held = given(["until_completed", "T7"]).narrowed([["until_completed", "T8"]])
    made = held.ids()
    for at, name in enumerate(("the demand", "the statement", "the signature", "what its holder narrowed")):
        yield case(f"an approval, {name} revoked", "revoked", held, deaths=dead(made[at]))
    yield case("an approval that was not narrowed so", "", given(["until_completed", "T7"]), deaths=dead(made[3]))
    yield case("the demand of no approval revoked", "needs_discharge", deaths=dead(made[0]))
    yield case("an approval whose statement is another", "", GOOD, deaths=dead(made[1]))
    yield case("the key of who approved revoked", "revoked", GOOD, deaths=dead(key_id(LEA)))
    cid = asking(LEA, BEN)
    by = [unsigned(statement(), cid).signed(each) for each in ((0, LEA), (1, BEN))]
    for name, one, expected in (("approved", by[1], "revoked"), ("could approve", by[0], "")):
        yield case(f"the key of who {name} revoked, of two", expected, one, blocks=chain(cid), deaths=dead(key_id(BEN)))
    yield case("the key of who could approve revoked", "needs_discharge", deaths=dead(key_id(LEA)))
    for task in ("T7", "T8"):
        yield case(f"an approval until {task}", "task_completed", held, deaths=dead(**{task: "task_completed"}))
    yield case("an approval until the end of its task", "task_withdrawn", held, deaths=dead(T1="task_withdrawn"))
    yield case("the node of an approval revoked", "revoked", GOOD, deaths=dead(NODE))
    ended: Case = {
        "tasks": {"T1": "task_expired", "T7": "task_completed", "T8": "task_withdrawn"},
        "ids": {made[1]: "revoked", key_id(LEA): "task_expired", ids(*DEMANDING)[-1]: "task_completed"},
        "kids": {kid(ROOT_KEY): "task_withdrawn"},
    }
    order = "task_expired task_completed task_completed task_withdrawn revoked task_expired task_withdrawn"
    yield case("deaths of a token and its approval", order, held, deaths=ended)
    second = given(["until_completed", "T9"], cid=BENS, by=BEN)
    two: Case = {"tasks": {"T7": "task_completed", "T9": "task_withdrawn"}, "ids": {key_id(LEA): "revoked"}}
    order = "task_completed revoked task_withdrawn"
    yield case("deaths in the order of the demands", order, second, held, blocks=chain(LEAS, BENS), deaths=two)
    keys: Case = {"tasks": {}, "ids": {key_id(FIRST): "task_completed", key_id(LEA): "revoked"}}
    yield case(
        "the keys of a holder and an approver",
        "task_completed revoked",
        GOOD,
        blocks=KEYED_DEMAND,
        by=FIRST,
        deaths=keys,
    )
    presented = ids(*DEMANDING, [mark(READ)])[-1]
    other: Case = {"tasks": {}, "ids": {presented: "task_completed", made[1]: "revoked"}}
    yield case("a presentation and the approval behind it", "task_completed revoked", held, deaths=other)
    again = [given(cid=asking(LEA, number=number)) for number in range(2)]
    twice = chain(*(each.cid for each in again))
    yield case("a dead key that approved twice", "revoked", *again, blocks=twice, deaths=dead(key_id(LEA)))
    for at, expected in ((NOW + 1, ""), (NOW, "expired"), (0, "expired")):
        yield case(
            f"an approval that expires {max(at - NOW, -1):+} s from now",
            expected,
            given(at=at - 1 if at else 0, ends=at),
        )
    yield case("an approval narrowed to now", "expired", GOOD.narrowed([["expires", NOW]]))
    many = given(at=NOW - 9, ends=NOW).narrowed([["expires", 1]])
    yield case(
        "every expiry is told, of approvals too", "expired expired expired", many, blocks=chain([["expires", 2]], LEAS)
    )
    yield case(
        "an expired approval and a death",
        "task_completed expired",
        given(["until_completed", "T7"], at=NOW - 9, ends=NOW),
        deaths=dead(T7="task_completed"),
    )
    yield case(
        "an expired approval, and presented before",
        "expired",
        given(at=NOW - 9, ends=NOW),
        seen=ids(*DEMANDING, [mark(READ)])[-1:],
    )


def restrictions() -> Iterator[Case]:
    """Step 7.4: an approval restricts the call, and nothing more."""
    pinned = [["crm.read", [["id", ["eq", 1]]]]]
    one = given(allow=pinned)
    yield case("approved with its argument", "", one, received=tool(id=1))
    yield case("approved for another argument", "argument_refused", one, received=tool(id=2))
    yield case(
        "approved for true",
        "argument_refused",
        given(allow=[["crm.read", [["id", ["eq", True]]]]]),
        received=tool(id=1),
    )
    yield case("approved without this argument", "argument_not_named", one, received=tool(id=1, to="x"))
    yield case("approved with an argument that is missing", "argument_refused", one)
    yield case("approved for another action", "action_not_allowed", given(allow=[["crm.notes.add", []]]))
    wide = given(allow=[["crm.*"]])
    yield case("approved, and the token does not allow it", "action_not_allowed", wide, received=tool("crm.export"))
    yield case(
        "neither the token nor the approval allows it",
        "action_not_allowed action_not_allowed",
        GOOD,
        received=tool("crm.export"),
    )
    yield case("approved where", "attribute_missing", given(["where", "region", ["eq", "eu"]]))
    yield case(
        "approved where, and it is so",
        "",
        given(["where", "region", ["eq", "eu"]]),
        call={"attributes": {"region": "eu"}},
    )
    yield case("approved, and not yet", "not_yet", given(["not_before", NOW + 1]))
    yield case("approved, and fresher news", "stale_liveness", given(["fresh", 4]), age=5)
    yield case("approved once, and nothing counts", "no_meter", given(ONCE))
    yield case("narrowed to one use, and nothing counts", "no_meter", GOOD.narrowed([ONCE]))
    acme = chain(LEAS, grant=[*WHOLE, ["tenant", "Acme"]])
    call: Case = {"call": {"tenant": "Acme"}}
    yield case("approved for its tenant", "", given(["tenant", "Acme"]), blocks=acme, **call)
    yield case("approved for another tenant", "wrong_tenant", given(["tenant", "Globex"]), blocks=acme, **call)
    yield case("approved for a tenant that nobody granted", "incomplete_authority", given(["tenant", "Acme"]), **call)
    yield case("approved with what nobody knows", "not_understood", given(["near", 5]))
    yield case("narrowed by what nobody knows", "not_understood", GOOD.narrowed([["near", 5]]))
    yield case("narrowed by a block that is no JSON", "not_understood", GOOD.narrowed(b"junk"))
    yield case("narrowed by an empty block", "not_understood", GOOD.narrowed(b""))
    yield case("narrowed by 65 caveats", "bad_discharge", GOOD.narrowed([["not_before", 0]] * 65))
    yield case("narrowed by what refuses", "action_not_allowed", GOOD.narrowed([["allow", [["crm.notes.add"]]]]))
    order = "attribute_missing not_yet action_not_allowed stale_liveness"
    first = given(["not_before", NOW + 1]).narrowed([["allow", [["crm.notes.add"]]]])
    second = given(["fresh", 4], cid=BENS, by=BEN)
    yield case(
        "token, first approval, second approval",
        order,
        second,
        first,
        blocks=chain(LEAS, BENS, [["where", "x", ["eq", 1]]]),
        age=5,
    )
    yield case(
        "refusals of an approval beyond the 32nd",
        " ".join(["not_yet"] * 32),
        GOOD.narrowed([["not_before", NOW + 1]] * 40),
    )


def at_the_authority() -> Iterator[Case]:
    """Demands refuse no ask for a grant or for an approval; approvals are judged as a whole."""
    actions = ("grant.request", "approval.request", "task.complete")
    granted = [*but("allow"), ["tenant", "Acme"], ["allow", [[action] for action in actions]]]

    def asked(name: str, expected: str, *held: Held, action: str = "task.complete", **more: Any) -> Case:
        blocks = more.pop("blocks", None) or chain(LEAS, grant=granted, audience="authority")
        return case(
            f"at the authority: {name}",
            expected,
            *held,
            blocks=blocks,
            audience="authority",
            keys={kid(ROOT_KEY): audience_key(ROOT_KEY, "authority").hex()},
            received=tool(action),
            call={"tenant": "Acme"},
            **more,
        )

    def approving(*more: Any, **parts: Any) -> Held:
        return given(*more, audience="authority", allow=[["task.complete", []]], **parts)

    yield asked("a demand, and an ask for a grant", "", action="grant.request")
    yield asked("a demand, and an ask for an approval", "", action="approval.request")
    yield asked("a demand, and the end of the task", "needs_discharge")
    strange = chain((b"vid", b"cid"), grant=granted, audience="authority")
    closed: list[Block] = [granted, (b"vid", LEAS)]
    for action in actions[:2]:
        yield asked(f"no demand, and {action}", "not_understood", action=action, blocks=strange)
        yield asked(f"a demand that does not open, and {action}", "", action=action, blocks=closed)
    yield asked("approved", "", approving())
    yield asked("approved elsewhere", "bad_discharge action_not_allowed", GOOD)
    yield asked("approved where", "attribute_missing", approving(["where", "region", ["eq", "eu"]]))
    yield asked("approved once, and nothing counts", "no_meter", approving(ONCE))
    yield asked("approved with a service's own", "not_understood", approving(["acme.region", "eu"]))
    yield asked("narrowed where", "attribute_missing", approving().narrowed([["where", "region", ["eq", "eu"]]]))
    many = chain(LEAS, [ONCE] * 16, grant=granted, audience="authority")
    yield asked("approved once, and 16 budgets that do not count", "no_meter", approving(ONCE), blocks=many)
    yield asked(
        "an approval of another call, and an ask for a grant", "action_not_allowed", approving(), action="grant.request"
    )
