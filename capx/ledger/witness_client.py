"""Asks a witness over HTTP to cosign a checkpoint.

    POST URL/add-checkpoint      200 and lines · 409 and the size of the last checkpoint that it has cosigned

Law: nothing that the witness answers is believed: its lines are checked under its key by whoever keeps them.

Source: C2SP tlog-witness.
"""

from collections.abc import Callable
from typing import Final

import httpx

from capx.api.deadline import SINGLE, whole_response
from capx.errors import ConfigurationProblem, StoreProblem
from capx.ledger.note import MAX_NOTE
from capx.ledger.witness import AddCheckpoint
from capx_caveats import SAFE_INTEGER

SECONDS: Final = 10.0
"""Seconds for a whole answer."""
_TRIES: Final = 4


def cosignatures(
    url: str, request_from: Callable[[int], AddCheckpoint], *, old: int = 0, seconds: float = SECONDS
) -> list[str]:
    """Return the lines that a witness answers, each with its end; StoreProblem if it does not cosign.

    `request_from` gives the request that goes on from a tree of some size; `old` is the size to begin with. It raises
    StoreProblem for a size that the log does not have.
    """
    if not url.startswith(("https://", "http://")):
        raise ConfigurationProblem(f"{url!a:.120} is no URL: give one like https://witness.example")
    with httpx.Client(base_url=url, timeout=seconds, limits=SINGLE) as client:
        for _ in range(_TRIES):
            status, text = _answer(client, request_from(old).text(), seconds)
            if status == 200:
                return text.splitlines(keepends=True)
            if status != 409:
                raise StoreProblem(f"{client.base_url} does not cosign this checkpoint: {status} {text!a:.200}")
            size = text.removesuffix("\n")
            if not (size.isascii() and size.isdecimal() and len(size) < 17 and int(size) <= SAFE_INTEGER):
                break
            old = int(size)
    raise StoreProblem(f"{client.base_url} names no size from which it would go on: is it a witness?")


def _answer(client: httpx.Client, body: str, seconds: float) -> tuple[int, str]:
    try:
        answer = whole_response(client, "POST", "add-checkpoint", seconds=seconds, most=MAX_NOTE, content=body.encode())
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        why = str(error) or type(error).__name__
        raise StoreProblem(f"the witness at {client.base_url} does not answer: {why}") from None
    return answer.status, answer.content.decode("utf-8", "replace")
