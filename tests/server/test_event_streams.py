"""The log is followed live, and what breaks a line breaks no stream."""

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from starlette.responses import StreamingResponse

from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.base64url import b64u
from capx.resource.feed.page import FeedCursor
from capx.server.faces.event_streams import Feed
from capx.server.service import Service
from capx.tokens.capability import Capability
from tests.server.conftest import Served

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


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


def test_strangers_who_ask_for_pages_delay_no_new_stream() -> None:
    ends = threading.Event()

    async def run(authority: Authority) -> None:
        service = Service(authority)
        feed = Feed(service)
        waiting: list[asyncio.Task[Any]] = [asyncio.create_task(service.readers.run(ends.wait))]
        waiting += [asyncio.create_task(feed.page(FeedCursor(since=since))) for since in range(50)]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await feed.follow(FeedCursor(), "192.0.2.1")
        assert not any(task.done() for task in waiting)
        ends.set()
        await asyncio.gather(*waiting)

    try:
        with Authority.temporary() as authority:
            asyncio.run(run(authority))
    finally:
        ends.set()


def test_strangers_who_ask_for_pages_delay_no_open_stream() -> None:
    ends = threading.Event()

    async def run(authority: Authority) -> None:
        service = Service(authority)
        feed = Feed(service)
        async with service.open():
            then = (await feed.page(FeedCursor())).then
            stream = await feed.follow(FeedCursor(), "192.0.2.1")
            assert isinstance(stream, StreamingResponse)
            pieces = cast("AsyncGenerator[bytes]", stream.body_iterator)
            first = await anext(pieces)
            # The threads of those who begin and of single pages are busy, and what strangers ask for waits.
            waiting: list[asyncio.Task[Any]] = [
                asyncio.create_task(workers.run(ends.wait)) for workers in (service.beginners, service.readers)
            ]
            waiting += [asyncio.create_task(feed.page(FeedCursor(since=since))) for since in range(1, 50)]
            # Also a page that an open stream needs, too: this is how it asks.
            waiting.append(asyncio.create_task(feed.page(then)))
            await asyncio.sleep(0)
            async with asyncio.timeout(10):
                page = await feed._page(then, service.followers)  # pyright: ignore[reportPrivateUsage]
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

    try:
        with Authority.temporary() as authority:
            asyncio.run(run(authority))
    finally:
        ends.set()
