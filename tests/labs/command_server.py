"""A process that has imported all commands, and forks for each one: `python -m tests.labs.command_server PLACE`.

It runs programs, too: `-c PROGRAM ARGUMENT …` and `[-P] -m MODULE ARGUMENT …`.

Laws:

- The server imports modules, and calls none of their functions: a command finds no cache that another one filled. It
  has no thread.
- The answer is four bytes with the pid of the command, and four with its exit code, or its signal below zero.
- What an interpreter reads as it starts (PYTHON…, LANG, LC_…) cannot be set later. A command with other values than the
  server's is not run; the answer is REFUSED, and the client starts an interpreter.
- A command ends as an interpreter does: threads are waited for, `atexit` runs, and the streams are flushed. But its
  modules are not taken down, which would take longer than everything else.
- A command that leaves a thread, a descriptor or a changed environment behind says so, and ends with LEFT, unless it
  was interrupted. COLUMNS and LINES may change. A program may leave anything behind.
- If the client hangs up, the command is killed.
- When the standard input of the server ends, or SIGTERM reaches it, the server kills what runs, and ends.
- The commands of one server share the seed of hashes. Each interpreter has its own.
"""

import atexit
import contextlib
import gc
import importlib
import io
import marshal
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from tests.labs.command_client import PASSED_ON, REFUSED

PACKAGES = ("capx_caveats", "capx", "capx_cli")
FRAMEWORKS = ("capx.agent.langchain", "capx.guard.fastapi", "capx.guard.mcp.server", "capx.testing", "capx_cli.demo")
"""What no command imports but those that start an interpreter anyway. It would take seconds."""
AT_START = (b"PYTHON", b"LANG", b"LC_")
LEFT = 99
"""What a command ends with that left something behind."""
UNFLUSHED = 120
"""What an interpreter ends with if it cannot write what is left in its streams."""
PYTHON_OPTIONS = (b"-c", b"-m", b"-P")
"""What a program begins with."""
Asked = tuple[list[bytes], dict[bytes, bytes], bytes, int, list[int]]
"""Arguments, environment, folder, umask, and the signals that are ignored."""


def import_all() -> None:
    """Import what commands import. The collector leaves it alone, so that its memory stays shared."""
    for name in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            if not module.name.startswith(FRAMEWORKS):
                importlib.import_module(module.name)
    # What httpx imports when its first client is made.
    importlib.import_module("httpcore")
    gc.collect()
    gc.freeze()


class CommandServer:
    """Listens at a place, and runs `main` for each client."""

    def __init__(self, place: str, main: Callable[[], object]) -> None:
        self._main = main
        self._own = _read_at_start(os.environb)
        self._running: dict[socket.socket, tuple[int, int]] = {}
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(place)
        self._listening.listen()
        self._ready = selectors.DefaultSelector()
        self._ready.register(0, selectors.EVENT_READ, self._end)
        self._ready.register(self._listening, selectors.EVENT_READ, self._accept)

    def serve(self) -> NoReturn:
        """Run commands, until standard input ends or SIGTERM comes, which `timeout` sends to all that tests started."""
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        while True:
            for key, _ in self._ready.select():
                key.data()

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        asked, streams = receive(client)
        if asked is not None and _read_at_start(asked[1]) == self._own:
            self._fork(client, asked, streams)
        else:
            if asked is not None:
                _answer(client, REFUSED)
            client.close()
        for stream in streams:
            os.close(stream)

    def _fork(self, client: socket.socket, asked: Asked, streams: list[int]) -> None:
        # A signal for the command waits until it is handled there.
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        if pid := os.fork():
            ended = os.pidfd_open(pid)
            self._running[client] = pid, ended
            self._ready.register(client, selectors.EVENT_READ, lambda: self._kill(client))
            self._ready.register(ended, selectors.EVENT_READ, lambda: self._tell_end(client))
            _answer(client, pid)
        else:
            self._close()
            client.close()
            _become(asked, streams)
            _end_as_interpreter(self._main, checked=not set(asked[0][:1]) & set(PYTHON_OPTIONS))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)

    def _kill(self, client: socket.socket) -> None:
        if client in self._running:
            self._ready.unregister(client)
            os.kill(self._running[client][0], signal.SIGKILL)

    def _tell_end(self, client: socket.socket) -> None:
        pid, ended = self._running.pop(client)
        _, status = os.waitpid(pid, 0)
        self._ready.unregister(ended)
        os.close(ended)
        with contextlib.suppress(KeyError):
            self._ready.unregister(client)
        _answer(client, os.waitstatus_to_exitcode(status))
        client.close()

    def _end(self) -> None:
        for pid, _ in self._running.values():
            os.kill(pid, signal.SIGKILL)
        os._exit(0)

    def _close(self) -> None:
        """Close what is the server's, in a child."""
        self._ready.close()
        self._listening.close()
        for client, (_, ended) in self._running.items():
            client.close()
            os.close(ended)


