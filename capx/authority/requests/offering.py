"""Matching an ask with the policy: the rule that decides, and the authority's block that the grant would have.

    task, intent, root with the asker's path, until_completed, tenant, holder     claims about the asker's task
    allow (the policy's entry), allow (what was asked), budgets, uses, expires    the offer
    until_completed, where, budgets, not_before, fresh, max_hops, a service's     the other restrictions of the asker

Laws:

- The intent that the policy is asked about is the one that the token of the asker names, and its signature is verified.
- A dead asker gets no offer. Nor does one whose intent the policy does not accept, or whose task is for another tenant.
- An offer covers exactly the ask: its action and, if the ask names arguments, these arguments.
- A person consents to one call, so the ask must name its arguments, unless the policy leaves them free. If the policy
  lists those to pin, the others are as the policy's entry allows. But an agent that may ask only for certain arguments
  gets all of them pinned.
- The same ask of the same asker under the same policy makes the same block, until its uses are used up. Then the next
  round begins: its uses have a counter of their own, so the block is another one, and a person is asked again.
- A request belongs to one offer of the policy. So no two rules share a request, whatever arguments they pin.
- The counter follows from the request and its round. So a grant that is minted again under another key shares it.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import Struct

from capx.authority.ending import as_of
from capx.authority.intent_use import is_signed_by_principal
from capx.authority.requests.approvers import approval_terms
from capx.authority.requests.inheritance import Asker, is_dead, spelt
from capx.authority.uses import left_of, round_of, uses_budget
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest
from capx.intents.intent import Intent, SignedIntent, parse_intent
from capx.policy.policy import Policy
from capx.policy.terms import Match, Rule, Terms
from capx.store.events import BudgetLimit
from capx.store.lifecycle import FIRST
from capx.store.protocols import Reading
from capx.store.records import ATTESTED, RequestRecord, TaskRecord
from capx.store.row_marks import changed_row
from capx.tokens.approval_caveat import ApprovalTerms
from capx.tokens.chain import root_node
from capx.tokens.lineage import MAX_BUDGETS
from capx.tokens.pins import REMEDY
from capx.tokens.wire import MAX_BLOCK
from capx.verify.ask import NOT_PINNED, Ask
from capx_caveats import (
    CALLS,
    DEFAULT,
    Allow,
    Budget,
    Call,
    Entry,
    Expires,
    Facts,
    NotUnderstood,
    Refusal,
    TooLarge,
    Vocabulary,
    Where,
    misplaced,
    shown,
    shown_amount,
    shown_instant,
)
from capx_caveats.extensions import own_constraints

_FINAL: Final = "(for good: to ask again does not help)"
REASONS: Final = MappingProxyType(
    {
        "no_intent": "the task was opened by hand, so no policy says what it may ask for",
        "intent_refused": "the policy no longer accepts the intent of the task",
        "not_offered": "the policy offers this to no task of the purpose",
        NOT_PINNED: "a person consents only to a call with its arguments",
        "not_inherited": "a restriction of the asker cannot be carried over to a grant",
        "too_many": "too many requests were made, or are waiting, in this branch of the task or for this audience",
        "budget_exhausted": "a budget has no room for the call, so nobody is asked about it",
        "request_denied": f"a person has denied it {_FINAL}",
        "asker_dead": "the asker was revoked, or has ended",
        "grant_revoked": f"a grant of this ask, or of this action with any arguments, was revoked {_FINAL}",
    }
)
"""The sentences of refusals, by their stable codes."""


class NotOffered(Exception):
    """The policy offers nothing for this ask, for these reasons."""

    def __init__(self, *refusals: Refusal) -> None:
        super().__init__(refusals[0].code)
        self.refusals = refusals


def ask_refusal(code: str, why: str = "") -> Refusal:
    """The refusal of an ask by a code of REASONS. The asker sees it, so it holds no text of other people."""
    return Refusal(code, f"{REASONS[code]}: {why}" if why else REASONS[code])


class Offered(Struct, frozen=True):
    """The rule and the offer that decide, the intent of the task, and the block of the grant as JSON text.

    `id` is that of the request. `ask` has the arguments to which the grant is pinned: only these count for the id. If
    the policy lists those to pin, `names` are their names, and `all_args` all arguments of the ask (canonical JSON).
    `round` counts the grants of the request, from 1 on: the next one begins when the uses of the last are used up.
    `request` is the request as the store has it, if the ask was made before. The offer holds `until` this time (Unix
    seconds), if nothing else changes. `approval` says whose approval each call will need, if the policy demands one;
    `carried` are the cids of the demands that the token of the asker has.
    """

    id: str
    match: Match
    ask: Ask
    names: tuple[str, ...] | None
    all_args: str | None
    intent: Intent
    round: int
    block: str
    request: RequestRecord | None
    until: int
    approval: ApprovalTerms | None = None
    carried: tuple[str, ...] = ()

    @property
    def needs_consent(self) -> bool:
        """Whether a person has to answer."""
        return self.match.rule.how == "ask"


def offer(reading: Reading, keyring: KeyRing, policy: Policy, asker: Asker, ask: Ask, *, now: int) -> Offered:
    """Return the policy's offer for an ask; NotOffered if the asker is dead or the policy offers nothing."""
    task = living_task(reading, keyring, asker, now=now)
    if asker.refusals:
        raise NotOffered(*asker.refusals)
    digest = demand_intent(task, asker)
    try:
        intent = known_intent(reading, policy, digest)
        terms = policy.terms(intent)
    except InvalidRequest as refused:
        # With its cause, which an approver sees. The asker does not, because it may hold text of other people.
        raise NotOffered(ask_refusal("intent_refused")) from refused
    if terms.tenant not in {None, asker.tenant}:
        raise NotOffered(ask_refusal("intent_refused", "its tenant is not the tenant of the task"))
    match = terms.match(ask.audience, ask.action, ask.args)
    if match is None:
        raise NotOffered(ask_refusal("not_offered", f"{ask.sentence()}{_nearly_offered(terms, ask)}"))
    names = None if asker.pins_all else match.rule.pinned_names
    wanted = _wanted(match.rule, ask, names)
    pinned = ask if names is None else ask.only(names)
    all_args = None if names is None or ask.canonical_args is None else ask.canonical_args.decode()
    id_ = pinned.request(asker.ids[-1], match.offer.digest)
    made = reading.request(id_)
    round_ = round_of(reading, made, match.rule.uses)
    uses = () if match.rule.uses is None else (uses_budget(match.rule.uses, id_, round_),)
    block = _block(asker, match, wanted, uses)
    _demand_usable(block, ask)
    return Offered(
        id=id_,
        match=match,
        ask=pinned,
        names=names,
        all_args=all_args,
        intent=intent,
        round=round_,
        block=block,
        request=made,
        until=min(asker.expires, task.expires),
        approval=_approval(policy, match.rule, intent, asker),
        carried=tuple([one.cid.decode("latin-1") for one in asker.demands]),
    )


