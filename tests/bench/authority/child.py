"""A process of its own that is asked over pipes, one JSON value a line: how followers, spenders and readers run.

    with Child("tests.bench.authority.spender", place=PLACE) as child: ...     the process reads its settings first

Law: it ends when its input does, and is ended by whoever started it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from tests.bench.measuring import Unmeasurable
from tests.labs.commits import CHECKOUT

_TO_END: Final = 10.0


class Child:
    """A module, or a program, that runs as a process of this Python, or of another one."""

    def __init__(self, module: str, python: Path | str = sys.executable, **settings: object) -> None:
        self._start(module, [python, "-m", module])
        self.tell(settings)

    def _start(self, name: str, command: Sequence[Path | str], **process: Any) -> None:
        self._name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **({"cwd": CHECKOUT} | process)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def tell(self, value: object) -> None:
        """Say something to it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def hear(self) -> Any:
        """What it says next; Unmeasurable when it has a problem, or ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        said: Any = json.loads(line)
        match said:
            case {"problem": problem}:
                raise Unmeasurable(str(problem))
            case _:
                return said

    def ask(self, value: object) -> Any:
        """What it answers."""
        self.tell(value)
        return self.hear()

    def _ended(self) -> Unmeasurable:
        return Unmeasurable(f"{self._name} ended with {self._process.wait()}")


def started(stack: ExitStack, count: int, module: str, **settings: Any) -> list[Child]:
    """So many processes of a module, each of which has said that it is ready."""
    children = [stack.enter_context(Child(module, **settings)) for _ in range(count)]
    for child in children:
        child.hear()
    return children


def heard() -> Iterator[Any]:
    """In the process: what it is told, its settings first."""
    return map(json.loads, sys.stdin)


def say(value: object) -> None:
    """In the process: say something to who started it."""
    print(json.dumps(value), flush=True)
