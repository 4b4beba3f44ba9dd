"""A command server that has imported the processes of a demo, too: `python -m tests.labs.demo_server PLACE`."""

import importlib
import pkgutil
import sys
from pathlib import Path

from capx_cli import demo
from tests.labs import command_server
from tests.labs.command_client import WARM_PYTHON

if __name__ == "__main__":
    for module in pkgutil.iter_modules(demo.__path__, "capx_cli.demo."):
        # The demo of MCP sets up logging as it is imported, and does not run here.
        if not module.name.startswith("capx_cli.demo.mcp_"):
            importlib.import_module(module.name)
    command_server.import_all()
    # The processes that a demo starts ask this server, too.
    sys.executable = str(Path(sys.argv[1]).with_name(WARM_PYTHON))
    command_server.serve(command_server.run_asked)
