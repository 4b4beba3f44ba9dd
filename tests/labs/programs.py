"""Programs in a process of their own, for tests that kill it.

A command server forks them, so they start warm. The process that is killed is the program itself: with `warm_python()`,
it would be one that waits for it. In `make nightly`, each starts an interpreter.
"""

import sys
from typing import TYPE_CHECKING

from tests.labs.commands import COMMAND, ForkedCommand, plain_environment, start_command
from tests.labs.counts import NIGHTLY

if TYPE_CHECKING:
    import subprocess

_PYTHON = (sys.executable,) if NIGHTLY else COMMAND


def start_program(program: str, *args: object) -> "subprocess.Popen[bytes] | ForkedCommand":
    """Start `python -c PROGRAM ARGUMENT …` without input. Whoever starts it ends it, and reads what it says."""
    return start_command("-c", program, *map(str, args), env=plain_environment(), command=_PYTHON)
