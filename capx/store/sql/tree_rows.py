"""The rows of a store for the Merkle tree beside its log, and for the checkpoints of the tree (capx.ledger)."""

from collections.abc import Iterator, Sequence
from itertools import takewhile

from capx.store.records import CheckpointRecord
from capx.store.sql.statements import SqlStatements

_CHECKPOINT = "SELECT size, at, note FROM capx.checkpoints"


class SqlTreeRows(SqlStatements):
    """Reads and writes these rows within one transaction."""

    def event_hashes(self, *, after: int, limit: int) -> list[bytes]:
        query = "SELECT hash FROM capx.events WHERE position > ? AND position <= ? ORDER BY position"
        return [hash_ for (hash_,) in self._rows(query, after, after + limit)]

    def kept_runs(self, level: int, *, first: int, limit: int) -> list[bytes]:
        query = "SELECT nth, hash FROM capx.tree WHERE level = ? AND nth >= ? AND nth < ? ORDER BY nth"
        rows = enumerate(self._rows(query, level, first, first + limit), first)
        # Up to a gap: behind it, each would pass for the one before.
        return [hash_ for _, (_, hash_) in takewhile(lambda row: row[0] == row[1][0], rows)]

    def kept_run_count(self, level: int) -> int:
        (last,) = self._row("SELECT max(nth) FROM capx.tree WHERE level = ?", level)
        return 0 if last is None else int(last) + 1

    def checkpoint(self, size: int | None = None) -> CheckpointRecord | None:
        if size is None:
            row = self._row(f"{_CHECKPOINT} ORDER BY size DESC LIMIT 1")
        else:
            row = self._row(f"{_CHECKPOINT} WHERE size >= ? ORDER BY size LIMIT 1", size)
        return row and CheckpointRecord(*row)

    def checkpoints(self) -> Iterator[CheckpointRecord]:
        size = -1
        # One by one: after each, the caller may read what lies between.
        while row := self._row(f"{_CHECKPOINT} WHERE size > ? ORDER BY size LIMIT 1", size):
            yield (record := CheckpointRecord(*row))
            size = record.size

    def keep_runs(self, level: int, first: int, hashes: Sequence[bytes]) -> None:
        self._put_all("tree", ((level, nth, hash_) for nth, hash_ in enumerate(hashes, first)))

    def keep_checkpoint(self, checkpoint: CheckpointRecord) -> None:
        self._put(
            "checkpoints",
            (checkpoint.size, checkpoint.at, checkpoint.note),
            "ON CONFLICT (size) DO UPDATE SET at = excluded.at, note = excluded.note",
        )
