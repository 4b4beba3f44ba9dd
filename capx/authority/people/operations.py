"""The requests of people over HTTP, each with its path.

Law: this is the only list of them. The face of `capx serve` calls each function with its authority and the person who
has proven the request; `PersonClient` sends the arguments of the same function to its path.
"""

import time
from typing import Final

from msgspec.structs import replace

from capx.api.messages.outcomes import Ended, Revocation
from capx.api.operation import OperationTable
from capx.authority import agent_keys
from capx.authority.authority import Authority
from capx.authority.graph.graph import Graph
from capx.authority.intent_use import WithdrawnIntent
from capx.authority.people import inbox as inboxes
from capx.authority.people import own_tasks
from capx.authority.people.messages import (
    AuthorityNow,
    Inbox,
    OpenedOnIntent,
    OpenOnIntent,
    OwnDecisions,
    OwnDecisionsQuery,
    OwnPolicy,
    OwnPurpose,
    OwnTasks,
    OwnTasksQuery,
    OwnVerdict,
    RevokeInTask,
    ShownInquiry,
    WithdrawIntent,
)
from capx.authority.people.person import Person, not_yours
from capx.authority.remote.messages import EndTask, GiveApproval
from capx.authority.requests.answers import GivenAnswer
from capx.authority.requests.verdict import Verdict
from capx.errors import InvalidRequest
from capx.intents.intent import Intent, SignedIntent
from capx.policy.describe import purpose_sentences
from capx.store.records import RequestRecord, TaskRecord

OPERATIONS: Final = OperationTable()
"""All operations of people."""
operation = OPERATIONS.operation


@operation("GET", "/people/authority")
def authority_now(authority: Authority) -> AuthorityNow:
    """The epoch of the authority, and its time, for everybody: people sign both."""
    return AuthorityNow(authority.epoch(), int(time.time()))


@operation("POST", "/people/tasks", personal=True, problems=(403,), status=201)
def open_on_intent(authority: Authority, person: Person, asked: OpenOnIntent) -> OpenedOnIntent:
    """Open a task on an intent that the person has signed, or that names them as its agent."""
    signed = asked.intent.meant()
    if not isinstance(signed, SignedIntent):
        raise InvalidRequest("this intent is not signed: capx intent sign does that")
    if person.name not in {signed.intent.principal, signed.intent.agent}:
        raise not_yours("this intent is not yours, and does not name you as its agent")
    seal_to = _sealed_to(signed.intent, asked)
    opened = authority.open(signed, expires=asked.expires, agent_key=asked.agent_key, by=person.by)
    answer = OpenedOnIntent(
        id=opened.id,
        root=opened.root,
        tenant=opened.tenant,
        purpose=opened.purpose,
        expires=opened.expires,
        principal=opened.principal,
        intent=opened.intent,
        holder=opened.holder,
    )
    if seal_to is None:
        return replace(answer, bundle=opened.bundle)
    return replace(answer, sealed=opened.bundle.sealed(to=seal_to))


def _sealed_to(intent: Intent, asked: OpenOnIntent) -> str | None:
    """The key to seal to; InvalidRequest for another one than that to which the token will be bound."""
    holder = agent_keys.agreed(intent, asked.agent_key)
    if None not in (holder, asked.seal_to) and holder != asked.seal_to:
        raise InvalidRequest(f"the token is bound to the key {holder}: it is sealed to that key, and to no other")
    return asked.seal_to


@operation("GET", "/people/tasks", personal=True, problems=(404,))
def tasks(authority: Authority, person: Person, asked: OwnTasksQuery) -> OwnTasks:
    """List the newest tasks on intents of the person."""
    return own_tasks.task_page(authority, person, asked, now=int(time.time()))


@operation("GET", "/people/tasks/{id}", personal=True, problems=(404,))
def task(authority: Authority, person: Person, *, id: str) -> TaskRecord:
    """One task on an intent of the person."""
    with authority.store.read() as reading:
        return own_tasks.shown_task(reading, own_tasks.own_task(reading, person, id), int(time.time()))


@operation("GET", "/people/tasks/{id}/graph", personal=True, problems=(404,))
def graph(authority: Authority, person: Person, *, id: str) -> Graph:
    """The execution graph of a task of the person, with its budgets."""
    return own_tasks.graph(authority, person, id)


