"""Commands and programs from a command server: `run_command`, a `capx` to put on PATH, and a warm `python`."""

import _socket
import atexit
import contextlib
import functools
import os
import select
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Self

from tests.labs import command_client
from tests.labs.command_client import CAPX, PLACE, WARM_PYTHON
from tests.labs.counts import NIGHTLY

COMMAND = (sys.executable, "-m", "capx_cli.main")
"""The command in an interpreter of its own, for tests of signals, terminals, locales, permissions and /proc."""
_ROOM = 65_536
"""What a pipe has room for, in bytes."""
SERVER = "tests.labs.command_server"
NEW_SECOND = "until [[ $(date +%1N) = 0 ]]; do sleep 0.02; done"
"""Waits in bash until a second begins. A restoration that a second ends kills once more what was issued meanwhile."""


def plain_environment() -> dict[str, str]:
    """The environment of the tests, without what tells an interpreter or capx where it works and how it writes.

    PYTHONPATH stays: it says which commit's packages these are (`tests.labs.commits`).
    """
    told = ("CAPX_", "PYTHON", "LC_", "LANG", "COLUMNS", "TERM", "NO_COLOR", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if name == "PYTHONPATH" or not name.startswith(told)}
    return {**kept, "LC_ALL": "C.UTF-8"}


@functools.cache
def start_server(module: str) -> Path:
    """Start a command server that ends with this process; gives the folder with the programs that ask it."""
    folder = Path(tempfile.mkdtemp(prefix="commands-", dir="/tmp"))
    for name in (CAPX, WARM_PYTHON):
        program = folder / name
        program.write_text(f"#!{sys.executable} -IS\n{Path(command_client.__file__).read_text('utf-8')}", "utf-8")
        program.chmod(0o755)
    server = subprocess.Popen(
        (sys.executable, "-m", module, folder / PLACE),
        cwd=Path(__file__).parents[2],
        env=plain_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stdout.read(3) == b"up\n"

    def end() -> None:
        server.communicate(timeout=30)
        shutil.rmtree(folder)

    atexit.register(end)
    return folder


def served_commands() -> Path:
    """The folder with `capx` for PATH."""
    return Path(sys.executable).parent if NIGHTLY else start_server(SERVER)


def warm_python(server: str = SERVER) -> str:
    """A `python` for `-c PROGRAM` and `-m MODULE` that has imported capx already, in a plain environment.

    It is for many processes that work at once. A process that the test kills needs `start_program`: here the program
    runs in another process, which ends a moment later.
    """
    return sys.executable if NIGHTLY else str(start_server(server) / WARM_PYTHON)


def warm_capx() -> list[str]:
    """A command `capx` for demos: the processes that it starts are forked, too."""
    return [warm_python("tests.labs.demo_server"), "-P", "-m", "capx_cli.main"]


class ForkedCommand:
    """A command that a server runs, with what `subprocess.Popen` tells of a process, and does with it, in bytes."""

    def __init__(self, server: _socket.socket, pid: int, out: int, err: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = os.fdopen(out, "rb", buffering=0)
        self.stderr = os.fdopen(err, "rb", buffering=0)
        self._said = {self.stdout: b"", self.stderr: b""}
        self._server = server

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._server], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._server], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = command_client.hear(self._server)
            self._server.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        # It may end in between.
        with contextlib.suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Read until nobody can write any more, as a shell does: that can be later than the end of the command."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as ready:
            for each in self._said:
                if not each.closed:
                    ready.register(each, selectors.EVENT_READ, each)
            while ready.get_map():
                heard = ready.select(deadline and max(0, deadline - time.monotonic()))
                if not heard:
                    raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
                for key, _ in heard:
                    chunk = os.read(key.fd, 65_536)
                    self._said[key.data] += chunk
                    if not chunk:
                        ready.unregister(key.fileobj)
        self.wait(deadline and max(0, deadline - time.monotonic()))
        self.close()
        return self._said[self.stdout], self._said[self.stderr]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Read no more. A command that runs is killed, since its server sees who asked hang up."""
        self.stdout.close()
        self.stderr.close()
        self._server.close()


Process = subprocess.Popen[bytes] | ForkedCommand


def run_command(
    *args: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    given: bytes | None = None,
    timeout: float = 30,
    command: tuple[str, ...] | None = None,
) -> "subprocess.CompletedProcess[bytes]":
    """Run `capx` with these arguments to its end, or another command; `given` is its standard input, by default none.

    After so many seconds it is killed, and `subprocess.TimeoutExpired` is raised.
    """
    with start_command(*args, env=env, cwd=cwd, given=given, command=command) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(args, process.wait(), out, err)


def start_command(
    *args: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    given: bytes | None = None,
    command: tuple[str, ...] | None = None,
) -> Process:
    """Start `capx` with these arguments, or another command. Whoever starts it ends it, and reads what it says."""
    if command is None:
        return _start(args, COMMAND, env, cwd, given)
    return _start_interpreter((*command, *args), env, cwd, given)


def start_program(program: str, *args: object) -> Process:
    """Start `python -c PROGRAM ARGUMENT …` without input. Whoever starts it ends it, and reads what it says.

    It is for a process that the test kills: what is killed is the program itself.
    """
    return _start(("-c", program, *map(str, args)), (sys.executable,), plain_environment(), None, None)


def _start(
    args: tuple[str, ...], interpreter: tuple[str, ...], env: Mapping[str, str], cwd: Path | None, given: bytes | None
) -> Process:
    """Have the server fork it. If the server refuses, and in `make nightly`, start this interpreter for it."""
    forked = None if NIGHTLY else fork_command(served_commands() / PLACE, *args, env=env, cwd=cwd, given=given)
    return forked or _start_interpreter((*interpreter, *args), env, cwd, given)


def _start_interpreter(
    command: tuple[str, ...], env: Mapping[str, str], cwd: Path | None, given: bytes | None
) -> "subprocess.Popen[bytes]":
    with _given(given) as stdin:
        return subprocess.Popen(command, cwd=cwd, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def fork_command(
    place: Path, *args: str, env: Mapping[str, str], cwd: Path | None = None, given: bytes | None = None
) -> ForkedCommand | None:
    """Have the server at this place start a command; None if it refuses."""
    words = [*map(os.fsencode, args)]
    variables = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    (out, to_out), (err, to_err) = os.pipe(), os.pipe()
    with _given(given) as stdin, os.fdopen(to_out, "wb") as out_end, os.fdopen(to_err, "wb") as err_end:
        streams = [stdin, *(each.fileno() for each in (out_end, err_end))]
        server, pid = command_client.ask(str(place), words, variables, os.fsencode(cwd or Path.cwd()), streams)
    forked = ForkedCommand(server, pid, out, err)
    if pid != command_client.REFUSED:
        return forked
    forked.close()
    return None


@contextlib.contextmanager
def _given(content: bytes | None) -> Generator[int]:
    """The standard input of a command, as `subprocess` makes it: /dev/null, or a pipe while that has room."""
    if content is None:
        reading = os.open(os.devnull, os.O_RDONLY)
    elif len(content) <= _ROOM:
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
    else:
        # Nobody writes while the command reads: what has no room in a pipe comes from a file.
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            reading = os.open(file.name, os.O_RDONLY)
    try:
        yield reading
    finally:
        os.close(reading)