def _approval(policy: Policy, rule: Rule, intent: Intent, asker: Asker) -> ApprovalTerms | None:
    if rule.approval is None:
        return None
    try:
        return approval_terms(policy, rule.approval, intent, asker.labels, asker.written_keys)
    except InvalidRequest as problem:
        raise NotOffered(ask_refusal("not_offered", str(problem))) from problem


def living_task(reading: Reading, keyring: KeyRing, asker: Asker, *, now: int) -> TaskRecord:
    """The task of an asker that is alive; NotOffered if it is dead."""
    # First: the row of the task may bear the mark of the same key.
    if keyring.get(asker.kid) is None:
        why = f"the key {asker.kid} that it was minted with is no longer live"
        raise NotOffered(ask_refusal("asker_dead", why))
    task = reading.task(asker.task)
    for why in _death_reasons(reading, asker, task, now):
        raise NotOffered(ask_refusal("asker_dead", why))
    if task is None:
        raise NotOffered(ask_refusal("asker_dead"))
    return task


def demand_intent(task: TaskRecord, asker: Asker) -> str:
    """The digest of the intent that a task was opened on; NotOffered if it was opened by hand."""
    if task.intent is None and asker.intent is None:
        raise NotOffered(ask_refusal("no_intent"))
    # The token is authentic, so what it names is what the task was opened on.
    if asker.intent is None or task.intent != asker.intent or root_node(task.root) != asker.path[0]:
        raise changed_row("tasks", task.id, "names another intent or root than the token of its agent")
    return asker.intent


def _nearly_offered(terms: Terms, ask: Ask) -> str:
    """Say which arguments the ask lacks, or a grant would have to name to cover it; empty if that is not enough.

    Most often it is a default of a tool: the ask names it, and the person who wrote the policy did not think of it.
    """
    args = ask.args or {}
    if missing := terms.missing(ask.audience, ask.action, args):
        it = "it" if len(missing) == 1 else "them"
        return f"; it has a grant for this action that also needs the {_arguments(missing)}: ask again with {it}"
    names = terms.unnamed(ask.audience, ask.action, args)
    if not names:
        return ""
    cure = ", ".join(f"{shown(name)} = {{ anything = true }}" for name in names)
    return f"; it has a grant for this action that does not name the {_arguments(names)}: add to that grant {cure}"


def _arguments(names: tuple[str, ...]) -> str:
    return f"argument{'' if len(names) == 1 else 's'} {' and '.join(map(shown, names))}"


def _wanted(rule: Rule, ask: Ask, names: tuple[str, ...] | None) -> Entry:
    """Return the entry that pins the grant, to these arguments or to all that the ask names; NotOffered if none can."""
    if rule.needs_arguments and ask.args is None:
        raise NotOffered(ask_refusal(NOT_PINNED, f"ask for {ask.action} again with the arguments of the call"))
    try:
        return ask.entry(names)
    except InvalidRequest as refused:
        raise NotOffered(ask_refusal(NOT_PINNED, str(refused))) from None


