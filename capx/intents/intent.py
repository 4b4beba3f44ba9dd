"""An intent: what a person asked for, as a document that has one digest, and the signature that makes it theirs.

    digest    = SHA-256 of the canonical JSON (RFC 8785) of the document, base64url
    signature = Ed25519 by the principal's key over H("capx/1/intent", digest), base64url

Laws: a document is one value: an optional member is absent, never null, and an unknown one is refused. It speaks of one
authority, named by the epoch of its store, so no other can open it, nor this one once it was restored. Its texts are
shown to people, so none hides a character. A parameter is a whole value, never a piece of text, and of all spellings
of a number that have one digest there is one.
"""

import hashlib
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final
from unicodedata import category

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import force_setattr

from capx.crypto import strict_json
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.canonical_json import canonical
from capx.crypto.hashing import digest
from capx.errors import InvalidRequest, MalformedToken
from capx.intents.epoch import is_epoch
from capx_caveats import JSON, SAFE_INTEGER, InvalidCaveat, Literal, When, is_attribute, is_label, parse_instant

LONGEST_STATEMENT: Final = 2_000
"""Characters of a statement."""
MOST_PARAMETERS: Final = 32
"""Parameters of one intent."""
LONGEST_DOCUMENT: Final = 16 * 1024
"""Bytes of a signed intent."""
OWN_NAMES: Final = frozenset({"principal", "purpose", "tenant", "agent", "statement"})
"""What a policy can name of an intent besides its parameters, and so no parameter is called."""

MOST_TASKS: Final = 1_000_000
"""Tasks that may be opened on one intent."""

_Count = Annotated[int, Meta(ge=1, le=MOST_TASKS)]
_Time = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)]
_Parameters = Annotated[Mapping[str, Literal], Meta(min_length=1)]
"""What is read is not empty: a document without parameters has no such member."""


class Intent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a person asked for; times in Unix seconds, `nonce` 16 random bytes in base64url.

    `authority` is the epoch of the store of the authority that it is meant for, `purpose` a name that its policy has
    for a kind of work, `statement` the person's own words, `agent` whom it empowers, if that is said. It may be opened
    `max_tasks` times, from `issued` on and before `not_after`. InvalidRequest for what cannot be meant.
    """

    principal: str
    authority: str
    purpose: str
    statement: str
    max_tasks: _Count
    issued: _Time
    not_after: _Time
    nonce: str
    tenant: str | UnsetType = UNSET
    parameters: _Parameters = MappingProxyType({})
    agent: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        _demand(is_label(self.principal), "the principal is a name of 1 to 128 characters, none of them hidden")
        _demand(is_epoch(self.authority), "the authority is named by the epoch of its store, as capx doctor shows it")
        _demand(is_attribute(self.purpose), "a purpose is a name such as qbr: a letter, then letters, digits and _")
        _demand(_is_statement(self.statement), "a statement is 1 to 2000 characters, none of them hidden")
        _demand(_is_natural(self.max_tasks, 1, MOST_TASKS), f"an intent opens 1 to {MOST_TASKS} tasks")
        times = (self.issued, self.not_after)
        _demand(all(_is_natural(time, 0, SAFE_INTEGER) for time in times), "times are whole seconds since 1970")
        _demand(self.issued < self.not_after, "an intent is issued before it ends")
        _demand(_is_nonce(self.nonce), "a nonce is 16 bytes in base64url")
        _demand(self.tenant is UNSET or is_label(self.tenant), "a tenant is a name of 1 to 128 characters")
        _demand(self.agent is UNSET or is_label(self.agent), "an agent is a name of 1 to 128 characters")
        _demand(len(self.parameters) <= MOST_PARAMETERS, f"an intent has at most {MOST_PARAMETERS} parameters")
        for name in self.parameters:
            good = is_attribute(name) and name not in OWN_NAMES
            _demand(good, f"{name!r:.40} names no parameter: a letter, then letters, digits and _, and none of its own")
        literals = {name: _literal(name, value) for name, value in self.parameters.items()}
        force_setattr(self, "parameters", MappingProxyType(literals))
        _demand(len(canonical(self.document())) <= LONGEST_DOCUMENT, "an intent is at most 16 KiB long")

    @classmethod
    def written(
        cls,
        *,
        principal: str,
        authority: str,
        purpose: str,
        statement: str,
        now: int,
        not_after: When = "8h",
        max_tasks: int = 1,
        tenant: str | None = None,
        parameters: Mapping[str, Literal] = MappingProxyType({}),
        agent: str | None = None,
    ) -> "Intent":
        """An intent as it is issued at `now` (Unix seconds), from which `not_after` counts, and like no other."""
        return cls(
            principal=principal,
            authority=authority,
            purpose=purpose,
            statement=statement,
            max_tasks=max_tasks,
            issued=now,
            not_after=parse_instant(not_after, now),
            nonce=b64u(os.urandom(16)),
            tenant=UNSET if tenant is None else tenant,
            parameters=parameters,
            agent=UNSET if agent is None else agent,
        )

    def document(self) -> dict[str, JSON]:
        """The document as JSON values: what the digest is about."""
        members = {name: getattr(self, name) for name in self.__struct_fields__}
        members["parameters"] = dict(self.parameters) or UNSET
        return {name: value for name, value in members.items() if value is not UNSET}

    @property
    def digest(self) -> str:
        """What every token of its tasks carries: 32 bytes in base64url."""
        return b64u(hashlib.sha256(canonical(self.document())).digest())

    def message(self) -> bytes:
        """What the principal signs: 32 bytes."""
        return digest(b"capx/1/intent", self.digest.encode())


class SignedIntent(Struct, frozen=True, forbid_unknown_fields=True):
    """An intent and what is said to be its principal's signature (64 bytes, base64url): only a policy can tell."""

    intent: Intent
    signature: str

    def __post_init__(self) -> None:
        _demand(_size(self.signature) == 64, "a signature is 64 bytes in base64url")

    @classmethod
    def parse(cls, data: bytes) -> "SignedIntent":
        """The signed intent that a file holds; InvalidRequest for any other bytes."""
        _demand(len(data) <= 2 * LONGEST_DOCUMENT, "a signed intent is at most 32 KiB long")
        return strict_json.read(data, cls)

    def text(self) -> bytes:
        """The file: JSON, which others may lay out as they like."""
        signed: dict[str, Any] = {"intent": self.intent.document(), "signature": self.signature}
        return msgspec.json.format(msgspec.json.encode(signed), indent=2) + b"\n"


