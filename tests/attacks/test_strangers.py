"""What whoever reaches the network's face can have of it without any key: no memory, no secrets, no failures."""

import contextlib
import re
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from capx.api import resource_auth
from capx.api.messages.base import encode
from capx.api.messages.resources import Charge
from capx.api.operation import Operation
from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.keys import AudienceKey
from capx.server import app
from capx.server.faces.resources import SMALL_BODY
from capx.server.operation import route
from capx.server.service import Service
from capx.tokens.binding import HttpRequest
from capx.tokens.lineage import MAX_BUDGETS
from capx.tokens.wire import MAX_TEXT
from capx.verify.decision import NO_TOKEN, Decision, Denied
from tests.labs.raw_http import asked, claim, connected, kid_of
from tests.labs.serving import served as serving_app
from tests.labs.waiting import until
from tests.server.conftest import Served

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
        face = app.face("test", [route(operation, service, service, service.operators)], service)
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
        assert "duplicate key" in answer.json()["detail"]
        assert client.get("/log", params={"newest": "true", "limit": "1"}).json()["end"] == before


@pytest.mark.parametrize("body", [b'{"hops":["AgICAgICAgI"],"hops":["AwMDAwMDAwM"]}', b'{"hops":[],"\\u0068ops":[]}'])
def test_an_agent_names_no_argument_twice(shared: Served, body: bytes) -> None:
    with RemoteAuthority(shared.place) as remote:
        bundle = remote.open(allow=["crm.read"]).bundle
    presented = bundle.present("authority", HttpRequest(method="POST", target="/agent/revoke", body=body))
    with shared.everybody() as client:
        answer = client.post("/agent/revoke", content=body, headers={"authorization": presented.authorization})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert 'duplicate key "hops"' in answer.json()["detail"]


def test_a_resource_names_nothing_twice(shared: Served) -> None:
    body = b'{"follower":"crm","deaths":0,"deaths":0}'
    keys = shared.keys("crm")
    proof = resource_auth.prove(keys.live[0], method="POST", target="/sighted", body=body, at=int(time.time()))
    with shared.everybody() as client:
        answer = client.post("/sighted", content=body, headers={"authorization": proof})
    assert (answer.status_code, "duplicate key" in answer.json()["detail"]) == (400, True)


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


def test_a_report_is_refused_for_its_head_before_its_body_comes(shared: Served) -> None:
    kid, now = kid_of(shared), int(time.time())
    good = claim(kid, now)
    key = shared.keys("crm").live[0]

    def proof(path: str, at: int = now) -> str:
        return resource_auth.prove(key, method="POST", target=path, body=b"{}", at=at)

    for path in ("/decisions", "/sighted", "/spend", "/give-back"):
        for head, why in (
            ("", b"is proven by"),
            (f"authorization: {good[:-1]}\r\n", b"is proven by"),
            (2 * f"authorization: {proof(path)}\r\n", b"is proven by"),
            (f"authorization: {good}\r\n", b"no live key"),
            (f"authorization: {claim('A' * 11, now)}\r\n", b"no live key"),
            (f"authorization: {proof(path, now - 100)}\r\n", b"set the clock"),
            (f"authorization: {proof(path, now + 100)}\r\n", b"set the clock"),
        ):
            with connected(shared) as connection:
                connection.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n{head}\r\n".encode())
                said = b""
                while not said.endswith(b"}"):
                    said += connection.recv(4_096)
            assert said.startswith(b"HTTP/1.1 401 ")
            assert why in said


def test_the_body_of_a_report_is_the_one_that_its_head_proves(shared: Served) -> None:
    key = shared.keys("crm").live[0]
    proof = resource_auth.prove(key, method="POST", target="/decisions", body=b"[]", at=int(time.time()))
    with shared.everybody() as client:
        answer = client.post("/decisions", content=b"{}", headers={"authorization": proof})
    assert (answer.status_code, answer.json()["code"]) == (401, "unproven_report")
    assert "another one than its header proves" in answer.json()["detail"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells nobody what a process holds")
@pytest.mark.parametrize("claimed", [False, True])
def test_what_strangers_send_fills_no_memory(served: Served, claimed: bool) -> None:
    count, body = 150, b"x" * ((1 << 20) - 1)
    proof = f"authorization: {claim(kid_of(served), int(time.time()))}\r\n" if claimed else ""
    head = f"POST /decisions HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 20}\r\n{proof}\r\n".encode()
    before = resident(served)
    with contextlib.ExitStack() as stack:
        sending = [stack.enter_context(connected(served)) for _ in range(count)]
        for connection in sending:
            # Whoever is refused may be cut off while it sends.
            with contextlib.suppress(ConnectionError):
                connection.sendall(head + body)
        with served.everybody() as client:
            assert client.get("/healthz").status_code == 200
        assert resident(served) - before < (count << 20) // 4
        for connection in sending:
            with contextlib.suppress(ConnectionError):
                assert connection.recv(12) == b"HTTP/1.1 401"


def resident(served: Served) -> int:
    """Bytes of memory that a process holds."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


def test_slow_bodies_of_one_resource_keep_no_other_out(served: Served) -> None:
    crm, slides = (served.keys(audience).live[0] for audience in ("crm", "slides"))
    body = b"{" + b" " * ((1 << 20) - 1)

    def head(key: AudienceKey, path: str, body: bytes) -> bytes:
        proof = resource_auth.prove(key, method="POST", target=path, body=body, at=int(time.time()))
        return (
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nauthorization: {proof}\r\n\r\n".encode()
        )

    with contextlib.ExitStack() as stack:
        said: list[bytes] = []

        def full() -> bool:
            # The last byte is withheld.
            connection = stack.enter_context(connected(served))
            connection.settimeout(0.3)
            connection.sendall(head(crm, "/decisions", body) + body[:-1])
            with contextlib.suppress(TimeoutError):
                said.append(connection.recv(12))
            return bool(said)

        until(full)
        assert said == [b"HTTP/1.1 503"]
        for key, path, small, status in (
            (slides, "/decisions", body, b"400"),
            (slides, "/sighted", b'{"follower":"slides","deaths":0}', b"200"),
        ):
            connection = stack.enter_context(connected(served))
            assert asked(connection, head(key, path, small) + small).startswith(b"HTTP/1.1 " + status)


def test_the_largest_payment_is_a_small_report() -> None:
    costs = {f"{number:064}": "9" * 128 for number in range(MAX_BUDGETS)}
    largest = Charge("x" * MAX_TEXT, "A" * 22, costs)
    assert len(encode(largest)) < SMALL_BODY
