"""Constraints of every kind, and entries that are drawn of them."""

from hypothesis import strategies as st

from capx.crypto.keys import RootKey
from capx.tokens.capability import Capability, mint
from capx_caveats import (
    Absent,
    Allow,
    AnyConstraint,
    Anything,
    Appendable,
    Argv,
    Call,
    Caveat,
    Contains,
    Each,
    Entry,
    Eq,
    Expires,
    Facts,
    Glob,
    Host,
    In,
    Length,
    Not,
    Pair,
    Path,
    Prefix,
    Range,
    Regex,
    Root,
    Task,
    Tenant,
    UntilCompleted,
    all_of,
    allow,
    any_of,
    cidr,
    fields,
    url,
)

NOW = 1_800_000_000
KEY = RootKey(bytes(range(32))).audience_key("crm")
LEAVES: list[AnyConstraint] = [
    Eq(1),
    Eq(True),
    Eq("a"),
    Eq(None),
    In((1, 2)),
    In(("a", "b")),
    In((1, "a")),
    Range(1, 1),
    Range(2, None),
    Range(None, 1),
    Prefix("a"),
    Prefix("ab"),
    Path("/d"),
    Path("/d/e"),
    Path("/"),
    Each(Eq(1)),
    Anything(),
    Absent(),
    any_of(Absent(), Eq(1)),
    any_of(Absent(), Prefix("a")),
    Not(Eq(1)),
    Not(Absent()),
    all_of(Range(1, None), Range(None, 2)),
    Glob("a*"),
    Glob("/**"),
    Regex("a|b"),
    Not(Regex("a|b")),
    Length(1, 2),
    Length(2, None),
    Length(None, 1),
    Not(Length(2, None)),
    Contains((1,)),
    Contains(("a",)),
    Not(Contains(("a", 1))),
    Argv(("a",)),
    Argv(("a",), (("b",),)),
    fields(a=1),
    fields({"*": Range(1, 2)}),
    Not(fields(a=1)),
    Host(("a.example",)),
    url("a.example"),
    cidr("10.0.0.0/8"),
]


present = [leaf for leaf in LEAVES if not leaf.about_absence]
pairs = st.dictionaries(st.sampled_from("xy"), st.sampled_from(LEAVES), max_size=2)
rest = st.none() | st.sampled_from(present)
actions = st.sampled_from(["c.r", "c.w", "c.*", "c.r.*", "d"])


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    if draw(st.booleans()):
        return Entry(draw(actions))
    named = tuple(Pair(name, constraint) for name, constraint in draw(pairs).items())
    others = draw(rest)
    return Entry(draw(actions), named if others is None else (*named, Pair("*", others)))


def grant(*more: Caveat, to: str | None = "Acme", entries: tuple[str | Entry, ...] = ("crm.*",)) -> Capability:
    claims = (Task("t1"), Root("r1"), UntilCompleted("t1"), Expires(NOW + 3600), allow(*entries))
    return mint(KEY, (*claims, *(() if to is None else (Tenant(to),)), *more), now=NOW)


def hop(parent: Capability, to: str, *entries: str | Entry, caveats: tuple[Appendable, ...] = ()) -> Capability:
    return parent.delegate(to=to, allow=entries or None, caveats=caveats, now=NOW)


def allows(entries: tuple[Entry, ...], call: Call) -> bool:
    return bool(entries) and Allow(entries).refusal(Facts(call, 0, 0)) is None
