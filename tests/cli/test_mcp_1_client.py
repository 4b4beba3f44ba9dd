"""A client of mcp 1 behind the guard: set CAPX_MCP_1_PYTHON to a Python that has capx and mcp 1.

python3 -m venv FOLDER && FOLDER/bin/pip install --editable '.[httpx]' 'mcp>=1.24,<2'
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.labs.mcp_home import LABS, SERVER, McpHome
from tests.server.conftest import serving

PYTHON = os.environ.get("CAPX_MCP_1_PYTHON")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="CAPX_MCP_1_PYTHON names no Python with mcp 1: make frameworks runs it"
)


def test_a_client_of_mcp_1_presents_and_asks(tmp_path: Path) -> None:
    home = McpHome(tmp_path)
    with serving(home.folder / "home") as authority:
        ran = subprocess.run(
            [str(PYTHON), str(LABS / "mcp_1_client.py"), json.dumps(home.guard(SERVER))],
            env={**home.plain, **home.present_env(url=authority.url)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["tools"] == ["count", "delete", "read", "write"]
    assert told["read"]["read"] == [False, "/a: 100 lines"]
    # Granted on request, and needs a text: the server says so, and was asked.
    assert "text" in told["read"]["write"][1]
    assert "needs the consent of a person" in told["read"]["delete"][1]
    assert told["read"]["delete"][0] is True
    assert told["read"]["export"][0] is True
