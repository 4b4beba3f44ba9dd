"""What people are told: each demand in plain words, and of each refusal what was wanted and what was given.

Words are held loosely in the refusals: that they name what they must, beside the code that is stable.
"""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import UNSET

from capx.crypto.base64url import b64u
from capx_caveats import (
    DEFAULT,
    Call,
    Caveat,
    Constraint,
    Expires,
    Facts,
    InvalidCaveat,
    NotBefore,
    NotUnderstood,
    Refusal,
    Tenant,
    UntilCompleted,
    Where,
    absent,
    action,
    all_of,
    allow,
    any_of,
    anything,
    argv,
    between,
    cidr,
    contains,
    each,
    fields,
    glob,
    host,
    length,
    max_hops,
    not_,
    one_of,
    prefix,
    regex,
    url,
    where,
    within,
)

NOW = 1_795_600_000
KEY, NONCE, PRESENTATION, SIGNATURE = (b64u(bytes(size)) for size in (32, 8, 12, 64))


def understood(*spelled: Any) -> Caveat:
    """The caveat that an array spells."""
    import json

    (caveat,) = DEFAULT.decode(json.dumps([spelled]).encode())
    assert not isinstance(caveat, NotUnderstood), caveat.why
    return caveat


def refused(caveat: Caveat, name: str = "a.read", *, now: int = NOW, age: float = 0.0, **facts: Any) -> Refusal:
    refusal = caveat.refusal(Facts(Call(name, facts.pop("args", {}), **facts), now, age))
    assert refusal is not None
    assert " " in refusal.sentence
    return refusal


ACME = Tenant("Acme")
READ = allow(action("a.read", id=one_of(1, 2), path=within("/data")), "a.write")
CLOSED = allow(action("a.read", args={"id": 1, "*": anything()}))
EU = where("region", one_of("eu"))
SMALL = where("args.limit", between(None, 10))

REFUSALS: dict[str, tuple[Callable[[], Refusal], str, str, Any, tuple[str, ...]]] = {
    "expired": (
        lambda: refused(Expires(NOW), now=NOW),
        "expired",
        "expires at 2026-11-25T09:46:40Z",
        UNSET,
        ("2026-11-25T09:46:40Z",),
    ),
    "not yet": (
        lambda: refused(NotBefore(NOW), now=NOW - 1),
        "not_yet",
        "not before 2026-11-25T09:46:40Z",
        UNSET,
        ("is not valid before", "2026-11-25T09:46:40Z"),
    ),
    "not fresh": (
        lambda: refused(understood("fresh", 60), age=60.5),
        "stale_liveness",
        "news of revocations at most 1m old",
        UNSET,
        ("1m",),
    ),
    "no tenant": (lambda: refused(ACME), "attribute_missing", 'tenant is "Acme"', UNSET, ('"Acme"', "has none")),
    "another tenant": (
        lambda: refused(ACME, tenant="Other"),
        "wrong_tenant",
        'tenant is "Acme"',
        UNSET,
        ('"Acme"', "not"),
    ),
    "another action": (
        lambda: refused(READ, "a.delete"),
        "action_not_allowed",
        READ.sentence(),
        "a.delete",
        ("a.write",),
    ),
    "an argument": (
        lambda: refused(READ, args={"id": 3, "path": "/data"}),
        "argument_refused",
        READ.entries[0].sentence(),
        {"id": 3},
        ("a.read", "id is one of 1, 2", '"id" is 3'),
    ),
    "an argument that is not given": (
        lambda: refused(READ, args={"id": 1}),
        "argument_refused",
        READ.entries[0].sentence(),
        UNSET,
        ("a.read", 'path is within "/data"', '"path" is not given'),
    ),
    "an argument that is not named": (
        lambda: refused(READ, args={"id": 1, "path": "/data", "force": True}),
        "argument_not_named",
        READ.entries[0].sentence(),
        "force",
        ("a.read", '"force"'),
    ),
    "the first entry's": (
        lambda: refused(allow(action("a.read", id=1), action("a.*", id=2)), args={"id": 3}),
        "argument_refused",
        "a.read where id is 1",
        {"id": 3},
        (),
    ),
    "an attribute that is missing": (
        lambda: refused(EU),
        "attribute_missing",
        EU.sentence(),
        UNSET,
        (EU.sentence(), "missing"),
    ),
    "an attribute": (
        lambda: refused(EU, attributes={"region": "us"}),
        "argument_refused",
        EU.sentence(),
        UNSET,
        (EU.sentence(),),
    ),
    "args.NAME": (
        lambda: refused(SMALL, args={"limit": 11}),
        "argument_refused",
        SMALL.sentence(),
        {"limit": 11},
        (SMALL.sentence(),),
    ),
    "args.NAME that is missing": (lambda: refused(SMALL), "attribute_missing", SMALL.sentence(), UNSET, ("missing",)),
    "a budget": (
        lambda: refused(understood("budget", "usd", "2.50")),
        "no_meter",
        "a verifier with a meter",
        UNSET,
        ("2.50 usd",),
    ),
    "not understood": (
        lambda: refused(NotUnderstood("[9]", "an odd tag")),
        "not_understood",
        "a newer verifier",
        UNSET,
        ("an odd tag",),
    ),
}


