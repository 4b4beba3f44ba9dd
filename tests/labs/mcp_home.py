"""A home whose policy knows the audience files, with its key file, a table, and a token of a task on an intent."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.labs.commands import COMMAND, plain_environment, served_commands

LABS: Final = Path(__file__).parent
CHILD: Final = (sys.executable, str(LABS / "mcp_child.py"))
SERVER: Final = (sys.executable, str(LABS / "mcp_server.py"))

_POLICY: Final = """
[audience]
files = "https://files.internal"
[purpose.review]
ttl = "2h"
[[purpose.review.grant]]
how = "at_open"
allow = ["files.read", "files.count", "files.resource.read", "files.prompt.review"]
[[purpose.review.grant]]
how = "on_request"
allow = ["files.write"]
[[purpose.review.grant]]
how = "ask"
approvers = ["leads"]
allow = ["files.delete"]
"""
_MADE: Final = """
set -e
umask 077
capx init
capx principal new lea --key-file lea.key > lea.public
capx principal new ana --key-file ana.key > ana.public
cat >> home/policy.toml
capx principal add lea --key "$(cat lea.public)" --group leads
capx principal add ana --key "$(cat ana.public)" --tenant Acme --purpose review
capx intent new --principal ana --purpose review --statement "Review the files" --tenant Acme > review.json
capx intent sign review.json --key-file ana.key > review.intent
capx task open --intent review.intent > agent.token
capx task open --tenant Acme --allow files.read > reader.token
capx keys export files > files.keys
"""
TABLE: Final = """
audience = "files"
tenant = "granted"
unnamed = "default"
"""


class McpHome:
    """A folder with the home and the files; `env` is for the guard, `present_env` for the agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        plain = {name: value for name, value in plain_environment().items() if not name.startswith("COV")}
        self.plain = {**plain, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{plain['PATH']}"}
        path = f"{served_commands()}{os.pathsep}{self.plain['PATH']}"
        env = {**self.plain, "PATH": path, "CAPX_HOME": str(folder / "home")}
        subprocess.run(
            ["bash", "-c", _MADE], input=_POLICY, env=env, cwd=folder, check=True, text=True, capture_output=True
        )
        (folder / "files.toml").write_text(TABLE)

    @property
    def guard_env(self) -> dict[str, str]:
        return {"CAPX_KEY_FILE": str(self.folder / "files.keys"), "CAPX_STORE": str(self.folder / "home" / "capx.db")}

    def guard(self, server: Sequence[str], *options: str) -> list[str]:
        """The command of a guard before this server."""
        variables = [f"{name}={value}" for name, value in self.guard_env.items()]
        table = str(self.folder / "files.toml")
        return ["env", *variables, *COMMAND, "mcp", "guard", "--table", table, *options, "--", *server]

    def present(self, server: Sequence[str], *options: str) -> list[str]:
        """The command that presents to this server."""
        return [*COMMAND, "mcp", "present", "--audience", "files", *options, "--", *server]

    def present_env(self, token: str = "agent.token", url: str | None = None) -> dict[str, str]:
        env = {"CAPX_TOKEN_FILE": str(self.folder / token)}
        return env if url is None else {**env, "CAPX_AUTHORITY_URL": url}
