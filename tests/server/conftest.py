"""`capx serve` as a process of its own over a real home, its faces over real HTTP and a real Unix socket."""

import contextlib
import json
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from capx.authority.authority import Authority
from capx.authority.home import create_home
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.keys import AudienceKeys
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.grants import ASK
from capx_caveats import InvalidCaveat
from tests.labs import commands
from tests.labs.commands import Process, plain_environment, start_command
from tests.labs.office import Office

COMMAND = (*commands.COMMAND, "serve")
"""An interpreter that starts for it. `Served` has its process forked."""


class Served:
    """A process that serves the authority of a home."""

    command: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.process = self._started(*options)

    def _started(self, *options: str) -> Process:
        env = {**plain_environment(), "CAPX_HOME": str(self.home), "HOME": str(self.home.parent)}
        process = start_command("serve", "--listen", "127.0.0.1:0", "--json", *options, env=env, command=self.command)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate(timeout=30)[1].decode())
        said = json.loads(line)
        self.url: str = said["url"]
        self.socket = Path(said["socket"])
        return process

    @property
    def place(self) -> str:
        return f"unix:{self.socket}"

    def operators(self) -> httpx.Client:
        """A client of the operators' face, as anybody may write one."""
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://capx", timeout=20.0)

    def everybody(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20.0, trust_env=False)

    def keys(self, audience: str) -> AudienceKeys:
        """What `capx keys export` gives a resource."""
        with Authority.open_home(self.home) as authority:
            return authority.keyring.exported(audience)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self, timeout: float = 20.0) -> tuple[int, str]:
        """The exit code, and what stood on standard error."""
        _, err = self.process.communicate(timeout=timeout)
        return self.process.wait(), err.decode()

    def stop(self) -> None:
        """End in order, if it runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
        code, err = self.ended()
        assert "Traceback" not in err, err
        assert code in {0, -signal.SIGKILL, 128 + signal.SIGTERM}, (code, err)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)

    def restart(self, *options: str) -> None:
        """Another process over the same home."""
        self.process = self._started(*options)


@contextlib.contextmanager
def serving(home: Path, *options: str) -> Generator[Served]:
    """The authority of a home, served for the block."""
    served = Served(home, *options)
    try:
        yield served
    finally:
        served.stop()


def presented_ask(bundle: Bundle, body: bytes, action: str = ASK) -> str:
    """The header of an ask with this body; of a body that is no ask, one for an ask of nothing."""
    try:
        args = json.loads(body)
        return bundle.present("authority", ToolCall(action, args if isinstance(args, dict) else {})).authorization
    except (ValueError, RecursionError, InvalidCaveat):
        return bundle.present("authority", ToolCall(action)).authorization


def new_home(folder: Path, store: str | None = None) -> Path:
    """The folder of a new authority; `store` is a URL for a store that is elsewhere."""
    return create_home(folder / "home", store=store)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A served authority of its own for each test."""
    with serving(new_home(tmp_path)) as served:
        yield served


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One served authority for tests of a module that do not disturb one another."""
    with serving(new_home(tmp_path_factory.mktemp("shared"))) as served:
        yield served


@pytest.fixture
def remote(served: Served) -> Iterator[RemoteAuthority]:
    with RemoteAuthority(served.place) as authority:
        yield authority


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"))


@pytest.fixture(scope="module")
def served_office(office: Office) -> Iterator[Served]:
    """The authority of the office, served for all tests of a module."""
    with serving(office.home) as served:
        yield served


@pytest.fixture(scope="module")
def operator(served_office: Served) -> Iterator[RemoteAuthority]:
    """Whoever opens tasks in the office."""
    with RemoteAuthority(served_office.place) as authority:
        yield authority
