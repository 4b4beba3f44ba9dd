"""The bound on the work of judging one call by all caveats of a token together.

Each constraint has three costs: to judge one value (`once`), for each value within it (`each`), and for each character
within it (`weight`). The cost of a call is the sum over all caveats that judge something of it.

Laws:

- A holder of a token can append caveats, and a caller chooses the arguments. Other modules bound each of the two. This
  module bounds what they cost together.
- It is a sum, computed before anything is judged: a caveat that is appended can only add to it.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from msgspec import UNSET, json

from capx_caveats.call import Call
from capx_caveats.caveat import Caveat
from capx_caveats.caveats import Allow, Where
from capx_caveats.constraint import Constraint, is_own
from capx_caveats.levels import MAX_DEPTH, levels
from capx_caveats.values import JSON

MAX_COST = 2**23
"""The highest cost of a call. One unit is 3 to 6 ns: what RE2 needs, at worst, for one character and instruction."""
SMALL_TOKEN = 4096
"""The most bytes that the blocks of a small token have together."""
SMALL_CALL = 128
"""A call of at most so many bytes of JSON is always judged if its token is small (SMALL_TOKEN)."""


class Cost(NamedTuple):
    """What caveats cost: for a call, for each value of it, and for each character of it."""

    once: int
    each: int
    weight: int


def cost(caveats: Iterable[Caveat]) -> Cost:
    """Return the most that these caveats can cost."""
    once = each = weight = 0
    for caveat in caveats:
        for place, asked in _questions(caveat):
            once += asked.once
            each += asked.each + (asked.once if place == _EVERY else 0)
            weight += asked.weight
    return Cost(once, each, weight)


def is_too_much(call: Call, size: int, most: Callable[[], Cost], caveats: Callable[[], Iterable[Caveat]]) -> bool:
    """Whether it costs too much to judge this call by these caveats, whose blocks have so many bytes together.

    `most` is their `cost`. It and `caveats` are called only if the call could be too large: nearly every call is small.
    """
    written = len(json.encode((dict(call.args), dict(call.defaults), dict(call.attributes))))
    if written <= SMALL_CALL and size <= SMALL_TOKEN:
        return False
    # Each value takes two bytes or more, and each character one or more.
    once, each, weight = most()
    if once + each * written // 2 + weight * written <= MAX_COST:
        return False
    return _exact(call, caveats()) > MAX_COST


def _exact(call: Call, caveats: Iterable[Caveat]) -> int:
    # Summed up by place first, so that a large argument into which nothing looks is not looked at here either.
    totals: dict[str, Cost] = {}
    for caveat in caveats:
        for place, asked in _questions(caveat, call.action):
            once, each, weight = totals.get(place, _FREE)
            totals[place] = Cost(once + asked.once, each + asked.each, weight + asked.weight)
    return sum(_at(place, asked, call) for place, asked in totals.items())


def _at(place: str, asked: Cost, call: Call) -> int:
    """The cost of what is asked about the value at a place, or about each argument."""
    if place == _EVERY:
        found = [*call.arguments.values()]
        once = asked.once * len(found)
    else:
        name = place.removeprefix("args.")
        stated = call.attributes if name == place else call.arguments
        found = [stated[name]] if name in stated else []
        once = asked.once
    if not (asked.each or asked.weight):
        return once
    size = _size(found)
    return once + asked.each * size.values + asked.weight * size.characters


_EVERY = "args.*"
"""The place of a question about each argument."""
_FREE = Cost(0, 0, 0)
_LOOK = Cost(16, 0, 0)
"""The cost of finding out that an argument has a name."""
_OWN = Cost(Constraint.once, 0, 0)
"""A service's own caveat may look at every argument."""


def _questions(caveat: Caveat, action: str | None = None) -> Iterator[tuple[str, Cost | Constraint]]:
    """Yield what a caveat asks about a call of this action, or of any: the place of the value, and the costs."""
    if isinstance(caveat, Where):
        yield caveat.attribute, caveat.constraint
    elif isinstance(caveat, Allow):
        for entry in caveat.entries:
            if entry.args is not UNSET and (action is None or entry.matches(action)):
                yield from ((f"args.{pair.name}", pair.constraint) for pair in entry.args)
                # An argument that no pair names is looked at, too.
                yield _EVERY, _LOOK
    elif is_own(type(caveat)):
        yield _EVERY, _OWN


class _Size(NamedTuple):
    values: int
    characters: int


_TOO_LARGE = _Size(MAX_COST, MAX_COST)
"""The size of what holds too many values to be counted: it costs too much, whatever looks into it."""


def _size(judged: list[JSON]) -> _Size:
    """Return the number of these values and of all within them, and of the characters of all texts and names."""
    # One level more than a call may have, for the list around them.
    found = levels(judged, MAX_DEPTH + 1)
    if found is None:
        return _TOO_LARGE
    values = sum(len(held) for level in found for held in level.values.values())
    return _Size(values - 1, sum(len(level.texts) for level in found))
