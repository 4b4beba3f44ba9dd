"""The Merkle tree beside the log of a store. The store keeps the hashes of some full runs, so that paths are quick.

Laws:

- The hashes of full runs are kept at every eighth level, for the events up to the last checkpoint. A path in a log of a
  million events then costs some 500 reads.
- What is kept follows from the log. `check_tree` computes it again.
- To append an event costs nothing here: whoever makes a checkpoint reads the hashes since the last one.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from capx.errors import BrokenLog, StoreProblem
from capx.ledger.checkpoint import Checkpoint
from capx.ledger.note import BadNote, Note
from capx.ledger.tree import Frontier, consistency_path, frontier, full_run, inclusion_path, leaf_hash, root
from capx.store.protocols import Reading
from capx.store.records import CheckpointRecord

_STEP: Final = 8
"""The levels from one that is kept to the next."""
_WIDTH: Final = 1 << _STEP
_MOST_RUNS: Final = 4_096
_MOST_PARTS: Final = 64
_AT_ONCE: Final = 64
"""The full runs of the lowest kept level that are read at once."""


class NewRuns(Struct, frozen=True):
    """Full runs of one level whose hashes the store does not keep yet; `first` is the number of the first."""

    level: int
    first: int
    hashes: tuple[bytes, ...]


def _lacking() -> StoreProblem:
    return StoreProblem("the store lacks hashes of the tree beside its log: run capx store check")


class StoredTree:
    """The tree of the first events of a store; `new` are full runs that the store will keep."""

    def __init__(self, reading: Reading, new: Sequence[NewRuns] = ()) -> None:
        self._reading = reading
        self._new: Mapping[int, NewRuns] = MappingProxyType({runs.level: runs for runs in new})
        # One tree serves many paths, which have most of their runs in common.
        self._run = lru_cache(_MOST_RUNS)(self._computed)
        self._part = lru_cache(_MOST_PARTS)(self._read)

    def root(self, size: int) -> bytes:
        """The root of the first `size` events: 32 bytes."""
        return root(size, self._run)

    def frontier(self, size: int) -> Frontier:
        """The frontier of the first `size` events, which may grow."""
        return frontier(size, self._run)

    def inclusion_path(self, position: int, size: int) -> list[bytes]:
        """The path that proves that the event at this position (from 1) is among the first `size`."""
        return inclusion_path(position - 1, size, self._run)

    def consistency_path(self, old: int, size: int) -> list[bytes]:
        """The path that proves that the first `size` events begin with the first `old` ones."""
        return consistency_path(old, size, self._run)

    def _computed(self, level: int, nth: int) -> bytes:
        kept = level // _STEP * _STEP
        wide = level - kept
        part, within = divmod(nth << wide, _WIDTH)
        found = self._part(kept, part)[within : within + (1 << wide)]
        if len(found) != 1 << wide:
            raise _lacking()
        return full_run(found)

    def _read(self, level: int, part: int) -> list[bytes]:
        """The hashes of a level that is kept, or of leaves, as many of one part as there are."""
        return self._found(level, part * _WIDTH, _WIDTH)

    def hashes(self, level: int, *, first: int, count: int) -> list[bytes]:
        """The hashes of runs of a level that is kept, or of leaves (level 0), from number `first` on."""
        found = self._found(level, first, count)
        if len(found) != count:
            raise _lacking()
        return found

    def _found(self, level: int, first: int, count: int) -> list[bytes]:
        if level == 0:
            return list(map(leaf_hash, self._reading.event_hashes(after=first, limit=count)))
        found = self._reading.kept_runs(level, first=first, limit=count)
        if len(found) < count and level in self._new:
            new, at = self._new[level], first + len(found)
            found += new.hashes[max(0, at - new.first) : first + count - new.first]
        return found


def new_runs(reading: Reading, size: int) -> list[NewRuns]:
    """The full runs of the first `size` events that are to be kept, and are not yet."""
    made: list[NewRuns] = []
    level = _STEP
    while size >> level:
        first, end = reading.kept_run_count(level), size >> level
        tree = StoredTree(reading, made)
        hashes: list[bytes] = []
        for at in range(first, end, _AT_ONCE):
            count = min(_AT_ONCE, end - at)
            below = tree.hashes(level - _STEP, first=at * _WIDTH, count=count * _WIDTH)
            hashes += (full_run(below[one : one + _WIDTH]) for one in range(0, len(below), _WIDTH))
        if hashes:
            made.append(NewRuns(level, first, tuple(hashes)))
        level += _STEP
    return made


def check_tree(reading: Reading) -> None:
    """Compute the tree again from the log; StoreProblem if a kept hash or a checkpoint is not what it must be.

    The log itself is checked by `check_store`.
    """
    kept, grown, end = _KeptRuns(reading), Frontier(), reading.head().position
    for record in (*reading.checkpoints(), None):
        size = end if record is None else record.size
        if size > end:
            raise StoreProblem(f"a checkpoint has {size} events, and the log has {end}: restore the store")
        while grown.size < size:
            piece = reading.event_hashes(after=grown.size, limit=min(_WIDTH - grown.size % _WIDTH, size - grown.size))
            if not piece:
                raise StoreProblem(f"the log counts {end} events and holds {grown.size}: run capx store check")
            for hash_ in piece:
                grown.append(hash_)
            if grown.size % _WIDTH == 0:
                # The last run of the frontier is at least as large as this one: compute it from its leaves.
                run = reading.event_hashes(after=grown.size - _WIDTH, limit=_WIDTH)
                kept.demand(_STEP, grown.size, full_run(list(map(leaf_hash, run))))
        if record is not None:
            _demand_root(record, grown)
    kept.demand_no_more(end)


class _KeptRuns:
    """The full runs that a store keeps, while the log is read from its beginning."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._counts = {level: reading.kept_run_count(level) for level in range(_STEP, 64, _STEP)}
        self._below: dict[int, list[bytes]] = {level: [] for level in self._counts}

    def demand(self, level: int, size: int, found: bytes) -> None:
        """Raise BrokenLog if the run that ends at `size` is kept with another hash than `found`."""
        nth = (size >> level) - 1
        if nth < self._counts[level] and self._reading.kept_runs(level, first=nth, limit=1) != [found]:
            first = (nth << level) + 1
            raise BrokenLog(first, f"the tree beside the log has another hash for the {1 << level} events from here on")
        below = self._below[level]
        below.append(found)
        if len(below) == _WIDTH:
            self.demand(level + _STEP, size, full_run(below))
            below.clear()

    def demand_no_more(self, end: int) -> None:
        """Raise StoreProblem if there is a run of events that the log does not have."""
        for level, count in self._counts.items():
            if count > end >> level:
                raise StoreProblem(f"the tree beside the log has events that the log lacks: it has {end}")


def _demand_root(record: CheckpointRecord, grown: Frontier) -> None:
    try:
        checkpoint = Checkpoint.parse(Note.parse(record.note).text)
    except BadNote as problem:
        raise StoreProblem(f"the checkpoint of {record.size} events is damaged: {problem}") from None
    if checkpoint.size != record.size or checkpoint.root != grown.root:
        raise BrokenLog(
            grown.size, "the checkpoint that ends here was signed for another log: events were changed since"
        )
