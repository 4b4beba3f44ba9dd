"""Who the running code acts for: set for a block of code, read by guarded tools and presenting clients.

Law: it follows the execution (a context variable), so concurrent tasks and threads do not act for each other.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeVar

from capx.tokens.bundle import Bundle

if TYPE_CHECKING:
    from capx.agent.next_asks import AskOutcome, NextAsks


class Seeker(Protocol):
    """Who acts with a bundle that grows, because it asks for what it is refused: `capx.Agent`."""

    @property
    def bundle(self) -> Bundle:
        """What is held now."""
        ...

    def seek(self, wanted: "NextAsks", /) -> "AskOutcome | None":
        """What came of the next asks, for guards and clients; None if there is nobody to ask.

        What was granted is held. Raises Pending if a person has not answered in time.
        """
        ...

    async def seek_async(self, wanted: "NextAsks", /) -> "AskOutcome | None":
        """`seek`, for async code."""
        ...


Actor = Bundle | Seeker
"""Who acts: a bundle, or an agent, which can also ask for more."""
A = TypeVar("A", bound=Actor)

_current: ContextVar[Actor | None] = ContextVar("capx_actor", default=None)


@contextmanager
def acting(actor: A) -> Generator[A]:
    """Act with this bundle, or as this agent, within the block; who acted before is back after it."""
    before = _current.set(actor)
    try:
        yield actor
    finally:
        _current.reset(before)


def current_actor() -> Actor | None:
    """The bundle or agent of the innermost `acting` block around the running code."""
    return _current.get()


def bundle_of(actor: Actor) -> Bundle:
    """What an actor holds now."""
    return actor if isinstance(actor, Bundle) else actor.bundle
