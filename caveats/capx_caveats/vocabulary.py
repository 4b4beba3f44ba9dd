"""The set of caveats in use, and the one way from a block's bytes to caveats.

Laws: a vocabulary is a value; another is made, none is changed. Every caveat is decoded by the same strict
decoder, on its own: what is unknown or ill-formed stands as `NotUnderstood`, which refuses, and its neighbours
keep their meaning. No JSON object stands anywhere.
"""

from typing import Any, Union

import msgspec
from msgspec import Raw

from capx_caveats.caveat import Caveat
from capx_caveats.caveats import Allow, Expires, NotBefore, NotUnderstood, Tenant, UntilCompleted, Where
from capx_caveats.errors import InvalidCaveat
from capx_caveats.marks import Hop, Intent, Mark, MaxHops, Presented, Root, Task
from capx_caveats.values import printable

MAX_CAVEATS = 64
"""Caveats per block."""
MAX_BRACKETS = 256
"""`[` bytes per block, which bounds depth and work at once."""

_FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_elements = msgspec.json.Decoder(list[Raw])


class TooLarge(InvalidCaveat):
    """A block has more caveats or brackets than are read."""


class Vocabulary:
    """An immutable set of caveat classes by tag; `extended` makes a larger one."""

    __slots__ = ("_classes", "_one")

    def __init__(self, *classes: type[Caveat]) -> None:
        self._classes = classes
        self._one: msgspec.json.Decoder[Caveat] = msgspec.json.Decoder(Union[classes])  # noqa: UP007 - a union made at run time

    def extended(self, *classes: type[Caveat]) -> "Vocabulary":
        """This vocabulary and a service's own caveats, whose tags are dotted (`acme.region`)."""
        taken = {old.__struct_config__.tag for old in self._classes}
        for new in classes:
            tag = new.__struct_config__.tag
            if not isinstance(tag, str) or "." not in tag or issubclass(new, Mark):
                raise InvalidCaveat(f"{new.__name__} needs a dotted tag of its own, such as acme.region")
            if tag in taken:
                raise InvalidCaveat(f"the tag {tag} is in use")
            taken.add(tag)
        return Vocabulary(*self._classes, *classes)

    def decode(self, block: bytes) -> tuple[Caveat, ...]:
        """The caveats of one block, never none; TooLarge beyond the limits, and no other error."""
        _demand_brackets(block)
        try:
            elements = _elements.decode(block)
        except _FAILURES as error:
            return (NotUnderstood(_excerpt(block), _reason(error)),)
        if len(elements) > MAX_CAVEATS:
            raise TooLarge(f"a block has more than {MAX_CAVEATS} caveats")
        if not elements:
            return (NotUnderstood("[]", "an empty block"),)
        one = self._one.decode
        caveats: list[Caveat] = []
        for element in elements:
            try:
                caveats.append(one(element))
            except _FAILURES as error:
                caveats.append(NotUnderstood(_excerpt(bytes(element)), _reason(error)))
        return tuple(caveats)


def _excerpt(raw: bytes) -> str:
    text = raw[:200].decode(errors="backslashreplace")
    return printable(text if len(raw) <= 200 else text + "…")


def _reason(error: Exception) -> str:
    return (
        printable(str(error)[:200])
        if isinstance(error, msgspec.DecodeError)
        else "not strict UTF-8 or nested too deeply"
    )


def encode_block(caveats: tuple[Caveat, ...]) -> bytes:
    """The compact bytes of one block; InvalidCaveat when its own class would not read one of them back."""
    if not caveats:
        raise InvalidCaveat("an empty block says nothing")
    if len(caveats) > MAX_CAVEATS:
        raise TooLarge(f"a block has at most {MAX_CAVEATS} caveats")
    block = b"[" + b",".join(map(_encode, caveats)) + b"]"
    _demand_brackets(block)
    return block


def _demand_brackets(block: bytes) -> None:
    if block.count(b"[") > MAX_BRACKETS:
        raise TooLarge(f"a block has more than {MAX_BRACKETS} brackets")


def _encode(caveat: Caveat) -> bytes:
    if isinstance(caveat, NotUnderstood):
        raise InvalidCaveat(f"what is not understood is not passed on: {caveat.what}")
    try:
        raw = msgspec.json.encode(caveat.wire())
        again: Any = msgspec.json.decode(raw, type=type(caveat))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise InvalidCaveat(f"{type(caveat).__name__} cannot be written: {error}") from None
    if again != caveat:
        raise InvalidCaveat(f"{type(caveat).__name__} does not read back as it was written")
    return raw


DEFAULT = Vocabulary(
    Task,
    Intent,
    Root,
    Hop,
    MaxHops,
    Presented,
    UntilCompleted,
    Expires,
    NotBefore,
    Tenant,
    Allow,
    Where,
)
"""The built-in vocabulary."""
