"""A capability: authority at one audience, which its holder can narrow but not widen.

Laws: bytes in, a new immutable value out; no key, no network. What is appended is decoded strictly first, so an
invalid block cannot be made, and room for a presentation is kept. A capability is a bearer secret: it shows
itself only as `text`. What its holder reads in it is not verified.
"""

import os
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NoReturn, TypeVar

from capx.crypto.base64url import b64u
from capx.crypto.hashing import mac
from capx.crypto.keys import AudienceKey
from capx.errors import InvalidRequest, MalformedToken
from capx.tokens import chain, wire
from capx.tokens.binding import Received
from capx_caveats import (
    DEFAULT,
    Allow,
    Appendable,
    Caveat,
    Entry,
    Hop,
    InvalidCaveat,
    NotUnderstood,
    Presented,
    Root,
    Task,
    TooLarge,
    allow,
    encode_block,
    misplaced,
    resolved,
)

C = TypeVar("C", bound=Caveat)

_ROOM = 512
"""Characters of text kept for a presentation."""


class Token:
    """What capabilities and presentations are: bytes with ids and a place in the execution graph."""

    text: str
    """The token itself: a secret."""
    _frame: wire.Frame

    def __init__(self, frame: wire.Frame, text: str) -> None:
        # Written past __setattr__: a token that is shared must not change under its other holders.
        self.__dict__.update(_frame=frame, text=text)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a token does not change: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a token does not change: {name} cannot be deleted")

    @property
    def audience(self) -> str:
        """The resource this token speaks to."""
        return self._frame.identifier.audience

    @property
    def kid(self) -> str:
        """The id of the root key it was minted under."""
        return self._frame.identifier.kid

    @property
    def issued_at(self) -> int:
        """When it was minted, in Unix seconds."""
        return self._frame.identifier.issued_at

    @property
    def blocks(self) -> tuple[chain.Block, ...]:
        """The blocks' bytes, the authority's first."""
        return self._frame.blocks

    @cached_property
    def ids(self) -> tuple[bytes, ...]:
        """The id of what was minted and of what each block made: 16 bytes each. The last names this token."""
        return tuple(digest[:16] for digest in chain.digests(self._frame.identifier_bytes, self._frame.blocks))

    @property
    def id(self) -> bytes:
        """What revokes this token and all below it: 16 bytes."""
        return self.ids[-1]

    @cached_property
    def caveats(self) -> tuple[tuple[Caveat, ...], ...]:
        """The caveats of each block, as the built-in vocabulary reads them, not verified."""
        return tuple(_read(block) for block in self._frame.blocks)

    @cached_property
    def path(self) -> tuple[bytes, ...]:
        """The nodes from the root to the agent that holds this: 16 bytes each; empty if no root is named."""
        root = self._claim(Root)
        if root is None:
            return ()
        return chain.nodes(root.id, (*(step.nonce for step in root.steps), *(hop.nonce for hop in self._hops)))

    @property
    def node(self) -> bytes | None:
        """The node of the execution graph at which this is held."""
        return self.path[-1] if self.path else None

    @property
    def hops(self) -> tuple[str, ...]:
        """The labels along the path, as their delegators chose them."""
        root = self._claim(Root)
        return (*(step.to for step in (root.steps if root else ())), *(hop.to for hop in self._hops))

    @property
    def task(self) -> str | None:
        """The task that the authority's block names, not verified."""
        task = self._claim(Task)
        return None if task is None else task.id

    @cached_property
    def _hops(self) -> tuple[Hop, ...]:
        return tuple(block[0] for block in self.caveats[1:] if isinstance(block[0], Hop))

    def _claim(self, kind: type[C]) -> C | None:
        first = self.caveats[0] if self.caveats else ()
        return next((caveat for caveat in first if isinstance(caveat, kind)), None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.audience!r}, id={b64u(self.id)!r}, hops={self.hops!r})"

    def __reduce__(self) -> NoReturn:
        raise InvalidRequest("a token is a secret: pass its `text` on where it must go")


class Presentation(Token):
    """One capability bound to one request: what is sent to a resource, and worth that one call."""

    @property
    def authorization(self) -> str:
        """The value of the `Authorization` header."""
        return f"Capx {self.text}"


