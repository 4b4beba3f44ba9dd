"""How much is served at once over HTTP: so many requests, and so many bytes of their bodies.

Laws: a caller is who has proven something, such as by a presentation whose MAC was good; until then, a request is a
stranger's. Strangers together get a part of the whole, and one machine of them half of this part. A caller, such as all
who hold tokens of one capability, gets half of what the other callers leave, or one thing that is larger. So strangers
lock out no caller, one machine locks out no other stranger, and neither one caller, nor who has seen what it shows, nor
a few callers together lock out another.
"""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Network, ip_address

from capx.verify.verifier import Authentic

Sender = str | bytes
"""Who has sent something: a stranger's machine (text), or a caller (bytes), such as the capability that it shows."""


class NoSlot(Exception):
    """No more is served at once."""


class Slots:
    """Room for `most` of something, such as requests. `what` names it in errors, and `strangers` is their part."""

    def __init__(self, most: int, what: str, *, strangers: float = 0.5) -> None:
        self._most = most
        self._of_strangers = max(1, int(most * strangers))
        self._what = what
        self._taken: Counter[Sender] = Counter()

    @contextmanager
    def taken(self, by: Sender, amount: int = 1) -> Generator[Callable[[bytes], None]]:
        """Take an amount for a stranger or a caller; raises NoSlot.

        The block gets a function that says which caller the stranger has turned out to be.
        """
        if not self._has_room(by, amount):
            raise NoSlot(f"too many {self._what} are being served already: wait for an answer, then try again")
        holder: Sender | None = by

        def move(to: Sender | None) -> None:
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

    def _has_room(self, by: Sender, amount: int) -> bool:
        alone, total = self._taken[by] + amount, self._taken.total()
        if total + amount > self._most:
            return False
        strangers = sum(taken for one, taken in self._taken.items() if isinstance(one, str))
        if isinstance(by, bytes):
            other_callers = total - strangers - self._taken[by]
            return alone == amount or alone <= (self._most - other_callers) / 2
        return strangers + amount <= self._of_strangers and alone <= max(1, self._of_strangers / 2)


def capability_of(token: Authentic) -> bytes:
    """The capability of a token, and of all that its holders have narrowed it to: nobody can make up another one."""
    return token.frame.identifier_bytes


def machine_at(host: str) -> str:
    """What stands for a machine: its IPv4 address, or the /64 of its IPv6 address, because it can use all of that."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address.packed, 64), strict=False))
