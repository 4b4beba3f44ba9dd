"""What operators can have the authority do: all that it does, each operation with its path.

Law: whoever reaches this face may do anything, so it stands on a socket that is the user's alone, and nowhere else.
"""

from functools import partial
from itertools import islice
from typing import Final, TypeVar

from capx.api.messages.outcomes import Ended, Revocation
from capx.api.problems import NotThere
from capx.authority.graph.graph import Graph
from capx.authority.intent_use import WithdrawnIntent
from capx.authority.opening import OpenedTask
from capx.authority.remote import conversion, messages
from capx.authority.remote.messages import Events, Happened, Minted, Reached
from capx.authority.requests.verdict import Inquiry, Verdict
from capx.errors import InvalidRequest
from capx.server.faces.event_streams import follow_log
from capx.server.operation import Operation
from capx.server.service import Service
from capx.store.log import Event
from capx.store.records import Counter, FollowerAck, IntentRecord, Pruned, RequestRecord, TaskRecord

T = TypeVar("T")

_LOOKED_AT: Final = 20_000
"""Events looked at for one answer."""


def _open(service: Service, asked: messages.OpenTask) -> OpenedTask:
    return service.authority.open(
        None if asked.intent is None else asked.intent.meant(),
        attested=asked.attested,
        allow=conversion.decode_grants(asked.allow),
        tenant=asked.tenant,
        expires=asked.expires,
        purpose=asked.purpose,
        caveats=conversion.decode_caveats(asked.caveats),
    )


def _mint(service: Service, asked: messages.MintMore, *, id: str) -> Minted:
    caveats = conversion.decode_caveats(asked.caveats)
    return Minted(
        service.authority.mint(id, allow=conversion.decode_grants(asked.allow), expires=asked.expires, caveats=caveats)
    )


def _complete(service: Service, asked: messages.EndTask, *, id: str) -> Ended:
    return _announced(service, service.authority.complete(id, dry_run=asked.dry_run))


def _withdraw(service: Service, asked: messages.EndTask, *, id: str) -> Ended:
    return _announced(service, service.authority.withdraw(id, dry_run=asked.dry_run))


def _revoke(service: Service, asked: messages.Revoke) -> Revocation:
    return _announced(
        service,
        service.authority.revoke(
            asked.target, kid=asked.kid, issued=asked.issued, where=asked.where, dry_run=asked.dry_run
        ),
    )


def _intents(service: Service) -> list[IntentRecord]:
    return service.authority.intents()


def _withdraw_intent(service: Service, asked: messages.EndTask, *, id: str) -> WithdrawnIntent:
    return _announced(service, service.authority.withdraw_intent(id, dry_run=asked.dry_run))


def _requests(service: Service, asked: messages.RequestsQuery) -> list[RequestRecord]:
    return service.authority.requests(task=asked.task, pending=asked.pending)


def _request(service: Service, *, id: str) -> RequestRecord:
    return service.authority.request(id)


def _inquiry(service: Service, *, id: str) -> Inquiry:
    return service.authority.inquiry(id)


def _decide(service: Service, asked: messages.GiveVerdict, *, id: str) -> RequestRecord:
    verdict = Verdict(request=id, yes=asked.yes, approver=asked.approver, at=asked.at, signature=asked.signature)
    return _announced(service, service.authority.answer(verdict))


def _tasks(service: Service) -> list[TaskRecord]:
    return service.authority.tasks()


def _task(service: Service, *, id: str) -> TaskRecord:
    return service.authority.task(id)


def _graph(service: Service, asked: messages.GraphQuery) -> Graph:
    return service.authority.graph(asked.task)


def _log(service: Service, asked: messages.LogQuery) -> Events:
    authority = service.authority
    if not asked.newest:
        if asked.before is not None:
            raise InvalidRequest("`before` is for newest=true: without it, events come after `since`")
        found = list(authority.log(asked.since, asked.limit))
        return _events(found, found[-1].position if found else asked.since, authority.end())
    if asked.since:
        raise InvalidRequest("newest=true goes back from `before`, or from the end: it takes no `since`")
    end = authority.end()
    last = end if asked.before is None else min(end, asked.before - 1)
    after = max(0, last - asked.limit)
    found = list(authority.log(after, last - after))
    return _events(found[::-1], after, end)


def _find(service: Service, asked: messages.FindQuery) -> Events:
    find = partial(
        service.authority.find,
        agent=asked.agent,
        tenant=asked.tenant,
        action=asked.action,
        task=asked.task,
        node=asked.node,
        presentation=asked.presentation,
        denied=asked.denied,
        since=asked.since,
    )
    end = service.authority.end()
    if asked.after is None:
        return _events(list(find(until=end, limit=asked.limit)), end, end)
    reached = min(end, asked.after + _LOOKED_AT)
    found = list(islice(find(after=asked.after, until=reached), asked.limit))
    if len(found) == asked.limit:
        reached = found[-1].position
    return _events(found, max(reached, asked.after), end)


def _decision(service: Service, *, id: str) -> Happened:
    found = service.authority.decision(id)
    if found is None:
        raise NotThere(f"no decision {id!r:.80} is recorded: capx find shows those that are", "unknown_decision")
    return Happened.of(found)


def _keys(service: Service) -> dict[str, int]:
    return service.authority.kids()


def _counters(service: Service, asked: messages.CountersQuery) -> list[Counter]:
    return service.authority.counters(asked.id or None)


def _unaware(service: Service, asked: messages.UnawareQuery) -> list[FollowerAck]:
    return service.authority.unaware(within=asked.within)


