"""The proof of the task, verified in a process that has public keys alone; and a copy that hides the attack.

Law: that process gets no home, no key file and no store.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from capx import Authority
from capx.proof import Trust, export
from capx_cli.demo.row import Row

_PATIENCE = 30.0
_HIDDEN, _SHOWN = '\\"crm.export\\"', '\\"crm.import\\"'
"""The attack as it stands in the proof, and as somebody would like it to stand there."""


class Proven(NamedTuple):
    """The proof of the task, the trust file, what a reader makes of both, and of a copy that was changed."""

    file: Path
    trust: Path
    report: dict[str, Any]
    tampered: dict[str, Any]
    position: int
    """The event that was changed in the copy."""


def prove(home: Path, task: str) -> Proven:
    """Export the proof of the task, and let another process verify it and a copy that was changed."""
    folder = home / "demo"
    file, copied, trust = folder / "review.proof", folder / "changed.proof", folder / "trust.keys"
    with Authority.open_home(home) as authority:
        made = export(authority, task)
        keys = authority.checkpoints.public_keys()
        people = authority.policy.principals.values()
        known = tuple([(one.name, one.key) for one in people if one.key is not None])
    made.save(file)
    trust.write_text(Trust(frozenset(key.name for key in keys), tuple(keys), principals=known).text(), "utf-8")
    changed = next(event for event in made.sources[0].events if '"crm.export"' in event.body)
    copied.write_bytes(made.dump().replace(_HIDDEN.encode(), _SHOWN.encode()))
    return Proven(file, trust, _verified(file, trust), _verified(copied, trust), changed.position)


def rows_of(proven: Proven, decisions: int) -> list[Row]:
    """Make the rows about the proof; `decisions` is how many there are in the log."""
    report, tampered = proven.report, proven.tampered
    result = report.get("result")
    broken = re.search(r"event \d+", str(tampered.get("why")))
    return [
        Row(
            "execution",
            "its proof, read with public keys alone",
            f"consistent, {decisions} decisions",
            f"{result}, {len(report.get('decisions', ()))} decisions",
        ),
        Row(
            "execution",
            "a copy of it that hides the export",
            f"broken at event {proven.position}",
            f"broken at {broken[0]}" if broken else "not refused",
            str(tampered.get("why", "")),
        ),
    ]


def _verified(file: Path, trust: Path) -> dict[str, Any]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CAPX_")}
    command = ("-P", "-m", "capx_cli.main", "proof", "verify", str(file), "--trust", str(trust), "--json")
    done = subprocess.run(  # noqa: S603 # our own module
        [sys.executable, *command],
        capture_output=True,
        env={**inherited, "CAPX_HOME": os.devnull},
        timeout=_PATIENCE,
        check=False,
    )
    said: dict[str, Any] = json.loads(done.stdout or b'{"result":"nothing was said"}')
    return said
