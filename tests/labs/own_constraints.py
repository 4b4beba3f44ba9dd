"""A caveat and two constraints of a service's own, as its vocabulary would add them."""

from capx_caveats import (
    MISSING,
    AnyConstraint,
    Caveat,
    Constraint,
    Facts,
    InvalidCaveat,
    Judgement,
    Natural,
    Refusal,
    Value,
)


class Region(Caveat, frozen=True, tag="acme.region"):
    """The call's region is this one."""

    name: str

    def refusal(self, facts: Facts) -> Refusal | None:
        given = facts.call.attributes.get("region", MISSING)
        return None if given == self.name else Refusal("wrong_region", f"is for region {self.name}")

    def sentence(self) -> str:
        return f"region is {self.name}"


class Odd(Constraint, frozen=True, tag="acme.odd"):
    """A service's own constraint, without fields."""

    def judge(self, value: Value) -> Judgement:
        return value % 2 == 1 if type(value) is int else None

    def sentence(self) -> str:
        return "is odd"


class Near(Constraint, frozen=True, tag="acme.near"):
    """One with a limit of its own, and another constraint inside."""

    at: Natural
    inner: AnyConstraint

    def __post_init__(self) -> None:
        if self.at == 0:
            raise InvalidCaveat("near to nothing")

    def judge(self, value: Value) -> Judgement:
        return self.inner.judge(value)

    def sentence(self) -> str:
        return f"is near {self.at}"
