"""The rows of a store for the Merkle tree beside its log, and for the checkpoints of the tree (capx.ledger)."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import ClassVar

from capx.store.records import CheckpointRecord, HookCursor
from capx.store.sql.statements import SqlStatements

_HERE = "position > ? AND position <= ? AND kind = 'decision' AND substr(body, 1, 17) <> '{\"archived\":true,'"
_CHECKPOINT = "SELECT size, at, note FROM capx.checkpoints"


class SqlTreeRows(SqlStatements):
    """Reads and writes these rows within one transaction."""

    without_body: ClassVar[str]
    """What a decision becomes that has left the store."""

    def event_hashes(self, *, after: int, limit: int) -> list[bytes]:
        query = "SELECT hash FROM capx.events WHERE position > ? AND position <= ? ORDER BY position"
        return [hash_ for (hash_,) in self._rows(query, after, after + limit)]

    def first_event(self, since: int) -> int | None:
        query = "SELECT min(position) FROM capx.events WHERE kind <> 'decision' AND at >= ?"
        (found,) = self._row(query, since)
        return None if found is None else int(found)

    def unarchived(self, *, after: int, until: int) -> int | None:
        (found,) = self._row(f"SELECT min(position) FROM capx.events WHERE {_HERE}", after, until)  # noqa: S608 - ours
        return None if found is None else int(found)

    def take_out_decisions(self, *, after: int, until: int) -> int:
        updated = self._execute(f"UPDATE capx.events SET {self.without_body} WHERE {_HERE}", after, until)  # noqa: S608
        return int(updated.rowcount)

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

    def hook(self, name: str) -> HookCursor | None:
        row = self._row("SELECT name, epoch, position FROM capx.hooks WHERE name = ?", name)
        return row and HookCursor(*row)

    def move_hook(self, cursor: HookCursor) -> None:
        self._put(
            "hooks",
            (cursor.name, cursor.epoch, cursor.position),
            "ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, position = excluded.position",
        )
