"""Constraints on a value as it is: what it equals, how large it is, what it contains, whether it is present.

Law: values are compared by type. If the types differ, the answer is neither yes nor no: the value cannot be judged.
"""

from collections.abc import Mapping
from typing import Final

from capx_caveats.constraint import MAX_VALUES, Constraint, Judgement, every, some, too_much
from capx_caveats.errors import InvalidCaveat
from capx_caveats.shown_values import listed, shown
from capx_caveats.values import MISSING, Literal, Literals, Natural, Number, Value, as_array, same

_COMPARISON = 32
"""The work of comparing two values, in the units of `Constraint.work_once`."""
_OF_ARRAYS: Final[Mapping[type, str]] = {list: "has too many elements, or some of another type"}
MAX_COMPARISONS = 64 * MAX_VALUES
"""The most comparisons (elements times literals) that `contains` makes."""


class Eq(Constraint, frozen=True, tag="eq"):
    """The value equals the literal and has its type; a value of another type cannot be judged."""

    literal: Literal

    @property
    def work_once(self) -> int:  # type: ignore[override] # each element of an array is compared
        return Constraint.work_once + _COMPARISON * _elements(self.literal)

    @property
    def obstacles(self) -> Mapping[type, str]:  # type: ignore[override] # of arrays, if a literal is one
        return _OF_ARRAYS if isinstance(self.literal, tuple) else {}

    def judge(self, value: Value) -> Judgement:
        return same(value, self.literal)

    def sentence(self) -> str:
        return f"is {shown(self.literal)}"


class In(Constraint, frozen=True, tag="in"):
    """The value equals one of the literals; a value cannot be judged if no literal has its type."""

    literals: Literals

    @property
    def work_once(self) -> int:  # type: ignore[override] # each literal is compared, and each element of an array
        return Constraint.work_once + _COMPARISON * (len(self.literals) + sum(map(_elements, self.literals)))

    @property
    def obstacles(self) -> Mapping[type, str]:  # type: ignore[override] # of arrays, if a literal is one
        return _OF_ARRAYS if any(isinstance(one, tuple) for one in self.literals) else {}

    def judge(self, value: Value) -> Judgement:
        judgement: Judgement = None
        for literal in self.literals:
            equal = same(value, literal)
            if equal:
                return True
            if equal is False:
                judgement = False
        return judgement

    def sentence(self) -> str:
        return f"is one of {listed(self.literals)}"


class Range(Constraint, frozen=True, tag="range"):
    """The number is from lo to hi, both included; None leaves one end open. Any other type cannot be judged."""

    lo: Number | None
    hi: Number | None

    def __post_init__(self) -> None:
        _demand_ends("number", self.lo, self.hi)

    def judge(self, value: Value) -> Judgement:
        # By exact type: `True` is an int in Python, and not a number in JSON.
        kind = type(value)
        if kind is not int and kind is not float:
            return None
        return (self.lo is None or self.lo <= value) and (self.hi is None or value <= self.hi)  # type: ignore[operator] # a number

    def sentence(self) -> str:
        if self.lo is None:
            return f"is at most {self.hi}"
        if self.hi is None:
            return f"is at least {self.lo}"
        return f"is between {self.lo} and {self.hi}"


class Contains(Constraint, frozen=True, tag="contains"):
    """The array contains all of these literals; a value that is not an array cannot be judged.

    If a literal is not found, and any element has another type than it, the array cannot be judged. Nor can an array
    that holds more than 1024 values, at all depths, or that needs more than 65,536 comparisons.
    """

    obstacles = _OF_ARRAYS
    literals: Literals

    @property
    def work_each(self) -> int:  # type: ignore[override] # each value within is compared with each literal, or with an element of it
        return _COMPARISON * (1 + len(self.literals))

    def judge(self, value: Value) -> Judgement:
        elements = as_array(value)
        if elements is None or too_much(elements) or len(elements) * len(self.literals) > MAX_COMPARISONS:
            return None
        return every(some(same(element, literal) for element in elements) for literal in self.literals)

    def sentence(self) -> str:
        return f"contains {listed(self.literals, ' and ')}"


class Length(Constraint, frozen=True, tag="length"):
    """A text of lo to hi code points, or an array of lo to hi elements; None leaves one end open."""

    lo: Natural | None
    hi: Natural | None

    def __post_init__(self) -> None:
        _demand_ends("length", self.lo, self.hi)

    def judge(self, value: Value) -> Judgement:
        held = value if isinstance(value, str) else as_array(value)
        if held is None:
            return None
        return (self.lo is None or self.lo <= len(held)) and (self.hi is None or len(held) <= self.hi)

    def sentence(self) -> str:
        if self.lo == self.hi:
            return f"has a length of {self.lo}"
        if self.lo is None:
            return f"has a length of at most {self.hi}"
        if self.hi is None:
            return f"has a length of at least {self.lo}"
        return f"has a length from {self.lo} to {self.hi}"


class Absent(Constraint, frozen=True, tag="absent"):
    """The value is missing. No other constraint can judge a missing value by itself."""

    about_absence = True

    def judge(self, value: Value) -> Judgement:
        return value is MISSING

    def sentence(self) -> str:
        return "is absent"


class Anything(Constraint, frozen=True, tag="anything"):
    """The value is present, whatever it is."""

    def judge(self, value: Value) -> Judgement:
        return None if value is MISSING else True

    def sentence(self) -> str:
        return "is there"


def _elements(literal: Literal) -> int:
    return len(literal) if isinstance(literal, tuple) else 0


def _demand_ends(what: str, lo: float | None, hi: float | None) -> None:
    if lo is None or hi is None:
        if lo is hi:
            raise InvalidCaveat(f"give at least one end: without one, every {what} is allowed")
    elif lo > hi:
        raise InvalidCaveat(f"no {what} is between {lo} and {hi}: give the smaller end first")
