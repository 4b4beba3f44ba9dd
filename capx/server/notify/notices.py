"""From an event of the log to what a hook is told of it.

    Event ──▶ Notices(hook, …).of(reading, event) ──▶ Notice, …

Laws:

- A notice has ids, and names that the policy gives: purpose, audience, approvers, principals. Of what agents choose it
  has the action, which is no more than letters, digits, dots, dashes and underscores. Labels, arguments, tenants and
  statements are in it only for a hook with `values`: agents write labels, and chat programs make links of them.
- The sentence `text` has ids and times alone, and no link. It names the command that shows the rest. An action can look
  like the name of a host, so it is not in the sentence.
- What a service writes into its decisions is not believed: the task must be one of this authority, and the time one of
  this minute. So denials that are read later, because a hook was away, make no notice.
- The same event makes the same id for the same hook each time.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Struct

from capx.crypto.base64url import b64u
from capx.crypto.hashing import digest
from capx.policy.policy import Policy
from capx.server.notify.denials import Denials
from capx.server.notify.hook import (
    KEY_CHANGED,
    REQUEST_ANSWERED,
    REQUEST_LAPSES,
    REQUEST_WAITS,
    TASK_DENIED,
    TEST,
    Hook,
)
from capx.server.notify.used_keys import UsedKeys
from capx.store.events import (
    ApprovalMade,
    RequestApproved,
    RequestDenied,
    RequestExpired,
    RequestMade,
    TaskOpened,
)
from capx.store.lifecycle import LAPSES, Lapse
from capx.store.log import Event
from capx.store.protocols import Reading
from capx.store.records import RequestRecord, TaskRecord
from capx_caveats import is_action, is_audience, shown_instant

KEPT: Final = 86_400
"""Seconds for which a notice without an `until` is worth telling."""
RECOUNTED: Final = 2_000
"""How many of the newest events are looked at for denials when a hook begins or goes on."""
_ANSWERS: Final = {RequestApproved.kind: "approved", RequestDenied.kind: "denied", ApprovalMade.kind: "approved"}


class Notice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a hook is told; times in Unix seconds, and `body` is what is sent.

    `labels`, `args`, `tenant` and `statement` are there only for a hook with `values`; `args` is canonical JSON.
    """

    id: str
    kind: str
    at: int
    text: str
    task: str | None = None
    request: str | None = None
    node: str | None = None
    purpose: str | None = None
    audience: str | None = None
    action: str | None = None
    approvers: tuple[str, ...] = ()
    until: int | None = None
    answer: str | None = None
    approver: str | None = None
    because: Lapse | None = None
    denials: int | None = None
    principal: str | None = None
    key: str | None = None
    labels: tuple[str, ...] = ()
    tenant: str | None = None
    statement: str | None = None
    args: str | None = None

    @property
    def body(self) -> bytes:
        """The notice as JSON, without what has no value."""
        return msgspec.json.encode(self)

    @property
    def worth_until(self) -> int:
        """Until when it is worth telling."""
        return self.at + KEPT if self.until is None else self.until


class Notices:
    """Makes the notices for one hook; it remembers what is needed to count denials, and which keys were used."""

    def __init__(
        self, hook: Hook, epoch: str, policy: Callable[[], Policy], clock: Callable[[], float] = time.time
    ) -> None:
        self._hook = hook
        self._epoch = epoch
        self._denials = Denials(hook.denials, clock)
        self._keys = UsedKeys(policy)

    def learn(self, reading: Reading, until: int) -> None:
        """Read what happened up to a position, about which nothing is told."""
        if TASK_DENIED in self._hook.kinds:
            for event in reversed(reading.newest(before=until + 1, limit=RECOUNTED)):
                self._denied(reading, event)
        if KEY_CHANGED in self._hook.kinds:
            self._keys.learn(reading, until)

    def of(self, reading: Reading, event: Event) -> Iterator[Notice]:
        """Return the notices about the next event: none, one or two."""
        # Each event is counted, also one of which nothing is told.
        for kind, facts in self._facts(reading, event):
            if kind in self._hook.kinds:
                yield self._notice(reading, event, kind, facts)

    def _facts(self, reading: Reading, event: Event) -> Iterator[tuple[str, dict[str, Any]]]:
        if event.kind == "decision":
            if TASK_DENIED in self._hook.kinds and (denied := self._denied(reading, event)):
                yield TASK_DENIED, _of_denied(denied, self._hook.denials)
        elif event.kind == TaskOpened.kind and KEY_CHANGED in self._hook.kinds:
            opened = event.read_if(TaskOpened)
            for principal, key in self._keys.used(reading, event):
                yield KEY_CHANGED, {"task": opened and opened.task, "principal": principal, "key": key}
        else:
            yield from _of_request(event)

    def _denied(self, reading: Reading, event: Event) -> "_Denied | None":
        """The denial, if it is the one that makes a notice."""
        if event.kind != "decision" or event.is_archived:
            return None
        denied = event.read_if(_Denied)
        if denied is None or denied.outcome != "denied" or denied.task is None:
            return None
        # Not even counted: ids that a service made up would drive real ones out of the memory.
        if reading.task(denied.task) is None:
            return None
        return denied if self._denials.count(denied.task, denied.audience, event.at) else None

    def _notice(self, reading: Reading, event: Event, kind: str, facts: dict[str, Any]) -> Notice:
        parts = self._epoch.encode(), event.position.to_bytes(8), self._hook.name.encode(), kind.encode()
        # Two people can sign for one event.
        id_ = _id_of(*parts, facts.get("principal", "").encode())
        task = reading.task(facts["task"]) if facts.get("task") else None
        request = reading.request(facts["request"]) if "request" in facts else None
        known = {**_known(task, request), **facts}
        values = _values(reading, task, request) if self._hook.values else {}
        return Notice(id=id_, kind=kind, at=event.at, text=_sentence(kind, known), **known, **values)


