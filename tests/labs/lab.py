"""A verifier's world in memory, with a clock that only a test moves."""

from collections.abc import Iterable, Mapping
from typing import Any

from capx.crypto import hashing
from capx.crypto.keys import AudienceKeys, RootKey
from capx.errors import Unavailable
from capx.resource.replay import Replay
from capx.tokens import chain, revocation_key, wire
from capx.tokens.binding import ToolCall
from capx.tokens.capability import Capability, mint
from capx.verify.decision import Decision, Denied
from capx.verify.verifier import Verifier
from capx_caveats import (
    JSON,
    Allow,
    Call,
    Caveat,
    Expires,
    Refusal,
    Root,
    Task,
    UntilCompleted,
    allow,
    encode_block,
)

NOW = 1_795_600_000
ROOT_KEY = RootKey(bytes(range(32)))
KEY = ROOT_KEY.audience_key("crm")
NONCES = ("AgICAgICAgI", "AwMDAwMDAwM", "BAQEBAQEBAQ", "BQUFBQUFBQU")
"""Hop nonces."""


class Clock:
    """Stands still at `now`, in Unix seconds."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Deaths:
    """Knowledge of deaths that a test writes."""

    def __init__(self, authority: str | None = None) -> None:
        self.deaths: dict[bytes | str, str] = {}
        self.years = 0.0
        self.authority = authority

    @property
    def revoked_until(self) -> int:
        """The last second up to which all that was issued is dead."""
        return revocation_key.revoked_until(self.deaths)

    def age(self) -> float:
        """The age that the test has set."""
        return self.years


class Records:
    """Keeps decisions; `full` refuses to take more."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.full = False
        self.slots = 0

    def reserve(self) -> None:
        if self.full:
            raise Unavailable("cannot record another decision")
        self.slots += 1

    def record(self, decision: Decision) -> None:
        self.slots -= 1
        self.decisions.append(decision)


class Lab:
    """One verifier with its clock, deaths and records."""

    def __init__(self, audience: str = "crm", keys: AudienceKeys | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.deaths = Deaths(None if keys is None else keys.authority)
        self.records = Records()
        self.replay = Replay.process(clock=lambda: NOW - 1_000_000)
        parts: dict[str, Any] = {
            "liveness": self.deaths,
            "replay": self.replay,
            "recorder": self.records,
            "clock": self.clock,
        }
        self.verifier = Verifier(
            audience,
            keys or AudienceKeys(audience, [ROOT_KEY.audience_key(audience)]),
            **{**parts, **options},
        )

    def present(self, capability: Capability, action: str = "a.read", args: Mapping[str, JSON] | None = None) -> str:
        """A fresh presentation of the capability for a tool call, made now."""
        return capability.present(ToolCall(action, args or {}), now=int(self.clock.now)).text

    def decide(
        self, token: str, action: str = "a.read", args: Mapping[str, JSON] | None = None, **facts: Any
    ) -> Decision:
        """The decision on a presentation made for the very call that is judged."""
        args = args or {}
        return self.verifier.decide(token, ToolCall(action, args), Call(action, args, **facts))

    def codes(
        self,
        capability: Capability,
        action: str = "a.read",
        args: Mapping[str, JSON] | None = None,
        **facts: Any,
    ) -> tuple[str, ...]:
        """The reason codes of a properly presented call; none when it is allowed."""
        return codes(self.decide(self.present(capability, action, args), action, args, **facts))


def codes(verdict: Decision | Denied) -> tuple[str, ...]:
    """The reason codes, in order."""
    return tuple(refusal.code for refusal in verdict.refusals)


def grant(
    *caveats: Caveat,
    task: str = "T1",
    root: str = "R1",
    allowed: Allow | None = None,
    expires: int = NOW + 3600,
) -> tuple[Caveat, ...]:
    """The caveats of a complete authority's block, and more."""
    return (
        Task(task),
        Root(root),
        UntilCompleted(task),
        Expires(expires),
        allowed or allow("a.read", "a.write"),
        *caveats,
    )


def minted(*caveats: Caveat, audience: str = "crm", nonce: str = "AQEBAQEBAQEBAQEBAQEBAQ", **parts: Any) -> Capability:
    """A complete capability with further caveats in the authority's block."""
    return mint(ROOT_KEY.audience_key(audience), grant(*caveats, **parts), now=NOW, nonce=nonce)


def raw(*blocks: chain.Block, audience: str = "crm", key: RootKey = ROOT_KEY) -> Capability:
    """An authentic token of any blocks at all, however ill-formed."""
    identifier = wire.Identifier(key.kid, audience, "AQEBAQEBAQEBAQEBAQEBAQ", NOW)
    tail = hashing.mac(key.audience_key(audience).mac_key, identifier.encode())
    return _frame(identifier, (), blocks, tail)


def appended(parent: Capability, *blocks: chain.Block) -> Capability:
    """A token with more blocks of any bytes, which any holder can append."""
    frame = wire.decode(parent.text)
    return _frame(frame.identifier, frame.blocks, blocks, frame.signature)


def _frame(
    identifier: wire.Identifier, old: tuple[chain.Block, ...], new: Iterable[chain.Block], tail: bytes
) -> Capability:
    blocks = tuple(new)
    for block in blocks:
        tail = chain.extend(tail, block)
    frame = wire.Frame(identifier, identifier.encode(), (*old, *blocks), tail, b"")
    return Capability(frame, wire.encode(identifier, frame.blocks, tail))


def holding(*blocks: Iterable[Caveat]) -> Capability:
    """A complete capability with these blocks appended, wherever their marks may stand."""
    return appended(minted(), *(encode_block(tuple(block)) for block in blocks))


def spoiled(token: str) -> str:
    """The same token under a MAC of zeros."""
    frame = wire.decode(token)
    return wire.encode(frame.identifier, frame.blocks, bytes(32))


def codes_of(refusals: Iterable[Refusal]) -> tuple[str, ...]:
    """The code of each refusal, in order."""
    return tuple(refusal.code for refusal in refusals)
