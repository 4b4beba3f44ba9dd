"""What capx decided about tokens with keys before it knew keys: it refused them all, and must have.

python -m tests.project.vectors.earlier      writes earlier.json beside it, from the commit that is named here

A service of that version may be running when an authority begins to bind tokens to keys. `make nightly` runs the commit
again, and compares.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.project.vectors import about_keys
from tests.project.vectors.generate import b64u
from tests.project.vectors.making import DEFAULTS

COMMIT = "0854c125"
"""The last commit that knew no keys of agents."""
FILE = Path(__file__).with_name("earlier.json")
CHECKOUT = Path(__file__).resolve().parents[3]

PROGRAM = r"""
import json, sys, tempfile
from pathlib import Path
from capx import CapxError, PrincipalKey, Verifier
from capx.crypto.keys import AudienceKey, AudienceKeys
from capx.intents.intent import parse_intent
from tests.project.test_vectors import Memory, as_received, facts, known
from capx_caveats import Call

def decided(case):
    keys = [AudienceKey(kid, case["audience"], bytes.fromhex(key)) for kid, key in case["keys"].items()]
    try:
        verifier = Verifier(
            case["audience"], AudienceKeys(case["audience"], keys), liveness=known(case), replay=Memory(case["seen"]),
            require=case["require"], bearer=case["bearer"], clock=lambda: case["now"],
        )
    except CapxError as error:
        return [type(error).__name__]
    decision = verifier.decide(case["token"], as_received(case["received"]), Call(**facts(case)))
    return [refusal.code for refusal in decision.refusals]

def problem(step):
    try:
        step()
    except CapxError as error:
        return type(error).__name__
    return "taken"

asked = json.load(sys.stdin)
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "agent.key")
    file.write_text(asked["agent key file"])
    file.chmod(0o600)
    print(json.dumps({
        "tokens": {case["name"]: decided(case) for case in asked["cases"]},
        "an intent with an agent_key": problem(lambda: parse_intent(json.dumps(asked["intent"]).encode())),
        "the same intent without it": problem(lambda: parse_intent(json.dumps(asked["intent without"]).encode())),
        "an agent's key file as a person's": problem(lambda: PrincipalKey.load(file)),
    }))
"""

INTENT: dict[str, Any] = {
    "principal": "ana@our.example",
    "authority": f"{b64u(bytes(16))}.1795820214",
    "purpose": "qbr",
    "statement": "Slides, please.",
    "max_tasks": 1,
    "issued": 1_795_820_000,
    "not_after": 1_795_900_000,
    "nonce": b64u(bytes(range(16))),
}


def answers() -> dict[str, Any]:
    """What the commit decides; CalledProcessError if the clone does not have it."""
    archive = subprocess.run(
        ["git", "-C", str(CHECKOUT), "archive", "--format=tar", COMMIT], check=True, capture_output=True
    )
    asked = {
        "cases": [DEFAULTS | case for case in about_keys.signatures()],
        "intent": INTENT | {"agent_key": f"ed25519:{about_keys.public(about_keys.FIRST)}"},
        "intent without": INTENT,
        "agent key file": f"agent slides {b64u(bytes(range(32)))}\n",
    }
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
        packages = os.pathsep.join(str(Path(folder, part)) for part in ("", "caveats", "cli"))
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": packages},
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=True,
        )
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def written() -> str:
    """The file."""
    return json.dumps({"commit": COMMIT, **answers()}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
