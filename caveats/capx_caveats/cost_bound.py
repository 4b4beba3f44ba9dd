"""The bound on the work of judging one call: the restrictions of a token times the values of the call.

Law: a holder of a token can append restrictions, and a caller chooses the arguments. Other modules bound each of the
two. This module bounds their product, over the whole token.
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
"""The highest product: values of a call times the questions that a token asks about each of them."""
FEW = 16
"""A call with at most so many values is always judged: even the largest token is cheap for so few."""


def asked_of_each(caveats: Sequence[Caveat]) -> int:
    """Return how many questions these caveats ask about each element of an array or each argument without a name."""
    return sum(_cost(caveat, False) for caveat in caveats)


def is_too_much(args: Mapping[str, JSON], asked: Callable[[], int]) -> bool:
    """Whether these arguments hold too many values for a token that asks so many questions about each of them.

    `asked` is called only if the call holds more than 16 values: most calls hold fewer, and counting costs time.
    """
    held = _held_values(args)
    return held > FEW and held * asked() > MAX_JUDGEMENTS


def _held_values(args: Mapping[str, JSON]) -> int:
    # A loop, not recursion: the caller chooses how deep the values nest.
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
    # An entry with pairs looks at each argument, also at those that no pair names.
    closed = isinstance(held, Entry) and held.args is not UNSET
    return (of_each or closed) + sum(_cost(getattr(held, field), of_each) for field in held.__struct_fields__)
