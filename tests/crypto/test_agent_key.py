"""The key of an agent and its file, which is no person's."""

import pickle
from pathlib import Path

import pytest
from nacl.signing import VerifyKey

import capx
from capx.crypto.agent_key import AgentKey, parse_agent_key
from capx.crypto.ed25519 import Signer, parse_public
from capx.errors import KeyProblem
from capx.intents.principal_key import PrincipalKey

KEY = AgentKey("slides-agent", Signer(bytes(range(32))))


def test_a_signature_is_one_of_ed25519() -> None:
    signature = KEY.sign(b"message")
    assert VerifyKey(parse_public(KEY.public)).verify(b"message", signature) == b"message"
    assert capx.AgentKey is AgentKey


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.key"
    KEY.save(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().startswith("agent slides-agent ")
    again = AgentKey.load(file)
    assert (again.name, again.public) == (KEY.name, KEY.public)
    with pytest.raises(KeyProblem, match="it is there already"):
        KEY.save(file)


def test_an_agents_file_is_no_persons_nor_the_other_way(tmp_path: Path) -> None:
    agents, persons = tmp_path / "agent.key", tmp_path / "person.key"
    KEY.save(agents)
    PrincipalKey.generate("ana").save(persons)
    with pytest.raises(
        KeyProblem, match=r"line 1: this is the key of an agent\. A person signs with a key of capx principal new"
    ):
        PrincipalKey.load(agents)
    with pytest.raises(
        KeyProblem, match=r"line 1: this is the key of a person\. An agent needs its own: capx agent-key new"
    ):
        AgentKey.load(persons)
    persons.write_text("root NAME SEED\n")
    with pytest.raises(KeyProblem, match="line 1: wanted `agent NAME SEED`"):
        AgentKey.load(persons)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ("capx1_AAAA", "this is a token, and not a key: it is for --token-file"),
        ("capxseal1_AAAA", "this is sealed, and not a key: capx unseal opens it"),
        (KEY.public, "this is a public key, which is for --agent-key or --to-key: name the file of its secret half"),
    ],
)
def test_a_file_with_something_else_says_what_it_holds(tmp_path: Path, held: str, says: str) -> None:
    file = tmp_path / "agent.key"
    file.touch(0o600)
    file.write_text(f"{held}\n")
    with pytest.raises(KeyProblem, match=f"{file}, line 1: {says}"):
        AgentKey.load(file)


def test_a_public_key_is_not_the_name_of_a_file() -> None:
    with pytest.raises(KeyProblem, match="this is a public key, which is for --agent-key or --to-key"):
        AgentKey.load(KEY.public)


def test_a_text_that_is_no_agents_key_says_what_to_give() -> None:
    assert parse_agent_key(KEY.public) == parse_public(KEY.public)
    for wrong, says in (
        (KEY, r"must be text: pass its public half, key\.public"),
        (7, "must be text: ed25519: and 43 characters"),
        ("slides.key", r"is not a public key of an agent: capx agent-key show FILE prints it"),
        (KEY.dump(), "this is the text of a key file, a secret, .*: make another key"),
    ):
        with pytest.raises(KeyProblem, match=says):
            parse_agent_key(wrong)


def test_a_file_may_be_named_by_a_text(tmp_path: Path) -> None:
    file = str(tmp_path / "agent.key")
    KEY.save(file)
    assert AgentKey.load(file).public == KEY.public


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "agent.key"
    KEY.save(file)
    file.chmod(0o644)
    with pytest.raises(KeyProblem, match="may be read or changed by others: chmod 600"):
        AgentKey.load(file)


def test_a_key_of_nobody_is_refused() -> None:
    with pytest.raises(KeyProblem, match="cannot name an agent"):
        AgentKey.generate("a\nb")


def test_a_key_never_shows() -> None:
    assert "AAECAwQFBgcICQ" in KEY.dump()
    assert "AAECAwQFBgcICQ" not in repr(KEY) + str(KEY)
    with pytest.raises((KeyProblem, TypeError)):
        pickle.dumps(KEY)


def test_a_secret_in_the_place_of_a_name_is_not_shown() -> None:
    text = KEY.dump().strip()
    seed = text.split()[-1]
    for step in (
        lambda: AgentKey.load(text),
        lambda: PrincipalKey.load(text),
        lambda: parse_public(text),
        lambda: parse_public(seed),
        lambda: parse_agent_key(text),
        lambda: parse_agent_key(seed),
        lambda: KEY.sign(text),  # type: ignore[arg-type]
    ):
        with pytest.raises(KeyProblem) as refused:
            step()
        assert seed not in str(refused.value)


def test_the_text_of_a_key_file_is_no_name_of_one(tmp_path: Path) -> None:
    file = tmp_path / "agent.key"
    KEY.save(file)
    with pytest.raises(KeyProblem, match="give the name of a key file, and not its text"):
        AgentKey.load(file.read_text())
