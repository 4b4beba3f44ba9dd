"""An inquiry: all that a person is shown of a request before they answer it.

    digest = SHA-256 of the canonical JSON (RFC 8785) of the request and of the digest of its intent

Laws:

- The digest covers everything that the grant would be, so a verdict over it is for nothing else.
- The text that a person agrees to is shown in full, never shortened. Letters that look like others are marked.
- What may change later is shown too, but the digest does not cover it: earlier denials of the same ask, earlier uses of
  a consent to it, what is left of the budgets, and whether the agent that asks was revoked.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from capx.authority.requests.inheritance import spelt
from capx.authority.requests.lookalikes import remarks
from capx.authority.uses import EarlierUse, uses_budget, uses_of
from capx.crypto.canonical_json import canonical
from capx.errors import InvalidRequest
from capx.intents.intent import Intent, parse_intent
from capx.policy.describe import uses_in_words
from capx.store.records import RequestRecord, RequestState
from capx.tokens.approval_caveat import read_approval_caveat
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.approving import signatures_in
from capx.tokens.discharge import Discharge
from capx.verify.ask import Ask
from capx.verify.decision import may_name_decision
from capx_caveats import (
    CALLS,
    DEFAULT,
    OTHERS,
    Allow,
    Budget,
    Caveat,
    ChainCaveat,
    Entry,
    Holder,
    Root,
    Task,
    Tenant,
    UntilCompleted,
    is_amount,
    is_attribute,
    is_id,
    shown,
    shown_duration,
    shown_instant,
)
from capx_caveats import Intent as OnIntent
from capx_caveats.shown_values import whole

_PLAIN = re.compile(r"[A-Za-z0-9_.@+-]+")
# These fields make the digest. With another list, no signature that the store has kept would be valid.
_SHOWN: Final = (
    *("id", "task", "audience", "action", "args", "path", "labels", "block", "asked", "until", "approvers", "excluded"),
    *("approval", "carried", "to_approve"),
)


_DEFAULTS: Final = "an argument that is not named has the service's default, if there is one"


class SameAsk(Struct, frozen=True):
    """Another request in the same task for the same, by whichever token or agent: its state, and who answered it.

    `at` is when that was, or when it was made (Unix seconds); `labels` say which agent asked.
    """

    request: str
    state: RequestState
    labels: tuple[str, ...]
    approver: str | None
    at: int


class BudgetLeft(Struct, frozen=True):
    """What is left of a budget that the calls of a grant draw on, and its limit: decimal text."""

    unit: str
    left: str
    limit: str


class Inquiry(Struct, frozen=True):
    """A request with the intent that its task was opened on (canonical JSON): all that a person needs to answer it.

    `others` are other requests of the same task for the same. `uses` are the calls for which an earlier consent to
    this request was used. `budgets` are those on which the grant would draw, apart from its uses, as they are at `at`
    (Unix seconds). If `asker_revoked`, the agent that asks was revoked.
    """

    request: RequestRecord
    document: str
    others: tuple[SameAsk, ...] = ()
    uses: tuple[EarlierUse, ...] = ()
    budgets: tuple[BudgetLeft, ...] = ()
    at: int = 0
    asker_revoked: bool = False

    @property
    def intent(self) -> Intent:
        """The intent; InvalidRequest if the grant would be on another one."""
        intent = parse_intent(self.document.encode())
        # A remote authority sends request and intent. A person must not sign for a request that is on another intent.
        if OnIntent(intent.digest) not in self.caveats:
            raise InvalidRequest(
                f"request {self.request.id} belongs to another intent than the one shown with it: do not answer it"
            )
        return intent

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """The caveats that the block of the grant would have."""
        return DEFAULT.decode(self.request.block.encode())

    @property
    def digest(self) -> bytes:
        """The digest that a verdict is signed over: 32 bytes."""
        return hashlib.sha256(canonical(self.shown)).digest()

    @property
    def shown(self) -> dict[str, Any]:
        """What the digest covers, as JSON values."""
        request = self.request
        shown_fields = {name: msgspec.to_builtins(getattr(request, name)) for name in _SHOWN}
        return {**shown_fields, "intent": self.intent.digest}

    def sentences(self) -> tuple[str, ...]:
        """The request in plain words: who asks, on whose intent, for what, with which restrictions, until when."""
        with whole():
            return tuple(_marked(_sentences(self)))


def _marked(sentences: Iterator[str]) -> Iterator[str]:
    """Each sentence, and behind it what to look at closely in it."""
    for sentence in sentences:
        yield sentence
        yield from remarks(sentence)


def _sentences(inquiry: Inquiry) -> Iterator[str]:
    request, intent = inquiry.request, inquiry.intent
    yield f"{_agents(request.labels)} asks, in task {request.task}"
    yield f"{_name(intent.principal)} wanted {_wanted(intent)}, in their words {shown(intent.statement)}"
    yield from _call_sentences(inquiry) if request.to_approve is not None else _grant_sentences(inquiry)


def _grant_sentences(inquiry: Inquiry) -> Iterator[str]:
    """What is said of a request for a grant, behind who asks and what was wanted."""
    request, caveats = inquiry.request, inquiry.caveats
    offered, pinned = _allowed(inquiry)
    yield f"it would be allowed {request.action} at {request.audience}, {_arguments(request, pinned)}"
    uses = uses_of(request)
    yield f"your consent is good for {uses_in_words(uses)}"
    yield f"within what the policy offers: {offered}"
    own = (UntilCompleted(request.task), *(() if uses is None else (uses_budget(uses, request.id, request.round),)))
    for caveat in caveats:
        # Uses and the end of the task have sentences of their own.
        if not isinstance(caveat, _SAID) and caveat not in own:
            yield caveat.sentence()
    if request.approval is not None:
        yield f"each call will need {_approvals(request.approval.count, request.approval.by)}"
    for cid in request.carried:
        yield f"each call will need {_carried(cid)}, as the token of the agent demands"
    yield f"it ends with task {request.task}, and with the agent that asks"
    yield (
        f"asked at {shown_instant(request.asked)}, to be answered before {shown_instant(request.until)} "
        f"by {' or '.join(map(_name, request.approvers))}"
    )
    if request.excluded:
        named = " and ".join(map(_name, request.excluded))
        yield f"{named} cannot consent: they requested this work, or have the same name as one of its agents"
    if inquiry.asker_revoked:
        yield "the agent that asks was revoked, so nobody can consent any more"
    at = shown_instant(inquiry.at)
    for budget in inquiry.budgets:
        _demand(is_attribute(budget.unit) and is_amount(budget.left) and is_amount(budget.limit), request)
        left = f"left at {at}: {budget.left} of {budget.limit} {budget.unit}"
        none = budget.left == "0"
        yield f"{left}; {'no call can use a consent now' if none else 'other calls may use it up before this one'}"
    if request.round > 1:
        yield f"it was granted before, {_times(request.round - 1)}"
    elif request.capability is None and request.earlier:
        yield "it was granted before on other terms, and that grant may still be good"
    yield from _uses(inquiry)
    yield from _others(inquiry)


def _call_sentences(inquiry: Inquiry) -> Iterator[str]:
    """What is said of a request for an approval, behind who asks and what was wanted."""
    request = inquiry.request
    document = ApprovalRequest.parse(request.to_approve or "")
    # An authority elsewhere sends both: a person must not sign what was not shown.
    intent = None if document.intent is UNSET else document.intent
    said = (document.audience, document.node, document.action, document.task, document.cid, intent)
    kept = (request.audience, request.node, request.action, request.task, request.cid, inquiry.intent.digest)
    _demand(said == kept and canonical(dict(document.args)).decode() == request.args, request)
    yield f"it wants one call approved: {request.action} at {request.audience}, {_call_arguments(document)}"
    yield _DEFAULTS
    yield from discharge_sentences(document, request.discharge)
    yield (
        f"asked at {shown_instant(request.asked)}, to be answered before {shown_instant(request.until)} "
        f"by {' or '.join(map(_name, request.approvers))}"
    )
    if inquiry.asker_revoked:
        yield "the agent that asks was revoked, so an approval is of no use any more"
    if request.earlier:
        yield f"the same call was approved before, {_times(len(request.earlier))}; this would be one more approval"
    elif request.round > 1:
        yield f"the same call was asked for before, {_times(request.round - 1)}"
    yield from _uses(inquiry)
    yield from _others(inquiry)


def _uses(inquiry: Inquiry) -> Iterator[str]:
    """The calls for which an earlier answer to the request was used."""
    for use in inquiry.uses:
        _demand(may_name_decision(use.decision), inquiry.request)
        at = shown_instant(use.at)
        yield f"{inquiry.request.audience} reports that decision {use.decision} allowed a call with it at {at}"


def _others(inquiry: Inquiry) -> Iterator[str]:
    """What became of other requests of the task for the same."""
    for other in inquiry.others:
        _demand(is_id(other.request), inquiry.request)
        yield _same(other)


def request_sentences(document: ApprovalRequest, signed: str | None) -> tuple[str, ...]:
    """A request for an approval that came as a file, in plain words: all of it is a claim.

    `signed` is the text of what others have signed of it.
    """
    with whole():
        return tuple(_marked(_file_sentences(document, signed)))


def _file_sentences(document: ApprovalRequest, signed: str | None) -> Iterator[str]:
    yield f"the agent at node {document.node}, or one below it, asks, in task {document.task}"
    yield f"on intent {document.intent}" if document.intent is not UNSET else "its task was opened on no intent"
    yield f"it wants one call approved: {document.action} at {document.audience}, {_call_arguments(document)}"
    yield _DEFAULTS
    yield f"asked at {shown_instant(document.asked)}"
    yield from discharge_sentences(document, signed)


def discharge_sentences(document: ApprovalRequest, signed: str | None) -> Iterator[str]:
    """Whose signatures an approval needs, how long it may last, and what others have signed so far (its text)."""
    caveat = document.caveat
    yield f"it needs {_approvals(caveat.count, caveat.approvers)}"
    yield f"an approval is good for the agent that asks and those below it, for {shown_duration(caveat.lasts)} at most"
    if signed is None:
        return
    discharge = Discharge.parse(signed)
    for number in signatures_in(discharge):
        who = caveat.approvers[number] if number < len(caveat.keys) else "a key that the token does not name"
        yield f"it says that {who} has signed this approval:"
    stated = [one for caveats in discharge.caveats for one in caveats if not isinstance(one, ChainCaveat)]
    yield from (f"  {one.sentence()}" for one in stated)
    if not any(isinstance(one, Budget) and one.unit == CALLS for one in stated):
        yield "  for any number of calls until it expires"


def _call_arguments(document: ApprovalRequest) -> str:
    named = " and ".join(f"{_name(name)} {shown(value)}" for name, value in document.args.items())
    return f"only with {named}" if named else "without arguments"


def _approvals(count: int, by: Sequence[str]) -> str:
    return f"the approval of {' or '.join(by)}" if count == 1 else f"the approval of {count} of {', '.join(by)}"


def _carried(cid: str) -> str:
    caveat = read_approval_caveat(cid)
    return "an approval of people whom nobody can read here" if caveat is None else caveat.wanted()


def _same(other: SameAsk) -> str:
    agents, at = _agents(other.labels), shown_instant(other.at)
    if other.state == "pending":
        return f"request {other.request} of {agents} waits for the same, since {at}"
    who = "the policy" if other.approver is None else _name(other.approver)
    return f"{who} {'denied' if other.state == 'denied' else 'granted'} the same to {agents} at {at}"


def _demand(good: bool, request: RequestRecord) -> None:
    """Raise InvalidRequest for a text that capx does not write: whoever sent the inquiry could hide words in it."""
    if not good:
        raise InvalidRequest(f"request {request.id} is shown with a text that capx does not write: do not answer it")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _agents(labels: tuple[str, ...]) -> str:
    # Always in quotes: a delegator chose them, and may call an agent like a person.
    return " > ".join(map(shown, labels)) or "the first agent"


def _wanted(intent: Intent) -> str:
    tenant = "" if intent.tenant is UNSET else f" for {_name(intent.tenant)}"
    named = " and ".join(f"{name} {shown(value)}" for name, value in intent.parameters.items())
    return f"{intent.purpose}{tenant}" + (f" with {named}" if named else "")


_CLAIMS: Final = (Task, Root, OnIntent, UntilCompleted, Tenant, Holder)
_SAID: Final = (Task, Root, OnIntent, Allow)


def _allowed(inquiry: Inquiry) -> tuple[str, Entry]:
    """What the policy offers, in words, and the entry that pins the grant.

    InvalidRequest if that entry is for another ask than the request shows.
    """
    request = inquiry.request
    # The block has these two first, behind the claims.
    offered, asked = [caveat for caveat in inquiry.caveats if not isinstance(caveat, _CLAIMS)][:2]
    named = _pinned(asked)
    names = tuple(name for name in named if name != OTHERS) if OTHERS in named else None
    args: dict[str, Any] | None = None if request.args is None else json.loads(request.args)
    pinned = Ask(audience=request.audience, action=request.action, args=args).entry(names)
    free = () if names is None or args is None else args.keys() - set(names)
    # As they are spelt: in Python, True equals 1.
    if free or not isinstance(asked, Allow) or spelt(asked) != spelt(Allow((pinned,))):
        raise InvalidRequest(f"request {request.id} shows other arguments than its grant would have: do not answer it")
    # A service's own constraint is not understood here. It is shown as it is written.
    words = "; ".join(entry.sentence() for entry in offered.entries) if isinstance(offered, Allow) else None
    return words or offered.sentence(), pinned


def _pinned(asked: Caveat) -> list[str]:
    """The names of the arguments in the entry that pins a grant."""
    entries = asked.entries if isinstance(asked, Allow) else ()
    return [pair.name for entry in entries if entry.args is not UNSET for pair in entry.args]


def _arguments(request: RequestRecord, pinned: Entry) -> str:
    if request.args is None or pinned.args is UNSET:
        return "with any arguments"
    args: dict[str, Any] = json.loads(request.args)
    left_out = [_name(pair.name) for pair in pinned.args if pair.name not in args and pair.name != OTHERS]
    said = [f"with {' and '.join(f'{_name(name)} {shown(value)}' for name, value in args.items())}"] if args else []
    said += [f"without {' and '.join(left_out)}"] if left_out else []
    if any(pair.name == OTHERS for pair in pinned.args):
        return f"only {' and '.join(said)}; its other arguments may be any that the policy offers"
    return f"only {' and '.join(said)}" if said else "without arguments"


def _name(name: str) -> str:
    """A name that others chose, in quotes if a reader could mistake it for the words around it."""
    return name if _PLAIN.fullmatch(name) else shown(name)
