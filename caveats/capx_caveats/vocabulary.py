"""The set of caveats and constraints in use, and the only way from the bytes of a block to caveats.

Laws: a vocabulary is a value: nothing changes it, and `extended` makes another one. The same strict decoder reads every
caveat. It reads a block as a whole, or, if one caveat is unknown or ill-formed, each caveat by itself. A caveat that it
cannot read becomes `NotUnderstood`, which denies every call. Its neighbours keep their meaning. A block never has a
JSON object.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Union

import msgspec
from msgspec import Raw

from capx_caveats.caveat import Caveat
from capx_caveats.caveats import Allow, Budget, Expires, Fresh, NotBefore, NotUnderstood, Tenant, UntilCompleted, Where
from capx_caveats.chain_caveats import (
    Approved,
    ChainCaveat,
    Holder,
    Hop,
    Intent,
    MaxHops,
    Presented,
    Root,
    Sig,
    Signed,
    Task,
)
from capx_caveats.constraint import Constraint, is_own
from capx_caveats.errors import InvalidCaveat
from capx_caveats.extensions import Own, decoder, demand_readable, own_constraints
from capx_caveats.names import is_action
from capx_caveats.shown_values import excerpt, printable
from capx_caveats.texts import pattern_room

MAX_CAVEATS = 64
"""The most caveats in a block."""
MAX_BRACKETS = 256
"""The most `[` bytes in a block; this bounds the depth of nesting and the work together."""

_FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_elements = msgspec.json.Decoder(list[Raw])


class TooLarge(InvalidCaveat):
    """A block has more caveats or brackets than a verifier reads."""


class Vocabulary:
    """An immutable set of caveats and own constraints by tag; `extended` makes a larger one."""

    __slots__ = ("_all", "_failures", "_one", "caveats", "own")

    caveats: tuple[type[Caveat], ...]
    """The classes of caveats that it reads."""
    own: Own
    """The constraints that it reads besides the built-in ones."""

    def __init__(self, *caveats: type[Caveat], own: Iterable[type[Constraint]] = ()) -> None:
        self.caveats, self.own = caveats, frozenset(own)
        # A service's own class may raise any exception. It means "not understood": a bug in it denies, it never allows.
        own_kinds = any(map(is_own, self.caveats)) or bool(self.own)
        self._failures: tuple[type[Exception], ...] = (Exception,) if own_kinds else _FAILURES
        caveat: Any = Union[self.caveats]  # noqa: UP007 - a union made at run time
        self._one: Callable[[Raw], Caveat] = decoder(caveat, self.own)
        self._all: Callable[[bytes], tuple[Caveat, ...]] = decoder(tuple[caveat, ...], self.own)

    def extended(self, *kinds: type[Caveat] | type[Constraint]) -> "Vocabulary":
        """Return this vocabulary with a service's own caveats and constraints, whose tags have a dot (`acme.region`).

        InvalidCaveat for a class that cannot be added; the message says why.
        """
        taken = {kind.__struct_config__.tag for kind in (*self.caveats, *self.own)}
        for kind in kinds:
            if not issubclass(kind, Caveat | Constraint):  # pyright: ignore[reportUnnecessaryIsInstance] # not everybody checks types
                raise InvalidCaveat(f"{kind!r:.80} is neither a Caveat nor a Constraint: give a subclass of one")
            tag = kind.__struct_config__.tag
            if not is_own(kind) or not is_action(tag):
                raise InvalidCaveat(f"{kind.__name__} needs a dotted tag of its own, such as acme.region")
            if issubclass(kind, (ChainCaveat, UntilCompleted)):
                raise InvalidCaveat(f"{kind.__name__} is a subclass of a mark or UntilCompleted: derive it from Caveat")
            demand_readable(kind)
            if tag in taken:
                raise InvalidCaveat(f"the tag {tag} is in use: choose another one")
            taken.add(tag)
        caveats = (kind for kind in kinds if issubclass(kind, Caveat))
        constraints = (kind for kind in kinds if issubclass(kind, Constraint))
        return Vocabulary(*self.caveats, *caveats, own=(*self.own, *constraints))

    def decode(self, block: bytes) -> tuple[Caveat, ...]:
        """Return the caveats of one block, at least one; TooLarge beyond the limits, and no other error."""
        # Count before decoding: deep nesting is refused before it costs anything. A short block cannot have too many.
        if len(block) > MAX_BRACKETS:
            _demand_brackets(block)
        room = pattern_room()
        before = room.left
        try:
            caveats = self._all(block)
        except self._failures:
            caveats = self._one_by_one(block, before)
        if len(caveats) > MAX_CAVEATS:
            raise TooLarge(f"a block has more than {MAX_CAVEATS} caveats")
        return caveats or _EMPTY

    def _one_by_one(self, block: bytes, patterns: int) -> tuple[Caveat, ...]:
        """Decode each caveat by itself, because something in the block is not understood.

        `patterns` is what was left for patterns before the block.
        """
        try:
            block.decode()  # msgspec splits elements without checking their texts; JSON must be UTF-8
            elements = _elements.decode(block)
        except _FAILURES as error:
            # The patterns that were built stay counted, because nothing counts them again.
            return (NotUnderstood(_excerpt(block), _reason(error)),)
        # The patterns are read again, and remembered: they count once.
        pattern_room().left = patterns
        return tuple(map(self._element, elements))

    def _element(self, element: Raw) -> Caveat:
        try:
            return self._one(element)
        except self._failures as error:
            raw = bytes(element)
            return NotUnderstood(_excerpt(raw), _reason(error), _OWN.match(raw) is not None)


_EMPTY = (NotUnderstood("[]", "an empty block"),)
# Only the compact form that capx writes: any other spelling is not understood either, but does not count as own.
_OWN = re.compile(rb'\["(?![^"]{129})[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+"')


_EXCERPT = 200
"""The most characters to show of a caveat that is not understood."""


def _excerpt(raw: bytes) -> str:
    return excerpt(raw.decode(errors="backslashreplace"), _EXCERPT)


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.DecodeError):
        return printable(str(error)[:200])
    known = isinstance(error, UnicodeDecodeError | RecursionError)
    return "not strict UTF-8 or nested too deeply" if known else f"its own class failed: {type(error).__name__}"


def encode_block(caveats: tuple[Caveat, ...]) -> bytes:
    """Return the compact bytes of one block; InvalidCaveat if the class of a caveat would not read it back."""
    if not caveats:
        raise InvalidCaveat("an empty block has no meaning: give at least one caveat")
    if len(caveats) > MAX_CAVEATS:
        raise TooLarge(f"a block has at most {MAX_CAVEATS} caveats: give fewer, or append a second block")
    block = b"[" + b",".join(map(_encode, caveats)) + b"]"
    _demand_brackets(block)
    return block


def _demand_brackets(block: bytes) -> None:
    if block.count(b"[") > MAX_BRACKETS:
        raise TooLarge(f"a block has more than {MAX_BRACKETS} brackets")


def _encode(caveat: Caveat) -> bytes:
    if caveat.__struct_config__.tag is None:
        raise InvalidCaveat(f"a caveat without a tag cannot be written into a token: {caveat.sentence()}")
    # Read it back before it goes into a token: a caveat that no verifier reads would make the token useless.
    try:
        raw = msgspec.json.encode(caveat.wire())
        again: Any = decoder(type(caveat), frozenset(own_constraints(caveat)))(raw)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise InvalidCaveat(f"{type(caveat).__name__} cannot be written: {error}") from None
    if again != caveat:
        raise InvalidCaveat(f"{type(caveat).__name__} reads back as another value: check its fields and __post_init__")
    return raw


DEFAULT = Vocabulary(
    Task,
    Intent,
    Root,
    Holder,
    Hop,
    MaxHops,
    Presented,
    Sig,
    Approved,
    Signed,
    UntilCompleted,
    Expires,
    NotBefore,
    Fresh,
    Tenant,
    Allow,
    Where,
    Budget,
)
"""The built-in vocabulary. A constraint is not listed here: `AnyConstraint` has them all."""
