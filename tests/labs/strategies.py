"""Random chains, calls and states: what a holder, a network and time can bring before a verifier.

Everything is JSON as it stands in a block, so that what no class would build is made as readily as what it would.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hypothesis import strategies as st
from msgspec import Struct

from capx.crypto import base64url
from capx.errors import MalformedToken
from capx.tokens import chain
from capx.tokens.capability import Capability
from tests.labs.lab import NONCES, NOW, ROOT_KEY, raw

Strategy = st.SearchStrategy[Any]

SCALARS: list[Any] = [None, True, False, 0, 1, 1.0, -1, 1.5, 1e-7, 2**53 - 1, "1", "a", "A", "ab", "é", "e\u0301"]
PATHS = ["/", "/a", "/a/", "/a/b", "/ab", "/a//b", "/a/../b", "/a/.", "/a%2Fb", "a", "\\a", "/a\\b", "/a\0", "//a"]
NAMES = ["x.example", "a.x.example", "ax.example", "X.example", "x.example.", "x_y.example", "localhost", "0x7f", "1.2"]
ADDRESSES = ["10.0.0.1", "10.0.0.01", "11.0.0.1", "::1", "::ffff:10.0.0.1", "fe80::1", "fe80::1%0", "FE80::1", "127.1"]
NETWORKS = ["10.0.0.0/8", "10.0.0.1/8", "fe80::/10", "0.0.0.0/0", "10.0.0.1/32", "10.0.0.1", "::ffff:0:0/96", "::/0"]
URLS = [
    *(
        f"https://x.example{path}"
        for path in ("/", "", "/a", "/a/b", "/a/../b", "/%61", "/a%20b", "/a;b", "/a?q=1", "/a#f")
    ),
    *("https://a.x.example/a", "https://x.example:443/a", "https://x.example:8443/a", "https://x.example:08443/a"),
    *("http://x.example/a", "HTTPS://x.example/a", "https://u@x.example/a", "https://10.0.0.1/a", "https://[::1]/a"),
    *(
        "https://localhost/a",
        "https://metadata/a",
        "https://x.example\\@y/a",
        "ftp://x.example/a",
        "https://x.example/a?",
    ),
    *(
        "https://x.example/\u00e9",
        "https://x.example/%C3%A9",
        "https://x.example/%E2%81%84",
        "https:/x.example/a",
        "//x/a",
    ),
]
TEXTS = [*PATHS, *NAMES, *ADDRESSES, *URLS, "", "a.b", "a/b", "a\nb", "aXb", "\u200b", "😀", "1 ", "git", "push"]
PATTERNS = [
    "a",
    "a|ab",
    "[a-z]+",
    "a.b",
    r"\d+",
    "(?i)AB",
    ".*",
    "(?s)a.b",
    "^a$",
    "a{1,2}",
    "(",
    "a(?=b)",
    r"(a)\1",
    "[",
]
GLOBS = ["*", "**", "?", "a*", "/a/*", "/a/**", "*.x.example", "a?b", "***", "[a]", "a\\*"]

scalars: Strategy = st.sampled_from([*SCALARS, *TEXTS])
literals: Strategy = st.one_of(scalars, st.lists(scalars, max_size=3))
values: Strategy = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["id", "to", "x-y", "*", "é"]), inner, max_size=3),
        st.sampled_from([["git", "push"], ["git", "push", "-f"], ["git"], [], ["/bin/git", "push"]]),
    ),
    max_leaves=6,
)
"""Arguments and attributes, and what is nearly one."""

JUNK: Strategy = st.sampled_from([None, [], {}, "eq", ["eq"], ["near", 1], ["eq", 1, 2], ["eq", {}], ["in", []], [[]]])
bounds: Strategy = st.sampled_from([None, 0, 1, 1.5, 2, -1, "1", True, 2**53])


def listed(*choices: Any, least: int = 1) -> Strategy:
    return st.lists(st.sampled_from(choices), min_size=least, max_size=2)


def rule(tag: str, *fields: Strategy) -> Strategy:
    return st.tuples(st.just(tag), *fields)


patterns = listed("x.example", "*.x.example", "*.example", "y.example")
words = listed("push", "-f", "pull")
numbers: Strategy = st.sampled_from([0, 1, 1.0, 1.5, -1, 2, 1e-7, 2**53 - 1])
FAMILIES: dict[str, tuple[Strategy, Strategy]] = {
    "eq": (rule("eq", literals), values),
    "in": (rule("in", st.lists(literals, min_size=1, max_size=3)), values),
    "contains": (rule("contains", st.lists(literals, min_size=1, max_size=2)), st.lists(literals, max_size=3)),
    "range": (st.one_of(rule("range", st.just(0), numbers), rule("range", bounds, bounds)), numbers),
    "length": (rule("length", st.sampled_from([0, 1, 2]), st.sampled_from([2, 3, None])), st.one_of(values, scalars)),
    "prefix": (rule("prefix", st.sampled_from(["a", "/a", "https://x", "é"])), st.sampled_from(TEXTS)),
    "glob": (rule("glob", st.sampled_from(GLOBS)), st.sampled_from(TEXTS)),
    "regex": (rule("regex", st.sampled_from(PATTERNS)), st.sampled_from(TEXTS)),
    "path": (rule("path", st.sampled_from(PATHS)), st.sampled_from(PATHS)),
    "host": (rule("host", patterns), st.sampled_from(NAMES)),
    "cidr": (rule("cidr", listed(*NETWORKS)), st.sampled_from(ADDRESSES)),
    "url": (
        st.one_of(
            rule("url", listed("https", "http"), patterns, listed(443, 8443, least=0)),
            rule(
                "url", st.just(["https"]), patterns, st.just([]), st.sampled_from(["/", "/a", "/a/b", "/%C3%A9", "/a/"])
            ),
            rule("url", listed("https", "ftp", "file", "HTTPS"), patterns, st.sampled_from([[0], ["443"], [21]])),
            rule("url", st.just(["https"]), listed("localhost", "10.0.0.1", "X.example", "*"), st.just([])),
        ),
        st.sampled_from(URLS),
    ),
    "argv": (
        st.one_of(rule("argv", listed("git", "/bin/git")), rule("argv", listed("git"), st.lists(words, max_size=2))),
        st.lists(st.sampled_from(["git", "push", "-f", 1]), max_size=3),
    ),
    "anything": (st.sampled_from([["anything"], ["absent"]]), values),
    "junk": (JUNK, values),
}
"""Constraints by tag, mostly sound, and what each may be about."""


def composed(inner: Strategy) -> Strategy:
    names = st.sampled_from(["id", "to", "*", "é"])
    return st.one_of(
        rule("each", inner),
        rule("each", inner, st.sampled_from([0, 0, 1, 1, 2, -1])),
        st.tuples(st.sampled_from(["any", "all"]), st.lists(inner, min_size=1, max_size=3)),
        rule("not", inner),
        rule("fields", st.lists(st.tuples(names, inner), max_size=2)),
    )


def held(inner: Strategy) -> Strategy:
    keys = st.sampled_from(["id", "to", "*", "é"])
    return st.one_of(inner, st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=2))


simple: Strategy = st.one_of([rules for tag, (rules, _) in FAMILIES.items() if tag != "junk"])
rules: Strategy = st.recursive(simple, composed, max_leaves=4)
"""Constraints, mostly sound."""


def one_in(*choices: Strategy) -> Strategy:
    """One of these with the same chance each, where `one_of` would count the choices within them."""
    return st.integers(0, len(choices) - 1).flatmap(choices.__getitem__)


def about(rules: Strategy, values_of_it: Strategy) -> Strategy:
    within = composed(rules)
    return st.tuples(
        one_in(rules, rules, within, composed(within)),
        one_in(values_of_it, values_of_it, values_of_it, held(values_of_it)),
    )


judgements: Strategy = one_in(*(about(*family) for family in FAMILIES.values()))
"""A constraint, and a value that is mostly one of those it is about."""

ACTIONS = ("a.read", "a.write", "a.b.read", "b.read")
arguments: Strategy = st.dictionaries(st.sampled_from(["id", "to", "x-y", "*", "é"]), values, max_size=3)
pairs: Strategy = st.lists(st.tuples(st.sampled_from(["id", "to", "x-y", "*", "é", ""]), rules), max_size=3)
entries: Strategy = st.one_of(
    st.tuples(st.sampled_from([*ACTIONS, "a.*", "a.b.*", "*", "a.", "a.*.read"])),
    st.tuples(st.sampled_from(["a.read", "a.*"]), pairs),
    JUNK,
)
times: Strategy = st.sampled_from([NOW - 1, NOW, NOW + 1, NOW + 9000, 0, -1, float(NOW), str(NOW), None, True, 2**53])
labels: Strategy = st.sampled_from(["Acme", "Globex", "", "é", "a\n", "a\u202e", "a" * 128, "a" * 129, 1])
nonces: Strategy = st.sampled_from([*NONCES, "short", "AgICAgICAgJ"])
ids: Strategy = st.sampled_from(["T1", "T2", "R1", "R2", "", "a b", "a" * 64, "a" * 65])
KEY = "A" * 43

caveats: Strategy = st.one_of(
    st.tuples(st.just("task"), ids),
    st.tuples(st.just("intent"), st.sampled_from([KEY, "A"])),
    st.tuples(st.just("root"), ids),
    st.tuples(st.just("root"), ids, st.lists(st.tuples(labels, nonces), max_size=2)),
    st.tuples(st.just("holder"), st.sampled_from([KEY, "A"])),
    st.tuples(st.just("hop"), labels, nonces),
    st.tuples(st.just("hop"), labels, nonces, st.sampled_from([KEY, None])),
    st.tuples(st.just("max_hops"), st.sampled_from([0, 1, 2, -1, 1.0])),
    st.tuples(st.just("call"), st.just("tool"), st.just(KEY), st.just(NOW), st.just("A" * 16)),
    st.tuples(st.just("sig"), st.just("A" * 86)),
    st.tuples(st.just("until_completed"), ids),
    st.tuples(st.sampled_from(["expires", "not_before"]), times),
    st.tuples(st.just("fresh"), st.sampled_from([0, 5, 29, 30, 31, -1, 0.5])),
    st.tuples(st.just("tenant"), labels),
    st.tuples(st.just("allow"), st.lists(entries, max_size=3)),
    st.tuples(st.just("where"), st.sampled_from(["region", "args.id", "args.", "args.x-y", "Region", "amount"]), rules),
    st.tuples(st.just("budget"), st.sampled_from(["calls", "EUR"]), st.sampled_from(["1", "0.5", "01", "1.", 1])),
    st.tuples(st.just("budget"), st.just("calls"), st.just("9"), ids),
    JUNK,
)
"""Caveats of every tag, sound and not."""

WHOLE: list[Any] = [
    ["task", "T1"],
    ["root", "R1"],
    ["until_completed", "T1"],
    ["expires", NOW + 3600],
    ["allow", [["a.*"], ["b.read"]]],
]
"""The caveats of a complete authority's block."""
GOOD: list[Any] = [
    ["until_completed", "T2"],
    ["expires", NOW + 1],
    ["not_before", NOW],
    ["fresh", 5],
    ["tenant", "Acme"],
    ["allow", [["a.read"]]],
    ["allow", [["a.*", [["*", ["anything"]]]]]],
    ["where", "args.id", ["any", [["absent"], ["in", [1, "a"]]]]],
    ["where", "region", ["eq", "eu"]],
    ["max_hops", 2],
]


