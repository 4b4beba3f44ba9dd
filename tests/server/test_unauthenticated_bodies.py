"""A body is read only of those who can prove a claim by its head."""

import contextlib
import re
import time
from pathlib import Path

import pytest

from capx.api import resource_auth
from capx.api.messages.base import encode
from capx.api.messages.resources import Charge
from capx.server.faces.resources import SMALL_BODY
from capx.server.net.connections import CONNECTIONS
from capx.server.net.unauthenticated_bodies import ROOM
from capx.tokens.lineage import MAX_BUDGETS
from capx.tokens.wire import MAX_TEXT
from tests.labs.raw_http import claim, connected, kid_of
from tests.labs.waiting import until
from tests.server.conftest import Served


def test_a_report_is_refused_for_its_head_before_its_body_comes(shared: Served) -> None:
    kid, now = kid_of(shared), int(time.time())
    good = claim(kid, now)
    for head, why in (
        ("", b"is proven by"),
        (f"authorization: {good[:-1]}\r\n", b"is proven by"),
        (f"authorization: {good}\r\nauthorization: {good}\r\n", b"is proven by"),
        (f"authorization: {claim('A' * 11, now)}\r\n", b"is not a live key here"),
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


def test_decisions_of_strangers_keep_no_small_report_out(served: Served) -> None:
    key = served.keys("crm").live[0]
    proof = f"authorization: {claim(kid_of(served), int(time.time()))}\r\n"
    head = f"POST /decisions HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 20}\r\n{proof}\r\n".encode()
    with contextlib.ExitStack() as stack, served.everybody() as client:

        def reported(path: str, body: bytes) -> int:
            header = resource_auth.prove(key, method="POST", target=path, body=body, at=int(time.time()))
            return client.post(path, content=body, headers={"authorization": header}).status_code

        def full() -> bool:
            # From the address of the resource. The last byte is withheld.
            connection = stack.enter_context(connected(served))
            with contextlib.suppress(ConnectionError):
                connection.sendall(head + b"x" * ((1 << 20) - 1))
            # One by one, because those whose bodies come together refuse one another, and leave room. The server may
            # not have read all of them yet.
            return reported("/decisions", b"{" + b" " * (1 << 19)) == 503

        until(full)
        assert {reported("/sighted", b'{"follower":"crm","deaths":0}') for _ in range(20)} == {200}
        for path in ("/spend", "/give-back", "/sighted"):
            assert reported(path, b"{" + b" " * (SMALL_BODY - 1)) == 400
            assert reported(path, b"{" + b" " * SMALL_BODY) == 413


def test_the_largest_payment_is_a_small_report() -> None:
    costs = {f"{number:064}": "9" * 128 for number in range(MAX_BUDGETS)}
    largest = Charge("x" * MAX_TEXT, "A" * 22, costs)
    assert len(encode(largest)) < SMALL_BODY
    # As much as all connections together is what strangers can make it hold.
    assert SMALL_BODY * CONNECTIONS <= ROOM
