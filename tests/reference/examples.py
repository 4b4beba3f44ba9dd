"""An example of every class of the vocabulary, as people write it. The results are computed, not written here."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from capx.authority.authority import Authority
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx_caveats import (
    MISSING,
    SAFE_INTEGER,
    Absent,
    AllOf,
    Allow,
    AnyOf,
    Anything,
    Approved,
    Argv,
    Budget,
    Call,
    Caveat,
    Cidr,
    Constraint,
    Contains,
    Each,
    Eq,
    Expires,
    Fields,
    Fresh,
    Glob,
    Holder,
    Hop,
    Host,
    In,
    Intent,
    Length,
    MaxHops,
    Not,
    NotBefore,
    Path,
    Prefix,
    Presented,
    Range,
    Regex,
    Root,
    Sig,
    Signed,
    Task,
    Tenant,
    UntilCompleted,
    Url,
    Value,
    Where,
    action,
    allow,
    encode_block,
)
from tests.labs.approving import ApprovalLab, approved, demanding, put_together
from tests.labs.keyed import THIEF, keyed, mark, signed
from tests.labs.lab import NONCES, NOW, Lab, appended, codes, grant, minted, raw


class Example(Struct, frozen=True):
    """An expression over the names of `capx_caveats`, and the options that mean the same; none: there are none."""

    python: str
    shell: str | None = None


KEY: Final = "A" * 43
CAVEATS: Final[Mapping[type[Caveat], tuple[Example, ...]]] = {
    Task: (Example('Task("TbdjVTw_aM7tWlH07OjEBg")'),),
    Intent: (Example(f'Intent("{b64u(bytes(32))}")'),),
    Root: (Example('Root("R1")'), Example(f'Root("R1", [Step("research-agent", "{NONCES[0]}")])')),
    Holder: (Example(f'Holder("{KEY}")'),),
    Hop: (Example(f'Hop("slides-agent", "{NONCES[0]}")'), Example(f'Hop("slides-agent", "{NONCES[0]}", "{KEY}")')),
    MaxHops: (Example("max_hops(2)", "--max-hops 2"),),
    Presented: (Example(f'Presented("tool", "{KEY}", {NOW}, "{"A" * 16}")'),),
    Sig: (Example(f'Sig("{"A" * 86}")'),),
    Approved: (Example(f'Approved("billing", "{b64u(bytes(16))}", "{KEY}", {NOW})'),),
    Signed: (Example(f'Signed(0, "{"A" * 86}")'),),
    UntilCompleted: (Example('until_completed("TbdjVTw_aM7tWlH07OjEBg")', "--until-completed TbdjVTw_aM7tWlH07OjEBg"),),
    Expires: (Example('expires("2099-12-31T23:59:59Z")', "--expires 2099-12-31T23:59:59Z"),),
    NotBefore: (Example('not_before("2026-11-25T12:00:00Z")', "--not-before 2026-11-25T12:00:00Z"),),
    Fresh: (Example('fresh("5s")', "--fresh 5s"),),
    Tenant: (Example('tenant("Acme")', "--tenant Acme"),),
    Allow: (
        Example('allow("slides.write", "crm.*")', "--allow slides.write --allow 'crm.*'"),
        Example(
            'allow(action("slides.write", deck="deck-42", page=between(1, 9)))',
            "--allow slides.write --with deck=deck-42 --with page=range:1..9",
        ),
        Example(
            'allow(action("a.run", args={"x-y": 1, "*": anything()}))',
            "--allow a.run --with x-y:=1 --with '*=anything:'",
        ),
        Example('allow(action("a.list", args={}))', "--allow a.list --no-args"),
    ),
    Where: (
        Example('where("region", one_of("eu", "uk"))', "--where region=one_of:eu,uk"),
        Example('where("args.dry_run", True)', "--where args.dry_run:=true"),
    ),
    Budget: (Example('budget("calls", 20)', "--budget calls=20"), Example('budget("eur", "0.50", counter="shared")')),
}


class Judged(Struct, frozen=True):
    """A constraint's examples, and values that the first of them judges yes, no, and cannot judge."""

    examples: tuple[Example, ...]
    yes: tuple[Value, ...]
    no: tuple[Value, ...]
    cannot: tuple[Value, ...]


