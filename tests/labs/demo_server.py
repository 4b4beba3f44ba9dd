"""A command server for the processes of a demo, and the `python` that asks it: `warm_demos`.

What a process costs in a demo is its imports. Here they are paid once. Each process is still one of its own, started
with `-P -m MODULE ARGUMENT …`, with its own environment and pipes.
"""

import functools
import importlib
import pkgutil
import runpy
import sys
from pathlib import Path

from capx_cli import demo
from tests.labs import command_server
from tests.labs.commands import start_server
from tests.labs.counts import NIGHTLY


@functools.cache
def warm_demos() -> str:
    """A `python` for `-P -m MODULE` and `-c PROGRAM` which has imported the demo; its children are started by it, too.

    It is for plain environments: in another one, it is an interpreter.
    """
    if NIGHTLY:
        return sys.executable
    # By its name, the client knows that it stands for an interpreter.
    return str(start_server("tests.labs.demo_server") / "warm-python")


def run_asked() -> None:
    """Run a program or a module as an interpreter does."""
    if sys.argv[1] == "-c":
        command_server.run_program()
    else:
        # A demo isolates its processes, and starts modules.
        assert sys.argv[1:3] == ["-P", "-m"], sys.argv
        del sys.path[0]
        module, sys.argv[:] = sys.argv[3], ["-c", *sys.argv[4:]]
        # As in an interpreter, it is there as __main__ alone.
        sys.modules.pop(module, None)
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for module in pkgutil.iter_modules(demo.__path__, "capx_cli.demo."):
        # The demo of MCP sets up logging as it is imported, and does not run here.
        if not module.name.startswith("capx_cli.demo.mcp_"):
            importlib.import_module(module.name)
    command_server.import_all()
    # The processes that a demo starts ask this server, too.
    sys.executable = str(Path(sys.argv[1]).with_name("warm-python"))
    command_server.serve(run_asked)