def parse_intent(data: bytes) -> Intent:
    """The intent that a file holds, not signed; InvalidRequest for any other bytes."""
    _demand(len(data) <= 2 * LONGEST_DOCUMENT, "an intent is at most 16 KiB long")
    return strict_json.read(data, Intent)


def intent_digest(intent: str | SignedIntent | Intent) -> str:
    """The digest that is meant; InvalidRequest for text that is none."""
    if isinstance(intent, SignedIntent):
        return intent.intent.digest
    if isinstance(intent, Intent):
        return intent.digest
    if not is_digest(intent):
        raise InvalidRequest(f"{intent!r:.80} is no intent: name its digest, as capx intent list shows it")
    return intent


def is_digest(text: object) -> bool:
    """Whether this is text that may be the digest of an intent: 32 bytes in base64url."""
    return _size(text) == 32


def _demand(good: bool, sentence: str) -> None:
    if not good:
        raise InvalidRequest(sentence)


def _is_natural(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_statement(text: object) -> bool:
    if not isinstance(text, str):
        return False
    # A line may end: people write more than one. Nothing else that is not shown stands in it.
    shown = (character == "\n" or category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in text)
    return bool(text.strip()) and len(text) <= LONGEST_STATEMENT and all(shown)


def _is_nonce(text: object) -> bool:
    return _size(text) == 16


def _size(text: object) -> int:
    try:
        return len(unb64u(text)) if isinstance(text, str) else -1
    except MalformedToken:
        return -1


def _literal(name: str, value: object) -> Literal:
    try:
        literal: Literal = msgspec.convert(value, Literal)
        canonical(literal)
        return tuple(map(_one_spelling, literal)) if isinstance(literal, tuple) else _one_spelling(literal)
    except (msgspec.MsgspecError, InvalidCaveat):
        raise InvalidRequest(
            f"parameter {name} is no value that a policy could use: a text, a number, true, false, or a flat array"
        ) from None


def _one_spelling(scalar: Any) -> Any:
    """`1e2` and `100` are one number to the digest, and so to whoever counts; `-0.0` is 0."""
    return int(scalar) if isinstance(scalar, float) and scalar.is_integer() else scalar
