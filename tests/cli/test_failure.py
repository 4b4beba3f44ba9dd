"""An unexpected failure shows neither a traceback nor values."""

import subprocess
import sys


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