def spelled(value: Any, spelling: int = 0) -> bytes:
    """A block in compact JSON, or with all the white space and escapes that there may be."""
    if spelling:
        return json.dumps(value, indent=1).encode()
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


good: Strategy = st.lists(st.sampled_from(GOOD), min_size=1, max_size=2)
hops: Strategy = st.tuples(st.just(["hop", "é", NONCES[0]]), st.sampled_from(GOOD)).map(list)
NASTY: Strategy = st.sampled_from(
    [
        *(
            b"",
            b"[]",
            b"junk",
            b"{}",
            b"[" * 257,
            b"null",
            b"[[]]",
            b'["expires",1]',
            b'[["expires",1e3]]',
            b"\xef\xbb\xbf[]",
        ),
        *(b'[["tenant","\\ud800"]]', b'[["tenant","\xff"]]', b'[["expires",NaN]]', b'[["expires",1],]', b"[1,null,{}]"),
        *(
            b'[["where","x",["eq",1e999]]]',
            b'[["where","x",["eq",-0]]]',
            b'[["tenant","a","a"]]',
            b'[["\\u0074enant","A"]]',
        ),
        b"[" + b",".join([b'["not_before",0]'] * 65) + b"]",
    ]
)
LACKING = [WHOLE[:at] + WHOLE[at + 1 :] for at in range(len(WHOLE))]
first_blocks: Strategy = st.tuples(
    st.sampled_from([*[WHOLE] * 12, *LACKING]), st.one_of(st.just([]), good, good, st.lists(caveats, max_size=1))
).map(lambda parts: parts[0] + parts[1])
later_blocks: Strategy = st.one_of(good, hops, st.lists(caveats, min_size=1, max_size=3))
blocks: Strategy = st.one_of(
    st.builds(spelled, later_blocks, st.integers(0, 1)),
    st.builds(spelled, good),
    st.builds(spelled, good),
    st.builds(spelled, hops),
    NASTY,
    st.just(chain.ThirdParty(b"vid", b"cid")),
)
chains: Strategy = st.tuples(st.builds(spelled, first_blocks), st.lists(blocks, max_size=3)).map(
    lambda one: (one[0], *one[1])
)
"""Blocks of a capability: the authority's is mostly complete."""