@pytest.mark.parametrize(("refuse", "code", "wanted", "given", "named"), REFUSALS.values(), ids=list(REFUSALS))
def test_a_refusal_says_what_was_wanted_and_what_was_given(
    refuse: Callable[[], Refusal], code: str, wanted: str, given: Any, named: tuple[str, ...]
) -> None:
    refusal = refuse()
    assert (refusal.code, refusal.wanted, refusal.given) == (code, wanted, given)
    assert (refusal.hop, refusal.hop_name) == (None, None)
    for part in named:
        assert part in refusal.sentence


@pytest.mark.parametrize(
    ("caveat", "args", "named"),
    [
        (allow(action("a.read", id=1)), {"id": "sesame"}, "a.read only where id is 1"),
        (allow(action("a.read", args={"*": 1})), {"sesame": 2}, "any other argument is 1"),
        (allow(action("a.read", id=1)), {}, "a.read only where id is 1"),
        (allow(action("a.read", id=1)), {"id": 1, "sesame": 2}, "a.read without an argument"),
        (where("args.id", 1), {"id": "sesame"}, "args.id is 1"),
    ],
)
def test_a_refusal_in_general_tells_no_argument_of_the_call(caveat: Caveat, args: dict[str, Any], named: str) -> None:
    refusal = refused(caveat, args=args)
    assert named in refusal.general
    assert "sesame" not in refusal.general
    assert refusal.general != refusal.sentence


def test_the_refusal_of_other_tenants_names_the_right_one() -> None:
    refusal = ACME.refused()
    assert (refusal.code, refusal.wanted, refusal.given) == ("wrong_tenant", ACME.sentence(), UNSET)
    assert '"Acme"' in refusal.sentence


def test_the_least_that_satisfies() -> None:
    for caveat, facts in (
        (Expires(NOW + 1), Facts(Call("a.read"), NOW, 0.0)),
        (NotBefore(NOW), Facts(Call("a.read"), NOW, 0.0)),
        (understood("fresh", 60), Facts(Call("a.read"), NOW, 60.0)),
        (understood("fresh", 0), Facts(Call("a.read"), NOW, 0.0)),
        (CLOSED, Facts(Call("a.read", {"id": 1, "x": None}), NOW, 0.0)),
        (allow(action("a.read", args={})), Facts(Call("a.read"), NOW, 0.0)),
        (where("args.x", absent()), Facts(Call("a.read"), NOW, 0.0)),
    ):
        assert caveat.refusal(facts) is None


def test_a_budget_may_name_its_counter() -> None:
    assert understood("budget", "usd", "1.50", "all") == build("Budget", "usd", "1.50", "all")


