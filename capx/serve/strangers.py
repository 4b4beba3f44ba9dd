"""What is told to whoever reaches the network's face, where an operator is told what is wrong.

Laws: of a store or a key in trouble, a stranger learns that there is trouble: where it is and what it is says the
authority's own log. What is said there again and again, because it is asked again and again, is said once a minute.
"""

import logging
import time
from typing import Final

import msgspec

from capx.decision import Denied
from capx.errors import CapxError, ConfigurationProblem, StoreProblem, Unavailable
from capx.serve.workers import Busy
from capx_caveats import Refusal

SENTENCE: Final = "the authority cannot answer for now: its own log says why"
"""All that a stranger is told of what is wrong."""
AGAIN: Final = 60.0
"""Seconds after which the same trouble is logged again."""

_log = logging.getLogger("capx.serve")
_MOST = 32


class Discretion:
    """Errors as strangers are told of them; what is kept from them is logged."""

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}

    def error(self, error: Exception) -> Exception:
        """An error that may be told, for one that may not."""
        if isinstance(error, Busy) or not isinstance(error, StoreProblem | ConfigurationProblem):
            return error
        self._note(error)
        return (Unavailable if isinstance(error, Unavailable) else StoreProblem)(SENTENCE)

    def denied(self, denied: Denied) -> Denied:
        """A denial whose reasons may all be told."""
        told = tuple(map(self._refusal, denied.decision.refusals))
        return Denied(msgspec.structs.replace(denied.decision, refusals=told))

    def _refusal(self, refusal: Refusal) -> Refusal:
        if refusal.code != "unavailable":
            return refusal
        self._note(refusal.sentence)
        return msgspec.structs.replace(refusal, sentence=SENTENCE)

    def _note(self, trouble: CapxError | str) -> None:
        said, now = str(trouble), time.monotonic()
        if now - self._logged.get(said, -AGAIN) < AGAIN:
            return
        if len(self._logged) >= _MOST:
            self._logged = {one: at for one, at in self._logged.items() if now - at < AGAIN}
        if len(self._logged) < _MOST:
            self._logged[said] = now
            _log.error("cannot answer on the network: %s", said)
