"""The meter behind `budget`: counters that grow as calls spend, and shrink only by what a call gives back.

Laws:

- A counter is identified by its id and a unit, and by nothing else: capabilities of several audiences share it.
- All amounts of one presentation are spent together or not at all. So a call that exceeds one budget costs nothing.
- One presentation is one call. If its admission pays again, only what it has not paid yet is spent. So a caller that
  lost the answer can safely pay again.
- Another admission of the same presentation pays nothing and is refused. Processes that share no memory of
  presentations may all accept one, but only the first of them gets it paid.
- What gives back is a presentation that has paid, and its admission. It gives back all that it paid, once. After that
  it pays nothing, so it stays used. So a counter never holds less than what others have spent.
- Amounts are exact decimals.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from capx.crypto.base64url import b64u


class Payer(Struct, frozen=True):
    """What pays: a presentation, its admission, the capability as it was minted, the audience, and the text.

    Ids are 16 bytes; that of the admission is random. A bare token has no presentation: each admission of it pays under
    an id of its own, and its text is empty. `repr` does not show the text.
    """

    presentation: bytes
    admission: bytes
    capability: bytes
    audience: str
    text: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}({b64u(self.presentation)!r}, {self.audience!r})"


class Spend(Struct, frozen=True):
    """The whole cost of a presentation at one counter. It is spent only if the total then is at most `limit`."""

    counter: str
    unit: str
    cost: Decimal
    limit: Decimal


class Tally(Struct, frozen=True):
    """The total of each counter, in the order of the spends; `exhausted` has the indexes of those without room.

    If `exhausted` is not empty, nothing was spent, and the totals leave out what this presentation paid before.
    """

    totals: tuple[Decimal, ...]
    exhausted: tuple[int, ...] = ()


class Paid(Struct, frozen=True):
    """What a presentation has paid into one counter."""

    counter: str
    unit: str
    cost: Decimal


class Meter(Protocol):
    """Counters that processes share."""

    def spend(self, payer: Payer, spends: Sequence[Spend], *, now: int) -> Tally:
        """Spend all the costs or none, atomically; `now` is in Unix seconds.

        Each pair of counter and unit occurs once. What this payer paid into a counter before is part of its cost there.
        Unwritable if another admission of the presentation has paid, or if it has given back what it paid. StoreProblem
        if the meter cannot be read or written; the costs may have been spent then.
        """
        ...

    def give_back(self, payer: Payer, *, decision: str, reason: str, now: int) -> tuple[Paid, ...]:
        """Take all that this payer paid out of its counters again, and write that to the log, atomically.

        Returns what it had paid, in the order of the counters. If it is called again, it returns the same and changes
        nothing. `decision` is the id of a decision that the payment was for, `reason` a label: why the call had no
        effect. Both are claims of the resource. Unwritable if this payer has paid nothing at its audience. StoreProblem
        if the meter cannot be read or written; everything may have been given back then.
        """
        ...

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        """The total of each counter now, by its id and unit; StoreProblem when it cannot be read."""
        ...
