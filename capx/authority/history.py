"""Reading the past of a store: tasks, the log, decisions, the graph and counters.

Laws:

- Before a method reads the log, it writes the decisions of this process that still wait, for up to a second.
- Long answers are read in pieces while the caller takes them. So they need little memory, and no transaction stays
  open.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, Unpack

from msgspec import structs

from capx.authority.ending import known_task, shown_tasks
from capx.authority.graph.graph import Graph
from capx.authority.graph.impact import read_graph, read_tree
from capx.authority.requests import request_state
from capx.authority.requests.answers import GivenAnswer, answers_in
from capx.authority.requests.inquiry import Inquiry
from capx.authority.requests.request_state import inquire, known_request
from capx.crypto.instants import seconds
from capx.errors import StoreProblem
from capx.resource.recorder import StoreRecorder
from capx.store.call_page import SHOWN, CallPage, call_page
from capx.store.decision_index import BLOCK
from capx.store.decision_query import ANY_DECISION, Query, QueryFields
from capx.store.log import Event
from capx.store.protocols import Store
from capx.store.records import Counter, FollowerAck, IntentRecord, RequestRecord, TaskRecord
from capx.verify.decision import may_name_decision
from capx.verify.verifier import MAX_STALENESS

PATIENCE: Final = 1.0
"""Seconds to wait until the decisions of this process are in the log, before it is read."""
_PIECE = 1_000
INDEXED_AT_ONCE: Final = 64
"""The blocks of the log that are put into the index of decisions in one transaction (capx.store.decision_index)."""
_MOST_LEFT: Final = 16
MOST_TREES: Final = 100
"""The tasks in one graph, unless more are asked for."""


class History:
    """The history of one store; `clock` gives Unix seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store = store
        self._clock = clock
        self._recorder = StoreRecorder(store)

    def counters(self, ids: Sequence[str] | None = None) -> list[Counter]:
        """The counters with these ids, or all counters."""
        with self.store.read() as reading:
            return reading.counters(ids)

    def unaware(self, *, within: float = MAX_STALENESS) -> list[FollowerAck]:
        """The followers that reported in the last `within` seconds and have not yet seen all deaths."""
        now = self._now()
        seconds("within", within)
        with self.store.read() as reading:
            deaths = reading.head().deaths
            return [one for one in reading.follower_acks() if one.deaths < deaths and one.at > now - within]

    def tasks(self, *, naming: str | None = None) -> list[TaskRecord]:
        """All tasks, in the order in which they were opened, each in its state as it is now.

        One whose time has run out is `expired`, and one whose root or first agent's key is dead is `revoked`.

        `naming`: only those of which an event of the log names this node or capability.
        """
        now = self._now()
        with self.store.read() as reading:
            found = shown_tasks(reading, reading.tasks(), now)
            if naming is None:
                return found
            known = set(reading.tasks_with(naming))
            return [task for task in found if task.id in known]

    def task_page(
        self,
        *,
        limit: int = SHOWN,
        before: str | None = None,
        after: str | None = None,
        active: bool = False,
        intent: str | None = None,
    ) -> list[TaskRecord]:
        """At most `limit` tasks, in the order in which they were opened: the newest, or the newest before a task.

        With `after`, the first ones after a task. `active` leaves out those that have ended. With `intent`, its digest,
        only the tasks on that intent, among which must be those with the ids that were given. UnknownTask if there is
        no task with the id that was given.
        """
        now = self._now()
        with self.store.read() as reading:
            for id_ in (before, after):
                if id_ is not None:
                    known_task(reading, id_)
            found = reading.task_page(
                limit=limit, before=before, after=after, alive_at=now if active else None, intent=intent
            )
            return shown_tasks(reading, found, now)

    def task(self, task_id: str) -> TaskRecord:
        """The task with this id; UnknownTask if there is none."""
        with self.store.read() as reading:
            return shown_tasks(reading, [known_task(reading, task_id)], self._now())[0]

    def minted(self, task_id: str) -> list[Event]:
        """The events that minted the capabilities of a task, in order; UnknownTask if there is none."""
        with self.store.read() as reading:
            return reading.minted_in(known_task(reading, task_id).id)

    def epoch(self) -> str:
        """The epoch of the store. Intents name the authority that they are for by its epoch."""
        with self.store.read() as reading:
            return reading.head().epoch

    def intents(self) -> list[IntentRecord]:
        """The intents that opened a task or were withdrawn, in the order in which they became known."""
        with self.store.read() as reading:
            return reading.intents()

    def requests(self, *, task: str | None = None, pending: bool = False) -> list[RequestRecord]:
        """The requests of one task or of all, in the order in which agents first asked.

        With `pending`, only those that wait for a person. A request that nobody can answer any more is `expired`.
        UnknownTask (an InvalidRequest) if the task does not exist.
        """
        now = self._now()
        with self.store.read() as reading:
            if task is not None:
                known_task(reading, task)
            found = request_state.all_as_of(reading, reading.requests(task=task, pending=pending), now)
        # Again, because some are `pending` in the store, but have expired by now.
        return [one for one in found if not pending or one.state == "pending"]

    def answers(self, task: str) -> list[GivenAnswer]:
        """The answers to the requests of a task, in order, each with what was given for it; UnknownTask if none is.

        Those of earlier rounds, too, which the request itself no longer has.
        """
        with self.store.read() as reading:
            return answers_in(reading, known_task(reading, task).id)

    def request(self, request_id: str) -> RequestRecord:
        """The request with this id; UnknownRequest if there is none."""
        with self.store.read() as reading:
            return request_state.as_of(reading, known_request(reading, request_id), self._now())

    def inquiry(self, request_id: str) -> Inquiry:
        """The request with this id and its intent: what a person signs. UnknownRequest if there is none."""
        with self.store.read() as reading:
            now = self._now()
            request = request_state.as_of(reading, known_request(reading, request_id), now)
            return inquire(reading, request, now=now)

    def log(self, since: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The events after position `since` up to now, at most `limit` of them.

        They include the decisions of this process. They are read in pieces while the caller takes them.
        """
        end = self.end()
        return self._events(since, end if limit is None else min(end, since + limit))

    def newest_first(self, before: int | None = None) -> Iterator[Event]:
        """The events up to now, or before a position, the newest first, read in pieces as by `log`."""
        end = self.end()
        return self._backwards(0, end if before is None else min(end, before - 1))

    def end(self) -> int:
        """The position of the last event, after writing the decisions of this process that wait."""
        self._recorder.flush(PATIENCE)
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
        """The events of the decisions that match, in order; with `limit`, only the newest of them.

        Give a query, or its fields as keywords: `agent` (a label on the path of the caller), `node` (the id of a node
        on that path), `action` (may be a pattern), `tenant`, `task`, `presentation`, `since` (Unix seconds), `denied`
        (leaves out what was allowed), and `reasons` (codes, of which a denial must have one). Only positions behind
        `after`, up to `until`, are searched. Read in pieces, as by `log`; `capx.store.decision_groups.grouped` groups
        the decisions about one call. InvalidRequest for a value that no decision can have.
        """
        query = structs.replace(query, **fields)
        if query.task is not None:
            with self.store.read() as reading:
                known_task(reading, query.task)
        end = self.end() if until is None else min(until, self.end())
        # From the end, because the newest are wanted and the log is long. One task has few events.
        if limit is not None and query.task is None:
            return reversed(list(islice(filter(query.matches, self._backwards(after, end)), limit)))
        found = filter(query.matches, self._events(after, end, query.task))
        return found if limit is None else iter(deque(found, maxlen=limit))

    def calls(
        self,
        query: Query = ANY_DECISION,
        *,
        before: int | None = None,
        limit: int = SHOWN,
        each: bool = False,
        **fields: Unpack[QueryFields],
    ) -> CallPage:
        """The newest calls whose last decision matches, at most `limit`, each with all decisions about it.

        The query is that of `find`. With `each`, each decision that matches is a call of its own. For the next page,
        pass `reached` of this one as `before`, until it is 0. The work for one page is bounded, so a page can be short
        or empty although there are more.
        """
        query = structs.replace(query, **fields)
        end = self.end() + 1
        with self.store.read() as reading:
            if query.task is not None:
                known_task(reading, query.task)
            page = call_page(reading, query, before=end if before is None else min(before, end), limit=limit, each=each)
            left = end // BLOCK - reading.indexed_blocks()
        if left > _MOST_LEFT:
            # A store that cannot be written is searched all the same.
            with contextlib.suppress(StoreProblem), self.store.write(durable=False) as transaction:
                transaction.index_blocks(INDEXED_AT_ONCE)
        return page

    def decision(self, decision_id: str) -> Event | None:
        """The event of a decision, or None. Another process may not have written its newest decisions yet."""
        self._recorder.flush(PATIENCE)
        with self.store.read() as reading:
            return reading.decision(decision_id) if may_name_decision(decision_id) else None

    def graph(self, task_id: str | None = None, *, limit: int = MOST_TREES) -> Graph:
        """The execution graph of one task, or of the newest `limit` tasks, as far as the log shows it.

        What one audience reports about a task is bounded, more so in a graph of many tasks; what is left out is counted
        in `omitted` of the tree, and older tasks in `older` of the graph.
        """
        self._recorder.flush(PATIENCE)
        with self.store.read() as reading:
            if task_id is None:
                return read_graph(reading, self._now(), limit)
            tree = read_tree(reading, self._now(), known_task(reading, task_id).id)
            return Graph(() if tree is None else (tree,))

    @property
    def unwritten(self) -> int:
        """How many decisions of this process are not in the log yet."""
        return self._recorder.unwritten

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait up to `timeout` seconds until the decisions of this process are in the log; False if some are not."""
        return self._recorder.flush(timeout)

    def _events(self, after: int, end: int, task: str | None = None) -> Iterator[Event]:
        """The events after one position up to another. Each piece has a transaction of its own, so none stays open."""
        while after < end:
            with self.store.read() as reading:
                piece = list(reading.events(after=after, limit=min(_PIECE, end - after), task=task))
            yield from (event for event in piece if event.position <= end)
            if not piece:
                return
            after = piece[-1].position

    def _backwards(self, after: int, end: int) -> Iterator[Event]:
        """The same events, the newest first."""
        for reached in range(end, after, -_PIECE):
            yield from reversed(list(self._events(max(after, reached - _PIECE), reached)))

    def _now(self) -> int:
        return int(self._clock())