CONSTRAINTS: Final[Mapping[type[Constraint], Judged]] = {
    Eq: Judged(
        (
            Example('as_constraint("deck-42")', "x=deck-42"),
            Example("as_constraint(7)", "x:=7"),
            Example('as_constraint("path:/x")', "x=eq:path:/x"),
        ),
        ("deck-42",),
        ("deck-7",),
        (42, None, ["deck-42"]),
    ),
    In: Judged(
        (Example('one_of("a", "b")', "x=one_of:a,b"), Example('one_of(1, None, ["a"])')), ("a",), ("c",), (1, None)
    ),
    Range: Judged(
        (Example("between(0, 50)", "x=range:0..50"), Example("between(0.5, None)", "x=range:0.5..")),
        (0, 50, 0.5),
        (-1, 50.5),
        ("7", True, None),
    ),
    Prefix: Judged((Example('prefix("Q-")', "x=prefix:Q-"),), ("Q-7", "Q-"), ("q-7",), (7,)),
    Glob: Judged(
        (Example('glob("/data/**/*.txt")', "x='glob:/data/**/*.txt'"),),
        ("/data/a/b/c.txt",),
        ("/data/c.txt", "/data/a/c.csv"),
        (7,),
    ),
    Regex: Judged(
        (Example('regex("[a-z]+|[0-9]{4}")', "x='regex:[a-z]+|[0-9]{4}'"),), ("abc", "2026"), ("abc2026", "A"), (2026,)
    ),
    Path: Judged(
        (Example('within("/data/acme")', "x=path:/data/acme"),),
        ("/data/acme", "/data/acme/q3"),
        ("/data/acme-2", "/etc"),
        ("/data/acme/../x", "/data//acme", "data/acme", "/data/acme/%2e"),
    ),
    Url: Judged(
        (
            Example('url("x.example", "*.x.example")', "x='url:x.example,*.x.example'"),
            Example('url("x.example", schemes=("http", "https"), ports=(8080, 8443), path="/v1")'),
        ),
        ("https://x.example/a", "https://a.x.example/?q=1"),
        ("http://x.example/", "https://x.example:8443/", "https://y.example/"),
        ("https://x.example", "https://me@x.example/", "https://10.0.0.1/", "https://localhost/"),
    ),
    Host: Judged(
        (Example('host("x.example", "*.x.example")', "x='host:x.example,*.x.example'"),),
        ("x.example", "a.b.x.example"),
        ("y.example",),
        ("X.example", "x.example.", "10.0.0.1"),
    ),
    Cidr: Judged(
        (Example('cidr("10.0.0.0/8", "fe80::/10")', "x=cidr:10.0.0.0/8,fe80::/10"),),
        ("10.1.2.3", "fe80::1"),
        ("192.0.2.1",),
        ("010.1.2.3", "::ffff:10.1.2.3", "fe80::1%eth0", "x.example"),
    ),
    Each: Judged(
        (
            Example('each(prefix("Q-"))', "x=each:prefix:Q-"),
            Example('each(prefix("Q-"), min=0)'),
            Example('subset("a", "b")', "x=each:one_of:a,b"),
        ),
        (["Q-1", "Q-2"],),
        (["Q-1", "R-2"], []),
        ("Q-1", ["Q-1", 2]),
    ),
    Contains: Judged(
        (Example('contains("a", "b")', "x=contains:a,b"),), (["b", "c", "a"],), (["a"], []), ("ab", ["a", 1])
    ),
    Length: Judged(
        (Example("length(1, 3)", "x=length:1..3"), Example("length(hi=10)", "x=length:..10")),
        ("abc", [1]),
        ("", "abcd", []),
        (3, None),
    ),
    Fields: Judged(
        (Example("fields(id=1, name=anything())"), Example('fields({"x-y": 1, "*": anything()})'), Example("fields()")),
        ({"id": 1, "name": "n"},),
        ({"id": 2, "name": "n"}, {"id": 1, "name": "n", "more": 0}),
        ([], {"id": 1}, {"id": "1", "name": "n"}),
    ),
    Argv: Judged(
        (
            Example('argv("git", "hg")', "x=argv:git,hg"),
            Example('argv("git", arguments=[["status"], ["log", "--oneline"]])'),
        ),
        (["git", "push"], ["hg"]),
        (["sh", "-c", "git"], ["/bin/git"], []),
        ("git push", ["git", 1]),
    ),
    AnyOf: Judged((Example("any_of(absent(), between(1, 9))"),), (MISSING, 5), (10,), ()),
    AllOf: Judged((Example('all_of(prefix("a"), not_("admin"))'),), ("ana",), ("admin", "bob"), (1, MISSING)),
    Not: Judged(
        (
            Example('not_(prefix("Q-"))', "x=not:prefix:Q-"),
            Example('not_in("a", "b")', "x=not_in:a,b"),
        ),
        ("R-7",),
        ("Q-7",),
        (7, None, MISSING),
    ),
    Absent: Judged((Example("absent()", "x=absent:"),), (MISSING,), (None, "a"), ()),
    Anything: Judged((Example("anything()", "x=anything:"),), (None, "a", []), (), (MISSING,)),
}


def _in_a_holders_block(*caveats: Caveat) -> Capability:
    return appended(minted(), encode_block(caveats))


def _lacking(kind: type[Caveat]) -> Capability:
    return raw(encode_block(tuple(caveat for caveat in grant() if type(caveat) is not kind)))


def _codes(
    capability: Capability, *, died: Mapping[bytes | str, str] | None = None, age: float = 0.0, **call: Any
) -> tuple[str, ...]:
    lab = Lab()
    lab.deaths.deaths.update(died or {})
    lab.deaths.years = age
    return lab.codes(capability, **call)


def _metered(capability: Capability, **call: Any) -> tuple[str, ...]:
    with Authority.temporary() as authority:
        return Lab(meter=authority.store).codes(capability, **call)


