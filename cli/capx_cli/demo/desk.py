"""The operators' side of the demo: `capx serve` in a process of its own, and a desk that takes documents from anybody.

Law: the desk asks nobody who they are. Only the signature counts, and the authority judges it.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from capx import RemoteAuthority, SignedIntent
from capx.authority.requests.verdict import Verdict
from capx.errors import InvalidRequest
from capx_cli.demo.attack import Try
from capx_cli.demo.process import Children

T = TypeVar("T")


class Desk:
    """The authority of one home, which serves operators and agents; `url` is the address for agents."""

    def __init__(self, home: Path, socket: Path, children: Children) -> None:
        self._child = children.start("capx serve", "serving", str(socket), env={"CAPX_HOME": str(home)})
        self.url = ""
        self.authority = RemoteAuthority(f"unix:{socket}")

    def wait(self) -> None:
        """Wait until it serves."""
        self.url = self._child.hear()["url"]

    def taken(self, documents: Mapping[str, Mapping[str, Any]]) -> Iterator[Try]:
        """Hand in the documents of an agent, each under the name of its attempt; return the outcome of each."""
        for way, text in documents["intents"].items():
            yield _tried(way, self.authority.open, SignedIntent.parse(text.encode()))
        for way, verdict in documents["verdicts"].items():
            yield _tried(way, self.authority.answer, msgspec.convert(verdict, Verdict))


def _tried(way: str, take: Callable[[T], object], document: T) -> Try:
    try:
        take(document)
    except InvalidRequest as refused:
        return Try(way, "refused", str(refused))
    return Try(way, "taken")
