"""The language of NAME=VALUE: what each prefix means, and what none does."""

from typing import Any

import click
import pytest

from capx_caveats import (
    Absent,
    Anything,
    Argv,
    Cidr,
    Contains,
    Each,
    Glob,
    Host,
    In,
    InvalidCaveat,
    Length,
    Not,
    Path,
    Prefix,
    Range,
    Regex,
    Url,
)
from capx_cli.name_value import arguments, named_constraint


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
        ("k=https://x", "https: is not a known kind"),
        ("k=not:zz:1", "zz: is not a known kind"),
        ("k=range:5", "needs two ends"),
        ("k=range:a..b", "k=range: needs numbers, such as range:0..50, not 'a'"),
        ("k=range:true..2", "needs numbers"),
        ("k=length:5", "needs two ends"),
        ("k=length:-1..5", "needs two ends"),
        ("k=length:1.5..", "needs two ends"),
        ("k=length:\u0661..", "needs two ends"),
        ("k=rexeg:a", "rexeg: is not a known kind"),
        ("k=fields:a", "fields: is not a known kind"),
        *(
            (f"k=url:{more}", "names more than hosts: write only hosts, k=url:x.org,*.x.org. For schemes, ports and")
            for more in ("x.org:8443", "x.org/v1", "https://x.org/", "x.org,y.org?q", "me@x.org")
        ),
        ("k=absent:x", "takes no value"),
        ("k:=nonsense", "needs JSON"),
        ("k:=NaN", "needs JSON"),
        ('k:={"a":1,"a":2}', "has the same name twice"),
        ("k", "is not NAME=VALUE"),
        ("=x", "is not NAME=VALUE"),
        (":=1", "is not NAME=VALUE"),
        ("k:=" + "[" * 100_000, "needs JSON"),
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
def test_an_ill_formed_prefix_is_refused_as_its_caveat(typed: str) -> None:
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


def test_prefixes_without_end_are_one_error() -> None:
    with pytest.raises(click.UsageError, match="too many nested prefixes"):
        named_constraint("args.x=" + "not:" * 5000 + "eq:1")
