"""The server that forks the commands of tests hides nothing: each ends as it does with an interpreter of its own.

A command here is a program in Python, given as its argument: the server runs it, and so does an interpreter.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.labs.command_server import LEFT, receive
from tests.labs.commands import ForkedCommand, fork_command, plain_environment, run_command, served_commands
from tests.labs.counts import NIGHTLY
from tests.labs.processes import ended_with_test
from tests.labs.waiting import until

MAIN = "import sys\ndef main(): exec(sys.argv[1], {'__name__': 'program'})\n"
SERVES = f"{MAIN}\nfrom tests.labs.command_server import serve\nserve(main)"
ENDINGS = {
    "nothing": "pass",
    "a code": "import sys; sys.exit(3)",
    "a code beyond a byte": "import sys; sys.exit(259)",
    "a text": "import sys; sys.exit('no')",
    "an error": "raise ValueError('no')",
    "an interrupt": "raise KeyboardInterrupt",
    "a signal": "import os; os.kill(os.getpid(), 15)",
    "a kill": "import os; os.kill(os.getpid(), 9)",
    "a handled signal": "import os, signal, sys; signal.signal(15, lambda *_: sys.exit(5)); os.kill(os.getpid(), 15)",
    "an abrupt end": "import os; print('lost'); os._exit(4)",
    "output at exit": "import atexit; atexit.register(print, 'later'); print('now')",
    "output of a thread": "import threading; threading.Timer(0.2, print, ['later']).start(); print('now')",
    "output after the end": "import os, time\nif not os.fork(): time.sleep(0.3); os.write(1, b'later'); os._exit(0)",
    "an exit that fails": "import atexit; atexit.register(lambda: 1 / 0)",
    "no room": "import os; os.dup2(os.open('/dev/full', 1), 1); os.closerange(3, 9); print('x')",
    "a broken pipe": "import os; r, w = os.pipe(); os.dup2(w, 1); os.close(r); os.close(w); print('x' * 100_000)",
    "both streams": "import sys; print('out'); print('err', file=sys.stderr); print('out'); sys.exit(1)",
    "bytes": "import sys; sys.stdout.buffer.write(bytes(range(256)))",
    "what it was given": "import sys; print(sys.stdin.read(), sys.argv[2:])",
    "letters of no encoding": "import os; print(os.environ['ODD'], os.environb[b'ODD'])",
    "where it is": "import os, time; print(os.getcwd(), os.umask(0o22), time.tzname, sorted(os.environ.items()))",
    "its streams": "import sys; print([(s.encoding, s.errors, s.name, s.isatty(), s.line_buffering, s.newlines)"
    " for s in (sys.stdin, sys.stdout, sys.stderr)])",
    "its signals": "import signal; print([signal.getsignal(n) for n in (1, 2, 13, 15)])",
    "its descriptors": "import os; print(sorted(os.listdir('/proc/self/fd'))[:-1])",
}
LEFT_BEHIND = {
    "thread idle": "from threading import *; Thread(target=Event().wait, daemon=True, name='idle').start()",
    "descriptor 3": "import os; os.open('/', 0)",
    "descriptor 0": "import os; os.close(0); os.open('/', 0)",
    "another environment": "import os; os.environ['TZ'] = 'UTC'",
}
pytestmark = pytest.mark.skipif(NIGHTLY, reason="make nightly starts an interpreter for each command")


@contextlib.contextmanager
def serving(place: Path) -> "Generator[subprocess.Popen[bytes]]":
    """A server that runs programs, and listens at this place."""
    command = (sys.executable, "-c", SERVES, place)
    with subprocess.Popen(command, env=plain_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        yield server
        assert server.stdin is not None
        server.stdin.close()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a server listens that runs programs."""
    place = tmp_path_factory.mktemp("server") / "asked"
    with serving(place):
        yield place


def forked(place: Path, *args: str, **options: Any) -> ForkedCommand:
    command = fork_command(place, *args, **{"env": plain_environment(), **options})
    assert command is not None
    return command