def _death_reasons(reading: Reading, asker: Asker, task: TaskRecord | None, now: int) -> Iterator[str]:
    state = "unknown" if task is None else as_of(task, now).state
    if state != FIRST:
        yield f"task {asker.task} is {state}"
    if now >= asker.expires:
        yield f"it expired at {shown_instant(asker.expires)}"
    if is_dead(reading, asker):
        yield "it or a token above it was revoked, or a task has ended that it depends on"


def known_intent(reading: Reading, policy: Policy, digest: str) -> Intent:
    """The intent with this digest; InvalidRequest if the policy no longer has the key that signed it."""
    kept = reading.intent(digest)
    if kept is None or kept.document is None:
        raise NotOffered(ask_refusal("no_intent"))
    intent = _read(kept.document)
    if intent.digest != digest:
        raise changed_row("intents", digest, "has another document than its digest says")
    proof = kept.proof or ""
    # By the policy as it is now: a key that was stolen is taken out of the policy, and must then bring nothing more.
    if not proof.startswith(ATTESTED) and not is_signed_by_principal(policy, SignedIntent(intent, proof)):
        raise InvalidRequest(f"the policy no longer has the key of {shown(intent.principal)} that signed the intent")
    return intent


@lru_cache(maxsize=256)
def _read(document: str) -> Intent:
    """The intent in this document, which many asks in a row are about."""
    return parse_intent(document.encode())


def _demand_usable(block: str, ask: Ask) -> None:
    """Raise NotOffered if a restriction of the asker refuses the arguments that the ask names.

    Otherwise a person would be asked to consent to a grant that no service accepts.
    """
    if ask.args is None:
        return
    # Only arguments are judged here, so the time and the age do not matter.
    facts = Facts(Call(ask.action, ask.args), now=0, age=0)
    for caveat in DEFAULT.decode(block.encode()):
        if isinstance(caveat, Where) and caveat.attribute.startswith("args.") and caveat.refusal(facts):
            raise NotOffered(ask_refusal("not_inherited", f"it refuses these arguments ({caveat.sentence()})"))


def demand_unspent(reading: Reading, budgets: Iterable[Budget | BudgetLimit]) -> None:
    """Raise NotOffered if one of these budgets has no room for any call, so that nobody is asked in vain."""
    for one in budgets:
        left = left_of(reading, one)
        # A call costs 1 of `calls`.
        if not left or (one.unit == CALLS and left < 1):
            why = f"{shown_amount(left)} of {one.limit} {one.unit} are left"
            raise NotOffered(ask_refusal("budget_exhausted", why))


def _block(asker: Asker, match: Match, wanted: Entry, uses: tuple[Budget, ...]) -> str:
    """Return the block of the grant as JSON; NotOffered if it would not fit into a token."""
    vocabulary = DEFAULT.extended(*set(own_constraints(match.offer.entry)))

    def made(asked: Entry) -> tuple[bytes, str | None]:
        given = (
            Allow((match.offer.entry,)),
            Allow((asked,)),
            *(Budget(budget.unit, budget.limit, asker.task) for budget in match.rule.budgets),
            *uses,
            Expires(asker.expires),
        )
        pieces = (*asker.claims, *map(spelt, given), *asker.inherited)
        block = b"[" + b",".join(pieces) + b"]"
        return block, unfit(block, len(pieces), vocabulary)

    block, why = made(wanted)
    if why is None:
        return block.decode()
    if wanted.args and made(Entry(wanted.pattern))[1] is None:
        largest = max(wanted.args, key=lambda pair: len(msgspec.json.encode(pair)))
        told = f"with {shown(largest.name)}, the largest argument, a grant would hold {why}: {REMEDY}"
        raise NotOffered(ask_refusal(NOT_PINNED, told))
    raise NotOffered(ask_refusal("not_inherited", f"a grant would hold {why}"))


def unfit(block: bytes, pieces: int, vocabulary: Vocabulary) -> str | None:
    """Why these bytes cannot be the block of an authority, or would be read as something else; None if they can.

    `vocabulary` has the service's own constraints that the policy offers.
    """
    if len(block) > MAX_BLOCK:
        return f"more than {MAX_BLOCK} bytes"
    try:
        caveats = vocabulary.decode(block)
    except TooLarge as error:
        return str(error)
    if sum(isinstance(caveat, Budget) for caveat in caveats) > MAX_BUDGETS:
        return f"more than {MAX_BUDGETS} budgets"
    strange = any(isinstance(caveat, NotUnderstood) and not caveat.own for caveat in caveats)
    if strange or len(caveats) != pieces or misplaced(caveats, authority=True):
        return "caveats that would not be read as they are meant"
    return None
