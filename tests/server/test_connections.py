"""Connections that say nothing are dropped in time, and lock out no operator."""

import asyncio
import contextlib
import gc
import itertools
import os
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time
from asyncio.sslproto import SSLProtocol
from pathlib import Path
from typing import Any

import pytest
import trustme

from capx.authority.remote.client import RemoteAuthority
from capx.server.net.connections import CONNECTIONS, HEAD_SECONDS, TAKEN_AT_ONCE, Limits, Loop
from capx.server.net.sockets import Address, listen
from tests.labs.counts import nightly
from tests.labs.raw_http import connected
from tests.labs.serving_process import HEALTHY, aborted, lives, report_begun
from tests.labs.waiting import until, until_async
from tests.server.conftest import COMMAND, Served, new_home, serving


def with_files(monkeypatch: pytest.MonkeyPatch, ulimit: str) -> None:
    """Let what is served have so many files open as the shell's `ulimit` says."""
    limited = ("sh", "-c", f'ulimit {ulimit} && exec "$@"', "sh", *COMMAND[:-1])
    monkeypatch.setattr(Served, "command", limited)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system tells nobody what a process has open")
def test_silent_connections_lock_out_no_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_files(monkeypatch, "-n 256")
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(new_home(tmp_path)))
        limit = Limits.within(256).network
        idle: list[socket.socket] = []
        for _ in range(300):
            # It may be aborted before it is known here to be one.
            with contextlib.suppress(ConnectionError):
                idle.append(stack.enter_context(connected(served)))

        def let_in() -> int:
            held = sum(not aborted(connection) for connection in idle)
            for _ in range(limit - held):
                # Where this takes long, those that have said nothing for ten seconds are dropped: others take over.
                with contextlib.suppress(ConnectionError):
                    idle.append(stack.enter_context(connected(served)))
            return held

        def files_open() -> int:
            return len(list(Path(f"/proc/{served.process.pid}/fd").iterdir()))

        until(lambda: let_in() == limit < files_open(), seconds=60)
        files = files_open()
        assert files < 256 - 64
        with RemoteAuthority(served.place) as remote:
            opened = remote.open(allow=["crm.read"])
            assert remote.task(opened.id).state == "active"
        for connection in idle:
            connection.close()
        with served.everybody() as client:
            until(lambda: files_open() < files - limit / 2)
            assert client.get("/healthz").status_code == 200
        served.signal(signal.SIGTERM)
        assert served.ended() == (0, "")


def test_operators_have_a_limit_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_files(monkeypatch, "-n 256")
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(new_home(tmp_path)))
        limit = Limits.within(256).operators
        idle = [stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX))) for _ in range(2 * limit)]
        for connection in idle:
            connection.connect(str(served.socket))
        until(lambda: sum(map(aborted, idle)) == limit)
        with served.everybody() as client:
            assert client.get("/healthz").status_code == 200


