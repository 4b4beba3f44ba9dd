"""How much judging a token may ask for: what bounds the product of its restrictions and a call's values.

Law: whoever holds a token can append restrictions, and whoever calls chooses the arguments. Each is bounded by itself;
what one asks about each value of the other is bounded here, over the whole token.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from msgspec import UNSET

from capx_caveats.caveat import Caveat
from capx_caveats.caveats import Entry
from capx_caveats.constraint import Wire
from capx_caveats.constraints import Each, Fields, Pair
from capx_caveats.value_constraints import Contains
from capx_caveats.values import JSON

MAX_JUDGEMENTS = 2**18
"""Values of a call times what a token asks about each of them."""
FEW = 16
"""Values of a call that any token may ask about."""


def asked_of_each(caveats: Sequence[Caveat]) -> int:
    """How many questions these caveats ask about each element of an array, or each argument that has no name."""
    return sum(_cost(caveat, False) for caveat in caveats)


def is_too_much(args: Mapping[str, JSON], asked: Callable[[], int]) -> bool:
    """Whether these arguments hold too many values for a token that asks so much about each of them.

    What it asks is worked out only for a call that holds more than a few.
    """
    held = _held_values(args)
    return held > FEW and held * asked() > MAX_JUDGEMENTS


def _held_values(args: Mapping[str, JSON]) -> int:
    held = len(args)
    waiting: list[Any] = [value for value in args.values() if type(value) in _HOLDING]
    while waiting:
        found = waiting.pop()
        elements: list[Any] = list(found.values() if isinstance(found, dict) else found)  # pyright: ignore[reportUnknownArgumentType] # of anything
        held += len(elements)
        waiting += [element for element in elements if type(element) in _HOLDING]
    return held


_HOLDING = frozenset({list, tuple, dict})


def _cost(held: object, of_each: bool) -> int:
    if isinstance(held, tuple):
        return sum(_cost(element, of_each) for element in cast("tuple[object, ...]", held))
    if not isinstance(held, Wire):
        return int(of_each)
    if isinstance(held, Each | Contains | Fields) or (isinstance(held, Pair) and held.name == "*"):
        of_each = True
    closed = isinstance(held, Entry) and held.args is not UNSET
    return (of_each or closed) + sum(_cost(getattr(held, field), of_each) for field in held.__struct_fields__)
