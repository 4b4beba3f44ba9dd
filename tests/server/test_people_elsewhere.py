"""Four places without a shared folder, with TLS: a person signs, an orchestrator works, an approver answers."""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import trustme

from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.intents.epoch import authority_of
from capx.intents.intent import Intent
from capx.intents.principal_key import PrincipalKey
from tests.labs.counts import repeated
from tests.labs.office import Office
from tests.server.conftest import serving

CHECKOUT = Path(__file__).resolve().parents[2]
COUNT = repeated(5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def folder(parent: Path, name: str, **files: str) -> Path:
    """A place of its own, with these files that only its owner reads."""
    made = parent / name
    made.mkdir(mode=0o700)
    for file, text in files.items():
        path = made / file.replace("_", ".")
        path.touch(mode=0o600)
        path.write_text(text)
    return made


@contextmanager
def running(module: str, place: Path, ca: Path, *words: str, **env: str) -> Generator["subprocess.Popen[str]"]:
    """A process in its place, which trusts the authority of TLS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAPX_")}
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=place,
        env={**kept, "PYTHONPATH": str(CHECKOUT), "SSL_CERT_FILE": str(ca), "HOME": str(place), **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def heard(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the process has ended"
    return json.loads(line)


def test_all_work_from_four_places(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    issuer: Any = trustme.CA()
    ca, certificate = tmp_path / "ca.pem", tmp_path / "own.pem"
    issuer.cert_pem.write_to_path(str(ca))
    issuer.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    (tmp_path / "authority").mkdir()
    office, port = Office(tmp_path / "authority"), free_port()
    origin, robot = f"https://localhost:{port}", PrincipalKey.generate("robot")
    rules = office.policy.read_text()
    office.rule(f'{rules}\n[principal.robot]\nkey = "{robot.public}"\n')
    with Authority.open_home(office.home) as authority:
        epoch = authority.epoch()
        keys = folder(tmp_path, "service", billing_keys=authority.keyring.exported("billing").dump())
    trust, secret = authority_of(epoch), "whsec_" + "QUJD" * 8
    third = folder(tmp_path, "approver", ben_key=office.ben.dump(), hook_secret=secret)
    # On a laptop, without the authority: the person knows its epoch.
    written = Intent.written(
        principal="ana",
        authority=epoch,
        purpose="refund",
        statement="Refund what customers are owed",
        tenant="Acme",
        agent="robot",
        now=int(time.time()),
    )
    intent = office.ana.sign_intent(written).text().decode()
    work = folder(tmp_path, "orchestrator", robot_key=robot.dump(), refund_intent=intent)
    with running("tests.labs.elsewhere.approver", third, ca, origin, trust) as approver:
        hook = f'[hook.ben]\nurl = "http://127.0.0.1:{heard(approver)}/"\nsecret = "{secret}"\nprivate = true\n'
        hooks = folder(tmp_path, "hooks", hooks_toml=hook) / "hooks.toml"
        options = ("--listen", f"localhost:{port}", "--people", origin, "--tls-cert", str(certificate))
        with serving(office.home, *options, "--notify", str(hooks)) as served:
            env = {"CAPX_FEED": origin, "CAPX_KEY_FILE": "billing.keys", "CAPX_AUDIENCE": "billing"}
            with running("tests.labs.elsewhere.resource", keys, ca, **env) as resource:
                billing = f"http://127.0.0.1:{heard(resource)}"
                _until_ready(billing)
                words = (origin, trust, billing, str(COUNT))
                with running("tests.labs.elsewhere.orchestrator", work, ca, *words) as orchestrator:
                    passed = [heard(orchestrator) for _ in range(COUNT)]
            answers = [heard(approver) for _ in range(COUNT)]
            with RemoteAuthority(served.place) as operator:
                (task,) = operator.tasks()
                kinds = [event.kind for event in operator.log()]
    assert (task.state, task.principal) == ("completed", "ana")
    assert kinds.count("request_approved") == COUNT
    answered = {json.loads(one["args"])["amount"]: one["answered"] for one in answers}
    waited = [one["passed"] - answered[one["amount"]] for one in passed]
    assert all(one > 0 for one in waited)
    record_property("p50 from the verdict to success, in ms", statistics.median(waited) * 1_000)


def _until_ready(billing: str) -> None:
    """Wait until the service has heard of its feed for long enough to trust its memory of presentations."""
    with httpx.Client(base_url=billing, trust_env=False) as http:
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            if http.post("/refunds", json={"amount": 0}).status_code == 401:
                time.sleep(6)
                return
            time.sleep(0.1)
