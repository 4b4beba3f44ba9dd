"""Cases: calls that a policy is meant to decide in a certain way, as a file that reads aloud.

    [[case]]
    says = "small refunds go through, larger ones wait for finance"
    principal = "ana@our.example"
    purpose = "refund"
    tenant = "Acme"
    parameters = { ticket = "T-1" }
    on_request = [{ call = "billing.refund", with = { ticket = "T-1", amount = 20 } }]
    ask = [{ call = "billing.refund", with = { ticket = "T-1", amount = 80 } }]
    never = ["billing.export", { call = "billing.refund", with = { ticket = "T-2", amount = 20 } }]

Laws: a call without `with` is asked for by its action alone, as an agent does that does not pin its arguments. A case
that expects nothing is refused, as is a file without cases: nothing would be tested. `opens = false` expects that the
intent is refused, and nothing else.
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
from capx_caveats import JSON, demand_json, is_attribute, is_label, shown

NEVER: Final = "never"
_SAID = ("principal", "purpose", "tenant", "agent", "statement", "parameters")
"""What a case says of its intent; the rest is as in any other."""
_ANY_INTENT: Final[Mapping[str, Any]] = {
    "authority": "cases.0",
    "statement": "A case.",
    "max_tasks": 1,
    "issued": 0,
    "not_after": 1,
    "nonce": "AAAAAAAAAAAAAAAAAAAAAA",
}


class Expected(Struct, frozen=True):
    """What is asked for, and how it is to be decided: `at_open`, `on_request`, `ask` or `never`."""

    path: str
    ask: Ask
    how: str


class Case(Struct, frozen=True, kw_only=True):
    """An intent, what is to be said of it, and what of it is expected; `opens` is whether it is taken."""

    path: str
    says: str
    intent: Intent
    opens: bool
    expected: tuple[Expected, ...]


class Failing(Struct, frozen=True):
    """What a policy says otherwise than a case: where, and in words."""

    case: Case
    path: str
    sentence: str


def read_cases(data: bytes | str, name: str = "cases.toml") -> tuple[Case, ...]:
    """The cases that a file holds; ConfigurationProblem tells all that is wrong with it, by key path."""
    try:
        return _cases(load(data))
    except Wrong as error:
        raise InvalidFile(name, error.lines) from None


def failing(policy: Policy, case: Case) -> Sequence[Failing]:
    """What the policy says otherwise than the case; nothing if it is as expected."""
    try:
        terms = policy.terms(case.intent)
    except InvalidRequest as refusal:
        return [Failing(case, case.path, f"the intent is refused: {refusal}")] if case.opens else []
    if not case.opens:
        return [Failing(case, key(case.path, "opens"), "the intent is taken, and was to be refused")]
    return [
        Failing(case, expected.path, f"{expected.ask.sentence()}: expected {expected.how}, and the policy says {said}")
        for expected in case.expected
        if (said := decided(terms, expected.ask)) != expected.how
    ]


def decided(terms: Terms, ask: Ask) -> str:
    """How terms decide about what is asked for: `at_open`, `on_request`, `ask` or `never`."""
    match = terms.match(ask.audience, ask.action, ask.args)
    if match is None or (match.rule.how != "at_open" and _ungrantable(terms, match, ask)):
        return NEVER
    return match.rule.how


def unknown(policy: Policy, case: Case) -> Iterator[str]:
    """What a case that expects a refusal names and the policy does not have: it may be refused for that alone."""
    if not case.opens:
        for member, named, there in (
            ("principal", case.intent.principal, policy.principals),
            ("purpose", case.intent.purpose, policy.purposes),
        ):
            if named not in there:
                yield f"{key(case.path, member)}: the policy has no {member} {shown(named)}{near(named, there)}"


def _ungrantable(terms: Terms, match: Match, ask: Ask) -> bool:
    """Whether what is offered could not be granted, since no token holds it together with what was asked for."""
    try:
        wanted = ask.entry()
    except InvalidRequest:
        return True
    return grant_problem(terms, match.rule, match.offer, wanted) is not None


def _cases(document: Mapping[str, object]) -> tuple[Case, ...]:
    if not document:
        raise Wrong("it holds no case: write one, under [[case]]")
    each = Field(lambda said, path: every(_case, elements(said, path, "cases, each as [[case]]")), needed=True)
    found: tuple[Case, ...] = members(document, "", {"case": each})["case"]
    return found


def _case(said: object, path: str) -> Case:
    label = name(is_label, "a name of 1 to 128 characters, none of them hidden")
    expecting = {how: Field(_expecting(how)) for how in (*HOWS, NEVER)}
    fields = {
        "says": Field(text),
        "principal": Field(label, needed=True),
        "purpose": Field(name(is_attribute, "the name of a purpose"), needed=True),
        "tenant": Field(label),
        "agent": Field(label),
        "statement": Field(text),
        "parameters": Field(_json_table),
        "opens": Field(_opens),
        **expecting,
    }
    found = members(said, path, fields)
    expected = tuple(one for how in expecting for one in found.get(how, ()))
    opens = found.get("opens", True)
    if not opens and expected:
        raise wrong(path, "expects calls of an intent that is to be refused: leave out opens, or the calls")
    if opens and not expected:
        raise wrong(path, f"expects nothing: say {', '.join(expecting)}, or opens = false")
    return Case(path=path, says=found.get("says", ""), intent=_intent(found, path), opens=opens, expected=expected)


def _intent(found: Mapping[str, Any], path: str) -> Intent:
    said = {name: found[name] for name in _SAID if name in found}
    return explained(path, lambda: Intent(**{**_ANY_INTENT, **said}))


def _opens(said: object, path: str) -> bool:
    if said is not False:
        raise wrong(path, "is not false: leave it out, and say what is expected")
    return False


def _expecting(how: str) -> Callable[[object, str], tuple[Expected, ...]]:
    def one(said: object, path: str) -> Expected:
        if isinstance(said, str):
            return _call(said, None, path, how)
        fields = {"call": Field(text, needed=True), "with": Field(_json_table)}
        found = members(said, path, fields)
        return _call(found["call"], found.get("with"), path, how)

    return lambda said, path: every(one, elements(said, path, "calls"))


def _call(named: str, args: Mapping[str, JSON] | None, path: str, how: str) -> Expected:
    action, at, audience = named.partition("@")
    return explained(path, lambda: Expected(path, Ask.of(action, audience if at else None, args), how))


def _json_table(said: object, path: str) -> Mapping[str, JSON]:
    found = table(said, path)
    explained(path, lambda: demand_json(found))
    return cast("Mapping[str, JSON]", found)
