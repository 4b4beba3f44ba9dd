"""What a relay needs of a client and of a server: messages come and go one by one.

Law: `receive` returns what came in, unread: the relay alone reads messages, in one way. `send` may be called by several
tasks at once, and writes each message as a whole.
"""

from collections.abc import Callable
from typing import Protocol

from capx.api.jsonrpc import Message
from capx.errors import CapxError

Warn = Callable[[str], None]
"""Tells the operator a sentence, which holds nothing that could act on a terminal."""


class Gone(CapxError):
    """The other side is not there any more; says why, as far as it is known."""


class Connection(Protocol):
    """A client, or a server."""

    async def receive(self) -> bytes | None:
        """Return the next message; None when the other side has ended. Raises TooLong."""
        ...

    async def send(self, message: Message) -> None:
        """Send a message; raises Gone."""
        ...


class Server(Connection, Protocol):
    """A server, which somebody has to close."""

    async def close(self) -> None:
        """Have the server end, and wait until it has; may be called again."""
        ...

    def hurry(self) -> None:
        """Have `close` wait less: somebody wants this process to end now."""
        ...

    def ending(self) -> str:
        """How the server has ended, as the rest of a sentence that begins with "the server"."""
        ...
