"""The parts that a verifier needs from outside: news of revocations, a memory of presentations, and a recorder."""

from collections.abc import Mapping
from typing import Final, Protocol, TypeGuard

from capx.tokens.revocation_key import RevocationKey
from capx.verify.decision import Decision


class Liveness(Protocol):
    """A view of deaths. A death is a revocation, or the end of a task."""

    @property
    def deaths(self) -> Mapping[RevocationKey, str]:
        """The reason code of each known death, by its revocation key (capx.tokens.revocation_key)."""
        ...

    @property
    def revoked_until(self) -> int:
        """Every token issued at or before this Unix second is revoked; negative when there is no such time."""
        ...

    @property
    def authority(self) -> str | None:
        """The id of the authority whose revocations these are; None while there are none.

        A verifier whose keys name another authority denies every token.
        """
        ...

    def age(self) -> float:
        """The age of the news in seconds, after updating them if possible; infinite if there are none.

        A verifier denies every token when the age is above its `max_staleness`. So never return less than is true.
        """
        ...


class ReplayMemory(Protocol):
    """A memory of the presentations that were used."""

    @property
    def blocking(self) -> bool:
        """Whether `burn` may wait for I/O; async callers then run it in a thread."""
        ...

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        """Remember this id until `until`, and return whether it was new; Unavailable when that cannot be known.

        `presentation` is the id, 16 bytes; `until` and `now` are Unix seconds. Return True for an id only once.
        """
        ...


class AsyncReplayMemory(ReplayMemory, Protocol):
    """A memory that async callers can wait for.

    It is awaited only if the most derived class that defines `burn` or `burn_async` defines `burn_async`.
    """

    async def burn_async(self, presentation: bytes, until: int, now: int) -> bool:
        """Do the same as `burn`, without blocking the event loop."""
        ...


def burns_async(memory: ReplayMemory) -> TypeGuard[AsyncReplayMemory]:
    """Whether `burn_async` of a memory does what its `burn` does.

    It does not if a subclass or a wrapper has a `burn` of its own, and only inherits or passes on the other one.
    """
    defining = (vars(kind) for kind in type(memory).__mro__)
    return next(("burn_async" in own for own in defining if "burn" in own or "burn_async" in own), False)


class Recorder(Protocol):
    """Takes decisions, to write them into the log."""

    def reserve(self) -> None:
        """Reserve a slot for one decision; Unavailable when there is none. Then the verifier denies the call."""
        ...

    def record(self, decision: Decision) -> None:
        """Take a decision for the slot that was reserved. It must not fail: the call has been paid for."""
        ...


class _NoRecorder:
    def reserve(self) -> None:
        pass

    def record(self, decision: Decision) -> None:
        pass


NO_RECORDER: Final[Recorder] = _NoRecorder()
"""Records nothing: for a verifier whose decisions need no log."""
