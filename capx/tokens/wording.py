"""A refusal as a sentence that names the hop whose restriction refuses."""

import re

from capx_caveats import Refusal, shown

_PLAIN = re.compile(r"[\w.@+-]+(?: [\w.@+-]+)*")
"""A label without quotes or punctuation: it cannot be read as part of the sentence around it."""


def label(name: str) -> str:
    """A holder's label for use in a sentence; quoted if it could be read as part of the sentence.

    A delegator chose the label. Unquoted, it could imitate text of capx in logs and in prompts.
    """
    return name if _PLAIN.fullmatch(name) else shown(name)


def whose(hop: int, name: str | None) -> str:
    """The owner of a restriction in words: the task's grant, its first holder, or a hop with its label."""
    if hop == 0:
        return "the task's grant" if name is None else label(name)
    return f"hop {hop} ({label(name or '?')})"


def sentence(refusal: Refusal) -> str:
    """One refusal as a sentence that names the hop whose restriction refuses."""
    said = f"{refusal.sentence}; {refusal.detail}" if refusal.detail else refusal.sentence
    return said if refusal.hop is None else f"{whose(refusal.hop, refusal.hop_name)} {said}"
