"""What has happened, as a store tells it: tasks, the log, decisions, the graph, and what was spent.

Laws: what was decided in this process is in the log before it is told of. Long answers are read in pieces while they
are taken, so that they need little memory and hold nobody up.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Unpack

from msgspec import structs

from capx.authority.ending import as_of, known_task
from capx.authority.graph.graph import Graph
from capx.authority.graph.impact import read_graph
from capx.authority.requests import request_state
from capx.authority.requests.request_state import inquire, known_request
from capx.authority.requests.verdict import Inquiry
from capx.resource.recorder import StoreRecorder
from capx.store.check import check_store
from capx.store.decision_query import ANY_DECISION, Query, QueryFields
from capx.store.log import Event, Place
from capx.store.protocols import Store
from capx.store.records import Counter, FollowerAck, IntentRecord, RequestRecord, TaskRecord
from capx.verify.verifier import MAX_STALENESS
from capx_caveats import is_id

_PATIENCE = 1.0
_PIECE = 1_000


class History:
    """The history of one store; `clock` gives Unix seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store = store
        self._clock = clock
        self._recorder = StoreRecorder(store)

    def counters(self, ids: Sequence[str] | None = None) -> list[Counter]:
        """What the counters of these ids hold, or all."""
        with self.store.read() as reading:
            return reading.counters(ids)

    def unaware(self, *, within: float = MAX_STALENESS) -> list[FollowerAck]:
        """The followers, heard of in the last `within` seconds, that have not yet seen all that is dead."""
        now = self._now()
        with self.store.read() as reading:
            deaths = reading.head().deaths
            return [one for one in reading.follower_acks() if one.deaths < deaths and one.at > now - within]

    def tasks(self) -> list[TaskRecord]:
        """All tasks, in the order in which they were opened; one whose time ran out is `expired`."""
        now = self._now()
        with self.store.read() as reading:
            return [as_of(task, now) for task in reading.tasks()]

    def task(self, task_id: str) -> TaskRecord:
        """The task with this id; UnknownTask if there is none."""
        with self.store.read() as reading:
            return as_of(known_task(reading, task_id), self._now())

    def epoch(self) -> str:
        """By what intents name this authority: the epoch of its store."""
        with self.store.read() as reading:
            return reading.head().epoch

    def intents(self) -> list[IntentRecord]:
        """The intents that opened a task or were withdrawn, in the order in which they became known."""
        with self.store.read() as reading:
            return reading.intents()

    def requests(self, *, task: str | None = None, pending: bool = False) -> list[RequestRecord]:
        """What agents asked for, in the order in which it was first asked: in one task or in all, or what waits.

        One that nobody can answer any more is `expired`. InvalidRequest for a task that there is not.
        """
        now = self._now()
        with self.store.read() as reading:
            if task is not None:
                known_task(reading, task)
            found = [request_state.as_of(reading, one, now) for one in reading.requests(task=task, pending=pending)]
        return [one for one in found if not pending or one.state == "pending"]

    def request(self, request_id: str) -> RequestRecord:
        """The request with this id; UnknownRequest if there is none."""
        with self.store.read() as reading:
            return request_state.as_of(reading, known_request(reading, request_id), self._now())

    def inquiry(self, request_id: str) -> Inquiry:
        """The request with this id and the intent it is on, as a person answers it; UnknownRequest if there is none."""
        with self.store.read() as reading:
            request = request_state.as_of(reading, known_request(reading, request_id), self._now())
            return inquire(reading, request)

    def log(self, since: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The events after position `since` up to now, at most `limit` of them; what was decided here is among them.

        They are read in pieces while they are taken, so that a long log needs little memory and holds nobody up.
        """
        end = self.end()
        return self._events(since, end if limit is None else min(end, since + limit))

    def newest_first(self) -> Iterator[Event]:
        """The events up to now, the last one first, read in pieces like those of `log`."""
        return self._backwards(0, self.end())

    def end(self) -> int:
        """The position of the last event; what was decided here is in the log by then."""
        self._recorder.flush(_PATIENCE)
        with self.store.read() as reading:
            return reading.head().position

    def find(
        self,
        query: Query = ANY_DECISION,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        **fields: Unpack[QueryFields],
    ) -> Iterator[Event]:
        """The events that recorded such decisions, in order; with `limit`, only so many of the newest.

        They are asked for by a query, or by its fields as keywords: `agent`, a label on the path of who acted; `node`,
        the id of one on it; `action`, which may be a pattern; `tenant`, `task`, `presentation`; `since`, in Unix
        seconds; `denied` leaves out what was allowed. They are looked for behind the position `after`, up to `until`.
        Read in pieces, like `log`. InvalidRequest for what no decision can be.
        """
        query = structs.replace(query, **fields)
        if query.task is not None:
            with self.store.read() as reading:
                known_task(reading, query.task)
        end = self.end() if until is None else min(until, self.end())
        if limit is not None and query.task is None:
            return reversed(list(islice(filter(query.matches, self._backwards(after, end)), limit)))
        found = filter(query.matches, self._events(after, end, query.task))
        return found if limit is None else iter(deque(found, maxlen=limit))

    def decision(self, decision_id: str) -> Event | None:
        """The event that recorded a decision; one made a moment ago elsewhere may not be written yet."""
        self._recorder.flush(_PATIENCE)
        with self.store.read() as reading:
            return reading.decision(decision_id) if is_id(decision_id) else None

    def check(self) -> Place:
        """The place that the log reaches, followed from its beginning, and every death to the event that caused it.

        BrokenLog names the first position that does not fit; StoreProblem says what else does not.
        """
        with self.store.read() as reading:
            return check_store(reading)

    def graph(self, task_id: str | None = None) -> Graph:
        """The execution graph of one task, or of all, as far as it was seen."""
        self._recorder.flush(_PATIENCE)
        with self.store.read() as reading:
            if task_id is not None:
                known_task(reading, task_id)
            return read_graph(reading, self._now(), task_id)

    @property
    def unwritten(self) -> int:
        """How many decisions made here are not in the log yet."""
        return self._recorder.unwritten

    def flush(self, timeout: float = 5.0) -> bool:
        """Whether the decisions made here are in the log, after waiting up to `timeout` seconds for it."""
        return self._recorder.flush(timeout)

    def _events(self, after: int, end: int, task: str | None = None) -> Iterator[Event]:
        """The events after one position up to another, a transaction for each piece: nothing is held in between."""
        while after < end:
            with self.store.read() as reading:
                piece = list(reading.events(after=after, limit=min(_PIECE, end - after), task=task))
            yield from (event for event in piece if event.position <= end)
            if not piece:
                return
            after = piece[-1].position

    def _backwards(self, after: int, end: int) -> Iterator[Event]:
        """The same, the last one first."""
        for reached in range(end, after, -_PIECE):
            yield from reversed(list(self._events(max(after, reached - _PIECE), reached)))

    def _now(self) -> int:
        return int(self._clock())
