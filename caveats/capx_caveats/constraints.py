"""The constraints that hold other constraints, and the type of all constraints.

To add a constraint, write its class in the module where similar ones are, and add it to the end of `AnyConstraint`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Final, NamedTuple

from msgspec import Meta

from capx_caveats.constraint import Constraint, Judgement, Wire, every, some, too_much
from capx_caveats.errors import InvalidCaveat
from capx_caveats.names import OTHERS, demand_argument, told_name
from capx_caveats.network import Cidr, Host, Url
from capx_caveats.shown_values import shown
from capx_caveats.texts import Argv, Glob, Path, Prefix, Regex
from capx_caveats.value_constraints import Absent, Anything, Contains, Eq, In, Length, Range
from capx_caveats.values import JSON, MISSING, Natural, Value, as_array


class Each(Constraint, frozen=True, tag="each"):
    """An array of at least `min` elements, each of which satisfies the constraint.

    An array cannot be judged if it holds more than 1024 values, at all depths, or too much text.
    """

    obstacles = {list: "holds too much"}  # noqa: RUF012 # a class variable
    constraint: "AnyConstraint"
    min: Natural = 1

    def __post_init__(self) -> None:
        demand_presence(self.constraint, "an element is never missing")

    @property
    def work_each(self) -> int:  # type: ignore[override] # derived from the part
        return Constraint.work_once + self.constraint.work_once + self.constraint.work_each

    @property
    def work_character(self) -> int:  # type: ignore[override] # derived from the part
        return self.constraint.work_character

    def judge(self, value: Value) -> Judgement:
        elements = as_array(value)
        if elements is None or too_much(elements, self.work_character):
            return None
        # The elements first: a short array with an element that cannot be judged is not a clear no.
        judgement = every(self.constraint.judge(element) for element in elements)
        return len(elements) >= self.min if judgement is True else judgement

    def obstacle(self, value: Value, it: str = "it") -> str:
        elements = as_array(value)
        if elements is None or too_much(elements, self.work_character):
            return super().obstacle(value, it)
        return _obstacle((self.constraint, element, "an element") for element in elements)

    def sentence(self) -> str:
        return f"has {self.min} or more elements, each of which {grouped(self.constraint)}"


class _Several(Constraint, frozen=True):
    constraints: Annotated[tuple["AnyConstraint", ...], Meta(min_length=1)]

    @property
    def about_absence(self) -> bool:  # type: ignore[override] # derived from the parts
        return any(part.about_absence for part in self.constraints)

    @property
    def work_once(self) -> int:  # type: ignore[override] # derived from the parts
        return Constraint.work_once + sum(part.work_once for part in self.constraints)

    @property
    def work_each(self) -> int:  # type: ignore[override] # derived from the parts
        return sum(part.work_each for part in self.constraints)

    @property
    def work_character(self) -> int:  # type: ignore[override] # derived from the parts
        return sum(part.work_character for part in self.constraints)

    def obstacle(self, value: Value, it: str = "it") -> str:
        return _obstacle((part, value, it) for part in self.constraints)


class AnyOf(_Several, frozen=True, tag="any"):
    """Yes if any constraint says yes, no if all say no; otherwise the value cannot be judged (Kleene's or)."""

    def judge(self, value: Value) -> Judgement:
        return some(part.judge(value) for part in self.constraints)

    def sentence(self) -> str:
        return " or ".join(map(_apart, self.constraints))


class AllOf(_Several, frozen=True, tag="all"):
    """No if any constraint says no, yes if all say yes; otherwise the value cannot be judged (Kleene's and)."""

    def judge(self, value: Value) -> Judgement:
        return every(part.judge(value) for part in self.constraints)

    def sentence(self) -> str:
        return " and ".join(map(_apart, self.constraints))


class Not(Constraint, frozen=True, tag="not"):
    """Yes if the constraint says no, and no if it says yes; a value that it cannot judge still cannot be judged."""

    constraint: "AnyConstraint"

    @property
    def about_absence(self) -> bool:  # type: ignore[override] # derived from the part
        return self.constraint.about_absence

    @property
    def work_once(self) -> int:  # type: ignore[override] # derived from the part
        return Constraint.work_once + self.constraint.work_once

    @property
    def work_each(self) -> int:  # type: ignore[override] # derived from the part
        return self.constraint.work_each

    @property
    def work_character(self) -> int:  # type: ignore[override] # derived from the part
        return self.constraint.work_character

    def judge(self, value: Value) -> Judgement:
        said = self.constraint.judge(value)
        return True if said is False else False if said is True else None

    def obstacle(self, value: Value, it: str = "it") -> str:
        return self.constraint.obstacle(value, it)

    def sentence(self) -> str:
        return f"not: {grouped(self.constraint)}"


class Pair(Wire, frozen=True):
    """The name of an argument and the constraint on it; the name `*` means every argument that no other pair names."""

    name: str
    constraint: "AnyConstraint"

    def __post_init__(self) -> None:
        demand_argument(self.name)
        if self.name == OTHERS:
            demand_presence(self.constraint, '"*" judges only arguments that the call has')

    def sentence(self) -> str:
        """`deck is "deck-42"`."""
        name = "any other argument" if self.name == OTHERS else told_name(self.name)
        return f"{name} {grouped(self.constraint)}"


class Fields(Constraint, frozen=True, tag="fields"):
    """An object whose members satisfy the pairs. A member that no pair names is a no, unless a pair for `*` allows it.

    The pairs judge members as the pairs of `allow` judge the arguments of a call. Without pairs, only an object without
    members satisfies it. An object cannot be judged if it holds more than 1024 values, at all depths, or too much text.
    """

    obstacles = {dict: "holds too much"}  # noqa: RUF012 # a class variable
    pairs: tuple[Pair, ...]

    def __post_init__(self) -> None:
        demand_distinct(self.pairs)

    @property
    def work_once(self) -> int:  # type: ignore[override] # derived from the parts
        return Constraint.work_once + sum(pair.constraint.work_once for pair in self.pairs)

    @property
    def work_each(self) -> int:  # type: ignore[override] # derived from the parts
        others = sum(pair.constraint.work_once for pair in self.pairs if pair.name == OTHERS)
        return Constraint.work_once + others + sum(pair.constraint.work_each for pair in self.pairs)

    @property
    def work_character(self) -> int:  # type: ignore[override] # derived from the parts
        return sum(pair.constraint.work_character for pair in self.pairs)

    def judge(self, value: Value) -> Judgement:
        if not isinstance(value, Mapping) or too_much(value, self.work_character):
            return None
        return every(misfit.said for misfit in misfits(self.pairs, value))

    def obstacle(self, value: Value, it: str = "it") -> str:
        if not isinstance(value, Mapping) or too_much(value, self.work_character):
            return super().obstacle(value, it)
        held = ((pair, value.get(pair.name, MISSING)) for pair in self.pairs if pair.name != OTHERS)
        return _obstacle((pair.constraint, member, f"its {shown(pair.name)}") for pair, member in held)

    def sentence(self) -> str:
        if not self.pairs:
            return "is an object without members"
        return f"is an object (where {' and '.join(pair.sentence() for pair in self.pairs)})"


_HOLDING: Final = (Each, Fields, _Several)


class Misfit(NamedTuple):
    """A value that its pair does not allow or cannot judge; without a pair, no pair names the value, which is a no."""

    pair: Pair | None
    name: str
    value: Value
    said: Judgement


def demand_distinct(pairs: tuple[Pair, ...]) -> None:
    """Raise InvalidCaveat if two pairs have one name."""
    if len(pairs) > 1 and len({pair.name for pair in pairs}) != len(pairs):
        raise InvalidCaveat("an argument is named twice")


def misfits(pairs: tuple[Pair, ...], values: Mapping[str, JSON]) -> Iterator[Misfit]:
    """Yield each value that the pairs do not allow, among them each value that no pair names.

    A pair for `*` judges each value that no other pair names.
    """
    seen = 0
    others: Pair | None = None
    for pair in pairs:
        name = pair.name
        if name == OTHERS:
            others = pair
            continue
        value: Value = values.get(name, MISSING)
        if value is not MISSING:
            seen += 1
        said = pair.constraint.judge(value)
        if said is not True:
            yield Misfit(pair, name, value, said)
    # Each value has a named pair: there is nothing left for `*` or for the closed world.
    if seen == len(values):
        return
    named = {pair.name for pair in pairs} - {OTHERS}
    work_character = 0 if others is None else others.constraint.work_character
    # The limit is on all other values together: many small texts are as much work as one long text.
    unnamed = {name: value for name, value in values.items() if name not in named}
    endless = work_character > 0 and too_much(unnamed, work_character)
    for name, value in unnamed.items():
        said = False if others is None else None if endless else others.constraint.judge(value)
        if said is not True:
            yield Misfit(others, name, value, said)


def _obstacle(asked: Iterable[tuple[Constraint, Value, str]]) -> str:
    """Say why the first of these constraints that cannot judge its value cannot; empty if none of them can say why."""
    for constraint, value, it in asked:
        # Not in those that hold several: in each level of them, all below would be judged once more.
        if not _holds(constraint) and constraint.judge(value) is None:
            return constraint.obstacle(value, it)
    return ""


def _holds(constraint: Constraint) -> bool:
    """Whether a constraint judges by several judgements of others."""
    return _holds(constraint.constraint) if isinstance(constraint, Not) else isinstance(constraint, _HOLDING)


def grouped(constraint: Constraint) -> str:
    """Return the sentence of a constraint, in brackets if it joins several, so that it can be read in one way only."""
    several = isinstance(constraint, _Several) and len(constraint.constraints) > 1
    return f"({constraint.sentence()})" if several else constraint.sentence()


def _apart(part: Constraint) -> str:
    return f"({part.sentence()})" if isinstance(part, Not | Each) else grouped(part)


def demand_presence(constraint: Constraint, why: str) -> None:
    """Raise InvalidCaveat for `absent` where a value cannot be missing; `why` is the reason in the error."""
    if constraint.about_absence:
        raise InvalidCaveat(f"`absent` cannot be used here: {why}")


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
"""All constraints of the vocabulary, as one type."""
