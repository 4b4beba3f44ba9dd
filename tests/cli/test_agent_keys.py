"""Tokens that are bound to a key: who has the key uses them, and nobody else."""

from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.crypto.agent_key import AgentKey
from capx.crypto.ed25519 import Signer
from capx.intents.principal_key import PrincipalKey
from capx.tokens.bundle import Bundle
from tests.cli.conftest import Shell
from tests.labs.office import Office
from tests.labs.spent_tokens import flat
from tests.server.conftest import serving

USES = [
    ("present", "--action", "crm.read"),
    ("delegate", "--to", "reader", "--to-key", AgentKey("reader", Signer(bytes(range(32)))).public),
    ("ask", "crm.accounts.read"),
    ("ask", "crm.accounts.read", "--url", "http://127.0.0.1:9"),
    ("call", "http://127.0.0.1:9/accounts", "--audience", "crm"),
]


class Held:
    """A token in a file, and the file of the key that it is bound to."""

    def __init__(self, home: Shell, folder: Path) -> None:
        self.key = AgentKey.generate("planner")
        self.key_file, self.token_file = folder / "planner.key", folder / "planner.token"
        self.key.save(self.key_file)
        with Authority.open_home(home.home) as authority:
            opened = authority.open(allow=["crm.read", "slides.write"], tenant="Acme", agent_key=self.key.public)
        self.task = opened.id
        opened.bundle.save(self.token_file)

    @property
    def token(self) -> tuple[str, str]:
        return "--token-file", str(self.token_file)

    @property
    def signing(self) -> tuple[str, str, str, str]:
        return *self.token, "--agent-key-file", str(self.key_file)


@pytest.fixture
def held(home: Shell, tmp_path: Path) -> Held:
    return Held(home, tmp_path)


@pytest.mark.parametrize("use", USES, ids=["present", "delegate", "ask", "ask-url", "call"])
def test_a_stolen_token_without_the_key_file_is_refused(home: Shell, held: Held, use: tuple[str, ...]) -> None:
    said = home(*use, *held.token, code=3)
    assert said.out == ""
    assert said.err == (
        f"capx: this token is bound to the key {held.key.public}, and only who has that key can use it: name its file "
        "with --agent-key-file FILE or CAPX_AGENT_KEY_FILE\n"
    )


@pytest.mark.parametrize("use", USES, ids=["present", "delegate", "ask", "ask-url", "call"])
def test_the_key_of_somebody_else_is_refused(home: Shell, held: Held, tmp_path: Path, use: tuple[str, ...]) -> None:
    thief = AgentKey.generate("thief")
    thief.save(tmp_path / "thief.key")
    said = home(*use, *held.token, "--agent-key-file", str(tmp_path / "thief.key"), code=3)
    assert f"is bound to the key {held.key.public}, and {tmp_path}/thief.key holds {thief.public}" in said.err
    assert ": name the file of the first key with --agent-key-file FILE or CAPX_AGENT_KEY_FILE\n" in said.err
    assert said.err == home(*use, *held.token, code=3, CAPX_AGENT_KEY_FILE=str(tmp_path / "thief.key")).err


def test_a_key_file_that_others_may_read_signs_nothing(home: Shell, held: Held) -> None:
    held.key_file.chmod(0o644)
    for said in (
        home(*USES[0], *held.signing, code=3),
        home(*USES[0], *held.token, code=3, CAPX_AGENT_KEY_FILE=str(held.key_file)),
    ):
        assert (said.out, f"chmod 600 {held.key_file}" in said.err) == ("", True)


def test_the_key_of_a_person_signs_for_no_agent(home: Shell, held: Held, tmp_path: Path) -> None:
    PrincipalKey.generate("ana").save(tmp_path / "ana.key")
    said = home(*USES[0], *held.token, "--agent-key-file", str(tmp_path / "ana.key"), code=3)
    assert "this is the key of a person. An agent needs its own: capx agent-key new" in said.err
    # The option for the key of a person is not taken for it.
    assert "No such option" in home(*USES[0], *held.token, "--key-file", "x", code=2).err


def test_a_presentation_is_signed_by_the_key_in_the_file(home: Shell, held: Held, tmp_path: Path) -> None:
    call = ("--action", "crm.read")
    shown = home("present", *call, *held.signing).token
    assert len(home("present", *call, *held.token, CAPX_AGENT_KEY_FILE=str(held.key_file)).token) == len(shown)
    judged = home("verify", *call, "--tenant", "Acme", token=shown)
    assert judged.out.startswith("ALLOWED  crm.read at crm")
    # Whoever looks at a token needs no key. Only `verify` says what a service would.
    assert "hop_unsigned" in home("verify", *call, "--tenant", "Acme", *held.token, code=1).out
    assert home("explain", *call, *held.token).code == 0


