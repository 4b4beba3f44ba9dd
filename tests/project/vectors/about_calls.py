"""Cases about caveats, presentations, deaths and third-party caveats."""

from collections.abc import Iterator
from typing import Any

from tests.project.vectors.generate import ISSUED_AT, ROOT_KEY, b64u
from tests.project.vectors.making import (
    GET,
    HOP,
    HOP2,
    MCP,
    NONCES,
    NOW,
    OTHER_KEY,
    POST,
    READ,
    WHOLE,
    Case,
    audience_key,
    but,
    dead,
    dead_kids,
    dead_up_to,
    ids,
    kid,
    mark,
    nodes,
    token,
    told,
    tool,
)


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
        yield told(
            f"a tenant in {'the same' if one == other else 'another'} normal form",
            expected,
            grant=[*WHOLE, ["tenant", one]],
            call={"tenant": other},
        )
    yield told(
        "a tenant of 128 emoji, with delimiters",
        "",
        grant=[*WHOLE, ["tenant", '"],["' + "\U0001f600" * 123]],
        call={"tenant": '"],["' + "\U0001f600" * 123},
    )

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

    def arguments(name: str, expected: str, entries: list[Any], **args: Any) -> Case:
        return told(name, expected, [["allow", entries]], received=tool(**args))

    yield arguments("arguments are free without pairs", "", [["crm.read"]], id=1)
    yield arguments("no arguments where none may be", "", [["crm.read", []]])
    yield arguments("an argument where none may be", "argument_not_named", [["crm.read", []]], id=1)
    pinned = [["crm.read", [["id", ["eq", 1]]]]]
    yield arguments("the argument", "", pinned, id=1)
    yield arguments("another value", "argument_refused", pinned, id=2)
    yield arguments("an argument that is missing", "argument_refused", pinned)
    yield arguments("an argument that is not named", "argument_not_named", pinned, id=1, to="x")
    yield arguments("an argument refused and one not named", "argument_refused", pinned, id=2, to="x")
    others = [["crm.read", [["id", ["eq", 1]], ["*", ["prefix", "a"]]]]]
    yield arguments("all others judged, and good", "", others, id=1, to="ab", cc="a")
    yield arguments("all others judged, one refused", "argument_refused", others, id=1, to="ab", cc="b")
    yield arguments("an argument whose name is a star", "argument_refused", others, **{"id": 1, "*": "b"})
    yield arguments("one that may be absent", "", [["crm.read", [["id", ["absent"]]]]])
    yield arguments("one that must be absent", "argument_refused", [["crm.read", [["id", ["absent"]]]]], id=1)
    yield arguments("null is not absent", "argument_refused", [["crm.read", [["id", ["absent"]]]]], id=None)
    yield arguments("absent or 1", "", [["crm.read", [["id", ["any", [["absent"], ["eq", 1]]]]]]])
    yield arguments("not absent, and it is missing", "argument_refused", [["crm.read", [["id", ["not", ["absent"]]]]]])
    yield arguments("the second entry fits", "", [*pinned, ["crm.read", [["id", ["eq", 2]]]]], id=2)
    yield arguments("the first entry that matches says why", "argument_not_named", [["crm.read", []], *pinned], id=2)
    two: list[Any] = [["crm.read", [["to", ["eq", "a"]]]], ["crm.read", [["id", ["eq", 1]]]]]
    yield arguments("the entry that comes furthest says why", "argument_not_named", two, id=1, cc="b")
    yield arguments("the first of those that come as far says why", "argument_refused", two, id=2, to="b")
    beside: list[Any] = [["crm.notes.*", []], *pinned]
    yield arguments("an entry for another action says nothing", "argument_refused", beside, id=2)
    yield arguments(
        "an argument name with an accent", "", [["crm.read", [["caf\u00e9 1", ["eq", 1]]]]], **{"caf\u00e9 1": 1}
    )

    def untouched(name: str, expected: str, *caveats: Any, **args: Any) -> Case:
        defaults = {name: value for name, value in {"note": "", "dry": False}.items() if name not in args}
        more: Case = {"call": {"args": args, "defaults": defaults}}
        return told(name, expected, [*caveats], received=tool(**args), **more)

    def entry(*pairs: Any) -> Any:
        return ["allow", [["crm.read", [*pairs]]]]

    id_1, empty = ["id", ["eq", 1]], ["length", 0, 0]
    false_or_empty = ["any", [["eq", False], empty]]
    yield untouched("defaults that an entry does not speak of", "", entry(id_1), id=1)
    yield untouched("defaults where no argument may be", "", entry())
    yield untouched("a default that was given is an argument", "argument_not_named", entry(), dry=True)
    yield untouched("a default as its pair has it", "", entry(id_1, ["note", empty]), id=1)
    yield untouched("a default that its pair refuses", "argument_refused", entry(id_1, ["note", ["eq", "x"]]), id=1)
    yield untouched("a default is not absent", "argument_refused", entry(id_1, ["note", ["absent"]]), id=1)
    yield untouched("a pair for all others judges each default", "argument_refused", entry(id_1, ["*", empty]), id=1)
    yield untouched("a pair for all others, and good", "", entry(id_1, ["*", false_or_empty]), id=1)
    yield untouched("a where on a default", "", ["where", "args.note", empty], id=1)
    yield untouched("a where that a default does not meet", "argument_refused", ["where", "args.dry", ["eq", True]])
    yield untouched("a where on an argument without a default", "attribute_missing", ["where", "args.id", ["eq", 1]])
    named = entry(id_1, ["note", empty], ["dry", ["eq", False]])
    yield untouched("an entry does not see what another one names", "", named, entry(id_1), id=1)

    def where(name: str, expected: str, fact: str, rule: Any, attributes: Any = None, **args: Any) -> Case:
        more: Case = {"call": {"args": args, "attributes": attributes}} if attributes else {}
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
    many = [["budget", "calls", "1"]] * 17
    yield told("17 budgets, and no allow", "incomplete_authority", many, grant=but("allow"))
    yield told("17 budgets, and a mark that is misplaced", "misplaced", many, [["task", "T1"]])
    yield told("17 budgets, and a bare token", "too_large", token=token(WHOLE, many))
    yield told("17 budgets", "too_large", [["budget", "calls", "1"]] * 16, [["budget", "eur", "1"]])
    yield told(
        "one denial tells all",
        "stale_liveness too_many_hops not_understood not_yet action_not_allowed",
        [HOP, ["not_before", NOW + 1]],
        (b"vid", b"cid"),
        [["allow", [["crm.export"]]]],
        grant=[*WHOLE, ["max_hops", 0]],
        age=99,
    )
    yield told(
        "a token that has ended tells nothing else",
        "task_completed revoked expired",
        [HOP, ["expires", 1]],
        (b"vid", b"cid"),
        [["allow", [["crm.export"]]]],
        grant=[*WHOLE, ["max_hops", 0]],
        age=99,
        deaths=dead(nodes(NONCES[0])[1], T1="task_completed"),
    )


