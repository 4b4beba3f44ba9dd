"""Finds the requests that wait though nobody can answer them any more, without reading all that wait.

    OverdueRequests.find     in a read, for which nobody waits
    expire_all               in short transactions: a few requests each

Laws:

- Those whose time has run out are found by their end. Those of an ended task or a dead asker are found in the tasks
  that a death since the last look names.
- All that wait are read at the first look, and after a death that names no task: an operator has revoked an id, a key
  or an instant, or another store has taken the place of this one. So a process that was killed misses nothing.
- What is found counts as seen when it is written. If that fails, it is found again.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from capx.authority.requests.request_state import expire, overdue
from capx.store.events import Revoked
from capx.store.protocols import Reading, Writing
from capx.store.records import Head, RequestRecord
from capx.store.row_marks import ChangedRow

_AT_ONCE: Final = 50
"""The requests that end in one transaction."""


class OverdueRequests:
    """What one process has seen of a store."""

    def __init__(self) -> None:
        self._seen: Head | None = None

    def find(self, reading: Reading, now: int) -> tuple[list[RequestRecord], Head]:
        """Return the requests that nobody can answer any more, and the head of the store that shows them."""
        head = reading.head()
        tasks = self._changed_tasks(reading, head)
        if tasks is None:
            return overdue(reading, reading.requests(pending=True), now), head
        found = {one.id: one for one in reading.requests_due(now)}
        for task in tasks:
            found |= {one.id: one for one in reading.requests(task=task, pending=True)}
        return overdue(reading, found.values(), now), head

    def seen(self, head: Head) -> None:
        """Note that all that was found up to this head is written."""
        self._seen = head

    def _changed_tasks(self, reading: Reading, head: Head) -> set[str] | None:
        """Return the tasks in which something has died since the last look; None if that may be in any task."""
        before = self._seen
        if before is None or (before.epoch, before.forgotten) != (head.epoch, head.forgotten):
            return None
        if before.deaths == head.deaths:
            return set()
        revoked = [event.read(Revoked).task for event in reading.events(after=before.position, kind=Revoked.kind)]
        ended = {one.key for one in reading.deaths(after=before.deaths) if one.reason != "revoked"}
        if None in revoked:
            return None
        return {task for task in (*ended, *revoked) if isinstance(task, str)}


def expire_all(
    requests: list[RequestRecord], writing: Callable[[], AbstractContextManager[tuple[Writing, int]]]
) -> None:
    """End these requests, unless somebody has answered them meanwhile."""
    for at in range(0, len(requests), _AT_ONCE):
        # With a row guard, as what is written gets a mark. A row that somebody changed stays as it is.
        with writing() as (transaction, now):
            for one in requests[at : at + _AT_ONCE]:
                with contextlib.suppress(ChangedRow):
                    request = transaction.request(one.id)
                    if request is not None and request.state == "pending":
                        expire(transaction, request, now=now)