SENTENCES: dict[str, Callable[[], Caveat | Constraint]] = {
    "for task T1": lambda: understood("task", "T1"),
    f"on intent {KEY}": lambda: understood("intent", KEY),
    "below root R1": lambda: understood("root", "R1"),
    f"bound to the key ed25519:{KEY}": lambda: understood("holder", KEY),
    "delegated to slides-agent": lambda: understood("hop", "slides-agent", NONCE),
    "at most 2 more delegations": lambda: max_hops(2),
    "presented once, for one http call": lambda: understood("call", "http", KEY, NOW, PRESENTATION),
    "signed": lambda: understood("sig", SIGNATURE),
    "until task T1 ends": lambda: UntilCompleted("T1"),
    "at most 20 calls, shared by everyone below": lambda: understood("budget", "calls", "20"),
    "not understood: [9]": lambda: NotUnderstood("[9]", "an odd tag"),
    'allows only a.read where id is one of 1, 2 and path is within "/data"; a.write': lambda: READ,
    "allows only a.read without arguments": lambda: allow(action("a.read", args={})),
    "allows only a.read where id is 1 and any other argument is there": lambda: CLOSED,
    'region is one of "eu"': lambda: EU,
    "is at most 10": lambda: between(None, 10),
    "is at least 1": lambda: between(1, None),
    "is between 1 and 10": lambda: between(1, 10),
    'begins with "a" or is absent': lambda: any_of(prefix("a"), absent()),
    "is there and (not: is null)": lambda: all_of(anything(), not_(None)),
    "has 2 or more elements, each of which is true": lambda: each(True, min=2),
    'contains "a" and 1': lambda: contains("a", 1),
    "has a length of 3": lambda: length(3, 3),
    "has a length of at most 3": lambda: length(None, 3),
    "has a length of at least 1": lambda: length(1),
    "has a length from 1 to 3": lambda: length(1, 3),
    'matches "/data/*.csv"': lambda: glob("/data/*.csv"),
    'matches the regular expression "[a-z]+"': lambda: regex("[a-z]+"),
    'is within "/data"': lambda: within("/data"),
    'runs "ls" or "cat"': lambda: argv("ls", "cat"),
    'runs "git" with ["log"] or ["show", "-s"] first': lambda: argv("git", arguments=[["log"], ["show", "-s"]]),
    "is an object (where id is 1 and any other argument is there)": lambda: fields({"id": 1, "*": anything()}),
    "is a host x.example or *.y.example": lambda: host("x.example", "*.y.example"),
    "is an address in 10.0.0.0/8 or fe80::/10": lambda: cidr("10.0.0.0/8", "fe80::/10"),
    "is a URL with scheme https, host x.example, the scheme's own port": lambda: url("x.example"),
    'is a URL with scheme https or http, host x.example or *.y.example, port 443 or 8443, path within "/v1"': lambda: (
        url("x.example", "*.y.example", schemes=["https", "http"], ports=[443, 8443], path="/v1")
    ),
}


@pytest.mark.parametrize(("sentence", "build_it"), SENTENCES.items())
def test_a_demand_in_plain_words(sentence: str, build_it: Callable[[], Caveat | Constraint]) -> None:
    assert build_it().sentence() == sentence


