"""A process that serves: how it starts, stops, and comes back."""

import contextlib
import signal
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from capx.agent.authority_client import AuthorityClient
from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.errors import StoreProblem, Unavailable
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from capx.server.running import TOGETHER
from capx.store.log import check
from tests.labs.counts import nightly
from tests.labs.raw_http import connected
from tests.labs.serving_process import HEALTHY, figure, locked, reachable, report_begun, streams
from tests.labs.waiting import until
from tests.server.conftest import Served, new_home, serving


def test_tls_is_served_with_a_certificate(tmp_path: Path) -> None:
    issuer: Any = trustme.CA()
    certificate = tmp_path / "own.pem"
    trusted = ssl.create_default_context(cadata=issuer.cert_pem.bytes().decode())
    issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with serving(new_home(tmp_path), "--tls-cert", str(certificate)) as served:
        assert served.url.startswith("https://127.0.0.1:")
        with RemoteAuthority(served.place) as remote:
            opened = remote.open(allow=["crm.read"])
        with AuthorityClient(served.url, opened.bundle, verify=trusted) as client:
            assert client.complete().end == "completed"
        follower = Follower(FeedSource(served.url, served.keys("crm").feed, tls=trusted))
        try:
            until(lambda: follower.age() < 1.5 and follower.deaths == {opened.id: "task_completed"})
        finally:
            follower.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_with_streams_open(served: Served, number: int) -> None:
    with RemoteAuthority(served.place) as remote:
        opened = remote.open(allow=["crm.read"])
    open_now = streams(served)
    with AuthorityClient(served.url, opened.bundle) as client:
        client.status()
        began = time.monotonic()
        served.signal(number)
        code, err = served.ended()
    assert (code, err) == (0, "")
    assert time.monotonic() - began < 5.0
    assert not served.socket.exists()
    for client_, response in open_now:
        # To its end, and not cut off.
        assert b"data: " in response.read()
        client_.close()
    # The decision on the agent's request was written before the end.
    with Authority.open_home(served.home) as authority:
        assert [event.facts()["action"] for event in authority.find()] == ["task.status"]


def test_what_is_under_way_is_finished(served: Served) -> None:
    answers: list[object] = []

    def revoke() -> None:
        with RemoteAuthority(served.place) as remote:
            # Answers when the second is over.
            answers.append(remote.revoke(issued=int(time.time())))

    began = threading.Thread(target=revoke)
    began.start()
    with Authority.open_home(served.home) as authority:
        until(lambda: any(event.kind == "revoked" for event in authority.log()))
    served.signal(signal.SIGTERM)
    began.join(20)
    assert len(answers) == 1
    assert served.ended() == (0, "")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # httpcore leaves a socket that could not connect
def test_nobody_is_let_in_while_it_stops(served: Served) -> None:
    with served.everybody() as client:
        assert client.get("/healthz").status_code == 200
    served.signal(signal.SIGTERM)
    assert served.ended() == (0, "")
    with served.everybody() as client, pytest.raises(httpx.ConnectError):
        client.get("/healthz")
    with RemoteAuthority(served.place) as remote, pytest.raises(Unavailable, match="start capx serve"):
        remote.tasks()


def test_a_second_signal_ends_it_at_once(served: Served) -> None:
    address = served.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=10) as slow:
        # A request that never comes to its end holds up an orderly one.
        slow.sendall(report_begun(served))
        until(lambda: figure(served, "capx_store_readable") == 1)
        served.signal(signal.SIGTERM)
        until(lambda: not reachable(address))
        time.sleep(TOGETHER)
        assert served.process.poll() is None
        served.signal(signal.SIGTERM)
        code, err = served.ended(timeout=3)
    assert (code, "Traceback" in err) == (128 + signal.SIGTERM, False)
    assert not served.socket.exists()


def test_signals_that_come_together_are_one(served: Served) -> None:
    # Two of a kind could be one already when the process sees them.
    served.signal(signal.SIGTERM)
    served.signal(signal.SIGINT)
    assert served.ended() == (0, "")