def receive(client: socket.socket, patience: float = 10.0) -> tuple[Asked | None, list[int]]:
    """What a client asks for, and its streams; None if it was killed, or said nothing for so many seconds."""
    client.settimeout(patience)
    head, streams, body = b"", list[int](), b""
    with contextlib.suppress(TimeoutError):
        head, streams, _, _ = socket.recv_fds(client, 4, 3)
        with client.makefile("rb") as reading:
            body = reading.read(int.from_bytes(head, "little"))
    client.settimeout(None)
    whole = len(head) == 4 and len(body) == int.from_bytes(head, "little")
    return (marshal.loads(body) if whole else None), streams


def _read_at_start(env: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: value for name, value in env.items() if name.startswith(AT_START)}


def _answer(client: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(number.to_bytes(4, "little", signed=True))


def _become(asked: Asked, streams: list[int]) -> None:
    """Be the process that was asked for, as an interpreter has made it when it calls `main`."""
    args, env, folder, umask, ignored = asked
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # A command that signals its process group must reach neither the server nor another command.
    os.setpgid(0, 0)
    os.environb.clear()
    os.environb.update(env)
    time.tzset()
    os.umask(umask)
    os.chdir(folder)
    for passed in PASSED_ON:
        by_default = signal.default_int_handler if passed == signal.SIGINT else signal.SIG_DFL
        signal.signal(passed, signal.SIG_IGN if passed in ignored else by_default)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    sys.argv[1:] = map(os.fsdecode, args)
    sys.path[0] = os.fsdecode(folder)
    for name in ("stdin", "stdout", "stderr"):
        own: io.TextIOWrapper = getattr(sys, name)
        raw = io.FileIO(own.fileno(), "r" if name == "stdin" else "w", closefd=False)
        raw.name = f"<{name}>"
        buffered = io.BufferedReader(raw) if name == "stdin" else io.BufferedWriter(raw)
        new = io.TextIOWrapper(buffered, own.encoding, own.errors, "\n", line_buffering=own.line_buffering)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def _stays(thread: threading.Thread) -> bool:
    """Whether it is no thread that is about to end: asyncio does not join those that waited for a child."""
    if thread is threading.main_thread():
        return False
    thread.join(0.5)
    return thread.is_alive()


def _end_as_interpreter(main: Callable[[], object], *, checked: bool) -> NoReturn:
    before, env = _descriptors(), _environment()
    code, interrupted = _run(main)
    # `timeout` sends its signal to the command and to its group: the second may come when the command has ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading._shutdown()  # type: ignore[attr-defined] # what an interpreter calls, and nothing public does
    atexit._run_exitfuncs()
    left = [f"thread {each.name}" for each in threading.enumerate() if _stays(each)]
    left += [f"descriptor {number}" for number, _ in _descriptors() - before]
    left += ["another environment"] if _environment() != env else []
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            code = UNFLUSHED
    if left and checked:
        os.write(2, f"left behind: {', '.join(left)}\n".encode())
        code = LEFT
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def _run(main: Callable[[], object]) -> tuple[int, bool]:
    """Return the exit code, and whether the end is that of an interrupt."""
    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF, False
        print(end.code, file=sys.stderr)  # noqa: T201
        return 1, False
    except BaseException as error:  # noqa: BLE001 - what an interpreter does with all of them
        sys.excepthook(type(error), error, error.__traceback__)
        return 1, isinstance(error, KeyboardInterrupt)
    return 0, False


def _environment() -> dict[bytes, bytes]:
    return {name: value for name, value in os.environb.items() if name not in {b"COLUMNS", b"LINES"}}


def _descriptors() -> set[tuple[str, int]]:
    """Each descriptor, and the inode that it is open for, but for output: what nobody reads may go to /dev/null."""
    found = set[tuple[str, int]]()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - quicker, before and after each command
        # The list itself was read by one that is closed again.
        with contextlib.suppress(OSError):
            inode = os.fstat(int(number)).st_ino
            found.add((number, 0 if number in {"1", "2"} else inode))
    return found


def run_asked() -> None:
    """Run a command, or a program as an interpreter does."""
    # Imported here, so that the import of the server alone imports no command.
    from capx_cli.main import main

    if os.fsencode(sys.argv[1] if sys.argv[1:] else "") not in PYTHON_OPTIONS:
        main()
        return
    if sys.argv[1] == "-P":
        del sys.argv[1], sys.path[0]
    option, what, sys.argv[:] = sys.argv[1], sys.argv[2], ["-c", *sys.argv[3:]]
    if option == "-c":
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    else:
        # As in an interpreter, it is there as __main__ alone.
        sys.modules.pop(what, None)
        runpy.run_module(what, run_name="__main__", alter_sys=True)


def serve(main: Callable[[], object]) -> NoReturn:
    """Serve at the place that the first argument names, and say when it can be asked."""
    # A client gets a Ctrl-C, and passes it on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = CommandServer(sys.argv[1], main)
    print("up", flush=True)  # noqa: T201
    server.serve()


if __name__ == "__main__":
    import_all()
    serve(run_asked)
