"""One refusal as a sentence that names whose restriction it is."""

import re

from capx_caveats import Refusal, shown

_PLAIN = re.compile(r"[\w.@+-]+(?: [\w.@+-]+)*")
"""A label that cannot be taken for the words around it."""


def label(name: str) -> str:
    """A holder's label as it stands in a sentence: quoted if it could be taken for the words around it."""
    return name if _PLAIN.fullmatch(name) else shown(name)


def whose(hop: int, name: str | None) -> str:
    """Whose restriction it is: the grant's, its first holder's, or that of a hop by the label its delegator chose."""
    if hop == 0:
        return "the task's grant" if name is None else name
    return f"hop {hop} ({label(name or '?')})"


def sentence(refusal: Refusal) -> str:
    """One refusal as a sentence that names whose restriction it is."""
    if refusal.hop is None:
        return refusal.sentence
    return f"{whose(refusal.hop, refusal.hop_name)} {refusal.sentence}"
