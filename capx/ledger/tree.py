"""The Merkle tree beside a log: its roots, and the paths that prove one entry, or that one tree continues another.

    leaf    SHA-256(00 || entry)            entry i, from 0, is the 32-byte hash of event i + 1
    node    SHA-256(01 || left || right)

A *full run* is `(level, nth)`: the 2**level leaves from nth * 2**level on. Every root and every path consists of full
runs, so whoever has their hashes needs no leaves.

Laws:

- A path is good for one index and one size. A hash too few or too many is refused.
- Nothing here reads a store or a file: whoever computes a path passes a function that gives the hash of a full run.

Source: RFC 9162, section 2.1. We wrote it ourselves, because no library of Python fits (decision 67).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from hashlib import sha256
from typing import Final

FullRun = Callable[[int, int], bytes]
"""Gives the hash of a full run, by level and number."""

EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of a tree without leaves."""
MAX_PATH: Final = 63
"""The most hashes of a path that anybody accepts."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf: 32 bytes."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two others: 32 bytes."""
    return sha256(b"\1" + left + right).digest()


def full_run(hashes: Sequence[bytes]) -> bytes:
    """Return the hash of the full run of these hashes, which are of one level; their number is a power of two."""
    while len(hashes) > 1:
        hashes = list(map(node_hash, hashes[::2], hashes[1::2]))
    return hashes[0]


class Frontier:
    """The tree of the leaves so far, as the hashes of its largest full runs: what it needs to grow."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        if size < 0 or len(hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has another number of full runs than {len(hashes)}")
        self.size = size
        self._hashes = list(hashes)

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The hashes of its full runs, from left to right, 32 bytes each."""
        return tuple(self._hashes)

    @property
    def root(self) -> bytes:
        """The root of the tree: 32 bytes."""
        return _joined(self._hashes)

    def append(self, entry: bytes) -> None:
        """Add one leaf."""
        found, size = leaf_hash(entry), self.size
        while size & 1:
            found = node_hash(self._hashes.pop(), found)
            size >>= 1
        self._hashes.append(found)
        self.size += 1


class RunsInMemory:
    """The full runs of a tree whose entries are all in memory."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self._levels = [list(map(leaf_hash, entries))]

    def run(self, level: int, nth: int) -> bytes:
        """The hash of a full run."""
        while len(self._levels) <= level:
            below = self._levels[-1]
            self._levels.append(list(map(node_hash, below[: len(below) - len(below) % 2 : 2], below[1::2])))
        return self._levels[level][nth]


def root(size: int, run: FullRun) -> bytes:
    """Return the root of the first `size` leaves: 32 bytes."""
    return _range(0, size, run)


def frontier(size: int, run: FullRun) -> Frontier:
    """Return the frontier of the first `size` leaves."""
    return Frontier(size, [run(*each) for each in _full_runs(0, size)])


def inclusion_path(index: int, size: int, run: FullRun) -> list[bytes]:
    """Return the path that proves that a leaf is in a tree of this size: from its sibling up (section 2.1.3.1)."""
    path: list[bytes] = []
    start = 0
    while size > 1:
        left = _split(size)
        if index < left:
            path.append(_range(start + left, size - left, run))
            size = left
        else:
            path.append(_range(start, left, run))
            start, index, size = start + left, index - left, size - left
    return path[::-1]


def is_included(entry: bytes, index: int, size: int, tree: bytes, path: Sequence[bytes]) -> bool:
    """Whether this path proves that this is the entry at `index` in a tree of this size and root (section 2.1.3.2)."""
    if not 0 <= index < size or len(path) > MAX_PATH:
        return False
    first, last, found = index, size - 1, leaf_hash(entry)
    for one in path:
        if last == 0:
            return False
        if first & 1 or first == last:
            found = node_hash(one, found)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            found = node_hash(found, one)
        first, last = first >> 1, last >> 1
    return last == 0 and found == tree


def consistency_path(old: int, size: int, run: FullRun) -> list[bytes]:
    """Return the path that proves that a tree of this size continues one of the size `old` (section 2.1.4.1).

    The path for an empty tree, and for the same size, is empty.
    """
    path: list[bytes] = []
    if old in {0, size}:
        return path
    start, is_old_root = 0, True
    while old != size:
        left = _split(size)
        if old <= left:
            path.append(_range(start + left, size - left, run))
            size = left
        else:
            path.append(_range(start, left, run))
            start, old, size, is_old_root = start + left, old - left, size - left, False
    if not is_old_root:
        path.append(_range(start, size, run))
    return path[::-1]


def is_consistent(old: int, old_root: bytes, size: int, tree: bytes, path: Sequence[bytes]) -> bool:
    """Whether this path proves that a tree continues another one, both with size and root (section 2.1.4.2)."""
    if not 0 <= old <= size or len(path) > MAX_PATH:
        return False
    if old == 0:
        return not path and old_root == EMPTY_ROOT and (size > 0 or tree == EMPTY_ROOT)
    if old == size:
        return not path and old_root == tree
    hashes = list(path)
    # A full old tree is the first hash of its own path.
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)
    if not hashes:
        return False
    first, last = old - 1, size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    of_old = of_new = hashes[0]
    for one in hashes[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            of_old, of_new = node_hash(one, of_old), node_hash(one, of_new)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            of_new = node_hash(of_new, one)
        first, last = first >> 1, last >> 1
    return last == 0 and of_old == old_root and of_new == tree


def _split(size: int) -> int:
    """The largest power of two below `size`: how many leaves are in the left half."""
    return 1 << (size - 1).bit_length() - 1


def _full_runs(start: int, size: int) -> Iterator[tuple[int, int]]:
    """The full runs of a range, the largest first; `start` is a multiple of the largest."""
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            yield level, start >> level
            start += 1 << level


def _range(start: int, size: int, run: FullRun) -> bytes:
    return _joined([run(*each) for each in _full_runs(start, size)])


def _joined(hashes: Sequence[bytes]) -> bytes:
    return reduce(lambda right, left: node_hash(left, right), reversed(hashes)) if hashes else EMPTY_ROOT