def presentations() -> Iterator[Case]:
    yield told("a bare token", "bearer_refused", token=token(WHOLE))
    yield told("a bare token that refuses besides", "bearer_refused", token=token(WHOLE, [["not_before", NOW + 1]]))
    yield told("a bare token that has expired", "expired", token=token(WHOLE, [["expires", 0]]))
    yield told("a bare token where it is accepted", "", token=token(WHOLE), bearer=True)
    yield told(
        "a bare token where it is accepted, judged", "expired", token=token(WHOLE, [["expires", 0]]), bearer=True
    )
    yield told(
        "a presentation where bare tokens are accepted",
        "call_mismatch",
        bearer=True,
        token=token(WHOLE, [mark(tool("crm.write"))]),
    )
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
    yield told("presented before, and without news", "replayed", seen=[presented], age=None)
    yield told("presented before, and dead", "task_completed", seen=[presented], deaths=dead(T1="task_completed"))
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
    yield misfit(
        "names beyond the first plane sort as UTF-16 does",
        READ,
        {**READ, "args": {"\ufb33": 1, "\U0001f600": 2}},
        "",
        written='{"action":"crm.read","args":{"\U0001f600":2,"\ufb33":1}}',
    )
    yield misfit(
        "texts are escaped as little as may be",
        READ,
        {**READ, "args": {"x": '\u2028</\x7f\x1f\n"\\\u00e9'}},
        "",
        written='{"action":"crm.read","args":{"x":"\u2028</\x7f\\u001f\\n\\"\\\\\u00e9"}}',
    )
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
    yield told("a request of MCP, whose action the resource works out", "", received=MCP, **facts)
    named = {"name": "write", "arguments": {"path": "/a"}}
    changes: list[tuple[str, Case]] = [
        ("method", {"method": "prompts/get"}),
        ("tool", {"params": named}),
        ("argument", {"params": {"name": "read", "arguments": {"path": "/b"}}}),
        ("set of arguments", {"params": {"name": "read", "arguments": {}}}),
    ]
    for name, change in changes:
        yield misfit(f"of MCP for another {name}", MCP, {**MCP, **change}, **facts)
    yield misfit("for a request of MCP, and a tool call came", MCP, READ)
    swapped = token(WHOLE, [["call", "http", *mark(READ)[2:]]])
    yield told("the digest of a tool call under the other profile", "call_mismatch", token=swapped)
    late: Case = {"expected": "call_window", "now": NOW + 99}
    yield misfit("a window that has passed is told before another call", tool("crm.write"), READ, **late)
    yield misfit("another call is told before a window that has not begun", tool("crm.write"), READ, now=NOW - 9)
    yield told("an expiry is told before a window that has passed", "expired", [["expires", NOW + 98]], now=NOW + 99)
    yield told(
        "caveats judge what is executed, not what was sent",
        "argument_refused",
        [["where", "args.id", ["eq", 1]]],
        received=tool(),
        call={"action": "crm.read", "args": {"id": 2}},
    )
    yield told(
        "caveats judge the action that is executed", "action_not_allowed", call={"action": "crm.export", "args": {}}
    )


