"""What people type for caveats, taken as one value each, whatever stands in it."""

from typing import Any

import click
import pytest

from capx.capability import Capability
from capx_caveats import (
    Absent,
    Allow,
    Anything,
    Argv,
    Cidr,
    Contains,
    Each,
    Entry,
    Eq,
    Glob,
    Host,
    In,
    InvalidCaveat,
    Length,
    Not,
    NotUnderstood,
    Pair,
    Path,
    Prefix,
    Range,
    Regex,
    Tenant,
    Url,
    Where,
)
from capx_cli.typed import arguments, named_constraint


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("k=text", "text"),
        ("k=5", "5"),
        ("k=12:30", "12:30"),
        ("k=a=b=c", "a=b=c"),
        ("k:=5", 5),
        ("k:=true", True),
        ('k:=["a",1]', ["a", 1]),
        ("k=eq:path:/x", "path:/x"),
        ("k=eq:", ""),
        ("k=range:0..50", Range(0, 50)),
        ("k=range:0.5..", Range(0.5, None)),
        ("k=range:..-1", Range(None, -1)),
        ("k=path:/data/acme", Path("/data/acme")),
        ("k=one_of:a,b", In(("a", "b"))),
        ("k=prefix:Q-", Prefix("Q-")),
        ("k=not:one_of:a,b", Not(In(("a", "b")))),
        ("k=each:prefix:a", Each(Prefix("a"))),
        ("k=glob:/a/*.txt", Glob("/a/*.txt")),
        ("k=regex:a,b|c:d", Regex("a,b|c:d")),
        ("k=not:regex:a", Not(Regex("a"))),
        ("k=contains:a,b", Contains(("a", "b"))),
        ("k=not_in:a,b", Not(In(("a", "b")))),
        ("k=length:1..10", Length(1, 10)),
        ("k=length:..10", Length(None, 10)),
        ("k=length:0..", Length(0, None)),
        ("k=url:x.org", Url(("https",), ("x.org",), ())),
        ("k=url:x.org,*.x.org", Url(("https",), ("x.org", "*.x.org"), ())),
        ("k=host:*.x.org", Host(("*.x.org",))),
        ("k=cidr:10.0.0.0/8,fc00::/7", Cidr(("10.0.0.0/8", "fc00::/7"))),
        ("k=argv:git,/usr/bin/git", Argv(("git", "/usr/bin/git"))),
        ("k=each:not:glob:**.exe", Each(Not(Glob("**.exe")))),
        ("k=absent:", Absent()),
        ("k=anything:", Anything()),
    ],
)
def test_a_value_means(typed: str, meant: Any) -> None:
    assert named_constraint(typed) == ("k", meant)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("k=paht:/x", "k=eq:paht:/x"),
        ("k=https://x", "https: is no known kind"),
        ("k=not:zz:1", "zz: is no known kind"),
        ("k=range:5", "no two ends"),
        ("k=range:a..b", "k=range: wants numbers, such as range:0..50; 'a' is none"),
        ("k=range:true..2", "wants numbers"),
        ("k=length:5", "no two ends"),
        ("k=length:-1..5", "no two ends"),
        ("k=length:1.5..", "no two ends"),
        ("k=length:\u0661..", "no two ends"),
        ("k=rexeg:a", "rexeg: is no known kind"),
        ("k=fields:a", "fields: is no known kind"),
        *(
            (f"k=url:{more}", "names more than hosts, which alone stand here: k=url:x.org,*.x.org. Schemes, ports and")
            for more in ("x.org:8443", "x.org/v1", "https://x.org/", "x.org,y.org?q", "me@x.org")
        ),
        ("k=absent:x", "nothing may follow"),
        ("k:=nonsense", "no JSON"),
        ("k:=NaN", "no JSON"),
        ('k:={"a":1,"a":2}', "stands twice"),
        ("k", "is not NAME=VALUE"),
        ("=x", "is not NAME=VALUE"),
        (":=1", "is not NAME=VALUE"),
        ("k:=" + "[" * 100_000, "no JSON"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(typed: str, says: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        named_constraint(typed)
    assert says in refused.value.message


@pytest.mark.parametrize(
    "typed",
    [
        *("regex:", "regex:(?=a)", "glob:", "glob:***", "length:..", "length:2..1", "length:9999999999999999.."),
        *("contains:", "contains:a,,b", "not_in:", "url:", "url:*", "host:*", "cidr:10.0.0.1/8"),
        *("argv:", "argv:git,"),
    ],
)
def test_what_a_prefix_cannot_mean_is_refused_as_the_caveat_it_would_be(typed: str) -> None:
    with pytest.raises(InvalidCaveat):
        named_constraint(f"k={typed}")


def test_arguments_of_a_call_are_values_and_no_constraints() -> None:
    assert arguments(["u=https://x", "r=range:1..2", "n:=1", 'o:={"a":[1]}']) == {
        "u": "https://x",
        "r": "range:1..2",
        "n": 1,
        "o": {"a": [1]},
    }
    with pytest.raises(click.UsageError, match="given twice"):
        arguments(["a=1", "a=2"])


def test_each_option_belongs_to_the_allow_before_it(home: Any) -> None:
    said = home(
        *("task", "open", "--allow", "crm.a", "--with", "x=1", "--allow", "crm.b", "--no-args", "--tenant", "Acme"),
        *("--allow", "crm.c", "--with=y:=2", "--with", "*=anything:", "--allow", "crm.d"),
    )
    (caveats,) = Capability.parse(said.token).caveats
    assert [caveat for caveat in caveats if isinstance(caveat, Allow)] == [
        Allow(
            (
                Entry("crm.a", (Pair("x", Eq("1")),)),
                Entry("crm.b", ()),
                Entry("crm.c", (Pair("y", Eq(2)), Pair("*", Anything()))),
                Entry("crm.d"),
            )
        )
    ]


ATTACKS = [
    'x"]]]]],["allow",[["admin.*"]]],["tenant","Evil',
    "line one\nline two\r\n\ttabbed",
    "quotes ' \" ` $(id) \\",
    "comma,semicolon;pipe|amp&",
    '[["allow",[["admin.*"]]]]',
    " --allow admin.* ",
    "\u202e\u200b\x1b[31m",
]


def test_a_value_cannot_become_a_second_caveat_through_any_minting_path(home: Any) -> None:
    names = [f"n{at}" for at, _ in enumerate(ATTACKS)]
    pairs = [("--with", f"{name}=eq:{attack}") for name, attack in zip(names, ATTACKS, strict=True)]
    typed = ("--allow", "crm.read", *(part for pair in pairs for part in pair))
    wheres = [part for _, pair in pairs for part in ("--where", f"args.{pair}")]
    demanded = tuple(Pair(name, Eq(attack)) for name, attack in zip(names, ATTACKS, strict=True))

    token = home("task", "open", "--tenant", "Acme", *typed).token
    for command in (("attenuate",), ("delegate", "--to", "x")):
        token = home(*command, *typed, *wheres, token=token).token
    minted = home("mint", "last", *typed, *wheres).token
    for text in (token, minted):
        for block in Capability.parse(text).caveats:
            assert [caveat for caveat in block if isinstance(caveat, Allow)] == [Allow((Entry("crm.read", demanded),))]
            assert {caveat.name for caveat in block if isinstance(caveat, Tenant)} <= {"Acme"}
            found = [caveat for caveat in block if isinstance(caveat, Where)]
            assert found in ([], [Where(f"args.{pair.name}", pair.constraint) for pair in demanded])
            assert not any(isinstance(caveat, NotUnderstood) for caveat in block)
    call = [f"--arg={name}={attack}" for name, attack in zip(names, ATTACKS, strict=True)]
    verify = ("verify", "--action", "crm.read", "--tenant", "Acme")
    home(*verify, *call, token=token)
    home(*verify, *call[:-1], f"{call[-1]}x", token=token, code=1)


def test_nul_and_lone_surrogates_stay_one_value_or_are_refused(home: Any) -> None:
    said = home("task", "open", "--allow", "crm.read", "--with", 'note:="a\\u0000]]]"')
    (caveats,) = Capability.parse(said.token).caveats
    assert Allow((Entry("crm.read", (Pair("note", Eq("a\0]]]")),)),)) in caveats
    home("verify", "--action", "crm.read", "--arg", 'note:="a\\u0000]]]"', token=said.token)
    assert "surrogate" in home("verify", "--action", "crm.read", "--arg", 'n:="\\ud800"', token=said.token, code=2).err
    home("task", "open", "--allow", "crm.read", "--with", 'n:="\\ud800"', code=2)
    home("task", "open", "--allow", "crm.read", "--with", "n:=9007199254740993", code=2)


def test_labels_cannot_hide_or_break_lines(home: Any) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    for evil in ("a\nb\x1b[31m", "a\u202eb", ""):
        home("delegate", "--to", evil, token=token, code=2)
        home("attenuate", "--tenant", evil, token=token, code=2)
        home("task", "open", "--allow", "crm.read", "--tenant", evil, code=2)
        home("task", "open", "--allow", "crm.read", "--purpose", evil, code=2)