@nightly
def test_what_is_never_sent_to_its_end_is_let_go_without_a_trace(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        half = stack.enter_context(connected(served))
        half.sendall(report_begun(served) + b"1")
        stack.enter_context(locked(served))
        for _ in range(12):
            # Four at a time wait for the store, longer than an orderly end may take.
            waiting = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
            waiting.connect(str(served.socket))
            waiting.sendall(b'POST /tasks HTTP/1.1\r\nhost: x\r\ncontent-length: 22\r\n\r\n{"allow":["crm.read"]}')
        until(lambda: figure(served, "capx_store_readable") == 1)
        served.signal(signal.SIGTERM)
        assert half.recv(100) == b""
        code, err = served.ended(timeout=60)
    assert (code, "Traceback" in err) == (0, False), err


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # httpcore leaves a socket that could not connect
def test_after_kill_9_all_that_was_answered_is_there(served: Served) -> None:
    answered: list[tuple[str, int | None]] = []
    opened: list[str] = []

    def work() -> None:
        with RemoteAuthority(served.place) as remote:
            try:
                while True:
                    task = remote.open(allow=["crm.read"])
                    opened.append(task.id)
                    answered.append((task.id, remote.complete(task.id).position))
            except (StoreProblem, Unavailable):
                return

    for _ in range(5):
        before = len(answered)
        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        until(lambda: len(answered) >= before + 5)  # noqa: B023 - waited for within this very turn
        served.kill()
        for worker in workers:
            worker.join(40)
        served.restart()
        with RemoteAuthority(served.place) as remote:
            tasks = {task.id: task for task in remote.tasks()}
            assert all(tasks[id_].position == position for id_, position in answered)
            assert set(opened) <= tasks.keys()
            assert check(remote.log()) == remote.check()


def test_a_paused_authority_makes_followers_stale_for_a_while(served: Served) -> None:
    follower = Follower(FeedSource(served.url, served.keys("crm").feed))
    try:
        until(lambda: follower.age() < 1.5)
        served.signal(signal.SIGSTOP)
        until(lambda: follower.age() > 2.5)
        served.signal(signal.SIGCONT)
        until(lambda: follower.age() < 1.5)
        with RemoteAuthority(served.place) as remote:
            task = remote.open(allow=["crm.read"])
            remote.complete(task.id)
            until(lambda: task.id in follower.deaths)
    finally:
        follower.close()


def test_a_follower_outlives_a_restart_of_the_authority(served: Served) -> None:
    follower = Follower(FeedSource(served.url, served.keys("crm").feed))
    try:
        until(lambda: follower.age() < 1.5)
        served.stop()
        with Authority.open_home(served.home) as authority:
            task = authority.open(allow=["crm.read"])
            authority.complete(task.id)
        served.restart("--listen", served.url.removeprefix("http://"))
        until(lambda: follower.deaths == {task.id: "task_completed"} and follower.age() < 1.5)
    finally:
        follower.close()


def test_an_authority_says_at_start_that_its_policy_is_old(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    (home / "policy.toml").write_text('[[purpose.qbr.grant]]\nallow = ["crm.read"]\n', encoding="utf-8")
    (home / "policy.toml").chmod(0o600)
    with serving(home) as served, RemoteAuthority(served.place) as remote:
        # Services must learn of revocations, whatever the policy says.
        opened = remote.open(allow=["crm.read"])
        assert remote.revoke(opened.id).killed
        served.signal(signal.SIGTERM)
        code, err = served.ended()
    first, second, third = err.splitlines()
    assert (code, first) == (0, f"{home / 'policy.toml'} cannot be used:")
    assert second.startswith("  purpose.qbr.grant[1].how: is missing: add how = ")
    assert second.endswith('or "ask"')
    assert third == "until it is corrected, no intent opens a task, and no ask is granted"


STALLED = """
import sys, time
from capx.server import app
from capx_cli.main import main

def everybody(service):
    async def stall(scope, receive, send):
        time.sleep(4)
    return stall

app.everybody = everybody
sys.argv[0] = "capx"
main()
"""


def test_a_network_that_stalls_keeps_no_operator_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Served, "command", (sys.executable, "-c", STALLED))
    with serving(new_home(tmp_path)) as served, connected(served) as connection:
        connection.sendall(HEALTHY)
        # Its loop is in the request by now, and does nothing else.
        threading.Event().wait(0.5)
        began = time.monotonic()
        with RemoteAuthority(served.place) as remote:
            remote.revoke(remote.open(allow=["crm.read"]).id)
        assert time.monotonic() - began < 3
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)


def test_strangers_do_not_fill_the_log(served: Served) -> None:
    for _ in range(300):
        with connected(served) as connection:
            # Without a host.
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.recv(4_096).startswith(b"HTTP/1.1 400 ")
    served.signal(signal.SIGTERM)
    code, err = served.ended()
    assert (code, len(err.splitlines())) == (0, 11), err
    assert err.splitlines()[-1] == "290 more like this were left out"