def _of_a_dead_node() -> tuple[str, ...]:
    child = minted().delegate(to="a", nonce=NONCES[0])
    return _codes(child, died={child.path[-1]: "revoked"})


def _presented(*, late: int = 0, times: int = 1, received: str = "a.read") -> tuple[str, ...]:
    lab = Lab()
    token = lab.present(minted(), "a.read")
    lab.clock.now += late
    decisions = [lab.verifier.decide(token, ToolCall(received, {}), Call(received)) for _ in range(times)]
    return codes(decisions[-1])


def _signed_by(key: AgentKey | None) -> tuple[str, ...]:
    shown = mark(ToolCall("a.read"))
    token = appended(keyed(), encode_block((shown,))) if key is None else signed(keyed(), key, shown)
    return codes(Lab().decide(token.text))


def _approved(**said: object) -> tuple[str, ...]:
    """Of a call with an approval, whose request says something else than the token."""
    token = demanding()
    return ApprovalLab().told(token, approved(token, said=said))


def _forged() -> tuple[str, ...]:
    """Of a call with an approval that says it is signed, and is not."""
    token = demanding()
    statement = approved(token).caveats[0]
    return ApprovalLab().told(token, put_together(statement, encode_block((Signed(0, "A" * 86),))))


_FAR: Final = SAFE_INTEGER
_APPROVED: Final = Approved("crm", b64u(bytes(16)), KEY, NOW)
_ACTION: Final = allow(action("a.read", x=1))
Codes = Callable[[], tuple[str, ...]]
REFUSED: Final[Mapping[type[Caveat], tuple[Codes, ...]]] = {
    Task: (lambda: _codes(_lacking(Task)), lambda: _codes(_in_a_holders_block(Task("T2")))),
    Intent: (lambda: _codes(_in_a_holders_block(Intent(KEY))),),
    Root: (lambda: _codes(_lacking(Root)), lambda: _codes(_in_a_holders_block(Root("R2")))),
    Holder: (
        lambda: _signed_by(None),
        lambda: _signed_by(THIEF),
        lambda: _codes(_in_a_holders_block(Holder(KEY))),
    ),
    Hop: (
        _of_a_dead_node,
        lambda: _codes(minted(Hop("a", NONCES[0]))),
        lambda: _codes(_in_a_holders_block(Hop("a", NONCES[0], KEY))),
    ),
    MaxHops: (
        lambda: _codes(minted(MaxHops(0)).delegate(to="a", nonce=NONCES[0])),
        lambda: _codes(minted(MaxHops(1), MaxHops(1))),
    ),
    Presented: (
        lambda: _presented(received="a.write"),
        lambda: _presented(late=90),
        lambda: _presented(times=2),
        lambda: _codes(minted(Presented("tool", KEY, NOW, "A" * 16))),
    ),
    Sig: (
        lambda: _codes(_in_a_holders_block(Sig("A" * 86))),
        lambda: _signed_by(THIEF),
        lambda: _codes(minted(Sig("A" * 86))),
    ),
    Approved: (
        lambda: _approved(task="T2"),
        lambda: _codes(_in_a_holders_block(_APPROVED)),
    ),
    Signed: (
        _forged,
        lambda: _codes(_in_a_holders_block(Signed(0, "A" * 86))),
    ),
    UntilCompleted: (
        lambda: _codes(minted(UntilCompleted("T2")), died={"T2": "task_completed"}),
        lambda: _codes(minted(UntilCompleted("T2")), died={"T2": "task_withdrawn"}),
        lambda: _codes(minted(UntilCompleted("T2")), died={"T2": "task_expired"}),
        lambda: _codes(_lacking(UntilCompleted)),
    ),
    Expires: (lambda: _codes(minted(Expires(NOW))), lambda: _codes(_lacking(Expires))),
    NotBefore: (lambda: _codes(minted(NotBefore(_FAR))),),
    Fresh: (lambda: _codes(minted(Fresh(5)), age=6.0),),
    Tenant: (
        lambda: _codes(minted(Tenant("Acme"))),
        lambda: _codes(minted(Tenant("Acme")), tenant="Globex"),
        lambda: _codes(minted(), tenant="Acme"),
    ),
    Allow: (
        lambda: _codes(minted(allowed=_ACTION), action="a.write"),
        lambda: _codes(minted(allowed=_ACTION), args={"x": 2}),
        lambda: _codes(minted(allowed=_ACTION), args={"x": 1, "y": 2}),
        lambda: _codes(_lacking(Allow)),
    ),
    Where: (
        lambda: _codes(minted(Where("region", Eq("eu")))),
        lambda: _codes(minted(Where("region", Eq("eu"))), attributes={"region": "us"}),
    ),
    Budget: (
        lambda: _codes(minted(Budget("calls", "20"))),
        lambda: _codes(_in_a_holders_block(Budget("calls", "20", "shared"))),
        lambda: _metered(minted(Budget("eur", "20"))),
        lambda: _metered(minted(Budget("eur", "20")), cost={"eur": "20.01"}),
    ),
}
"""For each caveat, calls that are refused because of it."""
