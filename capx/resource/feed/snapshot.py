"""Reads deaths from a saved page of the feed: for a service without a network.

Laws: the age of the knowledge is the age of the page, by the wall clock; if that clock goes back, the age does not. The
file is read again after it was replaced. A file changes nothing if it cannot be trusted, is cut short, or is older than
what was read before.
"""

import math
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO

from capx.crypto.private_file import stamp
from capx.errors import StoreProblem
from capx.resource.feed.page import MAX_PAGES, MAX_TEXT, PageOfAnother
from capx.resource.feed.reader import PageReader
from capx.resource.revocations import PolledView, View
from capx.store.continuity import succeeding
from capx.store.records import News


class Snapshot(PolledView):
    """The deaths in the file at `path`: one page, or all pages of a sequence, one in a line, as the feed gave them.

    `keys` are the feed's public keys by kid, and `authority` is the id of their authority. Safe with several threads;
    never raises: `problem` says why the file was refused.
    """

    def __init__(
        self,
        path: os.PathLike[str] | str,
        keys: Mapping[str, bytes],
        *,
        authority: str | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._path = os.fspath(path)
        self._reader = PageReader(keys, authority)
        self._wall = wall
        self._latest = -math.inf
        self._said = -math.inf

    def _begin(self) -> None:
        super()._begin()
        # At the fork, a thread of the parent may have read the file and not yet learnt from it. So a child reads it.
        self._seen: tuple[int, ...] | None = None

    def age(self) -> float:
        """Return the seconds since the authority wrote the page; infinite if there is no page to trust."""
        self._look_once()
        return max(0.0, self._now() - self._said)

    def _now(self) -> float:
        # A clock that is set back must not make an old page fresh again.
        self._latest = max(self._latest, self._wall())
        return self._latest

    def _look(self) -> None:
        try:
            if stamp(os.stat(self._path)) == self._seen:  # noqa: PTH116 # a Path would double what a question costs
                return
            self._learn(self._read())
        except OSError as error:
            self._seen = None
            self.problem = StoreProblem(f"the snapshot {self._path} cannot be read: {error.strerror}")
        except StoreProblem as problem:
            kind = PageOfAnother if isinstance(problem, PageOfAnother) else StoreProblem
            self.problem = kind(f"the snapshot {self._path} is refused: {problem}")

    def _learn(self, found: list[News]) -> None:
        view = View()
        for news in found:
            view.learn(news)
        known, head = self._view.head, found[-1].head
        if known is not None:
            # A page without a cursor gives no hash for an earlier position. Compare hashes only at the same position.
            succeeding(known, head, known.hash if head.position > known.position else head.hash)
        view.revoked_until = max(view.revoked_until, self._view.revoked_until)
        # Replace the view in one step: no reader sees only the first of several pages.
        self._view = view
        self._said, self.problem = max(self._said, *(news.at or -math.inf for news in found)), None

    def _read(self) -> list[News]:
        """Read the pages of the file, one after the other."""
        now = self._now()
        self._reader.begin(None)
        with open(self._path, "rb", opener=_without_waiting) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise StoreProblem("it is not a regular file")
            # Note the stamp before reading: a file that is refused is not read again either, until it was replaced.
            self._seen = stamp(before)
            found = [self._reader.take(line, now=now) for line in _lines(file)]
        complete = [news for news in found if news is not None]
        if not complete or self._reader.is_amid:
            raise StoreProblem("it ends before its last page")
        return complete


def _lines(file: IO[bytes]) -> Iterator[str]:
    for _ in range(MAX_PAGES):
        line = file.readline(MAX_TEXT + 2)
        if not line:
            return
        yield line.removesuffix(b"\n").decode("ascii", "replace")
    raise StoreProblem(f"it holds more than {MAX_PAGES} pages")


def _without_waiting(path: str, flags: int) -> int:
    """Open a file, but do not wait for a writer if it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