@operation("GET", "/people/tasks/{id}/requests", personal=True, problems=(404,))
def requests(authority: Authority, person: Person, *, id: str) -> list[RequestRecord]:
    """List the requests of the agents of a task of the person, oldest first."""
    return own_tasks.requests(authority, person, id)


@operation("GET", "/people/tasks/{id}/answers", personal=True, problems=(404,))
def answers(authority: Authority, person: Person, *, id: str) -> list[GivenAnswer]:
    """List the answers to the requests of a task of the person, in order, each with what was given for it."""
    return own_tasks.answers(authority, person, id)


@operation("GET", "/people/tasks/{id}/decisions", personal=True, problems=(404,))
def decisions(authority: Authority, person: Person, asked: OwnDecisionsQuery, *, id: str) -> OwnDecisions:
    """List the newest decisions in a task of the person."""
    return own_tasks.decisions(authority, person, id, asked)


@operation("POST", "/people/tasks/{id}/withdraw", personal=True, problems=(404,), announced=True)
def withdraw(authority: Authority, person: Person, asked: EndTask, *, id: str) -> Ended:
    """End a task of the person. All its tokens are dead when this is answered."""
    return own_tasks.withdraw(authority, person, id, dry_run=asked.dry_run)


@operation("POST", "/people/tasks/{id}/revoke", personal=True, problems=(404,), announced=True)
def revoke(authority: Authority, person: Person, asked: RevokeInTask, *, id: str) -> Revocation:
    """Revoke a node or a capability in a task of the person, and everything below it."""
    return own_tasks.revoke(authority, person, id, asked.target, dry_run=asked.dry_run)


@operation("POST", "/people/intents/withdraw", personal=True, problems=(403,), announced=True)
def withdraw_intent(authority: Authority, person: Person, asked: WithdrawIntent) -> WithdrawnIntent:
    """Withdraw an intent of the person: it opens no more tasks, and its tasks are dead when this is answered."""
    intent = asked.intent.meant()
    return own_tasks.withdraw_intent(authority, person, intent, dry_run=asked.dry_run, now=int(time.time()))


@operation("GET", "/people/requests", personal=True, streams=True)
def inbox(authority: Authority, person: Person) -> Inbox:
    """List what waits for the person; as text/event-stream, the list again whenever it has changed."""
    return inboxes.inbox(authority, inboxes.waiting(authority), authority.policy, person, now=int(time.time()))


@operation("GET", "/people/requests/{id}/inquiry", personal=True, problems=(404,))
def inquiry(authority: Authority, person: Person, *, id: str) -> ShownInquiry:
    """A request that asks the person, or is about their work, with its intent: what they sign."""
    return inboxes.inquiry(authority, person, id, now=int(time.time()))


@operation("POST", "/people/requests/{id}/verdict", personal=True, problems=(403, 404), announced=True)
def answer(authority: Authority, person: Person, asked: OwnVerdict, *, id: str) -> RequestRecord:
    """Answer a request with the signature of the person."""
    inboxes.demand_asked(authority, person, id)
    verdict = Verdict(request=id, yes=asked.yes, approver=person.name, at=asked.at, signature=asked.signature)
    return authority.answer(verdict)


@operation("POST", "/people/requests/{id}/approval", personal=True, problems=(403, 404), announced=True)
def approve(authority: Authority, person: Person, asked: GiveApproval, *, id: str) -> RequestRecord:
    """Hand in what the person has signed on a request for the approval of one call."""
    inboxes.demand_asked(authority, person, id)
    return authority.approve(id, asked.discharge)


@operation("GET", "/people/policy", personal=True)
def policy(authority: Authority, person: Person) -> OwnPolicy:
    """What the person may sign intents for: their purposes, tenants and the parameters that these need, in words."""
    found = authority.policy
    known = found.principals.get(person.name)
    purposes = [found.purposes[name] for name in (() if known is None else known.purposes) if name in found.purposes]
    return OwnPolicy(
        person.name,
        [
            OwnPurpose(
                purpose.name,
                list(known.tenants) if known is not None and purpose.tenant else None,
                sorted(purpose.require),
                # Without the first sentence, which names the others who may ask for it.
                list(purpose_sentences(found, purpose)[1:]),
            )
            for purpose in purposes
        ],
    )
