"""The actor: the bundle or agent for which the running code acts. Guarded tools and HTTP clients read it.

Law: the actor belongs to the execution (a context variable), so concurrent tasks and threads never act for each other.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeVar

from capx.tokens.bundle import Bundle

if TYPE_CHECKING:
    from capx.agent.next_asks import AskOutcome, NextAsks
    from capx.agent.unproven_grants import UnprovenGrants


class Seeker(Protocol):
    """An actor whose bundle grows, because it asks for more when a call is denied: `capx.Agent`."""

    @property
    def bundle(self) -> Bundle:
        """The bundle that it holds now."""
        ...

    @property
    def unproven(self) -> "UnprovenGrants":
        """The grants with which no call has passed yet: a guard or a client notes there how calls end."""
        ...

    def seek(self, wanted: "NextAsks", /) -> "AskOutcome | None":
        """Send the next asks, for a guard or a client, and hold what is granted.

        Return the outcome; None if there is no authority to ask. Raise Pending if a person has not answered in time.
        """
        ...

    async def seek_async(self, wanted: "NextAsks", /) -> "AskOutcome | None":
        """`seek`, for async code."""
        ...


Actor = Bundle | Seeker
"""A bundle that acts, or an agent, which can also ask for more."""
A = TypeVar("A", bound=Actor)

_current: ContextVar[Actor | None] = ContextVar("capx_actor", default=None)


@contextmanager
def acting(actor: A) -> Generator[A]:
    """Act with this bundle, or as this agent, within the block; after it, the previous actor acts again."""
    before = _current.set(actor)
    try:
        yield actor
    finally:
        _current.reset(before)


def current_actor() -> Actor | None:
    """The bundle or agent of the innermost `acting` block around the running code."""
    return _current.get()


def bundle_of(actor: Actor) -> Bundle:
    """Return the bundle that an actor holds now."""
    return actor if isinstance(actor, Bundle) else actor.bundle