@nightly
def test_a_connection_that_owes_a_head_alone_is_dropped_in_time(tmp_path: Path) -> None:
    issuer: Any = trustme.CA()
    certificate = tmp_path / "own.pem"
    issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(serving(new_home(tmp_path / "a")))
        tls = stack.enter_context(serving(new_home(tmp_path / "b"), "--tls-cert", str(certificate)))
        owing = {
            "nothing sent": connected(plain),
            "half a head": connected(plain),
            "half of the second head": connected(plain),
            "no handshake": connected(tls),
        }
        kept = {
            "half a body": connected(plain),
            "waits for what to ask next": connected(plain),
            "a stream": connected(plain),
        }
        for connection in (*owing.values(), *kept.values()):
            stack.enter_context(connection)
        began = time.monotonic()
        owing["half a head"].sendall(HEALTHY[:-2])
        for connection in (owing["half of the second head"], kept["waits for what to ask next"]):
            assert lives(connection)
        owing["half of the second head"].sendall(HEALTHY[:-2])
        kept["half a body"].sendall(report_begun(plain) + b"1")
        kept["a stream"].sendall(b"GET /feed HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
        # Byte by byte gains no time.
        ends = began + HEAD_SECONDS - 1
        while time.monotonic() < ends:
            assert not any(map(aborted, owing.values()))
            owing["half a head"].setblocking(True)
            owing["half a head"].sendall(b"x")
            owing["half of the second head"].setblocking(True)
            owing["half of the second head"].sendall(b"x")
            threading.Event().wait(0.5)
        until(lambda: all(map(aborted, owing.values())), seconds=5)
        # A piece of the stream may be there; none of them has ended.
        assert not any(map(aborted, kept.values()))
        assert lives(kept["waits for what to ask next"])


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process cannot be changed")
def test_that_no_connection_can_be_taken_is_told_once_and_passes(served: Served) -> None:
    pid = served.process.pid
    with served.operators() as client:
        assert client.get("/tasks").status_code == 200
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, before[1]))
        idle = [connected(served) for _ in range(40)]
        # This one was there before.
        for _ in range(20):
            assert client.get("/openapi.json").status_code == 200
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        with served.everybody() as later:
            assert later.get("/healthz").status_code == 200
        for connection in idle:
            connection.close()
    served.signal(signal.SIGTERM)
    code, err = served.ended()
    # The first checkpoint of the log, which opens files of its own, may have fallen into this time.
    told = [line for line in err.splitlines() if not line.startswith("cannot sign a checkpoint of the log: ")]
    assert (code, told) == (0, ["cannot accept connections now: Too many open files"])


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process cannot be read")
def test_it_asks_for_the_files_that_it_can_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with_files(monkeypatch, "-S -n 200")
    with serving(new_home(tmp_path)) as served:
        found = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)[0]
        assert found == (4_128 if hard == resource.RLIM_INFINITY else min(hard, 4_128))


def test_with_next_to_no_files_it_does_not_start(tmp_path: Path) -> None:
    done = subprocess.run(
        ("sh", "-c", 'ulimit -n 120 && exec "$@"', "sh", *COMMAND, "--listen", "127.0.0.1:0"),
        env={**os.environ, "CAPX_HOME": str(new_home(tmp_path))},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, "raise the limit with ulimit -n" in " ".join(done.stderr.split())) == (3, True), done


@pytest.mark.parametrize("files", [160, 256, 1_024, 4_096, 1_000_000])
def test_the_faces_leave_the_store_its_files(files: int) -> None:
    limits = Limits.within(files)
    assert limits.operators + limits.network <= files - 128
    assert 0 < limits.operators <= limits.network <= CONNECTIONS


def test_a_handshake_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    issuer: Any = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("127.0.0.1").configure_cert(context)
    # What a client says first, recorded: it costs an attacker nothing to send it again.
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="x").do_handshake()
    hello = said.read()

    def break_off(port: int) -> None:
        for _ in range(30):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(hello)
                # All of the answer: closing with some of it unread would reset the connection.
                connection.recv(1 << 16)

    async def left() -> int:
        loop = asyncio.get_running_loop()
        with listen(Address("127.0.0.1", 0)) as listening:
            server = await loop.create_server(asyncio.Protocol, sock=listening, ssl=context)
            gc.disable()
            try:
                await asyncio.to_thread(break_off, listening.getsockname()[1])
                await until_async(lambda: not listening.taken)
                return sum(isinstance(each, SSLProtocol) for each in gc.get_objects())
            finally:
                gc.enable()
                server.close()

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(left()) == 0


def test_few_connections_are_accepted_in_one_turn(tmp_path: Path) -> None:
    made: list[int] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            listening = stack.enter_context(listen(Address("127.0.0.1", 0)))
            for _ in range(5 * TAKEN_AT_ONCE):
                stack.enter_context(socket.create_connection(listening.getsockname()))
            server = await loop.create_server(asyncio.Protocol, sock=listening)
            while len(listening.taken) < 5 * TAKEN_AT_ONCE:
                await asyncio.sleep(0)
                made.append(len(listening.taken))
            server.close()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(run())
    assert max(later - before for before, later in itertools.pairwise([0, *made])) == TAKEN_AT_ONCE
