"""What was sealed is opened by the key that it was sealed to, and by no other."""

import stat
from pathlib import Path

import pytest

from capx.crypto.agent_key import AgentKey
from capx.crypto.keys import AudienceKeys
from capx.crypto.sealed import seal
from capx.tokens.bundle import Bundle
from tests.cli.conftest import Shell
from tests.cli.test_agent_keys import Held


class Reader:
    """The agent that something is sealed for."""

    def __init__(self, folder: Path) -> None:
        self.key = AgentKey.generate("reader")
        self.key_file = folder / "reader.key"
        self.key.save(self.key_file)

    @property
    def opening(self) -> tuple[str, ...]:
        return "unseal", "--agent-key-file", str(self.key_file)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


@pytest.fixture
def held(home: Shell, tmp_path: Path) -> Held:
    return Held(home, tmp_path)


def test_a_sealed_hand_over_lies_in_a_file_for_anybody(home: Shell, held: Held, reader: Reader, tmp_path: Path) -> None:
    narrow = ("--to", "reader", "--to-key", reader.key.public, "--audience", "crm", "--allow", "crm.read")
    made = home("delegate", *narrow, "--seal", *held.signing)
    queue = tmp_path / "queue"
    queue.write_text(made.out)
    queue.chmod(0o644)
    assert made.out.startswith("capxseal1_")
    assert "capx1_" not in made.out + made.err
    assert made.err.endswith(f"\nNext: capx unseal --task {held.task}, where reader has its key\n")
    assert home("unseal", str(queue), "--agent-key-file", str(held.key_file), code=3).out == ""

    token = tmp_path / "reader.token"
    said = home(*reader.opening, str(queue), "--task", held.task, "--out", str(token))
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert (said.out, said.err.splitlines()[:2]) == (
        "",
        [f"wrote {token}: a secret", f"opened a token of task {held.task}"],
    )
    assert f"  bound to {reader.key.public}\n" in said.err
    assert '  for tenant "Acme"\n  held by task > reader\n' in said.err
    assert "Anybody" not in said.err
    shown = home(
        "present", "--action", "crm.read", "--token-file", str(token), "--agent-key-file", str(reader.key_file)
    )
    assert home("verify", "--action", "crm.read", "--tenant", "Acme", token=shown.token).code == 0


def test_json_tells_of_an_opened_token(home: Shell, task: str, reader: Reader, tmp_path: Path) -> None:
    sealed = home("seal", "--to", reader.key.public, token=task).out
    out = tmp_path / "opened.token"
    said = home(*reader.opening, "--json", "--out", str(out), token=sealed)
    told = said.json
    assert (told["verified"], told["wrote"], told["tenant"], told["holder"]) == (False, str(out), "Acme", None)
    assert said.err == "Anybody can have sealed this. If you expect a certain task, give it with --task\n"
    assert told["task"] == home("task", "list", "--json").json[-1]["id"]
    assert [one["hops"] for one in told["tokens"]] == [[], [], []]
    assert Bundle.load(out).text == task
    assert home(*reader.opening, token=sealed).token == task
    loud = home(*reader.opening, token=sealed).err
    assert "bound to no key: whoever reads it can use it" in loud
    assert "If you expect a certain task, give it with --task" in loud


def test_another_task_than_expected_is_refused(home: Shell, task: str, reader: Reader) -> None:
    sealed = home("seal", "--to", reader.key.public, token=task).out
    said = home(*reader.opening, "--task", "A" * 22, token=sealed, code=3)
    assert (said.out, "somebody else may have sent it" in said.err) == ("", True)
    for no_id in ("last", f"{'A' * 22}\n{'B' * 22}"):
        refused = home(*reader.opening, "--task", no_id, token=sealed, code=2).err
        assert "is not the id of a task: an id has 22 characters" in refused
        assert "unseal needs the whole id, which capx task list or capx inspect shows" in refused


def test_a_token_for_another_key_is_refused(home: Shell, held: Held, reader: Reader) -> None:
    sealed = seal(held.token_file.read_text().strip(), "bundle", reader.key.public)
    said = home(*reader.opening, token=sealed, code=3)
    assert f"bound to {held.key.public}, and this is the key {reader.key.public}" in said.err


