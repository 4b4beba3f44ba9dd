"""Each target holds for a few thousand inputs that are the same each time; `make fuzz` goes on from there."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.__main__ import plain_environment
from tests.labs.counts import repeated

pytestmark = pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is built for Linux alone")
RUNS = {
    "wire": repeated(20_000),
    "blocks": repeated(20_000),
    "presentation": repeated(4_000),
    "signed": repeated(2_000),
    "sealed": repeated(10_000),
    "discharge": repeated(4_000),
    "approval_request": repeated(2_000),
    "http": repeated(10_000),
    "jsonrpc": repeated(10_000),
    "mcp": repeated(5_000),
    "listener": repeated(3_000),
    "interop": repeated(10_000),
}
"""Inputs for each, so that none takes more than some seconds."""


@pytest.fixture(scope="module")
def forking(checkout: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that fuzzes targets in its children."""
    command = [sys.executable, "-m", "tests.fuzz.forked"]
    pipe = subprocess.PIPE
    started = subprocess.Popen(command, cwd=checkout, env=plain_environment(), stdin=pipe, stdout=pipe, text=True)
    try:
        yield started
        started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 0


@pytest.mark.parametrize(("target", "runs"), RUNS.items())
def test_a_target_holds(forking: "subprocess.Popen[str]", tmp_path: Path, target: str, runs: int) -> None:
    assert forking.stdin is not None
    assert forking.stdout is not None
    print(json.dumps([target, str(tmp_path), f"-runs={runs}", "-seed=1"]), file=forking.stdin, flush=True)
    ended, said = forking.stdout.readline(), (tmp_path / "log").read_text(errors="replace")
    assert ended == "0\n", said[-4000:]
    assert f"Done {runs} runs" in said
