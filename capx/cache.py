"""A bounded memory of what bytes say.

Law: it forgets, and nothing that it gives depends on what it has forgotten.
"""

from typing import Generic, TypeVar

V = TypeVar("V")


class Cache(Generic[V]):
    """Holds the `size` entries put in last and those asked for since; at most twice as many. Safe with several threads.

    Two generations: when the young one is full it becomes the old one, and what was old and not asked for is gone.
    """

    __slots__ = ("_old", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}

    def get(self, body: bytes) -> V | None:
        """What these bytes say, if that is known."""
        value = self._young.get(body)
        if value is None:
            value = self._old.get(body)
            if value is not None:
                self.put(body, value)
        return value

    def put(self, body: bytes, value: V) -> None:
        """Remember; two threads at once may make each other forget, and nothing else."""
        if len(self._young) >= self._size:
            self._young, self._old = {}, self._young
        if self._size:
            self._young[body] = value
