"""A command server for the processes of a demo, and the `python` that asks it: `warm_demos`.

What a process costs in a demo is its imports. Here they are paid once. Each process is still one of its own, started
with `-P -m MODULE ARGUMENT …`, with its own environment and pipes.
"""

import atexit
import functools
import importlib
import pkgutil
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from capx_cli import demo
from tests.labs import command_client, command_server
from tests.labs.commands import plain_environment
from tests.labs.counts import NIGHTLY


@functools.cache
def warm_demos() -> str:
    """A `python` for `-P -m MODULE` and `-c PROGRAM` which has imported the demo; its children are started by it, too.

    It is for plain environments: in another one, it is an interpreter.
    """
    if NIGHTLY:
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="demos-", dir="/tmp"))
    # The name by which the client knows that it stands for an interpreter.
    program = folder / "warm-python"
    program.write_text(f"#!{sys.executable} -IS\n{Path(command_client.__file__).read_text('utf-8')}", "utf-8")
    program.chmod(0o755)
    server = subprocess.Popen(
        (sys.executable, "-m", "tests.labs.demo_server", folder / "asked", program),
        cwd=Path(__file__).parents[2],
        env=plain_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stdout.read(3) == b"up\n"

    def end() -> None:
        server.communicate(timeout=30)
        shutil.rmtree(folder)

    atexit.register(end)
    return str(program)


def run_asked() -> None:
    """Run a program or a module as an interpreter does."""
    if sys.argv[1] == "-c":
        program, sys.argv[:] = sys.argv[2], ["-c", *sys.argv[3:]]
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
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
    sys.executable = sys.argv[2]
    # Whoever asks gets a Ctrl-C, and passes it on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serving = command_server.CommandServer(sys.argv[1], run_asked)
    print("up", flush=True)  # noqa: T201
    serving.serve()
