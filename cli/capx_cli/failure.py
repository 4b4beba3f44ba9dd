"""What a command says when it cannot go on, and the exit code of each kind.

0 allowed, done     1 denied     2 usage     3 token, keys, store or service unusable
70 a bug of capx     130 interrupted     141 nobody reads the output
"""

import click

DONE, DENIED, USAGE, UNUSABLE = 0, 1, 2, 3
UNEXPECTED, INTERRUPTED, BROKEN_PIPE = 70, 130, 141


class Unusable(click.ClickException):
    """Something that a command needs is missing or broken; the message says what to do."""