class Call(Struct, frozen=True):
    """The facts of a call, as a resource states them."""

    action: str
    args: Mapping[str, Any]
    tenant: str | None
    attributes: Mapping[str, Any]
    defaults: Mapping[str, Any] = MappingProxyType({})

    def facts(self) -> dict[str, Any]:
        """The same as JSON."""
        stated = {"action": self.action, "args": self.args, "tenant": self.tenant, "attributes": self.attributes}
        return {**stated, "defaults": self.untouched}

    @property
    def untouched(self) -> dict[str, Any]:
        """The defaults of what was not given."""
        return {name: value for name, value in self.defaults.items() if name not in self.args}


calls: Strategy = st.builds(
    Call,
    st.sampled_from(ACTIONS),
    arguments,
    st.sampled_from([*[None] * 6, "Acme", "Globex"]),
    st.dictionaries(st.sampled_from(["region", "amount"]), values, max_size=2),
    st.one_of(st.just({}), arguments),
)
"""Facts of a call."""


class State(Struct, frozen=True):
    """When a call is judged, what is known of deaths, and how old that knowledge is."""

    now: int
    dead: tuple[int, ...]
    age: float

    def deaths(self, capability: Capability) -> dict[bytes | str, str]:
        """Some of what a token descends from, and another task."""
        mortal: list[bytes | str] = ["T1", "T2", *capability.path, *capability.ids]
        reasons = ("task_completed", "task_withdrawn")
        found = {mortal[at % len(mortal)] for at in self.dead}
        return {key: reasons[len(key) % 2] if isinstance(key, str) else "revoked" for key in found}


