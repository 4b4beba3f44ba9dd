"""Tokens that demand approvals, the people who approve, and every way in which a discharge can be put together."""

import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from capx.authority.authority import Authority
from capx.crypto.ed25519 import Signer
from capx.crypto.hashing import macaroon_key
from capx.intents.principal_key import PrincipalKey
from capx.tokens.approval import approval_message
from capx.tokens.approval_caveat import ApprovalTerms, KeyedCaveat, approval
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability
from capx.tokens.discharge import Discharge, tail_of, written
from capx.verify.spending import Spent
from capx_caveats import JSON, Call, Caveat, Signed, encode_block
from tests.labs.lab import NOW, Lab, codes, minted

LEA, BEN, CLEO = (
    PrincipalKey(name, Signer(bytes([number]) * 31 + b"\x7f")) for number, name in enumerate(("lea", "ben", "cleo"), 1)
)
KEY = bytes(range(100, 132))
"""K of the demands here."""
ARGS: Mapping[str, JSON] = {"amount": 40}
"""The arguments of the call that is approved here."""


def terms(*people: PrincipalKey, count: int = 1, lasts: int = 900) -> ApprovalTerms:
    """Whose approval is demanded; Lea's, unless others are named."""
    return approval(by=[one.public for one in people or (LEA,)], count=count, lasts=lasts)


# The boxes are made with random keys: the same demand is to have the same bytes here.
@cache
def keyed(*people: PrincipalKey, key: bytes = KEY, nonce: bytes = bytes(16), **more: Any) -> KeyedCaveat:
    """A demand whose key is known here."""
    return terms(*people, **more).drawn(key, nonce)


def demanding(demand: KeyedCaveat | None = None, *caveats: Caveat, audience: str = "crm", **parts: Any) -> Capability:
    """A capability with a demand behind the authority's block."""
    return minted(*caveats, audience=audience, **parts).demanding(demand or keyed())


def request(
    capability: Capability, action: str = "a.write", args: Mapping[str, JSON] = ARGS, **other: Any
) -> ApprovalRequest:
    """The request of its holder for the approval of a call, of the first demand."""
    said: dict[str, Any] = {
        "cid": (*capability.demands, b"")[0],
        "audience": capability.audience,
        "node": capability.node or b"",
        "action": action,
        "args": args,
        "task": capability.task or "",
        "intent": capability.intent,
        "now": NOW,
    }
    return ApprovalRequest.of(**(said | other))


def approved(
    capability: Capability,
    *people: PrincipalKey,
    action: str = "a.write",
    args: Mapping[str, JSON] = ARGS,
    said: Mapping[str, Any] = {},
    **how: Any,
) -> Discharge:
    """The approval of a call, signed by these people, or by Lea; `said` is what the request says instead."""
    asked = request(capability, action, args, **said)
    first, *others = people or (LEA,)
    found = first.approve(asked, now=NOW, **how)
    for person in others:
        found = person.cosign(asked, found, now=NOW)
    return found


def put_together(
    statement: Iterable[Caveat] | bytes,
    *signed: bytes | tuple[int, PrincipalKey],
    cid: bytes | None = None,
    key: bytes = KEY,
) -> Discharge:
    """A discharge of any statement at all, whose MACs are good, with these signatures and blocks behind it."""
    named = keyed().cid if cid is None else cid
    block = statement if isinstance(statement, bytes) else encode_block(tuple(statement))
    found = written(named, (), tail_of(macaroon_key(key), named)).extended(block)
    for one in signed:
        found = found.extended(one) if isinstance(one, bytes) else signed_too(found, *one)
    return found


def signed_too(discharge: Discharge, number: int, person: PrincipalKey) -> Discharge:
    """The same discharge with one more signature, under any number."""
    signature = person.sign(approval_message(discharge.digests[1]))
    return discharge.extended(encode_block((Signed(number, signature),)))


class ApprovalLab(Lab):
    """A verifier with a real meter, for calls of `a.write` with ARGS."""

    def __init__(self, audience: str = "crm", **options: Any) -> None:
        self.authority = Authority.temporary()
        options.setdefault("meter", self.authority.store)
        super().__init__(audience, **options)

    def text(
        self,
        capability: Capability,
        *approvals: Discharge,
        action: str = "a.write",
        args: Mapping[str, JSON] = ARGS,
    ) -> str:
        """A presentation, with these approvals bound to it."""
        return capability.present(ToolCall(action, args), approvals=approvals, now=int(self.clock.now)).text

    def told(
        self,
        capability: Capability,
        *approvals: Discharge,
        action: str = "a.write",
        args: Mapping[str, JSON] = ARGS,
        **facts: Any,
    ) -> tuple[str, ...]:
        """The reasons for which a call with these approvals is denied; none if it is allowed."""
        return self.told_of(self.text(capability, *approvals, action=action, args=args), action, args, **facts)

    def told_of(
        self, text: str, action: str = "a.write", args: Mapping[str, JSON] = ARGS, **facts: Any
    ) -> tuple[str, ...]:
        """The reasons for which this credential is denied the call."""
        return codes(self.verifier.decide(text, ToolCall(action, args), Call(action, args, **facts)))

    @property
    def spent(self) -> list[Spent]:
        """What the allowed calls have spent."""
        return [one for decision in self.records.decisions for one in decision.spent]


def fresh_key() -> PrincipalKey:
    """A key that nobody else has."""
    return PrincipalKey("somebody", Signer(os.urandom(32)))
