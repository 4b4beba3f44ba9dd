"""What is told to whoever reaches the network's face, where an operator is told what is wrong.

Law: of a store or a key in trouble, a stranger learns that there is trouble: where it is and what it is says the
authority's own log.
"""

from typing import Final

import msgspec

from capx import diagnostics
from capx.errors import ConfigurationProblem, StoreProblem, Unavailable
from capx.server.workers import Busy
from capx.verify.decision import Denied
from capx_caveats import Refusal

SENTENCE: Final = "the authority cannot answer for now: its own log says why"
"""All that a stranger is told of what is wrong."""


def redacted_error(error: Exception) -> Exception:
    """An error that a stranger may be told, for one that may not be, which is logged."""
    if isinstance(error, Busy) or not isinstance(error, StoreProblem | ConfigurationProblem):
        return error
    diagnostics.warn_once(f"what was asked on the network cannot be answered: {error}")
    return (Unavailable if isinstance(error, Unavailable) else StoreProblem)(SENTENCE)


def redacted_denial(denied: Denied) -> Denied:
    """A denial whose reasons a stranger may all be told."""
    refusals = tuple(map(_redacted_refusal, denied.decision.refusals))
    return Denied(msgspec.structs.replace(denied.decision, refusals=refusals))


def _redacted_refusal(refusal: Refusal) -> Refusal:
    if refusal.code != "unavailable":
        return refusal
    diagnostics.warn_once(f"what an agent asked cannot be answered: {refusal.sentence}")
    return msgspec.structs.replace(refusal, sentence=SENTENCE)
