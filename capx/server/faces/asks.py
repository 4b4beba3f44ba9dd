"""Asks over HTTP, and waiting until a person answers.

    Prefer: wait=SECONDS     hold the answer back while it is pending (RFC 7240), for at most 25 s

Laws:

- Each time the agent is woken, the authority answers the ask again for the asker that was proven at first. So an agent
  gets no grant that it could no longer ask for. It presented one ask, so it gets a grant on the request and round that
  it waits for, and nothing else is written.
- Waiting ends when the agent closes its connection. When the authority stops, agents that wait get an answer.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from capx.api.messages.agents import answered
from capx.api.problems import HttpRefusal
from capx.authority.authority import Authority
from capx.authority.requests.granting import Waiting
from capx.authority.requests.inheritance import Asker
from capx.guard.asgi.messages import until_gone
from capx.server import operation
from capx.server.operation import AnyOperation
from capx.server.service import Service
from capx.server.waiting.askers import LONGEST
from capx.verify.ask import Answer, Ask, Pending

_WAIT: Final = re.compile(r"\s*wait\s*=\s*(\"?)([0-9]{1,9})\1\s*(?:;.*)?", re.IGNORECASE | re.ASCII)


class AnsweredAsk(Struct, frozen=True):
    """An ask, its asker, and the answer so far; if it is pending, what the agent waits for."""

    asker: Asker
    ask: Ask
    answer: Answer
    waiting: Waiting | None = None


def answer(authority: Authority, asker: Asker, ask: Ask) -> AnsweredAsk:
    """Answer an ask whose presentation was already allowed as a call."""
    found = authority.answer_asker(asker, ask)
    waiting = Waiting(found, authority.request(found.request).round) if isinstance(found, Pending) else None
    return AnsweredAsk(asker, ask, found, waiting)


async def ask_response(service: Service, asks: AnyOperation, request: Request, asked: AnsweredAsk) -> Response:
    """The answer, held back while it is pending for as long as the agent prefers."""
    seconds = preferred_wait(request.headers.getlist("prefer"))
    if not seconds or not isinstance(asked.answer, Pending):
        return operation.answered(asks, answered(asked.answer))
    with service.waiting.held(asked.answer.request, asked.asker.task) as waiter:
        if waiter is None:
            return operation.answered(asks, answered(asked.answer))
        async with _leaving(request) as left:
            found = await _awaited(service, asked, waiter.woken, left, time.monotonic() + seconds)
    response = operation.answered(asks, answered(found))
    response.headers["Preference-Applied"] = f"wait={seconds}"
    return response


async def _awaited(
    service: Service, asked: AnsweredAsk, woken: asyncio.Event, left: "asyncio.Task[None]", ends: float
) -> Answer:
    found = asked.answer
    while isinstance(found, Pending) and not service.stopping:
        # Stop when the request expires: asking once more would make a new request to people. The agent decides that.
        remaining = min(ends - time.monotonic(), found.until - time.time())
        if remaining <= 0:
            break
        # `asyncio.wait` does not end the tasks that it waits for, so this one is cancelled below.
        waking = asyncio.create_task(woken.wait())
        try:
            await asyncio.wait((waking, left), timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
        if left.done():
            raise HttpRefusal(400, "client_gone", "the client closed the connection before the answer")
        if woken.is_set() and not service.stopping:
            woken.clear()
            again = partial(service.authority.answer_asker, asked.asker, asked.ask, waiting=asked.waiting)
            found = await service.agents.run(again)
    return found


@contextlib.asynccontextmanager
async def _leaving(request: Request) -> "AsyncGenerator[asyncio.Task[None]]":
    """A block with a task that is done when the client has left. The body must have been read before."""
    task = asyncio.create_task(until_gone(request.receive))
    try:
        yield task
    finally:
        task.cancel()


def preferred_wait(headers: Sequence[str]) -> int:
    """The seconds that an agent prefers to wait, at most 25; 0 if no header says so in the right form."""
    for one in ",".join(headers).split(","):
        if match := _WAIT.fullmatch(one):
            return min(LONGEST, int(match[2]))
    return 0
