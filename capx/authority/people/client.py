"""The client of a person at an authority over the network: it signs each request with the person's key.

    with PersonClient("https://capx.our.example", key, trust="OYZ7VqUQJ9PBa0YXjDBPsw") as me:
        opened = me.open(key.sign_intent(intent))

Laws:

- Nothing is signed for an authority that the person does not know at this place (capx.authority.people.known).
- An answer and an event have a longest length, and a stream that ends unasked is not opened again at once.
- Each try is signed anew, so the same request never goes out twice. If no answer comes to an opening, the authority may
  have opened the task, and its token is lost: Unanswered says so.
- What a person answers is signed over what was shown, by the inquiry that this client got.
- What is shown is of the authority that the person knows here: its intent says so, and what is signed names that
  intent. Otherwise an authority could show a request of another one, and hand the answer in there.
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar
from urllib.parse import urlencode

import httpx
from msgspec import Struct, to_builtins

from capx.api.deadline import SINGLE, WholeResponse, whole_response
from capx.api.messages.base import decode, encode
from capx.api.messages.outcomes import Ended, Revocation
from capx.api.operation import JSON_TYPE, Operation
from capx.api.person_auth import UnprovenPerson, origin_of, prove
from capx.api.problems import HttpRefusal
from capx.api.responses import NoAnswer, read_response, unreachable
from capx.api.sse import EventReader
from capx.api.tls import reads_certificates
from capx.authority.authority import Authority
from capx.authority.graph.graph import Graph
from capx.authority.intent_use import WithdrawnIntent
from capx.authority.people import operations
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
from capx.authority.people.person import Person
from capx.authority.remote.conversion import time_of
from capx.authority.remote.messages import EndTask, GiveApproval, IntentDocument, IntentFile
from capx.authority.requests.inquiry import Inquiry
from capx.authority.requests.verdict import Verdict
from capx.errors import InvalidRequest, StoreProblem, Unavailable, UnknownRequest, UnknownTask
from capx.intents.epoch import authority_of
from capx.intents.intent import Intent, SignedIntent
from capx.intents.principal_key import PrincipalKey
from capx.store.records import RequestRecord, TaskRecord
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.discharge import Discharge
from capx_caveats import When, is_id

P = ParamSpec("P")
R = TypeVar("R")

_MOST: Final = 1 << 26
_SILENCE: Final = 45.0
"""Seconds without a byte after which a stream counts as broken; the authority writes something every 15."""
_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_NO_ANSWER: Final = (httpx.HTTPError, httpx.StreamError, OSError)


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
        self.origin = origin_of(origin)
        self._key = key
        self._known = KnownAuthorities(None if known is None else Path(known))
        self._trust = trust
        self._epoch: str | None = None
        client.setdefault("limits", SINGLE)
        with reads_certificates():
            self._client = httpx.Client(base_url=self.origin, follow_redirects=False, **client)

    def __repr__(self) -> str:
        return f"PersonClient({self.origin!r}, {self.name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def name(self) -> str:
        """The principal."""
        return self._key.name

    @property
    def key(self) -> PrincipalKey:
        """The key that signs."""
        return self._key

    def authority(self) -> AuthorityNow:
        """The epoch and the time of the authority, once it is known at this place."""
        asked = operations.authority_now
        try:
            answer = self._sent(asked, asked.path, b"", {})
        except NoAnswer:
            raise Unavailable(f"the authority at {self.origin} did not say its epoch: nothing was signed") from None
        found = read_response(answer, AuthorityNow, self.origin)
        self._known.demand(self.origin, authority_of(found.epoch), trust=self._trust)
        self._epoch = found.epoch
        return found

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
            return self._call(operations.open_on_intent, asked)
        except NoAnswer as error:
            raise Unanswered(intent.intent.digest, str(error)) from None

    def tasks(self, *, limit: int = SHOWN, before: str | None = None, intent: str | None = None) -> OwnTasks:
        """The newest tasks on intents of this person, the newest first, or those before one, or on one intent."""
        return self._call(operations.tasks, OwnTasksQuery(limit=limit, before=before, intent=intent))

    def task(self, task_id: str) -> TaskRecord:
        """The task with this id; UnknownTask if this person has none."""
        return self._call(operations.task, id=_task_id(task_id))

    def graph(self, task_id: str) -> Graph:
        """The execution graph of a task, with its budgets."""
        return self._call(operations.graph, id=_task_id(task_id))

    def requests(self, task_id: str) -> list[RequestRecord]:
        """The requests of the agents of a task, the oldest first."""
        return self._call(operations.requests, id=_task_id(task_id))

    def decisions(self, task_id: str, *, limit: int = SHOWN, before: str | None = None) -> OwnDecisions:
        """The newest decisions in a task, the newest first, or those before one."""
        return self._call(operations.decisions, OwnDecisionsQuery(limit=limit, before=before), id=_task_id(task_id))

    def withdraw(self, task_id: str, *, dry_run: bool = False) -> Ended:
        """End a task that this person does not want any more."""
        return self._call(operations.withdraw, EndTask(dry_run=dry_run), id=_task_id(task_id))

    def revoke(self, task_id: str, target: str, *, dry_run: bool = False) -> Revocation:
        """Revoke a node or a capability in a task of this person, and everything below it."""
        return self._call(operations.revoke, RevokeInTask(target=target, dry_run=dry_run), id=_task_id(task_id))

    def withdraw_intent(self, intent: Intent | SignedIntent, *, dry_run: bool = False) -> WithdrawnIntent:
        """Withdraw an intent of this person, opened or not, with its tasks."""
        document = intent.intent if isinstance(intent, SignedIntent) else intent
        asked = WithdrawIntent(intent=IntentDocument.of(document), dry_run=dry_run)
        return self._call(operations.withdraw_intent, asked)

    def inbox(self) -> Inbox:
        """What waits for this person, or is about their work."""
        return self._call(operations.inbox)

    def inquiry(self, request_id: str) -> ShownInquiry:
        """A request with its intent: what this person signs; UnknownRequest if they have none with this id."""
        found = self._call(operations.inquiry, id=_request_id(request_id))
        if found.inquiry.request.id != request_id:
            raise StoreProblem(f"the authority at {self.origin} shows another request than was asked for: sign nothing")
        self._demand_own(found.inquiry)
        return found

    def _demand_own(self, inquiry: Inquiry) -> None:
        """Raise OtherAuthority if a request is on an intent for another authority; InvalidRequest if on none."""
        intent, call = inquiry.intent, inquiry.request.to_approve
        if authority_of(intent.authority) != authority_of(self._epoch or self.epoch()):
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
        return self.hand_in(Verdict.sign(inquiry, self._key, yes=yes, at=int(time.time())))

    def hand_in(self, verdict: Verdict) -> RequestRecord:
        """Send an answer that this person has signed."""
        asked = OwnVerdict(yes=verdict.yes, at=verdict.at, signature=verdict.signature)
        return self._call(operations.answer, asked, id=_request_id(verdict.request))

    def approve(self, request_id: str, discharge: Discharge | str) -> RequestRecord:
        """Hand in what this person has signed on a request for the approval of one call (`PrincipalKey.approve`)."""
        text = discharge if isinstance(discharge, str) else discharge.text
        return self._call(operations.approve, GiveApproval(discharge=text), id=_request_id(request_id))

    def policy(self) -> OwnPolicy:
        """What this person may sign intents for."""
        return self._call(operations.policy)

    def watch(self) -> Iterator[Inbox]:
        """Yield the inbox now, and again whenever it has changed, until UnprovenPerson, or another authority answers.

        It connects anew when the connection breaks, or the authority asks for a new signature.
        """
        pause = _PAUSE
        while True:
            try:
                for inbox in self._stream():
                    pause = _PAUSE
                    yield inbox
                # An authority that ends each stream at once gets no signature after signature.
                time.sleep(_PAUSE)
            except (*_NO_ANSWER, StoreProblem):
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _stream(self) -> Iterator[Inbox]:
        """The inboxes of one stream."""
        operation = operations.inbox
        headers = {
            **self._proven(operation, operation.path, b""),
            "accept": "text/event-stream",
            "accept-encoding": "identity",
        }
        timeout = httpx.Timeout(_SILENCE, connect=operation.seconds)
        with self._client.stream("GET", operation.path, headers=headers, timeout=timeout) as answer:
            if answer.status_code != 200:
                self._refuse(WholeResponse(answer.status_code, self._body(answer)))
                return
            events = EventReader(_MOST, self._too_long)
            for piece in answer.iter_raw():
                for kind, data in events.take(piece):
                    if kind == "inbox":
                        yield decode(data, Inbox)
                    elif kind == "end" and data == b'"unproven"':
                        raise UnprovenPerson(
                            f"the authority at {self.origin} does not know this key of {self.name} any more"
                        )
                    elif kind == "end":
                        return
        raise StoreProblem(f"the authority at {self.origin} ended its stream")

    @property
    def _too_long(self) -> str:
        return f"the authority at {self.origin} sent more than an inbox can hold"

    def _body(self, answer: httpx.Response) -> bytes:
        body = bytearray()
        for piece in answer.iter_raw():
            body += piece
            if len(body) > _MOST:
                raise StoreProblem(self._too_long)
        return bytes(body)

    def _refuse(self, answer: WholeResponse) -> None:
        """Raise the error of an answer; return if the epoch has changed since the request was signed."""
        was = self._epoch
        try:
            read_response(answer, Inbox, self.origin)
        except HttpRefusal as refused:
            if refused.code != "unproven_person" or self.epoch() == was:
                raise _as_unproven(refused) from None

    def _call(self, operation: Operation[Concatenate[Authority, Person, P], R], *asked: P.args, **named: P.kwargs) -> R:
        """Sign a request with the arguments that its function takes after the person, and read its answer."""
        form: Any = asked[0] if asked else None
        body = encode(form) if operation.has_body and form is not None else b""
        query = "" if operation.has_body or form is None else urlencode(_named(form))
        target = operation.path.replace("{id}", str(named.get("id", ""))) + (f"?{query}" if query else "")
        kind: type[R] = operation.answers
        was = self._epoch
        try:
            return read_response(self._signed(operation, target, body), kind, self.origin, status=operation.status)
        except HttpRefusal as refused:
            # The store may have been restored since, and then its epoch is another one. Nothing was done.
            if refused.code != "unproven_person" or was is None or self.epoch() == was:
                raise _as_unproven(refused) from None
        try:
            return read_response(self._signed(operation, target, body), kind, self.origin, status=operation.status)
        except HttpRefusal as refused:
            raise _as_unproven(refused) from None

    def _signed(self, operation: Operation[..., Any], target: str, body: bytes) -> WholeResponse:
        return self._sent(operation, target, body, self._proven(operation, target, body))

    def _proven(self, operation: Operation[..., Any], target: str, body: bytes) -> dict[str, str]:
        epoch = self._epoch or self.epoch()
        proof = prove(
            self._key,
            origin=self.origin,
            epoch=epoch,
            method=operation.method,
            target=target,
            body=body,
            at=int(time.time()),
        )
        return {"authorization": proof}

    def _sent(
        self, operation: Operation[..., Any], target: str, body: bytes, headers: Mapping[str, str]
    ) -> WholeResponse:
        try:
            return whole_response(
                self._client,
                operation.method,
                target,
                seconds=operation.seconds,
                most=_MOST,
                content=body if operation.has_body else None,
                headers={**headers, "content-type": JSON_TYPE} if operation.has_body else headers,
                timeout=httpx.Timeout(operation.seconds),
            )
        except _NO_ANSWER as error:
            raise unreachable(self.origin, error) from None


def _named(asked: Struct) -> dict[str, str]:
    members: dict[str, Any] = to_builtins(asked)
    return {name: str(value) for name, value in members.items()}


def _as_unproven(refused: HttpRefusal) -> Exception:
    return UnprovenPerson(str(refused)) if refused.code == "unproven_person" else refused


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
