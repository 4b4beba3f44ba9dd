"""Errors for callers on the network. An operator sees the full error, a stranger does not.

Law: if a store or a key does not work, a stranger learns only that something is wrong. The log of the authority says
what and where.
"""

from typing import Final

import msgspec

from capx import diagnostics
from capx.errors import ConfigurationProblem, StoreProblem, Unavailable
from capx.server.workers import Busy
from capx.verify.decision import Denied
from capx_caveats import Refusal

SENTENCE: Final = "the authority cannot answer now: its own log says why"
"""The only sentence that a stranger gets about a problem of the authority."""


def redacted_error(error: Exception) -> Exception:
    """The error that a stranger may see. An error that reveals more is logged, and replaced."""
    if isinstance(error, Busy) or not isinstance(error, StoreProblem | ConfigurationProblem):
        return error
    diagnostics.warn_once(f"cannot answer a request from the network: {error}")
    return (Unavailable if isinstance(error, Unavailable) else StoreProblem)(SENTENCE)


def redacted_denial(denied: Denied) -> Denied:
    """A denial with only sentences that a stranger may see."""
    refusals = tuple(map(_redacted_refusal, denied.refusals))
    return Denied(msgspec.structs.replace(denied.decision, refusals=refusals), sent=True)


def _redacted_refusal(refusal: Refusal) -> Refusal:
    if refusal.code != "unavailable":
        return refusal
    diagnostics.warn_once(f"cannot answer a call of an agent: {refusal.sentence}")
    return msgspec.structs.replace(refusal, sentence=SENTENCE)
