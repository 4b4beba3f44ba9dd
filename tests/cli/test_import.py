"""`capx export` and `capx import`: out to another macaroon library, and back."""

import json
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from pymacaroons import Macaroon
from pymacaroons.serializers import JsonSerializer

from capx.crypto.base64url import b64u, unb64u
from capx.tokens.interop import Format
from capx_cli.commands.export import export

UNVERIFIED = "NOTHING WAS VERIFIED: the signature may be wrong. To check it: capx verify\n"


@pytest.fixture
def token(home: Any) -> str:
    opened: str = home("task", "open", "--allow", "crm.read", "--allow", "slides.write", "--tenant", "Zoë").token
    return opened


def test_the_formats_are_those_of_the_library() -> None:
    (choice,) = (each.type for each in export.params if each.name == "format")
    assert isinstance(choice, click.Choice)
    assert set(choice.choices) == set(get_args(Format))


def test_what_another_library_narrowed_is_imported_and_judged(home: Any, token: str) -> None:
    macaroon = Macaroon.deserialize(home("export", "--audience", "crm", token=token).out.strip())
    macaroon.add_first_party_caveat('[["expires",1]]')
    imported = home("import", token=macaroon.serialize(JsonSerializer()))
    assert "this token allows nothing any more" in imported.err
    said = home("verify", "--action", "crm.read", "--tenant", "Zoë", token=imported.token, code=1)
    assert "expired" in said.out
    assert home("verify", "--action", "crm.read", "--tenant", "Zoë", token=token).out


def test_a_macaroon_is_read_from_wherever_a_token_is(capx: Any, token: str, tmp_path: Path) -> None:
    out = capx("export", "--audience", "crm", "--format", "v2json", token=token).out
    spread = json.dumps(json.loads(out), indent=2, ensure_ascii=False)
    assert "Zoë" in spread
    file = tmp_path / "macaroon.json"
    file.write_text(spread, encoding="utf-8")
    one = token.split(",", maxsplit=1)[0]
    assert capx("import", "--token-file", str(file)).token == one
    assert capx("import", CAPX_TOKEN_FILE=str(file)).token == one
    assert capx("import", CAPX_TOKEN=out).token == one
    assert capx("import", token=spread).token == one
    assert capx("import", token=one).token == one


def test_a_wrong_signature_is_carried_and_said_to_be_unverified(home: Any, token: str) -> None:
    one = token.split(",", maxsplit=1)[0].removeprefix("capx1_")
    forged = b64u(unb64u(one)[:-32] + bytes(32))
    said = home("import", token=forged)
    assert said.token == f"capx1_{forged}"
    assert said.err.startswith(UNVERIFIED)
    assert "not_authentic" in home("verify", "--action", "crm.read", token=said.token, code=1).out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no token was given"),
        ("nonsense!", "this is not a macaroon: it is neither base64 nor JSON"),
        ("{}", "pymacaroons cannot read this as a macaroon"),
        ('{"v": 2, "\\u001b[31m\u202e": 1}', "unknown field"),
        (
            Macaroon(location="crm", identifier="user 7", key="k").serialize(),
            "the identifier is not that of a capx token",
        ),
        ("A" * 70_000, "too large"),
        ("A" * 1_100_000, "too long"),
    ],
)
def test_what_is_no_macaroon_of_ours_is_one_line(capx: Any, text: str, says: str) -> None:
    said = capx("import", token=text, code=3)
    assert said.out == ""
    assert says in said.err
    assert said.err.startswith("capx: ")
    assert said.err.count("\n") == 1
    assert not {"\x1b", "\u202e"} & set(said.err)


def test_bytes_and_tokens_that_belong_apart_are_refused(home: Any, tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x02\x01\x03crm\xff")
    assert "not text" in home("import", "--token-file", str(binary), code=3).err
    assert "not text" in home("inspect", "--token-file", str(binary), code=3).err
    opened = [home("task", "open", "--allow", "crm.read").token for _ in "12"]
    one, two = (home("export", "--audience", "crm", token=token).out for token in opened)
    assert "belong to one task and one node" in home("import", token=one + two, code=3).err