states: Strategy = st.builds(
    State,
    st.sampled_from([NOW, NOW, NOW, NOW + 1, NOW - 1]),
    st.one_of(st.just(()), st.lists(st.integers(0, 12), max_size=2).map(tuple)),
    st.sampled_from([0.0, 0.0, 0.0, 0.0, 5.0, 5.5, 30.0, 30.5, float("inf")]),
)
"""States of the world."""


def token(made_of: tuple[chain.Block, ...]) -> Capability | None:
    """An authentic capability of these blocks; None if they are too much for one."""
    try:
        return raw(*made_of, key=ROOT_KEY)
    except MalformedToken:
        return None


HEADERS: Strategy = st.sampled_from([None, "", "application/json", "text/plain; charset=\u00e9"])
requests: Strategy = st.fixed_dictionaries(
    {
        "profile": st.just("http"),
        "method": st.sampled_from(["GET", "POST", "get"]),
        "target": st.sampled_from(["/", "/a?b", "/a%2Fb", "/..", "//", "/?"]),
        "content_type": HEADERS,
        "content_encoding": HEADERS,
        "body": st.sampled_from(["", "e30", "AAE"]),
    }
)
"""A request as an HTTP service receives it; the body in base64url."""
tool_calls: Strategy = st.fixed_dictionaries(
    {"profile": st.just("tool"), "action": st.sampled_from(ACTIONS), "args": arguments}
)
"""A call as a tool receives it."""


@st.composite
def touched(draw: st.DrawFn, text: str) -> str:
    """A token of which something was changed: its characters, or the bytes they stand for."""
    if draw(st.booleans()):
        return str(cut(draw, text, st.sampled_from(["", "A", "=", "_", "\n", "\u00e9", "capx1_", text])))
    data = base64url.unb64u(text[6:])
    filling = st.one_of(st.binary(max_size=2), st.sampled_from([b"\x80\x01", b"\xff\x7f", b"\x06\x20", data]))
    return "capx1_" + base64url.b64u(cut(draw, data, filling))


def cut(draw: st.DrawFn, whole: Any, filling: Strategy) -> Any:
    """The whole with a piece taken out, and another put in its place."""
    begin = draw(st.one_of(st.integers(0, 12), st.integers(0, len(whole))))
    end = draw(st.sampled_from([begin, begin + 1, begin + 2, len(whole)]))
    return whole[:begin] + draw(filling) + whole[end:]