def test_notice(at: int) -> Notice:
    """Return a notice of which nothing is to be done."""
    return Notice(
        id=_id_of(os.urandom(16)), kind=TEST, at=at, text="This is a test of a hook of capx: nothing happened."
    )


def is_over(reading: Reading, notice: Notice, *, epoch: str, now: int) -> bool:
    """Whether it is too late to tell: its time has passed, its request was answered, or a backup was restored."""
    if now >= notice.worth_until or reading.head().epoch != epoch:
        return True
    if notice.kind != REQUEST_WAITS or notice.request is None:
        return False
    request = reading.request(notice.request)
    return request is None or request.state != "pending"


class _Denied(Struct, frozen=True):
    outcome: str = ""
    task: str | None = None
    audience: str | None = None
    action: str | None = None


class _Answered(Struct, frozen=True):
    """What the events of all kinds of answers have."""

    request: str
    task: str
    approver: str


def _of_denied(denied: _Denied, many: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"task": denied.task, "denials": many}
    if is_audience(denied.audience):
        facts["audience"] = denied.audience
    if is_action(denied.action):
        facts["action"] = denied.action
    return facts


def _of_request(event: Event) -> Iterator[tuple[str, dict[str, Any]]]:
    if event.kind == RequestMade.kind and (made := event.read_if(RequestMade)) is not None:
        facts = {"audience": made.audience, "action": made.action, "approvers": made.approvers, "until": made.until}
        yield REQUEST_WAITS, {"task": made.task, "request": made.request, **facts}
    elif event.kind == RequestExpired.kind and (lapsed := event.read_if(RequestExpired)) is not None:
        yield REQUEST_LAPSES, {"task": lapsed.task, "request": lapsed.request, "because": lapsed.because}
    elif event.kind in _ANSWERS:
        answered = event.read_if(_Answered)
        if answered is not None:
            facts = {"answer": _ANSWERS[event.kind], "approver": answered.approver}
            yield REQUEST_ANSWERED, {"task": answered.task, "request": answered.request, **facts}


def _known(task: TaskRecord | None, request: RequestRecord | None) -> dict[str, Any]:
    """What the store knows beside the event: the purpose of the task, and what the request is for."""
    found: dict[str, Any] = {}
    if task is not None and task.purpose is not None:
        found["purpose"] = task.purpose
    if request is not None:
        named = {"node": request.node, "audience": request.audience, "action": request.action}
        found |= {**named, "approvers": request.approvers}
    return found


def _values(reading: Reading, task: TaskRecord | None, request: RequestRecord | None) -> dict[str, Any]:
    """What agents and people wrote."""
    found: dict[str, Any] = {}
    if task is not None:
        found["tenant"] = task.tenant
        intent = None if task.intent is None else reading.intent(task.intent)
        if intent is not None and intent.document is not None:
            # A document that somebody damaged must not hold up what comes behind it.
            with suppress(msgspec.MsgspecError):
                found["statement"] = msgspec.json.decode(intent.document, type=_Document).statement
    if request is not None:
        found |= {"labels": request.labels, "args": request.args if request.all_args is None else request.all_args}
    return found


class _Document(Struct, frozen=True):
    statement: str | None = None


def _sentence(kind: str, facts: dict[str, Any]) -> str:
    request, task = facts.get("request"), facts.get("task")
    if kind == REQUEST_WAITS:
        return f"A request waits for a person until {shown_instant(facts['until'])}: capx requests show {request}"
    if kind == REQUEST_LAPSES:
        return f"A request has lapsed, because {LAPSES[facts['because']]}: capx requests show {request}"
    if kind == REQUEST_ANSWERED:
        return f"A request was {facts['answer']}: capx requests show {request}"
    if kind == TASK_DENIED:
        return f"{facts['denials']} calls of a task were denied within a minute: capx task show {task}"
    return f"A task was opened with a key that its owner had not used the last time: capx task show {task}"


def _id_of(*parts: bytes) -> str:
    return f"msg_{b64u(digest(b'capx/1/notice', *parts)[:16])}"
