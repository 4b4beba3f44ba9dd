"""A command that follows the log in a process of its own, read as it writes."""

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable
from typing import IO, Any

from tests.cli.conftest import Shell
from tests.labs.commands import COMMAND
from tests.labs.processes import ended_with_test


class Following:
    """A command that goes on, and what it says as it comes."""

    def __init__(self, home: Shell, *args: str, terminal: bool = False) -> None:
        env = {**home.unmeasured, "COLUMNS": "120", "LINES": "40"}
        self.out: IO[bytes] | int
        if terminal:
            self.master, ours = pty.openpty()
            env |= {"TERM": "xterm", "NO_COLOR": "1"}
        else:
            self.master, ours = os.pipe()
        self.err, theirs = os.pipe()
        self.process = ended_with_test(
            subprocess.Popen((*COMMAND, *args), env=env, stdin=subprocess.DEVNULL, stdout=ours, stderr=theirs)
        )
        os.close(ours)
        os.close(theirs)
        self.said: dict[int, str] = {self.master: "", self.err: ""}

    def until(self, says: Callable[[str, str], Any], seconds: float = 30) -> None:
        """Read until what was said on both streams is so."""
        ends = time.monotonic() + seconds
        while not says(self.said[self.master], self.said[self.err]):
            assert time.monotonic() < ends, self.said
            for ready in select.select([self.master, self.err], [], [], 0.5)[0]:
                try:
                    self.said[ready] += os.read(ready, 65536).decode(errors="replace")
                except OSError:
                    break

    def end(self) -> int:
        """Type Ctrl-C; gives the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=30)
        os.close(self.master)
        os.close(self.err)
        return code
