"""What people type for caveats, taken as one value each, whatever stands in it."""

from typing import Any

from capx_caveats import (
    Allow,
    Anything,
    Entry,
    Eq,
    NotUnderstood,
    Pair,
    Tenant,
    Where,
)
from tests.cli.conftest import first


def test_each_option_belongs_to_the_allow_before_it(home: Any) -> None:
    said = home(
        *("task", "open", "--allow", "crm.a", "--with", "x=1", "--allow", "crm.b", "--no-args", "--tenant", "Acme"),
        *("--allow", "crm.c", "--with=y:=2", "--with", "*=anything:", "--allow", "crm.d"),
    )
    (caveats,) = first(said.token).caveats
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


def test_what_belongs_to_no_option_before_it_is_refused(home: Any) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    said = home("delegate", "--to", "x", "--no-args", token=token, code=2)
    assert "--with and --no-args belong to the --allow or --may-ask before them: give" in said.err
    said = home("task", "open", "--no-args", "--allow", "crm.read", code=2)
    assert "belong to the --allow before them: give" in said.err


def test_a_value_becomes_no_second_caveat_by_any_command(home: Any) -> None:
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
        for block in first(text).caveats:
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
    (caveats,) = first(said.token).caveats
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
