"""The constraints of the vocabulary, one class each.

To add one: write its class here and name it in `AnyConstraint`, at the end.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from capx_caveats.constraint import Constraint, Natural, Verdict, Wire
from capx_caveats.errors import InvalidCaveat
from capx_caveats.names import demand, is_label
from capx_caveats.values import (
    JSON,
    MISSING,
    SAFE_INTEGER,
    Literal,
    Value,
    demand_literal,
    demand_not_empty,
    demand_number,
    holds_more,
    same,
    shown,
)

MAX_VALUES = 1024
"""Values in an array, at all depths, that `each` still judges: a token can ask for many judgements of one argument."""
MAX_PATH = 4096
"""Characters of a path that is still judged."""


class Eq(Constraint, frozen=True, tag="eq"):
    """The value equals the literal, by type; another type cannot be judged."""

    literal: Literal

    def __post_init__(self) -> None:
        demand_literal(self.literal)

    def judge(self, value: Value) -> Verdict:
        return same(value, self.literal)

    def sentence(self) -> str:
        return f"is {shown(self.literal)}"


class In(Constraint, frozen=True, tag="in"):
    """The value equals one of the literals; a type that none of them has cannot be judged."""

    literals: tuple[Literal, ...]

    def __post_init__(self) -> None:
        demand_not_empty(self.literals)
        for literal in self.literals:
            demand_literal(literal)

    def judge(self, value: Value) -> Verdict:
        verdict: Verdict = None
        for literal in self.literals:
            equal = same(value, literal)
            if equal:
                return True
            if equal is False:
                verdict = False
        return verdict

    def sentence(self) -> str:
        return "is one of " + ", ".join(map(shown, self.literals))


class Range(Constraint, frozen=True, tag="range"):
    """lo ≤ value ≤ hi, where None leaves one end open; what is no number cannot be judged."""

    lo: int | float | None
    hi: int | float | None

    def __post_init__(self) -> None:
        for end in (self.lo, self.hi):
            if end is not None:
                demand_number(end)
        if self.lo is None and self.hi is None:
            raise InvalidCaveat("a range needs one end at least")
        if self.lo is not None and self.hi is not None and self.lo > self.hi:
            raise InvalidCaveat(f"no number lies between {self.lo} and {self.hi}")

    def judge(self, value: Value) -> Verdict:
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


class Prefix(Constraint, frozen=True, tag="prefix"):
    """The text begins with this text."""

    text: str

    def __post_init__(self) -> None:
        demand_not_empty(self.text)

    def judge(self, value: Value) -> Verdict:
        return value.startswith(self.text) if isinstance(value, str) else None

    def sentence(self) -> str:
        return f"begins with {shown(self.text)}"


def _segments(path: str) -> list[str] | None:
    """The segments of an absolute path in its one canonical spelling; None for any other text."""
    if len(path) > MAX_PATH:
        return None
    if path == "/":
        return []
    if not path.startswith("/") or any(character in path for character in "%\\\0"):
        return None
    segments = path[1:].split("/")
    return None if any(segment in {"", ".", ".."} for segment in segments) else segments


class Path(Constraint, frozen=True, tag="path"):
    """The path is the root or lies below it, by whole segments; a path in no canonical spelling cannot be judged."""

    root: str

    def __post_init__(self) -> None:
        if _segments(self.root) is None:
            raise InvalidCaveat(f"{self.root!r:.80} is not an absolute path in canonical spelling")

    def judge(self, value: Value) -> Verdict:
        if not isinstance(value, str) or (segments := _segments(value)) is None:
            return None
        root = _segments(self.root) or []
        return segments[: len(root)] == root

    def sentence(self) -> str:
        return f"is within {shown(self.root)}"


class Each(Constraint, frozen=True, tag="each"):
    """Every element says yes, and there are at least `min` of them.

    An array that holds more than 1024 values, at all depths, cannot be judged.
    """

    constraint: "AnyConstraint"
    min: Natural = 1

    def __post_init__(self) -> None:
        if not 0 <= self.min <= SAFE_INTEGER:
            raise InvalidCaveat("an array has from 0 to 2^53 - 1 elements")
        demand_presence(self.constraint, "an element is always there")

    def judge(self, value: Value) -> Verdict:
        if type(value) is not list and type(value) is not tuple:
            return None
        elements = cast("Sequence[JSON]", value)
        if holds_more(elements, MAX_VALUES):
            return None
        verdict = _all(self.constraint.judge(element) for element in elements)
        return len(elements) >= self.min if verdict else verdict

    def sentence(self) -> str:
        return f"has {self.min} or more elements, each of which {self.constraint.sentence()}"


class _Several(Constraint, frozen=True):
    constraints: tuple["AnyConstraint", ...]

    def __post_init__(self) -> None:
        demand_not_empty(self.constraints)

    @property
    def about_absence(self) -> bool:  # type: ignore[override] # derived from the parts
        return any(part.about_absence for part in self.constraints)


class AnyOf(_Several, frozen=True, tag="any"):
    """Kleene's or."""

    def judge(self, value: Value) -> Verdict:
        verdict: Verdict = False
        for part in self.constraints:
            said = part.judge(value)
            if said:
                return True
            if said is None:
                verdict = None
        return verdict

    def sentence(self) -> str:
        return " or ".join(part.sentence() for part in self.constraints)


