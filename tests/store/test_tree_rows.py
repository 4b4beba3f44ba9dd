"""The rows of the tree beside the log, and of its checkpoints, in both kinds of store."""

from capx.store.protocols import Store
from capx.store.records import CheckpointRecord
from tests.labs.store_writes import NOW, note


def test_checkpoints_are_found_by_size(store: Store) -> None:
    with store.write() as transaction:
        for size in (600, 400):
            transaction.keep_checkpoint(CheckpointRecord(size, NOW, "x"))
    with store.read() as reading:
        assert [one.size for one in reading.checkpoints()] == [400, 600]
        found = [reading.checkpoint(size) for size in (None, 0, 400, 401, 601)]
        assert [one and one.size for one in found] == [600, 400, 400, 600, None]


def test_a_checkpoint_replaces_the_one_of_its_size(store: Store) -> None:
    with store.write() as transaction:
        transaction.keep_checkpoint(CheckpointRecord(7, NOW, "x"))
        transaction.keep_checkpoint(CheckpointRecord(7, NOW + 1, "cosigned"))
    with store.read() as reading:
        assert list(reading.checkpoints()) == [CheckpointRecord(7, NOW + 1, "cosigned")]


def test_hashes_are_read_by_position_and_number(store: Store) -> None:
    for _ in range(5):
        note(store)
    with store.write() as transaction:
        transaction.keep_runs(8, 0, [b"a" * 32, b"b" * 32])
        transaction.keep_runs(8, 2, [b"c" * 32])
        transaction.keep_runs(16, 0, [b"d" * 32])
    with store.read() as reading:
        hashes = [event.hash for event in reading.events()]
        assert reading.event_hashes(after=1, limit=3) == hashes[1:4]
        assert reading.event_hashes(after=4, limit=9) == hashes[4:]
        assert reading.kept_runs(8, first=1, limit=9) == [b"b" * 32, b"c" * 32]
        assert reading.kept_runs(8, first=0, limit=1) == [b"a" * 32]
        assert [reading.kept_run_count(level) for level in (8, 16, 24)] == [3, 1, 0]
