"""Marks: what the mechanism reads. They demand nothing of a call; where each may stand is the verifier's business.

Law: task, intent and root are claims of the authority's block alone; a hop's label is a claim of a holder.
"""

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from capx_caveats.call import Facts
from capx_caveats.caveat import Caveat, Refusal
from capx_caveats.constraint import Natural, Wire
from capx_caveats.errors import InvalidCaveat
from capx_caveats.names import demand, is_id, is_label
from capx_caveats.values import demand_not_empty

_BASE64URL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def _demand_bytes(text: str, count: int, what: str) -> None:
    """Raise unless the text is the canonical base64url of `count` bytes."""
    spare = -count * 8 % 6
    if not (len(text) == (count * 8 + 5) // 6 and _BASE64URL.issuperset(text) and text[-1] in _LAST[spare]):
        raise InvalidCaveat(f"{what} is {count} bytes in base64url")


_LAST = {
    0: _BASE64URL,
    2: frozenset("AEIMQUYcgkosw048"),
    4: frozenset("AQgw"),
}
"""By spare bits, the characters that may end canonical base64url."""


class Mark(Caveat, frozen=True):
    """A caveat that demands nothing of a call."""

    def refusal(self, facts: Facts) -> Refusal | None:
        """Always satisfied."""
        return None


class Task(Mark, frozen=True, tag="task"):
    """Names the task."""

    id: str

    def __post_init__(self) -> None:
        demand(is_id(self.id), "a task id", self.id)

    def sentence(self) -> str:
        return f"for task {self.id}"


class Intent(Mark, frozen=True, tag="intent"):
    """The SHA-256 of the signed intent, base64url."""

    digest: str

    def __post_init__(self) -> None:
        _demand_bytes(self.digest, 32, "an intent digest")

    def sentence(self) -> str:
        return f"on intent {self.digest}"


class Step(Wire, frozen=True):
    """One step of a path in the execution graph: an agent's label and a hop nonce."""

    to: str
    nonce: str

    def __post_init__(self) -> None:
        demand(is_label(self.to), "an agent's name", self.to)
        _demand_bytes(self.nonce, 8, "a hop nonce")


class Root(Mark, frozen=True, tag="root"):
    """The revocation root, and the path from it to where this capability was granted."""

    id: str
    path: tuple[Step, ...] | UnsetType = UNSET

    def __post_init__(self) -> None:
        demand(is_id(self.id), "a root id", self.id)
        if self.path is not UNSET:
            demand_not_empty(self.path)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The path, empty if none is said."""
        return () if self.path is UNSET else self.path

    def sentence(self) -> str:
        return f"below root {self.id}"


class Hop(Mark, frozen=True, tag="hop"):
    """A delegation took place here."""

    to: str
    nonce: str
    key: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        demand(is_label(self.to), "an agent's name", self.to)
        _demand_bytes(self.nonce, 8, "a hop nonce")
        if self.key is not UNSET:
            _demand_bytes(self.key, 32, "a public key")

    def sentence(self) -> str:
        return f"delegated to {self.to}"


class MaxHops(Mark, frozen=True, tag="max_hops"):
    """At most n hops in the blocks after this one."""

    n: Natural

    def sentence(self) -> str:
        return f"at most {self.n} more delegations"


class Presented(Mark, frozen=True, tag="call"):
    """The presentation: binds the token to one request (profile, digest), at one time, once (nonce)."""

    profile: str
    digest: str
    at: Natural
    nonce: str

    def __post_init__(self) -> None:
        if self.profile not in {"tool", "http"}:
            raise InvalidCaveat(f"{self.profile!r:.20} is no presentation profile")
        _demand_bytes(self.digest, 32, "a call digest")
        _demand_bytes(self.nonce, 12, "a presentation nonce")

    def sentence(self) -> str:
        return f"presented once, for one {self.profile} call"


def misplaced(caveats: Sequence[Caveat], *, authority: bool) -> Mark | None:
    """The first mark of a block that stands where it may not, or twice; whether the block is the authority's decides.

    A presentation stands in neither: it is a block of its own.
    """
    seen: set[type[Mark]] = set()
    for at, caveat in enumerate(caveats):
        if not isinstance(caveat, Mark):
            continue
        kind = type(caveat)
        if kind is MaxHops:
            placed = True
        elif kind is Hop:
            placed = at == 0 and not authority
        else:
            placed = authority and kind is not Presented
        if not placed or kind in seen:
            return caveat
        seen.add(kind)
    return None
