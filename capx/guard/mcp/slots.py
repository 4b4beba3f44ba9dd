"""How much is served at once over HTTP: so many requests, and so many bytes of their bodies.

Laws: a caller is who has shown a presentation whose MAC was good; until then, a request is a stranger's. Strangers
together get a part of the whole, and one address of them half of this part. So strangers lock out no caller, and one
machine locks out no other stranger.
"""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager


class NoSlot(Exception):
    """No more is served at once."""


class Slots:
    """`most` of what a text says, such as `requests`; strangers get this part of it."""

    def __init__(self, most: int, what: str, *, strangers: float = 0.5) -> None:
        self._most = most
        self._of_strangers = max(1, int(most * strangers))
        self._what = what
        self._taken = 0
        self._by_address: Counter[str] = Counter()

    @contextmanager
    def taken(self, address: str | None, amount: int = 1) -> Generator[Callable[[], None]]:
        """Take an amount for the stranger at an address, or for a caller, where it is None; raises NoSlot.

        The block gets a function: when it is called, the stranger has become a caller.
        """
        stranger = address

        def proven() -> None:
            nonlocal stranger
            if stranger is not None:
                self._count(stranger, -amount)
            stranger = None

        if self._taken + amount > self._most or (address is not None and not self._has_room(address, amount)):
            raise NoSlot(f"too many {self._what} are being served already: wait for an answer, then try again")
        self._taken += amount
        if address is not None:
            self._count(address, amount)
        try:
            yield proven
        finally:
            self._taken -= amount
            proven()

    def _has_room(self, address: str, amount: int) -> bool:
        together, alone = self._by_address.total() + amount, self._by_address[address] + amount
        return together <= self._of_strangers and alone <= max(1, self._of_strangers / 2)

    def _count(self, address: str, change: int) -> None:
        self._by_address[address] += change
        if not self._by_address[address]:
            del self._by_address[address]
