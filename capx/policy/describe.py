"""A policy in plain sentences: what each purpose takes, what it gives, when, and with whose consent.

Laws: a sentence says what its rule does, no less: what stands in the file is told by the classes that judge it, and
what is taken from an intent as such, each value whole. What no sentence says, nobody gets.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import UNSET

from capx.policy.constraints import Made, Named, filled
from capx.policy.placeholders import Placeholder, probing, taken
from capx.policy.policy import Policy, Purpose
from capx.policy.rule_templates import OfferTemplate, RuleTemplate, RuleTemplates
from capx.policy.terms import HOWS, How
from capx_caveats import shown, shown_duration
from capx_caveats.names import told_name
from capx_caveats.values import whole

HOW_IN_WORDS: Final[dict[How, str]] = {"at_open": "at open", "on_request": "on request", "ask": "by asking"}
"""When a rule gives, in words."""


def purpose_sentences(policy: Policy, purpose: Purpose) -> tuple[str, ...]:
    """What a purpose is: who may ask for it, what an intent must say, and what it gives, in the deciding order."""
    with whole():
        return tuple(_sentences(policy, purpose))


def _sentences(policy: Policy, purpose: Purpose) -> Iterator[str]:
    may = [principal.name for principal in policy.principals.values() if purpose.name in principal.purposes]
    yield f"{listed(may)} may ask for it." if may else "Nobody may ask for it."
    says = sorted({*purpose.require, *purpose.names, *(("tenant",) if purpose.tenant else ())} - {"tenant"})
    whose = "for one tenant, whose name every grant carries" if purpose.tenant else "for no tenant"
    yield f"It is {whose}, and ends after {shown_duration(purpose.ttl)} at the latest."
    if says:
        yield f"An intent says {', '.join(says)}."
    grants = purpose.rules.grants if isinstance(purpose.rules, RuleTemplates) else ()
    for grant in sorted(grants, key=lambda grant: HOWS.index(grant.how)):
        yield grant_sentence(policy, grant)
    yield "Nothing else is given."


def grant_sentence(policy: Policy, grant: RuleTemplate) -> str:
    """What a grant gives, when, and within what limits."""
    limits = [f"at most {format_value(limit.amount)} {limit.unit} in the whole task" for limit in grant.limits]
    when = HOW_IN_WORDS[grant.how]
    if grant.within is not None:
        when = f"with the consent of {consenting(policy, grant.approvers)}, given within {shown_duration(grant.within)}"
    gives = "; ".join(map(allowed_sentence, grant.allowed))
    return f"{when[0].upper()}{when[1:]}: {', '.join((gives, *limits))}."


def consenting(policy: Policy, approvers: Sequence[str]) -> str:
    """Who may consent: principals, and groups with who is in them."""
    return " or ".join(
        shown(name) if name in policy.principals else f"{shown(name)} ({listed(policy.members(name))})"
        for name in approvers
    )


def allowed_sentence(allowed: OfferTemplate) -> str:
    """`billing.refund at billing where ticket is the intent's ticket`."""
    named = f"{allowed.pattern} at {allowed.audience}"
    if allowed.args is UNSET:
        return named
    if not allowed.args:
        return f"{named} without arguments"
    return f"{named} where {' and '.join(map(named_sentence, allowed.args))}"


def named_sentence(named: Named) -> str:
    """`ticket is the intent's ticket`, and for an argument that takes nothing, what its own class says."""
    if not any(taken(named)):
        return str(filled(named, probing).sentence())
    name = "any other argument" if named.name == "*" else told_name(named.name)
    return f"{name} {_constraint(named.constraint)}"


def format_value(part: Any) -> str:
    """A value as a policy states it, or whose value it is."""
    if isinstance(part, Placeholder):
        return f"the intent's {part.name}"
    if isinstance(part, tuple):
        return ", ".join(map(format_value, part))  # pyright: ignore[reportUnknownArgumentType] # of anything
    return shown(part)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, which none of them can be taken for a part of."""
    *most, last = map(shown, names)
    return f"{', '.join(most)} and {last}" if most else last


def _constraint(made: Made) -> str:
    """What a constraint says, in brackets where it is one of several; its class says it, if it takes nothing."""
    operator, parts = made.operator, made.parts
    if not any(taken(made)):
        sentence = str(filled(made, probing).sentence())
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
"""What a constraint says that takes something, by its operator."""
