"""The log is followed live, and what breaks a line breaks no stream."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

import pytest
from starlette.responses import StreamingResponse

from capx.api.problems import HttpRefusal
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.base64url import b64u
from capx.resource.feed.page import FeedCursor
from capx.server.faces.event_streams import SHORT, Feed
from capx.server.service import Service
from capx.server.waiting.stream_limits import STREAMS_OF_ONE
from capx.tokens.capability import Capability
from tests.server.conftest import Served

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


AT = "192.0.2.1"


def held(ends: threading.Event) -> Callable[[], Coroutine[Any, Any, bool]]:
    """Work that a thread does until the event, or for a minute: so long a loop waits for it where the test fails."""
    return lambda: asyncio.to_thread(ends.wait, 60)


@pytest.fixture
def task(remote: RemoteAuthority) -> OpenedTask:
    return remote.open(allow=["crm.read"])


def crm(task: OpenedTask) -> Capability:
    return next(iter(task.bundle))


def test_the_log_is_followed_live(served: Served, remote: RemoteAuthority, task: OpenedTask) -> None:
    with (
        served.operators() as client,
        client.stream("GET", "/log?since=1", headers={"accept": "text/event-stream"}) as response,
    ):
        lines = response.iter_lines()
        events = (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))
        assert [next(events)["position"] for _ in range(2)] == [2, 3]
        began = time.monotonic()
        ended = remote.complete(task.id)
        event = next(events)
        assert time.monotonic() - began < 1.0
        assert (event["position"], event["kind"], event["facts"]) == (
            ended.position,
            "task_completed",
            {"task": task.id},
        )
        # Of another process that shares the store.
        with Authority.open_home(served.home) as beside:
            beside.open(allow=["crm.read"])
        assert [next(events)["kind"] for _ in range(3)] == ["task_opened", *["capability_minted"] * 2]
    assert next(iter(remote.log())).kind == "task_opened"


def test_what_breaks_a_line_breaks_no_stream(served: Served) -> None:
    with Authority.open_home(served.home) as beside, beside.store.write() as transaction:
        event = transaction.append("noted", b'{"a":\n\n1,\r\n"b":2}', at=1)
    with (
        served.operators() as client,
        client.stream("GET", "/log", headers={"accept": "text/event-stream"}) as response,
    ):
        data: list[str] = []
        for line in response.iter_lines():
            if line.startswith("data: "):
                data.append(line.removeprefix("data: "))
            elif data and not line:
                break
    told = json.loads("\n".join(data))
    assert (told["facts"], told["hash"]) == ({"a": 1, "b": 2}, b64u(event.hash))


async def test_strangers_who_ask_for_pages_delay_no_new_stream() -> None:
    ends = threading.Event()
    with Authority.temporary() as authority:
        service = Service(authority)
        feed = Feed(service)
        waiting: list[asyncio.Task[Any]] = [asyncio.create_task(service.readers.take(AT, held(ends)))]
        waiting += [asyncio.create_task(feed.page(FeedCursor(since=since), AT)) for since in range(50)]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await feed.follow(FeedCursor(), AT)
        assert not any(task.done() for task in waiting)
        ends.set()
        await asyncio.gather(*waiting)


async def test_strangers_who_ask_for_pages_delay_no_open_stream() -> None:
    ends = threading.Event()
    with Authority.temporary() as authority:
        service = Service(authority)
        feed = Feed(service)
        async with service.open():
            then = (await feed.page(FeedCursor(), AT)).then
            stream = await feed.follow(FeedCursor(), AT)
            assert isinstance(stream, StreamingResponse)
            pieces = cast("AsyncGenerator[bytes]", stream.body_iterator)
            first = await anext(pieces)
            # The threads of those who begin and of single pages are busy, and what strangers ask for waits.
            waiting: list[asyncio.Task[Any]] = [
                asyncio.create_task(turns.take(AT, held(ends))) for turns in (service.beginners, service.readers)
            ]
            waiting += [asyncio.create_task(feed.page(FeedCursor(since=since), AT)) for since in range(1, 50)]
            # Also a page that an open stream needs, too: this is how it asks.
            waiting.append(asyncio.create_task(feed.page(then, AT)))
            await asyncio.sleep(0)
            async with asyncio.timeout(10):
                page = await feed._at_once(then)
                assert page.then == then
            authority.complete(authority.open(allow=["crm.read"]).id)
            async with asyncio.timeout(10):
                while b"task_completed" not in await anext(pieces):
                    pass
            assert not any(task.done() for task in waiting)
            assert b"task_completed" not in first
            ends.set()
            await asyncio.gather(*waiting)
            await pieces.aclose()


def with_deaths(count: int) -> Authority:
    """An authority with so many deaths."""
    authority = Authority.temporary()
    with authority.store.write() as transaction:
        event = transaction.append("noted", b"{}", at=1)
        for number in range(count):
            transaction.kill(number.to_bytes(16), "revoked", at=1, position=event.position)
    return authority


async def test_a_page_is_short_while_others_wait_for_theirs() -> None:
    with with_deaths(2 * SHORT) as authority:
        feed = Feed(Service(authority))
        assert not (await feed.page(FeedCursor(), AT)).has_more
        asked = [FeedCursor(since=since) for since in range(1, 4)]
        *short, last = await asyncio.gather(*(feed.page(one, AT) for one in asked))
        assert [page.then.since for page in short] == [SHORT + 1, SHORT + 2]
        assert (last.then.since, last.has_more) == (2 * SHORT, False)


async def test_a_follower_waits_for_one_page_of_each_stranger() -> None:
    with with_deaths(1_000) as authority:
        service = Service(authority)
        feed = Feed(service)
        strangers = [f"192.0.2.{number}" for number in range(3)]
        waiting = {
            machine: [asyncio.create_task(feed.page(FeedCursor(since=since), machine)) for since in range(n, 300, 3)]
            for n, machine in enumerate(strangers)
        }
        await asyncio.sleep(0)
        await feed.page(FeedCursor(since=1_000), "198.51.100.1")
        done = {machine: sum(task.done() for task in tasks) for machine, tasks in waiting.items()}
        # The one that was being made when the follower came, and the next of each.
        assert max(done.values()) <= 2
        service.stop()
        await asyncio.gather(*(task for tasks in waiting.values() for task in tasks), return_exceptions=True)


async def test_streams_that_wait_for_their_first_page_count() -> None:
    ends = threading.Event()
    with Authority.temporary() as authority:
        service = Service(authority)
        feed = Feed(service)
        held_up = asyncio.create_task(service.beginners.take(AT, held(ends)))
        asked = [FeedCursor(since=since) for since in range(STREAMS_OF_ONE + 200)]
        waiting = [asyncio.create_task(feed.follow(one, AT)) for one in asked]
        other = asyncio.create_task(feed.follow(FeedCursor(), "198.51.100.1"))
        await asyncio.sleep(0.1)
        refused = [task.exception() for task in waiting if task.done()]
        assert len(refused) == 200
        assert all(isinstance(error, HttpRefusal) for error in refused)
        ends.set()
        await held_up
        await asyncio.gather(other, *waiting, return_exceptions=True)
        assert isinstance(other.result(), StreamingResponse)
