"""A process of its own that is asked over pipes, one JSON value a line: how followers, spenders and readers run.

    with Child("tests.bench.authority.spender", place=PLACE) as child: ...     the process reads its settings first

Law: it ends when its input does, and is ended by whoever started it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.bench.link import CHECKOUT
from tests.bench.measuring import Unmeasurable

_TO_END: Final = 10.0


class Child:
    """A module that runs as a process of this Python, or of another one."""

    def __init__(self, module: str, python: Path | str = sys.executable, **settings: object) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [python, "-m", module],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tell(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
                pass
        return said

    def _ended(self) -> Unmeasurable:
        return Unmeasurable(f"{self._module} ended with {self._process.wait()}")


def heard() -> Iterator[Any]:
    """In the process: what it is told, its settings first."""
    return map(json.loads, sys.stdin)


def say(value: object) -> None:
    """In the process: say something to who started it."""
    print(json.dumps(value), flush=True)
