"""The error for a command that cannot go on, and the exit codes.

0 allowed, done     1 denied, or nothing matched     2 usage     3 token, keys, store or service unusable
4 a proof is incomplete
70 a bug of capx     130 interrupted     141 nobody reads the output     143 ended by SIGTERM
"""

from pathlib import Path

import click

DONE, DENIED, USAGE, UNUSABLE = 0, 1, 2, 3
INCOMPLETE = 4
"""A proof contradicts nothing, but something could hide behind what is missing."""
NOTHING = DENIED
"""Nothing matched, so nothing was done: the same code as `grep`."""
UNEXPECTED, INTERRUPTED, BROKEN_PIPE, TERMINATED = 70, 130, 141, 143


class Unusable(click.ClickException):
    """A thing that a command needs is missing or broken; the message says what to do."""


def contents(file: Path, most: int = -1) -> bytes:
    """Return the bytes of a file, or the first `most` of them; Unusable if it cannot be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise Unusable(f"cannot read {file}: {error.strerror}") from None
