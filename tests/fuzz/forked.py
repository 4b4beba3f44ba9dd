"""Fuzz targets in children of one process: `python -m tests.fuzz.forked`. To instrument capx takes seconds each time.

For each line, a JSON list of what `tests.fuzz.one` would be given, a child fuzzes; what it says goes to `log` in its
folder, and its exit code is answered on a line.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

import atheris

from tests.fuzz import one

CHANGES_OTHERS = ("discharge", "mcp")
"""Targets that change modules as they are imported, which their children do for themselves."""


def main() -> None:
    """Serve until the end of standard input."""
    with atheris.instrument_imports(include=one.INSTRUMENTED):
        for name in one.TARGETS:
            if name not in CHANGES_OTHERS:
                importlib.import_module(f"tests.fuzz.{name}_target")
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            fuzz(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def fuzz(arguments: list[str]) -> NoReturn:
    """Do what an interpreter for this target would do, and end."""
    log = os.open(Path(arguments[1], "log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream, to in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
        os.dup2(to, stream)
    one.main(arguments)
    raise SystemExit


if __name__ == "__main__":
    main()
