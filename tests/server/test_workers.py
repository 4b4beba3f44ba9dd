"""Too much at once is told so, and the rest is done."""

import asyncio
import contextlib
import socket
import threading
import time

import pytest

from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.errors import StoreProblem
from capx.server.service import Service
from capx.server.workers import Busy, Shared, Workers
from tests.labs.serving_process import figure, locked, opened
from tests.labs.waiting import until
from tests.server.conftest import Served


def test_too_much_at_once_is_told_so_and_the_rest_is_done(served: Served) -> None:
    with locked(served):
        asked = threading.Thread(target=lambda: answers.extend(asyncio.run(opened(served.socket, 250))))
        answers: list[bytes] = []
        asked.start()
        with served.everybody() as client:
            sent_away = 'capx_http_requests_total{face="operators",method="POST",route="/tasks",status="503"}'
            until(lambda: figure(served, sent_away) >= 40)
            # A face of others, and what looks at no store, go on.
            assert client.get("/feed").status_code == 200
            began = time.monotonic()
            assert client.get("/healthz").json() == {"alive": True}
            assert time.monotonic() - began < 1.0
    asked.join(60)
    refused_, done = [a for a in answers if b" 503 " in a], [a for a in answers if b" 200 " in a]
    assert len(refused_) + len(done) == 250
    assert len(refused_) >= 40
    assert all(b"retry-after: 1" in answer for answer in refused_)
    with RemoteAuthority(served.place) as remote:
        assert len(remote.tasks()) == len(done)


def test_what_has_not_begun_is_left_out_when_its_client_leaves(served: Served) -> None:
    def answered(status: int) -> float:
        labels = f'face="operators",method="POST",route="/tasks",status="{status}"'
        return figure(served, f"capx_http_requests_total{{{labels}}}")

    body = b'{"allow": ["crm.read"]}'
    head = b"POST /tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
        body
    )
    with contextlib.ExitStack() as stack, locked(served):
        connections = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(50)]
        for connection in connections:
            connection.connect(str(served.socket))
            connection.sendall(head + body)
        # Answered after all fifty have come.
        with served.operators() as client:
            assert client.get("/openapi.json").status_code == 200
        for connection in connections:
            connection.close()
        # Four threads have begun one each.
        until(lambda: answered(400) == 46)
    with RemoteAuthority(served.place) as remote:
        until(lambda: len(remote.tasks()) == 4)


async def test_calls_that_share_a_result_run_once() -> None:
    shared, ran, ends = Shared(60), list[int](), threading.Event()

    def call() -> int:
        ends.wait(20)
        ran.append(1)
        return len(ran)

    callers = [asyncio.create_task(shared.run(call)) for _ in range(1_000)]
    await asyncio.sleep(0)
    # The others still get it.
    callers.pop(0).cancel()
    ends.set()
    assert set(await asyncio.gather(*callers)) == {1}
    assert await shared.run(call) == 1


async def test_an_error_is_kept_as_a_result_is() -> None:
    shared, ran = Shared(60), list[int]()

    def call() -> None:
        ran.append(1)
        raise StoreProblem("no")

    for _ in range(10):
        with pytest.raises(StoreProblem):
            await shared.run(call)
    assert ran == [1]


async def test_an_old_error_and_an_old_result_are_not_kept() -> None:
    shared = Shared(0)
    results = iter((StoreProblem("no"), 1, 2))

    def call() -> int:
        found = next(results)
        if isinstance(found, StoreProblem):
            raise found
        return found

    with pytest.raises(StoreProblem):
        await shared.run(call)
    assert [await shared.run(call), await shared.run(call)] == [1, 2]


def test_nobody_waits_behind_the_calls_of_another() -> None:
    done = threading.Event()

    async def crowd() -> bool:
        workers = Workers(4, 100, of_one=1)
        calls = [asyncio.create_task(workers.run_for(b"crm", done.wait)) for _ in range(20)]
        await asyncio.sleep(0.1)
        try:
            return await asyncio.wait_for(workers.run_for(b"billing", lambda: not done.is_set()), 20)
        finally:
            done.set()
            await asyncio.gather(*calls)

    assert asyncio.run(crowd())


def test_no_caller_has_more_than_a_quarter_of_the_room() -> None:
    done = threading.Event()

    async def crowd() -> tuple[list[object], bool, bool]:
        workers = Workers(4, 12)
        calls = [asyncio.create_task(workers.run_for(b"crm", done.wait)) for _ in range(6)]
        other = asyncio.create_task(workers.run_for(b"billing", lambda: True))
        # Each task begins before this goes on.
        await asyncio.sleep(0)
        done.set()
        found: list[object] = await asyncio.gather(*calls, return_exceptions=True)
        return found, await other, await workers.run_for(b"crm", lambda: True)

    found, other, again = asyncio.run(crowd())
    assert found[:4] == [True] * 4
    assert [type(one) for one in found[4:]] == [Busy] * 2
    assert other
    assert again


def test_the_calls_of_one_person_run_one_after_the_other() -> None:
    running, most = set[int](), list[int]()

    def work() -> None:
        running.add(threading.get_ident())
        time.sleep(0.02)
        most.append(len(running))
        running.remove(threading.get_ident())

    async def crowd(service: Service) -> None:
        await asyncio.gather(*(service.people.run_for(b"ana", work) for _ in range(4)))

    with Authority.temporary() as authority:
        asyncio.run(crowd(Service(authority)))
    assert most == [1, 1, 1, 1]
