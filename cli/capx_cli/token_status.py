"""What a store knows about a token: what was spent from its budgets, and whether it is revoked.

Law: the token is not verified, so the answers are about the ids that it names.
"""

from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from capx.crypto.base64url import b64u
from capx.tokens.lineage import Lineage, TokenRefused, unverified_lineage
from capx.tokens.revocation_key import RevocationKey, of_instant, of_key, revoked_until
from capx.tokens.wording import whose
from capx_caveats import rest_of, shown_amount
from capx_cli import phrases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capx.store.protocols import Reading
    from capx.tokens.capability import Token


class Spent(Struct, frozen=True):
    """One budget of a token: which hop set it, and what its counter holds; amounts as decimal text."""

    whose: str
    counter: str
    unit: str
    limit: str
    spent: str
    left: str


class Dead(Struct, frozen=True):
    """A thing that the token depends on and that is dead, and the reason code."""

    what: str
    reason: str


class TokenStatus(Struct, frozen=True):
    """The store's knowledge of one token; `unreadable` says why it knows nothing."""

    budgets: tuple[Spent, ...] = ()
    dead: tuple[Dead, ...] = ()
    unreadable: str | None = None

    def lines(self) -> list[tuple[str, str]]:
        """Return the same as names and sentences."""
        if self.unreadable is not None:
            return [("cannot tell", self.unreadable)]
        said = [
            ("spent", f"{one.spent} of {one.limit} {one.unit}, {one.left} left ({one.whose})") for one in self.budgets
        ]
        said += [("DEAD", f"{one.reason}: {one.what}") for one in self.dead]
        return said if self.dead else [*said, ("alive", "as far as this store knows")]


def status_of(token: "Token", reading: "Reading") -> TokenStatus:
    """Return what this reading of a store knows about a token."""
    try:
        lineage = unverified_lineage(token)
    except TokenRefused as refused:
        return TokenStatus(unreadable=refused.refusal.sentence)
    return TokenStatus(tuple(_budgets(lineage, reading)), tuple(_dead(lineage, token, reading)))


def _budgets(lineage: Lineage, reading: "Reading") -> "Iterator[Spent]":
    counters = reading.counters([allotment.counter for allotment in lineage.allotments]) if lineage.allotments else []
    held = {(one.counter, one.unit): one.spent for one in counters}
    for allotment in lineage.allotments:
        unit, limit = allotment.budget.unit, Decimal(allotment.budget.limit)
        spent = held.get((allotment.counter, unit), Decimal(0))
        amounts = map(shown_amount, (limit, spent, rest_of(limit, spent)))
        yield Spent(whose(allotment.hop, allotment.name), allotment.counter, unit, *amounts)


def _dead(lineage: Lineage, token: "Token", reading: "Reading") -> "Iterator[Dead]":
    keys: list[RevocationKey] = [*lineage.revocation_keys, *([] if token.id in lineage.ids else [token.id])]
    for key in keys:
        death = reading.death(key)
        if death is not None:
            yield Dead(_what(key, lineage), death.reason)
    until = revoked_until(death.key for death in reading.deaths())
    if lineage.issued <= until:
        yield Dead(_what(of_instant(until), lineage), "revoked")


def _what(key: RevocationKey, lineage: Lineage) -> str:
    if isinstance(key, str):
        return phrases.of_key(key) or f"task {key}"
    if key in lineage.path:
        at = lineage.path.index(key)
        return f"{'root' if at == 0 else f'node of {whose(at, lineage.hops[at - 1])}'} {b64u(key)}"
    if (public := _public(key, lineage)) is not None:
        return f"the agent's key {public}"
    return f"capability {b64u(key)}"


def _public(key: bytes, lineage: Lineage) -> str | None:
    """Return the public key that was revoked; None if it was something else."""
    from capx.crypto.ed25519 import public_text

    named = () if lineage.signed is None else lineage.signed.keys
    return next((public_text(public) for public in named if of_key(public) == key), None)
