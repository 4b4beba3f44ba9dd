"""Tricks in text that people are shown: colours, cursors, direction, invisible characters, markup, lines."""

import sys
from typing import Any

import pytest

from capx_cli.escape import clean, without_passwords
from tests.cli.conftest import first
from tests.labs.terminal import hostile

TRICKS = {
    "\x1b[2J\x1b[31mALLOWED": "\\x1b[2J\\x1b[31mALLOWED",
    "a\nb\r\tc": "a\\nb\\r\\tc",
    "\x00\x07\x08\x7f": "\\x00\\x07\\x08\\x7f",
    "\x9b31m\x85": "\\x9b31m\\x85",
    "gnp.\u202eexe\u2066\u200f": "gnp.\\u202eexe\\u2066\\u200f",
    "a\u200bb\u200dc\ufeffd\u00ad": "a\\u200bb\\u200dc\\ufeffd\\xad",
    "\u2028\u2029": "\\u2028\\u2029",
    "\u3164\u2800\ufe0f\u034f": "\\u3164\\u2800\\ufe0f\\u034f",
    "\U000e0041\U000e0101": "\\U000e0041\\U000e0101",
    "\ud800": "\\ud800",
    "a\u00a0b\u3000": "a\\xa0b\\u3000",
}


@pytest.mark.parametrize("text", TRICKS)
def test_what_does_not_show_as_itself_is_written_out(text: str) -> None:
    assert clean(text) == TRICKS[text]


def test_every_character_shows_as_itself_or_is_printable_ascii() -> None:
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        shown = clean(character)
        assert shown == character or (shown.isascii() and shown.isprintable())
        assert shown.isprintable()


@pytest.mark.parametrize("text", ["Zo\u00eb & S\u00f8n \u2013 \u682a\u5f0f\u4f1a\u793e [bold]:smile: \\n", "", "plain"])
def test_honest_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no postgresql://u:pw@h/db here", "no postgresql://u:***@h/db here"),
        ("(postgres://:p@w:x/y@h:1/db)", "(postgres://:***@h:1/db)"),
        ("postgresql:/u:pw@h/db", "postgresql:/u:***@h/db"),
        ("https://u:pw@h/x, https://v:pw@h/x", "https://u:***@h/x, https://v:***@h/x"),
        ("host=h password=pw user=u", "host=h password=*** user=u"),
        ("password = 'p w", "password = ***"),
        ("postgresql://h/db?sslpassword=pw&x=1", "postgresql://h/db?sslpassword=***&x=1"),
        ("(postgresql://u:a-long-passwo) to use", "(postgresql://u:*** to use"),
        ("http://[::1]:8411/x http://h:80, http://h:80", None),
        ("http://127.0.0.1:8411/x, unix:/run/a.sock, ana@our.example", None),
    ],
)
def test_no_password_of_a_url_is_shown(text: str, shown: str | None) -> None:
    assert without_passwords(text) == (text if shown is None else shown)


def test_no_view_lets_text_of_a_token_act_on_a_terminal(home: Any) -> None:
    token = hostile(home)
    call = ("--action", "crm.read", "--arg", "q=\x1b[31m\u202e\n[red]x", "--tenant", "[red]Acme[/red]")
    views = [
        home("inspect", "--blocks", token=token).out,
        home("verify", *call, token=token, code=1).out,
        home("attenuate", "--expires", "5m", token=token).err,
        home("delegate", "--to", "[blink]y", token=token).err,
        home("task", "list").out,
        home("task", "show", "last").out,
        home("graph").out,
    ]
    seen = "".join(views)
    lines = seen.split("\n")
    assert not any(line.startswith("ALLOWED") for line in lines)
    assert all(line.isprintable() for line in lines)
    for harmful in "\x1b\x9b\u202e\u2066\u200b\u2028\x7f\x00":
        assert harmful not in seen
    assert "[bold]x[/bold] :smile:" in seen
    assert "[red]Acme[/red]" in seen
    assert "[link=http://evil]" in seen
    for args in (("inspect",), ("verify", *call)):
        raw = home(*args, "--json", token=token, code=1 if args[0] == "verify" else 0).out
        assert raw.isascii()
        assert "\x7f" not in raw
        assert "\x1b" not in raw


def test_errors_and_the_log_do_not_either(home: Any) -> None:
    opened = home("task", "open", "--tenant", "Acme", "--allow", "crm.read").token
    evil = "\x1b[31m\u202ex\ny"
    for args in (
        ("why", evil),
        ("task", "show", evil),
        ("revoke", evil),
        (evil,),
        ("task", "open", "--allow", evil),
        ("delegate", "--to", evil),
        ("delegate", "--to", "x", "--allow", "a", "--with", f"k={evil}:1", "--with", "k:=nonsense\x1b"),
        ("inspect", f"--{evil}"),
    ):
        said = home(*args, token=opened, code=2)
        assert said.err.count("\n") == 1
        assert said.err[:-1].isprintable()
    decision = home.decide(first(opened).delegate(to="[red]a[/red]").text, "crm.read", "Acme", k=evil)
    assert decision.allowed
    refused = home.decide(first(opened).delegate(to="b", allow=["crm.x"]).text, "crm.read", "Acme", k=evil)
    seen = home("why", refused.id).out + home("graph").out + home("why", decision.id).out
    assert "[red]a[/red]" in seen
    assert all(line.isprintable() for line in seen.split("\n"))
