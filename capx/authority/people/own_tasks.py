"""What a person may see and end of the tasks on their intents.

Laws:

- A task of another person is one that does not exist: the same error, in the same words.
- A page goes on from its last item: a task by its id, a decision by its id and audience, because each audience may have
  recorded the same id. So no cursor says how much happens at the authority.
- A person can only take away here. What widens is signed: an intent, or an answer.
"""

from collections.abc import Iterator
from itertools import islice

from msgspec import Raw
from msgspec.structs import replace

from capx.api.messages.outcomes import Ended, Revocation
from capx.api.problems import NotThere
from capx.authority.authority import Authority
from capx.authority.ending import known_task, shown_tasks
from capx.authority.graph.graph import Graph
from capx.authority.history import PATIENCE
from capx.authority.intent_use import WithdrawnIntent
from capx.authority.people.messages import OwnDecision, OwnDecisions, OwnDecisionsQuery, OwnTasks, OwnTasksQuery
from capx.authority.people.person import Person, not_yours
from capx.authority.requests.answers import GivenAnswer, answers_in
from capx.errors import InvalidRequest, UnknownTask
from capx.intents.intent import Intent
from capx.store.log import Event
from capx.store.protocols import Reading
from capx.store.records import RequestRecord, TaskRecord
from capx.verify.decision import may_name_decision
from capx_caveats import shown_instant

_PIECE = 500


def own_task(reading: Reading, person: Person, id_: str) -> TaskRecord:
    """The task of this person with this id; UnknownTask if there is none."""
    try:
        task = known_task(reading, id_)
    except UnknownTask:
        task = None
    if task is None or task.principal != person.name:
        raise UnknownTask(f"you have no task {id_!r:.80}: capx task list shows yours")
    return task


def task_page(authority: Authority, person: Person, asked: OwnTasksQuery, *, now: int) -> OwnTasks:
    """The newest tasks of the person."""
    with authority.store.read() as reading:
        if asked.before is not None:
            own_task(reading, person, asked.before)
        found = reading.task_page(
            limit=asked.limit + 1, before=asked.before, principal=person.name, intent=asked.intent
        )
        newest = [shown_task(reading, task, now) for task in reversed(found)]
    more = len(newest) > asked.limit
    items = newest[: asked.limit]
    return OwnTasks(items, items[-1].id if more else None)


def shown_task(reading: Reading, task: TaskRecord, now: int) -> TaskRecord:
    """A task as its person sees it: as it is now, without its position in the log."""
    (shown,) = shown_tasks(reading, [task], now)
    return replace(shown, position=None)


def decisions(authority: Authority, person: Person, id_: str, asked: OwnDecisionsQuery) -> OwnDecisions:
    """The newest decisions in a task of the person."""
    authority.flush(PATIENCE)
    with authority.store.read() as reading:
        task = own_task(reading, person, id_)
        before = reading.head().position + 1 if asked.before is None else _position(reading, task, asked.before)
        found = list(_decisions(reading, task, before, asked.limit + 1))
    shown = found[: asked.limit]
    facts = shown[-1].facts() if len(found) > asked.limit else {}
    last = "{id}@{audience}".format_map(facts) if facts else None
    return OwnDecisions([OwnDecision(event.at, Raw(event.body)) for event in shown], last)


def _decisions(reading: Reading, task: TaskRecord, before: int, most: int) -> Iterator[Event]:
    """The newest decisions in a task before a position, the newest first, at most so many."""

    def found() -> Iterator[Event]:
        reached = before
        while piece := reading.newest(before=reached, limit=_PIECE, task=task.id):
            yield from (event for event in piece if event.kind == "decision" and not event.is_archived)
            reached = piece[-1].position

    return islice(found(), most)


def _position(reading: Reading, task: TaskRecord, cursor: str) -> int:
    """The position of the decision in this task that a page ended with; NotThere if there is none."""
    id_, _, audience = cursor.partition("@")
    first = reading.decision(id_) if may_name_decision(id_) else None
    # From the first one with this id on, which may be of another audience, and of another task.
    events = reading.events(after=first.position - 1, task=task.id, kind="decision", naming=id_) if first else ()
    for event in events:
        if not event.is_archived and (event.facts().get("id"), event.facts().get("audience")) == (id_, audience):
            return event.position
    raise NotThere(f"your task has no decision {cursor!r:.160}", "unknown_decision")


def graph(authority: Authority, person: Person, id_: str) -> Graph:
    """The execution graph of a task of the person."""
    with authority.store.read() as reading:
        task = own_task(reading, person, id_)
    return authority.graph(task.id)


def requests(authority: Authority, person: Person, id_: str) -> list[RequestRecord]:
    """The requests in a task of the person, in the order in which they were first made."""
    with authority.store.read() as reading:
        task = own_task(reading, person, id_)
    return authority.requests(task=task.id)


def answers(authority: Authority, person: Person, id_: str) -> list[GivenAnswer]:
    """The answers to the requests in a task of the person, in the order of the log."""
    with authority.store.read() as reading:
        return answers_in(reading, own_task(reading, person, id_).id)


def withdraw(authority: Authority, person: Person, id_: str, *, dry_run: bool) -> Ended:
    """End a task of the person."""
    with authority.store.read() as reading:
        task = own_task(reading, person, id_)
    return replace(authority.withdraw(task.id, dry_run=dry_run, by=person.by), position=None)


def revoke(authority: Authority, person: Person, id_: str, target: str, *, dry_run: bool) -> Revocation:
    """Revoke a node or a capability in a task of the person; NotThere for an id that is none of the task."""
    with authority.store.read() as reading:
        task = own_task(reading, person, id_)
    if target not in _ids(authority.graph(task.id)):
        raise NotThere(f"your task has no node and no capability {target!r:.80}", "unknown_target")
    found = authority.revoke(target, dry_run=dry_run, by=person.by)
    return replace(found, killed=tuple([replace(one, position=None) for one in found.killed]))


def _ids(graph: Graph) -> set[str]:
    """The ids in the graph of one task by which something of it can be revoked."""
    ids = {tree.root for tree in graph.trees} | {tree.task for tree in graph.trees}
    for node in graph.nodes():
        ids.add(node.id)
        for held in node.capabilities:
            ids.update((held.id, *held.ids))
    return ids


def withdraw_intent(
    authority: Authority, person: Person, intent: Intent, *, dry_run: bool, now: int
) -> WithdrawnIntent:
    """Withdraw an intent of the person, opened or not; HttpRefusal for the intent of another one.

    An authority does not know whose a digest is that was never opened. So it takes the whole document. InvalidRequest
    for one that was never opened here and could not be: nobody fills the store with intents that they invent.
    """
    if intent.principal != person.name:
        raise not_yours("this intent is not yours")
    if intent.authority != authority.epoch():
        raise InvalidRequest("this intent is for another authority, so it opens nothing here")
    if now >= intent.not_after:
        raise InvalidRequest(f"this intent ended at {shown_instant(intent.not_after)}, so it opens nothing any more")
    _demand_worth_a_row(authority, intent)
    found = authority.withdraw_intent(intent, dry_run=dry_run, by=person.by)
    return replace(found, position=None, tasks=tuple([replace(one, position=None) for one in found.tasks]))


def _demand_worth_a_row(authority: Authority, intent: Intent) -> None:
    """Raise InvalidRequest unless the intent is in the store already, or the policy gives something for it."""
    with authority.store.read() as reading:
        if reading.intent(intent.digest) is not None:
            return
    try:
        authority.policy.terms(intent)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"this intent was never opened here, and it opens nothing by the policy, so it cannot be withdrawn: {error}"
        ) from None