def ran(place: Path, folder: Path, *args: str, **options: Any) -> tuple[int, bytes, bytes]:
    command = forked(place, *args, cwd=folder, **options)
    out, err = command.communicate(timeout=30)
    return command.wait(), out, err


@pytest.mark.parametrize("program", ENDINGS.values(), ids=ENDINGS)
def test_a_command_ends_as_with_an_interpreter_of_its_own(place: Path, tmp_path: Path, program: str) -> None:
    env = {**plain_environment(), "TZ": "Asia/Tokyo", "ODD": "\udcff", "HOME": str(tmp_path)}
    args, given = (program, "one", ""), b"given \xff\x00"
    started = (sys.executable, "-c", f"{MAIN}main()", *args)
    own = subprocess.run(started, env=env, cwd=tmp_path, input=given, capture_output=True, timeout=30, check=False)
    code, out, err = ran(place, tmp_path, *args, env=env, given=given)
    assert (code, out) == (own.returncode, own.stdout)
    # A traceback has other lines above the program.
    assert err.splitlines()[-1:] == own.stderr.splitlines()[-1:]


@pytest.mark.parametrize("left", LEFT_BEHIND)
def test_what_a_command_leaves_behind_is_told(place: Path, tmp_path: Path, left: str) -> None:
    assert ran(place, tmp_path, LEFT_BEHIND[left]) == (LEFT, b"", f"left behind: {left}\n".encode())


def test_no_command_finds_what_another_one_left(place: Path, tmp_path: Path) -> None:
    changes = "import os, sys, capx_caveats; capx_caveats.cached = 1; os.chdir('/'); sys.path.append('x'); print('x')"
    looks = "import os, sys, capx_caveats; print(hasattr(capx_caveats, 'cached'), os.getcwd(), 'x' in sys.path)"
    assert ran(place, tmp_path, changes) == (0, b"x\n", b"")
    assert ran(place, tmp_path, looks) == (0, f"False {tmp_path} False\n".encode(), b"")


def test_commands_run_beside_each_other(place: Path, tmp_path: Path) -> None:
    waits = "import time\nwhile not Path({!r}).exists(): time.sleep(0.01)"
    begun = f"from pathlib import Path; Path('begun').touch(); {waits.format('go')}"
    goes = f"from pathlib import Path; {waits.format('begun')}\nPath('go').touch()"
    first = forked(place, begun, cwd=tmp_path)
    assert ran(place, tmp_path, goes)[0] == 0
    first.communicate(timeout=30)
    assert first.wait() == 0


@pytest.mark.parametrize("said", [b"", b"\x05", b"\x05\0\0\0abc"])
def test_who_is_killed_while_asking_ends_no_server(place: Path, tmp_path: Path, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(place))
        asking.sendall(said)
    assert ran(place, tmp_path, "print(1)") == (0, b"1\n", b"")


@pytest.mark.parametrize("said", [b"", b"\x05\0\0\0abc"])
def test_who_says_nothing_keeps_no_other_waiting(said: bytes) -> None:
    asking, asked = socket.socketpair()
    with asking, asked:
        asking.sendall(said)
        assert receive(asked, patience=0.05) == (None, [])


@pytest.mark.parametrize("how", ["its input ends", "SIGTERM"])
def test_nothing_outlives_the_server(tmp_path: Path, how: str) -> None:
    with serving(tmp_path / "asked") as server:
        command = forked(tmp_path / "asked", "import time; print('up', flush=True); time.sleep(60)", cwd=tmp_path)
        assert command.stdout.readline() == b"up\n"
        if how == "SIGTERM":
            server.terminate()
            assert server.wait(timeout=30) == 0
    with command, pytest.raises(ConnectionResetError):
        command.communicate(timeout=30)


def test_a_signal_that_comes_at_once_ends_its_command_alone(place: Path, tmp_path: Path) -> None:
    # Under nohup it is ignored, and a command takes that over.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with forked(place, "import time; time.sleep(60)", cwd=tmp_path) as beside:
        for number in (signal.SIGTERM, signal.SIGHUP) * 20:
            command = forked(place, "import time; time.sleep(60)", cwd=tmp_path)
            command.send_signal(number)
            command.communicate(timeout=30)
            assert command.wait() == -number
        assert beside.poll() is None
    signal.signal(signal.SIGHUP, before)


