"""How much is served at once over HTTP: so many requests, and so many bytes of their bodies.

Laws: a caller is who has shown a presentation whose MAC was good; until then, a request is a stranger's. Strangers
together get a part of the whole, and one address of them half of this part. All who hold tokens of one capability get
half of the whole together, or one thing that is larger. So strangers lock out no caller, one machine locks out no other
stranger, and one capability, or who has seen a presentation of it, locks out no other.
"""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager

By = str | bytes
"""Who takes something: the address of a stranger (text), or the capability of a caller (its identifier, bytes)."""


class NoSlot(Exception):
    """No more is served at once."""


class Slots:
    """`most` of what a text says, such as `requests`; strangers get this part of it."""

    def __init__(self, most: int, what: str, *, strangers: float = 0.5) -> None:
        self._most = most
        self._of_strangers = max(1, int(most * strangers))
        self._what = what
        self._taken: Counter[By] = Counter()

    @contextmanager
    def taken(self, by: By, amount: int = 1) -> Generator[Callable[[bytes], None]]:
        """Take an amount for a stranger or a caller; raises NoSlot.

        The block gets a function that says which caller the stranger has turned out to be.
        """
        if not self._has_room(by, amount):
            raise NoSlot(f"too many {self._what} are being served already: wait for an answer, then try again")
        holder: By | None = by

        def move(to: By | None) -> None:
            nonlocal holder
            if holder is not None:
                self._taken[holder] -= amount
                if not self._taken[holder]:
                    del self._taken[holder]
                if to is not None:
                    self._taken[to] += amount
                holder = to

        self._taken[by] += amount
        try:
            yield move
        finally:
            move(None)

    def _has_room(self, by: By, amount: int) -> bool:
        alone = self._taken[by] + amount
        if self._taken.total() + amount > self._most:
            return False
        if isinstance(by, bytes):
            return alone == amount or alone <= self._most / 2
        strangers = sum(taken for one, taken in self._taken.items() if isinstance(one, str))
        return strangers + amount <= self._of_strangers and alone <= max(1, self._of_strangers / 2)
