"""A notice to a command: JSON on its standard input.

Laws:

- The command is started as it is, without a shell, in the folder `/`. Its environment is empty: it has no PATH, so the
  file names the program by its full path. What it writes is dropped unread.
- After SECONDS, or when it has ended, or when the server stops, its whole process group is killed. So a child that it
  left behind dies too, unless that child made a group of its own.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from capx.server.notify.hook import SECONDS, NotTaken
from capx.server.notify.notices import Notice

_LOOK_EVERY: Final = 0.02


def run(command: tuple[str, ...], notice: Notice, *, stopped: Callable[[], bool]) -> None:
    """Run a command to its end; NotTaken unless it exits with 0 in time. `stopped` says that nobody waits any more."""
    # A file without a name, not a pipe: a command that does not read must not make anybody wait.
    with tempfile.TemporaryFile() as stdin:
        stdin.write(notice.body)
        stdin.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own file names it
                command,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise NotTaken(f"its program cannot be started: {error.strerror}") from None
    try:
        in_time = _has_ended(process, time.monotonic() + SECONDS, stopped)
    finally:
        # Before the process is waited for: until then, nobody else can have its number, which is that of the group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    if not in_time:
        raise NotTaken(f"it did not end within {SECONDS:.0f} seconds, and was killed")
    if code != 0:
        raise NotTaken(f"it exited with {code}" if code > 0 else f"signal {-code} ended it")


def _has_ended(process: "subprocess.Popen[bytes]", deadline: float, stopped: Callable[[], bool]) -> bool:
    """Wait until a process ends, without taking its exit code; False if it does not end in time."""
    while not _is_done(process):
        if stopped() or time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_EVERY)
    return True


def _is_done(process: "subprocess.Popen[bytes]") -> bool:
    # macOS has no waitid before Python 3.13. There, the number of a group that has ended could be another's by then.
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
