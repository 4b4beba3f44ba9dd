"""What a command says when it cannot go on, and the exit code of each kind.

0 allowed, done     1 denied, or nothing fitted     2 usage     3 token, keys, store or service unusable
70 a bug of capx     130 interrupted     141 nobody reads the output     143 ended by SIGTERM
"""

import click

DONE, DENIED, USAGE, UNUSABLE = 0, 1, 2, 3
NOTHING = DENIED
"""There was nothing that fitted, so nothing was done: as `grep` says it."""
UNEXPECTED, INTERRUPTED, BROKEN_PIPE, TERMINATED = 70, 130, 141, 143


class Unusable(click.ClickException):
    """Something that a command needs is missing or broken; the message says what to do."""
