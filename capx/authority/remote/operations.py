"""The operators' operations over HTTP, each with its path.

Law: this is the only list of these operations. `capx serve` calls each function with its authority. `RemoteAuthority`
sends the arguments of the same function to its path. The docstrings of the functions are summaries in the OpenAPI
document.
"""

from itertools import islice
from typing import Final

from capx.api.messages.outcomes import Ended, Revocation
from capx.api.operation import OperationTable
from capx.api.problems import NotThere
from capx.authority.authority import Authority
from capx.authority.graph.graph import Graph
from capx.authority.intent_use import WithdrawnIntent
from capx.authority.opening import OpenedTask
from capx.authority.remote import messages
from capx.authority.remote.conversion import decode_caveats, decode_grants
from capx.authority.remote.messages import Calls, Events, Happened, Minted, Reached
from capx.authority.requests.answers import GivenAnswer
from capx.authority.requests.inquiry import Inquiry
from capx.authority.requests.verdict import Verdict
from capx.errors import InvalidRequest
from capx.store.log import Event
from capx.store.records import Counter, FollowerAck, IntentRecord, Pruned, RequestRecord, TaskRecord

OPERATIONS: Final = OperationTable()
"""All operations of operators."""
operation = OPERATIONS.operation

_LOOKED_AT: Final = 20_000
"""Events that one answer searches at most, so that a rare match does not keep a thread for the whole log."""
_WHOLE_LOG: Final = 600.0
"""Seconds that a client waits for an answer that needs the whole log."""


@operation("POST", "/tasks")
def open(authority: Authority, asked: messages.OpenTask) -> OpenedTask:
    """Open a task, on an intent or by hand. The answer holds the bundle for its first agent: a secret."""
    return authority.open(
        None if asked.intent is None else asked.intent.meant(),
        attested=asked.attested,
        allow=decode_grants(asked.allow),
        tenant=asked.tenant,
        expires=asked.expires,
        purpose=asked.purpose,
        caveats=decode_caveats(asked.caveats),
        agent_key=asked.agent_key,
    )


@operation("GET", "/tasks")
def tasks(authority: Authority, asked: messages.TasksQuery) -> list[TaskRecord]:
    """List all tasks, in the order in which they were opened."""
    return authority.tasks(naming=asked.naming)


@operation("GET", "/task-page", problems=(404,))
def task_page(authority: Authority, asked: messages.TaskPageQuery) -> list[TaskRecord]:
    """List some of the tasks, in the order in which they were opened: the newest, or those before or after one."""
    return authority.task_page(
        limit=asked.limit, before=asked.before, after=asked.after, active=asked.active, intent=asked.intent
    )


@operation("GET", "/tasks/{id}", problems=(404,))
def task(authority: Authority, *, id: str) -> TaskRecord:
    """One task."""
    return authority.task(id)


@operation("GET", "/tasks/{id}/minted", problems=(404,))
def minted(authority: Authority, *, id: str) -> list[Happened]:
    """List the events that minted the capabilities of a task, in order."""
    return list(map(Happened.of, authority.minted(id)))


@operation("POST", "/tasks/{id}/mint", problems=(404,))
def mint(authority: Authority, asked: messages.MintMore, *, id: str) -> Minted:
    """Mint more capabilities for an active task, at its root."""
    caveats = decode_caveats(asked.caveats)
    return Minted(authority.mint(id, allow=decode_grants(asked.allow), expires=asked.expires, caveats=caveats))


@operation("POST", "/tasks/{id}/complete", problems=(404,), announced=True)
def complete(authority: Authority, asked: messages.EndTask, *, id: str) -> Ended:
    """End a task because its work is done. All its tokens are dead when this is answered."""
    return authority.complete(id, dry_run=asked.dry_run)


@operation("POST", "/tasks/{id}/withdraw", problems=(404,), announced=True)
def withdraw(authority: Authority, asked: messages.EndTask, *, id: str) -> Ended:
    """End a task because nobody wants it any more. All its tokens are dead when this is answered."""
    return authority.withdraw(id, dry_run=asked.dry_run)


@operation("GET", "/intents")
def intents(authority: Authority) -> list[IntentRecord]:
    """List the intents that opened a task or were withdrawn, in the order in which they became known."""
    return authority.intents()


@operation("POST", "/intents/{id}/withdraw", announced=True)
def withdraw_intent(authority: Authority, asked: messages.EndTask, *, id: str) -> WithdrawnIntent:
    """Withdraw an intent by its digest: it opens no more tasks, and its tasks are dead when this is answered."""
    return authority.withdraw_intent(id, dry_run=asked.dry_run)


@operation("GET", "/requests", problems=(404,))
def requests(authority: Authority, asked: messages.RequestsQuery) -> list[RequestRecord]:
    """List the requests of agents, oldest first; with `pending`, only those that wait for a person."""
    return authority.requests(task=asked.task, pending=asked.pending)


@operation("GET", "/tasks/{id}/answers", problems=(404,))
def answers(authority: Authority, *, id: str) -> list[GivenAnswer]:
    """List the answers to the requests of a task, in order, each with what was given for it."""
    return authority.answers(id)


