"""A bounded cache of facts that were read from verified bytes.

Law: forgetting an entry costs time and changes no answer.
"""

from typing import Generic, TypeVar

V = TypeVar("V")


class Cache(Generic[V]):
    """Holds the entries that were put in or read last.

    It has two generations, each of at most `size` entries, or fewer if their keys exceed `size` KiB. So it holds at
    most twice as many. A full young generation becomes the old one, and the old entries that nobody has read since are
    dropped. Safe with several threads.
    """

    __slots__ = ("_old", "_room", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size = size
        self._room = 0
        self._young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}

    def get(self, body: bytes) -> V | None:
        """The value of these bytes; None if it is not cached."""
        value = self._young.get(body)
        if value is None:
            value = self._old.get(body)
            if value is not None:
                self.put(body, value)
        return value

    def put(self, body: bytes, value: V) -> None:
        """Remember the value of these bytes."""
        if not self._size:
            return
        # Without a lock: two threads at once may drop each other's entries, which is only a miss later.
        if self._room < len(body) or len(self._young) >= self._size:
            self._young, self._old, self._room = {}, self._young, self._size * 1024
        self._young[body] = value
        self._room -= len(body)
