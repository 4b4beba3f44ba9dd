"""An intent: a document in which a person says what they want, its digest, and the signature of the person.

    digest    = SHA-256 of the canonical JSON (RFC 8785) of the document, base64url
    signature = Ed25519 by the principal's key over H("capx/1/intent", digest), base64url

Laws: a document has one form only: an optional member is absent, never null, and an unknown member is refused. It names
one authority, by the epoch of its store. No other authority can open it, nor can the same authority after its store was
restored. If it names the key of an agent, the signature of the person covers who may act. People read its texts, so
hidden characters are refused. A parameter is a whole value, never a part of a text. All spellings of a number that have
the same digest become the same value.
"""

import hashlib
import os
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, Final
from unicodedata import category

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import force_setattr

from capx.crypto import strict_json
from capx.crypto.base64url import b64u, is_bytes
from capx.crypto.canonical_json import canonical
from capx.crypto.hashing import digest
from capx.crypto.instants import instant, when
from capx.errors import InvalidRequest, KeyProblem
from capx.intents.epoch import is_epoch
from capx_caveats import JSON, SAFE_INTEGER, InvalidCaveat, Literal, When, is_attribute, is_label

LONGEST_STATEMENT: Final = 2_000
"""The most characters of a statement."""
MOST_PARAMETERS: Final = 32
"""The most parameters of one intent."""
LONGEST_DOCUMENT: Final = 16 * 1024
"""The most bytes of the canonical JSON of an intent."""
OWN_NAMES: Final = frozenset({"principal", "purpose", "tenant", "agent", "agent_key", "statement"})
"""The names in a policy for the members of an intent; a parameter cannot have one of them."""

MOST_TASKS: Final = 1_000_000
"""The most tasks that can be opened on one intent."""

_Count = Annotated[int, Meta(ge=1, le=MOST_TASKS)]
_Time = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)]
_Parameters = Annotated[Mapping[str, Literal], Meta(min_length=1)]
"""When it is read, it is not empty: a document without parameters does not have the member."""


