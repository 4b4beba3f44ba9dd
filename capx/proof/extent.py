"""Which events of a log a source of a proof has: who makes a proof and who reads one go by the same rule."""

from typing import Any, Final

from msgspec import Struct

from capx.crypto import strict_json
from capx.errors import InvalidRequest
from capx.store.events import Restored, Revoked
from capx.store.log import Event

OF_ANY_TASK: Final = frozenset({Revoked.kind, Restored.kind})
"""The kinds of events of an authority that may end any task without naming it."""


class _Tasked(Struct):
    task: str | None = None


def task_of(event: Event) -> str | None:
    """The task that an event names; None if it names none, or two."""
    tasked = event.read_if(_Tasked)
    if tasked is None or tasked.task is None:
        return None
    # A database takes the first of two members of one name, msgspec the last one.
    return tasked.task if event.body.count(b'"task"') == 1 or _has_one(event) else None


def _has_one(event: Event) -> bool:
    try:
        strict_json.read(event.body, dict[str, Any])
    except InvalidRequest:
        return False
    return True


def belongs(event: Event, task: str, opened: int | None) -> bool:
    """Whether a source about this task has this event.

    It names the task; or it is a revocation or restoration behind the opening of the task, at position `opened` of the
    authority's log, that names none. For the log of a resource, `opened` is None.
    """
    named = task_of(event)
    of_any = opened is not None and event.kind in OF_ANY_TASK and event.position > opened
    return named == task or (named is None and of_any)
