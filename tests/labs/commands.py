"""Commands and programs from a command server: `run_command`, a `capx` to put on PATH, and a warm `python`."""

import atexit
import contextlib
import functools
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.labs import command_client
from tests.labs.counts import NIGHTLY

COMMAND = (sys.executable, "-m", "capx_cli.main")
"""The command in an interpreter of its own, for tests of signals, terminals, locales, permissions and /proc."""


def plain_environment() -> dict[str, str]:
    """The environment of the tests, without what tells an interpreter or capx where it works and how it writes."""
    told = ("CAPX_", "PYTHON", "LC_", "LANG", "COLUMNS", "TERM", "NO_COLOR", "FORCE_COLOR")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(told)}, "LC_ALL": "C.UTF-8"}


@functools.cache
def served_commands() -> Path:
    """The folder with `capx` for PATH: that of this process's command server, which ends with the process."""
    if NIGHTLY:
        return Path(sys.executable).parent
    folder = Path(tempfile.mkdtemp(prefix="commands-", dir="/tmp"))
    for name in ("capx", "warm-python"):
        program = folder / name
        program.write_text(f"#!{sys.executable} -IS\n{Path(command_client.__file__).read_text('utf-8')}", "utf-8")
        program.chmod(0o755)
    server = subprocess.Popen(
        (sys.executable, "-m", "tests.labs.command_server", folder / "asked"),
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


def warm_python() -> str:
    """A `python` for `-c PROGRAM ARGUMENT …` that has imported capx already, in a plain environment.

    It is for many processes that work at once. Do not use it for a process that the test kills: the program runs in
    another process, which ends a moment later.
    """
    return sys.executable if NIGHTLY else str(served_commands() / "warm-python")


def run_command(
    *args: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    given: bytes | None = None,
    timeout: float = 30,
    command: tuple[str, ...] = COMMAND,
) -> "subprocess.CompletedProcess[bytes]":
    """Run `capx` with these arguments to its end; `given` is its standard input, by default none.

    Another command starts an interpreter, and `make nightly` starts one for each. After so many seconds it is killed,
    and `subprocess.TimeoutExpired` is raised.
    """
    done = None
    if command == COMMAND and not NIGHTLY:
        done = ask_server(served_commands() / "asked", *args, env=env, cwd=cwd, given=given, timeout=timeout)
    return done or subprocess.run(
        (*command, *args),
        capture_output=True,
        cwd=cwd,
        env=env,
        timeout=timeout,
        check=False,
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
    )


def ask_server(
    place: Path,
    *args: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    given: bytes | None = None,
    timeout: float = 30,
) -> "subprocess.CompletedProcess[bytes] | None":
    """Have the server at this place run a command to its end; None if it refuses."""
    words = [*map(os.fsencode, args)]
    variables = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as kept:
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()
        said = {out: b"", err: b""}
        for pipe in said:
            kept.callback(os.close, pipe)
        with (
            tempfile.TemporaryFile() as given_file,
            os.fdopen(to_out, "wb") as out_end,
            os.fdopen(to_err, "wb") as err_end,
        ):
            given_file.write(given or b"")
            given_file.seek(0)
            streams = [each.fileno() for each in (given_file, out_end, err_end)]
            asked = command_client.ask(str(place), words, variables, os.fsencode(cwd or Path.cwd()), streams)
        kept.callback(asked.close)
        ready = kept.enter_context(selectors.DefaultSelector())
        for each in (out, err, asked):
            ready.register(each, selectors.EVENT_READ)
        # Until nobody can write any more, as a shell does: that can be later than the end of the command.
        while ready.get_map():
            heard = ready.select(max(0, deadline - time.monotonic()))
            if not heard:
                raise subprocess.TimeoutExpired(args, timeout)
            for key, _ in heard:
                chunk = os.read(key.fd, 65_536) if key.fd in said else b""
                if chunk:
                    said[key.fd] += chunk
                else:
                    ready.unregister(key.fileobj)
        code = command_client.how_it_ended(asked)
    return None if code == command_client.REFUSED else subprocess.CompletedProcess(args, code, said[out], said[err])
