"""A capability: authority at one audience, which its holder can narrow but not widen.

Laws:

- Every operation returns a new immutable value. It needs no key and no network.
- Caveats are checked before they are appended, so an invalid block cannot be made.
- A capability always has room for one presentation.
- A capability is a secret. Only `text` shows it; `repr` and pickle do not.
- If the authority bound it to a key, only who holds that key can delegate or present it. The key is never in its text.
- A holder has no key, so nothing that it reads in a token is verified. Only a verifier can do that.
"""

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NoReturn, TypeVar

from msgspec import UNSET

from capx.crypto.base64url import b64u
from capx.crypto.hashing import mac
from capx.crypto.instants import instant, now_or
from capx.crypto.keys import AudienceKey
from capx.errors import InvalidRequest, MalformedToken
from capx.tokens import chain, wire
from capx.tokens.approval_caveat import ApprovalDemanded, ApprovalTerms, KeyedCaveat, read_approval_caveat
from capx.tokens.binding import Received
from capx.tokens.chain_text import ChainText
from capx.tokens.discharge import MAX_DISCHARGES, Discharge, block_caveats
from capx.tokens.signed_blocks import SigningKey, sign_block
from capx_caveats import (
    Allow,
    Appendable,
    Caveat,
    Entry,
    Holder,
    Hop,
    Intent,
    InvalidCaveat,
    NotUnderstood,
    Presented,
    Root,
    Task,
    allow,
    encode_block,
    misplaced,
    resolved,
)

C = TypeVar("C", bound=Caveat)

_ALGORITHM = "ed25519:"
"""As `capx.crypto.ed25519` writes public keys; that module is slow to import."""

_ROOM = 512
"""Characters of text that stay free for a presentation."""


