"""A bounded memory of what bytes say.

Law: it forgets, and nothing that it gives depends on what it has forgotten.
"""

from typing import Generic, TypeVar

V = TypeVar("V")


class Cache(Generic[V]):
    """Holds the entries put in last and those asked for since: `size` of them, or as many as are `size` KiB long.

    Two generations of that size: when the young one is full it becomes the old one, and what was old and not asked for
    is gone. Safe with several threads.
    """

    __slots__ = ("_old", "_room", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size = size
        self._room = 0
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
        if self._room < len(body) or len(self._young) >= self._size:
            self._young, self._old, self._room = {}, self._young, self._size * 1024
        if self._size:
            self._young[body] = value
            self._room -= len(body)
