"""The authority signs its log, one history of it, whatever somebody does to the store by hand."""

import shutil
import sqlite3
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.authority.restore import restore
from capx.crypto.keys import RootKey
from capx.errors import ConfigurationProblem, InvalidRequest, StoreProblem
from capx.ledger.checkpoint import Checkpoint, opened
from capx.ledger.note import BadNote, Note
from capx.ledger.note_keys import WitnessKey
from capx.ledger.stored_tree import StoredTree
from capx.ledger.tree import Frontier, is_consistent, is_included
from capx.resource.feed.page import FeedCursor, sign_page
from capx.store.backup import backup
from capx.store.log import START, Event, Place, following
from capx.store.records import CheckpointRecord
from tests.labs.restoring import KEYS, authority, place

__all__ = ["authority", "place"]


def read(record: CheckpointRecord) -> Checkpoint:
    return Checkpoint.parse(Note.parse(record.note).text)


def test_a_checkpoint_is_the_root_of_the_log_and_signed(authority: Authority) -> None:
    task = authority.open(allow=["crm.read"])
    record = authority.checkpoints.make()
    checkpoint = opened(record.note, authority.checkpoints.public_keys())
    assert checkpoint.origin == f"capx/{authority.epoch()}"
    tree = Frontier()
    for event in authority.log():
        tree.append(event.hash)
    assert (checkpoint.size, checkpoint.root) == (tree.size, tree.root)
    with authority.store.read() as reading:
        path = StoredTree(reading).inclusion_path(task.position, checkpoint.size)
    entry = next(event.hash for event in authority.log() if event.position == task.position)
    assert is_included(entry, task.position - 1, checkpoint.size, checkpoint.root, path)


def test_checkpoints_go_on_from_each_other_and_are_all_kept(authority: Authority) -> None:
    made = [authority.checkpoints.make()]
    for _ in range(4):
        authority.open(allow=["crm.read"])
        made.append(authority.checkpoints.make())
    assert authority.checkpoints.make() == made[-1]
    with authority.store.read() as reading:
        assert list(reading.checkpoints()) == made
        tree = StoredTree(reading)
        for before, after in zip(map(read, made), map(read, made[1:]), strict=False):
            path = tree.consistency_path(before.size, after.size)
            assert is_consistent(before.size, before.root, after.size, after.root, path)
    held = authority.checkpoints.check(notes=[one.note for one in made])
    assert (held.size, held.checkpoints, held.notes) == (read(made[-1]).size, 5, 5)


