"""Signs with a key of ssh-agent (draft-ietf-sshm-ssh-agent, with ssh-ed25519 of RFC 8709): the secret stays there.

    SSH_AUTH_SOCK    the Unix socket of the agent

Laws: only messages of 32 bytes are signed, which are digests of capx. What SSH itself signs is longer, so no signature
here logs anybody in. A signature counts only if the public key verifies it. The agent may take a minute, because
`ssh-add -c` has it ask its person.
"""

import os
import socket
import time
from typing import Final

from capx.crypto.ed25519 import SIGNATURE, is_signed, public_text, weakness
from capx.errors import KeyProblem

SOCKET: Final = "SSH_AUTH_SOCK"
PATIENCE: Final = 60.0
"""Seconds in which a whole answer must come."""
MOST: Final = 256 * 1024
"""The most bytes of an answer."""
_MESSAGE: Final = 32
_LIST, _LISTED, _SIGN, _SIGNED = 11, 12, 13, 14
_KIND: Final = b"ssh-ed25519"
_NO_FLAGS: Final = (0).to_bytes(4)


class SshAgentSigner:
    """Signs with the key in ssh-agent whose public half is `public` (32 bytes)."""

    __slots__ = ("_path", "public")

    def __init__(self, public: bytes, path: str | None = None) -> None:
        self.public = public
        self._path = path

    @property
    def seed(self) -> bytes:
        """There is none here: KeyProblem."""
        raise KeyProblem("the secret of this key stays in ssh-agent: for this, use a key file (capx principal new)")

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message of 32 bytes; KeyProblem if the agent does not sign it."""
        if len(message) != _MESSAGE:
            raise KeyProblem(f"a key in ssh-agent signs {_MESSAGE} bytes, and not {len(message)}")
        asked = _string(_blob(self.public)) + _string(message) + _NO_FLAGS
        answer = _Reader(_answer(self._path, _SIGN, asked, _SIGNED, "did not sign: its key is gone, or you said no"))
        signed = _Reader(answer.string())
        kind, signature = signed.string(), signed.string()
        if kind != _KIND or len(signature) != SIGNATURE or not is_signed(self.public, message, signature):
            raise KeyProblem("ssh-agent answered with something else than a signature of this key")
        return signature

    def __repr__(self) -> str:
        return f"{type(self).__name__}({public_text(self.public)!r})"


def held_keys(path: str | None = None) -> list[bytes]:
    """Return the public keys (32 bytes each) of Ed25519 that ssh-agent holds; KeyProblem if no agent answers."""
    answer = _Reader(_answer(path, _LIST, b"", _LISTED, "did not list its keys"))
    found: list[bytes] = []
    for _ in range(answer.number()):
        blob, _comment = _Reader(answer.string()), answer.string()
        # A certificate, or a key in hardware, is of another kind and signs something else.
        if blob.string() == _KIND and weakness(public := blob.string()) is None:
            found.append(public)
    return found


def signer(public: bytes | None = None, path: str | None = None) -> SshAgentSigner:
    """Return the signer of this public key, or of the only key of Ed25519 there; KeyProblem if it is not there."""
    held = held_keys(path)
    if public is None:
        if len(held) != 1:
            known = ", ".join(map(public_text, held)) or "none"
            raise KeyProblem(f"name the public key that you mean: the keys of Ed25519 in ssh-agent are {known}")
        (public,) = held
    if public not in held:
        raise KeyProblem(f"ssh-agent does not hold {public_text(public)}: add it with ssh-add")
    return SshAgentSigner(public, path)


def _blob(public: bytes) -> bytes:
    return _string(_KIND) + _string(public)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


class _Reader:
    """Reads numbers and strings, one after the other; KeyProblem where there is none."""

    def __init__(self, data: bytes) -> None:
        self._left = data

    def number(self) -> int:
        return int.from_bytes(self._taken(4))

    def string(self) -> bytes:
        return self._taken(self.number())

    def _taken(self, size: int) -> bytes:
        if size > len(self._left):
            raise KeyProblem("ssh-agent answered with something that is cut off")
        taken, self._left = self._left[:size], self._left[size:]
        return taken


def _answer(path: str | None, kind: int, body: bytes, wanted: int, failure: str) -> bytes:
    """Return what the agent answers, without the number of its kind; KeyProblem unless that is `wanted`."""
    place = path or os.environ.get(SOCKET)
    if not place:
        raise KeyProblem(f"no ssh-agent runs here: {SOCKET} names none")
    try:
        with socket.socket(socket.AF_UNIX) as agent:
            ends = time.monotonic() + PATIENCE
            agent.settimeout(PATIENCE)
            agent.connect(place)
            agent.sendall(_string(bytes([kind]) + body))
            size = int.from_bytes(_received(agent, 4, ends))
            if not 0 < size <= MOST:
                raise KeyProblem(f"ssh-agent answered with {size} bytes: it may send {MOST}")
            answer = _received(agent, size, ends)
    except TimeoutError:
        raise KeyProblem(f"ssh-agent did not answer within {PATIENCE:g} s") from None
    except OSError as error:
        raise KeyProblem(f"ssh-agent cannot be reached at {place}: {error.strerror or error}") from None
    if answer[0] != wanted:
        raise KeyProblem(f"ssh-agent {failure}")
    return answer[1:]


def _received(agent: socket.socket, size: int, ends: float) -> bytes:
    received = bytearray()
    while len(received) < size:
        if (left := ends - time.monotonic()) <= 0:
            raise TimeoutError
        agent.settimeout(left)
        piece = agent.recv(size - len(received))
        if not piece:
            raise KeyProblem("ssh-agent closed the connection before it had answered")
        received += piece
    return bytes(received)
