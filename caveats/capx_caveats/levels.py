"""Looks at a large JSON value level by level: first the value itself, then the values in it, and so on.

A function that calls itself for each value takes a hundred nanoseconds for each. A level is looked at with functions of
the interpreter, which take a tenth of that. So a body of many small values holds up an event loop for less time.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final, NamedTuple

SAFE_INTEGER: Final = 2**53 - 1
"""The largest integer that every JSON implementation agrees on (RFC 8259, section 6)."""
MAX_DEPTH: Final = 64
"""The most levels at which dicts, lists and tuples of one value may nest."""
MANY: Final = 32
"""Above this number of values, to look level by level is faster than value by value."""
_MOST: Final = 2**22
"""The most values that are looked at: a list that stands twice in itself doubles at each level."""
_DICT: Any = dict
_KINDS: Final = frozenset({str, int, float, bool, type(None), dict, list, tuple})


class Level(NamedTuple):
    """The values of one depth by their exact type, and the names of all members of its objects."""

    values: Mapping[type, Sequence[Any]]
    names: Sequence[str]

    @property
    def texts(self) -> str:
        """All texts and names, one after the other."""
        return "".join(chain(self.values.get(str, ()), self.names))

    @property
    def is_json(self) -> bool:
        """Whether each text can be encoded as UTF-8, and each number is safe."""
        try:
            self.texts.encode()
        except UnicodeEncodeError:
            return False
        return self.has_safe_numbers

    @property
    def has_safe_numbers(self) -> bool:
        """Whether each number is finite and within ±(2⁵³ - 1)."""
        floats = self.values.get(float, ())
        numbers = [*self.values.get(int, ()), *floats]
        # NaN is neither more nor less than another number, so each float is looked at.
        return not numbers or (
            all(map(math.isfinite, floats)) and min(numbers) >= -SAFE_INTEGER and max(numbers) <= SAFE_INTEGER
        )


def levels(value: object, depth: int) -> list[Level] | None:
    """Return the levels of a JSON value of exact built-in types, in which containers nest at most so deep.

    None for any other value, and for a very large one: the caller looks at it value by value.
    """
    found: list[Level] = []
    waiting: list[Any] = [value]
    left = _MOST
    while waiting:
        kinds = set(map(type, waiting))
        left -= len(waiting)
        if left < 0 or not kinds <= _KINDS:
            return None
        values: dict[type, Sequence[Any]] = {
            kind: waiting if len(kinds) == 1 else [one for one in waiting if type(one) is kind] for kind in kinds
        }
        objects = values.get(dict, ())
        # One list may stand in another many times: no more is gathered than will be looked at.
        names = [*islice(chain.from_iterable(objects), left + 1)]
        if (len(found) == depth and kinds & {dict, list, tuple}) or not set(map(type, names)) <= {str}:
            return None
        found.append(Level(values, names))
        held: Iterable[Iterable[Any]] = chain(map(_DICT.values, objects), values.get(list, ()), values.get(tuple, ()))
        waiting = [*islice(chain.from_iterable(held), left + 1)]
    return found


def is_json(value: object, depth: int = MAX_DEPTH, *, with_tuples: bool = True) -> bool:
    """Whether a large value is JSON, as `demand_json` demands it; false if only a look at each value can tell.

    A tuple is an array. Unless `with_tuples` is true, a value that holds one is not JSON.
    """
    found = levels(value, depth)
    return found is not None and all(level.is_json and (with_tuples or tuple not in level.values) for level in found)
