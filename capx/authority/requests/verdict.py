"""What a person answers to a request, signed over what they were shown.

    shown     = SHA-256 of the canonical JSON (RFC 8785) of the request and of the digest of its intent
    signature = Ed25519 by the approver's key over H("capx/1/verdict", shown, approver, yes or no, at)

Laws: the digest covers everything that the request shows, so that nothing else is agreed to than what was seen: a
request that is made again, or would grant another thing, needs another verdict. What is agreed to is shown whole. Who
denied the same before is shown too, and is no part of it: that may become known later.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET, Struct

from capx.crypto.canonical_json import canonical
from capx.crypto.hashing import digest
from capx.errors import InvalidRequest
from capx.intents.intent import Intent, parse_intent
from capx.store.records import RequestRecord
from capx_caveats import DEFAULT, Allow, Caveat, Root, Task, UntilCompleted, shown, shown_instant
from capx_caveats import Intent as OnIntent
from capx_caveats.values import whole

if TYPE_CHECKING:
    from capx.intents.principal_key import PrincipalKey  # signatures are slow to import, and few need them

_PLAIN = re.compile(r"[A-Za-z0-9_.@+-]+")
_SHOWN: Final = (
    *("id", "task", "audience", "action", "args", "path", "labels", "block", "asked", "until", "approvers", "excluded"),
)


class Denial(Struct, frozen=True):
    """A person's no to the same in the same task, when it came (Unix seconds), and who had asked."""

    approver: str
    at: int
    labels: tuple[str, ...]


class Inquiry(Struct, frozen=True):
    """A request with the intent that its task was opened on (canonical JSON): all that a person needs to answer it.

    `denials` are those of the same in the same task.
    """

    request: RequestRecord
    document: str
    denials: tuple[Denial, ...] = ()

    @property
    def intent(self) -> Intent:
        """The intent; InvalidRequest if it is not the one that the grant would be on."""
        intent = parse_intent(self.document.encode())
        if OnIntent(intent.digest) not in self.caveats:
            raise InvalidRequest(f"request {self.request.id} is not on the intent that is shown with it")
        return intent

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """What the block of the grant would say."""
        return DEFAULT.decode(self.request.block.encode())

    @property
    def digest(self) -> bytes:
        """What a verdict is about: 32 bytes."""
        said: dict[str, Any] = {name: getattr(self.request, name) for name in _SHOWN}
        return hashlib.sha256(canonical({**said, "intent": self.intent.digest})).digest()

    def sentences(self) -> tuple[str, ...]:
        """In plain words: who asks, on whose intent, what it would add, with which restrictions, and until when."""
        with whole():
            return tuple(_sentences(self))


class Verdict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer: `approver` is a principal of the policy, `at` when they gave it (Unix seconds)."""

    request: str
    yes: bool
    approver: str
    at: int
    signature: str

    @classmethod
    def sign(cls, inquiry: Inquiry, key: "PrincipalKey", *, yes: bool, at: int) -> "Verdict":
        """The answer of the person whose key this is."""
        message = _message(inquiry, key.name, yes, at)
        return cls(request=inquiry.request.id, yes=yes, approver=key.name, at=at, signature=key.sign(message))

    def is_signed_by(self, public: bytes, inquiry: Inquiry) -> bool:
        """Whether whoever holds the other half of this key (32 bytes) has answered so to this very inquiry."""
        from capx.crypto.ed25519 import is_signed_by

        return is_signed_by(public, _message(inquiry, self.approver, self.yes, self.at), self.signature)


def _message(inquiry: Inquiry, approver: str, yes: bool, at: int) -> bytes:
    said = b"yes" if yes else b"no"
    return digest(b"capx/1/verdict", inquiry.digest, approver.encode(), said, str(at).encode())


def _sentences(inquiry: Inquiry) -> Iterator[str]:
    request, intent, caveats = inquiry.request, inquiry.intent, inquiry.caveats
    yield f"{_agents(request.labels)} asks, in task {request.task}"
    yield f"{_name(intent.principal)} wanted {_wanted(intent)}, in their words {shown(intent.statement)}"
    yield f"it would be allowed {request.action} at {request.audience}, {_arguments(request)}"
    offered = next(caveat for caveat in caveats if isinstance(caveat, Allow))
    yield f"within what the policy offers: {'; '.join(entry.sentence() for entry in offered.entries)}"
    for caveat in caveats:
        if not isinstance(caveat, _SAID) and caveat != UntilCompleted(request.task):
            yield caveat.sentence()
    yield f"it ends with task {request.task}, and with the agent that asks"
    yield (
        f"asked at {shown_instant(request.asked)}, to be answered before {shown_instant(request.until)} "
        f"by {' or '.join(map(_name, request.approvers))}"
    )
    if request.excluded:
        named = " and ".join(map(_name, request.excluded))
        yield f"not with the consent of {named}: they wanted this work, or are called like an agent that does it"
    for denial in inquiry.denials:
        yield f"{_name(denial.approver)} denied the same to {_agents(denial.labels)} at {shown_instant(denial.at)}"


def _agents(labels: tuple[str, ...]) -> str:
    return " > ".join(map(_name, labels)) or "the first agent"


def _wanted(intent: Intent) -> str:
    tenant = "" if intent.tenant is UNSET else f" for {_name(intent.tenant)}"
    said = " and ".join(f"{name} {shown(value)}" for name, value in intent.parameters.items())
    return f"{intent.purpose}{tenant}" + (f" with {said}" if said else "")


_SAID: Final = (Task, Root, OnIntent, Allow)


def _arguments(request: RequestRecord) -> str:
    if request.args is None:
        return "with any arguments"
    args: dict[str, Any] = json.loads(request.args)
    if not args:
        return "without arguments"
    return f"only with {' and '.join(f'{_name(name)} {shown(value)}' for name, value in args.items())}"


def _name(name: str) -> str:
    """A name that others chose, quoted if it could be taken for the words around it."""
    return name if _PLAIN.fullmatch(name) else shown(name)