class Intent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """The work that a person wants, as a document; times are in Unix seconds, `nonce` is 16 random bytes in base64url.

    `authority` is the epoch of the store of the authority that can open it. `purpose` is the name of a kind of work in
    the policy of that authority. `statement` has the person's own words. `agent` is the agent that may do the work, and
    `agent_key` its public key (`ed25519:` and 43 characters), if the person names them: the tokens of the intent are
    then of no use without that key. The intent can be opened `max_tasks` times, from `issued` on and before
    `not_after`. Raises InvalidRequest for values that are not allowed; the message says which.
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
    agent_key: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        _demand(is_label(self.principal), "the principal must be a name of 1 to 128 characters, none of them hidden")
        _demand(is_epoch(self.authority), "the authority must be the epoch of its store: capx doctor shows it")
        _demand(is_attribute(self.purpose), "a purpose must be a letter, then letters, digits and _, such as qbr")
        _demand(_is_statement(self.statement), "a statement must have 1 to 2000 characters, none of them hidden")
        _demand(_is_natural(self.max_tasks, 1, MOST_TASKS), f"an intent can open 1 to {MOST_TASKS} tasks")
        times = (self.issued, self.not_after)
        _demand(all(_is_natural(time, 0, SAFE_INTEGER) for time in times), "times must be whole seconds since 1970")
        _demand(self.issued < self.not_after, "an intent must end after it is issued")
        _demand(_is_nonce(self.nonce), "a nonce must be 16 bytes in base64url")
        _demand(self.tenant is UNSET or is_label(self.tenant), "a tenant must be a name of 1 to 128 characters")
        _demand(self.agent is UNSET or is_label(self.agent), "an agent must be a name of 1 to 128 characters")
        if self.agent_key is not UNSET:
            demand_agent_key(self.agent_key)
        _demand(len(self.parameters) <= MOST_PARAMETERS, f"an intent can have at most {MOST_PARAMETERS} parameters")
        for name in self.parameters:
            good = is_attribute(name) and name not in OWN_NAMES
            _demand(good, f"{name!r:.40} cannot name a parameter: use letters, digits and _, and not a member's name")
        # After the names, because an error names the parameter. A mapping of its own: the caller may change theirs.
        literals = {name: _literal(name, value) for name, value in self.parameters.items()}
        force_setattr(self, "parameters", MappingProxyType(literals))
        _demand(len(canonical(self.document())) <= LONGEST_DOCUMENT, "an intent can be at most 16 KiB long")

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
        agent_key: str | None = None,
    ) -> "Intent":
        """Return a new intent, issued at `now` (Unix seconds), with a new nonce; `not_after` counts from `now`."""
        return cls(
            principal=principal,
            authority=authority,
            purpose=purpose,
            statement=statement,
            max_tasks=max_tasks,
            issued=instant("now", now),
            not_after=when("not_after", not_after, now),
            nonce=b64u(os.urandom(16)),
            tenant=UNSET if tenant is None else tenant,
            parameters=parameters,
            agent=UNSET if agent is None else agent,
            agent_key=UNSET if agent_key is None else agent_key,
        )

    def document(self) -> dict[str, JSON]:
        """Return the document as JSON values; the digest is of its canonical JSON."""
        members = {name: getattr(self, name) for name in self.__struct_fields__}
        members["parameters"] = dict(self.parameters) or UNSET
        return {name: value for name, value in members.items() if value is not UNSET}

    @cached_property
    def digest(self) -> str:
        """The digest, which every token of the tasks of this intent carries: 32 bytes in base64url."""
        return b64u(hashlib.sha256(canonical(self.document())).digest())

    def message(self) -> bytes:
        """Return the message that the principal signs: 32 bytes."""
        return digest(b"capx/1/intent", self.digest.encode())


class SignedIntent(Struct, frozen=True, forbid_unknown_fields=True):
    """An intent with a signature (64 bytes, base64url) that nobody has verified yet.

    Only a policy knows the public key of the principal, so only a policy can verify it.
    """

    intent: Intent
    signature: str

    def __post_init__(self) -> None:
        _demand(is_bytes(self.signature, 64), "a signature must be 64 bytes in base64url")

    @classmethod
    def parse(cls, data: bytes) -> "SignedIntent":
        """Return the signed intent in the bytes of a file; InvalidRequest for any other bytes."""
        _demand(len(data) <= 2 * LONGEST_DOCUMENT, "a signed intent can be at most 32 KiB long")
        # A file may be laid out with spaces, so it may be longer than the document.
        return strict_json.read(data, cls)

    def text(self) -> bytes:
        """Return the text of a file: JSON, indented. Other programs may lay it out in another way."""
        signed: dict[str, Any] = {"intent": self.intent.document(), "signature": self.signature}
        return msgspec.json.format(msgspec.json.encode(signed), indent=2) + b"\n"


def parse_intent(data: bytes) -> Intent:
    """Return the unsigned intent in the bytes of a file; InvalidRequest for any other bytes."""
    _demand(len(data) <= 2 * LONGEST_DOCUMENT, "the file of an intent can be at most 32 KiB long")
    return strict_json.read(data, Intent)


def intent_digest(intent: str | SignedIntent | Intent) -> str:
    """Return the digest of an intent; a text must be a digest already, otherwise InvalidRequest."""
    if isinstance(intent, SignedIntent):
        return intent.intent.digest
    if isinstance(intent, Intent):
        return intent.digest
    if not is_digest(intent):
        raise InvalidRequest(f"{intent!r:.80} is not an intent: give its digest, as capx intent list shows it")
    return intent


def demand_agent_key(text: object) -> None:
    """Raise InvalidRequest unless this is an agent's public key: `ed25519:` and a safe key in its only spelling."""
    from capx.crypto.agent_key import parse_agent_key  # slow to import, and only keyed tasks need it

    try:
        parse_agent_key(text)
    except KeyProblem as problem:
        raise InvalidRequest(f"this agent's key cannot be used: {problem}") from None


def is_digest(text: object) -> bool:
    """Whether this is text with the form of an intent's digest: 32 bytes in base64url."""
    return is_bytes(text, 32)


def _demand(good: bool, sentence: str) -> None:
    if not good:
        raise InvalidRequest(sentence)


def _is_natural(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_statement(text: object) -> bool:
    if not isinstance(text, str):
        return False
    # People write several lines, so a line break is allowed. All other hidden characters are refused: the person who
    # signs, and the person who consents, must see the whole text.
    shown = (character == "\n" or category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in text)
    return bool(text.strip()) and len(text) <= LONGEST_STATEMENT and all(shown)


def _is_nonce(text: object) -> bool:
    return is_bytes(text, 16)


def _literal(name: str, value: object) -> Literal:
    try:
        literal: Literal = msgspec.convert(value, Literal)
        canonical(literal)
        return tuple(map(_one_spelling, literal)) if isinstance(literal, tuple) else _one_spelling(literal)
    except (msgspec.MsgspecError, InvalidCaveat):
        raise InvalidRequest(f"parameter {name} must be a text, a number, true, false, or a flat array") from None


def _one_spelling(scalar: Any) -> Any:
    """Return the only form of a number: `1e2` becomes 100 and `-0.0` becomes 0, because their digests are the same."""
    return int(scalar) if isinstance(scalar, float) and scalar.is_integer() else scalar