BAD: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "a task": (lambda: build("UntilCompleted", "T 1"), ("T 1", "a task id")),
    "a tenant": (lambda: Tenant("a\nb"), ("a\\nb", "a tenant")),
    "a pattern": (lambda: allow("*"), ("'*'", "an action")),
    "an attribute": (lambda: where("Region", 1), ("Region", "an attribute")),
    "an argument of where": (lambda: where("args.", 1), ("''", "an argument name")),
    "no text for an attribute": (lambda: Where(1, between(1, 2)), ("attribute",)),  # type: ignore[arg-type]
    "an attribute that is absent": (
        lambda: where("region", absent()),
        ("absent", "the resource always states its attributes"),
    ),
    "an element that is absent": (lambda: each(absent()), ("absent", "an element is never missing")),
    "any other that is absent": (
        lambda: action("a", args={"*": absent()}),
        ("absent", 'here: "*" judges only arguments that the call has'),
    ),
    "an argument name": (lambda: action("a", args={"": 1}), ("''", "an argument name")),
    "an argument twice": (lambda: build("Entry", "a", [build("Pair", "x", anything())] * 2), ("named twice",)),
    "an empty allowlist": (allow, ("entries",)),
    "a unit": (lambda: build("Budget", "Calls", "1"), ("Calls", "a unit")),
    "an amount": (lambda: build("Budget", "calls", "01"), ("01", "an amount")),
    "a counter": (lambda: build("Budget", "calls", "1", "a b"), ("a b", "a counter's id")),
    "a task id": (lambda: build("Task", ""), ("''", "a task id")),
    "a root id": (lambda: build("Root", "a b"), ("a b", "a root id")),
    "an intent": (lambda: build("Intent", "x"), ("an intent digest is 32 bytes",)),
    "a key": (lambda: build("Holder", "x"), ("a public key is 32 bytes",)),
    "an agent": (lambda: build("Hop", "", NONCE), ("''", "an agent's name")),
    "an agent of a path": (lambda: build("Step", "", NONCE), ("''", "an agent's name")),
    "a hop's nonce": (lambda: build("Hop", "a", "x"), ("a hop nonce is 8 bytes",)),
    "a hop's nonce in a path": (lambda: build("Step", "a", "x"), ("a hop nonce is 8 bytes",)),
    "a hop's key": (lambda: build("Hop", "a", NONCE, "x"), ("a public key is 32 bytes",)),
    "a profile": (lambda: build("Presented", "ftp", KEY, NOW, PRESENTATION), ("'ftp'", "presentation profile")),
    "a call's digest": (lambda: build("Presented", "tool", NONCE, NOW, PRESENTATION), ("a call digest is 32 bytes",)),
    "a call's nonce": (lambda: build("Presented", "tool", KEY, NOW, NONCE), ("a presentation nonce is 12 bytes",)),
    "an empty range": (lambda: between(2, 1), ("no number is between 2 and 1",)),
    "a range without an end": (lambda: between(None, None), ("one end", "every number is allowed")),
    "an empty range of lengths": (lambda: length(2, 1), ("no length is between 2 and 1",)),
    "a length without an end": (lambda: length(None, None), ("one end", "every length is allowed")),
    "three stars": (lambda: glob("a***b"), ("***",)),
    "a pattern that is none": (lambda: regex("(a"), ("RE2 refuses", "(a", "missing )")),
    "a pattern too large": (lambda: regex("((a{100}){100}){100}"), ("RE2 refuses",)),
    "a relative path": (lambda: within("data"), ("'data'", "absolute path")),
    "a field twice": (lambda: build("Fields", [build("Pair", "x", anything())] * 2), ("named twice",)),
    "a host in upper case": (lambda: host("X.example"), ("'X.example'", "a host")),
    "a host of a URL": (lambda: url("X.example"), ("'X.example'", "a host")),
    "this machine": (lambda: url("localhost"), ("'localhost'", "this machine")),
    "a scheme without hosts": (
        lambda: url("x.example", schemes=["data"], ports=[1]),
        ("'data'", "a scheme that has hosts"),
    ),
    "a scheme in upper case": (lambda: url("x.example", schemes=["HTTPS"]), ("'HTTPS'", "a scheme that has hosts")),
    "a scheme without a port": (lambda: url("x.example", schemes=["ftp"]), ("ftp has no known port", "give the ports")),
    "a path that ends": (lambda: url("x.example", path="/v1/"), ("'/v1/'", "the path of a URL")),
    "a network": (lambda: cidr("10.0.0.1/8"), ("'10.0.0.1/8'", "a network")),
    "a signature": (lambda: build("Sig", KEY), ("a signature is 64 bytes",)),
}


def build(name: str, *fields: Any) -> object:
    import capx_caveats

    return getattr(capx_caveats, name)(*fields)


@pytest.mark.parametrize(("make", "said"), BAD.values(), ids=list(BAD))
def test_what_cannot_be_meant_is_named_to_who_tries_it(make: Callable[[], object], said: tuple[str, ...]) -> None:
    with pytest.raises(InvalidCaveat) as caught:
        make()
    for part in said:
        assert part in str(caught.value)