def test_what_is_not_sealed_is_told_before_it_is_opened(home: Shell, task: str, reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert "empty is empty: there is nothing" in home(*reader.opening, str(tmp_path / "empty"), code=3).err
    assert "standard input is not sealed: use the token in it as it is" in home(*reader.opening, token=task, code=3).err
    other = home(*reader.opening, token="hello", code=3).err
    assert "standard input is not sealed: a sealed text begins with capxseal1_" in other


def test_what_is_no_sealed_token_has_one_answer(home: Shell, task: str, reader: Reader) -> None:
    sealed = home("seal", "--to", reader.key.public, token=task).out.strip()
    others = home("seal", "--to", AgentKey.generate("other").public, token=task).out.strip()
    swapped = sealed[:-30] + ("A" if sealed[-30] != "A" else "B") + sealed[-29:]
    keys = home("keys", "export", "crm", "--seal-to", reader.key.public).out.strip()
    answers = {home(*reader.opening, token=text, code=3).err for text in (others, swapped, keys, sealed + "A" * 2**20)}
    (one,) = answers
    assert "was sealed to another key, holds no token, or was changed on its way" in one
    assert f"Ask the sender to seal it to {reader.key.public}" in one
    assert "bundle" not in one
    assert "if it is the key file of a resource, give --keys" in one


def test_without_a_key_nothing_is_opened(home: Shell, task: str, reader: Reader) -> None:
    sealed = home("seal", "--to", reader.key.public, token=task).out
    said = home("unseal", token=sealed, code=2)
    assert "name its file with --agent-key-file FILE or CAPX_AGENT_KEY_FILE" in said.err
    assert home("unseal", token=sealed, CAPX_AGENT_KEY_FILE=str(reader.key_file)).token == task


def test_the_keys_of_a_resource_travel_sealed(home: Shell, reader: Reader, tmp_path: Path) -> None:
    file, out = tmp_path / "crm.sealed", tmp_path / "crm.keys"
    said = home("keys", "export", "crm", "--seal-to", reader.key.public, "--out", str(file))
    assert f"wrote {file}: sealed to {reader.key.public}, only for crm" in said.err
    file.chmod(0o644)
    opening = (*reader.opening, str(file), "--keys")
    assert "--keys needs --out FILE" in home(*opening, code=2).err
    assert "--task is for tokens" in home(*opening, "--task", "T", "--out", str(out), code=2).err
    opened = home(*opening, "--out", str(out))
    found = AudienceKeys.load(out, "crm")
    assert f"the keys of crm, of authority {found.authority}\n" in opened.err
    assert out.read_text() == home("keys", "export", "crm").out
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    again = home(*opening, "--out", str(out), "--replace", "--json")
    assert again.json == {"wrote": str(out), "verified": False, "audience": "crm", "authority": found.authority}
    for warned in (opened, again):
        assert "Anybody can have sealed this. Compare the authority with the one that capx doctor shows" in warned.err


@pytest.mark.parametrize("text", ["nonsense\n", "", "audience crm\n", "authority AAAAAAAAAAAAAAAAAAAAAA\n"])
def test_a_strangers_text_takes_the_place_of_no_keys(home: Shell, reader: Reader, tmp_path: Path, text: str) -> None:
    out = tmp_path / "crm.keys"
    home("keys", "export", "crm", "--out", str(out))
    before = out.read_bytes()
    sealed = seal(text, "keys", reader.key.public)
    said = home(*reader.opening, "--keys", "--out", str(out), "--replace", token=sealed, code=3)
    assert said.err.startswith("capx: what was opened")
    assert (out.read_bytes(), list(tmp_path.glob("crm.keys*"))) == (before, [out])


def test_a_token_is_not_opened_as_keys(home: Shell, task: str, reader: Reader, tmp_path: Path) -> None:
    sealed = home("seal", "--to", reader.key.public, token=task).out
    said = home(*reader.opening, "--keys", "--out", str(tmp_path / "crm.keys"), token=sealed, code=3)
    assert "if it is a token, leave out --keys" in said.err
    assert not (tmp_path / "crm.keys").exists()


def test_the_help_says_what_each_option_is_for(capx: Shell) -> None:
    said = " ".join(capx("unseal", "--help").out.split())
    assert "--agent-key-file FILE The key that the text was sealed to." in said
    assert "from capx keys export --seal-to. It needs --out." in said
    assert "--out FILE Write what was sealed to a new file" in said
    assert "--out FILE Write the presentation to a new file" in " ".join(capx("present", "--help").out.split())