def deaths() -> Iterator[Case]:
    blocks = [WHOLE, [HOP, ["until_completed", "T2"]], [["max_hops", 1]], [HOP2]]
    made, path, later = ids(*blocks, [mark(READ)]), nodes(NONCES[0], NONCES[1]), blocks[1:]
    made_by = ("minting", "the authority", "the first hop", "a block without a hop", "the last hop", "the presenter")
    for at, name in enumerate(made_by):
        yield told(f"the id of what {name} made revoked", "revoked", *later, deaths=dead(made[at]))
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
    yield told(
        "deaths in their order",
        "task_withdrawn task_completed revoked revoked revoked",
        *later,
        deaths=dead(made[-1], made[0], path[2], T2="task_completed", T1="task_withdrawn"),
    )
    yield told(
        "the root named as the task is",
        "task_completed",
        grant=[*but("root"), ["root", "T1"]],
        deaths=dead(T1="task_completed"),
    )
    yield told("a death is told without stale news", "revoked", deaths=dead(made[0]), age=31)
    yield told("a death and an expiry are told together", "revoked expired", [["expires", 0]], deaths=dead(made[0]))
    yield told("a death is told without other refusals", "revoked", [["not_before", NOW + 1]], deaths=dead(made[0]))
    yield told("a death is told before another call", "revoked", deaths=dead(made[0]), received=tool("crm.write"))
    yield told("every expiry is told", "expired expired", [["expires", 1]], [HOP, ["expires", 0]])


