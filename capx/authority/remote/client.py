"""The client of `capx serve` for operators on the same machine: the operations of `Authority`, over a Unix socket.

    with RemoteAuthority("unix:/home/ana/.capx/authority.sock") as authority:
        task = authority.open(allow=["crm.read"])

Laws:

- Operations, answers and errors are the same as in one process.
- If no answer comes, the authority may have carried out the request. The client never sends a request twice by itself.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar, Unpack

import httpx
from msgspec import structs, to_builtins

from capx.api.deadline import SINGLE, WholeResponse, whole_response
from capx.api.messages.base import encode
from capx.api.messages.outcomes import Ended, Revocation
from capx.api.operation import JSON_TYPE, Operation
from capx.api.responses import problem_of, read_response
from capx.authority.authority import Authority
from capx.authority.graph.graph import Graph
from capx.authority.history import MOST_TREES
from capx.authority.intent_use import WithdrawnIntent
from capx.authority.opening import OpenedTask
from capx.authority.remote import conversion, messages, operations, paging
from capx.authority.remote.messages import PAGE, Events, Happened, LogQuery
from capx.authority.remote.peer import watch_connecting
from capx.authority.requests.answers import GivenAnswer
from capx.authority.requests.inquiry import Inquiry
from capx.authority.requests.verdict import Verdict
from capx.authority.revoking import target_id
from capx.errors import ConfigurationProblem, StoreProblem, Unavailable, UnknownRequest, UnknownTask
from capx.intents.intent import Intent, SignedIntent, intent_digest
from capx.store.call_page import SHOWN, CallPage
from capx.store.decision_query import ANY_DECISION, Query, QueryFields
from capx.store.log import Event, Place
from capx.store.records import Counter, FollowerAck, IntentRecord, Pruned, RequestRecord, TaskRecord
from capx.tokens.bundle import Bundle
from capx.tokens.discharge import Discharge
from capx.tokens.grants import Grant
from capx.verify.decision import may_name_decision
from capx.verify.verifier import MAX_STALENESS
from capx_caveats import Appendable, When, is_id

P = ParamSpec("P")
R = TypeVar("R")

UNIX = "unix:"
"""The prefix of a place."""
_CONNECT: Final = 2.0
_MOST = 1 << 28
_COUNTERS: Final = 250
"""Counters in one query. An id has at most 64 characters, and a head 24 KiB."""


class RemoteAuthority:
    """The authority that `capx serve` serves at `place`, which is `unix:PATH`. Several threads may use it.

    Every method can raise: Unavailable if nobody serves there; StoreProblem if no answer comes, and then the authority
    may have carried out the request; ConfigurationProblem if the process of another user listens there, and then
    nothing was sent.
    """

    def __init__(self, place: str) -> None:
        path = place.removeprefix(UNIX)
        if not place.startswith(UNIX) or not path:
            raise ConfigurationProblem(
                f"{place!r:.80} is not the place of an authority: write unix:PATH, the socket of capx serve"
            )
        self.place = place
        # A connection for each request, so that the watchdog of one request never ends another. The URL names no host,
        # because the transport connects to the socket.
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=path, limits=SINGLE),
            base_url="http://capx",
        )

    def __repr__(self) -> str:
        return f"RemoteAuthority({self.place!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def open(
        self,
        intent: SignedIntent | Intent | None = None,
        *,
        allow: Sequence[Grant] = (),
        tenant: str | None = None,
        expires: When | None = None,
        purpose: str | None = None,
        caveats: Iterable[Appendable] = (),
        attested: str | None = None,
        agent_key: str | None = None,
    ) -> OpenedTask:
        """Open a task, on an intent or by hand, as `Authority.open`."""
        asked = messages.OpenTask(
            intent=None if intent is None else messages.IntentFile.of(intent),
            attested=attested,
            allow=conversion.encode_grants(allow),
            tenant=tenant,
            expires=None if expires is None else conversion.time_of(expires),
            purpose=purpose,
            caveats=conversion.encode_caveats(caveats, int(time.time())),
            agent_key=agent_key,
        )
        return self._call(operations.open, asked)

    def mint(
        self,
        task_id: str,
        *,
        allow: Sequence[Grant],
        expires: When | None = None,
        caveats: Iterable[Appendable] = (),
    ) -> Bundle:
        """Mint more capabilities for the first agent of a task, as `Authority.mint`."""
        asked = messages.MintMore(
            allow=conversion.encode_grants(allow),
            expires=None if expires is None else conversion.time_of(expires),
            caveats=conversion.encode_caveats(caveats, int(time.time())),
        )
        return self._call(operations.mint, asked, id=_task_id(task_id)).bundle

    def complete(self, task_id: str, *, dry_run: bool = False) -> Ended:
        """End a task because its work is done, as `Authority.complete`."""
        return self._call(operations.complete, messages.EndTask(dry_run=dry_run), id=_task_id(task_id))

    def withdraw(self, task_id: str, *, dry_run: bool = False) -> Ended:
        """End a task because nobody wants it any more, as `Authority.withdraw`."""
        return self._call(operations.withdraw, messages.EndTask(dry_run=dry_run), id=_task_id(task_id))

    def intents(self) -> list[IntentRecord]:
        """The intents that opened a task or were withdrawn, in the order in which they became known."""
        return self._call(operations.intents)

    def withdraw_intent(self, intent: str | SignedIntent | Intent, *, dry_run: bool = False) -> WithdrawnIntent:
        """Withdraw an intent and its tasks, as `Authority.withdraw_intent`."""
        digest = intent_digest(intent)
        return self._call(operations.withdraw_intent, messages.EndTask(dry_run=dry_run), id=digest)

    def requests(self, *, task: str | None = None, pending: bool = False) -> list[RequestRecord]:
        """The requests of one task or of all, as `Authority.requests`."""
        of_task = None if task is None else _task_id(task)
        return self._call(operations.requests, messages.RequestsQuery(task=of_task, pending=pending))

    def answers(self, task: str) -> list[GivenAnswer]:
        """The answers to the requests of a task, as `Authority.answers`."""
        return self._call(operations.answers, id=_task_id(task))

    def request(self, request_id: str) -> RequestRecord:
        """The request with this id; UnknownRequest if there is none."""
        return self._call(operations.request, id=_request_id(request_id))

    def inquiry(self, request_id: str) -> Inquiry:
        """The request with this id and its intent: what a person signs. UnknownRequest if there is none."""
        return self._call(operations.inquiry, id=_request_id(request_id))

    def answer(self, verdict: Verdict) -> RequestRecord:
        """Apply the answer of a person to a request, as `Authority.answer`."""
        asked = messages.GiveVerdict(
            yes=verdict.yes, approver=verdict.approver, at=verdict.at, signature=verdict.signature
        )
        return self._call(operations.decide, asked, id=_request_id(verdict.request))

    def approve(self, request_id: str, discharge: Discharge | str) -> RequestRecord:
        """Keep what a person has signed on a request for an approval, as `Authority.approve`."""
        text = discharge if isinstance(discharge, str) else discharge.text
        return self._call(operations.approve, messages.GiveApproval(discharge=text), id=_request_id(request_id))

    def epoch(self) -> str:
        """The epoch of the store. Intents name the authority that they are for by its epoch."""
        return self._call(operations.epoch).epoch

    def revoke(
        self,
        target: str | bytes | Bundle | None = None,
        *,
        kid: str | None = None,
        issued: When | None = None,
        where: Mapping[str, str] | None = None,
        key: str | None = None,
        dry_run: bool = False,
        force: bool = False,
    ) -> Revocation:
        """Revoke one thing, and everything below it, as `Authority.revoke`."""
        asked = messages.Revoke(
            target=None if target is None else target_id(target),
            kid=kid,
            issued=None if issued is None else conversion.time_of(issued),
            where=None if where is None else dict(where),
            key=key,
            dry_run=dry_run,
            force=force,
        )
        return self._call(operations.revoke, asked)

    def tasks(self, *, naming: str | None = None) -> list[TaskRecord]:
        """All tasks, in the order in which they were opened; those that name an id, as `Authority.tasks`."""
        return self._call(operations.tasks, messages.TasksQuery(naming=naming))

    def task_page(
        self,
        *,
        limit: int = SHOWN,
        before: str | None = None,
        after: str | None = None,
        active: bool = False,
        intent: str | None = None,
    ) -> list[TaskRecord]:
        """Some of the tasks, in the order in which they were opened, as `Authority.task_page`; at most 1 000."""
        before, after = (id_ and _task_id(id_) for id_ in (before, after))
        asked = messages.TaskPageQuery(limit=min(PAGE, limit), before=before, after=after, active=active, intent=intent)
        return self._call(operations.task_page, asked)

    def task(self, task_id: str) -> TaskRecord:
        """The task with this id; UnknownTask if there is none."""
        return self._call(operations.task, id=_task_id(task_id))

    def minted(self, task_id: str) -> list[Event]:
        """The events that minted the capabilities of a task, in order; UnknownTask if there is none."""
        return [one.event() for one in self._call(operations.minted, id=_task_id(task_id))]

    def log(self, since: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The events after position `since` up to now, at most `limit` of them, read in pieces."""
        # The operation takes no limit below 1, so `islice` cuts the page where the limit is 0.
        first = self._log(LogQuery(since=since, limit=PAGE if limit is None else max(1, min(PAGE, limit))))
        return islice(paging.onwards(first, lambda since: self._log(LogQuery(since=since)), place=self.place), limit)

    def end(self) -> int:
        """The position of the last event."""
        return self._log(LogQuery(newest=True, limit=1)).end

    def newest_first(self, before: int | None = None) -> Iterator[Event]:
        """The events up to now, or before a position, the newest first, read in pieces."""

        def page(reached: int) -> Events:
            return self._log(LogQuery(newest=True, before=reached + 1))

        return paging.backwards(self._log(LogQuery(newest=True, before=before)), page, place=self.place)

    def find(
        self,
        query: Query = ANY_DECISION,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        **fields: Unpack[QueryFields],
    ) -> Iterator[Event]:
        """The events of the decisions that match, as `Authority.find`."""
        asked = messages.FindQuery(**structs.asdict(structs.replace(query, **fields)))
        if limit is not None and limit < 1:
            return iter(())
        # Without a range, the authority itself finds the newest, from the end of the log, in one answer.
        if limit is not None and limit <= PAGE and not after and until is None:
            return iter(paging.of_page(self._call(operations.find, structs.replace(asked, limit=limit))))

        def page(reached: int) -> Events:
            return self._call(operations.find, structs.replace(asked, after=reached))

        found = paging.found(page(after), page, until=until, place=self.place)
        return found if limit is None else iter(deque(found, maxlen=limit))

    def calls(
        self,
        query: Query = ANY_DECISION,
        *,
        before: int | None = None,
        limit: int = SHOWN,
        each: bool = False,
        **fields: Unpack[QueryFields],
    ) -> CallPage:
        """The newest calls whose last decision matches, as `Authority.calls`; at most 1 000."""
        query = structs.replace(query, **fields)
        asked = messages.CallsQuery(
            **{name: getattr(query, name) for name in Query.__struct_fields__},
            before=before,
            limit=min(PAGE, limit),
            each=each,
        )
        return self._call(operations.calls, asked).page()

    def decision(self, decision_id: str) -> Event | None:
        """The event of a decision, or None. Another process may not have written its newest decisions yet."""
        if not may_name_decision(decision_id):
            return None
        answer = self._response_to(operations.decision, id=decision_id)
        problem = problem_of(answer)
        # Any other 404 is an error: this operation is missing there.
        if answer.status == 404 and problem is not None and problem.code == "unknown_decision":
            return None
        return read_response(answer, Happened, self.place).event()

    def graph(self, task_id: str | None = None, *, limit: int = MOST_TREES) -> Graph:
        """The execution graph of one task, or of the newest `limit` tasks (up to 1 000), as `Authority.graph`."""
        task = None if task_id is None else _task_id(task_id)
        return self._call(operations.graph, messages.GraphQuery(task=task, limit=max(1, min(PAGE, limit))))

    def kids(self) -> dict[str, int]:
        """The ids of the live root keys, the active one first, each with the number of live tasks that use it."""
        return self._call(operations.kids)

    def counters(self, ids: Sequence[str] | None = None) -> list[Counter]:
        """The counters with these ids, or all counters."""
        if ids is None:
            return self._counters(messages.CountersQuery())
        # In pieces, because the query is in the head of the request. An empty list in it would mean all counters.
        asked = sorted(set(filter(is_id, ids)))
        found: list[Counter] = []
        for begin in range(0, len(asked), _COUNTERS):
            piece = messages.CountersQuery(id=tuple(asked[begin : begin + _COUNTERS]))
            found.extend(self._counters(piece))
        return found

    def unaware(self, *, within: float = MAX_STALENESS) -> list[FollowerAck]:
        """The followers that reported in the last `within` seconds and have not yet seen all deaths."""
        return self._call(operations.unaware, messages.UnawareQuery(within=max(0, int(within))))

    def prune(self) -> Pruned:
        """Delete what no live token can need any more, as `Authority.prune`."""
        return self._call(operations.prune)

    def check(self) -> Place:
        """Check the log and the deaths, and return the end of the log, as `Authority.check`."""
        return self._call(operations.check).place()

    def _counters(self, asked: messages.CountersQuery) -> list[Counter]:
        return self._call(operations.counters, asked)

    def _log(self, asked: LogQuery) -> Events:
        return self._call(operations.log, asked)

    def _call(self, operation: Operation[Concatenate[Authority, P], R], *asked: P.args, **named: P.kwargs) -> R:
        """Call an operation with the arguments that its function takes after the authority, and read its answer."""
        answer = self._response_to(operation, *asked, **named)
        kind: type[R] = operation.answers
        return read_response(answer, kind, self.place)

    def _response_to(
        self, operation: Operation[Concatenate[Authority, P], Any], *asked: P.args, **named: P.kwargs
    ) -> WholeResponse:
        form = asked[0] if asked else None
        query: dict[str, Any] = {}
        body: bytes | None = None
        if operation.has_body:
            body = b"" if form is None else encode(form)
        elif form is not None:
            query = to_builtins(form)
        try:
            return whole_response(
                self._client,
                operation.method,
                operation.path.replace("{id}", str(named.get("id", ""))),
                seconds=operation.seconds,
                most=_MOST,
                watching=watch_connecting,
                params=query,
                content=body,
                headers={"content-type": JSON_TYPE} if body else {},
                timeout=httpx.Timeout(operation.seconds, connect=_CONNECT),
            )
        except (httpx.ConnectError, httpx.ConnectTimeout):
            # Nothing was sent, so this is the one failure after which the caller can simply try again.
            raise Unavailable(f"no authority answers at {self.place}: start capx serve") from None
        except httpx.TimeoutException:
            raise StoreProblem(
                f"the authority at {self.place} did not answer in {operation.seconds:.0f} s: "
                "capx log says whether it did it"
            ) from None
        except httpx.HTTPError as error:
            raise StoreProblem(
                f"the connection to the authority at {self.place} broke before the answer arrived, so the request may "
                f"have been done: look in capx log ({type(error).__name__})"
            ) from None


def _task_id(task_id: str) -> str:
    """The id of a task; UnknownTask for text that cannot be one, because that could change the path of a request."""
    if not is_id(task_id):
        raise UnknownTask(f"there is no task {task_id!r:.80}: capx task list shows all tasks")
    return task_id


def _request_id(request_id: str) -> str:
    """The id of a request; UnknownRequest for text that cannot be one, because that could change the path."""
    if not is_id(request_id):
        raise UnknownRequest(f"there is no request {request_id!r:.80}: capx requests list shows all requests")
    return request_id
