"""What whoever reaches the network's face can have of it without any key: no memory, no secrets, no failures."""

import contextlib
import logging
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from capx.agent.authority_client import AuthorityClient
from capx.api import resource_auth
from capx.api.operation import Operation
from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.errors import KeyProblem, StoreProblem, Unavailable
from capx.server import app
from capx.server.faces.redaction import SENTENCE, redacted_error
from capx.server.operation import route
from capx.server.service import Service
from capx.server.workers import Busy
from capx.tokens.binding import HttpRequest
from capx.verify.decision import NO_TOKEN, Decision, Denied
from tests.labs.serving import served as serving_app
from tests.server.conftest import Served


def connected(served: Served) -> socket.socket:
    host, port = served.url.split("://")[1].split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def asked(connection: socket.socket, request: bytes) -> bytes:
    """The head of the answer."""
    connection.sendall(request)
    said = b""
    while b"\r\n\r\n" not in said and (piece := connection.recv(4_096)):
        said += piece
    return said


def kid_of(served: Served) -> str:
    with served.everybody() as client:
        return str(client.get("/feed").json()["by"])


def claim(kid: str, at: int) -> str:
    """What looks like a proof, and is none."""
    return f"{resource_auth.SCHEME} audience=crm, kid={kid}, at={at}, mac={'A' * 43}"


def test_a_report_is_refused_for_its_head_before_its_body_is_there(shared: Served) -> None:
    kid, now = kid_of(shared), int(time.time())
    good = claim(kid, now)
    for head, why in (
        ("", b"is proven by"),
        (f"authorization: {good[:-1]}\r\n", b"is proven by"),
        (f"authorization: {good}\r\nauthorization: {good}\r\n", b"is proven by"),
        (f"authorization: {claim('A' * 11, now)}\r\n", b"is no live key here"),
        (f"authorization: {claim(kid, now - 100)}\r\n", b"set the clock"),
        (f"authorization: {claim(kid, now + 100)}\r\n", b"set the clock"),
    ):
        for path in ("/decisions", "/sighted"):
            with connected(shared) as connection:
                connection.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n{head}\r\n".encode())
                said = b""
                while not said.endswith(b"}"):
                    said += connection.recv(4_096)
            assert said.startswith(b"HTTP/1.1 401 ")
            assert why in said


