"""One message over HTTP: with which headers it goes, and what counts as its answer. Failures: test_http_server.py."""

import asyncio
from typing import TYPE_CHECKING, Any

from capx.api.jsonrpc import Notification, Request, Response
from capx.api.relay.http_exchange import exchange, headers_for, http_client, send
from tests.labs.serving import served_here

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENTS = (
    b'data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n'
    b'data: {"jsonrpc":"2.0","id":"1","result":"of another request"}\n\n'
    b'data: {"jsonrpc":"2.0","id":1,"result":"mine"}\n\n'
    b'data: {"jsonrpc":"2.0","method":"notifications/late"}\n\n'
)


async def upstream(scope: Any, receive: Any, send_: Any) -> None:
    await receive()
    pairs = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-seen", b"yes")]
    await send_({"type": "http.response.start", "status": 200, "headers": pairs})
    # Cut in the middle of an event.
    await send_({"type": "http.response.body", "body": EVENTS[:70], "more_body": True})
    await send_({"type": "http.response.body", "body": EVENTS[70:]})


def test_the_answer_is_the_response_with_its_id() -> None:
    began: list[Mapping[str, str]] = []
    beside: list[Request | Notification] = []

    async def note(message: Request | Notification) -> None:
        beside.append(message)

    async def main() -> Response:
        async with served_here(upstream) as origin, http_client(trust_env=False) as client:
            return await exchange(
                client, origin, Request(1, "tools/call", {}), headers={}, began=began.append, beside=note
            )

    assert asyncio.run(main()) == Response(id=1, result="mine")
    assert beside == [Notification("notifications/progress")]
    assert began[0]["x-seen"] == "yes"


def test_what_gets_no_answer_is_sent_without_reading_one() -> None:
    async def main() -> int:
        async with served_here(upstream) as origin, http_client(trust_env=False) as client:
            return (await send(client, origin, Notification("notifications/initialized"), {})).status_code

    assert asyncio.run(main()) == 200


def test_a_message_goes_with_headers_of_its_own() -> None:
    given = {"authorization": "Bearer x", "accept": "text/html", "content-type": "text/plain"}
    assert headers_for(Request(1, "tools/call", {}), given) == {
        "authorization": "Bearer x",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "accept-encoding": "identity",
    }
