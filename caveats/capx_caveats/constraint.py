"""The three-valued core: a constraint says yes, no, or that it cannot judge.

Laws: only yes passes. What cannot be judged is neither yes nor no, so `not` opens no door. No constraint sees
another argument. Types never coerce; text compares by code point.
"""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from capx_caveats.values import SAFE_INTEGER, Value, holds_more

Verdict = bool | None
"""True: yes. False: no. None: cannot judge."""
Natural = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)]
"""An integer field: 0 to 2⁵³ - 1, without fraction or exponent."""

MAX_VALUES = 1024
"""Values, at all depths, that are still judged one by one: a token can ask for many judgements of one argument."""
MAX_WORK = 2**19
"""What one judgement may cost at worst: characters of text, times the weight of the constraint that reads them."""


class Wire(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A value with a positional array as its wire form; optional fields stand last and are dropped when absent."""

    def wire(self) -> list[Any]:
        """The array that is encoded, with nested values in their own wire form."""
        config = self.__struct_config__
        values = [getattr(self, field) for field in self.__struct_fields__]
        defaults = self.__struct_defaults__
        for default in reversed(defaults):
            if values[-1] is not default and values[-1] != default:
                break
            values.pop()
        head = [] if config.tag is None else [config.tag]
        return head + [_wire(value) for value in values]


def _wire(value: Any) -> Any:
    if isinstance(value, Wire):
        return value.wire()
    if type(value) is tuple:
        return list(map(_wire, value))  # pyright: ignore[reportUnknownArgumentType] # elements of any kind
    return value


class Constraint(Wire, frozen=True):
    """A rule for one value. Subclasses carry a permanent `tag` and judge."""

    about_absence: ClassVar[bool] = False
    """Whether a missing value can be judged; such a constraint stands only where a value is named."""
    weight: ClassVar[int] = 0
    """What it costs at worst to read one character of a value; 0 for a constraint that does not read a text whole."""

    def judge(self, value: Value) -> Verdict:
        """Yes, no, or cannot judge; never raises for a JSON value."""
        raise NotImplementedError

    def sentence(self) -> str:
        """The rule as the end of a sentence that begins with the value's name."""
        raise NotImplementedError


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """Kleene's and: no if one says no, else cannot judge if one cannot."""
    result: Verdict = True
    for said in verdicts:
        if said is False:
            return False
        if said is None:
            result = None
    return result


def some(verdicts: Iterable[Verdict]) -> Verdict:
    """Kleene's or: yes if one says yes, else cannot judge if one cannot."""
    result: Verdict = False
    for said in verdicts:
        if said is True:
            return True
        if said is None:
            result = None
    return result


def too_much(value: object, weight: int = 0) -> bool:
    """Whether a value holds too many values, or too much text for a constraint of that weight."""
    return holds_more(value, MAX_VALUES, MAX_WORK // weight if weight else SAFE_INTEGER)
