"""The requests that ask a person, or are about their own work.

Laws:

- Who is asked follows from the policy as it is. The person on whose intent the task runs may look, too.
- Who is asked sees the request, its intent and its task, but neither the graph nor the decisions: an agent chooses what
  it asks, and would so choose who reads its task.
- If more requests concern a person than an inbox shows, the principals of their tasks take turns, each with their
  oldest. So nobody can hide the requests of others behind their own.
- An inbox reads what it shows. Of what waits besides, only the number of each principal is read, once for all people.
- A request for somebody else is one that does not exist: the same error, in the same words.
"""

from collections import defaultdict
from collections.abc import Sequence

from capx.api.problems import HttpRefusal
from capx.authority.authority import Authority
from capx.authority.people.messages import MOST, Inbox, InboxItem, ShownInquiry
from capx.authority.people.own_tasks import shown_task
from capx.authority.people.person import Person
from capx.authority.requests.request_state import overdue
from capx.errors import UnknownRequest
from capx.policy.policy import Policy
from capx.store.records import RequestRecord, TaskRecord, WaitingGroup
from capx_caveats import is_id


def waiting(authority: Authority) -> tuple[WaitingGroup, ...]:
    """What waits at one time: what the inboxes of all people are read from."""
    with authority.store.read() as reading:
        return reading.waiting()


def inbox(authority: Authority, waits: Sequence[WaitingGroup], policy: Policy, person: Person, *, now: int) -> Inbox:
    """The inbox of one person: one page of what waits."""
    of_principals: dict[str, list[WaitingGroup]] = defaultdict(list)
    for group in waits:
        if any(_concerns(policy, person, group)):
            of_principals[group.principal].append(group)
    count = sum(group.count for of_one in of_principals.values() for group in of_one)
    with authority.store.read() as reading:
        if len(of_principals) > MOST:
            # Not all have a turn: those who wait longest.
            oldest = reading.oldest_waiting([(of_one, 1) for of_one in of_principals.values()])[:MOST]
            of_principals = {one.principal: of_principals[one.principal] for one in oldest}
        counts = [sum(group.count for group in of_one) for of_one in of_principals.values()]
        found = reading.oldest_waiting(list(zip(of_principals.values(), _turns(counts, MOST), strict=True)))
        over = {one.id for one in overdue(reading, found, now)}
        tasks = reading.tasks_named({one.task for one in found})
    items = [_item(one, tasks.get(one.task), *_concerns(policy, person, one)) for one in found if one.id not in over]
    return Inbox(items, count - len(found))


def _turns(counts: Sequence[int], most: int) -> list[int]:
    """How many of each get in, if they take turns, the first one first, until all are in or `most`."""
    shares = [0] * len(counts)
    while most and (left := [nth for nth, count in enumerate(counts) if shares[nth] < count]):
        each = max(1, min(most // len(left), *(counts[nth] - shares[nth] for nth in left)))
        for nth in left[:most]:
            shares[nth] += each
            most -= each
    return shares


def _concerns(policy: Policy, person: Person, asked: WaitingGroup | RequestRecord) -> tuple[bool, bool]:
    """Whether requests ask a person, and whether they are in tasks on their intents."""
    return person.is_one_of(policy, asked.approvers), asked.principal == person.name


def _item(request: RequestRecord, task: TaskRecord | None, mine: bool, yours: bool) -> InboxItem:
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
        mine, yours = _concerns(authority.policy, person, request)
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
