"""Cases about blocks, marks and what the authority's block must have."""

from collections.abc import Iterator
from typing import Any

from tests.project.vectors.generate import b64u, compact
from tests.project.vectors.making import HOP, HOP2, KEY32, NONCES, NOW, READ, SIG64, WHOLE, Case, but, mark, token, told


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
    odd: list[tuple[str, Any]] = [
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
        ("an attribute that may be absent, deep within", ["where", "x", ["any", [["not", ["absent"]], ["eq", 1]]]]),
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
    ]  # fmt: skip
    for name, one in odd:
        yield told(name, "not_understood", [one])
    yield told("1e3 for an integer", "not_understood", b'[["expires",1e10]]')
    yield told("5.0 for an integer", "not_understood", b'[["expires",9999999999.0]]')
    yield told("-0 for an integer", "expired", b'[["expires",-0]]')
    yield told("a number that is no double", "not_understood", b'[["where","args.x",["eq",1e400]]]')
    yield told("no UTF-8 beside a caveat", "not_understood", b'[["expires",0],["near","\xff"]]')
    grant = compact([*WHOLE, ["near", "?"]]).encode().replace(b"?", b"\xff")
    yield told("no UTF-8 in the authority's block", "incomplete_authority", grant=grant)
    yield told(
        "what is not understood does not hide its neighbours",
        "not_yet not_understood wrong_tenant",
        [["not_before", NOW + 1], ["near", 1], ["tenant", "Globex"]],
        grant=[*WHOLE, ["tenant", "Acme"]],
        call={"tenant": "Acme"},
    )
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
    for name, held in (("task", ["task", "T1"]), ("root", ["root", "R1"]), ("max_hops", ["max_hops", 1])):
        yield told(f"{name} twice in the authority's block", "misplaced", grant=[*WHOLE, held, held])
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
    yield told("a first holder with a key", "hop_signature hop_unsigned", grant=[*WHOLE, ["holder", KEY32]])
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
    yield told(
        "max_hops does not count the path of the root",
        "",
        grant=[*but("root"), ["root", "R1", [["asker", NONCES[2]]]], ["max_hops", 0]],
    )


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
        more: Case = {"call": {"tenant": "Acme"}} if name == "tenant" else {}
        yield told(f"{name} where it is required", "", grant=[*WHOLE, have], require=[name], **more)
    acme: Case = {"call": {"tenant": "Acme"}}
    yield told(
        "a tenant from a holder where it is required",
        "incomplete_authority",
        [["tenant", "Acme"]],
        require=["tenant"],
        **acme,
    )
    yield told("a call with a tenant that nobody granted", "incomplete_authority", **acme)
    yield told("a call with a tenant that a holder claims", "incomplete_authority", [["tenant", "Acme"]], **acme)
