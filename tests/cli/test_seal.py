"""A token that waits where others may read it."""

from pathlib import Path

from capx.crypto.agent_key import AgentKey
from capx.tokens.bundle import Bundle
from tests.cli.conftest import Shell


def test_a_token_is_sealed_for_one_reader(home: Shell, task: str, tmp_path: Path) -> None:
    reader = AgentKey.generate("reader")
    said = home("seal", "--to", reader.public, token=task)
    assert said.out.startswith("capxseal1_")
    assert said.err == f"sealed to {reader.public}\n"
    assert Bundle.unseal(said.out.strip(), reader).text == task
    file = tmp_path / "sealed"
    told = home("seal", "--to", reader.public, "--out", str(file), "--json", token=task)
    assert (told.json["wrote"], told.json["sealed_to"]) == (str(file), reader.public)
    assert told.json["holder"] is None
    assert "capx1_" not in told.out
    shown = home("seal", "--to", reader.public, "--out", str(file), "--replace", token=task)
    assert f"wrote {file}: sealed, for one reader\n" in shown.err


def test_who_may_read_a_bearer_token_must_be_said(home: Shell, task: str) -> None:
    assert "name the public key of its next holder with --to" in home("seal", token=task, code=2).err
    for wrong in ("reader", "ed25519:AAAA", f"ed25519:{'A' * 43}"):
        said = home("seal", "--to", wrong, token=task, code=2)
        assert (said.out, "public key" in said.err) == ("", True)


def test_a_sealed_text_is_told_where_a_token_is_expected(home: Shell, task: str) -> None:
    sealed = home("seal", "--to", AgentKey.generate("reader").public, token=task).out
    for command in (("inspect",), ("present", "--action", "crm.read")):
        assert (
            "this is sealed, for the owner of one key to read: capx unseal" in home(*command, token=sealed, code=3).err
        )


def test_a_bound_token_is_sealed_for_its_holder_only(home: Shell) -> None:
    holder, other = AgentKey.generate("holder").public, AgentKey.generate("other").public
    bound = home("task", "open", "--allow", "crm.read", "--agent-key", holder).token
    said = home("seal", "--to", other, token=bound, code=2).err
    assert f"bound to {holder}, so the owner of {other} could not use it: leave out --to, or delegate" in said
    assert home("seal", "--to", holder, token=bound).err == home("seal", token=bound).err
