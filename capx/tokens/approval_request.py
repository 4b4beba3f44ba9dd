"""The request for an approval: the document that an agent sends to people, by file or through the authority.

    {"approve": 1, "cid": CID, "audience": AUDIENCE, "node": NODE, "action": ACTION, "args": {…}, "task": TASK,
     "intent": DIGEST, "asked": SECONDS, "nonce": NONCE}

    shown    SHA-256 of its canonical JSON (RFC 8785), which the statement of the approval covers

Laws:

- It holds no token, and grants nothing.
- All that it says is a claim. The approval repeats audience, node, task and intent, so it is of use only where these
  are so. Which agent at that node or below it asks, nothing proves.
- An agent has no words of its own in it: it names the call, and does not plead.
- Each request has a nonce. So two approvals of one call in one second are two, and each of them counts its own uses.
"""

import hashlib
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import force_setattr

from capx.crypto.base64url import b64u, is_bytes
from capx.crypto.canonical_json import canonical
from capx.errors import InvalidRequest
from capx.tokens.approval_caveat import ApprovalCaveat, read_approval_caveat
from capx.tokens.pins import REMEDY, pinned_entry
from capx_caveats import (
    CALLS,
    DEFAULT,
    JSON,
    SAFE_INTEGER,
    Allow,
    Approved,
    Budget,
    Call,
    Entry,
    Expires,
    Intent,
    InvalidCaveat,
    Task,
    TooLarge,
    demand_dict,
    encode_block,
    is_action,
    is_audience,
    is_id,
)
from capx_caveats.values import holds_more

MAX_ARGS: Final = 2_048
"""The most bytes of canonical JSON that the arguments may have: the statement of an approval holds each of them."""
MAX_FILE: Final = 64 * 1024
"""The most bytes of a file with a request."""

_DIGEST: Final = "A" * 43
_LONGEST: Final = (
    Approved("a" * 63, "A" * 22, _DIGEST, SAFE_INTEGER),
    Task("a" * 64),
    Intent(_DIGEST),
    Expires(SAFE_INTEGER),
    Budget(CALLS, "1000000"),
)
"""What else stands in a statement, as long as it can be."""
_Time = Annotated[int, Meta(ge=0, le=SAFE_INTEGER)]


class CallToApprove(Struct, frozen=True):
    """The call that somebody has to approve, as a denial names it. The arguments are those that the bearer sent."""

    audience: str
    action: str
    args: Mapping[str, JSON]

    def arguments(self) -> dict[str, JSON]:
        """The same as JSON values."""
        return {"audience": self.audience, "action": self.action, "args": dict(self.args)}


class ApprovalRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """One call that an agent wants approved.

    `cid` is the demand. `node` is the agent's (16 bytes in base64url), `intent` the digest of the intent that its task
    was opened on. `asked` is the time of asking (Unix seconds), `nonce` 16 random bytes in base64url. InvalidRequest
    for a value that it cannot have, and for arguments that no approval can hold.
    """

    approve: Literal[1]
    cid: str
    audience: str
    node: str
    action: str
    args: Mapping[str, Any]
    task: str
    asked: _Time
    nonce: str
    intent: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        self.caveat  # noqa: B018 - raises if it is no demand
        _demand(is_audience(self.audience), "it names no audience")
        _demand(is_bytes(self.node, 16), "its node is not 16 bytes in base64url")
        _demand(is_action(self.action), "it names no action")
        _demand(is_id(self.task), "it names no task")
        _demand(self.intent is UNSET or is_bytes(self.intent, 32), "its intent is not a digest")
        _demand(is_bytes(self.nonce, 16), "its nonce is not 16 bytes in base64url")
        args = approvable(self.action, self.args)
        force_setattr(self, "args", args)

    @classmethod
    def of(
        cls,
        cid: bytes,
        *,
        audience: str,
        node: bytes,
        action: str,
        args: Mapping[str, JSON],
        task: str,
        intent: str | None,
        now: int,
    ) -> "ApprovalRequest":
        """A new request; InvalidRequest as above."""
        return cls(
            approve=1,
            cid=cid.decode("latin-1"),
            audience=audience,
            node=b64u(node),
            action=action,
            args=args,
            task=task,
            asked=now,
            nonce=b64u(os.urandom(16)),
            intent=UNSET if intent is None else intent,
        )

    @classmethod
    def parse(cls, document: bytes | str) -> "ApprovalRequest":
        """The request in a file, or in the `to_approve` of a request at the authority; InvalidRequest for all else."""
        try:
            data = document.encode() if isinstance(document, str) else document
        except UnicodeEncodeError:
            raise InvalidRequest("this is not the JSON that belongs here: it has half a character in it") from None
        _demand(len(data) <= MAX_FILE, f"a file with a request has at most {MAX_FILE // 1024} KiB")
        from capx.crypto import strict_json  # slow to import, and few need it

        return strict_json.read(data, cls)

    @property
    def caveat(self) -> ApprovalCaveat:
        """The demand; InvalidRequest if the cid is none that capx writes."""
        found = read_approval_caveat(self.cid)
        if found is None:
            raise InvalidRequest("this is no request for an approval: its cid is no demand that capx writes")
        return found

    @property
    def entry(self) -> Entry:
        """The entry of the allowlist of an approval: this action, pinned to all arguments."""
        return pinned_entry(self.action, self.args)

    def document(self) -> dict[str, JSON]:
        """The document as JSON values."""
        members = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in {**members, "args": dict(self.args)}.items() if value is not UNSET}

    @property
    def shown(self) -> str:
        """The digest that the statement of an approval carries: 32 bytes in base64url."""
        return b64u(hashlib.sha256(canonical(self.document())).digest())

    def text(self) -> bytes:
        """The text of a file: JSON, indented."""
        return msgspec.json.format(msgspec.json.encode(self.document()), indent=2) + b"\n"


def approvable(action: str, args: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """A read-only copy of arguments that an approval of this action can hold; InvalidRequest if it cannot."""
    try:
        demand_dict(args)
        # First, because to check a huge value takes long.
        if holds_more(args, MAX_ARGS, MAX_ARGS):
            raise _too_large(action)
        own = dict(args)
        Call(action, own)
        size = len(canonical(own))
    except InvalidCaveat as error:
        raise InvalidRequest(f"no call of {action} can have these arguments: {error}") from None
    if size > MAX_ARGS:
        raise _too_large(action)
    try:
        DEFAULT.decode(encode_block((*_LONGEST, Allow((pinned_entry(action, own),)))))
    except (InvalidRequest, TooLarge) as error:
        why = str(error).removesuffix(f"; {REMEDY}")
        raise InvalidRequest(f"nobody can approve such a call of {action}: {why}") from None
    return MappingProxyType(own)


def _too_large(action: str) -> InvalidRequest:
    return InvalidRequest(f"the arguments of {action} are more than {MAX_ARGS} bytes: nobody can approve such a call")


def _demand(good: bool, sentence: str) -> None:
    if not good:
        raise InvalidRequest(f"this request for an approval cannot be used: {sentence}")