def resident(served: Served) -> int:
    """Bytes of memory that a process holds."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells nobody what a process holds")
@pytest.mark.parametrize("claimed", [False, True])
def test_what_strangers_send_fills_no_memory(served: Served, claimed: bool) -> None:
    count, body = 150, b"x" * ((1 << 20) - 1)
    proof = f"authorization: {claim(kid_of(served), int(time.time()))}\r\n" if claimed else ""
    head = f"POST /decisions HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 20}\r\n{proof}\r\n".encode()
    before = resident(served)
    statuses: list[bytes] = []
    with contextlib.ExitStack() as stack:
        sending = [stack.enter_context(connected(served)) for _ in range(count)]
        for connection in sending:
            # Whoever is refused may be cut off while it sends.
            with contextlib.suppress(ConnectionError):
                connection.sendall(head + body)
        with served.everybody() as client:
            assert client.get("/healthz").status_code == 200
        held = resident(served) - before
        for connection in sending:
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                statuses.append(connection.recv(12))
    assert held < (count << 20) // 2
    refused = statuses.count(b"HTTP/1.1 503" if claimed else b"HTTP/1.1 401")
    # Some may have been cut off before they could read why.
    assert refused > count // 2
    with served.everybody() as client:
        # What they held is given back as they leave.
        after = client.post(
            "/decisions", content=body, headers={"authorization": claim(kid_of(served), int(time.time()))}
        )
    assert after.status_code == 401


@contextlib.contextmanager
def locked(served: Served) -> Generator[None]:
    """A block in which another process is alone with the log."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect('capx.db'); c.execute('BEGIN IMMEDIATE'); "
        "print(flush=True); sys.stdin.read(); c.rollback()"
    )
    with subprocess.Popen(
        (sys.executable, "-c", script), cwd=served.home, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.communicate(timeout=30)


def test_strangers_and_agents_do_not_learn_where_a_store_in_trouble_is(served: Served) -> None:
    with RemoteAuthority(served.place) as remote:
        bundle = remote.open(allow=["crm.read"]).bundle
        with AuthorityClient(served.url, bundle) as client, locked(served), served.everybody() as stranger:
            with pytest.raises(Denied) as denied:
                client.status()
            assert (denied.value.code, denied.value.status) == ("unavailable", 503)
            assert denied.value.refusals[0].sentence == SENTENCE
            answer = stranger.get("/readyz")
        (served.home / "capx.db").rename(served.home / "away.db")
        with served.everybody() as stranger:
            answers = [answer]
            while len(answers) < 8:
                answers += [stranger.get(path) for path in ("/readyz", "/feed")]
            told = [one for one in answers if one.status_code == 503]
            assert len(told) >= 3
            for one in told:
                assert one.json()["detail"] == SENTENCE
                assert str(served.home) not in one.text
                assert "capx.db" not in one.text
        with served.operators() as operator:
            assert str(served.home) in operator.get("/tasks").json()["detail"]
        (served.home / "away.db").rename(served.home / "capx.db")
    served.signal(signal.SIGTERM)
    code, err = served.ended()
    assert (code, "Traceback" in err) == (0, False)
    # What is kept from strangers is in the log, and not once for each of them.
    lines = [line for line in err.splitlines() if "on the network cannot be answered" in line]
    assert any(str(served.home) in line for line in lines)
    assert len(lines) == len(set(lines))


def test_what_is_kept_from_strangers_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "capx"):
        for _ in range(100):
            assert str(redacted_error(StoreProblem("the disk /secret is full"))) == SENTENCE
            assert isinstance(redacted_error(Unavailable("/secret is locked")), Unavailable)
            assert str(redacted_error(KeyProblem("/secret/root.keys is gone"))) == SENTENCE
    said = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert said == ["the disk /secret is full", "/secret is locked", "/secret/root.keys is gone"]
    busy = Busy("too much is asked")
    assert redacted_error(busy) is busy


TWICE = b"content-type: application/json\r\ncontent-type: text/plain\r\n"


def test_two_kinds_of_one_body_are_refused(shared: Served) -> None:
    proof = claim(kid_of(shared), int(time.time())).encode()
    for path, head in (
        (b"/decisions", b"authorization: %b\r\n" % proof),
        (b"/sighted", b"authorization: %b\r\n" % proof),
        (b"/agent/complete", b""),
    ):
        with connected(shared) as connection:
            said = asked(
                connection, b"POST %b HTTP/1.1\r\nhost: x\r\n%b%bcontent-length: 2\r\n\r\n{}" % (path, head, TWICE)
            )
        # An agent's presentation is looked at before anything else.
        assert said.startswith(b"HTTP/1.1 401 " if path.startswith(b"/agent") else b"HTTP/1.1 400 "), said
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(shared.socket))
        said = asked(connection, b"POST /prune HTTP/1.1\r\nhost: x\r\n%bcontent-length: 2\r\n\r\n{}" % TWICE)
    assert said.startswith(b"HTTP/1.1 400 ")


