"""The tree beside the log of a store: paths from kept hashes are those of the whole tree, and damage is found."""

import pytest

from capx.crypto.ed25519 import Signer
from capx.errors import StoreProblem
from capx.ledger.checkpoint import Checkpoint
from capx.ledger.note import Note, NoteSigner
from capx.ledger.stored_tree import StoredTree, check_tree, new_runs
from capx.ledger.tree import Frontier, is_consistent, is_included
from capx.store.protocols import Reading, Store
from capx.store.records import CheckpointRecord
from tests.labs.store_writes import NOW
from tests.store.conftest import Places

SIGNER = NoteSigner("example/log", Signer(bytes(range(32))))


def grow(store: Store, count: int) -> None:
    with store.write() as transaction:
        transaction.append_all("noted", (b'{"n":%d}' % n for n in range(count)), at=NOW)


def keep(store: Store, size: int) -> None:
    """Keep what a checkpoint of this size keeps, and the checkpoint."""
    with store.read() as reading:
        runs = new_runs(reading, size)
        text = Checkpoint("example/log", size, StoredTree(reading, runs).root(size)).text()
    with store.write() as transaction:
        for new in runs:
            transaction.keep_runs(new.level, new.first, new.hashes)
        note = Note(text, ()).with_lines([SIGNER.line(text)]).dump()
        transaction.keep_checkpoint(CheckpointRecord(size, NOW, note))


def hashes(reading: Reading) -> list[bytes]:
    return [event.hash for event in reading.events()]


def root_of(entries: list[bytes]) -> bytes:
    tree = Frontier()
    for entry in entries:
        tree.append(entry)
    return tree.root


def test_paths_of_a_long_log_are_good(store: Store) -> None:
    # One full run of the second kept level, some of the first, and a rest.
    for count, size in ((300, 300), (65_700, 66_000), (513, 66_513)):
        grow(store, count)
        keep(store, size)
    with store.read() as reading:
        assert [reading.kept_run_count(level) for level in (8, 16, 24)] == [259, 1, 0]
        entries, tree = hashes(reading), StoredTree(reading)
        for size in (1, 256, 300, 65_536, 66_000, 66_513):
            whole = root_of(entries[:size])
            assert tree.root(size) == whole
            for position in {1, size // 2 + 1, size}:
                path = tree.inclusion_path(position, size)
                assert is_included(entries[position - 1], position - 1, size, whole, path)
            for old in {1, size // 3, size - 1}:
                path = tree.consistency_path(old, size)
                assert is_consistent(old, root_of(entries[:old]), size, whole, path)
        check_tree(reading)


@pytest.fixture
def kept(store: Store) -> Store:
    grow(store, 600)
    keep(store, 400)
    keep(store, 600)
    return store


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE {0}tree SET hash = {1} WHERE nth = 1", "at position 257: the tree beside the log has another hash"),
        ("UPDATE {0}events SET hash = {1} WHERE position = 7", "at position 1: the tree beside the log"),
        ("UPDATE {0}events SET hash = {1} WHERE position = 599", "at position 600: the checkpoint that ends here"),
        ("INSERT INTO {0}tree VALUES (8, 2, {1})", "has events that the log lacks"),
        ("INSERT INTO {0}tree VALUES (16, 0, {1})", "has events that the log lacks"),
        ("DELETE FROM {0}events WHERE position > 590", "counts 600 events and holds 590"),
        ("UPDATE {0}checkpoints SET note = 'x' WHERE size = 400", "the checkpoint of 400 events is damaged"),
        ("UPDATE {0}checkpoints SET size = 401 WHERE size = 400", "at position 401: the checkpoint that ends here"),
        ("UPDATE {0}checkpoints SET size = 601 WHERE size = 600", "a checkpoint has 601 events, and the log has 600"),
    ],
)
def test_damage_is_found(kept: Store, places: Places, damage: str, says: str) -> None:
    with kept.read() as reading:
        check_tree(reading)
    raw = "'\\x" + "11" * 32 + "'" if places.kind == "postgres" else "x'" + "11" * 32 + "'"
    places.tamper(kept, damage.format("capx." if places.kind == "postgres" else "", raw))
    with kept.read() as reading, pytest.raises(StoreProblem, match=says):
        check_tree(reading)


def test_a_lost_run_is_told_and_no_path_is_made_up(kept: Store, places: Places) -> None:
    places.tamper(kept, f"DELETE FROM {'capx.' if places.kind == 'postgres' else ''}tree WHERE nth = 0")
    with kept.read() as reading, pytest.raises(StoreProblem, match="lacks hashes of the tree"):
        StoredTree(reading).root(600)


def test_a_run_is_kept_once(kept: Store) -> None:
    with kept.read() as reading:
        assert new_runs(reading, 600) == []
