"""The tables `[[purpose.NAME.grant]]` of a policy: what is granted, how, and with whose consent.

    how        at_open (unless said otherwise), on_request, or ask, which names approvers, and within what time
    allow      an array of actions, whose arguments are free, or a table: an action to a table of its arguments
    audience   where, unless it is the first label of each action
    budget     a unit to how much of it

Laws: nothing is granted at the audience of the authority. An approver that nobody can be is refused. What a grant would
put into a token is made once, with probes, before any intent exists.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final, cast

from msgspec import Struct
from msgspec.structs import replace

from capx.policy.constraint_operators import OPERATORS
from capx.policy.constraints import arguments
from capx.policy.placeholders import LIMIT, value
from capx.policy.policy import Principal
from capx.policy.rule_templates import BudgetTemplate, OfferTemplate, RuleTemplate, RuleTemplates
from capx.policy.terms import HOWS, How
from capx.policy.toml_reader import (
    Field,
    Wrong,
    elements,
    every,
    explained,
    key,
    members,
    name,
    name_list,
    near,
    table,
    text,
    tried,
    wrong,
)
from capx.tokens.lineage import AUTHORITY
from capx_caveats import (
    InvalidCaveat,
    amount,
    is_attribute,
    is_audience,
    is_label,
    is_pattern,
    parse_duration,
    shown,
    shown_amount,
)

HOUR: Final = 3600


class Known(Struct, frozen=True):
    """What else stands in the file: audiences, and who can answer; None for what is not listed, or wrong itself."""

    audiences: frozenset[str] | None
    answering: Mapping[str, bool] | None


def answering(principals: Iterable[Principal]) -> dict[str, bool]:
    """Every principal and group there is, and whether somebody of it has a key."""
    found: dict[str, bool] = {}
    for each in principals:
        for called in (each.name, *each.groups):
            found[called] = found.get(called, False) or each.key is not None
    return found


def read_grants(said: object, path: str, known: Known) -> RuleTemplates:
    """The grants of a purpose."""
    found = every(
        lambda one, at: _grant(one, at, known), elements(said, path, "grants, each as [[purpose.NAME.grant]]")
    )
    return RuleTemplates(found)


def duration(said: object, path: str) -> int:
    """Seconds, as `90s`, `15m`, `2h` or `1d`."""
    written = text(said, path)
    seconds = explained(path, lambda: parse_duration(written))
    if seconds == 0:
        raise wrong(path, "is no time at all")
    return seconds


def _grant(said: object, path: str, known: Known) -> RuleTemplate:
    given = table(said, path)
    lines: list[str] = []
    # The audience stands beside what is at it, and who answers beside how: these are read first.
    how = tried(lines, _how, given.get("how", "at_open"), key(path, "how"))
    audience = None
    if "audience" in given:
        # One that is wrong is told once, and not at each action that would have been there.
        audience = tried(lines, _audience(known), given["audience"], key(path, "audience")) or "wrong"
    fields = {
        "how": Field(lambda _, __: None),
        "audience": Field(lambda _, __: None),
        "allow": Field(lambda one, at: _allow(one, at, audience, known), needed=True),
        "budget": Field(_budget),
        "approvers": Field(lambda one, at: _approvers(one, at, known), needed=how == "ask"),
        "within": Field(duration),
    }
    found = tried(lines, members, said, path, fields)
    if how in {"at_open", "on_request"}:
        lines += [
            f'{key(path, name)}: is for how = "ask" alone, and this is {how}'
            for name in ("approvers", "within")
            if name in given
        ]
    if lines or how is None or found is None:
        raise Wrong(*lines)
    grant = RuleTemplate(
        place=path,
        how=how,
        allowed=found["allow"],
        limits=found.get("budget", ()),
        approvers=found.get("approvers", ()),
        within=found.get("within", HOUR) if how == "ask" else None,
    )
    return grant.probed()


def _how(said: object, path: str) -> How:
    for how in HOWS:
        if said == how:
            return how
    written = text(said, path)
    raise wrong(path, f"is {shown(written)}{near(written, HOWS)}")


def _audience(known: Known) -> Callable[[object, str], str]:
    read = name(is_audience, "an audience: lower-case letters, digits, dots and dashes")

    def read_known(said: object, path: str) -> str:
        audience = read(said, path)
        if audience == AUTHORITY:
            raise wrong(path, f"is {AUTHORITY}, which is reserved: nothing is granted at it")
        if known.audiences is not None and audience not in known.audiences:
            raise wrong(path, f"is {audience}, which [audience] does not list{near(audience, known.audiences)}")
        return audience

    return read_known


def _allow(said: object, path: str, audience: str | None, known: Known) -> tuple[OfferTemplate, ...]:
    if isinstance(said, list):
        return every(
            lambda one, at: _action(text(one, at), at, audience, known),
            elements(cast("object", said), path, "actions"),
        )
    if not isinstance(said, dict):
        raise wrong(path, "is no array of actions, and no table of actions with their arguments")
    if not said:
        raise wrong(path, "is empty: name an action")

    def one(pattern: str, args: object) -> OfferTemplate:
        at = key(path, pattern)
        if "." not in pattern and _looks_unquoted(args):
            raise wrong(
                at, f"has arguments that are none: a name with dots is quoted, as in {key(path, f'{pattern}.…')}"
            )
        allowed = _action(pattern, at, audience, known)
        return replace(allowed, args=arguments(args, at))

    return every(one, cast("dict[str, object]", said).items())


def _looks_unquoted(args: object) -> bool:
    """Whether it was written as `allow.billing.refund = { … }`: `billing` is then the action, `refund` an argument."""
    held = cast("dict[str, object]", args).values() if isinstance(args, dict) else ()
    return any(isinstance(one, dict) and OPERATORS.isdisjoint(cast("dict[str, object]", one)) for one in held)


def _action(pattern: str, path: str, audience: str | None, known: Known) -> OfferTemplate:
    read = name(is_pattern, "an action, such as crm.accounts.read, or crm.* for all below")
    label = read(pattern, path).split(".", 1)[0]
    if audience is not None:
        return OfferTemplate(path, audience, pattern)
    if not is_audience(label):
        raise wrong(path, f"names no audience by its first label, {shown(label)}: say audience = … beside allow")
    return OfferTemplate(path, _audience(known)(label, path), pattern)


def _budget(said: object, path: str) -> tuple[BudgetTemplate, ...]:
    read = name(is_attribute, "a unit: a letter, then letters, digits and _, all lower case")

    def one(unit: str, amount: object) -> BudgetTemplate:
        at = key(path, unit)
        spelt = read(unit, at)
        if isinstance(amount, float):
            raise wrong(at, f"is a float, which is not exact: write {spelt} = {_exactly(amount)}")
        return BudgetTemplate(spelt, at, value(amount, at, LIMIT))

    given = table(said, path)
    if not given:
        raise wrong(path, "is empty: name a unit, or leave it out")
    return every(one, given.items())


def _exactly(given: float) -> str:
    try:
        return f'"{shown_amount(amount(str(Decimal(repr(given)))))}"'
    except (InvalidCaveat, ArithmeticError):
        return 'an amount as text, such as "0.50"'


def _approvers(said: object, path: str, known: Known) -> tuple[str, ...]:
    found = name_list(is_label, "the name of a principal or a group", "principals or groups")(said, path)

    def one(approver: str, at: str) -> str:
        if known.answering is None:
            return approver
        if approver not in known.answering:
            meant = near(approver, sorted(known.answering))
            raise wrong(at, f"{shown(approver)} is neither a principal nor a group that anybody is in{meant}")
        if not known.answering[approver]:
            raise wrong(at, f"is {shown(approver)}, of whom nobody has a key, which an answer is signed with")
        return approver

    return every(one, ((approver, f"{path}[{number}]") for number, approver in enumerate(found, 1)))
