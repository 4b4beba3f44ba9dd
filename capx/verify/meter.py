"""The meter behind `budget`: counters that grow as calls spend.

Laws:

- A counter is identified by its id and a unit, and by nothing else: capabilities of several audiences share it.
- All amounts of one presentation are spent together or not at all. So a denied call costs nothing.
- One presentation is one call. If it pays again, only what it has not paid yet is spent: an answer that is lost can be
  asked for again.
- Amounts are exact decimals, and a counter never shrinks.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from capx.crypto.base64url import b64u


class Payer(Struct, frozen=True):
    """The presentation that pays: its id, the id of the capability as it was minted, its audience, and its text.

    Ids are 16 bytes. A bare token has no presentation: each admission of it pays under an id of its own. `repr` does
    not show the text.
    """

    presentation: bytes
    capability: bytes
    audience: str
    text: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}({b64u(self.presentation)!r}, {self.audience!r})"


class Spend(Struct, frozen=True):
    """All that the presentation costs at one counter, to spend if the total afterwards is within `limit`."""

    counter: str
    unit: str
    cost: Decimal
    limit: Decimal


class Tally(Struct, frozen=True):
    """The total of each counter, in the order of the request; `exhausted` are the indexes of those without room.

    If `exhausted` is not empty, nothing was spent, and the totals leave out what this presentation paid before.
    """

    totals: tuple[Decimal, ...]
    exhausted: tuple[int, ...] = ()


class Meter(Protocol):
    """Counters that processes share."""

    def spend(self, payer: Payer, spends: Sequence[Spend], *, now: int) -> Tally:
        """Spend all of it or nothing, atomically; `now` in Unix seconds. StoreProblem when that is not possible.

        The caller gives each pair of counter and unit once. What the payer paid before into a counter counts towards
        its cost there. After StoreProblem, the amounts may have been spent.
        """
        ...

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        """The total of each counter now, by its id and unit; StoreProblem when it cannot be read."""
        ...