def test_many_who_sign_at_once_sign_one_history(authority: Authority, place: str) -> None:
    def work(nth: int) -> list[CheckpointRecord]:
        if nth % 2:
            authority.open(allow=["crm.read"])
        return [authority.checkpoints.make() for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        made = [one for each in pool.map(work, range(16)) for one in each]
    roots: dict[int, set[bytes]] = {}
    for checkpoint in map(read, made):
        roots.setdefault(checkpoint.size, set()).add(checkpoint.root)
    assert all(len(each) == 1 for each in roots.values())
    assert authority.checkpoints.check(notes=[one.note for one in made]).notes == len(made)


def test_old_and_new_keys_sign_until_the_old_one_is_retired(authority: Authority) -> None:
    (old,) = authority.checkpoints.public_keys()
    first = authority.checkpoints.make()
    ring = KEYS.of(authority.id).added(new := RootKey.generate())
    authority.rekey(ring.activated(new.kid))
    authority.open(allow=["crm.read"])
    both = Note.parse(authority.checkpoints.make().note)
    keys = authority.checkpoints.public_keys()
    assert [key for key, _ in both.signed_by(keys)] == keys
    assert old in keys
    authority.rekey(ring.activated(new.kid).retired(KEYS.active.kid))
    with authority.store.read() as reading:
        assert reading.checkpoint(read(first).size) == first
    authority.open(allow=["crm.read"])
    last = authority.checkpoints.make()
    assert Note.parse(last.note).signed_by([old]) == []
    # What only the old key has signed is still the beginning of the log, but it is not known any more here.
    with pytest.raises(BadNote, match="no known key"):
        authority.checkpoints.check(notes=[first.note])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    Authority.create_home(folder).close()
    return folder


@contextmanager
def at(home: Path) -> Generator[Authority]:
    with Authority.open_home(home) as made:
        yield made


def signed_at(home: Path, *, opening: int = 1) -> CheckpointRecord:
    with at(home) as authority:
        for _ in range(opening):
            authority.open(allow=["crm.read"])
        return authority.checkpoints.make()


def put_back(home: Path, copy: Path) -> None:
    for beside in ("-wal", "-shm"):
        (home / f"capx.db{beside}").unlink(missing_ok=True)
    shutil.copy(copy, home / "capx.db")


@pytest.fixture
def older(home: Path, tmp_path: Path) -> Path:
    """A copy of the store of a home whose log has gone on since, and was signed."""
    signed_at(home)
    copy = tmp_path / "older.db"
    shutil.copy(home / "capx.db", copy)
    signed_at(home, opening=2)
    return copy


def test_a_store_put_back_by_hand_is_not_signed_for(home: Path, older: Path) -> None:
    put_back(home, older)
    with at(home) as authority, pytest.raises(StoreProblem, match="an older copy was put in its place by hand"):
        authority.checkpoints.make()


def test_a_store_put_back_and_grown_anew_is_not_signed_for(home: Path, older: Path) -> None:
    put_back(home, older)
    for opening in (2, 3):
        with pytest.raises(StoreProblem, match="not those that were signed"):
            signed_at(home, opening=opening)
    with at(home) as authority, pytest.raises(StoreProblem, match="not those that were signed"):
        authority.checkpoints.check()


def test_a_log_written_anew_is_not_signed_for(home: Path) -> None:
    signed_at(home, opening=3)
    with at(home) as authority:
        events = list(authority.log())
    place: Place = START
    made: list[Event] = []
    for event in events:
        body = event.body.replace(b"crm.read", b"crm.reap")
        made.append(following(place, at=event.at, kind=event.kind, body=body))
        place = Place(made[-1].position, made[-1].hash)
    with closing(sqlite3.connect(home / "capx.db")) as file, file:
        for event in made:
            values = event.body.decode(), event.hash, event.position
            file.execute("UPDATE events SET body = ?, hash = ? WHERE position = ?", values)
        file.execute("UPDATE head SET hash = ?", (place.hash,))
        file.execute("DELETE FROM checkpoints")
        file.execute("DELETE FROM tree")
    with pytest.raises(StoreProblem, match="not those that were signed"):
        signed_at(home)


def test_a_restored_store_is_another_log(home: Path, tmp_path: Path) -> None:
    before = read(signed_at(home))
    with at(home) as authority:
        backup(authority.store, tmp_path / "saved.db")
    signed_at(home)
    restore(tmp_path / "saved.db", str(home / "capx.db"))
    after = read(signed_at(home))
    assert after.origin != before.origin
    with at(home) as authority:
        assert authority.checkpoints.check().checkpoints == 1
    # The old epoch put back by hand beside the file of the new one.
    with closing(sqlite3.connect(home / "capx.db")) as file, file:
        file.execute("UPDATE head SET epoch = ?", (before.origin.removeprefix("capx/"),))
    with at(home) as authority, pytest.raises(StoreProblem, match="which is not later"):
        authority.checkpoints.make()


def test_a_lost_or_older_file_is_written_again(home: Path) -> None:
    first = signed_at(home).note
    second = signed_at(home).note
    file = home / "checkpoint.note"
    assert file.read_text() == second
    assert file.stat().st_mode & 0o777 == 0o600
    for held in (None, first):
        file.unlink()
        if held is not None:
            file.write_text(held)
            file.chmod(0o600)
        with at(home) as authority:
            assert authority.checkpoints.make().note == second
        assert file.read_text() == second


@pytest.mark.parametrize("held", ["", "x", "capx/a.1\n1\n"])
def test_a_damaged_file_stops_the_signing(home: Path, held: str) -> None:
    signed_at(home)
    (home / "checkpoint.note").write_text(held)
    with at(home) as authority:
        with pytest.raises(ConfigurationProblem, match="put it back from your backup"):
            authority.checkpoints.make()
        # All else works.
        authority.open(allow=["crm.read"])


def test_a_page_of_the_feed_is_a_witness(home: Path, older: Path) -> None:
    with at(home) as authority:
        now = authority.checkpoints.make().at
        with authority.store.read() as reading:
            signer = authority.keyring.active.feed_signer()
            page = sign_page(reading, signer, FeedCursor(), now=now).text
        authority.open(allow=["crm.read"])
        assert authority.checkpoints.check(pages=[page]).pages == 1
    put_back(home, older)
    (home / "checkpoint.note").unlink()
    with at(home) as authority:
        for _ in range(9):
            authority.open(allow=["crm.read"])
        with pytest.raises(StoreProblem, match="a page of the feed names another event there"):
            authority.checkpoints.check(pages=[page])
        with pytest.raises(StoreProblem, match="signature"):
            authority.checkpoints.check(pages=[page.replace("deaths", "death5")])


def test_a_note_that_somebody_kept_shows_that_the_log_is_another(home: Path, older: Path) -> None:
    with at(home) as authority:
        kept = authority.checkpoints.last().note
    put_back(home, older)
    (home / "checkpoint.note").unlink()
    with at(home) as authority:
        authority.open(allow=["crm.read"])
        for _ in range(9):
            authority.open(allow=["crm.read"])
        with pytest.raises(StoreProblem, match="not those that were signed"):
            authority.checkpoints.check(notes=[kept])


def test_without_a_checkpoint_there_is_no_last_one(authority: Authority) -> None:
    for what in (authority.checkpoints.last, lambda: authority.checkpoints.request(0)):
        with pytest.raises(InvalidRequest, match="run capx checkpoint make"):
            what()


def test_a_line_of_an_unknown_key_does_not_come_into_the_note(authority: Authority) -> None:
    made = authority.checkpoints.make()
    known, unknown = WitnessKey.generate("one"), WitnessKey.generate("two")
    text = Note.parse(made.note).text
    lines = [known.cosigner.line(text, 5), unknown.cosigner.line(text, 5)]
    cosigned = authority.checkpoints.add(lines, [known.note_key])
    assert [line.name for line in Note.parse(cosigned.note).lines] == [f"capx/{authority.epoch()}", "one"]
    with pytest.raises(BadNote, match="is not good"):
        authority.checkpoints.add([known.cosigner.line(f"{text}x\n", 5)], [known.note_key])
