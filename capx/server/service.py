"""What a face of a served authority works with: the authority, threads, waiting callers, and figures.

Laws:

- A service belongs to one event loop. In a process that serves, each face has a service and a loop of its own.
- Operators, agents, reports, payments, proofs of people, proofs of people who are remembered, people, followers of the
  feed, followers that begin, and readers of single pages each have their own threads. So none of them can keep the
  others waiting. Followers that begin and readers of pages take turns by machine. The threads of the proofs of people
  also take the first look at an agent's statement, because nothing is proven before it.
- A body is read of a caller whose head has proven who they are. Agents, resources and people have room for the bytes of
  their own bodies each, and one capability, audience or person has half of what the others leave.
- A stop is for everybody: streams end, callers who wait get an answer, and requests that are under way finish. Pages
  that have not begun are refused.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from capx.authority.authority import Authority
from capx.crypto.ed25519 import FeedSigner
from capx.crypto.keys import KeyRing
from capx.guard.asgi.slots import Slots
from capx.server.callers import Callers
from capx.server.metrics import Metrics
from capx.server.net.connections import CONNECTIONS
from capx.server.turns import Turns
from capx.server.waiting.askers import Waiting
from capx.server.waiting.head_watch import HeadWatch
from capx.server.waiting.stream_limits import INBOXES, INBOXES_OF_ONE, OpenStreams
from capx.server.workers import Shared, Workers
from capx.tokens.revocation_key import of_kid

MOMENT: Final = 1.0
"""Seconds for which figures, and that the store is ready, are kept: everybody may ask for them."""

_THREADS, _WAITING = 4, 200
_BODIES = 32 << 20
"""The most bytes of bodies that are held at once for agents, as many for resources, and as many for people."""


class Service:
    """One served authority; belongs to one event loop.

    `feed` is the service of the other face, if that face has the followers of the feed and a loop of its own.
    `people_at` are the origins at which people dial the authority.
    """

    def __init__(self, authority: Authority, *, feed: "Service | None" = None, people_at: Sequence[str] = ()) -> None:
        self.authority = authority
        self.people_at = tuple(people_at)
        self._feed = feed or self
        self.operators = Workers(_THREADS, _WAITING)
        self.agents = Workers(_THREADS, _WAITING, of_one=_THREADS // 2)
        self.resources = Workers(_THREADS, _WAITING)
        self.payments = Workers(_THREADS, _WAITING)
        self.proofs = Workers(_THREADS, CONNECTIONS)  # a proof is short, and each connection waits for one
        self.proofs_of_remembered = Workers(_THREADS, _WAITING, of_one=1)
        self.people = Workers(_THREADS, _WAITING, of_one=1)
        self.inbox_reader = Workers(1, 0)
        self.known = Shared(MOMENT)
        self.followers = Workers(1, _WAITING)
        self.beginners = Turns()
        self.readers = Turns()
        self.scrapes = Shared(MOMENT)
        self.ready = Shared(MOMENT)
        self._revoked = Shared(MOMENT)
        self.watch = HeadWatch(authority.store)
        self.metrics: Metrics = Metrics(authority, self.watch) if feed is None else feed.metrics
        self.verifier = authority.own_verifier()
        self.streams = OpenStreams(self.metrics.followers)
        self.inboxes = OpenStreams(self.metrics.followers, most=INBOXES, of_one=INBOXES_OF_ONE, which="of this person")
        self.waiting = Waiting(authority.store, self.watch, self.metrics.askers)
        self.callers = Callers(self.verifier, lambda: self.ring, self.people_at)
        self.bodies_of_agents = Slots(_BODIES, "bytes of agents")
        self.bodies_of_resources = Slots(_BODIES, "bytes of reports")
        self.bodies_of_people = Slots(_BODIES, "bytes of people")
        self.stopping = False
        """Whether the service stops, so that streams and waiting must end."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Send news to the followers of the feed at once. May be called from any thread."""
        self._feed.soon(self._feed.watch.wake)

    def soon(self, call: Callable[[], None]) -> None:
        """Call a function in the event loop of the service, if that runs. May be called from any thread."""
        loop = self._loop
        if loop is not None:
            # The loop may have ended in between: then nobody is left who needs the call.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(call)

    def stop(self) -> None:
        """End all streams, and wake all callers who wait."""
        self.stopping = True
        self.beginners.stop()
        self.readers.stop()
        self.waiting.wake_all()
        self.watch.moved.send()
        self.watch.due.send()

    def signer(self) -> FeedSigner:
        """The signer of the feed. Its key is derived from the active root key."""
        return self.ring.active.feed_signer()

    async def revoked_kids(self) -> frozenset[str]:
        """Which root keys are dead, by a look that is a moment old at most; StoreProblem if none can be had."""
        kids = self.callers.revoked_kids = await self._revoked.run(self._look_for_revoked)
        return kids

    def _look_for_revoked(self) -> frozenset[str]:
        with self.authority.store.read() as reading:
            return frozenset(kid for kid in self.ring.kids if reading.death(of_kid(kid)))

    @property
    def ring(self) -> KeyRing:
        """The root keys of the authority."""
        return self.authority.keyring

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """A block in which followers get news, and agents that wait are woken."""
        self._loop = asyncio.get_running_loop()
        running = [asyncio.create_task(duty) for duty in (self.watch.run(), self.waiting.run())]
        try:
            yield
        finally:
            self._loop = None
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
