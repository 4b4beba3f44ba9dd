"""The sockets on which an authority listens.

Laws:

- Only the owner can connect to the operators' socket, from the first moment. Nobody else can write to its folder, or
  put another folder in its place.
- A socket on which another process answers is not replaced. One that a crash left behind is.
- At the end, the program removes only the socket that it has made itself.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from msgspec import Struct

from capx.crypto.private_file import explained, locked, of_another_user, writable_by_others
from capx.errors import ConfigurationProblem
from capx.server.net.connections import WAITING, Listener

SOCKET: Final = "authority.sock"
"""The name of the operators' socket in the authority's home."""
_SILENT_MILLISECONDS = 30_000
_ANSWERS_WITHIN = 1.0
_MAX_LINKS = 40
_ELSEWHERE = "choose another folder with --socket"


class Address(Struct, frozen=True):
    """An address to listen on."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """The address that `HOST:PORT` or `[IPv6]:PORT` names; ConfigurationProblem for other text."""
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        if not colon or not bare or not port.isascii() or not port.isdecimal() or int(port[:6]) > 65_535:
            raise ConfigurationProblem(f"{text!r:.80} is not an address: write HOST:PORT, such as 127.0.0.1:8411")
        if ":" in bare and bare == host:
            raise ConfigurationProblem(f"{text!r:.80} is not an address: write [{bare}]:{port}")
        return cls(bare, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: Address) -> Listener:
    """Listen on the network; ConfigurationProblem says why that does not work."""
    with explained(ConfigurationProblem, f"cannot listen on {address}"):
        family, kind, protocol, _, at = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = Listener(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _drop_silent_connections(listening)
            listening.bind(at)
            listening.listen(WAITING)
        except OSError:
            listening.close()
            raise
    return listening


def _drop_silent_connections(listening: socket.socket) -> None:
    """Let the system close connections whose other side is gone or reads nothing, where it can do that."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MILLISECONDS)


class OwnSocket:
    """A Unix socket that only its owner can connect to; ConfigurationProblem says why it cannot be made."""

    def __init__(self, path: Path) -> None:
        _demand_own_folder(path)
        # The resolved path: a link that somebody changes later does not lead elsewhere.
        self.path = path = path.parent.resolve() / path.name
        # A lock: of two processes that start together, neither may take the other's new socket for a stale one.
        with locked(path, ConfigurationProblem):
            _remove_stale(path)
            self.listening = _bound(path)
            self._made = _which(path)

    def remove(self) -> None:
        """Remove the socket, if it is still the one that was made here."""
        with suppress(OSError):
            if _which(self.path) == self._made:
                self.path.unlink()


def _which(path: Path) -> tuple[int, int, int]:
    """Identifies this file. With the time, because a later file in its place may get the same inode number."""
    found = path.lstat()
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _demand_own_folder(path: Path) -> None:
    with explained(ConfigurationProblem, f"the folder of the socket {path} cannot be used"):
        folder = path.parent.stat()
        way = list(_way_to(path.parent))
    if folder.st_uid != os.geteuid():
        raise ConfigurationProblem(f"the folder of the socket {path} belongs to another user: {_ELSEWHERE}")
    if writable_by_others(folder):
        raise ConfigurationProblem(f"others may write to the folder of the socket {path}: chmod go-w {path.parent}")
    for step, found in way:
        if of_another_user(found):
            raise ConfigurationProblem(
                f"{step}, on the way to the socket {path}, belongs to another user: {_ELSEWHERE}"
            )
        # In a sticky folder such as /tmp, others may write, but cannot rename or remove what is not theirs.
        if not stat.S_ISLNK(found.st_mode) and writable_by_others(found) and not found.st_mode & stat.S_ISVTX:
            raise ConfigurationProblem(
                f"others may write to {step}, on the way to the socket {path}: chmod go-w {step}, or {_ELSEWHERE}"
            )


def _way_to(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every folder and link on the way to a folder, and the folder. Who can replace one can replace all below it."""
    at, *ahead = Path("/"), *reversed(folder.absolute().parts[1:])
    links = 0
    yield at, at.lstat()
    while ahead:
        step = ahead.pop()
        if step == "..":
            at = at.parent
            continue
        found = (at / step).lstat()
        yield at / step, found
        if not stat.S_ISLNK(found.st_mode):
            at = at / step
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = (at / step).readlink()
        at = Path("/") if target.is_absolute() else at
        ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigurationProblem(f"{path} exists and is not a socket: choose another name with --socket")
    if _answers(path):
        raise ConfigurationProblem(f"another capx serve answers on {path}: stop it, or choose another --socket")
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_ANSWERS_WITHIN)
        try:
            asking.connect(str(path))
        except OSError as error:
            # After a timeout, a process is there, but paused or busy. Only these two errors mean that nobody listens.
            return error.errno not in {errno.ECONNREFUSED, errno.ENOENT}
    return True


def _bound(path: Path) -> Listener:
    listening = Listener(socket.AF_UNIX, socket.SOCK_STREAM)
    # A chmod after bind would leave a moment in which others could connect.
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
        listening.listen(WAITING)
    except OSError as error:
        listening.close()
        raise ConfigurationProblem(f"cannot listen on {path}: {error.strerror or error}") from None
    finally:
        os.umask(before)
    return listening