def test_a_token_without_a_key_needs_no_key_file(home: Shell, held: Held, task: str) -> None:
    refused = home(*USES[0], "--agent-key-file", str(held.key_file), token=task, code=2)
    assert "this token is bound to no key: leave out --agent-key-file" in refused.err
    # A variable is there for all tokens of a shell, also for those that need no key.
    assert home(*USES[0], token=task, CAPX_AGENT_KEY_FILE="/nowhere").token


def test_a_delegation_names_the_key_of_the_next_agent(home: Shell, held: Held, tmp_path: Path) -> None:
    reader = AgentKey.generate("reader")
    reader.save(tmp_path / "reader.key")
    named = ("delegate", "--to", "reader", "--allow", "crm.read", "--audience", "crm")
    assert "give the public key of the other agent with --to-key" in home(*named, *held.signing, code=2).err
    assert "is not a public key" in home(*named, "--to-key", "reader", *held.signing, code=2).err
    child = home(*named, "--to-key", reader.public, *held.signing)
    assert f"\n  bound to {reader.public}\n" in child.err
    assert Bundle.parse(child.token).holder == reader.public
    # The parent cannot use what is the child's.
    stolen = home("present", "--action", "crm.read", "--agent-key-file", str(held.key_file), token=child.token, code=3)
    assert f"bound to the key {reader.public}" in stolen.err
    shown = home(
        "present", "--action", "crm.read", "--agent-key-file", str(tmp_path / "reader.key"), token=child.token
    ).token
    assert home("verify", "--action", "crm.read", "--tenant", "Acme", token=shown).code == 0


def test_a_bearer_token_is_delegated_to_no_key(home: Shell, task: str) -> None:
    reader = AgentKey.generate("reader").public
    refused = home("delegate", "--to", "reader", "--to-key", reader, token=task, code=2)
    assert "--to-key would prove nothing: leave it out. To bind, open the task with --agent-key" in refused.err
    sealed = home("delegate", "--to", "reader", "--seal", token=task, code=2)
    assert "pipe the new one to capx seal --to ed25519:…" in sealed.err


def test_every_view_of_a_token_names_its_keys(home: Shell, held: Held, tmp_path: Path) -> None:
    reader = AgentKey.generate("reader").public
    child = home("delegate", "--to", "reader", "--to-key", reader, "--audience", "crm", *held.signing).token
    (tmp_path / "child.token").write_text(child)
    seen = flat(home("inspect", "--blocks", token=child).out)
    assert f"key {held.key.public} of the first agent key {reader} of reader" in seen
    assert f"the task's grant: bound to the key {held.key.public}" in seen
    assert f"delegated to reader, whose key is {reader}" in seen
    (found,) = home("inspect", "--json", token=child).json["tokens"]
    assert found["keys"] == [held.key.public, reader]
    assert "signed" in found["blocks"][1]
    (bearer, *_) = home("inspect", "--json", token=home("task", "open", "--allow", "crm.read").token).json["tokens"]
    assert bearer["keys"] == []
    took = home("diff", str(held.token_file), str(tmp_path / "child.token"))
    assert f"    delegated to reader, whose key is {reader}\n" in took.out
    assert "crm.read" in home("can", token=child).out


def test_an_agent_asks_with_its_key_at_home_and_over_http(capx: Shell, office: Office, tmp_path: Path) -> None:
    key = AgentKey.generate("clerk")
    key.save(tmp_path / "clerk.key")
    with Authority.open_home(office.home) as authority:
        bundle = authority.open(office.signed(authority), agent_key=key.public).bundle
    ask = ("ask", "warehouse.stock.read", "--agent-key-file", str(tmp_path / "clerk.key"))
    fuller = Bundle.parse(capx(*ask, token=bundle.text).token)
    with serving(office.home) as served:
        assert Bundle.parse(capx(*ask, "--url", served.url, token=bundle.text).token) == fuller
        # An agent ends its task with its key, and nobody without it does.
        end = ("call", f"{served.url}/agent/complete", "--method", "POST", "--audience", "authority")
        assert "bound to the key" in capx(*end, token=bundle.text, code=3).err
        ended = capx(*end, "--agent-key-file", str(tmp_path / "clerk.key"), token=bundle.text)
        assert '"completed"' in ended.out
    granted = fuller.candidates("warehouse")[0]
    assert granted.keys == (key.public,)


def test_a_task_is_opened_for_the_key_of_an_agent(home: Shell, held: Held) -> None:
    opened = home("task", "open", "--allow", "crm.read", "--agent-key", held.key.public)
    assert f"\n  bound to {held.key.public}\n" in opened.err
    assert Bundle.parse(opened.token).holder == held.key.public
    assert f"  bound to  {held.key.public}\n" in home("task", "show", "last").out
    assert home("task", "show", "last", "--json").json["holder"] == held.key.public
    assert home("mint", "last", "--allow", "tickets.read").token