class AllOf(_Several, frozen=True, tag="all"):
    """Kleene's and."""

    def judge(self, value: Value) -> Verdict:
        return _all(part.judge(value) for part in self.constraints)

    def sentence(self) -> str:
        return " and ".join(part.sentence() for part in self.constraints)


class Not(Constraint, frozen=True, tag="not"):
    """Swaps yes and no; what could not be judged still cannot."""

    constraint: "AnyConstraint"

    @property
    def about_absence(self) -> bool:  # type: ignore[override] # derived from the part
        return self.constraint.about_absence

    def judge(self, value: Value) -> Verdict:
        said = self.constraint.judge(value)
        return None if said is None else not said

    def sentence(self) -> str:
        return f"not: {self.constraint.sentence()}"


class Absent(Constraint, frozen=True, tag="absent"):
    """The value is not there: the one constraint that judges a missing value."""

    about_absence = True

    def judge(self, value: Value) -> Verdict:
        return value is MISSING

    def sentence(self) -> str:
        return "is absent"


class Anything(Constraint, frozen=True, tag="anything"):
    """The value is there, whatever it is."""

    def judge(self, value: Value) -> Verdict:
        return None if value is MISSING else True

    def sentence(self) -> str:
        return "is there"


class Pair(Wire, frozen=True):
    """An argument's name and the constraint on it; the name `*` stands for each argument not named."""

    name: str
    constraint: "AnyConstraint"

    def __post_init__(self) -> None:
        demand(is_label(self.name), "an argument name", self.name)
        if self.name == "*":
            demand_presence(self.constraint, '"*" judges arguments that are there')

    def sentence(self) -> str:
        """`deck is "deck-42"`."""
        name = "any other argument" if self.name == "*" else self.name
        return f"{name} {self.constraint.sentence()}"


class Misfit(NamedTuple):
    """A value that its pair says no to or cannot judge; no pair: nothing names it, which is a no."""

    pair: Pair | None
    name: str
    value: Value
    said: Verdict


def demand_distinct(pairs: tuple[Pair, ...]) -> None:
    """Raise InvalidCaveat if two pairs have one name."""
    if len({pair.name for pair in pairs}) != len(pairs):
        raise InvalidCaveat("an argument is named twice")


def misfits(pairs: tuple[Pair, ...], values: Mapping[str, JSON]) -> Iterator[Misfit]:
    """All that is not as the pairs have it: a closed world, where what no pair names may not be.

    A pair for `*` judges each of those that no other names.
    """
    seen = 0
    others: Pair | None = None
    for pair in pairs:
        name = pair.name
        if name == "*":
            others = pair
            continue
        value: Value = values.get(name, MISSING)
        if value is not MISSING:
            seen += 1
        said = pair.constraint.judge(value)
        if said is not True:
            yield Misfit(pair, name, value, said)
    if seen == len(values):
        return
    named = {pair.name for pair in pairs} - {"*"}
    for name, value in values.items():
        if name not in named:
            said = False if others is None else others.constraint.judge(value)
            if said is not True:
                yield Misfit(others, name, value, said)


def _all(verdicts: Iterable[Verdict]) -> Verdict:
    result: Verdict = True
    for said in verdicts:
        if said is False:
            return False
        if said is None:
            result = None
    return result


def demand_presence(constraint: Constraint, why: str) -> None:
    """Raise InvalidCaveat for `absent` where nothing can be missing."""
    if constraint.about_absence:
        raise InvalidCaveat(f"`absent` may not stand here: {why}")


AnyConstraint = Eq | In | Range | Prefix | Path | Each | AnyOf | AllOf | Not | Absent | Anything
"""The constraints of the vocabulary."""
