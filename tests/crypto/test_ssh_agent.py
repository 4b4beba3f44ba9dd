"""Keys in ssh-agent: a real one signs what a key file signs, and one that lies is not believed."""

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capx.crypto import ssh_agent
from capx.crypto.ed25519 import Signer, is_signed_by, public_text
from capx.crypto.ssh_agent import SshAgentSigner, held_keys, signer
from capx.errors import KeyProblem
from capx.intents.principal_key import PrincipalKey
from tests.labs.ssh import SshAgent, needs_ssh

MESSAGE = bytes(range(32))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[SshAgent]:
    with SshAgent(tmp_path) as agent:
        yield agent


@needs_ssh
def test_a_key_in_the_agent_signs_as_one_in_a_file(agent: SshAgent) -> None:
    public = agent.add("ana")
    key = PrincipalKey("ana", signer(None, agent.path))
    assert key.public == public_text(public)
    assert is_signed_by(public, MESSAGE, key.sign(MESSAGE))


@needs_ssh
def test_of_several_keys_one_must_be_named(agent: SshAgent) -> None:
    first, second = agent.add("first"), agent.add("second")
    assert held_keys(agent.path) == [first, second]
    with pytest.raises(KeyProblem, match=f"name the public key that you mean.*{public_text(second)}"):
        signer(None, agent.path)
    assert signer(second, agent.path).public == second
    with pytest.raises(KeyProblem, match="does not hold ed25519:"):
        signer(Signer(os.urandom(32)).public, agent.path)


@needs_ssh
def test_keys_of_other_kinds_are_passed_over(agent: SshAgent) -> None:
    agent.generate("rsa", "-t", "rsa", "-b", "2048")
    agent.generate("ecdsa", "-t", "ecdsa")
    with pytest.raises(KeyProblem, match="are none"):
        signer(None, agent.path)
    public = agent.add("ana")
    assert signer(None, agent.path).public == public


@needs_ssh
def test_what_was_removed_signs_nothing(agent: SshAgent) -> None:
    agent.add("ana")
    held = signer(None, agent.path)
    agent.run("ssh-add", "-D")
    with pytest.raises(KeyProblem, match="did not sign"):
        held.sign(MESSAGE)


@needs_ssh
def test_who_says_no_to_the_question_of_the_agent_signs_nothing(tmp_path: Path) -> None:
    no = shutil.which("false")
    assert no is not None
    with SshAgent(tmp_path, SSH_ASKPASS=no, SSH_ASKPASS_REQUIRE="force") as agent:
        agent.add("ana", "-c")
        with pytest.raises(KeyProblem, match="did not sign"):
            signer(None, agent.path).sign(MESSAGE)


def test_the_secret_is_not_here() -> None:
    key = PrincipalKey("ana", SshAgentSigner(Signer(os.urandom(32)).public))
    assert not key.can_approve_calls
    for needs_it in (key.dump, lambda: key.open_box(bytes(80))):
        with pytest.raises(KeyProblem, match="stays in ssh-agent"):
            needs_it()


@pytest.mark.parametrize("size", [0, 31, 33, 200])
def test_only_digests_are_signed(size: int) -> None:
    with pytest.raises(KeyProblem, match="signs 32 bytes"):
        SshAgentSigner(Signer(os.urandom(32)).public, "/nowhere").sign(bytes(size))


def test_where_no_agent_runs_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(KeyProblem, match="SSH_AUTH_SOCK names none"):
        PrincipalKey.in_ssh_agent("ana")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
    with pytest.raises(KeyProblem, match="cannot be reached"):
        PrincipalKey.in_ssh_agent("ana")


def sized(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


OTHER = Signer(os.urandom(32))
LIES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a signature of another key": (
        lambda: sized(b"\x0e" + sized(sized(b"ssh-ed25519") + sized(OTHER.sign(MESSAGE)))),
        "something else than a signature",
    ),
    "a signature of another kind": (
        lambda: sized(b"\x0e" + sized(sized(b"ssh-rsa") + sized(bytes(64)))),
        "something else than a signature",
    ),
    "another answer": (lambda: sized(b"\x06"), "did not sign"),
    "a string that is cut off": (lambda: sized(b"\x0e" + (99).to_bytes(4)), "cut off"),
    "an answer of no bytes": (lambda: sized(b""), "0 bytes"),
    "an answer that is too long": (lambda: (ssh_agent.MOST + 1).to_bytes(4), "it may send"),
    "an end before the answer": (lambda: b"\0\0", "closed the connection"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_agent_that_lies_is_not_believed(lie: str, tmp_path: Path) -> None:
    said, told = LIES[lie]
    with Answering(tmp_path / "agent", said()) as path, pytest.raises(KeyProblem, match=told):
        SshAgentSigner(Signer(os.urandom(32)).public, path).sign(MESSAGE)


def test_an_agent_that_stays_silent_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_agent, "PATIENCE", 0.2)
    with Answering(tmp_path / "agent", None) as path, pytest.raises(KeyProblem, match=r"within 0\.2 s"):
        held_keys(path)


class Answering:
    """An agent that says the same to everybody, or nothing."""

    def __init__(self, path: Path, said: bytes | None) -> None:
        self._path, self._said, self._done = str(path), said, threading.Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self._path)
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> str:
        self._thread.start()
        return self._path

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        with self._listening.accept()[0] as one:
            one.recv(4096)
            if self._said is not None:
                one.sendall(self._said)
            else:
                self._done.wait(20)
