"""Checks tasks, intents, requests, answers and grants against the log, which says what each of them has to be.

It needs no key.

Laws:

- Each row must be as the events about it leave it. So a row that was made up, changed, removed or put back from before
  is found, unless somebody rewrote the log as well, which `check_store` finds.
- A request and a grant may be missing if the task has ended: then they may have been forgotten, or not been restored.
  What people have signed, and what agents have asked for, is there for ever.
- What the log does not say is not checked here: the arguments of a request, its block, and the document of an intent
  beyond its digest, of an answer what was shown, and which node asked. The marks cover these.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Set

from capx.crypto.base64url import b64u, unb64u
from capx.errors import BrokenLog, InvalidRequest, KeyProblem, MalformedToken
from capx.intents.intent import parse_intent
from capx.store.events import (
    REQUEST_STATES,
    TASK_ENDS,
    ApprovalMade,
    ApprovalSignature,
    ApprovalSigned,
    CapabilityMinted,
    IntentWithdrawn,
    RequestAnswered,
    RequestApproved,
    RequestDenied,
    RequestExpired,
    RequestMade,
    Restored,
    Revoked,
    TaskEnded,
    TaskOpened,
)
from capx.store.lifecycle import FIRST
from capx.store.log import Event
from capx.store.protocols import Reading
from capx.store.records import GrantRecord, IntentRecord, RequestRecord, SignedAnswer, TaskRecord
from capx.store.row_marks import changed_row, grant_fields
from capx.tokens.discharge import Discharge
from capx.tokens.revocation_key import of_public
from capx.verify.evidence import args_commitment


def check_rows(reading: Reading) -> None:
    """Check the rows of tasks, intents, requests, answers and grants against the log.

    BrokenLog names the event whose row is missing or different, ChangedRow a row that no event explains.
    """
    begun = _check_epoch(reading)
    tasks = {task.id: task for task in reading.tasks()}
    openings = _check_tasks(reading, tasks)
    _check_intents(reading, openings)
    # No mark covers these columns. By them a row is found, or an agent is stopped that revokes too much.
    revoked = (event.read(Revoked) for event in reading.events(after=begun, kind=Revoked.kind))
    reading.check_columns(Counter(one.task for one in revoked if one.task is not None and one.by is not None))
    _check_requests(reading, tasks)
    _check_answers(reading)
    _check_asks(reading)


def _check_epoch(reading: Reading) -> int:
    """Check the epoch, and give the position of the event that began it; 0 if it is the first."""
    restored = list(reading.events(kind=Restored.kind))
    if restored and restored[-1].read(Restored).epoch != reading.head().epoch:
        raise BrokenLog(restored[-1].position, "the head of the store names another epoch than this event began")
    return restored[-1].position if restored else 0


def _check_tasks(reading: Reading, tasks: Mapping[str, TaskRecord]) -> Counter[str]:
    """Check each task; gives how many were opened on each intent."""
    ends = dict[str, tuple[str, int | None, int | None]]()
    for state, fact in TASK_ENDS.items():
        for event in reading.events(kind=fact.kind):
            ends[event.read(TaskEnded).task] = (state, event.at, event.position)
    explained, openings = set[str](), Counter[str]()
    for event in reading.events(kind=TaskOpened.kind):
        opened = event.read(TaskOpened)
        task = tasks.get(opened.task)
        end = ends.get(opened.task, (FIRST, None, None))
        if task is None or (task.state, task.ended, task.position) != end or not _is_opened_by(event.at, opened, task):
            raise BrokenLog(event.position, f"the row of task {opened.task}, which it opened, is missing or different")
        explained.add(opened.task)
        if opened.intent is not None:
            openings[opened.intent] += 1
    _demand_none("tasks", tasks.keys() - explained)
    return openings


def _is_opened_by(at: int, opened: TaskOpened, task: TaskRecord) -> bool:
    names = ("root", "expires", "tenant", "purpose", "principal", "intent", "holder")
    return task.opened == at and all(getattr(opened, name) == getattr(task, name) for name in names)


def _check_intents(reading: Reading, openings: Counter[str]) -> None:
    withdrawn = dict[str, int]()
    for event in reading.events(kind=IntentWithdrawn.kind):
        withdrawn.setdefault(event.read(IntentWithdrawn).intent, event.at)
    intents = {intent.digest: intent for intent in reading.intents()}
    for digest in openings.keys() | withdrawn.keys() | intents.keys():
        intent = intents.get(digest)
        if intent is None or (intent.opened, intent.withdrawn) != (openings[digest], withdrawn.get(digest)):
            raise changed_row("intents", digest, "is not what the log says, or is missing")
        if not _is_of_its_document(intent):
            raise changed_row("intents", digest, "has another document than its digest says")


def _is_of_its_document(intent: IntentRecord) -> bool:
    if intent.document is None:
        return intent.opened == 0
    try:
        return parse_intent(intent.document.encode()).digest == intent.digest
    except InvalidRequest:
        return False


def _check_requests(reading: Reading, tasks: Mapping[str, TaskRecord]) -> None:
    newest, granted = dict[str, Event](), dict[str, Event]()
    for id_, event in _events_about_requests(reading):
        newest[id_] = event
        if event.kind == CapabilityMinted.kind:
            granted[event.read(CapabilityMinted).ids[0]] = event
    requests = {request.id: request for request in reading.requests()}
    _demand_none("requests", requests.keys() - newest.keys())
    for id_, event in newest.items():
        request = requests.get(id_)
        if request is None:
            _demand_forgotten(event, tasks, f"the row of request {id_}, which it is about, is missing")
        elif not _is_left_by(event, request):
            raise BrokenLog(event.position, f"the row of request {id_}, which it is about, is different")
    grants = {row.id: row for row in reading.marked_rows("grants")}
    _demand_none("grants", grants.keys() - granted.keys())
    for capability, event in granted.items():
        minted = event.read(CapabilityMinted)
        request, row = requests.get(minted.request or ""), grants.get(capability)
        if row is None:
            _demand_forgotten(event, tasks, f"the row of the grant {capability} is missing")
        elif request is not None and minted.asker:
            # Each once: an agent may delegate to a key that the chain has named before.
            ids = tuple(dict.fromkeys((*map(unb64u, minted.asker), *_key_ids(request))))
            expected = GrantRecord(unb64u(capability), ids, request.kid, request.issued, event.at)
            if grant_fields(expected) != row.fields:
                raise BrokenLog(event.position, f"the row of the grant {capability} is different")


def _check_answers(reading: Reading) -> None:
    """Check that each answer in the log has its row, and that each row has its answer in the log."""
    answers = {one.position: one for one in reading.answers()}
    for kind in (RequestApproved, RequestDenied, ApprovalSigned, ApprovalMade):
        for event in reading.events(kind=kind.kind):
            answer = answers.pop(event.position, None)
            if answer is None or not _is_signed_in(event, answer):
                raise BrokenLog(event.position, "what a person has signed with this answer is missing or different")
    _demand_none("answers", {str(position) for position in answers})


def _check_asks(reading: Reading) -> None:
    """Check that the arguments of each ask are there, and are those that its event commits to."""
    asks = {one.position: one for one in reading.asks()}
    said: list[tuple[Event, RequestMade | CapabilityMinted]] = [
        *((event, event.read(RequestMade)) for event in reading.events(kind=RequestMade.kind)),
        *((event, event.read(CapabilityMinted)) for event in reading.events(kind=CapabilityMinted.kind)),
    ]
    for event, fact in said:
        if fact.ask is None:
            continue
        asked = asks.pop(event.position, None)
        committed = None if asked is None else args_commitment(asked.salt, asked.args.encode())
        if asked is None or (asked.task, committed) != (fact.task, fact.ask.args):
            raise BrokenLog(event.position, "what the agent has asked for is missing or different")
    _demand_none("asks", {str(position) for position in asks})


def _is_signed_in(event: Event, answer: SignedAnswer) -> bool:
    """Whether the row of an answer has what its event says."""
    kept = (answer.request, answer.task, answer.approver, answer.yes, answer.at)
    if event.kind in {ApprovalSigned.kind, ApprovalMade.kind}:
        made = event.read(ApprovalSignature)
        last = None if answer.approval_text is None else answer.approval_text.digest
        said = (made.request, made.task, made.approver, True, event.at)
        return (*kept, answer.approval, last) == (*said, made.approval, made.digest)
    given = event.read(RequestAnswered)
    said = (given.request, given.task, given.approver, event.kind == RequestApproved.kind, event.at)
    return (*kept, answer.signature) == (*said, given.signature)


def _key_ids(request: RequestRecord) -> Iterator[bytes]:
    """The ids of the keys that the token named which asked. The log does not say them; the mark of the request does."""
    for key in request.keys:
        try:
            yield of_public(key)
        except KeyProblem:
            raise changed_row("requests", request.id, "names a key that nobody can have") from None


def _events_about_requests(reading: Reading) -> Iterator[tuple[str, Event]]:
    found = [event for kind in REQUEST_STATES for event in reading.events(kind=kind)]
    for event in sorted(found, key=lambda event: event.position):
        request = event.facts().get("request")
        if isinstance(request, str):
            yield request, event


def _is_left_by(event: Event, request: RequestRecord) -> bool:
    """Whether a request is as the newest event about it leaves it, as far as that event says."""
    if REQUEST_STATES[event.kind] != request.state or event.facts().get("task") != request.task:
        return False
    if event.kind == RequestMade.kind:
        made = event.read(RequestMade)
        who = (request.path, request.labels, request.audience, request.action) == (
            *(made.path, made.hops, made.audience, made.action),
        )
        return who and (request.until, request.approvers, request.round) == (made.until, made.approvers, made.round)
    if event.kind in {RequestApproved.kind, RequestDenied.kind}:
        said = event.read(RequestAnswered)
        return (request.approver, request.signature, request.answered) == (said.approver, said.signature, event.at)
    if event.kind in {ApprovalMade.kind, ApprovalSigned.kind}:
        signed = event.read(ApprovalSignature)
        return (request.approver, request.answered, _signed(request)) == (signed.approver, event.at, signed.digest)
    if event.kind == RequestExpired.kind:
        return (request.answered, request.lapse) == (event.at, event.read(RequestExpired).because)
    minted = event.read(CapabilityMinted)
    if (request.path, request.labels) != (minted.path, minted.hops):
        return False
    if not set(minted.ids[1:]) <= set(request.earlier):
        return False
    grant = (request.audience, request.minted_under, request.minted, request.capability, request.round)
    return grant == (minted.audience, minted.kid, event.at, minted.ids[0], minted.round)


def _signed(request: RequestRecord) -> str | None:
    """What people have signed on a request, by the digest of its last block; None if nobody can read it."""
    try:
        return b64u(Discharge.parse(request.discharge or "").digests[-1])
    except MalformedToken:
        return None


def _demand_forgotten(event: Event, tasks: Mapping[str, TaskRecord], fault: str) -> None:
    task = tasks.get(str(event.facts().get("task")))
    if task is None or task.state == FIRST:
        raise BrokenLog(event.position, fault)


def _demand_none(table: str, unexplained: Set[str]) -> None:
    for id_ in sorted(unexplained):
        raise changed_row(table, id_, "was written by no event of the log")
