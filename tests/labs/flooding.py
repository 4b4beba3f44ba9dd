"""Strangers without credentials who flood a server, and what operators and followers notice of it.

The flood runs in a process of its own, `flood.py` or `strangers.py`. Nothing is faked.
"""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence

import httpx
from msgspec import Struct

from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from capx.server.waiting.stream_limits import STREAMS_OF_ONE
from tests.labs import flood, strangers
from tests.labs.waiting import until
from tests.server.conftest import Served


def killed(served: Served, count: int) -> None:
    """Bring so many deaths into the store of a served authority."""
    with Authority.open_home(served.home) as beside, beside.store.write() as transaction:
        event = transaction.append("noted", b"{}", at=1)
        for number in range(count):
            transaction.kill(number.to_bytes(16), "revoked", at=1, position=event.position)


@contextlib.contextmanager
def streams_taken(served: Served) -> Generator[None]:
    """A block in which this machine has all the streams of the feed that one machine may have."""

    def refused(client: httpx.Client) -> bool:
        with client.stream("GET", "/feed", headers={"accept": "text/event-stream"}) as answer:
            return answer.status_code == 503

    address = served.url.split("://")[1].split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(STREAMS_OF_ONE):
            connection = stack.enter_context(socket.create_connection((address[0], int(address[1]))))
            connection.sendall(b"GET /feed?since=%d HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n" % 10**9)
        with served.everybody() as client:
            until(lambda: refused(client))
        yield


class Noticed(Struct):
    """In seconds: the flood; the greatest age of what followers know, how long a new one took, and each revocation."""

    lasted: float = 0.0
    age: float = 0.0
    begun: float = 0.0
    revocations: list[float] = []


@contextlib.contextmanager
def flooded(served: Served, kind: str, seconds: float) -> Generator[None]:
    """A block at the beginning of which the flood begins. It ends after so many seconds, or with the block."""
    host, port = served.url.split("://")[1].split(":")
    with _running(flood.__file__, host, port, kind, str(seconds)):
        yield


@contextlib.contextmanager
def strangers_at(
    url: str, kinds: Sequence[str], addresses: int, *, connections: int = 500, kid: str = "", head: str = ""
) -> Generator[None]:
    """A block during which strangers flood a server in these ways, from so many addresses.

    `kid` is a live key, and `head` the head that they send again and again.
    """
    at = httpx.URL(url)
    arguments = at.host, str(at.port), str(connections), str(addresses), *kinds
    with _running(strangers.__file__, *arguments, env={"KID": kid, "HEAD": head}):
        yield


@contextlib.contextmanager
def _running(script: str, *arguments: str, env: Mapping[str, str] | None = None) -> Generator[None]:
    command = [sys.executable, "-IS", script, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as flooder:
        assert flooder.stdout is not None
        # All connections are there.
        assert flooder.stdout.readline() == b"began\n"
        try:
            yield
        finally:
            flooder.communicate(timeout=60)
    assert flooder.returncode == 0


def noticed_during(served: Served, kind: str, seconds: float, *, least: float = 0.0, new: bool = True) -> Noticed:
    """What followers, and an operator who revokes task after task, notice of a flood of so many seconds.

    After `least` seconds, the flood ends as soon as each follower has news from later, and a `new` one has begun.
    """
    found = Noticed()
    over = threading.Event()
    keys = served.keys("crm")
    followers = [Follower(FeedSource(served.url, keys.feed, proven_by=keys)) for _ in range(2)]
    later = Follower(FeedSource(served.url, keys.feed, proven_by=keys))
    began = time.monotonic()

    def begin() -> None:
        while later.age() > 5 and not over.is_set():
            time.sleep(0.02)
        found.begun = time.monotonic() - began

    def watch() -> None:
        while not over.wait(0.02):
            found.age = max(found.age, *(follower.age() for follower in followers))

    def goes_on() -> bool:
        lasted = time.monotonic() - began
        known = max(follower.age() for follower in followers) < lasted - least
        return lasted < seconds and (not known or beginning.is_alive())

    watching = threading.Thread(target=watch)
    beginning = threading.Thread(target=begin)
    try:
        until(lambda: all(follower.age() < 1.5 for follower in followers))
        with flooded(served, kind, seconds), RemoteAuthority(served.place) as operator:
            began = time.monotonic()
            watching.start()
            if new:
                beginning.start()
            while goes_on():
                task = operator.open(allow=["crm.read"])
                asked = time.monotonic()
                operator.revoke(task.id)
                found.revocations.append(time.monotonic() - asked)
                over.wait(0.1)
            found.lasted = time.monotonic() - began
            over.set()
            watching.join()
            if new:
                beginning.join()
    finally:
        over.set()
        for follower in (*followers, later):
            follower.close()
    return found
