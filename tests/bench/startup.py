"""What it costs to start: the bare interpreter, `import capx`, and the command's help."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.bench.measuring import Contender

BARE: Final = "python -c pass"
IMPORT: Final = "python -c 'import capx'"
HELP: Final = "capx --help"


def contenders() -> list[Contender]:
    """Each started as a process of its own, as often as asked."""
    command = str(Path(sys.executable).with_name("capx"))
    commands = {
        BARE: [sys.executable, "-c", "pass"],
        IMPORT: [sys.executable, "-c", "import capx"],
        HELP: [command, "--help"],
    }
    return [Contender("start", 0, who, _Starting(command)) for who, command in commands.items()]


class _Starting:
    """A command, timed from its start to its end by what its processes took of the processor."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def __call__(self, count: int) -> float:
        start = _of_children()
        for _ in range(count):
            subprocess.run(self._command, check=True, stdout=subprocess.DEVNULL, env=_compiled())
        return _of_children() - start


def _compiled() -> dict[str, str]:
    """The environment in which Python keeps what it compiled, as it does after an installation."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
