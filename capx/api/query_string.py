"""Text by names, as in the query of a URL, read as a form.

Law: what is read is read strictly: an unknown name, one named twice that stands for one value, another spelling of a
number or a truth is refused.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from capx.errors import InvalidRequest

T = TypeVar("T", bound=Struct)

_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_BOOLEANS: Final = {"true": True, "false": False}


class NoQuery(Struct, frozen=True):
    """The form in which nothing is asked."""


def decode_query(pairs: Iterable[tuple[str, str]], kind: type[T]) -> T:
    """The form that these names and texts spell; InvalidRequest says what is wrong with others."""
    found: dict[str, Any] = {}
    hints: Mapping[str, Any] = get_type_hints(kind)
    for name, text in pairs:
        if name not in hints:
            known = f": only {', '.join(hints)}" if hints else ""
            raise InvalidRequest(f"{name!a:.40} is nothing that can be asked here{known}")
        if get_origin(hints[name]) is tuple:
            found.setdefault(name, []).append(text)
        elif name in found:
            raise InvalidRequest(f"{name} is named twice")
        else:
            found[name] = _value(name, text, hints[name])
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, InvalidRequest):
            # A form that says itself what is wrong.
            raise error.__cause__ from None
        raise InvalidRequest(f"this cannot be asked: {error}") from None


def _value(name: str, text: str, hint: Any) -> str | int | bool:
    kinds = {hint, *get_args(hint)}
    if bool in kinds:
        if text not in _BOOLEANS:
            raise InvalidRequest(f"{name} is true or false, not {text!a:.40}")
        return _BOOLEANS[text]
    if int in kinds:
        if not _NUMBER.fullmatch(text):
            raise InvalidRequest(f"{name} is a whole number, not {text!a:.40}")
        return int(text)
    return text
