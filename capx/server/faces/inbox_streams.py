"""Streams of the inboxes of people: the whole inbox at once, and again whenever it has changed.

    event: inbox    data: the inbox, as GET /people/requests answers it
    event: end      data: "unproven" (the policy has no such person any more, or another key) or "again" (sign anew)

Laws:

- What waits is read once for all who ask meanwhile, in one thread, and not at all while there is no stream. Streams
  have it read twice a second at most, however much happens. If nothing has changed, no inbox is made anew.
- Before each event, and once a second, the person is looked up again. Whoever was removed, or has another key, gets no
  more.
- A stream ends after 15 minutes, because a proof is not meant to last. A person has few streams at once.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from starlette.responses import Response

from capx.api.messages.base import encode
from capx.authority.people import operations
from capx.authority.people.inbox import inbox, waiting
from capx.authority.people.messages import Inbox
from capx.authority.people.person import Person
from capx.errors import CapxError
from capx.policy.policy import Policy
from capx.server.callers import person_of
from capx.server.faces.event_streams import Stream, event
from capx.server.operation import answered
from capx.server.service import Service
from capx.store.records import WaitingGroup

KIND: Final = "people"
LASTS: Final = 900.0
"""Seconds after which a stream ends."""
_LOOK_EVERY: Final = 1.0
_READ_EVERY: Final = 0.5
_STILL_HERE: Final = 15.0

_Seen = tuple[tuple[WaitingGroup, ...], Policy]


class InboxStreams:
    """The streams of one face."""

    def __init__(self, service: Service, lasts: float = LASTS) -> None:
        self._service = service
        self._lasts = lasts
        self._seen: _Seen | None = None
        self._began = -float("inf")
        self._reading: asyncio.Task[_Seen] | None = None

    async def open(self, person: Person) -> Response:
        """The stream of a person; HttpRefusal when there is no room."""
        with self._service.inboxes.opened(KIND, person.name):
            # Read before the stream begins, because only then can an error still be an HTTP answer.
            first = await self._since(time.monotonic())
        return Stream(self._service.inboxes, KIND, person.name, self._events(person, first))

    async def now(self, person: Person) -> Response:
        """The inbox of a person."""
        waits, policy = await self._since(time.monotonic())
        person.demand_known(policy)
        return answered(operations.inbox, await self._inbox(person, waits, policy))

    async def _inbox(self, person: Person, waits: tuple[WaitingGroup, ...], policy: Policy) -> Inbox:
        service, now = self._service, int(time.time())
        read = partial(inbox, service.authority, waits, policy, person, now=now)
        return await service.people.run_for(person_of(person.name), read)

    async def _events(self, person: Person, seen: _Seen) -> AsyncGenerator[bytes]:
        # A comment at once, so that the client and every proxy see that the stream has begun.
        yield b": the inbox\n\n"
        service, ends = self._service, time.monotonic() + self._lasts
        made_of: _Seen | None = None
        sent, sent_at = b"", time.monotonic()
        with service.watch.followed():
            while not service.stopping:
                waits, policy = seen
                if not person.is_known(policy):
                    yield event(b'"unproven"', event="end")
                    return
                found = sent if seen is made_of else encode(await self._inbox(person, waits, policy))
                if found != sent:
                    sent, sent_at = found, time.monotonic()
                    yield event(found, event="inbox")
                elif time.monotonic() - sent_at > _STILL_HERE:
                    sent_at = time.monotonic()
                    yield b": still here\n\n"
                if time.monotonic() >= ends:
                    yield event(b'"again"', event="end")
                    return
                made_of = seen
                await service.watch.moved.wait(_LOOK_EVERY)
                await asyncio.sleep(self._began + _READ_EVERY - time.monotonic())
                seen = await self._again(seen)

    async def _again(self, before: _Seen) -> _Seen:
        try:
            return await self._since(time.monotonic())
        except CapxError:
            # Silence: the store or the policy cannot be read now, and the log of the authority says so.
            await asyncio.sleep(_LOOK_EVERY)
            return before

    async def _since(self, moment: float) -> _Seen:
        """What waits, read at this moment or later; whoever asks meanwhile shares it."""
        while self._seen is None or self._began < moment:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
            await asyncio.shield(self._reading)
        return self._seen

    async def _read(self) -> _Seen:
        began = time.monotonic()
        authority = self._service.authority
        try:
            seen = await self._service.inbox_reader.run(lambda: (waiting(authority), authority.policy))
        finally:
            self._reading = None
        before = self._seen
        if before is None or seen[1] is not before[1] or seen[0] != before[0]:
            self._seen = seen
        self._began = began
        return self._seen or seen
