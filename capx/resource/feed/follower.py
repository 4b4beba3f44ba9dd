"""Follows the deaths of a database, or of an authority elsewhere, in its own thread.

Laws:

- `age()` does not block, except briefly before the first news.
- The age of knowledge is the larger of two: the time since it was received, and the time since its source sent it, by
  the clocks of both machines. On PostgreSQL it is at least the time since the server confirmed a write of this process.
- News that is not newer than the news before confirms nothing. This is a problem if it lasts: the news of several
  authority processes at one store may come in another order.
- No error takes a death back, and no error ends the thread.
- A forked child follows by itself, from the beginning.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from capx import diagnostics
from capx.background import begin_in_each_process, run_in_thread
from capx.crypto.instants import seconds
from capx.errors import ConfigurationProblem, StoreProblem
from capx.resource.revocations import View
from capx.store.continuity import unconfirmed
from capx.store.records import Head, News
from capx.tokens.revocation_key import RevocationKey

if TYPE_CHECKING:
    from concurrent.futures import Future

# All in seconds. The pauses between attempts double from the first to the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_SIGHTING_EVERY: Final = 10.0
_SIGHTING_AGAIN: Final = 1.0
_TO_END: Final = 2.0
# News this old when it arrives is reported as a problem; so is a silence this long.
_LATE: Final = 5.0
_LONG: Final = 10.0


class Stream(Protocol):
    """A source of deaths as they happen."""

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        """Yield news as they come: first what is not `known`, then at least every few seconds, even without a death.

        News without `at` are as old as the last call of `known`. Each stream has its own connections. It raises
        StoreProblem when it can get no news. One at a time in each process.
        """
        ...

    def close(self) -> None:
        """Close connections; a stream that another thread waits for ends at once."""
        ...


class Follower:
    """The deaths that `source` sends; `close` closes the source, too.

    The thread begins with the first question, or with `start`. For `patience` seconds after that, questions wait for
    the first news. Another thread calls `sighted` with the number of known deaths, when it changed and every ten
    seconds. An error of `sighted` is kept as `sighting_problem`, and the call is repeated.
    """

    def __init__(
        self,
        source: Stream,
        *,
        sighted: Callable[[int], None] | None = None,
        patience: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._options = sighted, seconds("patience", patience, ConfigurationProblem), clock, wall
        self._closed = False
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        # A child has the memory of its parent, but not its threads. The parent's thread may have been in the middle of
        # a change at the fork, so the child starts with an empty view.
        self._watch = _Watch(self._source, *self._options)
        if self._closed:
            self._watch.close()

    @property
    def deaths(self) -> Mapping[RevocationKey, str]:
        """The keys that are known to be dead, with the reason code of each."""
        return self._watch.view.deaths

    @property
    def authority(self) -> str | None:
        """The id of the authority whose deaths these are; None before the first news."""
        return self._watch.view.authority

    @property
    def revoked_until(self) -> int:
        """The last second (Unix time) up to which all that was issued is dead; -1 if there is none."""
        return self._watch.view.revoked_until

    @property
    def problem(self) -> StoreProblem | None:
        """Why no news came, or none for ten seconds, or no confirmed write for five; None while news arrives."""
        return self._watch.problem or self._watch.silence()

    @property
    def sighting_problem(self) -> Exception | None:
        """Why the last sighting could not be reported; None if it was."""
        return self._watch.sighting_problem

    def start(self) -> None:
        """Begin to follow now, before the first question."""
        self._watch.ensure()

    def age(self) -> float:
        """Return the seconds since the last news, by the clock that gives the larger age; infinite before the first.

        It is at least the time since the server confirmed a write of this process.
        """
        self._watch.ensure()
        return self._watch.age()

    def close(self) -> None:
        """End the thread, and close the source; from now on, knowledge only grows old."""
        self._closed = True
        self._watch.close()


class _Watch:
    """The view and the thread of one process."""

    def __init__(
        self,
        source: Stream,
        sighted: Callable[[int], None] | None,
        patience: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._source = source
        self._sighted = sighted
        self._patience = patience
        self._clock = clock
        self._wall = wall
        self.view = View()
        self._problem: StoreProblem | None = None
        self.sighting_problem: Exception | None = None
        # When the last news were received, by the monotonic clock, and when their source sent them, by the wall clock.
        self._confirmed = -math.inf, -math.inf
        # When the next news were asked for, by both clocks.
        self._asked = -math.inf, -math.inf
        self._confirmation_age: Callable[[], float] | None = None
        self._reporting: Future[None] | None = None
        self._reported: int = -1
        self._report_at = -math.inf
        self._lock = threading.Lock()
        self._first = threading.Event()
        self._end = threading.Event()
        self._wait_until = self._began = -math.inf
        self._thread: threading.Thread | None = None

    @property
    def problem(self) -> StoreProblem | None:
        """Why no news comes; None while it comes."""
        return self._problem

    @problem.setter
    def problem(self, problem: StoreProblem | None) -> None:
        self._problem = problem
        if problem is not None:
            diagnostics.warn_once(f"this service gets no news of revocations: {problem}")

    def ensure(self) -> None:
        """Make sure that the thread runs; if none can be started, the next question tries again."""
        if self._thread is None:
            with self._lock:
                self._start()

    def _start(self) -> None:
        if self._thread is not None or self._end.is_set():
            return
        thread = threading.Thread(target=self._run, name="capx-follower", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            self.problem = StoreProblem(f"cannot start a thread to follow revocations: {error}")
        else:
            self._began = self._clock()
            self._thread, self._wait_until = thread, self._began + self._patience

    def silence(self) -> StoreProblem | None:
        """Return the problem that the thread waits for news and none comes, if that lasts for long."""
        if self._thread is None or self._end.is_set():
            return None
        since = self._clock() - max(self._began, self._confirmed[0])
        if since > _LONG:
            return StoreProblem(f"no news came for {since:.0f} seconds, and nothing says why")
        return unconfirmed(min(self._unconfirmed(), self._clock() - self._began))

    def age(self) -> float:
        if not self._first.is_set() and (wait := self._wait_until - self._clock()) > 0:
            self._first.wait(wait)
        # One read of one tuple: the thread replaces both times at once.
        received, said = self._confirmed
        return max(0.0, self._clock() - received, self._wall() - said, self._unconfirmed())

    def _unconfirmed(self) -> float:
        return 0.0 if self._confirmation_age is None else self._confirmation_age()

    def close(self) -> None:
        with self._lock:
            self._end.set()
            self._first.set()
            thread = self._thread
        # Without a thread, this process opened no connection. In a forked child they are the parent's: leave them open.
        if thread is None:
            return
        self._source.close()
        if thread is not threading.current_thread():
            thread.join(_TO_END)
        if self._reporting is not None:
            # Who reports through a client closes it next. A connection that is then being made would stay open.
            with suppress(Exception):
                self._reporting.result(_TO_END)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._end.is_set():
            began, _ = self._asked = self._clock(), self._wall()
            try:
                for news in self._source.stream(self._known):
                    if self._end.is_set():
                        break
                    self._learn(news)
                    self._report()
                problem = StoreProblem("the source of revocations ended its stream")
            except StoreProblem as found:
                problem = found
            except Exception as error:  # noqa: BLE001 # a thread that ended would not recover
                problem = StoreProblem(f"cannot follow revocations: {type(error).__name__}: {error}")
            if self._end.is_set():
                break
            self.problem = problem
            # Start again with the short pause only after a stream that lasted. Otherwise a source that ends after its
            # first news would be asked twenty times a second.
            if self._clock() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            self._end.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _known(self) -> Head | None:
        # News read from a store has no time of its own. It is as old as this question, not as its arrival.
        self._asked = self._clock(), self._wall()
        return self.view.head

    def _learn(self, news: News) -> None:
        self.view.learn(news)
        self._confirmation_age = news.confirmation_age
        if news.at is None:
            self._confirmed, self.problem = self._asked, None
        elif news.at > self._confirmed[1]:
            self._confirmed, self.problem = (self._clock(), news.at), _lateness(self._wall() - news.at)
        else:
            # A cache or an attacker repeats an old page. Its deaths count, but it must not make them look fresh.
            if self._clock() - self._confirmed[0] > _LATE:
                self.problem = StoreProblem("the news is not newer than the news before: it is an old answer")
            return
        self._first.set()

    def _report(self) -> None:
        if self._sighted is None or self.view.head is None:
            return
        now, known = self._clock(), self.view.head.deaths
        if now < self._report_at and (known == self._reported or self.sighting_problem is not None):
            return
        # A report may hang for as long as its server does.
        if self._reporting is None or self._reporting.done():
            self._reporting = run_in_thread(partial(self._tell, self._sighted, known), name="capx-sighting")

    def _tell(self, sighted: Callable[[int], None], known: int) -> None:
        try:
            sighted(known)
        except Exception as error:  # noqa: BLE001 # a report that fails must not stop the news
            self.sighting_problem = error
            self._report_at = self._clock() + _SIGHTING_AGAIN
        else:
            self.sighting_problem = None
            self._reported, self._report_at = known, self._clock() + _SIGHTING_EVERY


def _lateness(seconds: float) -> StoreProblem | None:
    if seconds <= _LATE:
        return None
    return StoreProblem(f"the news was sent {seconds:.0f} seconds ago: a clock is wrong, or something held it up")
