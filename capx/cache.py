"""A bounded memory of what bytes under a key say.

Law: an entry is found only with the very key object it was made with, so a key that is gone finds nothing.
"""

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Least recently used out first; safe with several threads."""

    __slots__ = ("_entries", "_lock", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[bytes, tuple[K, V]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, body: bytes, key: K) -> V | None:
        """What these bytes say under this key, if that is known."""
        with self._lock:
            entry = self._entries.get(body)
            if entry is None or entry[0] is not key:
                return None
            self._entries.move_to_end(body)
            return entry[1]

    def put(self, body: bytes, key: K, value: V) -> None:
        """Remember, and forget the entry that was not asked for longest."""
        with self._lock:
            self._entries[body] = (key, value)
            self._entries.move_to_end(body)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
