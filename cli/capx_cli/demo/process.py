"""The processes of the demo: one process starts them, exchanges lines of JSON with them, and ends them together.

Laws: no child outlives the process that started it, whatever happens. A child ends when its stdin does, so it ends even
if that process is killed. A child gets only the `CAPX_…` variables that it is given, and inherits none.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from capx_caveats import CapxError

_GRACE = 5.0


class DemoProblem(CapxError):
    """A process of the demo failed; the message names it and has the last lines of its log."""


class Child:
    """A process that speaks JSON lines; what it writes to stderr goes to a file."""

    def __init__(self, name: str, module: str, *args: str, log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self._log = log
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("CAPX_")}
        with log.open("ab") as stderr:
            # -P: a file in the folder where somebody runs the demo must not be imported in place of a module of ours.
            self._process = subprocess.Popen(  # noqa: S603 # our own modules
                [sys.executable, "-P", "-m", module, *args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**inherited, **env},
                # Ctrl-C is for the starter, which ends its children in order.
                start_new_session=True,
            )

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send one line."""
        try:
            _write(_there(self._process.stdin), message)
        except OSError:
            raise self._gone() from None

    def hear(self) -> dict[str, Any]:
        """Wait for one line; DemoProblem when the process ends without one."""
        line = _there(self._process.stdout).readline()
        # A line without its end comes from a process that was killed while it wrote.
        if not line.endswith(b"\n"):
            raise self._gone()
        heard: dict[str, Any] = json.loads(line)
        return heard

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send one line and wait for the answer."""
        self.tell(message)
        return self.hear()

    def hang_up(self) -> None:
        """Close the child's stdin. Then the child ends."""
        with suppress(OSError):
            _there(self._process.stdin).close()

    def end(self) -> None:
        """Wait until the process has ended; kill it after some seconds."""
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
        _there(self._process.stdout).close()

    def kill(self) -> None:
        """Kill the process at once."""
        self._process.kill()
        self._process.wait()

    def _gone(self) -> DemoProblem:
        last = self._log.read_text(errors="replace").strip().splitlines()[-3:]
        return DemoProblem(f"{self.name} ended before its work was done: {' / '.join(last) or 'it said nothing'}")


class Children:
    """All processes that one process started; a context manager that ends them all, also on an error and on Ctrl-C.

    After `deadline` seconds they are killed. Code that waits for one then gets a DemoProblem.
    """

    def __init__(self, logs: Path, *, deadline: float = 60.0) -> None:
        self._logs = logs
        self._children: list[Child] = []
        self._deadline = threading.Timer(deadline, self._kill)
        self._deadline.daemon = True

    def start(self, name: str, module: str, *args: str, env: Mapping[str, str] | None = None) -> Child:
        """Start a module of the demo as a process."""
        path = f"capx_cli.demo.{module}"
        child = Child(name, path, *args, log=self._logs / f"{name.replace(' ', '-')}.log", env=env or {})
        self._children.append(child)
        return child

    def __enter__(self) -> "Children":
        self._logs.mkdir(parents=True, exist_ok=True)
        self._deadline.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._deadline.cancel()
        # The agents were started last and use the services: they go first.
        # All hang up before the first wait, so that they end at the same time.
        for child in reversed(self._children):
            child.hang_up()
        for child in reversed(self._children):
            child.end()

    def _kill(self) -> None:
        for child in self._children:
            child.kill()


def say(message: Mapping[str, Any]) -> None:
    """Send one line to the process that started this one."""
    _write(sys.stdout.buffer, message)


def heard() -> dict[str, Any] | None:
    """Wait for one line from the process that started this one; None at the end of stdin."""
    line = sys.stdin.buffer.readline()
    return json.loads(line) if line else None


def end_with_parent() -> None:
    """From now on, end this process with SIGTERM when the process that started it hangs up or ends."""

    def wait_and_end() -> None:
        until_parent_ends()
        # A signal, so that a server ends its requests in order.
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_and_end, daemon=True).start()


def until_parent_ends() -> None:
    """Wait until the process that started this one hangs up or ends."""
    while sys.stdin.buffer.readline():
        pass


def _write(to: IO[bytes], message: Mapping[str, Any]) -> None:
    to.write(json.dumps(message).encode() + b"\n")
    to.flush()


def _there(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise DemoProblem("a process of the demo was started without a pipe")
    return pipe
