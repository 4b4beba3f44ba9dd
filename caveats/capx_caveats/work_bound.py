"""The bound on the work of judging one call by all caveats of a token together.

Each constraint says its work: to judge one value, for each value within it, and for each character within it. The work
of a call is the sum over all caveats that judge something of it.

Laws:

- A holder of a token can append caveats, and a caller chooses the arguments. Other modules bound each of the two. This
  module bounds the work of both together.
- It is a sum, computed before anything is judged: a caveat that is appended can only add to it. A denial may judge
  everything once more, to say why something could not be judged.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from msgspec import UNSET, json

from capx_caveats.call import Call
from capx_caveats.caveat import Caveat
from capx_caveats.caveats import Allow, Where
from capx_caveats.constraint import Constraint, is_own
from capx_caveats.levels import MAX_DEPTH, levels
from capx_caveats.names import OTHERS
from capx_caveats.values import JSON

MAX_CALL_WORK = 2**23
"""The most work for one call. One unit is 3 to 6 ns: what RE2 needs, at worst, for one character and instruction."""
SMALL_TOKEN = 4096
"""The most bytes that the blocks of a small token have together."""
SMALL_CALL = 128
"""A call of at most so many bytes of JSON is always judged if its token is small (SMALL_TOKEN)."""


class Work(NamedTuple):
    """The work of caveats: once for a call, for each value of it, and for each character of it."""

    once: int
    each: int
    character: int


def most_work(caveats: Iterable[Caveat]) -> Work:
    """Return the most work that these caveats can be."""
    once = each = character = 0
    for place, asked in _questions(caveats):
        once += asked.work_once
        each += asked.work_each + (asked.work_once if place == _EVERY else 0)
        character += asked.work_character
    return Work(once, each, character)


def is_too_much(
    call: Call, block_bytes: int, most: Callable[[], Work], caveats: Callable[[], Iterable[Caveat]]
) -> bool:
    """Whether it is too much work to judge this call by these caveats, whose blocks have so many bytes together.

    `most` is their `most_work`. It and `caveats` are called only if the call could be too large: nearly every call is
    small.
    """
    written = len(json.encode((dict(call.args), dict(call.defaults), dict(call.attributes))))
    if written <= SMALL_CALL and block_bytes <= SMALL_TOKEN:
        return False
    # Each value takes two bytes or more, and each character one or more.
    once, each, character = most()
    if once + each * written // 2 + character * written <= MAX_CALL_WORK:
        return False
    return _exact(call, caveats()) > MAX_CALL_WORK


def _exact(call: Call, caveats: Iterable[Caveat]) -> int:
    # Summed up by place first, so that a large argument into which nothing looks is not looked at here either.
    totals: dict[str, Work] = {}
    for place, asked in _questions(caveats, call.action):
        once, each, character = totals.get(place, _NONE)
        totals[place] = Work(once + asked.work_once, each + asked.work_each, character + asked.work_character)
    return sum(_at(place, asked, call) for place, asked in totals.items())


def _at(place: str, asked: Work, call: Call) -> int:
    """The work of what is asked about the value at a place, or about each argument."""
    if place == _EVERY:
        found = [*call.arguments.values()]
        once = asked.once * len(found)
    else:
        name = place.removeprefix("args.")
        stated = call.attributes if name == place else call.arguments
        found = [stated[name]] if name in stated else []
        once = asked.once
    if not (asked.each or asked.character):
        return once
    size = _size(found)
    return once + asked.each * size.values + asked.character * size.characters


_EVERY = f"args.{OTHERS}"
"""The place of a question about each argument."""
_NONE = Work(0, 0, 0)
_OWN = Constraint()
"""A service's own caveat may look at every argument, and works as a plain constraint does."""


class _Look(Constraint, frozen=True):
    """Stands for finding out that an argument has a name; it judges nothing."""

    work_once = 16


_LOOK = _Look()


def _questions(caveats: Iterable[Caveat], action: str | None = None) -> Iterator[tuple[str, Constraint]]:
    """Yield what caveats ask about a call of this action, or of any: the place of the value, and the constraint."""
    for caveat in caveats:
        if isinstance(caveat, Where):
            yield caveat.attribute, caveat.constraint
        elif isinstance(caveat, Allow):
            for entry in caveat.entries:
                if entry.args is not UNSET and (action is None or entry.matches(action)):
                    for pair in entry.args:
                        yield f"args.{pair.name}", pair.constraint
                    # An argument that no pair names is looked at, too.
                    yield _EVERY, _LOOK
        elif is_own(type(caveat)):
            yield _EVERY, _OWN


class _Size(NamedTuple):
    values: int
    characters: int


_TOO_LARGE = _Size(MAX_CALL_WORK, MAX_CALL_WORK)
"""The size of what holds too many values to be counted: it is too much work, whatever looks into it."""


def _size(judged: list[JSON]) -> _Size:
    """Return the number of these values and of all within them, and of the characters of all texts and names."""
    # One level more than a call may have, for the list around them.
    found = levels(judged, MAX_DEPTH + 1)
    if found is None:
        return _TOO_LARGE
    values = sum(len(held) for level in found for held in level.values.values())
    return _Size(values - 1, sum(len(level.texts) for level in found))
