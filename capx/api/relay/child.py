"""A server that is a child process, and speaks over its standard input and output.

Laws:

- The child gets no CAPX_* variable: no key file, no token, no store. Its standard error is that of this process.
- It has a process group of its own, so Ctrl-C reaches this process alone, which then ends the child in order.
- It ends in three steps: its input is closed, then its group gets SIGTERM, then SIGKILL. Nothing of its group is left.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from capx.api.jsonrpc import Message
from capx.api.relay.connection import Gone
from capx.api.relay.lines import MAX_MESSAGE, PIECE, Lines
from capx.api.relay.streams import write_line
from capx.errors import ConfigurationProblem

PATIENCE: Final = 2.0
"""Seconds for each step in which a child ends."""
_MOMENT: Final = 0.5
"""Seconds to wait for the exit status after a child has closed its output."""


def environment_of_child(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables of capx."""
    return {name: value for name, value in environ.items() if not name.startswith("CAPX_")}


class Child:
    """The connection to a server that `start` has started."""

    def __init__(
        self, transport: asyncio.SubprocessTransport, process: asyncio.subprocess.Process, most: int, patience: float
    ) -> None:
        if process.stdin is None or process.stdout is None:
            raise AssertionError(process)
        self._transport = transport
        self._process = process
        self._input = process.stdin
        self._lines = Lines(lambda: output.read(PIECE), most)
        self._patience = patience
        self._hurried = asyncio.Event()
        output = process.stdout

    @classmethod
    async def start(cls, command: Sequence[str], *, most: int = MAX_MESSAGE, patience: float = PATIENCE) -> "Child":
        """Start a server; ConfigurationProblem if it cannot be started. `patience` is in seconds, for each step."""
        loop = asyncio.get_running_loop()
        try:
            # As asyncio.create_subprocess_exec does it, which does not give the transport away.
            transport, protocol = await loop.subprocess_exec(
                lambda: asyncio.subprocess.SubprocessStreamProtocol(PIECE, loop),
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=None,
                env=environment_of_child(os.environ),
                process_group=0,
            )
        except OSError as error:
            raise ConfigurationProblem(f"cannot start {command[0]!r:.200}: {error.strerror or error}") from None
        except ValueError as error:
            raise ConfigurationProblem(f"cannot start {command[0]!r:.200}: {error}") from None
        return cls(transport, asyncio.subprocess.Process(transport, protocol, loop), most, patience)

    @property
    def pid(self) -> int:
        """The id of the process, and of its group."""
        return self._process.pid

    async def receive(self) -> bytes | None:
        """Return the next line of the child; None when it has closed its output."""
        with suppress(ConnectionError):
            if (line := await self._lines.next()) is not None:
                return line
        # Most likely it is exiting: wait for the status, so that `ending` can name it.
        await self._ended(_MOMENT, hurried=0.0)
        return None

    async def send(self, message: Message) -> None:
        """Write a message as one line."""
        try:
            await write_line(self._input, message, "the server")
        except Gone:
            await self._ended(_MOMENT, hurried=0.0)
            raise Gone(f"the server {self.ending()}") from None

    def hurry(self) -> None:
        """Do not wait for the child to end by itself."""
        self._hurried.set()

    async def close(self) -> None:
        """End the child, and wait for it."""
        self._input.close()
        try:
            if not await self._ended(self._patience, hurried=0.0):
                self._signal(signal.SIGTERM)
                await self._ended(self._patience, hurried=self._patience)
        finally:
            # Also what the child has started, and has left behind: it might go on with the connections of the child.
            self._signal(signal.SIGKILL)
        await self._process.wait()
        # Somebody outside of the group may still hold the other end of its output.
        self._transport.close()

    def ending(self) -> str:
        """How the child has ended."""
        code = self._process.returncode
        if code is None:
            return "has closed its output"
        return f"was ended by signal {-code}" if code < 0 else f"has ended with exit status {code}"

    async def _ended(self, seconds: float, *, hurried: float) -> bool:
        waiting = asyncio.ensure_future(self._process.wait())
        hurrying = asyncio.ensure_future(self._hurried.wait())
        try:
            loop = asyncio.get_running_loop()
            until = loop.time() + seconds
            await asyncio.wait({waiting, hurrying}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done() and hurrying.done():
                await asyncio.wait({waiting}, timeout=min(hurried, until - loop.time()))
            return waiting.done()
        finally:
            waiting.cancel()
            hurrying.cancel()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