def keys_and_instants() -> Iterator[Case]:
    made = ids(WHOLE, [HOP], [mark(READ)])
    own = kid(ROOT_KEY)
    yield told("its kid revoked", "revoked", deaths=dead_kids(own))
    yield told("its kid revoked, further down", "revoked", [HOP], deaths=dead_kids(own))
    yield told("another kid revoked", "", deaths=dead_kids(kid(OTHER_KEY)))
    yield told("a task whose id is the text of its kid", "", deaths=dead(**{own: "task_completed"}))
    yield told("its kid and its task", "task_completed revoked", deaths=dead_kids(own, tasks={"T1": "task_completed"}))
    yield told(
        "a kid is told after the presentation",
        "revoked task_withdrawn",
        [HOP],
        deaths=dead_kids(ids={made[-1]: "revoked"}, kids={own: "task_withdrawn"}),
    )
    for seconds, expected in ((-1, ""), (0, "revoked"), (1, "revoked"), (9_000_000, "revoked")):
        yield told(
            f"all revoked up to {seconds:+} s from when it was issued", expected, deaths=dead_up_to(ISSUED_AT + seconds)
        )
    yield told("two instants are told once", "revoked", deaths=dead_up_to(ISSUED_AT, ISSUED_AT + 9))
    yield told("the later of two instants counts", "revoked", deaths=dead_up_to(ISSUED_AT, ISSUED_AT - 9))
    yield told("an instant before, of two", "", deaths=dead_up_to(0, ISSUED_AT - 1))
    yield told("a hop made after an instant revoked", "revoked", [HOP], deaths=dead_up_to(ISSUED_AT))
    yield told(
        "an instant is told after its kid, and without stale news",
        "task_withdrawn revoked",
        deaths=dead_up_to(ISSUED_AT, kids={own: "task_withdrawn"}),
        age=31,
    )


AUTHORITYS: list[Any] = [
    *but("allow"),
    ["tenant", "Acme"],
    ["allow", [["task.complete", []], ["task.status", []], ["node.revoke", [["hops", ["anything"]]]]]],
]
"""What the authority's block of a capability for the authority itself holds."""


