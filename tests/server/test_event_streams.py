"""The log is followed live, and what breaks a line breaks no stream."""

import json
import time

import pytest

from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.base64url import b64u
from capx.tokens.capability import Capability
from tests.server.conftest import Served


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
