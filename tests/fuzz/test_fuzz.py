"""Each target holds for a few thousand inputs that are the same each time; `make fuzz` goes on from there."""

import subprocess
import sys
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
    "interop": repeated(10_000),
}
"""Inputs for each, so that none takes more than some seconds."""


def fuzz(checkout: Path, target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz.one", target, *arguments],
        cwd=checkout,
        env=plain_environment(),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


@pytest.mark.parametrize(("target", "runs"), RUNS.items())
def test_a_target_holds(checkout: Path, tmp_path: Path, target: str, runs: int) -> None:
    ended = fuzz(checkout, target, str(tmp_path), f"-runs={runs}", "-seed=1")
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert f"Done {runs} runs" in ended.stderr
