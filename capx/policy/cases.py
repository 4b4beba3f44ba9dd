"""Test cases of a policy: a file of calls, and how the policy must decide each.

    [[case]]
    says = "small refunds go through, larger ones wait for finance"
    principal = "ana@our.example"
    purpose = "refund"
    tenant = "Acme"
    parameters = { ticket = "T-1" }
    on_request = [{ call = "billing.refund", with = { ticket = "T-1", amount = 20 } }]
    ask = [{ call = "billing.refund", with = { ticket = "T-1", amount = 80 } }]
    never = ["billing.export", { call = "billing.refund", with = { ticket = "T-2", amount = 20 } }]

Laws:

- A call without `with` is asked for by its action only, as an agent does at first. If the policy pins consents, such a
  call in `ask` means: a person is asked once the agent names the arguments.
- A case that expects nothing is refused, and so is a file without cases, because they would test nothing.
- `opens = false` expects that the policy refuses the intent. Such a case can expect nothing else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from msgspec import Struct

from capx.errors import InvalidRequest
from capx.intents.intent import Intent
from capx.policy.fit import grant_problem
from capx.policy.policy import Policy
from capx.policy.terms import HOWS, Match, Terms
from capx.policy.toml_reader import (
    Field,
    InvalidFile,
    Wrong,
    elements,
    every,
    explained,
    key,
    load,
    members,
    name,
    near,
    table,
    text,
    wrong,
)
from capx.verify.ask import Ask
from capx_caveats import JSON, Call, demand_json, is_attribute, is_label, shown

NEVER: Final = "never"
_INTENT_KEYS = ("principal", "purpose", "tenant", "agent", "agent_key", "statement", "parameters")
"""The keys of a case that describe its intent; `_ANY_INTENT` has the other fields."""
_ANY_INTENT: Final[Mapping[str, Any]] = {
    # A policy decides nothing by these fields, so any valid values will do.
    "authority": "cases.0",
    "statement": "A case.",
    "max_tasks": 1,
    "issued": 0,
    "not_after": 1,
    "nonce": "AAAAAAAAAAAAAAAAAAAAAA",
}


class Expected(Struct, frozen=True):
    """One expectation: an ask, and how the policy must decide it: `at_open`, `on_request`, `ask` or `never`."""

    path: str
    ask: Ask
    how: str


class Case(Struct, frozen=True, kw_only=True):
    """An intent and what the case expects of it.

    `says` is the sentence for people, and `opens` is whether the policy must accept the intent.
    """

    path: str
    says: str
    intent: Intent
    opens: bool
    expected: tuple[Expected, ...]


class Failing(Struct, frozen=True):
    """An expectation that the policy does not meet: its case, its key path, and a sentence."""

    case: Case
    path: str
    sentence: str


def read_cases(data: bytes | str, name: str = "cases.toml") -> tuple[Case, ...]:
    """Read the cases of a file; ConfigurationProblem lists all its mistakes by key path."""
    try:
        return _cases(load(data))
    except Wrong as error:
        raise InvalidFile(name, error.lines) from None


def failing(policy: Policy, case: Case) -> Sequence[Failing]:
    """Return the expectations of a case that the policy does not meet."""
    try:
        terms = policy.terms(case.intent)
    except InvalidRequest as refusal:
        return [Failing(case, case.path, f"the policy refuses the intent: {refusal}")] if case.opens else []
    if not case.opens:
        return [Failing(case, key(case.path, "opens"), "the policy accepts the intent, but must refuse it")]
    failing = [one for one in case.expected if decided(terms, one.ask) != one.how]
    return [Failing(case, one.path, _sentence(terms, one)) for one in failing]


def _sentence(terms: Terms, expected: Expected) -> str:
    """Say what the policy decides instead, and, if it never gives it, why no grant of the action covers the call."""
    how = decided(terms, expected.ask)
    why = _misfits(terms, expected.ask) if how == NEVER else ()
    says = "; ".join([f"the policy says {how}", *why])
    return f"{expected.ask.sentence()}: expected {expected.how}, but {says}"


def decided(terms: Terms, ask: Ask) -> str:
    """Return how the terms decide an ask: `at_open`, `on_request`, `ask` or `never`."""
    match = terms.match(ask.audience, ask.action, ask.args)
    # The authority refuses an ask that a rule matches, if the grant does not fit into a token: so expect it here too.
    if match is None or (match.rule.how != "at_open" and _ungrantable(terms, match, ask)):
        return NEVER
    return match.rule.how


def _misfits(terms: Terms, ask: Ask) -> Iterator[str]:
    """Yield, for each grant of the action, why it does not cover the arguments."""
    call = Call(ask.action, ask.args or {})
    for rule in terms.rules:
        for offer in rule.offers:
            misfits = offer.entry.misfits(call) if offer.covers(ask.audience, ask.action, None) else iter(())
            if (first := next(misfits, None)) is not None:
                yield f"{rule.place} {offer.entry.refused(first, misfits).sentence}"


def unknown(policy: Policy, case: Case) -> Iterator[str]:
    """Yield a remark for each name in a case with `opens = false` that the policy does not have.

    The policy may then refuse the intent for a misspelt name, and not for the reason that the case is about.
    """
    if not case.opens:
        for member, named, there in (
            ("principal", case.intent.principal, policy.principals),
            ("purpose", case.intent.purpose, policy.purposes),
        ):
            if named not in there:
                yield f"{key(case.path, member)}: the policy has no {member} {shown(named)}{near(named, there)}"


def _ungrantable(terms: Terms, match: Match, ask: Ask) -> bool:
    """Whether no token could hold the grant together with a copy of the ask."""
    try:
        wanted = ask.entry(match.rule.pinned_names)
    except InvalidRequest:
        return True
    return grant_problem(terms, match.rule, match.offer, wanted) is not None


def _cases(document: Mapping[str, object]) -> tuple[Case, ...]:
    if not document:
        raise Wrong("the file has no cases: write one under [[case]]")
    each = Field(lambda raw, path: every(_case, elements(raw, path, "cases, each as [[case]]")), needed=True)
    found: tuple[Case, ...] = members(document, "", {"case": each})["case"]
    return found


def _case(raw: object, path: str) -> Case:
    label = name(is_label, "a name: use 1 to 128 characters, none of them hidden")
    expecting = {how: Field(_expecting(how)) for how in (*HOWS, NEVER)}
    fields = {
        "says": Field(text),
        "principal": Field(label, needed=True),
        "purpose": Field(name(is_attribute, "the name of a purpose"), needed=True),
        "tenant": Field(label),
        "agent": Field(label),
        "agent_key": Field(text),
        "statement": Field(text),
        "parameters": Field(_json_table),
        "opens": Field(_opens),
        **expecting,
    }
    found = members(raw, path, fields)
    expected = tuple(one for how in expecting for one in found.get(how, ()))
    opens = found.get("opens", True)
    if not opens and expected:
        raise wrong(path, "has opens = false and calls, but a refused intent gives nothing: remove opens, or the calls")
    if opens and not expected:
        raise wrong(path, f"expects nothing: add {', '.join(expecting)}, or opens = false")
    return Case(path=path, says=found.get("says", ""), intent=_intent(found, path), opens=opens, expected=expected)


def _intent(found: Mapping[str, Any], path: str) -> Intent:
    fields = {name: found[name] for name in _INTENT_KEYS if name in found}
    return explained(path, lambda: Intent(**{**_ANY_INTENT, **fields}))


def _opens(raw: object, path: str) -> bool:
    if raw is not False:
        advice = "If the intent opens, remove this key and list the calls that the policy must allow"
        raise wrong(path, f"can only be false. {advice}")
    return False


def _expecting(how: str) -> Callable[[object, str], tuple[Expected, ...]]:
    def one(raw: object, path: str) -> Expected:
        if isinstance(raw, str):
            return _call(raw, None, path, how)
        fields = {"call": Field(text, needed=True), "with": Field(_json_table)}
        found = members(raw, path, fields)
        return _call(found["call"], found.get("with"), path, how)

    return lambda raw, path: every(one, elements(raw, path, "calls"))


def _call(named: str, args: Mapping[str, JSON] | None, path: str, how: str) -> Expected:
    action, at, audience = named.partition("@")
    return explained(path, lambda: Expected(path, Ask.of(action, audience if at else None, args), how))


def _json_table(raw: object, path: str) -> Mapping[str, JSON]:
    found = table(raw, path)
    explained(path, lambda: demand_json(found))
    return cast("Mapping[str, JSON]", found)
