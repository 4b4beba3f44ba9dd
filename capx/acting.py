"""Who the running code acts for, and on what decision it runs.

Who acts is set for a block of code, and read by guarded tools and presenting clients; the decision is set by a guarded
tool, and read within it.

Law: both follow the execution (context variables), so concurrent tasks and threads do not act for each other.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeVar

from capx.bundle import Bundle

if TYPE_CHECKING:
    from capx.asking.need import Need, Sought
    from capx.decision import Allowed


class Seeker(Protocol):
    """Who acts with a bundle that grows, because it asks for what it is refused: `capx.Agent`."""

    @property
    def bundle(self) -> Bundle:
        """What is held now."""
        ...

    def seek(self, need: "Need", /) -> "Sought | None":
        """What came of asking for a need, for guards and clients; None if there is nobody to ask.

        What was granted is held. Raises Pending if a person has not answered in time.
        """
        ...

    async def seek_async(self, need: "Need", /) -> "Sought | None":
        """`seek`, for async code."""
        ...


Actor = Bundle | Seeker
A = TypeVar("A", bound=Actor)

_current: ContextVar[Actor | None] = ContextVar("capx_actor", default=None)
_allowed: ContextVar["Allowed | None"] = ContextVar("capx_allowed", default=None)


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


@contextmanager
def allowed_by(allowed: "Allowed") -> Generator[None]:
    """Run a tool on this decision; that of the tool around it is back after it."""
    before = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(before)


def current_allowed() -> "Allowed | None":
    """The decision on which the innermost guarded tool runs: for whom, until when, and what budgets have left."""
    return _allowed.get()
