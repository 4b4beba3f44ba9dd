"""Read what an argument must be: a value, or a table with one operator of the vocabulary.

    deck = "deck-42"    amount = { range = [0.01, 50] }    to = { url = { hosts = ["*.our.example"] } }

Laws: an operator makes the constraint class of the same name. The reader builds each constraint once, with probes in
place of values of an intent, before there is any intent. A value of an intent can still fail where its probe passed:
that error has the same key path. A value that was put in is never searched for placeholders.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast, get_args

from msgspec import Struct

from capx.policy.constraint_operators import OPERATORS, NestedReaders, hint, operand
from capx.policy.placeholders import LITERAL, Placeholder, ValueSource, probe_of, value
from capx.policy.toml_reader import every, explained, key, name, table, wrong
from capx_caveats import AnyConstraint, Pair, is_label

_MAX_DEPTH: Final = 16
"""The most levels of constraints inside each other."""


class ConstraintTemplate(Struct, frozen=True):
    """A constraint whose parts may hold placeholders: its operator, its key path and its parts."""

    operator: str
    path: str
    parts: tuple[Any, ...]


class PairTemplate(Struct, frozen=True):
    """The name of an argument or field, and the template of its constraint."""

    name: str
    path: str
    constraint: ConstraintTemplate


def instantiated(part: Any, source: ValueSource) -> Any:
    """Put the values of `source` into a part of a policy, and build its constraints.

    Raise Wrong if a value does not fit or a constraint cannot be built.
    """
    if isinstance(part, Placeholder):
        return source(part)
    if isinstance(part, tuple):
        return every(instantiated, ((one, source) for one in part))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] # of anything
    if isinstance(part, PairTemplate):
        constraint = instantiated(part.constraint, source)
        return explained(part.path, lambda: Pair(part.name, constraint))
    if isinstance(part, ConstraintTemplate):
        made = instantiated(part.parts, source)
        return explained(part.path, lambda: _CLASSES[part.operator](*made))
    return part


def arguments(raw: object, path: str) -> tuple[PairTemplate, ...]:
    """Read a table of arguments, in its order; raise Wrong if a constraint could not be built with any value."""

    def checked(argument: str, given: object) -> PairTemplate:
        found = _named(argument, given, path, 0)
        # The result is thrown away: this only proves that the constraint can be built.
        instantiated(found, probe_of)
        return found

    return every(checked, table(raw, path).items())


def _named(argument: str, raw: object, path: str, depth: int) -> PairTemplate:
    at = key(path, argument)
    return PairTemplate(_argument(argument, at), at, _constraint(raw, at, depth))


_argument = name(is_label, "an argument's name: use 1 to 128 characters, none of them hidden")


def _constraint(raw: object, path: str, depth: int) -> ConstraintTemplate:
    # A bound of its own, because reading recurses and Python would stop it with a RecursionError.
    if depth > _MAX_DEPTH:
        raise wrong(path, f"has more than {_MAX_DEPTH} constraints inside each other: use fewer levels")
    if isinstance(raw, list):
        raise wrong(path, "is an array: write { in = [ … ] } for any of these, or { eq = [ … ] } for this very array")
    if not isinstance(raw, dict):
        return ConstraintTemplate("eq", path, (value(raw, path, LITERAL),))
    operator, given = _operation(cast("dict[str, object]", raw), path)
    within = NestedReaders(
        lambda held, at: _constraint(held, at, depth + 1),
        lambda held, at: every(lambda name, one: _named(name, one, at, depth + 1), table(held, at).items()),
    )
    return ConstraintTemplate(operator, path, operand(operator, given, key(path, operator), within))


def _operation(raw: Mapping[str, object], path: str) -> tuple[str, object]:
    """Return the only operator of a table, and its operand."""
    if not raw:
        raise wrong(path, "has no operator: write { eq = … }, or { anything = true }")
    # Unknown names first: with a misspelt operator, the advice to use `all` would mislead.
    for operator in raw:
        if operator not in OPERATORS:
            raise wrong(key(path, operator), f"unknown operator{hint(operator)}")
    if len(raw) > 1:
        several = " and ".join(raw)
        raise wrong(path, f"has {len(raw)} operators, {several}: a constraint has one, such as {{ all = [{{ … }}] }}")
    return next(iter(raw.items()))


_CLASSES: Final[Mapping[str, Callable[..., AnyConstraint]]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(AnyConstraint)
}
"""The constraint classes of the vocabulary, by their tags."""
