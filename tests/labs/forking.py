"""A forked child: what holds in it, told by its exit status. Nothing is faked."""

import os
from collections.abc import Callable


def in_a_child(holds: Callable[[], bool]) -> bool:
    """Fork, and tell whether it holds in the child."""
    child = os.fork()
    if child == 0:
        verdict = 1
        try:
            verdict = 0 if holds() else 1
        finally:
            os._exit(verdict)
    return os.waitpid(child, 0)[1] == 0
