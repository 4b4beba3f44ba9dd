"""Finding the requests of agents, showing them with their intent, and ending those that nobody answered.

Laws:

- A request waits for a person until its time runs out, its task ends or its asker dies. Then it is `expired`, even
  before the store says so.
- An approved request is `ended` when its task has ended, or its asker or what was granted is dead. The store keeps it
  as it was.
- A request keeps its answer, with the signature.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Final

from msgspec.structs import replace

from capx.authority.requests.inheritance import Asker, asked_entry, asker_of
from capx.authority.requests.inquiry import BudgetLeft, Inquiry, SameAsk
from capx.authority.uses import MOST_USES_SHOWN, earlier_uses, left_of
from capx.crypto.base64url import b64u, unb64u
from capx.errors import InvalidRequest, UnknownRequest
from capx.store.events import RequestExpired
from capx.store.lifecycle import LAPSES, Lapse, is_final
from capx.store.protocols import Reading, Writing
from capx.store.records import RequestRecord, RequestState, call_of
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.approving import read_signed
from capx.tokens.discharge import Discharge
from capx.tokens.revocation_key import RevocationKey
from capx.tokens.uses_counter import is_uses_counter
from capx.verify.ask import Ask, Pending
from capx_caveats import DEFAULT, Budget, Call, is_id, shown, shown_amount, shown_instant


def known_request(reading: Reading, id_: str) -> RequestRecord:
    """The request with this id; UnknownRequest if there is none."""
    request = reading.request(id_) if is_id(id_) else None
    if request is None:
        raise UnknownRequest(f"there is no request {id_!r:.80}: capx requests list shows all requests")
    return request


def inquire(reading: Reading, request: RequestRecord, *, now: int) -> Inquiry:
    """A request, the intent that its task was opened on, and what stands beside it at `now` (Unix seconds)."""
    asked = ask_of(request)
    if request.state == "pending" and counting_half(reading, request, now) is None:
        # Nobody can sign beside a half that does not count any more.
        request = replace(request, discharge=None)
    others = [
        one
        for one in reading.requests(task=request.task)
        if one.id != request.id and (is_same(one, asked) or is_same(request, ask_of(one)))
    ]
    over = overdue(reading, others, now)
    return replace(
        signed_inquiry(reading, request),
        # By any token: an agent narrows its own, and then the same ask is another request.
        others=(
            *_agreed_before(reading, request),
            *(
                SameAsk(one.id, one.state, one.labels, one.approver, one.answered or one.minted or one.asked)
                for one in others
                if one.state != "expired" and one not in over
            ),
        ),
        uses=tuple(earlier_uses(reading, request)),
        budgets=tuple(_budgets_left(reading, request)),
        at=now,
        asker_revoked=_is_revoked(reading, asker_of(request)),
    )


def _agreed_before(reading: Reading, request: RequestRecord) -> list[SameAsk]:
    """Who agreed to earlier rounds of a request for a grant: the newest answers, at most MOST_USES_SHOWN."""
    answers = [] if request.round == 1 or request.to_approve is not None else reading.answers(request.task)
    found = [one for one in answers if one.request == request.id and one.yes and one.round < request.round]
    return [SameAsk(one.request, "granted", request.labels, one.approver, one.at) for one in found[-MOST_USES_SHOWN:]]


def counting_half(reading: Reading, request: RequestRecord, now: int) -> Discharge | None:
    """What people have signed so far of a request for an approval, if it has not expired and was not revoked."""
    if request.discharge is None or request.to_approve is None:
        return None
    discharge = Discharge.parse(request.discharge)
    try:
        read = read_signed(ApprovalRequest.parse(request.to_approve), discharge, now)
    except InvalidRequest:
        return None
    return None if reading.deaths_of(read.revocation_keys) else discharge


def _budgets_left(reading: Reading, request: RequestRecord) -> Iterator[BudgetLeft]:
    """What is left of each budget that the grant would draw on. Its uses are its own: they are not among these."""
    caveats = DEFAULT.decode(request.block.encode())
    for one in caveats:
        if isinstance(one, Budget) and isinstance(one.counter, str) and not is_uses_counter(one.counter):
            yield BudgetLeft(one.unit, shown_amount(left_of(reading, one)), shown_amount(Decimal(one.limit)))


def _is_revoked(reading: Reading, asker: Asker) -> bool:
    """Whether somebody revoked the asker, a token above it, or its key. The end of its task is no revocation."""
    tasks = set(asker.until)
    keys = [key for key in asker.revocation_keys if key not in tasks]
    return bool(reading.deaths_of(keys)) or asker.issued <= reading.revoked_until()


def signed_inquiry(reading: Reading, request: RequestRecord) -> Inquiry:
    """A request and the intent that its task was opened on: the part of the inquiry that a person signs.

    A verdict is checked while others wait to write, so nothing is read here that grows with the log.
    """
    task = reading.task(request.task)
    kept = None if task is None or task.intent is None else reading.intent(task.intent)
    if kept is None or kept.document is None:
        raise InvalidRequest(
            f"the store does not have the intent of task {request.task}: nobody can answer the request"
        )
    return Inquiry(request, kept.document)


def ask_of(request: RequestRecord) -> Ask:
    """The ask that led to a request, read from its record."""
    named = _named(request)
    args = None if named is None else json.loads(named)
    return Ask(audience=request.audience, action=request.action, args=args, demand=request.cid)


def _named(request: RequestRecord) -> str | None:
    """All arguments that the agent named: the policy decides by them, also if it pins only some."""
    return request.args if request.all_args is None else request.all_args


def is_of(request: RequestRecord, asker: Asker, ask: Ask) -> bool:
    """Whether a request was made by this very ask of this token, maybe on another offer of the policy than now."""
    args = ask.canonical_args
    named = None if args is None else args.decode()
    made_by = request.ids[-1], request.audience, request.action, _named(request), request.cid
    return made_by == (b64u(asker.ids[-1]), ask.audience, ask.action, named, ask.demand)


def is_same(request: RequestRecord, ask: Ask) -> bool:
    """Whether a request is for the call of this ask, whichever agent made it, and with whatever token.

    It names the same arguments, or it pins fewer and its grant would allow the call. Which arguments are pinned depends
    on the token, which the agent can narrow, and on the policy.
    """
    # A request for an approval is no request for a grant. Which demand it is to answer, the agent can choose.
    for_approval = request.to_approve is not None, ask.demand is not None
    if (request.audience, request.action) != (ask.audience, ask.action) or len(set(for_approval)) > 1:
        return False
    if _named(request) == (None if (args := ask.canonical_args) is None else args.decode()):
        return True
    if request.all_args is None or ask.args is None:
        return False
    return asked_entry(request).misfit(Call(ask.action, ask.args)) is None


def is_covered(request: RequestRecord, ask: Ask) -> bool:
    """Whether a grant on a request allowed the call of this ask: it is the same, or the grant is for any arguments."""
    unpinned = request.args is None and request.all_args is None and ask.demand is None
    return is_same(request, ask) or (unpinned and (request.audience, request.action) == (ask.audience, ask.action))


def calls_like(ask: Ask) -> tuple[str, ...]:
    """The calls (`RequestRecord.call`) of every request that can be the same as this ask, or can cover it."""
    args = ask.canonical_args
    if ask.demand is not None:
        text = None if args is None else args.decode()
        return (call_of(ask.audience, ask.action, text, pins_some=False, for_approval=True),)
    named = dict.fromkeys([None, None if args is None else args.decode()])
    calls = [call_of(ask.audience, ask.action, one, pins_some=False) for one in named]
    return (*calls, call_of(ask.audience, ask.action, None, pins_some=True))


_ENDED: Final[dict[RequestState, RequestState]] = {"pending": "expired", "approved": "ended", "granted": "ended"}


def as_of(reading: Reading, request: RequestRecord, now: int) -> RequestRecord:
    """A request in its state at `now`. It is `expired` if nobody can answer it any more, or `ended`."""
    return all_as_of(reading, [request], now)[0]


def all_as_of(reading: Reading, requests: Sequence[RequestRecord], now: int) -> list[RequestRecord]:
    """Requests, each in its state at `now`, as `as_of` gives it."""
    ends = _ends(reading, requests, now)
    return [request if request.id not in ends else _ended(request, *ends[request.id]) for request in requests]


def _ended(request: RequestRecord, at: int, lapse: Lapse) -> RequestRecord:
    why = lapse if request.state == "pending" else None
    return replace(request, state=_ENDED[request.state], ended=at, lapse=why)


def is_overdue(reading: Reading, request: RequestRecord, now: int) -> bool:
    """Whether a request is `pending`, but nobody can answer it any more."""
    return bool(overdue(reading, [request], now))


def overdue(reading: Reading, requests: Iterable[RequestRecord], now: int) -> list[RequestRecord]:
    """Those of these requests that are `pending`, but that nobody can answer any more."""
    pending = [request for request in requests if request.state == "pending"]
    ends = _ends(reading, pending, now)
    return [request for request in pending if request.id in ends]


def _ends(reading: Reading, requests: Iterable[RequestRecord], now: int) -> dict[str, tuple[int, Lapse]]:
    """When those of these requests ended whose time, task, asker or grant has (Unix seconds), and by which of them."""
    open_ = [request for request in requests if request.state in _ENDED]
    if not open_:
        return {}
    tasks = reading.tasks_named({request.task for request in open_})
    askers = {one.id: asker_of(one) for one in open_}
    keys = {one.id: (*askers[one.id].revocation_keys, *_given(one)) for one in open_}
    # One query for all of them: others may wait to write meanwhile.
    deaths = reading.deaths_of(key for each in keys.values() for key in each)
    until = reading.revoked_until()
    ends = dict[str, tuple[int, Lapse]]()
    for one in open_:
        task = tasks.get(one.task)
        found: list[tuple[int, Lapse]] = [
            (deaths[key].at, "task_ended" if key in askers[one.id].until else "agent_revoked")
            for key in keys[one.id]
            if key in deaths
        ]
        last = one.until if one.state == "pending" else askers[one.id].expires
        if now >= last:
            found.append((last, "unanswered"))
        if one.issued <= until:
            found.append((until, "agent_revoked"))
        if task is None or is_final(task.state):
            found.append((now if task is None else task.ended or now, "task_ended"))
        if found:
            ends[one.id] = min(found)
    return ends


def _given(request: RequestRecord) -> Iterable[RevocationKey]:
    """The ids of what was given on a request that is granted: all grants, or its newest approval."""
    if request.state != "granted":
        return ()
    return map(unb64u, request.granted) if request.discharge is None else (Discharge.parse(request.discharge).id,)


def waiting(reading: Reading, task: str, now: int) -> list[RequestRecord]:
    """The requests of a task that wait for a person, and that somebody can still answer."""
    pending = reading.requests(task=task, pending=True)
    over = {request.id for request in overdue(reading, pending, now)}
    return [request for request in pending if request.id not in over]


def expire_requests(
    transaction: Writing, *, now: int, task: str | None = None, limit: int | None = None
) -> list[RequestRecord]:
    """End the pending requests that nobody can answer any more, in one task or in all, at most `limit`.

    Return those that wait on.
    """
    pending = transaction.requests(task=task, pending=True)
    over = {request.id: request for request in overdue(transaction, pending, now)[:limit]}
    for request in over.values():
        expire(transaction, request, now=now)
    return [request for request in pending if request.id not in over]


def expire(transaction: Writing, request: RequestRecord, *, now: int) -> RequestRecord:
    """End a request that nobody can answer any more, or that another offer replaces, and return it."""
    over = as_of(transaction, request, now)
    lapse: Lapse = over.lapse or "replaced"
    RequestExpired(request.id, request.task, lapse).write(transaction, at=now)
    expired = replace(over, state="expired", answered=now, lapse=lapse)
    transaction.keep_request(expired)
    return expired


def pending_answer(ask: Ask, request: RequestRecord) -> Pending:
    """The answer to an ask while its request waits for a person."""
    return Pending(ask, request=request.id, until=request.until, approvers=request.approvers)


def outcome(request: RequestRecord) -> str:
    """The outcome of a request that no longer waits, in words."""
    if request.lapse is not None:
        return LAPSES[request.lapse]
    if request.approver is None or request.answered is None:
        return f"it is {request.state}"
    decided = "denied" if request.state == "denied" else "approved"
    return f"it was {decided} by {shown(request.approver)} at {shown_instant(request.answered)}"
