"""What clients send over HTTP: first the head is judged, then the body is read.

Laws:

- Of a stranger, no body of more than LARGE bytes is read. A caller has shown a presentation in this head, or in its
  session before.
- A message that repeats a presentation in its head has the same one in `_meta`.
- The length of a body is known before it, and counts until the request is answered. A body has a time as a whole.
- Bodies of strangers are parsed one after the other, with a rest between: callers have most of the time. So are large
  bodies of one capability: nobody has shown yet that they are what was presented.
- A token that has ended makes no caller.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final
from weakref import WeakValueDictionary

from msgspec import Struct

from capx.api.jsonrpc import Message, Response, UnreadableMessage, read_message
from capx.api.mcp_messages import HEADER, PRESENTATION, meta_of
from capx.api.relay.http_headers import PRESENTED
from capx.errors import CapxError
from capx.guard.asgi.messages import Receive, arrived
from capx.guard.asgi.slots import Sender, Slots, capability_of
from capx.verify.decision import Denied
from capx.verify.verifier import Authentic

LARGE: Final = 1 << 16
"""The most bytes of a stranger's body."""
BYTES: Final = 16 << 20
"""The most bytes of bodies at once, unless one alone may have more. What is read of them may take 44 times as much."""
_OF_STRANGERS: Final = 1 / 8
_SMALL: Final = 1024
_DIGITS: Final = 12
"""The most digits of a length."""
_REST: Final = 4
_REST_OF_CALLERS: Final = 1
"""How many times as long as the parsing of a body of a stranger, or of one capability, the next one waits."""


class Unread(CapxError):
    """A message whose body is not read, and the status of HTTP that says so."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.REQUEST_ENTITY_TOO_LARGE) -> None:
        super().__init__(message)
        self.status = status


class Inbound(Struct, frozen=True, eq=False):
    """A message of a client, its size in bytes, and the token of its presentation, if the MAC was good."""

    message: Message
    size: int
    token: Authentic | None


class InboundMessages:
    """Reads messages of at most `most` bytes; each takes a slot.

    `authenticate` checks the MAC of a presentation; raises Denied. `has_ended` looks whether its token has.
    """

    def __init__(
        self,
        slots: Slots,
        most: int,
        authenticate: Callable[[str], Authentic],
        has_ended: Callable[[Authentic], bool],
    ) -> None:
        self._slots = slots
        self._most = most
        self._authenticate = authenticate
        self._has_ended = has_ended
        self._bytes = Slots(max(BYTES, most), "bytes", strangers=_OF_STRANGERS)
        self._turns = WeakValueDictionary[Sender, asyncio.Lock]()
        """Who parses in turn: all strangers together, and each capability."""

    @asynccontextmanager
    async def read(self, headers: Mapping[str, str], receive: Receive, by: Sender) -> AsyncGenerator[Inbound]:
        """Read a message, whose slot is taken while the block runs. `by` is who has sent it, without its presentation.

        Raises Unread, NoSlot, TooMuch, TooSlow, Gone or UnreadableMessage.
        """
        token, why = self._shown_in(headers)
        by = by if token is None else capability_of(token)
        is_caller = isinstance(by, bytes)
        size = self._length_of(headers, None if is_caller else why)
        with self._slots.taken(by) as proven, self._bytes.taken(by, size) as bytes_proven:
            body = await arrived(receive, size)
            message = read_message(body) if size <= (LARGE if is_caller else _SMALL) else await self._in_turn(body, by)
            shown = None if isinstance(message, Response) else meta_of(message.params).get(PRESENTATION)
            if (repeated := headers.get(PRESENTED)) is None:
                token = self.authentic(shown)
            elif repeated != shown:
                raise UnreadableMessage(f"{HEADER} is not {PRESENTATION} of this message")
            if token is not None:
                proven(capability_of(token))
                bytes_proven(capability_of(token))
            yield Inbound(message, size, token)

    def authentic(self, shown: object) -> Authentic | None:
        """Return the token of a presentation; None if its MAC is not good, or the token has ended."""
        if not isinstance(shown, str):
            return None
        try:
            token = self._authenticate(shown)
        except Denied:
            # The gate denies it, and says why.
            return None
        return None if self._has_ended(token) else token

    def _shown_in(self, headers: Mapping[str, str]) -> tuple[Authentic | None, str | None]:
        """Return the token that a head shows; None, and why there is none."""
        try:
            token = self._authenticate(headers[PRESENTED])
        except KeyError:
            return None, f"one of more than {LARGE} bytes repeats its presentation in a header, {HEADER}"
        except Denied as denied:
            return None, str(denied)
        return (None, "its token has ended") if self._has_ended(token) else (token, None)

    def _length_of(self, headers: Mapping[str, str], why: str | None) -> int:
        """Return the length of a body; Unread if it is not known, or too long for a stranger, whom `why` tells more."""
        text = headers.get("content-length", "")
        if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
            raise Unread("this message was not read: it has no Content-Length", HTTPStatus.LENGTH_REQUIRED)
        if (size := int(text)) > self._most:
            raise Unread(f"a message has more than {self._most} bytes, the most here: --max-message sets it, in MiB")
        if size > LARGE and why is not None:
            raise Unread(f"this message was not read: {why}")
        return size

    async def _in_turn(self, body: bytes, by: Sender) -> Message:
        clock = asyncio.get_running_loop().time
        group, rest = (by, _REST_OF_CALLERS) if isinstance(by, bytes) else ("", _REST)
        async with self._turns.setdefault(group, asyncio.Lock()):
            began = clock()
            try:
                return read_message(body)
            finally:
                await asyncio.sleep(rest * (clock() - began))