@operation("GET", "/requests/{id}", problems=(404,))
def request(authority: Authority, *, id: str) -> RequestRecord:
    """One request."""
    return authority.request(id)


@operation("GET", "/requests/{id}/inquiry", problems=(404,))
def inquiry(authority: Authority, *, id: str) -> Inquiry:
    """One request with its intent: what a person signs."""
    return authority.inquiry(id)


@operation("POST", "/requests/{id}/verdict", problems=(404,), announced=True)
def decide(authority: Authority, asked: messages.GiveVerdict, *, id: str) -> RequestRecord:
    """Answer a request with the signature of an approver."""
    verdict = Verdict(request=id, yes=asked.yes, approver=asked.approver, at=asked.at, signature=asked.signature)
    return authority.answer(verdict)


@operation("POST", "/requests/{id}/approval", problems=(404,), announced=True)
def approve(authority: Authority, asked: messages.GiveApproval, *, id: str) -> RequestRecord:
    """Hand in what a person has signed on a request for an approval."""
    return authority.approve(id, asked.discharge)


@operation("POST", "/revocations", announced=True)
def revoke(authority: Authority, asked: messages.Revoke) -> Revocation:
    """Revoke one thing, and everything below it."""
    return authority.revoke(
        asked.target,
        kid=asked.kid,
        issued=asked.issued,
        where=asked.where,
        key=asked.key,
        dry_run=asked.dry_run,
        force=asked.force,
    )


@operation("GET", "/graph", problems=(404,), seconds=_WHOLE_LOG)
def graph(authority: Authority, asked: messages.GraphQuery) -> Graph:
    """The execution graph of one task, or of the newest tasks, as far as the log shows it."""
    return authority.graph(asked.task, limit=asked.limit)


@operation("GET", "/log", streams=True)
def log(authority: Authority, asked: messages.LogQuery) -> Events:
    """List events in order; as text/event-stream, also each new event."""
    if not asked.newest:
        if asked.before is not None:
            raise InvalidRequest("`before` needs newest=true: without newest, give `since`")
        found = list(authority.log(asked.since, asked.limit))
        return _events(found, found[-1].position if found else asked.since, authority.end())
    if asked.since:
        raise InvalidRequest("newest=true takes no `since`: give `before`, or nothing to start at the end")
    end = authority.end()
    last = end if asked.before is None else min(end, asked.before - 1)
    after = max(0, last - asked.limit)
    found = list(authority.log(after, last - after))
    return _events(found[::-1], after, end)


@operation("GET", "/decisions", problems=(404,))
def find(authority: Authority, asked: messages.FindQuery) -> Events:
    """Find recorded decisions by agent, tenant, action, task, node, presentation, reason or time."""
    # The end comes first: an event that is written during the search lies after it, and the next page finds that one.
    end = authority.end()
    if asked.after is None:
        return _events(list(authority.find(asked, until=end, limit=asked.limit)), end, end)
    reached = min(end, asked.after + _LOOKED_AT)
    found = list(islice(authority.find(asked, after=asked.after, until=reached), asked.limit))
    if len(found) == asked.limit:
        reached = found[-1].position
    return _events(found, max(reached, asked.after), end)


@operation("GET", "/calls", problems=(404,))
def calls(authority: Authority, asked: messages.CallsQuery) -> Calls:
    """List the newest calls by their last decision, each with all decisions about it, page by page."""
    return Calls.of(authority.calls(asked, before=asked.before, limit=asked.limit, each=asked.each))


@operation("GET", "/decisions/{id}", problems=(404,))
def decision(authority: Authority, *, id: str) -> Happened:
    """The event that recorded a decision."""
    found = authority.decision(id)
    if found is None:
        raise NotThere(f"there is no decision {id!r:.80}: capx find shows recorded decisions", "unknown_decision")
    return Happened.of(found)


@operation("GET", "/keys")
def kids(authority: Authority) -> dict[str, int]:
    """The ids of the live root keys, the active one first, each with the number of live tasks that use it."""
    return authority.kids()


@operation("GET", "/counters")
def counters(authority: Authority, asked: messages.CountersQuery) -> list[Counter]:
    """The amounts in these counters, or in all."""
    return authority.counters(asked.id or None)


@operation("GET", "/unaware")
def unaware(authority: Authority, asked: messages.UnawareQuery) -> list[FollowerAck]:
    """The followers that reported lately and do not know all deaths yet."""
    return authority.unaware(within=asked.within)


@operation("POST", "/prune")
def prune(authority: Authority) -> Pruned:
    """Forget deaths, counters and requests that no live token needs."""
    return authority.prune()


@operation("GET", "/check", seconds=_WHOLE_LOG)
def check(authority: Authority) -> Reached:
    """Check the whole log, and that an event caused each death."""
    return Reached.of(authority.check())


@operation("GET", "/authority")
def epoch(authority: Authority) -> messages.Epoch:
    """The epoch of the store. Intents name this authority by it."""
    return messages.Epoch(authority.epoch())


def _events(found: list[Event], reached: int, end: int) -> Events:
    return Events([Happened.of(event) for event in found], reached, end)
