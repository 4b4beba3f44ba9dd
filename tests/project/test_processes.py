"""A process that a failing test left running ends with that test, and warns in no other."""

import subprocess
import sys

from tests.labs.processes import end_what_runs, ended_with_test


def test_a_process_that_a_test_left_running_is_ended() -> None:
    command = (sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()")
    left = ended_with_test(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    assert left.stdout is not None
    assert left.stdin is not None
    assert left.stdout.readline() == "up\n"
    end_what_runs()
    assert left.returncode != 0
    assert left.stdin.closed
    assert left.stdout.closed
    end_what_runs()