def _prune(service: Service) -> Pruned:
    return service.authority.prune()


def _check(service: Service) -> Reached:
    return Reached.of(service.authority.check())


def _epoch(service: Service) -> messages.Epoch:
    return messages.Epoch(service.authority.epoch())


def _announced(service: Service, done: T) -> T:
    """What was done, and whoever follows hears of it now."""
    service.wake()
    return done


def _events(found: list[Event], reached: int, end: int) -> Events:
    return Events([Happened.of(event) for event in found], reached, end)


OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/tasks",
        name="open",
        about="Open a task, on an intent or by hand; the bundle in the answer is for its first agent, and a secret.",
        act=_open,
        asks=messages.OpenTask,
        answers=OpenedTask,
    ),
    Operation(
        method="GET",
        path="/tasks",
        name="tasks",
        about="All tasks, in the order in which they were opened.",
        act=_tasks,
        answers=list[TaskRecord],
    ),
    Operation(
        method="GET",
        path="/tasks/{id}",
        name="task",
        about="One task.",
        act=_task,
        answers=TaskRecord,
        problems=(404,),
    ),
    Operation(
        method="POST",
        path="/tasks/{id}/mint",
        name="mint",
        about="More for a task that is active, at its root.",
        act=_mint,
        asks=messages.MintMore,
        answers=Minted,
        problems=(404,),
    ),
    Operation(
        method="POST",
        path="/tasks/{id}/complete",
        name="complete",
        about="End a task because its work is done; all its tokens are dead when this is answered.",
        act=_complete,
        asks=messages.EndTask,
        answers=Ended,
        problems=(404,),
    ),
    Operation(
        method="POST",
        path="/tasks/{id}/withdraw",
        name="withdraw",
        about="End a task because it is no longer wanted; all its tokens are dead when this is answered.",
        act=_withdraw,
        asks=messages.EndTask,
        answers=Ended,
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/intents",
        name="intents",
        about="The intents that opened a task or were withdrawn, in the order in which they became known.",
        act=_intents,
        answers=list[IntentRecord],
    ),
    Operation(
        method="POST",
        path="/intents/{id}/withdraw",
        name="withdraw_intent",
        about="Let an intent, by its digest, open nothing any more; its tasks are dead when this is answered.",
        act=_withdraw_intent,
        asks=messages.EndTask,
        answers=WithdrawnIntent,
    ),
    Operation(
        method="GET",
        path="/requests",
        name="requests",
        about="What agents asked for at run time, in the order in which they did; or what of it waits for a person.",
        act=_requests,
        asks=messages.RequestsQuery,
        answers=list[RequestRecord],
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/requests/{id}",
        name="request",
        about="One of these requests.",
        act=_request,
        answers=RequestRecord,
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/requests/{id}/inquiry",
        name="inquiry",
        about="One of these requests, and the intent that it is on: what a verdict is signed over.",
        act=_inquiry,
        answers=Inquiry,
        problems=(404,),
    ),
    Operation(
        method="POST",
        path="/requests/{id}/verdict",
        name="decide",
        about="Answer a request, signed by a person who may.",
        act=_decide,
        asks=messages.GiveVerdict,
        answers=RequestRecord,
        problems=(404,),
    ),
    Operation(
        method="POST",
        path="/revocations",
        name="revoke",
        about="Kill what is named, and everything below it; exactly one thing is named.",
        act=_revoke,
        asks=messages.Revoke,
        answers=Revocation,
    ),
    Operation(
        method="GET",
        path="/graph",
        name="graph",
        about="The execution graph of one task, or of all, as far as it was seen.",
        act=_graph,
        asks=messages.GraphQuery,
        answers=Graph,
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/log",
        name="log",
        about="What happened, in order; as text/event-stream, also what happens from now on.",
        act=_log,
        asks=messages.LogQuery,
        answers=Events,
        stream=follow_log,
    ),
    Operation(
        method="GET",
        path="/decisions",
        name="find",
        about="The decisions that were recorded, by agent, tenant, action, task, node, presentation or time.",
        act=_find,
        asks=messages.FindQuery,
        answers=Events,
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/decisions/{id}",
        name="decision",
        about="The event that recorded a decision.",
        act=_decision,
        answers=Happened,
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/keys",
        name="kids",
        about="The ids of the live root keys, the one that mints first, with how many live tasks hold tokens of each.",
        act=_keys,
        answers=dict[str, int],
    ),
    Operation(
        method="GET",
        path="/counters",
        name="counters",
        about="What the counters of these ids hold, or all.",
        act=_counters,
        asks=messages.CountersQuery,
        answers=list[Counter],
    ),
    Operation(
        method="GET",
        path="/unaware",
        name="unaware",
        about="The followers, heard of lately, that have not yet seen all that is dead.",
        act=_unaware,
        asks=messages.UnawareQuery,
        answers=list[FollowerAck],
    ),
    Operation(
        method="POST",
        path="/prune",
        name="prune",
        about="Forget what protects nothing any more.",
        act=_prune,
        answers=Pruned,
    ),
    Operation(
        method="GET",
        path="/check",
        name="check",
        about="Follow the log from its beginning, and every death to the event that caused it.",
        act=_check,
        answers=Reached,
    ),
    Operation(
        method="GET",
        path="/authority",
        name="epoch",
        about="By what intents name this authority: the epoch of its store.",
        act=_epoch,
        answers=messages.Epoch,
    ),
)
"""All that operators can ask for."""
