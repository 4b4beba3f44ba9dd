"""Processes that tests start, and that end with their test, whether it holds or fails. Nothing is faked."""

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, AnyStr

if TYPE_CHECKING:
    import subprocess


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


_running: "list[subprocess.Popen[Any]]" = []


def ended_with_test(process: "subprocess.Popen[AnyStr]") -> "subprocess.Popen[AnyStr]":
    """Have a process ended at the end of the test that started it.

    If an assertion fails before a test ends its process, nobody else would: it would go on, and its pipes would be
    collected, with a ResourceWarning, in the middle of some other test.
    """
    _running.append(process)
    return process


def end_what_runs() -> None:
    """Kill what still runs, and close its pipes."""
    while _running:
        process = _running.pop()
        if process.poll() is None:
            process.kill()
        process.wait(timeout=30)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
