"""A process that holds the write lock of a store until its input ends: `python -m tests.labs.lock_holder PLACE`."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Generator

from capx.store.factory import open_store
from tests.labs.processes import ended_with_test


@contextlib.contextmanager
def locked_elsewhere(place: str) -> Generator[Callable[[], None]]:
    """A block in which another process holds the write lock of this store; gives what makes it let go."""
    process = ended_with_test(
        subprocess.Popen(
            [sys.executable, "-m", "tests.labs.lock_holder", place], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None
    assert stdout.readline() == b"held\n"

    def let_go() -> None:
        stdin.close()
        assert process.wait(30) == 0

    yield let_go
    if process.poll() is None:
        let_go()


def main(place: str) -> None:
    """Hold the lock until standard input ends."""
    with contextlib.closing(open_store(place)) as store, store.write():
        sys.stdout.write("held\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
