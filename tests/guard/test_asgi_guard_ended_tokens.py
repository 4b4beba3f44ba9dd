"""Ended tokens over real HTTP: answered at the head, while the body is still to come."""

import contextlib
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from capx.authority.authority import Authority
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.resource.replay import Replay
from capx.tokens.binding import HttpRequest
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.verify.verifier import Verifier
from capx_caveats import expires
from tests.labs.raw_answers import answer, connected
from tests.labs.serving import served
from tests.labs.waiting import until

LARGE = 1 << 20


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    passage(scope).judge("crm.echo", {})
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.fixture(scope="module", params=["h11", "httptools"])
def origin(lab: Authority, request: pytest.FixtureRequest) -> Iterator[str]:
    with served(ASGIGuard(application, lab.verifier("crm")), lifespan="off", http=request.param) as url:
        yield url


def dead(lab: Authority, code: str) -> str:
    """A presentation of a POST to /x, of something that is dead."""
    task = lab.open(allow=["crm.echo"])
    capability = crm(task.bundle)
    sent = HttpRequest(method="POST", target="/x", body=b"hi")
    if code == "revoked":
        lab.revoke(capability.ids[-1])
    elif code == "task_completed":
        lab.complete(task.id)
    elif code == "expired":
        capability = capability.attenuate(expires(int(time.time())))
    else:
        return capability.present(sent, now=int(time.time()) - 70).authorization
    return capability.present(sent).authorization


def crm(bundle: Bundle) -> Capability:
    return next(one for one in bundle if one.audience == "crm")


@pytest.mark.parametrize("code", ["revoked", "task_completed", "expired", "call_window"])
def test_the_body_of_a_dead_token_is_never_waited_for(lab: Authority, origin: str, code: str) -> None:
    authorization = dead(lab, code)
    until(lambda: refused(origin, authorization) == code)
    with connected(origin) as connection:
        head = f"POST /x HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-length: {LARGE}\r\n\r\n"
        began = time.monotonic()
        connection.sendall(head.encode())
        found = answer(connection)
        # A guard that waited for the body would answer after 20 seconds, and not with this code.
        assert time.monotonic() - began < 10
    assert found.code == code
    assert found.status == (401 if code == "call_window" else 403)


def refused(origin: str, authorization: str) -> str:
    response = httpx.post(f"{origin}/x", content=b"hi", headers={"Authorization": authorization})
    return str(response.json()["code"]) if response.status_code >= 400 else ""


def test_the_log_has_the_id_that_the_bearer_gets(lab: Authority, origin: str) -> None:
    authorization = dead(lab, "call_window")
    headers = {"Authorization": authorization}
    while True:
        minute = int(time.time()) // 60
        ids = [httpx.post(f"{origin}/x", content=b"hi", headers=headers).json()["decision"] for _ in range(5)]
        if int(time.time()) // 60 == minute:
            break
    assert len(set(ids)) == 1
    found = until(lambda: [event for event in lab.log() if ids[0].encode() in event.body])
    assert len(found) == 1


def test_a_flood_of_a_dead_token_leaves_room_for_others(lab: Authority) -> None:
    # The memory of presentations has room for three.
    verifier = small(lab)
    living = crm(lab.open(allow=["crm.echo"]).bundle)
    with served(ASGIGuard(application, verifier), lifespan="off") as origin:
        authorization = dead(lab, "call_window")
        for _ in range(20):
            assert refused(origin, authorization) == "call_window"
        for _ in range(3):
            headers = {"Authorization": living.present(HttpRequest(method="GET", target="/x")).authorization}
            assert httpx.get(f"{origin}/x", headers=headers).status_code == 204


def small(lab: Authority) -> Verifier:
    usual = lab.verifier("crm")
    return Verifier(
        "crm",
        usual._keys,
        liveness=usual._evaluator._liveness,
        replay=Replay.process(capacity=3, clock=lambda: time.time() - 100),
    )


def test_a_presentation_for_the_future_waits_for_its_body(lab: Authority, origin: str) -> None:
    capability = crm(lab.open(allow=["crm.echo"]).bundle)
    sent = HttpRequest(method="POST", target="/x", body=b"hi")
    authorization = capability.present(sent, now=int(time.time()) + 30).authorization
    with connected(origin) as connection:
        head = f"POST /x HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-length: 2\r\n\r\n"
        connection.sendall(head.encode())
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(20)
        connection.sendall(b"hi")
        assert answer(connection).code == "call_window"


def test_a_token_that_dies_while_its_body_comes_is_denied(lab: Authority, origin: str) -> None:
    task = lab.open(allow=["crm.echo"])
    sent = HttpRequest(method="POST", target="/x", body=b"hi")
    authorization = crm(task.bundle).present(sent).authorization
    with connected(origin) as connection:
        head = f"POST /x HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-length: 2\r\n\r\nh"
        connection.sendall(head.encode())
        time.sleep(0.2)
        lab.complete(task.id)
        connection.sendall(b"i")
        assert answer(connection).code == "task_completed"


def test_a_denied_head_leaves_the_connection_usable(lab: Authority, origin: str) -> None:
    authorization = dead(lab, "call_window")
    with connected(origin) as connection:
        for _ in range(2):
            head = f"POST /x HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-length: 2\r\n\r\n"
            connection.sendall(head.encode())
            assert answer(connection).code == "call_window"
            with contextlib.suppress(socket.timeout):
                connection.sendall(b"hi")
