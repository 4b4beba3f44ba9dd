"""The client of a person at an authority over the network.

    with PersonClient("https://capx.our.example", key, trust="OYZ7VqUQJ9PBa0YXjDBPsw") as me:
        opened = me.open(key.sign_intent(intent))

Laws:

- If no answer comes to an opening, the authority may have opened the task, and its token is lost: Unanswered says so.
- What a person answers is signed over what was shown, by the inquiry that this client got.
- What is shown is of the authority that the person knows here: its intent says so, and what is signed names that
  intent. Otherwise an authority could show a request of another one, and hand the answer in there.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from capx.api.deadline import WholeResponse
from capx.api.messages.outcomes import Ended, Revocation
from capx.api.responses import NoAnswer, read_response
from capx.authority.graph.graph import Graph
from capx.authority.intent_use import WithdrawnIntent
from capx.authority.people import operations
from capx.authority.people.connection import PersonConnection
from capx.authority.people.known import KnownAuthorities, OtherAuthority
from capx.authority.people.messages import (
    SHOWN,
    AuthorityNow,
    Inbox,
    OpenedOnIntent,
    OpenOnIntent,
    OwnDecisions,
    OwnDecisionsQuery,
    OwnPolicy,
    OwnTasks,
    OwnTasksQuery,
    OwnVerdict,
    RevokeInTask,
    ShownInquiry,
    WithdrawIntent,
)
from capx.authority.remote.conversion import time_of
from capx.authority.remote.messages import EndTask, GiveApproval, IntentDocument, IntentFile
from capx.authority.requests.answers import GivenAnswer
from capx.authority.requests.inquiry import Inquiry
from capx.authority.requests.verdict import Verdict
from capx.errors import InvalidRequest, StoreProblem, UnknownRequest, UnknownTask
from capx.intents.epoch import authority_of
from capx.intents.intent import Intent, SignedIntent
from capx.intents.principal_key import PrincipalKey
from capx.store.records import RequestRecord, TaskRecord
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.discharge import Discharge
from capx_caveats import When, is_id


class Unanswered(StoreProblem):
    """No answer came to the opening of a task: it may be open, and its token is lost. `intent` is the digest."""

    def __init__(self, intent: str, why: str) -> None:
        super().__init__(
            f"{why}. The token of a task that was opened is lost: look with capx task list --intent {intent}, "
            "withdraw it, and sign a new intent"
        )
        self.intent = intent
        self._why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.intent, self._why), vars(self)


class PersonClient:
    """The authority at `origin`, for the person who owns `key`. Not for several threads at once.

    `known` is the file of the authorities that the person knows, usually beside the key; `trust` is the id of the
    authority, which the person confirms with it: it becomes known. The other keywords are those of httpx.

    Every method can raise: UnknownAuthority or OtherAuthority before anything is signed; UnprovenPerson if the
    authority knows no such person, or the clocks differ; Unavailable if it cannot be reached; StoreProblem if no answer
    comes, and then it may have done what it was asked.
    """

    def __init__(
        self,
        origin: str,
        key: PrincipalKey,
        *,
        known: Path | str | None = None,
        trust: str | None = None,
        **client: Any,
    ) -> None:
        file = KnownAuthorities(None if known is None else Path(known))
        self._connection = PersonConnection(origin, key, file, trust, **client)

    def __repr__(self) -> str:
        return f"PersonClient({self.origin!r}, {self.name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    @property
    def origin(self) -> str:
        """Where the authority is: scheme, host and port."""
        return self._connection.origin

    @property
    def name(self) -> str:
        """The principal."""
        return self.key.name

    @property
    def key(self) -> PrincipalKey:
        """The key that signs."""
        return self._connection.key

    def authority(self) -> AuthorityNow:
        """The epoch and the time of the authority, once it is known at this place."""
        return self._connection.authority()

    def epoch(self) -> str:
        """The epoch of the authority, which an intent for it names."""
        return self.authority().epoch

    def open(
        self,
        intent: SignedIntent,
        *,
        expires: When | None = None,
        agent_key: str | None = None,
        seal_to: str | None = None,
    ) -> OpenedOnIntent:
        """Open a task on an intent that this person has signed, or that names them as its agent.

        `agent_key` is the public key of the first agent. With `seal_to`, the token comes sealed to that key. Unanswered
        if no answer comes.
        """
        asked = OpenOnIntent(
            intent=IntentFile.of(intent),
            expires=None if expires is None else time_of(expires),
            agent_key=agent_key,
            seal_to=seal_to,
        )
        try:
            return self._connection.call(operations.open_on_intent, asked)
        except NoAnswer as error:
            raise Unanswered(intent.intent.digest, str(error)) from None

    def tasks(self, *, limit: int = SHOWN, before: str | None = None, intent: str | None = None) -> OwnTasks:
        """The newest tasks on intents of this person, the newest first, or those before one, or on one intent."""
        return self._connection.call(operations.tasks, OwnTasksQuery(limit=limit, before=before, intent=intent))

    def task(self, task_id: str) -> TaskRecord:
        """The task with this id; UnknownTask if this person has none."""
        return self._connection.call(operations.task, id=_task_id(task_id))

    def graph(self, task_id: str) -> Graph:
        """The execution graph of a task, with its budgets."""
        return self._connection.call(operations.graph, id=_task_id(task_id))

    def requests(self, task_id: str) -> list[RequestRecord]:
        """The requests of the agents of a task, the oldest first."""
        return self._connection.call(operations.requests, id=_task_id(task_id))

    def answers(self, task_id: str) -> list[GivenAnswer]:
        """The answers to the requests of a task, each with what was given for it."""
        return self._connection.call(operations.answers, id=_task_id(task_id))

    def decisions(self, task_id: str, *, limit: int = SHOWN, before: str | None = None) -> OwnDecisions:
        """The newest decisions in a task, the newest first, or those behind the page whose `next` is `before`."""
        return self._connection.call(
            operations.decisions, OwnDecisionsQuery(limit=limit, before=before), id=_task_id(task_id)
        )

    def withdraw(self, task_id: str, *, dry_run: bool = False) -> Ended:
        """End a task that this person does not want any more."""
        return self._connection.call(operations.withdraw, EndTask(dry_run=dry_run), id=_task_id(task_id))

    def revoke(self, task_id: str, target: str, *, dry_run: bool = False) -> Revocation:
        """Revoke a node or a capability in a task of this person, and everything below it."""
        return self._connection.call(
            operations.revoke, RevokeInTask(target=target, dry_run=dry_run), id=_task_id(task_id)
        )

    def withdraw_intent(self, intent: Intent | SignedIntent, *, dry_run: bool = False) -> WithdrawnIntent:
        """Withdraw an intent of this person, opened or not, with its tasks."""
        document = intent.intent if isinstance(intent, SignedIntent) else intent
        asked = WithdrawIntent(intent=IntentDocument.of(document), dry_run=dry_run)
        return self._connection.call(operations.withdraw_intent, asked)

    def inbox(self) -> Inbox:
        """What waits for this person, or is about their work."""
        return self._connection.call(operations.inbox)

    def inquiry(self, request_id: str) -> ShownInquiry:
        """A request with its intent: what this person signs; UnknownRequest if they have none with this id."""
        found = self._connection.call(operations.inquiry, id=_request_id(request_id))
        if found.inquiry.request.id != request_id:
            raise StoreProblem(f"the authority at {self.origin} shows another request than was asked for: sign nothing")
        self._demand_own(found.inquiry)
        return found

    def _demand_own(self, inquiry: Inquiry) -> None:
        """Raise OtherAuthority if a request is on an intent for another authority; InvalidRequest if on none."""
        intent, call = inquiry.intent, inquiry.request.to_approve
        if authority_of(intent.authority) != self._connection.authority_id():
            raise OtherAuthority(
                f"the authority at {self.origin} shows a request of the authority {authority_of(intent.authority)}: "
                "sign nothing"
            )
        if call is not None and ApprovalRequest.parse(call).intent != intent.digest:
            raise InvalidRequest(
                f"the call of request {inquiry.request.id} belongs to another intent than the one shown: sign nothing"
            )

    def answer(self, inquiry: Inquiry, *, yes: bool) -> RequestRecord:
        """Sign an answer to what was shown, and send it. For a request of an approval, only a no: see `approve`."""
        self._demand_own(inquiry)
        return self.hand_in(Verdict.sign(inquiry, self.key, yes=yes, at=int(time.time())))

    def hand_in(self, verdict: Verdict) -> RequestRecord:
        """Send an answer that this person has signed."""
        asked = OwnVerdict(yes=verdict.yes, at=verdict.at, signature=verdict.signature)
        return self._connection.call(operations.answer, asked, id=_request_id(verdict.request))

    def approve(self, request_id: str, discharge: Discharge | str) -> RequestRecord:
        """Hand in what this person has signed on a request for the approval of one call (`PrincipalKey.approve`)."""
        text = discharge if isinstance(discharge, str) else discharge.text
        return self._connection.call(operations.approve, GiveApproval(discharge=text), id=_request_id(request_id))

    def policy(self) -> OwnPolicy:
        """What this person may sign intents for."""
        return self._connection.call(operations.policy)

    def watch(self) -> Iterator[Inbox]:
        """Yield the inbox now, and again whenever it has changed, until UnprovenPerson, or another authority answers.

        It connects anew when the connection breaks, or the authority asks for a new signature. StoreProblem if the
        authority is of another version.
        """
        for inbox in self._connection.events(operations.inbox, "inbox"):
            yield read_response(WholeResponse(200, inbox), Inbox, self.origin)


def _task_id(task_id: str) -> str:
    """The id of a task; UnknownTask for text that cannot be one, because that could change the path of a request."""
    if not is_id(task_id):
        raise UnknownTask(f"you have no task {task_id!r:.80}: capx task list shows yours")
    return task_id


def _request_id(request_id: str) -> str:
    """The id of a request; UnknownRequest for text that cannot be one, because that could change the path."""
    if not is_id(request_id):
        raise UnknownRequest(f"you have no request {request_id!r:.80}: capx requests list shows yours")
    return request_id
