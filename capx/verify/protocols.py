"""What a verifier needs from outside: knowledge of revocations, a memory of presentations, and a recorder."""

from collections.abc import Mapping
from typing import Final, Protocol

from capx.tokens.revocation_key import RevocationKey
from capx.verify.decision import Decision


class Liveness(Protocol):
    """A view of deaths."""

    @property
    def deaths(self) -> Mapping[RevocationKey, str]:
        """The reason of each known death, by what is dead (capx.tokens.revocation_key)."""
        ...

    @property
    def revoked_until(self) -> int:
        """The last second (Unix) up to which all that was issued is dead; negative when there is none."""
        ...

    def age(self) -> float:
        """The age of the knowledge in seconds, brought up to date if possible; infinite if there is none."""
        ...


class ReplayMemory(Protocol):
    """A memory of presentations; `blocking` ones may do I/O, so async callers run their burns in a thread."""

    @property
    def blocking(self) -> bool:
        """Whether `burn` may wait for I/O."""
        ...

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        """Whether an id was new; it is burnt now. Unavailable when that is unknown."""
        ...


class Recorder(Protocol):
    """Where decisions go."""

    def reserve(self) -> None:
        """Take a slot for one decision; Unavailable when none is to be had."""
        ...

    def record(self, decision: Decision) -> None:
        """Hand over a decision for the slot that was taken."""
        ...


class _NoRecorder:
    def reserve(self) -> None:
        pass

    def record(self, decision: Decision) -> None:
        pass


NO_RECORDER: Final[Recorder] = _NoRecorder()
"""Keeps nothing: for a verifier whose decisions nobody will ask about."""
