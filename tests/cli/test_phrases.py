"""What a token demands, in the words of the command line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from capx.tokens.bundle import Bundle
from tests.labs.terminal import hostile, on_terminal
from tests.labs.token_files import Files


@pytest.fixture
def file(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_no_view_lets_text_of_a_token_act_on_a_terminal(home: Any, file: Files) -> None:
    token = hostile(home)
    parent = file("parent", Bundle.parse(token).text)
    call = ("--action", "crm.read", "--arg", "q=\x1b[31m\u202e\n[red]x")
    top = file("top", home("task", "open", "--allow", "crm.read").token)
    views = [
        home("can", token=token),
        home("explain", *call, token=token, code=1),
        home("diff", parent, parent),
        home("diff", top, parent, code=3),
    ]
    seen = "".join(said.out + said.err for said in views)
    assert "[link=http://evil]" in seen
    for line in seen.split("\n"):
        assert line.isprintable()
        assert not line.startswith("ALLOWED")
    plain = re.sub(rb"\x1b\[[0-9;]*m", b"", on_terminal(home, token, "explain", *call, width=60))
    assert b"\x1b" not in plain
    assert "\u202e" not in plain.decode()
    for args, code in ((("can", "--json"), 0), (("explain", *call, "--json"), 1), (("diff", parent, "-", "--json"), 0)):
        raw = home(*args, token=token, code=code).out
        assert raw.isascii()
        assert "\x1b" not in raw
        json.loads(raw)


def test_what_a_hop_adds_beside_actions_is_told(home: Any, file: Files) -> None:
    opened = home("task", "open", "--allow", "crm.read").token
    narrow = ("--tenant", "Acme", "--not-before", "1m", "--where", "region=eu")
    child = home("attenuate", *narrow, token=opened).token
    said = home("diff", file("parent", opened), file("child", child)).out
    assert '  for             tenant "Acme" only' in said
    assert re.search(r"^  from            20\S+$", said, re.MULTILINE)
    assert '  and only where  region is "eu"' in said
    assert "  the token's first holder appended" in said


def test_what_every_call_must_satisfy_is_told_of_a_new_token(home: Any) -> None:
    opened = home("task", "open", "--allow", "crm.read").token
    narrowed = home("attenuate", "--where", "region=eu", "--budget", "calls=5", token=opened)
    demands = 'region is "eu"; at most 5 calls, shared by everyone below'
    assert narrowed.err == f"narrowed\n  at crm: crm.read; and only where {demands}\n"
    assert f"  at crm: crm.read; and only where {demands}\n" in home("delegate", "--to", "a", token=narrowed.token).err


TAKES_AN_ID = [
    ("revoke",),
    ("graph",),
    ("why",),
    ("task", "show"),
    ("task", "complete"),
    ("mint", "--allow", "crm.read"),
    ("keys", "activate"),
]


@pytest.mark.parametrize("command", TAKES_AN_ID, ids=" ".join)
def test_an_unknown_option_is_not_taken_for_an_id(home: Any, command: tuple[str, ...]) -> None:
    for typed in (("--nothing",), ("--nothing", "x"), ("--nothing=x",), ("x", "--nothing")):
        said = home(*command, *typed, code=2).err
        assert said.startswith("capx: No such option '--nothing'.")
    # Behind two dashes it is meant as an id.
    assert "No such option" not in home(*command, "--", "--nothing", code=2).err


def test_an_unknown_option_is_told_with_the_nearest(home: Any) -> None:
    said = home("revoke", "--issued-by", "5m", code=2).err
    assert said == "capx: No such option '--issued-by'. Did you mean '--issued-before'? See capx revoke --help\n"