class Capability(Token):
    """Authority at one audience."""

    @classmethod
    def parse(cls, text: str) -> "Capability":
        """The capability a text spells; MalformedToken for any other text, a presentation among them."""
        capability = cls(wire.decode(text), text)
        if any(isinstance(caveat, Presented) for block in capability.caveats for caveat in block):
            raise MalformedToken("this is a presentation: good for one call, not to be held or narrowed")
        return capability

    def attenuate(self, *caveats: Appendable, now: int | None = None) -> "Capability":
        """A capability narrowed by one more block; durations count from `now` (Unix seconds).

        Raises InvalidCaveat for a caveat that cannot be meant, MalformedToken (too_large) when there is no room.
        """
        return self._extended(_resolved(caveats, now))

    def delegate(
        self,
        *,
        to: str,
        allow: Sequence[str | Entry] | None = None,
        caveats: Iterable[Appendable] = (),
        nonce: str | None = None,
        now: int | None = None,
    ) -> "Capability":
        """What another agent gets: one block that begins with a hop, then `allow`, then the caveats.

        `to` is a label for people. `nonce` (8 random bytes in base64url) is what all capabilities of one
        delegation share.
        """
        hop = Hop(to, nonce or new_nonce())
        return self._extended((hop, *_allowed(allow), *_resolved(caveats, now)))

    def present(self, received: Received, *, now: int | None = None, nonce: str | None = None) -> Presentation:
        """Bind a copy to one request, at one time, once; the capability itself never leaves its holder."""
        at = int(time.time()) if now is None else now
        mark = Presented(received.profile, received.digest(), at, nonce or b64u(os.urandom(12)))
        frame = self._appended(encode_block((mark,)))
        return Presentation(frame, wire.encode(frame.identifier, frame.blocks, frame.signature))

    def _extended(self, caveats: tuple[Caveat, ...]) -> "Capability":
        # What stands where it may not would refuse every call.
        if mark := misplaced(caveats, authority=False):
            raise InvalidCaveat(f"a holder does not append `{mark.sentence()}` here: it would refuse every call")
        block = encode_block(caveats)
        frame = self._appended(block)
        text = wire.encode(frame.identifier, frame.blocks, frame.signature)
        if len(frame.blocks) >= wire.MAX_BLOCKS or len(text) > wire.MAX_TEXT - _ROOM:
            raise MalformedToken("the token is too large: no room is left to present it", "too_large")
        return Capability(frame, text)

    def _appended(self, block: bytes) -> wire.Frame:
        old = self._frame
        return wire.Frame(
            old.identifier,
            old.identifier_bytes,
            (*old.blocks, block),
            chain.extend(old.signature, block),
            b"",
        )


def mint(key: AudienceKey, caveats: Iterable[Caveat], *, now: int, nonce: str | None = None) -> Capability:
    """A new capability whose first block is the authority's; `nonce` is 16 random bytes in base64url."""
    return mint_block(key, encode_block(tuple(caveats)), now=now, nonce=nonce or b64u(os.urandom(16)))


def mint_block(key: AudienceKey, block: bytes, *, now: int, nonce: str) -> Capability:
    """The capability of this identifier and this first block: the same bytes whenever it is made."""
    identifier = wire.Identifier(key.kid, key.audience, nonce, now)
    raw = identifier.encode()
    wire.Identifier.decode(raw)
    signature = chain.extend(mac(key.mac_key, raw), block)
    return Capability(
        wire.Frame(identifier, raw, (block,), signature, b""), wire.encode(identifier, (block,), signature)
    )


def new_nonce() -> str:
    """A fresh hop nonce."""
    return b64u(os.urandom(8))


def _allowed(entries: Sequence[str | Entry] | None) -> tuple[Allow, ...]:
    if isinstance(entries, str):
        raise InvalidCaveat(f"allow is a list of actions: write [{entries!r:.80}]")
    return () if entries is None else (allow(*entries),)


def _resolved(caveats: Iterable[Appendable], now: int | None) -> tuple[Caveat, ...]:
    return resolved(caveats, int(time.time()) if now is None else now)


def _read(block: chain.Block) -> tuple[Caveat, ...]:
    if isinstance(block, chain.ThirdParty):
        return (NotUnderstood("a third-party caveat", "it needs a discharge"),)
    try:
        return DEFAULT.decode(block)
    except TooLarge as error:
        return (NotUnderstood(f"a block of {len(block)} bytes", str(error)),)
