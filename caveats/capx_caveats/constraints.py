"""The constraints that hold others, and all there are as one type.

To add one: write its class in the module of its like and name it in `AnyConstraint`, at the end.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, NamedTuple

from msgspec import Meta

from capx_caveats.constraint import Constraint, Judgement, Wire, every, some, too_much
from capx_caveats.errors import InvalidCaveat
from capx_caveats.names import demand_argument, told_name
from capx_caveats.network import Cidr, Host, Url
from capx_caveats.texts import Argv, Glob, Path, Prefix, Regex
from capx_caveats.value_constraints import Absent, Anything, Contains, Eq, In, Length, Range
from capx_caveats.values import JSON, MISSING, Natural, Value, as_array


class Each(Constraint, frozen=True, tag="each"):
    """Every element says yes, and there are at least `min` of them.

    An array that holds more than 1024 values, at all depths, or too much text, cannot be judged.
    """

    constraint: "AnyConstraint"
    min: Natural = 1

    def __post_init__(self) -> None:
        demand_presence(self.constraint, "an element is always there")

    @property
    def weight(self) -> int:  # type: ignore[override] # derived from the part
        return self.constraint.weight

    def judge(self, value: Value) -> Judgement:
        elements = as_array(value)
        if elements is None or too_much(elements, self.weight):
            return None
        judgement = every(self.constraint.judge(element) for element in elements)
        return len(elements) >= self.min if judgement is True else judgement

    def sentence(self) -> str:
        return f"has {self.min} or more elements, each of which {grouped(self.constraint)}"


class _Several(Constraint, frozen=True):
    constraints: Annotated[tuple["AnyConstraint", ...], Meta(min_length=1)]

    @property
    def about_absence(self) -> bool:  # type: ignore[override] # derived from the parts
        return any(part.about_absence for part in self.constraints)

    @property
    def weight(self) -> int:  # type: ignore[override] # derived from the parts
        return sum(part.weight for part in self.constraints)


class AnyOf(_Several, frozen=True, tag="any"):
    """Yes if one says yes, no if all say no, else it cannot be judged (Kleene's or)."""

    def judge(self, value: Value) -> Judgement:
        return some(part.judge(value) for part in self.constraints)

    def sentence(self) -> str:
        return " or ".join(map(_apart, self.constraints))


class AllOf(_Several, frozen=True, tag="all"):
    """No if one says no, yes if all say yes, else it cannot be judged (Kleene's and)."""

    def judge(self, value: Value) -> Judgement:
        return every(part.judge(value) for part in self.constraints)

    def sentence(self) -> str:
        return " and ".join(map(_apart, self.constraints))


class Not(Constraint, frozen=True, tag="not"):
    """Swaps yes and no; what could not be judged still cannot."""

    constraint: "AnyConstraint"

    @property
    def about_absence(self) -> bool:  # type: ignore[override] # derived from the part
        return self.constraint.about_absence

    @property
    def weight(self) -> int:  # type: ignore[override] # derived from the part
        return self.constraint.weight

    def judge(self, value: Value) -> Judgement:
        said = self.constraint.judge(value)
        return True if said is False else False if said is True else None

    def sentence(self) -> str:
        return f"not: {grouped(self.constraint)}"


class Pair(Wire, frozen=True):
    """An argument's name and the constraint on it; the name `*` stands for each argument not named."""

    name: str
    constraint: "AnyConstraint"

    def __post_init__(self) -> None:
        demand_argument(self.name)
        if self.name == "*":
            demand_presence(self.constraint, '"*" judges arguments that are there')

    def sentence(self) -> str:
        """`deck is "deck-42"`."""
        name = "any other argument" if self.name == "*" else told_name(self.name)
        return f"{name} {grouped(self.constraint)}"


class Fields(Constraint, frozen=True, tag="fields"):
    """An object, judged as a call's arguments are by the pairs of `allow`: a member that no pair names is a no.

    No pairs at all: an object without members. An object that holds more than 1024 values, at all depths, or too much
    text, cannot be judged.
    """

    pairs: tuple[Pair, ...]

    def __post_init__(self) -> None:
        demand_distinct(self.pairs)

    @property
    def weight(self) -> int:  # type: ignore[override] # derived from the parts
        return sum(pair.constraint.weight for pair in self.pairs)

    def judge(self, value: Value) -> Judgement:
        if not isinstance(value, Mapping) or too_much(value, self.weight):
            return None
        return every(misfit.said for misfit in misfits(self.pairs, value))

    def sentence(self) -> str:
        if not self.pairs:
            return "is an object without members"
        return f"is an object (where {' and '.join(pair.sentence() for pair in self.pairs)})"


class Misfit(NamedTuple):
    """A value that its pair says no to or cannot judge; no pair: nothing names it, which is a no."""

    pair: Pair | None
    name: str
    value: Value
    said: Judgement


def demand_distinct(pairs: tuple[Pair, ...]) -> None:
    """Raise InvalidCaveat if two pairs have one name."""
    if len(pairs) > 1 and len({pair.name for pair in pairs}) != len(pairs):
        raise InvalidCaveat("an argument is named twice")


def misfits(pairs: tuple[Pair, ...], values: Mapping[str, JSON]) -> Iterator[Misfit]:
    """What is not as the pairs have it: a closed world, where what no pair names may not be.

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
    weight = 0 if others is None else others.constraint.weight
    endless = weight > 0 and too_much({name: value for name, value in values.items() if name not in named}, weight)
    for name, value in values.items():
        if name in named:
            continue
        said = False if others is None else None if endless else others.constraint.judge(value)
        if said is not True:
            yield Misfit(others, name, value, said)


def grouped(constraint: Constraint) -> str:
    """The sentence of a constraint, in brackets where it is made of several: it can be read in one way."""
    several = isinstance(constraint, _Several) and len(constraint.constraints) > 1
    return f"({constraint.sentence()})" if several else constraint.sentence()


def _apart(part: Constraint) -> str:
    return f"({part.sentence()})" if isinstance(part, Not | Each) else grouped(part)


def demand_presence(constraint: Constraint, why: str) -> None:
    """Raise InvalidCaveat for `absent` where nothing can be missing."""
    if constraint.about_absence:
        raise InvalidCaveat(f"`absent` may not stand here: {why}")


AnyConstraint = (
    Eq
    | In
    | Range
    | Prefix
    | Glob
    | Regex
    | Path
    | Url
    | Host
    | Cidr
    | Each
    | Contains
    | Length
    | Fields
    | Argv
    | AnyOf
    | AllOf
    | Not
    | Absent
    | Anything
)
"""The constraints of the vocabulary."""
