"""Asks the feed of an authority, and cuts the connection when no page comes.

Laws: if no page comes for five seconds, the connection counts as broken, whatever else it carries. The client follows
no redirect, and accepts nothing compressed.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Final

import httpx

from capx.api.watchdog import Watchdog
from capx.errors import StoreProblem
from capx.resource.feed.page import FeedCursor

SILENCE: Final = 5.0
"""Seconds without a page after which a connection counts as broken."""

# A few compressed bytes may unpack to any size. And no cache may answer: an old page confirms nothing.
_HEADERS: Final = {"Accept-Encoding": "identity", "Cache-Control": "no-store"}


class FeedRefused(StoreProblem):
    """The server does not give this kind of answer, or not now."""


class Line(Watchdog):
    """Sends requests to the feed at `url`, one after the other, as long as pages are `heard`.

    `proof` returns the header that proves who asks for a target, or None.
    """

    def __init__(self, client: httpx.Client, url: str, proof: Callable[[str], str | None]) -> None:
        super().__init__(SILENCE, f"no page came for {SILENCE:.0f} seconds: the connection is broken")
        self._client = client
        self._url = url
        self._proof = proof

    @contextmanager
    def answer(self, asked: FeedCursor, kind: str) -> Generator[Iterator[bytes]]:
        """Ask, and give the answer in pieces; `kind` is its media type.

        Raises FeedRefused if the status is not 200. An error of httpx becomes a StoreProblem.
        """
        query = httpx.QueryParams(asked.query())
        headers = {"Accept": kind, **_HEADERS}
        if (proof := self._proof(f"/feed?{query}")) is not None:
            headers["Authorization"] = proof
        try:
            self._demand_uncut()
            with self._client.stream(
                "GET", self._url, params=query, headers=headers, extensions={"trace": self.note}
            ) as response:
                _demand(response, kind, self._url)
                yield self._pieces(response)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise no_news(self._url, self.why or error) from None

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        for piece in response.iter_raw():
            self._demand_uncut()
            yield piece
        # A connection that the watchdog shut down can look like an answer that has ended.
        self._demand_uncut()

    def _demand_uncut(self) -> None:
        if self.why is not None:
            raise no_news(self._url, self.why)


def no_news(url: str, why: Exception | str) -> StoreProblem:
    """Return the error for a feed that sent no news, with the reason."""
    return StoreProblem(f"no news from {url}: {str(why) or type(why).__name__}")


def _demand(response: httpx.Response, kind: str, url: str) -> None:
    if response.is_redirect:
        where = response.headers.get("location", "")
        raise StoreProblem(f"{url} redirects to {where!a:.200}, and capx follows no redirect: set it if it is right")
    if response.status_code == 503:
        raise FeedRefused(f"{url} answered 503: the authority is away, or its store is; it is asked again")
    if response.status_code != 200:
        raise FeedRefused(f"{url} answered {response.status_code} and gave no feed: is it the URL of an authority?")
    found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != kind or response.headers.get("content-encoding", "identity") != "identity":
        raise StoreProblem(f"{url} answered with {found!a:.80}, maybe compressed: wanted {kind}, not compressed")
