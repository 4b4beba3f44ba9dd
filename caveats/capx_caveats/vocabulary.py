"""The set of caveats and constraints in use, and the one way from a block's bytes to caveats.

Laws: a vocabulary is a value; another is made, none is changed. Every caveat is read by the same strict decoder,
whether with its neighbours or, when one of them is unknown or ill-formed, on its own: what cannot be read stands as
`NotUnderstood`, which refuses, and its neighbours keep their meaning. No JSON object stands anywhere.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Union

import msgspec
from msgspec import Raw

from capx_caveats.caveat import Caveat
from capx_caveats.caveats import Allow, Budget, Expires, Fresh, NotBefore, NotUnderstood, Tenant, UntilCompleted, Where
from capx_caveats.chain_caveats import ChainCaveat, Holder, Hop, Intent, MaxHops, Presented, Root, Sig, Task
from capx_caveats.constraint import Constraint, is_own
from capx_caveats.errors import InvalidCaveat
from capx_caveats.extensions import Own, decoder, demand_readable, own_constraints
from capx_caveats.names import is_action
from capx_caveats.values import excerpt, printable

MAX_CAVEATS = 64
"""Caveats per block."""
MAX_BRACKETS = 256
"""`[` bytes per block, which bounds depth and work at once."""

_FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_elements = msgspec.json.Decoder(list[Raw])


class TooLarge(InvalidCaveat):
    """A block has more caveats or brackets than are read."""


class Vocabulary:
    """An immutable set of caveats and own constraints by tag; `extended` makes a larger one."""

    __slots__ = ("_all", "_failures", "_one", "caveats", "own")

    caveats: tuple[type[Caveat], ...]
    """The caveats that are read."""
    own: Own
    """The constraints that are read besides the built-in ones."""

    def __init__(self, *caveats: type[Caveat], own: Iterable[type[Constraint]] = ()) -> None:
        self.caveats, self.own = caveats, frozenset(own)
        # A service's own class may raise anything, and allows nothing by it.
        own_kinds = any(map(is_own, self.caveats)) or bool(self.own)
        self._failures: tuple[type[Exception], ...] = (Exception,) if own_kinds else _FAILURES
        caveat: Any = Union[self.caveats]  # noqa: UP007 - a union made at run time
        self._one: Callable[[Raw], Caveat] = decoder(caveat, self.own)
        self._all: Callable[[bytes], tuple[Caveat, ...]] = decoder(tuple[caveat, ...], self.own)

    def extended(self, *kinds: type[Caveat] | type[Constraint]) -> "Vocabulary":
        """This vocabulary and a service's own caveats and constraints, whose tags are dotted (`acme.region`)."""
        taken = {kind.__struct_config__.tag for kind in (*self.caveats, *self.own)}
        for kind in kinds:
            if not issubclass(kind, Caveat | Constraint):  # pyright: ignore[reportUnnecessaryIsInstance] # not everybody checks types
                raise InvalidCaveat(f"{kind!r:.80} is neither a Caveat nor a Constraint")
            tag = kind.__struct_config__.tag
            if not is_own(kind) or not is_action(tag):
                raise InvalidCaveat(f"{kind.__name__} needs a dotted tag of its own, such as acme.region")
            if issubclass(kind, (ChainCaveat, UntilCompleted)):
                raise InvalidCaveat(f"{kind.__name__} is of a kind that the mechanism looks for by its tag")
            demand_readable(kind)
            if tag in taken:
                raise InvalidCaveat(f"the tag {tag} is in use")
            taken.add(tag)
        caveats = (kind for kind in kinds if issubclass(kind, Caveat))
        constraints = (kind for kind in kinds if issubclass(kind, Constraint))
        return Vocabulary(*self.caveats, *caveats, own=(*self.own, *constraints))

    def decode(self, block: bytes) -> tuple[Caveat, ...]:
        """The caveats of one block, never none; TooLarge beyond the limits, and no other error."""
        if len(block) > MAX_BRACKETS:
            _demand_brackets(block)
        try:
            caveats = self._all(block)
        except self._failures:
            caveats = self._one_by_one(block)
        if len(caveats) > MAX_CAVEATS:
            raise TooLarge(f"a block has more than {MAX_CAVEATS} caveats")
        return caveats or _EMPTY

    def _one_by_one(self, block: bytes) -> tuple[Caveat, ...]:
        """The same, where something in the block is not understood."""
        try:
            block.decode()  # elements are split without a look at their texts, and what is no UTF-8 is no JSON
            elements = _elements.decode(block)
        except _FAILURES as error:
            return (NotUnderstood(_excerpt(block), _reason(error)),)
        return tuple(map(self._alone, elements))

    def _alone(self, element: Raw) -> Caveat:
        try:
            return self._one(element)
        except self._failures as error:
            raw = bytes(element)
            return NotUnderstood(_excerpt(raw), _reason(error), _OWN.match(raw) is not None)


_EMPTY = (NotUnderstood("[]", "an empty block"),)
# In the spelling of whoever writes compactly: what is spelt otherwise is no less strange for it.
_OWN = re.compile(rb'\["(?![^"]{129})[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+"')


_EXCERPT = 200
"""Characters that are shown of what is not understood."""


def _excerpt(raw: bytes) -> str:
    return excerpt(raw.decode(errors="backslashreplace"), _EXCERPT)


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.DecodeError):
        return printable(str(error)[:200])
    known = isinstance(error, UnicodeDecodeError | RecursionError)
    return "not strict UTF-8 or nested too deeply" if known else f"its own class failed: {type(error).__name__}"


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
    if caveat.__struct_config__.tag is None:
        raise InvalidCaveat(f"what has no tag is not passed on: {caveat.sentence()}")
    try:
        raw = msgspec.json.encode(caveat.wire())
        again: Any = decoder(type(caveat), frozenset(own_constraints(caveat)))(raw)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise InvalidCaveat(f"{type(caveat).__name__} cannot be written: {error}") from None
    if again != caveat:
        raise InvalidCaveat(f"{type(caveat).__name__} does not read back as it was written")
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
    UntilCompleted,
    Expires,
    NotBefore,
    Fresh,
    Tenant,
    Allow,
    Where,
    Budget,
)
"""The built-in vocabulary."""
