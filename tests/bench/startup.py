"""What it costs to start: the bare interpreter, `import capx`, and the command's help."""

import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.measuring import Contender

OP: Final = "start"
BARE: Final = "python -c pass"
IMPORT: Final = "python -c 'import capx'"
HELP: Final = "capx --help"


def contenders() -> list[Contender]:
    """Each started as a process of its own, as often as asked."""
    commands = {
        BARE: [sys.executable, "-c", "pass"],
        IMPORT: [sys.executable, "-c", "import capx"],
        HELP: [str(Path(sys.executable).with_name("capx")), "--help"],
    }
    to = {BARE: (OP, 0, BARE)}
    return [Contender(OP, 0, who, partial(_start, command), to) for who, command in commands.items()]


def _start(command: list[str], count: int) -> float:
    """What the processes take of the processor, from their start to their end."""
    # Python keeps what it compiled, as it does after an installation.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = _of_children()
    for _ in range(count):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
    return _of_children() - start


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
