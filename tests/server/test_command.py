"""A command gets a notice and nothing else, and ten seconds; then it and its children are gone."""

import json
import sys
import threading
import time
from pathlib import Path

import pytest

from capx.server.notify import command
from capx.server.notify.command import run
from capx.server.notify.hook import SECONDS, NotTaken
from tests.labs.hooks import notice, script
from tests.labs.waiting import until


def ran(*command: str) -> None:
    run(command, notice(task="t.1"), stopped=lambda: False)


def why_not(*command: str) -> str:
    with pytest.raises(NotTaken) as caught:
        ran(*command)
    return str(caught.value)


def python(folder: Path, text: str) -> str:
    return script(folder, f"#!{sys.executable} -S\n{text}\n")


def test_a_command_gets_the_notice_and_an_empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPX_HOME", "/secret")
    out = tmp_path / "out"
    program = python(
        tmp_path,
        "import json, os, sys\n"
        f"with open({str(out)!r}, 'w') as file:\n"
        "    json.dump([sys.argv[1:], json.load(sys.stdin), dict(os.environ), os.getcwd()], file)",
    )
    ran(program, "$HOME", ";true")
    args, told, environment, folder = json.loads(out.read_text())
    assert (args, folder) == (["$HOME", ";true"], "/")
    assert (told["kind"], told["task"]) == ("request_waits", "t.1")
    # Python itself sets what says that the locale is C.
    assert set(environment) <= {"LC_CTYPE"}


def test_only_exit_code_0_is_a_yes(tmp_path: Path) -> None:
    ran("/bin/true")
    assert why_not("/bin/false") == "it exited with 1"
    assert why_not(python(tmp_path, "import os; os.kill(os.getpid(), 15)")) == "signal 15 ended it"
    assert why_not(str(tmp_path / "nothing")) == "its program cannot be started: No such file or directory"
    assert why_not(str(tmp_path)) == "its program cannot be started: Permission denied"


def lives(pid: int) -> bool:
    # A process that is dead and not waited for has no command line.
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def test_a_command_that_hangs_is_killed_with_its_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "SECONDS", 2.0)
    pids = tmp_path / "pids"
    program = python(
        tmp_path,
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.fork()\n"
        f"with open({str(pids)!r}, 'a') as file:\n"
        "    file.write(f'{os.getpid()}\\n')\n"
        "time.sleep(100)",
    )
    began = time.monotonic()
    assert why_not(program) == "it did not end within 2 seconds, and was killed"
    assert time.monotonic() - began < 2.0 + 5
    left = [int(pid) for pid in pids.read_text().split()]
    assert len(left) == 2
    until(lambda: not any(map(lives, left)))


def test_children_that_a_command_leaves_behind_are_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = script(tmp_path, f"#!/bin/sh\n/bin/sleep 100 &\necho $! > {pid}\n")
    began = time.monotonic()
    ran(program)
    assert time.monotonic() - began < SECONDS / 2
    until(lambda: not lives(int(pid.read_text())))


def test_what_a_command_writes_is_dropped(tmp_path: Path) -> None:
    program = python(
        tmp_path,
        "import os\nfor _ in range(2000):\n    os.write(1, b'x' * 65536); os.write(2, b'x' * 65536)",
    )
    ran(program)


def test_a_command_that_does_not_read_keeps_nobody_waiting() -> None:
    said = notice(labels=("x" * 1_000,) * 2_000)
    assert len(said.body) > 1_000_000
    run(("/bin/true",), said, stopped=lambda: False)


def test_a_stop_ends_a_command(tmp_path: Path) -> None:
    stopping = threading.Event()
    threading.Timer(0.5, stopping.set).start()
    began = time.monotonic()
    with pytest.raises(NotTaken):
        run(("/bin/sleep", "100"), notice(), stopped=stopping.is_set)
    assert time.monotonic() - began < SECONDS / 2


def test_no_file_is_left_open(tmp_path: Path) -> None:
    ran("/bin/true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        ran("/bin/true")
        why_not("/nothing")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
