"""An unexpected failure shows neither a traceback nor values."""

import subprocess
import sys
from pathlib import Path

from capx_cli import failure
from tests.cli.conftest import Shell


def test_a_failure_shows_neither_traceback_nor_values() -> None:
    script = (
        "import sys, capx_cli.main as m\n"
        "def broken(*a, **k): raise RuntimeError('capx1_secretsecretsecret')\n"
        "m.capx.main = broken\n"
        "sys.exit(m.run(['task']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 70
    assert done.stderr.startswith("capx: unexpected RuntimeError at <string>:2: this is a bug")
    assert "secret" not in done.stderr


def test_every_exit_code_is_told(capx: Shell) -> None:
    codes = [failure.DONE, failure.DENIED, failure.USAGE, failure.UNUSABLE, failure.INCOMPLETE, failure.UNEXPECTED]
    _, _, told = " ".join(capx("--help").out.split()).partition("Exit codes:")
    page = (Path(__file__).parents[2] / "docs/reference/command-line.md").read_text()
    for code in codes:
        assert f" {code} " in told
        assert f"\n| {code} | " in page