TAKES_A_KEY: dict[tuple[str, ...], str] = {
    ("task", "open", "--allow", "crm.read"): "--agent-key",
    ("intent", "new", "--principal", "ana", "--purpose", "qbr", "--statement", "it"): "--agent-key",
    ("delegate", "--to", "reader"): "--to-key",
    ("seal",): "--to",
    ("revoke",): "--key",
    ("keys", "export", "crm"): "--seal-to",
}


@pytest.mark.parametrize("command", TAKES_A_KEY, ids=" ".join)
def test_a_key_file_is_not_taken_for_a_public_key(home: Shell, held: Held, command: tuple[str, ...]) -> None:
    option = TAKES_A_KEY[command]
    said = home(*command, option, str(held.key_file), token=held.token_file.read_text(), code=2)
    assert f"Invalid value for '{option}': {held.key_file} is a file and not a public key" in said.err
    assert f'use "$(capx agent-key show {held.key_file})"' in said.err
    short = home(*command, option, "ed25519:abc", code=2)
    assert f"Invalid value for '{option}': a public key has 43 characters after ed25519:" in short.err
    other = home(*command, option, "x" * 5_000, code=2)
    assert "is not a public key of an agent: capx agent-key show FILE prints it" in other.err
    secret = home(*command, option, held.key_file.read_text().strip(), code=2).err
    assert "this is the text of a key file, a secret, " in secret
    assert "make another key" in secret
    assert held.key.dump().split()[-1] not in secret
    twice = home(*command, option, held.key.public, option, held.key.public, code=2).err
    assert f"Invalid value for '{option}': it was given twice: give it once" in twice


@pytest.mark.parametrize("command", ["revoke", "why", "graph", "task show", "find --agent", "inspect --token-file"])
def test_no_command_shows_the_text_of_a_key_file(home: Shell, held: Held, command: str) -> None:
    text = f"# of the planner\n  {held.key_file.read_text()}"
    said = home(*command.split(), text, code=2).err
    assert "this is the text of a key file, a secret" in said
    assert held.key_file.read_text().split()[-1] not in said


def test_a_bound_token_without_its_key_is_denied(home: Shell, held: Held) -> None:
    verify = ("verify", "--action", "crm.read", "--tenant", "Acme")
    said = home(*verify, *held.token, code=1)
    assert said.out.startswith("DENIED  crm.read at crm")
    assert "hop_unsigned: " in said.out
    assert home(*verify, *held.signing).out.startswith("ALLOWED")
    # What denies it besides is said too.
    both = home("verify", "--action", "crm.export", "--audience", "crm", "--json", *held.token, code=1).json
    assert [reason["code"] for reason in both["reasons"]][-1] == "hop_unsigned"
    assert len(both["reasons"]) > 1


def test_a_key_file_is_named_once(home: Shell, held: Held) -> None:
    said = home(*USES[0], *held.signing, "--agent-key-file", str(held.key_file), code=2)
    assert "Invalid value for '--agent-key-file': it was given twice: give it once" in said.err


def test_each_wrong_file_says_which_option_takes_it(home: Shell, held: Held, tmp_path: Path) -> None:
    token, public = tmp_path / "a.token", tmp_path / "public"
    token.write_text(held.token_file.read_text())
    public.write_text(f"{held.key.public}\n")
    for file in (token, public):
        file.chmod(0o600)
    as_key = (*USES[0], *held.token, "--agent-key-file")
    assert "this is a token, and not a key: it is for --token-file" in home(*as_key, str(token), code=3).err
    for given in (str(public), held.key.public):
        assert "this is a public key, which is for --agent-key or --to-key" in home(*as_key, given, code=3).err
    as_token = home(*USES[0], "--token-file", str(held.key_file), code=3).err
    assert f"{held.key_file}: this is a key, and not a token: an agent's is for --agent-key-file" in as_token


def test_a_key_file_of_the_variable_is_blamed_on_it(home: Shell, held: Held, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere.key")
    for use in (USES[0], ("unseal", str(held.token_file))):
        said = home(*use, *(held.token if use == USES[0] else ()), code=3, CAPX_AGENT_KEY_FILE=nowhere)
        assert said.err.startswith(f"capx: CAPX_AGENT_KEY_FILE: cannot read the key file {nowhere}")
    assert "CAPX_AGENT_KEY_FILE" not in home(*USES[0], *held.token, "--agent-key-file", nowhere, code=3).err


def test_no_task_is_opened_for_the_key_of_a_person(home: Shell) -> None:
    public = home("principal", "new", "ana").out.strip()
    home("principal", "add", "ana", "--key", public)
    said = home("task", "open", "--allow", "crm.read", "--agent-key", public, code=2)
    assert 'is the key of "ana" in the policy, and no agent' in said.err
    assert "make a key for the agent (capx agent-key new)" in said.err
