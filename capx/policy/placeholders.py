"""The values in a policy: those that it states, and those that it takes from an intent.

    "T-1"  20  true  ["a", 1]      a value; `{{` in a text stands for `{`
    "{intent.ticket}"              the whole value that the intent has for ticket, of its own type

Laws: a value is taken whole, never into a text, and never read again: whatever it holds, it stands for itself. What is
taken must be of the kind that belongs where it stands. A pattern is never taken: it says more than one value.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from msgspec import UNSET, Struct

from capx.intents.intent import Intent
from capx.policy.toml_reader import elements, every, kind_of, wrong
from capx_caveats import SAFE_INTEGER, is_amount, is_attribute, shown

_TAKEN = re.compile(r"\{intent\.([^{}]*)\}")


class Slot(Struct, frozen=True):
    """What belongs somewhere: in words, whether a value fits, and one that does, to try the place with."""

    what: str
    fits: Callable[[Any], bool]
    probe: Any


class Placeholder(Struct, frozen=True):
    """Stands for a value of the intent, at a key path."""

    name: str
    path: str
    slot: Slot


Take = Callable[[Placeholder], Any]
"""Gives the value that is taken; Wrong if there is none that fits."""


def _is_number(value: object) -> bool:
    # Compared, not converted: an integer may be too large for a float, and what is no number is within nothing.
    return type(value) in {int, float} and -SAFE_INTEGER <= cast("float", value) <= SAFE_INTEGER


def _is_natural(value: object) -> bool:
    return type(value) is int and 0 <= value <= SAFE_INTEGER


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_host(value: object) -> bool:
    return _is_text(value) and "*" not in cast("str", value)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, bool) or _is_number(value) or _is_text(value)


def _is_literal(value: object) -> bool:
    return _is_scalar(value) or (isinstance(value, tuple) and value != () and all(map(_is_scalar, value)))  # pyright: ignore[reportUnknownArgumentType] # of anything


def _is_limit(value: object) -> bool:
    return (type(value) is int and 0 <= value < 10**15) or (isinstance(value, str) and is_amount(value))


SCALAR: Final = Slot("a text, a number, true or false", _is_scalar, "x")
LITERAL: Final = Slot("a text, a number, true, false, or a flat array of these", _is_literal, "x")
TEXT: Final = Slot("a text that is not empty", _is_text, "x")
PATH: Final = Slot("a path such as /data/acme", _is_text, "/x")
HOST: Final = Slot("a host, and no pattern", _is_host, "x.example")
NETWORK: Final = Slot("a network such as 10.0.0.0/8", _is_text, "10.0.0.0/8")
SCHEME: Final = Slot("a scheme such as https", _is_text, "https")
NUMBER: Final = Slot("a number", _is_number, 0)
NATURAL: Final = Slot("a whole number, not negative", _is_natural, 0)
LIMIT: Final = Slot('a whole number, or an amount as text such as "0.50"', _is_limit, "0")


def several(slot: Slot) -> Slot:
    """Where an array belongs, not empty, each of whose elements fits."""
    return Slot(
        f"an array, each element {slot.what}",
        lambda value: isinstance(value, tuple) and value != () and all(map(slot.fits, value)),  # pyright: ignore[reportUnknownArgumentType] # of anything
        (slot.probe,),
    )


def value(said: object, path: str, slot: Slot) -> Any:
    """One value of a policy, or what stands for it; Wrong if it is not what belongs there."""
    meant = _meant(said, path, slot) if isinstance(said, str) else said
    if isinstance(meant, Placeholder) or slot.fits(meant):
        return meant
    found = "an empty text" if meant == "" else shown(meant) if type(meant) in _SHOWN else kind_of(meant)
    raise wrong(path, f"is {found}, and {slot.what} belongs here")


def values(said: object, path: str, slot: Slot, what: str) -> Any:
    """An array of values, or what stands for a whole one."""
    if isinstance(said, str):
        meant = _meant(said, path, several(slot))
        if isinstance(meant, Placeholder):
            return meant
        raise wrong(path, f"is a text, and an array of {what} belongs here: write [{shown(meant)}]")
    return every(lambda one, at: value(one, at, slot), elements(said, path, what))


def literal(said: object, path: str) -> Any:
    """A value that something equals: one, or a flat array."""
    if isinstance(said, list):
        return every(lambda one, at: value(one, at, SCALAR), elements(cast("object", said), path, "values"))
    return value(said, path, LITERAL)


def literals(said: object, path: str) -> Any:
    """An array of values, each of which something may equal, or what stands for a whole one."""
    if isinstance(said, str):
        return values(said, path, LITERAL, "values")
    return every(literal, elements(said, path, "values"))


def stated(said: object, path: str) -> str:
    """A text that is a pattern, and so is never taken."""
    meant = value(said, path, TEXT)
    if isinstance(meant, Placeholder):
        raise wrong(path, "is a pattern, which is not taken from an intent: take a whole value, { eq = … }")
    return cast("str", meant)


def taken(part: object) -> Iterator[Placeholder]:
    """All that a part of a policy takes, at all depths."""
    if isinstance(part, Placeholder):
        yield part
    elif isinstance(part, tuple):
        for one in cast("tuple[object, ...]", part):
            yield from taken(one)
    elif isinstance(part, Struct):
        for field in part.__struct_fields__:
            yield from taken(getattr(part, field))


def probing(one: Placeholder) -> Any:
    """Take what tries a place."""
    return one.slot.probe


def taking(intent: Intent) -> Take:
    """Take from this intent."""
    given: Mapping[str, Any] = {
        **intent.parameters,
        "principal": intent.principal,
        "purpose": intent.purpose,
        "statement": intent.statement,
        "tenant": intent.tenant,
        "agent": intent.agent,
    }

    def take(one: Placeholder) -> Any:
        found = given.get(one.name, UNSET)
        if found is UNSET:
            raise wrong(one.path, f"takes {one.name} from the intent, which does not say it: give it one")
        if not one.slot.fits(found):
            raise wrong(
                one.path, f"takes {one.name} from the intent, which is {shown(found)}: {one.slot.what} belongs here"
            )
        return found

    return take


def _meant(said: str, path: str, slot: Slot) -> str | Placeholder:
    whole = _TAKEN.fullmatch(said)
    if whole is not None:
        if not is_attribute(whole[1]):
            raise wrong(
                path, f"{shown(said)} takes nothing: a name is a letter, then letters, digits and _, all lower case"
            )
        return Placeholder(whole[1], path, slot)
    plain = said.replace("{{", "")
    if "{" in plain:
        raise wrong(
            path, f"{shown(said)} holds a {{: write {{{{ for it; a value is taken whole, as {{intent.NAME}} alone"
        )
    return said.replace("{{", "{")


_SHOWN = frozenset({str, int, float, bool})