def test_a_failure_that_should_not_be_is_logged_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    def fail(service: Service) -> None:
        del service
        # Nothing that an operation has a reason to raise.
        raise Denied(Decision(id="x", at=1, allowed=False, audience="crm", refusals=(NO_TOKEN,)))

    operation = Operation(method="GET", path="/fails", name="fails", about="Fails.", act=fail, answers=dict[str, Any])
    with Authority.temporary() as authority:
        service = Service(authority)
        face = app.face("test", [route(operation, service, service, service.watchers)], service)
        with serving_app(face, lifespan="off") as url, httpx.Client(base_url=url) as client:
            answer = client.get("/fails")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "no token" not in answer.text
    (logged,) = [record for record in caplog.records if record.name == "capx.serve"]
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], Denied)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tasks", b'{"allow":["crm.read"],"allow":["crm.write"]}'),
        ("/tasks", b'{"allow":["crm.read"],"\\u0061llow":["crm.write"]}'),
        ("/tasks", b'{"allow":[{"entry":["crm.read"],"audience":"a","audience":"b"}]}'),
        ("/revocations", b'{"target":"x","target":"y"}'),
        ("/revocations", b'{"where":{"agent":"a","agent":"b"}}'),
        ("/tasks/x/complete", b'{"dry_run":true,"dry_run":false}'),
    ],
)
def test_a_name_that_stands_twice_is_refused(shared: Served, path: str, body: bytes) -> None:
    with shared.operators() as client:
        before = client.get("/log", params={"newest": "true", "limit": "1"}).json()["end"]
        answer = client.post(path, content=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert "is named twice" in answer.json()["detail"]
        assert client.get("/log", params={"newest": "true", "limit": "1"}).json()["end"] == before


@pytest.mark.parametrize("body", [b'{"hops":["AgICAgICAgI"],"hops":["AwMDAwMDAwM"]}', b'{"hops":[],"\\u0068ops":[]}'])
def test_an_agent_names_no_argument_twice(shared: Served, body: bytes) -> None:
    with RemoteAuthority(shared.place) as remote:
        bundle = remote.open(allow=["crm.read"]).bundle
    presented = bundle.present("authority", HttpRequest(method="POST", target="/agent/revoke", body=body))
    with shared.everybody() as client:
        answer = client.post("/agent/revoke", content=body, headers={"authorization": presented.authorization})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "'hops' is named twice" in answer.json()["detail"]


def test_a_resource_names_nothing_twice(shared: Served) -> None:
    body = b'{"follower":"crm","deaths":0,"deaths":0}'
    keys = shared.keys("crm")
    proof = resource_auth.prove(keys.live[0], method="POST", target="/sighted", body=body, at=int(time.time()))
    with shared.everybody() as client:
        answer = client.post("/sighted", content=body, headers={"authorization": proof})
    assert (answer.status_code, "is named twice" in answer.json()["detail"]) == (400, True)


def test_names_are_looked_at_in_linear_time(shared: Served) -> None:
    with shared.operators() as client:
        took: list[float] = []
        for size in (1 << 17, 1 << 20):
            names = b",".join(b'"%d":"x"' % number for number in range(size // 15))
            began = time.monotonic()
            assert client.post("/revocations", content=b'{"dry_run":true,"where":{%b}}' % names).status_code == 400
            took.append(time.monotonic() - began)
        # Eight times as much; squares would be sixty-four.
        assert took[1] < 30 * max(took[0], 0.01)


@pytest.mark.parametrize("path", ["/agent/complete", "/agent/revoke"])
def test_an_agents_body_is_json_or_says_nothing_of_itself(shared: Served, path: str) -> None:
    with RemoteAuthority(shared.place) as remote:
        bundle = remote.open(allow=["crm.read"]).bundle
    for kind, status in (("text/plain", 415), ("application/json", 200 if path == "/agent/complete" else 403)):
        received = HttpRequest(method="POST", target=path, content_type=kind, body=b"{}")
        headers = {"content-type": kind, "authorization": bundle.present("authority", received).authorization}
        with shared.everybody() as client:
            assert client.post(path, content=b"{}", headers=headers).status_code == status


@pytest.mark.parametrize("host", [b"[", b"[x]/?#", b"]:", b"x" * 300])
def test_a_host_that_is_none_is_told_what_is_there_all_the_same(shared: Served, host: bytes) -> None:
    for method, status in ((b"GET /nothing", b"404"), (b"POST /openapi.json", b"405")):
        request = b"%b HTTP/1.1\r\nhost: %b\r\ncontent-length: 0\r\n\r\n" % (method, host)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(shared.socket))
            assert asked(connection, request).startswith(b"HTTP/1.1 %b " % status)
        with connected(shared) as connection:
            assert asked(connection, request).startswith(b"HTTP/1.1 %b " % status)