def test_a_command_that_takes_too_long_is_killed(place: Path, tmp_path: Path) -> None:
    command = forked(place, "import time; time.sleep(60)", cwd=tmp_path)
    with command, pytest.raises(subprocess.TimeoutExpired):
        command.communicate(timeout=0.2)
    until(lambda: not Path(f"/proc/{command.pid}").exists())


@pytest.mark.parametrize("variable", ["LC_ALL", "PYTHONIOENCODING", "LANG"])
def test_a_command_of_another_locale_is_refused_and_started_anew(place: Path, tmp_path: Path, variable: str) -> None:
    env = {**plain_environment(), variable: "latin-1" if variable == "PYTHONIOENCODING" else "C"}
    assert fork_command(place, "print(1)", env=env, cwd=tmp_path) is None
    assert run_command("--version", env=env).stdout.startswith(b"capx ")


def test_the_server_of_the_commands_has_no_thread() -> None:
    place = str(served_commands() / "asked").encode()
    # What it has forked shows the same arguments, and is no child of this process.
    children = (
        number for thread in Path("/proc/self/task").iterdir() for number in (thread / "children").read_text().split()
    )
    (server,) = (
        child
        for child in map(Path("/proc").joinpath, children)
        if place in (child / "cmdline").read_bytes().split(b"\0")
    )
    assert len(list((server / "task").iterdir())) == 1


def test_to_import_all_commands_changes_nothing() -> None:
    script = """
import os, signal, sys, threading
def state():
    # msgspec and others read files as they are imported, and close them.
    return (dict(os.environ), os.getcwd(), sorted(os.listdir("/proc/self/fd")), threading.enumerate(),
        [signal.getsignal(number) for number in signal.valid_signals()], os.umask(0o22), sys.stdout, sys.argv)
before = state()
from tests.labs.command_server import import_all
import_all()
assert state() == before, (before, state())
"""
    subprocess.run([sys.executable, "-c", script], env=plain_environment(), check=True, timeout=60)


def shell(script: str, **env: str) -> "subprocess.CompletedProcess[str]":
    path = f"{served_commands()}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "--noprofile", "--norc", "-o", "pipefail", "-c", script]
    env = {**plain_environment(), "PATH": path, **env}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("script", "code", "out"),
    [
        ("capx --version | tr a-z A-Z", 0, "CAPX 0.1.0\n"),
        ("capx nothing 2> /dev/null", 2, ""),
        ("capx --version >&-", 3, ""),
        ("capx --version > /dev/full", 3, ""),
        ("capx log --follow & sleep 1; kill -TERM $!; wait $!", 143, ""),
        ("timeout --foreground --signal=INT --preserve-status 1 capx log --follow", 0, ""),
        ("LC_ALL=C capx --version", 0, "capx 0.1.0\n"),
    ],
)
def test_a_command_of_a_script_ends_as_it_does(script: str, code: int, out: str, tmp_path: Path) -> None:
    home = {"CAPX_HOME": str(tmp_path / "home")}
    assert run_command("init", env={**plain_environment(), **home}).returncode == 0
    own = shell(script.replace("capx ", f"{Path(sys.executable).parent}/capx "), **home)
    done = shell(script, **home)
    assert (done.returncode, done.stdout) == (own.returncode, own.stdout)
    assert (done.returncode, done.stdout) == (code, out)


def test_a_command_whose_script_is_killed_ends(tmp_path: Path) -> None:
    """It is no child of the script, so it ends when the server hears of it."""
    env = {**plain_environment(), "CAPX_HOME": str(tmp_path / "home")}
    assert run_command("init", env=env).returncode == 0
    command = (served_commands() / "capx", "inspect")
    asked = ended_with_test(subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    assert asked.stdout is not None
    time.sleep(0.5)
    # It waits for a token.
    assert asked.poll() is None
    asked.kill()
    # Nobody holds the pipe any more.
    assert asked.stdout.read() == b""
