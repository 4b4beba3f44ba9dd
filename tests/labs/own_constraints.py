"""Two constraints of a service's own, as its vocabulary would add them."""

from capx_caveats import (
    AnyConstraint,
    Constraint,
    InvalidCaveat,
    Judgement,
    Natural,
    Value,
)


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
