"""A refusal as a sentence that names the hop whose restriction refuses."""

import re

from capx_caveats import Refusal, shown

_PLAIN = re.compile(r"[\w.@+-]+")
"""A name of one word: in a list of names it cannot be read as anything else."""


def label(name: str) -> str:
    """A label or name for use in a list of names; quoted unless it is one word.

    A delegator chose the label. Unquoted, it could imitate text of capx in logs and in prompts.
    """
    return name if _PLAIN.fullmatch(name) else shown(name)


def whose(hop: int, name: str | None) -> str:
    """The owner of a restriction in words: the grant, the token's first holder, or a hop with its label in quotes."""
    if hop == 0:
        return "the task's grant" if name is None else name
    return f"hop {hop} ({shown(name or '?')})"


def sentence(refusal: Refusal) -> str:
    """One refusal as a sentence that names the hop whose restriction refuses."""
    said = f"{refusal.sentence}; {refusal.detail}" if refusal.detail else refusal.sentence
    return said if refusal.hop is None else f"{whose(refusal.hop, refusal.hop_name)} {said}"
