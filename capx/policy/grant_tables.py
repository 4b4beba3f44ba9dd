"""Read the tables `[[purpose.NAME.grant]]` of a policy: what a purpose grants, how, and with whose consent.

    how        needed: at_open, on_request, or ask, which needs approvers; it may say within what time they answer,
               for how many uses a consent is good (1 by default, or "task"), and to which arguments it is pinned
               (true, the default: to all; an array of names: to these; or false)
    allow      an array of actions with any arguments, or a table: an action to a table of its arguments
    audience   the audience of the actions; by default the first label of each
    budget     a unit to its limit
    approval   whose approval each call needs: by (principals, groups, or "{intent.principal}"), count, lasts

Laws: a grant without `how` is a mistake. If it had a default, a file that lost that line could give more than was
meant. A policy cannot grant anything at the audience of the authority. An approver must be a principal with a key, or a
group that has such a member. The reader builds what each grant puts into a token once, with probes, before there is any
intent.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final, cast

from msgspec import UNSET, Struct
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
    attempted,
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
    wrong,
)
from capx.tokens.approval_caveat import LASTS, MAX_APPROVERS, MAX_LASTS
from capx.tokens.grants import ApprovalRule
from capx.tokens.lineage import AUTHORITY
from capx_caveats import (
    OTHERS,
    InvalidCaveat,
    amount,
    is_attribute,
    is_audience,
    is_label,
    is_pattern,
    parse_duration,
    shown,
    shown_amount,
    shown_duration,
)

HOUR: Final = 3600
UNTIL_TASK_ENDS: Final = "task"
"""The value of `uses` with which one consent is good until the task ends."""
MOST_USES: Final = 1_000_000
INTENTS_PRINCIPAL: Final = "{intent.principal}"
"""In `by` of an approval, the person who wanted the work: a confirmation, and not a second pair of eyes."""
_OF_ASK: Final = ("approvers", "within", "uses", "pinned")
"""The keys that work only with `how = "ask"`."""
_ADD_HOW: Final = 'add how = "at_open", "on_request" or "ask"'


class FileContext(Struct, frozen=True):
    """The parts of the rest of the file that grants refer to.

    `audiences` is None if the file lists none, or if that list has a mistake. `can_answer` maps each principal and
    group to how many there have a key; it is None if the principals have a mistake.
    """

    audiences: frozenset[str] | None
    can_answer: Mapping[str, int] | None


def can_answer(principals: Iterable[Principal]) -> dict[str, int]:
    """Map every principal and every group to how many of its members have a key."""
    found: dict[str, int] = {}
    for each in principals:
        for called in (each.name, *each.groups):
            found[called] = found.get(called, 0) + (each.key is not None)
    return found


def read_grants(raw: object, path: str, known: FileContext) -> RuleTemplates:
    """Read the grants of a purpose."""
    found = every(lambda one, at: _grant(one, at, known), elements(raw, path, "grants, each as [[purpose.NAME.grant]]"))
    return RuleTemplates(found)


def duration(raw: object, path: str) -> int:
    """Read seconds, written as `90s`, `15m`, `2h` or `1d`."""
    written = text(raw, path)
    seconds = explained(path, lambda: parse_duration(written))
    if seconds == 0:
        raise wrong(path, "is 0: write a longer time, such as 15m")
    return seconds


def _grant(raw: object, path: str, known: FileContext) -> RuleTemplate:
    given = table(raw, path)
    lines: list[str] = []
    # `allow` depends on `audience`, and `approvers` on `how`: read these two first.
    how = attempted(lines, _how, given, key(path, "how"))
    audience = None
    if "audience" in given:
        # Report a wrong audience once, not again for each action at it.
        audience = attempted(lines, _audience(known), given["audience"], key(path, "audience")) or "wrong"
    fields = {
        # These two were read above. Here they only count as known keys.
        "how": Field(lambda _, __: None),
        "audience": Field(lambda _, __: None),
        "allow": Field(lambda one, at: _allow(one, at, audience, known), needed=True),
        "budget": Field(_budget),
        "approval": Field(lambda one, at: _approval(one, at, known)),
        "approvers": Field(lambda one, at: _approvers(one, at, known), needed=how == "ask"),
        "within": Field(duration),
        "uses": Field(_uses),
        "pinned": Field(_pinned),
    }
    found = attempted(lines, members, raw, path, fields)
    if how in {"at_open", "on_request"}:
        lines += [
            f'{key(path, name)}: works only with how = "ask", but this grant is {how}: remove the key, or change how'
            for name in _OF_ASK
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
        uses=found.get("uses", 1) if how == "ask" else None,
        pinned=how == "ask" and found.get("pinned", True),
        approval=found.get("approval"),
    )
    _demand_arguments(grant, key(path, "pinned"))
    return grant.probed()


def _demand_arguments(grant: RuleTemplate, path: str) -> None:
    """Raise Wrong if no action of the grant can have an argument that the grant lists to be pinned."""
    if isinstance(grant.pinned, bool) or any(one.args is UNSET for one in grant.allowed):
        return
    named = {pair.name for one in grant.allowed if one.args is not UNSET for pair in one.args}
    if OTHERS in named:
        return
    for number, argument in enumerate(grant.pinned, 1):
        if argument not in named:
            meant = near(argument, sorted(named))
            raise wrong(f"{path}[{number}]", f"is {shown(argument)}, which is no argument of its actions{meant}")


def _uses(raw: object, path: str) -> int | None:
    """Read for how many calls one consent is good; None if it is good until the task ends."""
    if raw == UNTIL_TASK_ENDS:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int) or not 0 < raw <= MOST_USES:
        raise wrong(path, f'must be a whole number from 1 to {MOST_USES}, or "{UNTIL_TASK_ENDS}"')
    return raw


def _pinned(raw: object, path: str) -> bool | tuple[str, ...]:
    """Read to which arguments a consent is pinned."""
    if isinstance(raw, bool):
        return raw
    if not isinstance(raw, list):
        raise wrong(path, "must be true, false, or an array of names of arguments")
    found = name_list(is_label, "the name of an argument", "names of arguments")(cast("object", raw), path)
    if OTHERS in found:
        raise wrong(path, "has *, which is no argument: write pinned = true to pin all of them")
    return found


def _how(given: Mapping[str, object], path: str) -> How:
    if "how" not in given:
        line = 'add how = "ask"' if any(name in given for name in _OF_ASK) else _ADD_HOW
        raise wrong(path, f"is missing: {line}")
    raw = given["how"]
    for how in HOWS:
        if raw == how:
            return how
    written = text(raw, path)
    raise wrong(path, f"is {shown(written)}, which is unknown{near(written, HOWS)}")


def _audience(known: FileContext) -> Callable[[object, str], str]:
    read = name(is_audience, "an audience: use lower-case letters, digits, dots and dashes")

    def read_known(raw: object, path: str) -> str:
        audience = read(raw, path)
        if audience == AUTHORITY:
            raise wrong(path, f"is {AUTHORITY}, which is reserved: name the audience of a service")
        if known.audiences is not None and audience not in known.audiences:
            raise wrong(path, f"is {audience}, which [audience] does not list{near(audience, known.audiences)}")
        return audience

    return read_known


def _allow(raw: object, path: str, audience: str | None, known: FileContext) -> tuple[OfferTemplate, ...]:
    if isinstance(raw, list):
        listed = elements(cast("object", raw), path, "actions")
        return every(lambda one, at: _action(text(one, at), at, audience, known), listed)
    if not isinstance(raw, dict):
        raise wrong(path, "must be an array of actions, or a table of actions with their arguments")
    if not raw:
        raise wrong(path, "is empty: name an action")

    def one(pattern: str, args: object) -> OfferTemplate:
        at = key(path, pattern)
        if "." not in pattern and _looks_unquoted(args):
            raise wrong(at, f"looks like part of an action: quote names with dots, as in {key(path, f'{pattern}.…')}")
        allowed = _action(pattern, at, audience, known)
        return replace(allowed, args=arguments(args, at))

    return every(one, cast("dict[str, object]", raw).items())


def _looks_unquoted(args: object) -> bool:
    """Whether it was written as `allow.billing.refund = { … }`.

    TOML then sees the action `billing` with an argument `refund`.
    """
    held = cast("dict[str, object]", args).values() if isinstance(args, dict) else ()
    return any(isinstance(one, dict) and OPERATORS.isdisjoint(cast("dict[str, object]", one)) for one in held)


def _action(pattern: str, path: str, audience: str | None, known: FileContext) -> OfferTemplate:
    read = name(is_pattern, "an action: write one such as crm.accounts.read, or crm.* for all that begin with crm.")
    label = read(pattern, path).split(".", 1)[0]
    if audience is not None:
        return OfferTemplate(path, audience, pattern)
    if not is_audience(label):
        raise wrong(path, f"begins with {shown(label)}, which cannot be an audience: add audience = … to this grant")
    return OfferTemplate(path, _audience(known)(label, path), pattern)


def _budget(raw: object, path: str) -> tuple[BudgetTemplate, ...]:
    read = name(is_attribute, "a unit: use a letter, then letters, digits and _, all lower case")

    def one(unit: str, amount: object) -> BudgetTemplate:
        at = key(path, unit)
        spelt = read(unit, at)
        # 0.1 in binary is not 0.1: sums of a budget must be exact.
        if isinstance(amount, float):
            raise wrong(at, f"is a float, which is not exact: write {spelt} = {_exactly(amount)}")
        return BudgetTemplate(spelt, at, value(amount, at, LIMIT))

    given = table(raw, path)
    if not given:
        raise wrong(path, "is empty: name a unit, or remove the key")
    return every(one, given.items())


def _exactly(given: float) -> str:
    try:
        return f'"{shown_amount(amount(str(Decimal(repr(given)))))}"'
    except (InvalidCaveat, ArithmeticError):
        return 'an amount as a string, such as "0.50"'


def _approval(raw: object, path: str, known: FileContext) -> ApprovalRule:
    fields = {"by": Field(_by, needed=True), "count": Field(_count), "lasts": Field(_lasts)}
    found = members(raw, path, fields)
    by, wanted = found["by"], found.get("count", 1)
    names = tuple(name for name in by if name != INTENTS_PRINCIPAL)
    people = _approvers(list(names), key(path, "by"), known) if names else ()
    # Some may be in several groups, or be involved in the work: then opening a task says so.
    able = sum((known.can_answer or {}).get(name, 0) for name in people) + (len(names) < len(by))
    if known.can_answer is not None and wanted > able:
        raise wrong(key(path, "count"), f"is {wanted}, but only {able} there have a key to sign with")
    return ApprovalRule(people, wanted, found.get("lasts", LASTS), len(names) < len(by))


def _by(raw: object, path: str) -> tuple[str, ...]:
    what = f"the name of a principal or a group, or {INTENTS_PRINCIPAL}"
    return name_list(is_label, what, "principals or groups", placeholder=INTENTS_PRINCIPAL)(raw, path)


def _count(raw: object, path: str) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 1 <= raw <= MAX_APPROVERS:
        raise wrong(path, f"must be a whole number from 1 to {MAX_APPROVERS}: how many people must sign")
    return raw


def _lasts(raw: object, path: str) -> int:
    seconds = duration(raw, path)
    if seconds > MAX_LASTS:
        raise wrong(path, f"is longer than {shown_duration(MAX_LASTS)}, the most that an approval lasts")
    return seconds


def _approvers(raw: object, path: str, known: FileContext) -> tuple[str, ...]:
    found = name_list(is_label, "the name of a principal or a group", "principals or groups")(raw, path)

    def one(approver: str, at: str) -> str:
        # The principals have a mistake, which is reported: do not also call their groups unknown.
        if known.can_answer is None:
            return approver
        if approver not in known.can_answer:
            meant = near(approver, sorted(known.can_answer))
            raise wrong(at, f"{shown(approver)} is neither a principal nor a group with members{meant}")
        if not known.can_answer[approver]:
            raise wrong(at, f"is {shown(approver)}, but nobody there has a key to sign with: add one, or name another")
        return approver

    return every(one, ((approver, f"{path}[{number}]") for number, approver in enumerate(found, 1)))
