"""What a remote party wrote, made safe to show: in errors, in logs, and to models.

Laws: a text is one line of visible characters, up to a length, however long and strange it was. A number that cannot
be what it says is no number. Nothing here decides anything.
"""

from typing import Final

from capx.tokens.wire import MAX_BLOCKS
from capx_caveats import JSON, shown
from capx_caveats.names import LABEL_LENGTH
from capx_caveats.shown_values import evidence, printable

SENTENCE: Final = 2000
"""The most characters of a sentence."""
DETAIL: Final = 300
"""The most characters of a sentence within another one."""


def text(sent: str, longest: int = SENTENCE) -> str:
    """Return the text in visible characters, cut at this length."""
    # Cut first, so that the work is bounded, and then again, because an escape is longer than its character.
    return printable(sent[:longest])[:longest]


def label(sent: str) -> str:
    """Return the text in visible characters, cut at the length that a label, a code or an id may have."""
    return text(sent, LABEL_LENGTH)


def hop(sent: int | None) -> int | None:
    """Return the number of a hop; None if no token can have this hop."""
    return sent if sent is not None and 0 <= sent <= MAX_BLOCKS else None


def value(sent: JSON) -> JSON:
    """Return a value if it is short, otherwise its beginning; a text in visible characters."""
    short = evidence(sent)
    if isinstance(short, str):
        return text(short)
    # A number is shown in a few characters, however many digits it has.
    return short if len(str(short)) <= DETAIL else shown(sent)
