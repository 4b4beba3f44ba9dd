"""Verifying needs the file and public keys: no store, no secret, no network."""

import subprocess
import sys
from pathlib import Path

from capx.proof import verify
from tests.proof.conftest import Told

ALONE = """
import sys
def hook(event, args):
    if event.startswith("socket.") or event == "sqlite3.connect":
        raise SystemExit(f"it used {event}")
sys.addaudithook(hook)
from pathlib import Path
from capx.proof import Trust, verify
report = verify(Path(sys.argv[1]), Trust.load(Path(sys.argv[2])))
if not len(report.contradictions) == 0 < len(report.decisions):
    raise SystemExit("it does not hold")
if {"httpx", "sqlite3", "capx.authority"} & set(sys.modules):
    raise SystemExit("it imported what it must not need")
if len(sys.argv) > 3:
    import socket
    socket.socket()
"""


def test_another_process_verifies_with_public_keys_alone(told: Told, tmp_path: Path) -> None:
    told.proof.save(tmp_path / "qbr.proof")
    (tmp_path / "trust.keys").write_text(told.trust.text())
    args = [sys.executable, "-c", ALONE, str(tmp_path / "qbr.proof"), str(tmp_path / "trust.keys")]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env={})
    assert (done.returncode, done.stderr) == (0, "")
    # The hook bites.
    done = subprocess.run([*args, "x"], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env={})
    assert "it used socket" in done.stderr


def test_a_file_bytes_and_a_proof_say_the_same(told: Told, tmp_path: Path) -> None:
    told.proof.save(tmp_path / "qbr.proof")
    assert verify(tmp_path / "qbr.proof", told.trust) == told.report
    assert verify(told.proof, told.trust) == told.report


def test_a_whole_proof_contradicts_nothing(told: Told) -> None:
    report = told.report
    assert report.contradictions == ()
    assert (report.tenant, report.purpose) == ("Acme", "work")
    assert len(report.decisions) == 10
    assert len(report.granted) == 4
    assert any("a presentation for each of 10 of 10 calls; of 1, action" in one for one in report.signed)