class Token:
    """The base of capabilities and presentations: bytes with ids and a place in the execution graph.

    Nothing that a token says of itself is verified: anybody can write one.
    """

    text: str
    """The token itself: a secret."""
    _frame: wire.Frame

    def __init__(self, frame: wire.Frame, text: str) -> None:
        # This bypasses __setattr__, which forbids changes: several holders may share one token.
        self.__dict__.update(_frame=frame, text=text)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a token is immutable: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a token is immutable: {name} cannot be deleted")

    @property
    def audience(self) -> str:
        """The resource that this token is for."""
        return self._frame.identifier.audience

    @property
    def kid(self) -> str:
        """The id of the root key that it was minted under."""
        return self._frame.identifier.kid

    @property
    def issued_at(self) -> int:
        """The time of minting, in Unix seconds."""
        return self._frame.identifier.issued_at

    @property
    def blocks(self) -> tuple[chain.Block, ...]:
        """The blocks' bytes, the authority's first."""
        return self._frame.blocks

    @cached_property
    def ids(self) -> tuple[bytes, ...]:
        """The ids of the minted token and of each narrower one up to this: 16 bytes each; the last is this token's."""
        return tuple(digest[:16] for digest in self._digests)

    @cached_property
    def _digests(self) -> tuple[bytes, ...]:
        return chain.digests(self._frame.identifier_bytes, self._frame.blocks)

    @property
    def digest(self) -> bytes:
        """D of its last block, which covers all its public bytes: 32 bytes."""
        return self._digests[-1]

    @property
    def chain_text(self) -> ChainText:
        """Its public bytes, without the signature: no token."""
        return ChainText.of(self._frame.identifier_bytes, self._frame.blocks)

    @property
    def id(self) -> bytes:
        """The id of this token: 16 bytes. To revoke it ends this token and all that were made from it."""
        return self.ids[-1]

    @cached_property
    def caveats(self) -> tuple[tuple[Caveat, ...], ...]:
        """The caveats of each block, as the built-in vocabulary reads them; not verified."""
        return tuple(_read(block) for block in self._frame.blocks)

    @cached_property
    def demands(self) -> tuple[bytes, ...]:
        """The cids of its demands for an approval, in the order of the blocks; not verified."""
        return tuple(block.cid for block in self.blocks if isinstance(block, chain.ThirdParty))

    @cached_property
    def path(self) -> tuple[bytes, ...]:
        """The nodes from the root to the agent that holds this: 16 bytes each; empty if the token names no root."""
        root = self._claim(Root)
        if root is None:
            return ()
        return chain.nodes(root.id, (*(step.nonce for step in root.steps), *(hop.nonce for hop in self._hops)))

    @property
    def node(self) -> bytes | None:
        """The node of the agent that holds this, in the execution graph; None if the token names no root."""
        return self.path[-1] if self.path else None

    @property
    def hops(self) -> tuple[str, ...]:
        """The labels along the path; each delegator chose one."""
        root = self._claim(Root)
        return (*(step.to for step in (root.steps if root else ())), *(hop.to for hop in self._hops))

    @property
    def task(self) -> str | None:
        """The task that the authority's block names; not verified."""
        task = self._claim(Task)
        return None if task is None else task.id

    @property
    def intent(self) -> str | None:
        """The digest of the intent that the authority's block names; not verified."""
        intent = self._claim(Intent)
        return None if intent is None else intent.digest

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The public keys of its holders (`ed25519:` and 43 characters), from first to last; empty for a bearer token.

        They are claims of the token, as everything here. A verifier checks them.
        """
        holder = self._claim(Holder)
        named = () if holder is None else (holder.key, *(hop.key for hop in self._hops if hop.key is not UNSET))
        return tuple(f"{_ALGORITHM}{key}" for key in named)

    @property
    def holder_key(self) -> str | None:
        """The key that it is bound to, the last of `keys`; None for a bearer token."""
        return self.keys[-1] if self.keys else None

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
        raise InvalidRequest("a token is a secret and cannot be pickled: pass its `text` to whoever needs it")


class Presentation(Token):
    """One capability bound to one request. An agent sends it to a resource; it is good for that one call.

    Its text has the approvals that go with it behind the token, bound to it.
    """

    @property
    def authorization(self) -> str:
        """The value of the `Authorization` header."""
        return f"Capx {self.text}"


class Capability(Token):
    """Authority at one audience. Its holder can narrow, delegate and present it, offline.

    If it is bound to a key, `with_key` gives one that can be delegated and presented.
    """

    key: SigningKey | None = None
    """The key of its holder, which signs; None if the token is a bearer's, or the key is not here."""

    @classmethod
    def parse(cls, text: str) -> "Capability":
        """The capability in a text, not verified; MalformedToken for any other text, including a presentation."""
        capability = cls(wire.decode(text), text)
        if any(isinstance(caveat, Presented) for block in capability.caveats for caveat in block):
            raise MalformedToken("this is a presentation, good for one call: it cannot be held or narrowed")
        return capability

    def with_key(self, key: SigningKey) -> "Capability":
        """The same capability, with the key of its holder; InvalidRequest if the token does not name this key last."""
        if self.holder_key is None:
            raise InvalidRequest("this token is bound to no key: it needs none")
        if key.public != self.holder_key:
            raise InvalidRequest(f"this token is bound to {self.holder_key}, and this is the key {key.public}")
        return _held_by(self, key)

    def attenuate(
        self, *caveats: Appendable, approval: ApprovalTerms | KeyedCaveat | None = None, now: int | None = None
    ) -> "Capability":
        """A capability that is narrowed by one more block; durations count from `now` (Unix seconds).

        With `approval` (of `capx.approval`), each call then also needs the approval of people: a third-party caveat
        behind the block. Raises InvalidCaveat for a caveat that a holder cannot append, MalformedToken (too_large) when
        there is no room.
        """
        narrowed = self if approval is not None and not caveats else self._extended(_resolved(caveats, now))
        return _held_by(narrowed if approval is None else narrowed.demanding(approval), self.key)

    def demanding(self, approval: ApprovalTerms | KeyedCaveat) -> "Capability":
        """The same capability, each call of which needs an approval: one more third-party caveat.

        Give a `KeyedCaveat` to use one demand in several capabilities, so that one approval serves all of them. The
        same one twice in a chain needs two copies of an approval.
        """
        demand = approval.drawn() if isinstance(approval, ApprovalTerms) else approval
        return _held_by(self._with(demand.below(self._frame.signature)), self.key)

    def delegate(
        self,
        *,
        to: str,
        to_key: SigningKey | str | None = None,
        allow: Sequence[str | Entry] | None = None,
        caveats: Iterable[Appendable] = (),
        approval: ApprovalTerms | KeyedCaveat | None = None,
        nonce: str | None = None,
        now: int | None = None,
    ) -> "Capability":
        """The capability for another agent: one more block, with a hop, then `allow`, then the caveats.

        `to` is a label for people. `to_key` is the key of the other agent: its public half (`ed25519:` and 43
        characters), or the key itself, which the child then holds. A token that is bound to a key needs it; any other
        token must not have it (InvalidRequest). `approval` demands for each call the approval of people, before the
        hop. `nonce` is 8 random bytes in base64url; all capabilities of one delegation share it. Raises as `attenuate`
        does.
        """
        signer = self._signer("delegate")
        if signer is None and to_key is not None:
            raise InvalidRequest("this token is bound to no key, so the key of the next agent would prove nothing")
        if signer is not None and to_key is None:
            raise InvalidRequest("this token is bound to a key: give the key of the next agent, too (to_key)")
        public = to_key if to_key is None or isinstance(to_key, str) else to_key.public
        hop = Hop(to, nonce or new_nonce(), UNSET if public is None else _key_text(public))
        if approval is not None:
            # The demand comes first: the signature of the hop then covers it.
            demanding = self.demanding(approval)
            return demanding.delegate(to=to, to_key=to_key, allow=allow, caveats=caveats, nonce=nonce, now=now)
        child = self._extended((hop, *_allowed(allow), *_resolved(caveats, now)), signer)
        return child if to_key is None or isinstance(to_key, str) else _held_by(child, to_key)

    def present(
        self,
        received: Received,
        *,
        approvals: Iterable[Discharge] = (),
        now: int | None = None,
        nonce: str | None = None,
    ) -> Presentation:
        """Bind a copy to one request, at one time, for one use; the capability itself never leaves its holder.

        `approvals` go with it, bound to it: one for each demand of an approval. InvalidRequest if together they are
        more than a resource reads.
        """
        mark = Presented(received.profile, received.digest(), now_or(now), nonce or b64u(os.urandom(12)))
        frame = self._appended(self._block((mark,), self._signer("present")))
        text = wire.encode(frame.identifier, frame.blocks, frame.signature)
        bound = [one.bound_to(frame.signature) for one in approvals]
        if bound:
            text = ",".join([text, *bound])
            if len(bound) > MAX_DISCHARGES or len(text) > wire.MAX_CREDENTIAL:
                raise InvalidRequest(
                    f"a presentation goes with at most {MAX_DISCHARGES} approvals, and has at most "
                    f"{wire.MAX_CREDENTIAL} characters with them: give fewer approvals"
                )
        return Presentation(frame, text)

    def text_with(self, approvals: Iterable[Discharge]) -> str:
        """The token itself, with approvals bound to it, for a verifier that takes bare tokens: a secret."""
        return ",".join([self.text, *(one.bound_to(self._frame.signature) for one in approvals)])

    def _signer(self, act: str) -> SigningKey | None:
        """The key that signs what this holder appends; InvalidRequest if it is not here."""
        if self.holder_key is not None and self.key is None:
            raise InvalidRequest(
                f"only the holder of the key {self.holder_key} can {act} this token: give it that key (with_key)"
            )
        return self.key

    def _block(self, caveats: tuple[Caveat, ...], signer: SigningKey | None) -> bytes:
        return encode_block(caveats) if signer is None else sign_block(caveats, self._digests[-1], signer)

    def _extended(self, caveats: tuple[Caveat, ...], signer: SigningKey | None = None) -> "Capability":
        # A verifier denies every call with such a token, so refuse it here, where its author sees why.
        if mark := misplaced(caveats, authority=False):
            raise InvalidCaveat(f"a holder cannot append `{mark.sentence()}` here: every call would be denied")
        return self._with(self._block(caveats, signer))

    def _with(self, block: chain.Block) -> "Capability":
        """The capability with one more block, if there is room for a presentation."""
        frame = self._appended(block)
        text = wire.encode(frame.identifier, frame.blocks, frame.signature)
        if len(frame.blocks) >= wire.MAX_BLOCKS or len(text) > wire.MAX_TEXT - _ROOM:
            raise MalformedToken("the token is too large: no room is left to present it", "too_large")
        return Capability(frame, text)

    def _appended(self, block: chain.Block) -> wire.Frame:
        old = self._frame
        signature = chain.extend(old.signature, block)
        return wire.Frame(old.identifier, old.identifier_bytes, (*old.blocks, block), signature, b"")


