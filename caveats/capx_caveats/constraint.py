"""The base classes of the vocabulary. A constraint judges one value: yes, no, or "cannot judge".

Laws: a caveat or constraint is built by the same checks as when it is read from a token, so nobody can build one that
no verifier could read. Only yes passes. "Cannot judge" is neither yes nor no, so `not` does not turn it into a yes. A
constraint does not see other arguments. Types are never converted. Text is compared by code point.
"""

import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from msgspec import UNSET, Struct, StructMeta, ValidationError, convert
from msgspec.structs import force_setattr

from capx_caveats.errors import InvalidCaveat
from capx_caveats.levels import SAFE_INTEGER
from capx_caveats.values import Value, demand_unicode, holds_more

Judgement = bool | None
"""The answer of a constraint. True: yes. False: no. None: cannot judge."""

MAX_VALUES = 1024
"""The most values, at all depths, that are judged one by one, because a token can ask for many judgements of each."""
MAX_MATCH_WORK = 2**19
"""The most work of one judgement: characters of text, times the work of the constraint for each of them."""


class _BuiltAsRead(StructMeta):
    """Build each value by converting its wire form, with the same checks as for reading; InvalidCaveat if they fail."""

    if not TYPE_CHECKING:  # the signature is that of the fields

        def __call__(self, *given: Any, **named: Any) -> Any:
            fields = self.__struct_fields__
            values = [*given]
            if named:
                values += [named.pop(field) for field in fields[len(given) :] if field in named]
            if named:
                raise InvalidCaveat(f"{self.__name__} takes no {', '.join(named)}")
            # On the wire, an absent optional field at the end is dropped.
            while values and values[-1] is UNSET:
                values.pop()
            tag = [] if self.__struct_config__.tag is None else [self.__struct_config__.tag]
            try:
                values = list(map(_exact, values))
                # msgspec does not know a service's own constraints: convert with placeholders, then put them back.
                held = list(map(_placeholder, values))
                value = convert([*tag, *held], self)
            except (ValidationError, RecursionError) as error:
                raise InvalidCaveat(f"{self.__name__}: {_by_field(str(error), fields, len(tag))}") from None
            for field, given_, placed in zip(fields, values, held, strict=False):
                if placed is not given_:
                    force_setattr(value, field, given_)
            return value


class Wire(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False, metaclass=_BuiltAsRead):
    """A value whose wire form is an array of its fields; optional fields are last, and are dropped if absent.

    It holds only plain values, so it cannot be part of a reference cycle. It is therefore hidden from the garbage
    collector.
    """

    def wire(self) -> list[Any]:
        """Return the array to encode, with nested values in their own wire form."""
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
    """Return the value, lists as tuples; InvalidCaveat if its type is not exactly one that JSON is read as."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType] # of whatever was given
    if kind is str:
        demand_unicode(value)
    elif kind is list or kind is tuple:
        return tuple(map(_exact, value))
    elif kind not in _EXACT and not isinstance(value, Wire):
        raise InvalidCaveat(f"a caveat cannot hold a {kind.__name__}: convert it to a JSON value first")
    return value


_EXACT = frozenset({int, float, bool, type(None)})


def _placeholder(value: Any) -> Any:
    """Return the value, with a built-in constraint in place of each of a service's own constraints."""
    if isinstance(value, Constraint) and is_own(type(value)):
        return ["absent" if value.about_absence else "anything"]
    if isinstance(value, tuple):
        held = tuple(map(_placeholder, value))  # pyright: ignore[reportUnknownArgumentType] # elements of any kind
        return held if any(map(operator.is_not, held, value)) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] # as above
    return value


def _by_field(message: str, fields: tuple[str, ...], first: int) -> str:
    """Return the decoder's message, with the names of fields instead of their positions."""
    for at, field in enumerate(fields, first):
        message = message.replace(f"$[{at}]", field)
    return message


def is_own(kind: type["Wire"]) -> bool:
    """Whether a class is a service's own: its tag has a dot, such as `acme.region`."""
    tag = kind.__struct_config__.tag
    return isinstance(tag, str) and "." in tag.strip(".")


def _wire(value: Any) -> Any:
    if isinstance(value, Wire):
        return value.wire()
    if type(value) is tuple:
        return list(map(_wire, value))  # pyright: ignore[reportUnknownArgumentType] # elements of any kind
    return value


class Constraint(Wire, frozen=True):
    """A rule for one value. Each subclass has a permanent `tag` and implements `judge` and `sentence`."""

    about_absence: ClassVar[bool] = False
    """Whether it can judge a missing value. Such a constraint is allowed only where an argument has a name."""
    work_once: ClassVar[int] = 128
    """The most work of judging one value, without what the next two say; `work_bound` has the unit."""
    work_each: ClassVar[int] = 0
    """The most work for each value within that value; 0 for a constraint that does not look into values."""
    work_character: ClassVar[int] = 0
    """The most work of reading one character of a value; 0 for a constraint that does not read whole texts."""
    obstacles: ClassVar[Mapping[type, str]] = {}
    """Why it cannot judge a value whose type is right, such as `is too long` for `str`; `list` for an array."""

    def judge(self, value: Value) -> Judgement:
        """Return True for yes, False for no, None for "cannot judge"; never raises for a JSON value."""
        raise NotImplementedError

    def obstacle(self, value: Value, it: str = "it") -> str:
        """Say why it cannot judge a value that it cannot judge: `it is a number`. Empty if it cannot say why."""
        kind = list if type(value) is tuple else type(value)
        # Of a service's own constraint nobody else knows which types it can judge.
        why = self.obstacles.get(kind) or ("" if is_own(type(self)) else f"is {_KINDS.get(kind, 'an object')}")
        return why and f"{it} {why}"

    def sentence(self) -> str:
        """Return the rule as the end of a sentence that begins with the name of the value."""
        raise NotImplementedError


_KINDS: Final[Mapping[type, str]] = {
    str: "text",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
    list: "an array",
    type(UNSET): "missing",
}


def every(judgements: Iterable[Judgement]) -> Judgement:
    """Combine judgements by Kleene's "and": False if any is False, otherwise None if any is not True."""
    result: Judgement = True
    for said in judgements:
        if said is False:
            return False
        # Compare by identity: a service's own constraint may answer with anything, and 1 is not a yes.
        if said is not True:
            result = None
    return result


def some(judgements: Iterable[Judgement]) -> Judgement:
    """Combine judgements by Kleene's "or": True if any is True, otherwise None if any is not False."""
    result: Judgement = False
    for said in judgements:
        if said is True:
            return True
        if said is not False:
            result = None
    return result


def too_much(value: object, work_character: int = 0) -> bool:
    """Whether a value holds too many values, or too much text for a constraint that works so much for a character."""
    return holds_more(value, MAX_VALUES, MAX_MATCH_WORK // work_character if work_character else SAFE_INTEGER)
