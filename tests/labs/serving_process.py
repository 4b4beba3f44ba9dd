"""Tools for tests of a serving process: look at it, lock its store, hold connections. Nothing is faked."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import httpx

from capx.api import resource_auth
from capx.server.service import MOMENT
from tests.server.conftest import COMMAND, Served


def refused(home: Path, *options: str, code: int) -> str:
    """The error that `capx serve` prints if it does not start."""
    done = subprocess.run(
        (*COMMAND, *options),
        env={**os.environ, "CAPX_HOME": str(home), "HOME": str(home.parent)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done
    return done.stderr


def report_begun(served: Served) -> bytes:
    """The head of a report whose nine bytes of body are waited for, for they might prove it."""
    proof = resource_auth.prove(
        served.keys("crm").live[0], method="POST", target="/decisions", body=b"", at=int(time.time())
    )
    return f"POST /decisions HTTP/1.1\r\nhost: x\r\nauthorization: {proof}\r\ncontent-length: 9\r\n\r\n".encode()


def streams(served: Served) -> list[tuple[httpx.Client, httpx.Response]]:
    """A stream of each kind, open."""
    found: list[tuple[httpx.Client, httpx.Response]] = []
    for client, path in ((served.everybody(), "/feed"), (served.operators(), "/log")):
        request = client.build_request("GET", path, headers={"accept": "text/event-stream"})
        found.append((client, client.send(request, stream=True)))
    return found


def reachable(address: list[str]) -> bool:
    try:
        socket.create_connection((address[0], int(address[1])), timeout=1).close()
    except OSError:
        return False
    return True


def figure(served: Served, name: str) -> float:
    with served.everybody() as client:
        lines = client.get("/metrics").text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} ")), -1.0)


def figure_now(served: Served, name: str) -> float:
    """A figure of this instant: the authority keeps what it has told for a moment."""
    time.sleep(MOMENT)
    return figure(served, name)


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


async def opened(socket_: Path, count: int) -> list[bytes]:
    """The status lines of so many tasks that are opened at once, in the order in which they were answered."""
    answers: list[bytes] = []

    async def open_one() -> None:
        reader, writer = await asyncio.open_unix_connection(str(socket_))
        writer.write(
            b'POST /tasks HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 22\r\n\r\n{"allow":["crm.read"]}'
        )
        answers.append((await reader.read()).partition(b"\r\n\r\n")[0])
        writer.close()

    await asyncio.gather(*[open_one() for _ in range(count)])
    return answers


HEALTHY = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


def lives(connection: socket.socket) -> bool:
    """Whether what is asked on a connection is answered."""
    connection.setblocking(True)
    connection.sendall(HEALTHY)
    said = b""
    while piece := connection.recv(4096):
        said += piece
        if said.endswith(b'{"alive":true}'):
            return True
    return False


def aborted(connection: socket.socket) -> bool:
    """Whether a connection was ended from the other side, by now."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
