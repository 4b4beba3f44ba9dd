"""Marks: caveats that the mechanism reads, and that demand nothing of a call.

`placement` has the table of where each mark may be in a chain.

Law: only the authority's block makes claims about the task, the intent, the root and the holder. The label of a hop is
only what a holder says. `approved` and `signed` are marks of a discharge, which is no token.
"""

import re
from collections.abc import Callable
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from capx_caveats.call import Facts
from capx_caveats.caveat import Caveat, Refusal
from capx_caveats.constraint import Wire
from capx_caveats.errors import InvalidCaveat
from capx_caveats.names import demand, demand_agent, is_audience, is_id
from capx_caveats.values import Natural
from capx_caveats.when import shown_instant

_LAST = {0: "A-Za-z0-9_-", 2: "AEIMQUYcgkosw048", 4: "AQgw"}
"""The characters that may end canonical base64url, by the number of unused bits in the last one."""


def _spelled(count: int) -> Callable[[str], object]:
    """Return a check for the canonical base64url of `count` bytes."""
    length = (count * 8 + 5) // 6
    return re.compile(f"[A-Za-z0-9_-]{{{length - 1}}}[{_LAST[length * 6 - count * 8]}]").fullmatch


# Expressions instead of decoding: these texts are in every token, and only their form matters here.
_SPELLED = {count: _spelled(count) for count in (8, 12, 16, 32, 64)}


def _demand_bytes(text: str, count: int, what: str) -> None:
    if _SPELLED[count](text) is None:
        raise InvalidCaveat(f"{what} is {count} bytes in base64url")


class ChainCaveat(Caveat, frozen=True):
    """A caveat that demands nothing of a call."""

    def refusal(self, facts: Facts) -> Refusal | None:
        """Always satisfied."""
        return None


class Task(ChainCaveat, frozen=True, tag="task"):
    """The id of the task that the capability was minted for."""

    id: str

    def __post_init__(self) -> None:
        demand(is_id(self.id), "a task id", self.id)

    def sentence(self) -> str:
        return f"for task {self.id}"


class Intent(ChainCaveat, frozen=True, tag="intent"):
    """The SHA-256 of the signed intent, in base64url."""

    digest: str

    def __post_init__(self) -> None:
        _demand_bytes(self.digest, 32, "an intent digest")

    def sentence(self) -> str:
        return f"on intent {self.digest}"


class Step(Wire, frozen=True):
    """One step of a path in the execution graph: the label of an agent and the nonce of its hop."""

    to: str
    nonce: str

    def __post_init__(self) -> None:
        demand_agent(self.to)
        _demand_bytes(self.nonce, 8, "a hop nonce")


class Root(ChainCaveat, frozen=True, tag="root"):
    """The revocation root, and the path from it to the node where this capability was granted."""

    id: str
    path: Annotated[tuple[Step, ...], Meta(min_length=1)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        demand(is_id(self.id), "a root id", self.id)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The path; empty if the caveat has none."""
        return () if self.path is UNSET else self.path

    def sentence(self) -> str:
        return f"below root {self.id}"


class Holder(ChainCaveat, frozen=True, tag="holder"):
    """The public key of whoever gets the token first (Ed25519, base64url): every hop below must be signed."""

    key: str

    def __post_init__(self) -> None:
        _demand_bytes(self.key, 32, "a public key")

    def sentence(self) -> str:
        return f"bound to the key ed25519:{self.key}"


class Hop(ChainCaveat, frozen=True, tag="hop"):
    """A delegation: the label of the agent that got the token, a nonce, and optionally its public key."""

    to: str
    nonce: str
    key: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        demand_agent(self.to)
        _demand_bytes(self.nonce, 8, "a hop nonce")
        if self.key is not UNSET:
            _demand_bytes(self.key, 32, "a public key")

    def sentence(self) -> str:
        return f"delegated to {self.to}{'' if self.key is UNSET else f', whose key is ed25519:{self.key}'}"


class MaxHops(ChainCaveat, frozen=True, tag="max_hops"):
    """There are at most n hops in the blocks after this one."""

    n: Natural

    def sentence(self) -> str:
        return f"at most {self.n} more delegations"


class Presented(ChainCaveat, frozen=True, tag="call"):
    """The presentation: it binds the token to one request (profile, digest) and one time, for one use (nonce)."""

    profile: str
    digest: str
    at: Natural
    nonce: str

    def __post_init__(self) -> None:
        if self.profile not in {"tool", "http", "mcp"}:
            raise InvalidCaveat(f"{self.profile!r:.20} is not a presentation profile: use tool, http or mcp")
        _demand_bytes(self.digest, 32, "a call digest")
        _demand_bytes(self.nonce, 12, "a presentation nonce")

    def sentence(self) -> str:
        return f"presented once, for one {self.profile} call"


class Sig(ChainCaveat, frozen=True, tag="sig"):
    """The signature of the block that it ends (Ed25519, base64url), by the last key that the chain named."""

    signature: str

    def __post_init__(self) -> None:
        _demand_bytes(self.signature, 64, "a signature")

    def sentence(self) -> str:
        return "signed"


class Approved(ChainCaveat, frozen=True, tag="approved"):
    """The beginning of an approval: for which audience, for which node and all below it, and when (Unix seconds).

    `shown` is the SHA-256 of the document that the approver was shown. No verifier looks at it.
    """

    audience: str
    node: str
    shown: str
    at: Natural

    def __post_init__(self) -> None:
        demand(is_audience(self.audience), "an audience", self.audience)
        _demand_bytes(self.node, 16, "a node")
        _demand_bytes(self.shown, 32, "the digest of what was shown")

    def sentence(self) -> str:
        return f"approved at {shown_instant(self.at)}, for {self.audience}"


class Signed(ChainCaveat, frozen=True, tag="signed"):
    """The signature of one approver (Ed25519, base64url), whose key has this number, from 0, in the demand."""

    number: Natural
    signature: str

    def __post_init__(self) -> None:
        _demand_bytes(self.signature, 64, "a signature")

    def sentence(self) -> str:
        return f"signed by approver {self.number}"
