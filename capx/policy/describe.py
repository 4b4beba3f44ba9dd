"""Describe a policy in plain sentences: what each purpose takes and gives, when, and with whose consent.

Laws: a sentence says all that its rule does. The constraint classes themselves describe what the file states. A value
that comes from the intent is described as such. No value is shortened. A task gets nothing that no sentence mentions.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import UNSET

from capx.policy.constraints import ConstraintTemplate, PairTemplate, instantiated
from capx.policy.placeholders import Placeholder, placeholders_in, probe_of
from capx.policy.policy import Policy, Purpose
from capx.policy.rule_templates import OfferTemplate, RuleTemplate, RuleTemplates
from capx.policy.terms import HOWS, How
from capx.tokens.grants import ApprovalRule
from capx_caveats import OTHERS, shown, shown_duration
from capx_caveats.names import told_name
from capx_caveats.shown_values import whole

HOW_IN_WORDS: Final[dict[How, str]] = {"at_open": "at open", "on_request": "on request", "ask": "by asking"}
"""The words for each way in which a rule gives."""


def purpose_sentences(policy: Policy, purpose: Purpose) -> tuple[str, ...]:
    """Describe a purpose: who may ask for it, what an intent must have, and what it gives.

    The grants are in the order in which they decide.
    """
    # A shortened value could hide a part of what the rule gives.
    with whole():
        return tuple(_sentences(policy, purpose))


def _sentences(policy: Policy, purpose: Purpose) -> Iterator[str]:
    may = [principal.name for principal in policy.principals.values() if purpose.name in principal.purposes]
    yield f"{listed(may)} may ask for it." if may else "Nobody may ask for it."
    says = sorted({*purpose.require, *purpose.names, *(("tenant",) if purpose.tenant else ())} - {"tenant"})
    whose = "for one tenant, whose name every grant carries" if purpose.tenant else "for no tenant"
    yield f"It is {whose}, and ends after {shown_duration(purpose.ttl)} at the latest."
    if says:
        yield f"An intent must have {', '.join(says)}."
    grants = purpose.rules.grants if isinstance(purpose.rules, RuleTemplates) else ()
    for grant in sorted(grants, key=lambda grant: HOWS.index(grant.how)):
        yield grant_sentence(policy, grant)
    yield "Nothing else is given."


def grant_sentence(policy: Policy, grant: RuleTemplate) -> str:
    """Describe what a grant gives, when, and within what limits."""
    limits = [f"{limit.unit}: at most {format_value(limit.amount)} in the whole task" for limit in grant.limits]
    when = HOW_IN_WORDS[grant.how]
    if grant.within is not None:
        asked = f"{consenting(policy, grant.approvers)}, given within {shown_duration(grant.within)}"
        good = f"good for {uses_in_words(grant.uses)} {pins_in_words(grant.pinned)}"
        when = f"with the consent of {asked} and {good}"
    gives = "; ".join(map(allowed_sentence, grant.allowed))
    approved = () if grant.approval is None else (approval_in_words(policy, grant.approval),)
    return f"{when[0].upper()}{when[1:]}: {', '.join((gives, *limits, *approved))}."


def uses_in_words(uses: int | None) -> str:
    """Describe for how many calls one consent is good."""
    if uses is None:
        return "any number of calls until the task ends"
    return "one call" if uses == 1 else f"{uses} calls"


def pins_in_words(pinned: bool | tuple[str, ...]) -> str:
    """Describe to which arguments of the call a consent is pinned."""
    if pinned is True:
        return "with the arguments that they see"
    if pinned:
        return f"with the {listed(pinned)} that they see, and any other arguments"
    return "with the arguments that they see, or with any if they see none"


def approval_in_words(policy: Policy, rule: ApprovalRule) -> str:
    """Describe whose approval each call needs."""
    own = (
        ("the person who wanted the work, which is a confirmation and no second pair of eyes",)
        if rule.principal
        else ()
    )
    people = (*((consenting(policy, rule.by),) if rule.by else ()), *own)
    count = "" if rule.count == 1 else f"{rule.count} of "
    return (
        f"each call needs the approval of {count}{' or '.join(people)}, good for {shown_duration(rule.lasts)} at most"
    )


def consenting(policy: Policy, approvers: Sequence[str]) -> str:
    """Describe who may consent: principals, and groups with their members."""
    return " or ".join(
        shown(name) if name in policy.principals else f"{shown(name)} ({listed(policy.members(name))})"
        for name in approvers
    )


def allowed_sentence(allowed: OfferTemplate) -> str:
    """Describe an action, as in `billing.refund at billing where ticket is the intent's ticket`."""
    named = f"{allowed.pattern} at {allowed.audience}"
    if allowed.args is UNSET:
        return named
    if not allowed.args:
        return f"{named} without arguments"
    return f"{named} where {' and '.join(map(named_sentence, allowed.args))}"


def named_sentence(named: PairTemplate) -> str:
    """Describe an argument, as in `ticket is the intent's ticket`.

    The constraint class describes an argument that takes nothing from the intent.
    """
    if not any(placeholders_in(named)):
        return str(instantiated(named, probe_of).sentence())
    name = "any other argument" if named.name == OTHERS else told_name(named.name)
    return f"{name} {_constraint(named.constraint)}"


def format_value(part: Any) -> str:
    """Return a value as the policy states it, or say that it is the value of the intent."""
    if isinstance(part, Placeholder):
        return f"the intent's {part.name}"
    if isinstance(part, tuple):
        return ", ".join(map(format_value, part))  # pyright: ignore[reportUnknownArgumentType] # of anything
    return shown(part)


def listed(names: Sequence[str]) -> str:
    """Join names for a sentence; each is quoted, so that none can be read as a part of the sentence."""
    *most, last = map(shown, names)
    return f"{', '.join(most)} and {last}" if most else last


def _constraint(made: ConstraintTemplate) -> str:
    """Describe a constraint, with brackets around `any` and `all`."""
    operator, parts = made.operator, made.parts
    if not any(placeholders_in(made)):
        sentence = str(instantiated(made, probe_of).sentence())
        return f"({sentence})" if operator in {"any", "all"} else sentence
    match operator:
        case "range" | "length":
            return _ends(operator, *parts)
        case "url":
            return _url(*parts)
        case "argv":
            programs, arguments = parts
            first = "" if arguments is UNSET else f" with {' or '.join(map(format_value, arguments))} first"
            return f"runs {format_value(programs)}{first}"
        case "each":
            return f"has {format_value(parts[1])} or more elements, each of which {_constraint(parts[0])}"
        case "any" | "all":
            word = " or " if operator == "any" else " and "
            return f"({word.join(map(_constraint, parts[0]))})"
        case "not":
            return f"not: {_constraint(parts[0])}"
        case "fields":
            return f"is an object (where {' and '.join(map(named_sentence, parts[0]))})"
        case _:
            return _SAYS[operator].format(format_value(parts[0]))


def _ends(operator: str, low: Any, high: Any) -> str:
    ends = ([] if low is None else [f"at least {format_value(low)}"]) + (
        [] if high is None else [f"at most {format_value(high)}"]
    )
    return f"{'is' if operator == 'range' else 'has a length of'} {' and '.join(ends)}"


def _url(schemes: Any, hosts: Any, ports: Any, path: Any) -> str:
    port = "the scheme's own port" if ports == () else f"port {format_value(ports)}"
    below = "" if path is UNSET else f", path within {format_value(path)}"
    return f"is a URL with scheme {format_value(schemes)}, host {format_value(hosts)}, {port}{below}"


_SAYS: Final = {
    "eq": "is {}",
    "in": "is one of {}",
    "prefix": "begins with {}",
    "path": "is the path {} or below",
    "host": "is a host, one of {}",
    "cidr": "is an address in one of {}",
    "contains": "contains {}",
}
"""Sentences for constraints that take a value from the intent, by operator."""
