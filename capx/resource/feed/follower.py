"""A view of deaths that is told what died, by a thread of its own: for a database or an authority elsewhere.

Laws: a question never waits, but the first ones for the first news, a moment. Knowledge is as old as the older of two:
when it was received, and when its source said so by the clocks of both machines; what is received twice confirms
nothing the second time. Nothing that goes wrong takes a death back, or ends the thread. A forked child follows by
itself, from the beginning.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from capx import diagnostics
from capx.background import begin_in_each_process
from capx.errors import StoreProblem
from capx.resource.revocations import View
from capx.store.records import Head, News
from capx.tokens.revocation_key import RevocationKey

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_SIGHTING_EVERY: Final = 10.0
_SIGHTING_AGAIN: Final = 1.0
_TO_END: Final = 2.0
_LATE: Final = 5.0
_LONG: Final = 10.0


class Stream(Protocol):
    """Something that tells what died, as it happens."""

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        """News as they come, those after what is known first, and at least every few seconds some without a death.

        News without `at` are as old as the last question what is `known`. Over connections of its own each time; ends
        by a StoreProblem when no news can be had. One at a time in each process.
        """
        ...

    def close(self) -> None:
        """Let go of connections; a stream that another thread waits for ends at once."""
        ...


class Follower:
    """The deaths that `source` tells of, which is closed with it.

    The thread begins with the first question, or `start`. Questions wait for the first news until `patience` seconds
    after that. `sighted` is told, in the thread, how many deaths are known: when that changed, and every ten seconds;
    what it raises is kept as `sighting_problem`, and it is tried again. It holds up the news, so it has to be quick.
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
        self._options = sighted, patience, clock, wall
        self._closed = False
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        # A child has the memory of its parent, and not its threads.
        self._watch = _Watch(self._source, *self._options)
        if self._closed:
            self._watch.close()

    @property
    def deaths(self) -> Mapping[RevocationKey, str]:
        """What is known to be dead, with the reason code of each."""
        return self._watch.view.deaths

    @property
    def revoked_until(self) -> int:
        """The last second up to which all that was issued is dead."""
        return self._watch.view.revoked_until

    @property
    def problem(self) -> StoreProblem | None:
        """Why there were no news, the last time that there were none; or that none came for ten seconds."""
        return self._watch.problem or self._watch.silence()

    @property
    def sighting_problem(self) -> Exception | None:
        """Why the last sighting could not be told."""
        return self._watch.sighting_problem

    def start(self) -> None:
        """Begin to follow, without a question."""
        self._watch.ensure()

    def age(self) -> float:
        """Seconds since the last news, by whichever clock says more; infinite before the first."""
        self._watch.ensure()
        return self._watch.age()

    def close(self) -> None:
        """End the thread, and close the source; knowledge grows old from here on."""
        self._closed = True
        self._watch.close()


class _Watch:
    """What one process follows: its view and its thread."""

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
        # By the clock that only goes on and by that on the wall: when the last news were received and said,
        self._confirmed = -math.inf, -math.inf
        # and when those that come next were asked for.
        self._asked = -math.inf, -math.inf
        self._told: int = -1
        self._tell_at = -math.inf
        self._lock = threading.Lock()
        self._first = threading.Event()
        self._end = threading.Event()
        self._wait_until = self._began = -math.inf
        self._thread: threading.Thread | None = None

    @property
    def problem(self) -> StoreProblem | None:
        """Why nothing is heard; None while something is."""
        return self._problem

    @problem.setter
    def problem(self, problem: StoreProblem | None) -> None:
        self._problem = problem
        if problem is not None:
            diagnostics.warn_once(f"nothing is heard of deaths: {problem}")

    def ensure(self) -> None:
        """Make sure that the thread runs; when none can be had, the next question tries again."""
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
            self.problem = StoreProblem(f"no thread can be had to follow what dies: {error}")
        else:
            self._began = self._clock()
            self._thread, self._wait_until = thread, self._began + self._patience

    def silence(self) -> StoreProblem | None:
        """That the thread waits for news that do not come, whatever it is that holds it."""
        if self._thread is None or self._end.is_set():
            return None
        since = self._clock() - max(self._began, self._confirmed[0])
        return None if since <= _LONG else StoreProblem(f"no news came for {since:.0f} seconds, and nothing says why")

    def age(self) -> float:
        if not self._first.is_set() and (wait := self._wait_until - self._clock()) > 0:
            self._first.wait(wait)
        received, said = self._confirmed
        return max(0.0, self._clock() - received, self._wall() - said)

    def close(self) -> None:
        with self._lock:
            self._end.set()
            self._first.set()
            thread = self._thread
        # A parent's connections are not a child's to close.
        if thread is None:
            return
        self._source.close()
        if thread is not threading.current_thread():
            thread.join(_TO_END)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._end.is_set():
            began, _ = self._asked = self._clock(), self._wall()
            try:
                for news in self._source.stream(self._known):
                    if self._end.is_set():
                        break
                    self._learn(news)
                    self._tell()
                problem = StoreProblem("the source of what died ended by itself")
            except StoreProblem as found:
                problem = found
            except Exception as error:  # noqa: BLE001 # whatever it is, a thread that ended would not recover
                problem = StoreProblem(f"what died cannot be followed: {type(error).__name__}: {error}")
            if self._end.is_set():
                break
            self.problem = problem
            # Only what lasted has recovered: else a source that ends after its first news would be asked in a rush.
            if self._clock() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            self._end.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _known(self) -> Head | None:
        self._asked = self._clock(), self._wall()
        return self.view.head

    def _learn(self, news: News) -> None:
        self.view.learn(news)
        if news.at is None:
            self._confirmed, self.problem = self._asked, None
        elif news.at > self._confirmed[1]:
            self._confirmed, self.problem = (self._clock(), news.at), _lateness(self._wall() - news.at)
        else:
            self.problem = StoreProblem("what is heard is no later than what was heard before: it is an old answer")
            return
        self._first.set()

    def _tell(self) -> None:
        if self._sighted is None or self.view.head is None:
            return
        now, known = self._clock(), self.view.head.deaths
        if now < self._tell_at and (known == self._told or self.sighting_problem is not None):
            return
        try:
            self._sighted(known)
        except Exception as error:  # noqa: BLE001 # who knows what was seen is no reason not to see
            self.sighting_problem = error
            self._tell_at = self._clock() + _SIGHTING_AGAIN
        else:
            self.sighting_problem = None
            self._told, self._tell_at = known, self._clock() + _SIGHTING_EVERY


def _lateness(seconds: float) -> StoreProblem | None:
    if seconds <= _LATE:
        return None
    return StoreProblem(f"what is heard was said {seconds:.0f} seconds ago: a clock is wrong, or it was held up")