def mint(key: AudienceKey, caveats: Iterable[Caveat], *, now: int, nonce: str | None = None) -> Capability:
    """A new capability whose first block, the authority's, holds these caveats.

    `now` is in Unix seconds; `nonce` is 16 random bytes in base64url.
    """
    return mint_block(key, encode_block(tuple(caveats)), now=instant("now", now), nonce=nonce or b64u(os.urandom(16)))


def mint_block(key: AudienceKey, block: bytes, *, now: int, nonce: str) -> Capability:
    """The capability with this identifier and this first block; the same arguments always give the same bytes."""
    identifier = wire.Identifier(key.kid, key.audience, nonce, now)
    raw = identifier.encode()
    # Every reader decodes strictly: do not mint what none of them accepts.
    wire.Identifier.decode(raw)
    signature = chain.extend(mac(key.mac_key, raw), block)
    frame = wire.Frame(identifier, raw, (block,), signature, b"")
    return Capability(frame, wire.encode(identifier, (block,), signature))


def _held_by(capability: Capability, key: SigningKey | None) -> Capability:
    held = Capability.__new__(Capability)
    held.__dict__.update(vars(capability), key=key)
    return held


def _key_text(public: str) -> str:
    """The text of a public key in a block; KeyProblem for any other text, and for a weak key."""
    from capx.crypto.agent_key import parse_agent_key  # slow to import, and only keyed tokens need it

    return b64u(parse_agent_key(public))


def new_nonce() -> str:
    """A fresh hop nonce."""
    return b64u(os.urandom(8))


def _allowed(entries: Sequence[str | Entry] | None) -> tuple[Allow, ...]:
    if isinstance(entries, str):
        raise InvalidCaveat(f"allow is a list of actions: write [{entries!r:.80}]")
    return () if entries is None else (allow(*entries),)


def _resolved(caveats: Iterable[Appendable], now: int | None) -> tuple[Caveat, ...]:
    return resolved(caveats, now_or(now))


def _read(block: chain.Block) -> tuple[Caveat, ...]:
    if isinstance(block, chain.ThirdParty):
        demand = read_approval_caveat(block.cid)
        foreign = NotUnderstood("a third-party caveat", "nobody here can discharge it")
        return (foreign if demand is None else ApprovalDemanded(demand.sentence()),)
    return block_caveats(block)
