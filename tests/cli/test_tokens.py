"""Where tokens come from, and where they must not show."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def tokens(home: Any) -> tuple[str, str, str, str]:
    names = ("stdin", "option", "file", "variable")
    opened = home("task", "open", "--allow", "crm.read").token
    a, b, c, d = (home("delegate", "--to", name, token=opened).token for name in names)
    return a, b, c, d


def held_by(said: Any) -> str:
    hops = said.json["tokens"][0]["hops"]
    return str(hops[-1])


def test_the_option_wins_then_a_pipe_the_named_file_the_variable(
    home: Any, tokens: tuple[str, str, str, str], tmp_path: Path
) -> None:
    piped, option, file, variable = tokens
    at_option, at_file = tmp_path / "option", tmp_path / "file"
    for path, token in ((at_option, option), (at_file, file)):
        path.write_text(f"{token}\n")
        path.chmod(0o600)
    both = {"CAPX_TOKEN_FILE": str(at_file), "CAPX_TOKEN": variable}
    inspect = ("inspect", "--json")
    assert held_by(home(*inspect, "--token-file", str(at_option), token=piped, **both)) == "option"
    assert held_by(home(*inspect, "--token-file", "-", token=piped, **both)) == "stdin"
    assert held_by(home(*inspect, token=f"\n {piped} \n", **both)) == "stdin"
    assert held_by(home(*inspect, token="", **both)) == "file"
    assert held_by(home(*inspect, **both)) == "file"
    assert held_by(home(*inspect, CAPX_TOKEN=variable)) == "variable"
    at_file.chmod(0o644)
    assert home(*inspect, **both).err.startswith(f"capx: other users may read {at_file}, which holds a secret")
    at_file.write_text("not a secret")
    assert "other users may read" not in home(*inspect, **both, code=3).err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "capx1_"),
        ("capx1_", ""),
        ("capx1_AAAA", ""),
        ("caf\u00e9", "plain ASCII"),
        ("\x1b[31mcapx1_", ""),
        ("x" * 1_100_000, "too long to be a token"),
        (",".join(["capx1_AAAA"] * 65), "at most 32"),
        ("capx1_AAAA\ncapx1_AAAA", "join them with a comma and nothing else"),
        ("capx1_AAAA, capx1_AAAA", "join them with a comma and nothing else"),
    ],
)
def test_what_is_no_token_is_unusable(capx: Any, text: str, says: str) -> None:
    said = capx("inspect", token=text, code=3)
    assert says in said.err
    assert "\x1b" not in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"nonsense", "{file}: a token begins with capx1_"),
        (b"capx1_AAAA\ncapx1_AAAA", "{file}: there is a blank or a line end between two tokens"),
        ("caf\u00e9".encode(), "{file}: this is not a token: a token begins with capx1_ and is plain ASCII"),
        (b"\xff", "{file} is not a token: these bytes are not text"),
        (b"x" * 1_100_000, "{file} is too long to be a token"),
        (b" \n", "the token file {file}{which} is empty"),
    ],
)
def test_what_is_no_token_is_told_with_its_file(capx: Any, tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "agent.token"
    file.write_bytes(data)
    for command in (("inspect",), ("delegate", "--to", "x")):
        said = capx(*command, "--token-file", str(file), code=3)
        assert said.err.startswith(f"capx: {says.format(file=file, which='')}")
        said = capx(*command, code=3, CAPX_TOKEN_FILE=str(file))
        assert said.err.startswith(f"capx: {says.format(file=file, which=', which CAPX_TOKEN_FILE names,')}")
    said = capx("import", "--token-file", str(file), code=3)
    assert str(file) in said.err
    assert said.err.count("\n") == 1


def test_tokens_of_two_tasks_are_no_bundle(home: Any) -> None:
    one, two = (home("task", "open", "--allow", "crm.read").token for _ in "12")
    said = home("delegate", "--to", "x", token=f"{one},{two}", code=3)
    assert "belong to one task and one node" in said.err


def test_a_token_on_the_command_line_is_refused_and_not_repeated(home: Any) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    for args in (("inspect", token), ("verify", "--action", token), ("delegate", "--to", f"x{token}"), (token,)):
        said = home(*args, token=token, code=2)
        assert "shows in `ps`" in said.err
        assert "CAPX_TOKEN_FILE" in said.err
        assert token[6:30] not in said.err + said.out


def test_no_error_or_view_repeats_a_token(home: Any) -> None:
    token = home("task", "open", "--tenant", "Acme", "--allow", "crm.read").token.split(",")[0]
    cut, changed = token[:-3], token[:-8] + "AAAAAAAA"
    secret = token[-30:-8]
    for args, given, code in (
        (("inspect", "--blocks"), token, 0),
        (("inspect", "--json"), token, 0),
        (("inspect",), cut, 3),
        (("verify", "--action", "crm.read", "--tenant", "Acme"), token, 0),
        (("verify", "--action", "crm.read", "--tenant", "Acme"), changed, 1),
        (("verify", "--action", "crm.read"), cut, 3),
        (("delegate", "--to", "x" * 200), token, 2),
        (("revoke", "--held"), changed, 1),
        (("call", "http://127.0.0.1:1/"), token, 3),
    ):
        said = home(*args, token=given, code=code)
        assert secret not in said.out + said.err, args
    assert "not_authentic" in home("verify", "--action", "crm.read", token=changed, code=1).out
    keys = (home.home / "root.keys").read_text().split()[4]
    assert keys not in home("doctor").out


def test_a_forged_token_revokes_nothing(home: Any) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    forged = token[:-8] + "AAAAAAAA"
    said = home("revoke", "--held", token=forged, code=1)
    assert "denied: this token was changed, or was not minted under a live key" in said.err
    home("verify", "--action", "crm.read", token=token)


def test_a_key_in_the_place_of_a_token_says_what_takes_it(capx: Any) -> None:
    for text in (f"agent reader {43 * 'A'}", f"principal ana {43 * 'A'}"):
        said = capx("inspect", token=text, code=3).err
        assert "this is a key, and not a token: an agent's is for --agent-key-file, a person's for --key-file" in said
