"""Remembers which denials of ended tokens, and of tokens that their holder's key did not sign, were recorded lately.

Law: such a denial costs its sender nothing, or needs no key. So it is recorded at most once for each capability that
the authority minted, for the same reasons, in a minute. No more than 1024 are recorded in a minute, and the others are
counted. What holders append makes no other capability: nobody fills the log, or uses up the room of all.
"""

import threading
from typing import Final

from capx import diagnostics
from capx.background import begin_in_each_process

MOST: Final = 1024
"""The most denials that are recorded in one minute."""


class EndedTokens:
    """The recorded denials of this minute. Safe with several threads."""

    def __init__(self) -> None:
        self._minute = 0
        self._recorded: dict[tuple[bytes, tuple[str, ...]], str] = {}
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        # A forked child does not count what its parent will tell.
        self._unrecorded = 0

    def id_to_record(self, capability: bytes, codes: tuple[str, ...], new: str, now: int) -> str | None:
        """Return the id of this minute's recorded decision about a capability, for the codes of a denial.

        `capability` is the id of what the authority minted, without what holders appended. If the result is `new`, none
        was recorded, and the caller records it under this id. None if nothing more is recorded.
        """
        minute = now // 60
        with self._lock:
            # Not for an earlier minute: a thread may come late with a time that it read before the minute ended.
            if minute > self._minute:
                self._tell()
                self._minute, self._unrecorded = minute, 0
                self._recorded.clear()
            if len(self._recorded) < MOST:
                return self._recorded.setdefault((capability, codes), new)
            found = self._recorded.get((capability, codes))
            self._unrecorded += found is None
            return found

    def forget(self, capability: bytes, codes: tuple[str, ...], decision: str) -> None:
        """Forget a decision with this id, because it could not be recorded: the next denial may take its place."""
        with self._lock:
            if self._recorded.get((capability, codes)) == decision:
                del self._recorded[capability, codes]

    def _tell(self) -> None:
        if self._unrecorded:
            diagnostics.warn_once(
                f"{self._unrecorded} denials of ended or unsigned tokens were not recorded: too many in a minute"
            )
