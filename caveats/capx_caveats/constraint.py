"""The three-valued core: a constraint says yes, no, or that it cannot judge.

Laws: a value is built as it is read, so what could not be read cannot be built. Only yes passes. What cannot be
judged is neither yes nor no, so `not` opens no door. No constraint sees another argument. Types never coerce; text
compares by code point.
"""

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import UNSET, Struct, StructMeta, ValidationError, convert
from msgspec.structs import force_setattr

from capx_caveats.errors import InvalidCaveat
from capx_caveats.values import SAFE_INTEGER, Value, demand_unicode, holds_more

Judgement = bool | None
"""True: yes. False: no. None: cannot judge."""

MAX_VALUES = 1024
"""Values, at all depths, that are still judged one by one: a token can ask for many judgements of one argument."""
MAX_WORK = 2**19
"""What one judgement may cost at worst: characters of text, times the weight of the constraint that reads them."""


class _BuiltAsRead(StructMeta):
    """Builds a value out of its wire form, by the checks that hold for what is read; InvalidCaveat otherwise."""

    if not TYPE_CHECKING:  # the signature is that of the fields

        def __call__(self, *given: Any, **named: Any) -> Any:
            fields = self.__struct_fields__
            values = [*given, *(named.pop(field) for field in fields[len(given) :] if field in named)]
            if named:
                raise InvalidCaveat(f"{self.__name__} takes no {', '.join(named)}")
            while values and values[-1] is UNSET:
                values.pop()
            tag = [] if self.__struct_config__.tag is None else [self.__struct_config__.tag]
            try:
                values = list(map(_exact, values))
                held = list(map(_stand_in, values))
                value = convert([*tag, *held], self)
            except (ValidationError, RecursionError) as error:
                raise InvalidCaveat(f"{self.__name__}: {_by_field(str(error), fields, len(tag))}") from None
            for field, given_, stand_in in zip(fields, values, held, strict=False):
                if stand_in is not given_:
                    force_setattr(value, field, given_)
            return value


class Wire(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False, metaclass=_BuiltAsRead):
    """A value with a positional array as its wire form; optional fields stand last and are dropped when absent.

    Built of plain values alone it is no part of a cycle, so the garbage collector need not look at it.
    """

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


def _exact(value: Any) -> Any:
    """The value if it is of the very types that JSON is read as, lists as tuples; InvalidCaveat for any other."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType] # of whatever was given
    if kind is str:
        demand_unicode(value)
    elif kind is list or kind is tuple:
        return tuple(map(_exact, value))
    elif kind not in _EXACT and not isinstance(value, Wire):
        raise InvalidCaveat(f"a {kind.__name__} has no place in a caveat: convert it")
    return value


_EXACT = frozenset({int, float, bool, type(None)})


def _stand_in(value: Any) -> Any:
    """The value, a built-in constraint in place of each of a service's own, which only its vocabulary reads."""
    if isinstance(value, Constraint) and is_own(type(value)):
        return ["absent" if value.about_absence else "anything"]
    if isinstance(value, tuple):
        held = tuple(map(_stand_in, value))  # pyright: ignore[reportUnknownArgumentType] # elements of any kind
        return held if any(map(operator.is_not, held, value)) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] # as above
    return value


def _by_field(message: str, fields: tuple[str, ...], first: int) -> str:
    """What the decoder says, fields by their names."""
    for at, field in enumerate(fields, first):
        message = message.replace(f"$[{at}]", field)
    return message


def is_own(kind: type["Wire"]) -> bool:
    """Whether a class is a service's own, by its dotted tag, such as `acme.region`."""
    tag = kind.__struct_config__.tag
    return isinstance(tag, str) and "." in tag.strip(".")


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

    def judge(self, value: Value) -> Judgement:
        """Yes, no, or cannot judge; never raises for a JSON value."""
        raise NotImplementedError

    def sentence(self) -> str:
        """The rule as the end of a sentence that begins with the value's name."""
        raise NotImplementedError


def every(judgements: Iterable[Judgement]) -> Judgement:
    """Kleene's and: no if one says no, else cannot judge if one cannot, or answers with anything else."""
    result: Judgement = True
    for said in judgements:
        if said is False:
            return False
        if said is not True:
            result = None
    return result


def some(judgements: Iterable[Judgement]) -> Judgement:
    """Kleene's or: yes if one says yes, else cannot judge if one cannot, or answers with anything else."""
    result: Judgement = False
    for said in judgements:
        if said is True:
            return True
        if said is not False:
            result = None
    return result


def too_much(value: object, weight: int = 0) -> bool:
    """Whether a value holds too many values, or too much text for a constraint of that weight."""
    return holds_more(value, MAX_VALUES, MAX_WORK // weight if weight else SAFE_INTEGER)