def at_the_authority() -> Iterator[Case]:
    """Where, budget and a service's own are about what is granted elsewhere; all else is judged."""

    def asked(name: str, expected: str, *blocks: Any, **more: Any) -> Case:
        received = more.pop("received", tool("task.complete"))
        return told(
            f"at the authority: {name}",
            expected,
            *blocks,
            grant=more.pop("grant", AUTHORITYS),
            audience="authority",
            keys={kid(ROOT_KEY): audience_key(ROOT_KEY, "authority").hex()},
            received=received,
            call={"tenant": "Acme", **more.pop("call", {})},
            **more,
        )

    yield asked("its own action", "")
    yield asked("an argument that is free", "", received=tool("node.revoke", hops=[NONCES[0]]))
    yield asked("an argument that is not named", "argument_not_named", received=tool("task.status", all=True))
    yield asked("an attribute", "", [["where", "region", ["eq", "eu"]]])
    yield asked("an argument of what is granted", "", [["where", "args.id", ["eq", 1]]])
    yield asked("a budget, and nothing counts", "", [["budget", "calls", "20"], ["budget", "eur", "0"]])
    yield asked("a budget with a counter", "", grant=[*AUTHORITYS, ["budget", "calls", "20", "T1"]])
    yield asked("a counter that a holder names", "misplaced", [["budget", "calls", "20", "T1"]])
    yield asked("16 budgets", "", [["budget", "calls", "1"]] * 16)
    yield asked("17 budgets", "too_large", [["budget", "calls", "1"]] * 17)
    yield asked("a service's own", "", [["acme.region", "eu"]])
    yield asked("a service's own in the authority's block", "", grant=[*AUTHORITYS, ["acme.region"]])
    yield asked("a service's own with more dots", "", [["acme.eu-west.region_1", 1, None, [[]]]])
    yield asked("a service's own with an object", "", b'[["acme.region",{"eu":1}]]')
    yield asked("a service's own with a number without end", "", b'[["acme.region",1e999]]')
    yield asked("a service's own, spaced behind its tag", "", b' [ ["acme.region" , 1 ] ] ')
    yield asked("a service's own whose tag has 128 characters", "", [["a." + "b" * 126]])
    yield asked("a service's own like a caveat", "", [["where.x", "region"], ["budget.x"]])
    for name, block in (
        ("without a dot", b'[["near",5]]'),
        ("that begins with a dot", b'[[".region"]]'),
        ("that ends with a dot", b'[["acme."]]'),
        ("with two dots in a row", b'[["acme..region"]]'),
        ("with a space", b'[["acme. region"]]'),
        ("behind a space", b'[[ "acme.region"]]'),
        ("behind a line feed", b'[[\n"acme.region"]]'),
        ("with an escape", b'[["acme\\u002eregion"]]'),
        ("with an escaped letter", b'[["\\u0061cme.region"]]'),
        ("of 129 characters", b'[["a.%s"]]' % (b"b" * 127)),
        ("that stands alone", b'["acme.region"]'),
        ("of a block that is cut", b'["acme.region",'),
        ("of a block that is no array", b'{"acme.region":1}'),
        ("in a where that is none", b'[["where","acme.region"]]'),
    ):
        yield asked(f"a tag {name}", "not_understood", block)
    yield asked("an unknown caveat beside one of a service's own", "not_understood", [["acme.region"], ["near", 5]])
    yield asked("a where that is none", "not_understood", [["where", "region"]])
    yield asked("a budget that is none", "not_understood", [["budget", "calls", 20]])
    yield asked("a budget of no amount", "not_understood", [["budget", "calls", "020"]])
    yield asked("another tenant", "wrong_tenant", [["tenant", "Globex"]])
    yield asked("a call without a tenant", "attribute_missing", call={"tenant": None})
    yield asked("an action that is not held", "action_not_allowed", received=tool("task.withdraw"))
    yield asked("an action that a holder leaves out", "action_not_allowed", [["allow", [["task.status"]]]])
    yield asked(
        "arguments that a holder pins",
        "argument_not_named",
        [["allow", [["node.revoke", []]]]],
        received=tool("node.revoke", hops=[]),
    )
    yield asked("expired", "expired", [["expires", NOW]])
    yield asked("not yet", "not_yet", [["not_before", NOW + 1]])
    yield asked("fresher news", "stale_liveness", [["fresh", 4]], age=5)
    yield asked("too many hops", "too_many_hops", [["max_hops", 0]], [HOP])
    yield asked(
        "another task that has ended", "task_completed", [["until_completed", "T2"]], deaths=dead(T2="task_completed")
    )
    yield asked("its own task has ended", "task_completed", deaths=dead(T1="task_completed"))
    yield asked("a node revoked", "revoked", [HOP], deaths=dead(nodes(NONCES[0])[1]))
    yield asked("a third-party caveat", "not_understood", (b"vid", b"cid"))
    yield asked("a task of a holder", "misplaced", [["task", "T2"]])
    yield told(
        "a token of the authority at a resource",
        "wrong_audience",
        token=token(AUTHORITYS, [mark(READ)], audience="authority"),
    )
    yield told("a service's own at a resource", "not_understood", [["acme.region", "eu"]])


def third_parties() -> Iterator[Case]:
    """None of these is a demand for an approval: nothing discharges it, and each is told."""

    third = (b"a sealed key", b"an approval by finance")
    yield told("a third-party caveat", "not_understood", third)
    yield told("two third-party caveats", "not_understood not_understood", third, third)
    yield told("a third-party caveat between hops", "not_understood", [HOP], third, [HOP2])
    yield told("an empty third-party caveat", "not_understood", (b"", b""))
    yield told("a third-party caveat last", "bearer_refused", token=token(WHOLE, third))
    yield told(
        "a third-party caveat, and what else refuses", "not_understood not_yet", [["not_before", NOW + 1]], third
    )
    yield told("the id of a third-party caveat revoked", "revoked", third, deaths=dead(ids(WHOLE, third)[-1]))
    yield told("a cid that is a block of caveats", "not_understood", (b"vid", b'[["expires",0]]'))
