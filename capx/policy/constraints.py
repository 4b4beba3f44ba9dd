"""What an argument must be, as a policy writes it: a value, or a table with one operator of the vocabulary.

    deck = "deck-42"    amount = { range = [0.01, 50] }    to = { url = { hosts = ["*.our.example"] } }

Laws: an operator makes what the class of its name would. What is written is made once, with probes for what is taken
from an intent, before any intent exists; what a probe passes, a value that fits may still fail, and is then told by the
same key path. What was put in is not looked into again.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast, get_args

from msgspec import Struct

from capx.policy.constraint_operators import OPERATORS, Within, instead, operand
from capx.policy.placeholders import LITERAL, Placeholder, Take, probing, value
from capx.policy.toml_reader import every, explained, key, name, table, wrong
from capx_caveats import AnyConstraint, Pair, is_label

_DEEPEST: Final = 16
"""Constraints within each other."""


class Made(Struct, frozen=True):
    """A constraint to be made: by which operator, at which key path, of which parts, some of them taken."""

    operator: str
    path: str
    parts: tuple[Any, ...]


class Named(Struct, frozen=True):
    """A name, and the constraint for what it names."""

    name: str
    path: str
    constraint: Made


def filled(part: Any, take: Take) -> Any:
    """A part of a policy, what it takes put in, and every constraint made; Wrong if one cannot be."""
    if isinstance(part, Placeholder):
        return take(part)
    if isinstance(part, tuple):
        return every(filled, ((one, take) for one in part))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] # of anything
    if isinstance(part, Named):
        constraint = filled(part.constraint, take)
        return explained(part.path, lambda: Pair(part.name, constraint))
    if isinstance(part, Made):
        made = filled(part.parts, take)
        return explained(part.path, lambda: _CLASSES[part.operator](*made))
    return part


def arguments(said: object, path: str) -> tuple[Named, ...]:
    """The arguments that a table names, in its order; Wrong if one of the constraints could never be made."""

    def tried(argument: str, held: object) -> Named:
        found = _named(argument, held, path, 0)
        filled(found, probing)
        return found

    return every(tried, table(said, path).items())


def _named(argument: str, said: object, path: str, depth: int) -> Named:
    at = key(path, argument)
    return Named(_argument(argument, at), at, _constraint(said, at, depth))


_argument = name(is_label, "an argument's name: 1 to 128 characters, none of them hidden")


def _constraint(said: object, path: str, depth: int) -> Made:
    if depth > _DEEPEST:
        raise wrong(path, f"is more than {_DEEPEST} constraints within each other")
    if isinstance(said, list):
        raise wrong(
            path, "is an array: write { in = [ … ] } for one of these, or { eq = [ … ] } for an array like this"
        )
    if not isinstance(said, dict):
        return Made("eq", path, (value(said, path, LITERAL),))
    operator, given = _operation(cast("dict[str, object]", said), path)
    within = Within(
        lambda held, at: _constraint(held, at, depth + 1),
        lambda held, at: every(lambda name, one: _named(name, one, at, depth + 1), table(held, at).items()),
    )
    return Made(operator, path, operand(operator, given, key(path, operator), within))


def _operation(said: Mapping[str, object], path: str) -> tuple[str, object]:
    """The one operator of a table, and its operand."""
    if not said:
        raise wrong(path, "has no operator: write { eq = … }, or { anything = true }")
    for operator in said:
        if operator not in OPERATORS:
            raise wrong(key(path, operator), f"is no operator{instead(operator)}")
    if len(said) > 1:
        raise wrong(path, f"has {len(said)} operators, {' and '.join(said)}: write {{ all = [{{ … }}, {{ … }}] }}")
    return next(iter(said.items()))


_CLASSES: Final[Mapping[str, Callable[..., AnyConstraint]]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(AnyConstraint)
}
"""The classes of the vocabulary, by their tags."""
