"""A line to an authority: its connections, and the answers that come over them.

Laws: no page for five seconds means that the connection is broken, whatever else comes over it. A redirect is not
followed, and nothing compressed is taken.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final

import httpx

from capx.api.watchdog import Watchdog
from capx.errors import StoreProblem
from capx.resource.feed.page import FeedCursor

SILENCE: Final = 5.0
"""Seconds without a page after which a connection counts as broken."""

# What is compressed has no bound.
_HEADERS: Final = {"Accept-Encoding": "identity", "Cache-Control": "no-store"}


class FeedRefused(StoreProblem):
    """Whoever answers gives nothing of the kind that was asked for, or not now."""


class Line(Watchdog):
    """Questions to the feed at `url`, one after the other, for as long as pages are `heard`."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        super().__init__(SILENCE, f"no page came for {SILENCE:.0f} seconds: the connection is broken")
        self._client = client
        self._url = url

    @contextmanager
    def answer(self, asked: FeedCursor, kind: str) -> Generator[Iterator[bytes]]:
        """The answer to a question, in pieces, of the kind of media that was asked for.

        Refused, if the status says so; what httpx raises comes as a StoreProblem.
        """
        headers = {"Accept": kind, **_HEADERS}
        try:
            self._demand_uncut()
            with self._client.stream(
                "GET", self._url, params=asked.query(), headers=headers, extensions={"trace": self.note}
            ) as response:
                _demand(response, kind, self._url)
                yield self._pieces(response)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise unheard(self._url, self.why or error) from None

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        for piece in response.iter_raw():
            self._demand_uncut()
            yield piece
        # What was cut may look like what has ended.
        self._demand_uncut()

    def _demand_uncut(self) -> None:
        if self.why is not None:
            raise unheard(self._url, self.why)


def unheard(url: str, why: Exception | str) -> StoreProblem:
    """That nothing came from there, and why."""
    return StoreProblem(f"nothing is heard from {url}: {str(why) or type(why).__name__}")


def _demand(response: httpx.Response, kind: str, url: str) -> None:
    if response.is_redirect:
        where = response.headers.get("location", "")
        raise StoreProblem(f"{url} redirects to {where!a:.200}, which is not followed: configure that if it is right")
    if response.status_code != 200:
        raise FeedRefused(f"{url} answers {response.status_code}, and not with a feed")
    found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != kind or response.headers.get("content-encoding", "identity") != "identity":
        raise StoreProblem(f"{url} answers with {found!a:.80}, encoded or not, and not with plain {kind}")
