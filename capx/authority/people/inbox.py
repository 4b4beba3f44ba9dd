"""The requests that ask a person, or are about their own work.

Laws:

- Who is asked follows from the policy as it is. The person on whose intent the task runs may look, too.
- Who is asked sees the request, its intent and its task, but neither the graph nor the decisions: an agent chooses what
  it asks, and would so choose who reads its task.
- If more requests concern a person than an inbox shows, the principals of their tasks take turns, each with their
  oldest. So nobody can hide the requests of others behind their own.
- A request for somebody else is one that does not exist: the same error, in the same words.
"""

from collections import Counter

from capx.api.problems import HttpRefusal
from capx.authority.authority import Authority
from capx.authority.people.messages import MOST, Inbox, InboxItem, ShownInquiry
from capx.authority.people.own_tasks import shown_task
from capx.authority.people.person import Person
from capx.errors import UnknownRequest
from capx.policy.policy import Policy
from capx.store.records import RequestRecord, TaskRecord
from capx_caveats import is_id


class Waiting:
    """The requests that wait, with their tasks, at one time: what the inboxes of all people are read from."""

    def __init__(self, authority: Authority) -> None:
        self.requests = authority.requests(pending=True)
        with authority.store.read() as reading:
            self.tasks = {id_: reading.task(id_) for id_ in {one.task for one in self.requests}}

    def is_as(self, other: "Waiting") -> bool:
        """Whether the same requests wait, in the same state and in the same tasks."""
        return (self.requests, self.tasks) == (other.requests, other.tasks)

    def inbox(self, policy: Policy, person: Person) -> Inbox:
        """The inbox of one person."""
        found: list[InboxItem] = []
        turns: list[int] = []
        seen: Counter[str | None] = Counter()
        for request in self.requests:
            task = self.tasks.get(request.task)
            mine, yours = _concerns(policy, person, request, task)
            if mine or yours:
                principal = None if task is None else task.principal
                found.append(_item(request, task, mine=mine, yours=yours))
                turns.append(seen[principal])
                seen[principal] += 1
        # Sorting is stable, so within a turn the oldest comes first.
        taken = sorted(range(len(found)), key=turns.__getitem__)[:MOST]
        return Inbox([found[nth] for nth in sorted(taken)], len(found) - len(taken))


def _concerns(policy: Policy, person: Person, request: RequestRecord, task: TaskRecord | None) -> tuple[bool, bool]:
    """Whether a request asks a person, and whether it is in a task on their intent."""
    return person.is_one_of(policy, request.approvers), task is not None and task.principal == person.name


def _item(request: RequestRecord, task: TaskRecord | None, *, mine: bool, yours: bool) -> InboxItem:
    return InboxItem(
        id=request.id,
        task=request.task,
        purpose=None if task is None else task.purpose,
        action=request.action,
        audience=request.audience,
        args=request.args,
        labels=request.labels,
        asked=request.asked,
        until=request.until,
        mine=mine,
        yours=yours,
        for_call=request.to_approve is not None,
    )


def _concerning(authority: Authority, person: Person, id_: str) -> tuple[TaskRecord, bool]:
    """The task of a request, and whether it asks the person; UnknownRequest if it is not about their work either."""
    with authority.store.read() as reading:
        request = reading.request(id_) if is_id(id_) else None
        task = None if request is None else reading.task(request.task)
    if request is not None and task is not None:
        mine, yours = _concerns(authority.policy, person, request, task)
        if mine or yours:
            return task, mine
    raise UnknownRequest(f"you have no request {id_!r:.80}: capx requests list shows yours")


def demand_asked(authority: Authority, person: Person, id_: str) -> None:
    """Raise UnknownRequest for a request of others, and HttpRefusal for one that the person may only look at."""
    _, mine = _concerning(authority, person, id_)
    if not mine:
        raise HttpRefusal(403, "not_yours", "this request asks others: only they can answer it")


def inquiry(authority: Authority, person: Person, id_: str, *, now: int) -> ShownInquiry:
    """A request that asks a person, or is about their work, as they sign it."""
    task, _ = _concerning(authority, person, id_)
    found = authority.inquiry(id_)
    with authority.store.read() as reading:
        counts = reading.request_counts(found.request.path, found.request.audience)
        return ShownInquiry(found, shown_task(reading, task, now), counts)
