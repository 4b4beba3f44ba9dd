"""The messages of agents, and the answers to them."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from capx.api import remote_text
from capx.api.messages.base import RequestBody
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.discharge import Discharge
from capx.tokens.wire import MAX_BLOCK, MAX_BLOCKS
from capx.tokens.wording import sentence, whose
from capx.verify import ask
from capx_caveats import Refusal

Nonce = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$", min_length=11, max_length=11)]
"""The nonce of a hop: 8 bytes in base64url."""


class RevokeBelow(RequestBody, frozen=True):
    """Revokes a node below the agent: the nonces of the hops that lead from the agent's own node to it."""

    hops: Annotated[list[Nonce], Meta(min_length=1, max_length=MAX_BLOCKS)]


class AgentStatus(Struct, frozen=True):
    """The state of the asking agent's task; times are Unix seconds."""

    task: str
    state: Literal["active", "completed", "withdrawn", "expired", "revoked"]
    opened: int
    expires: int
    tenant: str | None
    purpose: str | None


class SuggestedAsk(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The ask that problem details suggest. Fields of a newer service are ignored."""

    audience: str
    action: str
    args: dict[str, Any] | UnsetType = UNSET

    def ask(self) -> ask.Ask:
        """The ask itself; InvalidRequest if nobody can ask for this."""
        return ask.Ask(audience=self.audience, action=self.action, args=None if self.args is UNSET else self.args)


class SuggestedApproval(Struct, frozen=True, kw_only=True):
    """The call that somebody has to approve, as problem details name it. Fields of a newer service are ignored."""

    audience: str
    action: str
    args: dict[str, Any]


class AskApproval(RequestBody, frozen=True):
    """Asks people to approve one call. `demand` is its cid, as the token has it."""

    audience: str
    action: str
    args: dict[str, Any]
    demand: Annotated[str, Meta(max_length=MAX_BLOCK)]

    @classmethod
    def of(cls, ask: ask.Ask) -> "AskApproval":
        """An ask in its form on the wire."""
        return cls(audience=ask.audience, action=ask.action, args=dict(ask.args or {}), demand=ask.demand or "")

    def ask(self) -> ask.Ask:
        """The ask itself; InvalidRequest if nobody can approve this."""
        return ask.Ask(audience=self.audience, action=self.action, args=self.args, demand=self.demand)


class AskMore(SuggestedAsk, RequestBody, frozen=True):
    """An ask: one action at one audience. With `args`, the ask is pinned to these arguments."""

    @classmethod
    def of(cls, ask: ask.Ask) -> "AskMore":
        """An ask in its form on the wire."""
        return cls(audience=ask.audience, action=ask.action, args=UNSET if ask.args is None else dict(ask.args))


class AskStatement(RequestBody, frozen=True):
    """Asks for a statement that one call is permitted. `request` is the digest of the HTTP request that will carry it.

    The presentation beside it covers action and arguments, with the profile `tool`.
    """

    action: str
    args: dict[str, Any]
    request: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$", max_length=43)] | UnsetType = UNSET

    def call(self) -> ToolCall:
        """The call that is presented; InvalidRequest if none can be."""
        return ToolCall(self.action, self.args)


class Stated(Struct, frozen=True):
    """A statement: a JWT in JWS compact form."""

    statement: str


class PublicJwk(Struct, frozen=True):
    """A public key that signs statements, as a JWK (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    alg: Literal["EdDSA"]
    use: Literal["sig"]


class JwkSet(Struct, frozen=True):
    """The public keys that sign statements, as a JWK Set (RFC 7517)."""

    keys: list[PublicJwk]


class Reason(Struct, frozen=True):
    """One reason of a refusal, as in problem details. The sentence says whose restriction it is."""

    code: str
    sentence: str
    wanted: str = ""
    given: Any = UNSET
    hop: int | None = None
    hop_name: str | None = None

    @classmethod
    def of(cls, refusal: Refusal) -> "Reason":
        """A refusal in its form on the wire."""
        return cls(refusal.code, sentence(refusal), refusal.wanted, refusal.given, refusal.hop, refusal.hop_name)

    def refusal(self) -> Refusal:
        """The refusal, whose texts can be shown. Its sentence does not say whose restriction it is: `hop` does."""
        hop, said = remote_text.hop(self.hop), self.sentence
        if hop is not None:
            said = said.removeprefix(f"{whose(hop, self.hop_name)} ")
        return Refusal(
            remote_text.label(self.code),
            remote_text.text(said or self.code),
            remote_text.text(self.wanted),
            UNSET if self.given is UNSET else remote_text.value(self.given),
            hop,
            None if self.hop_name is None else remote_text.label(self.hop_name),
        )


class AskGranted(Struct, frozen=True, tag_field="answer", tag="granted"):
    """The ask was granted; the capability is a secret."""

    capability: Capability


class AskApproved(Struct, frozen=True, tag_field="answer", tag="approved"):
    """The call was approved. The discharge goes with the token that demands it, and is of no use without it."""

    discharge: Discharge


class AskPending(Struct, frozen=True, tag_field="answer", tag="pending"):
    """One of the approvers has to answer the request, by `until` (Unix seconds)."""

    request: str
    until: int
    approvers: list[str]


class AskRefused(Struct, frozen=True, tag_field="answer", tag="refused"):
    """The ask was refused, for these reasons."""

    reasons: list[Reason]


Answered = AskGranted | AskApproved | AskPending | AskRefused
"""The answer to an ask."""


def answered(answer: ask.Answer) -> Answered:
    """An answer in its form on the wire."""
    if isinstance(answer, ask.Granted):
        return AskGranted(answer.capability)
    if isinstance(answer, ask.Approved):
        return AskApproved(answer.discharge)
    if isinstance(answer, ask.Pending):
        return AskPending(answer.request, answer.until, list(answer.approvers))
    return AskRefused(list(map(Reason.of, answer.reasons)))
