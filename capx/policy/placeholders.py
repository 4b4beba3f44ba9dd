"""Values in a policy: those that the policy states, and those that it takes from an intent.

    "T-1"  20  true  ["a", 1]      a value; `{{` in a string means `{`
    "{intent.ticket}"              the whole value that the intent has for ticket, with its own type

Laws: a policy takes a whole value from an intent, never a part of a string. A value that was taken is never parsed
again, so it means itself, whatever characters it has. It must be of the kind that its place needs. A pattern can never
come from an intent, because one pattern allows many values.
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
    """The kind of value that a place needs: `what` in words, whether a value `fits`, and a `probe` that does."""

    what: str
    fits: Callable[[Any], bool]
    probe: Any


class Placeholder(Struct, frozen=True):
    """A place for a value of the intent: `name` in the intent, the key `path`, and the `slot` it must fit."""

    name: str
    path: str
    slot: Slot


ValueSource = Callable[[Placeholder], Any]
"""Return the value for a placeholder; raise Wrong if there is none, or it does not fit."""


def _is_number(value: object) -> bool:
    # Do not convert: an integer may be too large for a float. NaN fails both comparisons, as it should. The exact type,
    # because a bool is an int in Python.
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


SCALAR: Final = Slot("a string, a number, true or false", _is_scalar, "x")
LITERAL: Final = Slot("a string, a number, true, false, or a flat array of these", _is_literal, "x")
TEXT: Final = Slot("a string that is not empty", _is_text, "x")
PATH: Final = Slot("a path such as /data/acme", _is_text, "/x")
HOST: Final = Slot("a host without *", _is_host, "x.example")
NETWORK: Final = Slot("a network such as 10.0.0.0/8", _is_text, "10.0.0.0/8")
SCHEME: Final = Slot("a scheme such as https", _is_text, "https")
NUMBER: Final = Slot("a number", _is_number, 0)
NATURAL: Final = Slot("a whole number, 0 or more", _is_natural, 0)
LIMIT: Final = Slot('a whole number, or an amount as a string such as "0.50"', _is_limit, "0")


def several(slot: Slot) -> Slot:
    """Make a slot for an array of at least one element, each of which fits `slot`."""
    return Slot(
        f"an array of elements that are each {slot.what}",
        lambda value: isinstance(value, tuple) and value != () and all(map(slot.fits, value)),  # pyright: ignore[reportUnknownArgumentType] # of anything
        (slot.probe,),
    )


def value(raw: object, path: str, slot: Slot) -> Any:
    """Read one value of a policy, or a placeholder for it; raise Wrong if it does not fit the slot."""
    parsed = _parsed(raw, path, slot) if isinstance(raw, str) else raw
    if isinstance(parsed, Placeholder) or slot.fits(parsed):
        return parsed
    found = "an empty string" if parsed == "" else shown(parsed) if type(parsed) in _SHOWN else kind_of(parsed)
    raise wrong(path, f"is {found}, but must be {slot.what}")


def values(raw: object, path: str, slot: Slot, what: str) -> Any:
    """Read an array of values, or a placeholder for a whole array."""
    if isinstance(raw, str):
        parsed = _parsed(raw, path, several(slot))
        if isinstance(parsed, Placeholder):
            return parsed
        raise wrong(path, f"is a string, but must be an array of {what}: write [{shown(parsed)}]")
    return every(lambda one, at: value(one, at, slot), elements(raw, path, what))


def literal(raw: object, path: str) -> Any:
    """Read a value that an argument must equal: a scalar, or a flat array."""
    if isinstance(raw, list):
        return every(lambda one, at: value(one, at, SCALAR), elements(cast("object", raw), path, "values"))
    return value(raw, path, LITERAL)


def literals(raw: object, path: str) -> Any:
    """Read an array of values, one of which an argument must equal, or a placeholder for a whole array."""
    if isinstance(raw, str):
        return values(raw, path, LITERAL, "values")
    return every(literal, elements(raw, path, "values"))


def stated(raw: object, path: str) -> str:
    """Read a pattern: a string that the policy must state itself."""
    parsed = value(raw, path, TEXT)
    if isinstance(parsed, Placeholder):
        raise wrong(path, "is a pattern, which an intent cannot give: write it here, or take a value, { eq = … }")
    return cast("str", parsed)


def placeholders_in(part: object) -> Iterator[Placeholder]:
    """Yield all placeholders in a part of a policy, at any depth."""
    if isinstance(part, Placeholder):
        yield part
    elif isinstance(part, tuple):
        for one in cast("tuple[object, ...]", part):
            yield from placeholders_in(one)
    elif isinstance(part, Struct):
        for field in part.__struct_fields__:
            yield from placeholders_in(getattr(part, field))


def probe_of(one: Placeholder) -> Any:
    """Return the probe of a placeholder: the value source that tests a policy before there is an intent."""
    return one.slot.probe


def values_of(intent: Intent) -> ValueSource:
    """Make the value source of an intent: its parameters and its own fields."""
    # The own fields come last, so a parameter cannot replace the principal that signed.
    given: Mapping[str, Any] = {
        **intent.parameters,
        "principal": intent.principal,
        "purpose": intent.purpose,
        "statement": intent.statement,
        "tenant": intent.tenant,
        "agent": intent.agent,
        "agent_key": intent.agent_key,
    }

    def take(one: Placeholder) -> Any:
        found = given.get(one.name, UNSET)
        if found is UNSET:
            raise wrong(one.path, f"takes {one.name} from the intent, which does not have it: add it to the intent")
        if not one.slot.fits(found):
            raise wrong(
                one.path,
                f"takes {one.name} from the intent, where it is {shown(found)}, but must be {one.slot.what}",
            )
        return found

    return take


def _parsed(raw: str, path: str, slot: Slot) -> str | Placeholder:
    whole = _TAKEN.fullmatch(raw)
    if whole is not None:
        if not is_attribute(whole[1]):
            raise wrong(path, f"{shown(raw)} names no value: use a letter, then letters, digits and _, all lower case")
        return Placeholder(whole[1], path, slot)
    plain = raw.replace("{{", "")
    if "{" in plain:
        raise wrong(
            path, f"{shown(raw)} contains a {{: write {{{{ for the character, or {{intent.NAME}} as the whole string"
        )
    return raw.replace("{{", "{")


_SHOWN = frozenset({str, int, float, bool})
