"""Old decisions leave the store for signed files; nothing is lost, and the log is still whole."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capx.authority.archiving import Archiver
from capx.authority.authority import Authority
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import BrokenLog, InvalidRequest, StoreProblem
from capx.ledger import Archive
from capx.ledger.ledger_check import check_ledger
from capx.ledger.stored_tree import check_tree
from capx.proof import Trust, export, receipt, verify
from capx.proof.receipts import check_receipt
from capx.store.events import archived_until
from capx.store.factory import create_store, is_postgres, open_store
from capx.store.protocols import Store
from capx.store.records import DecisionRecord
from tests.labs.archives import DAY, OldLog
from tests.labs.commands import start_program
from tests.labs.counts import repeated
from tests.store.conftest import Places, places, store

__all__ = ["places", "store"]


@pytest.fixture
def old(store: Store, tmp_path: Path) -> Iterator[OldLog]:
    made = OldLog(store, tmp_path)
    yield made
    made.authority.close()


def archived_ids(old: OldLog) -> set[str]:
    with old.store.read() as reading:
        return {event.facts()["id"] for event in Archive(old.folder).decisions(reading)}


def test_what_is_old_leaves_and_the_rest_stays(old: OldLog) -> None:
    done = old.authority.archive(old.folder)
    # Files end where the tree keeps a hash.
    assert (done.first, done.last) == (1, 1024)
    assert done.decisions > 990
    assert old.here() | archived_ids(old) == set(old.ids)
    assert old.here().isdisjoint(archived_ids(old))
    with old.store.read() as reading:
        check_tree(reading)
        assert archived_until(reading) == 1024
        kinds = [event.kind for event in reading.events() if event.kind != "decision"]
    assert kinds.count("task_opened") == 4
    assert old.authority.check().position > 1024
    keys = old.authority.checkpoints.public_keys()
    (found,) = check_ledger(sorted(old.folder.iterdir()), keys)
    assert (found.faults, found.first, found.last, found.unsigned) == ((), 1, 1024, 0)
    again = old.authority.archive(old.folder)
    assert (again.last - again.first + 1, again.files, again.decisions) == (0, (), 0)


def test_the_log_goes_on_and_is_archived_further(old: OldLog) -> None:
    old.authority.archive(old.folder)
    old.authority.complete(old.young)
    old.clock.now += 40 * DAY
    old.worked(400)
    with old.store.write() as transaction:
        transaction.index_blocks(10_000)
    done = old.authority.archive(old.folder)
    assert done.first == 1025
    assert len(list(old.folder.iterdir())) == 2
    assert old.here() | archived_ids(old) == set(old.ids)
    old.authority.check()
    keys = old.authority.checkpoints.public_keys()
    assert [one.faults for one in check_ledger(sorted(old.folder.iterdir()), keys)] == [()]


def test_a_living_task_and_young_events_stay(old: OldLog, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert old.authority.archive(other, older_than=365 * DAY).files == ()
    with old.store.read() as reading:
        opened = next(event.position for event in reading.events(task=old.young, kind="task_opened"))
    old.clock.now += 300
    done = old.authority.archive(other, older_than=1)
    assert done.last < opened


def test_proofs_and_receipts_need_the_archive(old: OldLog) -> None:
    before = export(old.authority, old.tasks[0], now=int(old.clock.now))
    old.authority.archive(old.folder)
    keys = old.authority.checkpoints.public_keys()
    trust = Trust(frozenset(key.name for key in keys), tuple(keys))
    with pytest.raises(InvalidRequest, match="may be in the archive"):
        export(old.authority, old.tasks[0])
    archive = Archive(old.folder)
    after = export(old.authority, old.tasks[0], archive=archive, now=int(old.clock.now))
    assert [each.body for each in after.sources[0].events] == [each.body for each in before.sources[0].events]
    assert verify(after, trust).decisions == verify(before, trust).decisions
    with pytest.raises(InvalidRequest, match="is in the archive"):
        receipt(old.authority, old.ids[3])
    made = receipt(old.authority, old.ids[3], archive=archive)
    assert old.ids[3].encode() in check_receipt(made, trust).event.body
    # A task that was opened later needs no archive.
    export(old.authority, old.young)


def test_a_file_that_is_missing_or_changed_is_told(old: OldLog, tmp_path: Path) -> None:
    old.authority.archive(old.folder)
    (file,) = old.folder.iterdir()
    with pytest.raises(InvalidRequest, match=r"lacks log-000000000001\.jsonl"):
        export(old.authority, old.tasks[0], archive=Archive(tmp_path))
    with pytest.raises(InvalidRequest, match=r"lacks log-000000000001\.jsonl"):
        old.authority.archive(tmp_path)
    with pytest.raises(InvalidRequest, match="cannot be used for an archive"):
        old.authority.archive(tmp_path / "none")
    data = file.read_bytes()
    lines = data.splitlines(keepends=True)
    hostile = {
        "edited": data.replace(b'"outcome":"denied"', b'"outcome":"allowed"', 1),
        "another id": data.replace(old.ids[2].encode(), old.ids[1].encode(), 1),
        "another task": data.replace(old.tasks[0].encode(), old.tasks[1].encode(), 30),
        "cut": b"".join(lines[:100]),
        "empty": b"",
        "header alone": lines[0],
        "a line less": b"".join([*lines[:50], *lines[51:]]),
        "a line twice": b"".join([*lines[:50], *lines[49:]]),
        "two turned": b"".join([*lines[:50], lines[51], lines[50], *lines[52:]]),
        "no line": b"".join([*lines[:50], b"nothing\n", *lines[50:]]),
    }
    for what, changed in hostile.items():
        file.write_bytes(changed)
        with pytest.raises(StoreProblem, match="put the right file back"):
            export(old.authority, old.tasks[0], archive=Archive(old.folder))
        with pytest.raises(StoreProblem, match="put the right file back"), old.store.read() as reading:
            assert Archive(old.folder).decision(reading, "d.none") is None, what
    file.write_bytes(data)
    assert len(archived_ids(old)) > 990


def killed_run(old: OldLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends when its file is written and nothing is taken out of the log yet."""

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Archiver, "_take_out", killed)
        with pytest.raises(KeyboardInterrupt):
            old.authority.archive(old.folder)


def test_a_run_that_was_killed_goes_on_from_whole_files_only(old: OldLog, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_run(old, monkeypatch)
    (file,) = old.folder.iterdir()
    data, before = file.read_bytes(), old.here()
    assert before == set(old.ids)
    for changed in (b"", data[: len(data) // 2], data[:-300]):
        file.write_bytes(changed)
        with pytest.raises(StoreProblem):
            old.authority.archive(old.folder)
        assert old.here() == before
    file.write_bytes(data)
    assert old.authority.archive(old.folder).decisions > 990
    assert archived_ids(old) | old.here() == before


def test_a_killed_run_goes_on_after_its_key_is_retired(old: OldLog, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_run(old, monkeypatch)
    fresh, signed_with = RootKey.generate(), old.authority.keyring
    keyring = signed_with.added(fresh).activated(fresh.kid).retired(signed_with.active.kid)
    with old.store.read() as reading:
        until = archived_until(reading)
    archiver = Archiver(old.store, keyring, old.folder, clock=lambda: int(old.clock.now))
    assert archiver.run(before=int(old.clock.now) - 30 * DAY).decisions > 990
    with old.store.read() as reading:
        assert archived_until(reading) == until
        assert {event.facts()["id"] for event in Archive(old.folder).decisions(reading)} | old.here() == set(old.ids)


def test_odd_bodies_are_archived_as_they_are(old: OldLog) -> None:
    task = old.tasks[0]
    escaped = "".join(f"\\u{ord(one):04x}" for one in task).encode()
    odd = [
        b'{"id":"d.line",\n"task":"%b"}' % task.encode(),
        b' {"id":"d.space"}',
        b'{"id":"d.behind"} ',
        b"[1]",
        b"7",
        b"{}",
        b'{"archived":true,"id":"d.early"}',
        b'{"id":"\\u0064.escaped","outcome":"allowed","task":"%b"}' % escaped,
        b'{"id":"d.long","x":"%b"}' % (b"x" * 1_500_000),
    ]
    if is_postgres(old.store.place):
        odd = [body for body in odd if body.strip().startswith(b"{")]
    with old.store.write() as transaction:
        transaction.append_all("decision", odd, at=int(old.clock.now))
    old.worked(300)
    old.clock.now += 90 * DAY
    done = old.authority.archive(old.folder)
    assert done.last > 1_500
    with old.store.read() as reading:
        archive = Archive(old.folder)
        found = {event.body for event in archive.decisions(reading)}
        assert {event.body for event in archive.decisions(reading, naming=task)} >= {odd[0]}
        assert archive.decision(reading, "d.escaped") is not None
    assert set(odd) <= found
    old.authority.check()
    (report,) = check_ledger(sorted(old.folder.iterdir()), old.authority.checkpoints.public_keys())
    assert report.faults == ()


def test_a_decision_that_is_reported_again_is_one(old: OldLog) -> None:
    old.authority.archive(old.folder)
    with old.store.read() as reading:
        event = Archive(old.folder).decision(reading, old.ids[5])
        assert event is not None
        position = reading.head().position
        (kept,) = reading.events(after=event.position - 1, limit=1)
    assert kept.is_archived
    assert kept.facts() == {"archived": True, "id": old.ids[5], "audience": "crm"}
    old.store.record([DecisionRecord(old.ids[5], event.at, event.body)])
    with old.store.read() as reading:
        assert reading.head().position == position


def test_times_that_resources_state_move_nothing(old: OldLog) -> None:
    bodies = [b'{"id":"d.t%d","outcome":"allowed","audience":"crm"}' % nth for nth in range(600)]
    for at in (0, 2**53 - 1):
        with old.store.write() as transaction:
            transaction.append_all("decision", bodies, at=at)
    assert old.authority.archive(old.folder).last == 1_024


def test_a_decision_that_was_only_blanked_is_found(old: OldLog, places: Places) -> None:
    old.authority.archive(old.folder)
    places.tamper(old.store, "UPDATE events SET body = '{}' WHERE position = (SELECT max(position) FROM events)")
    with pytest.raises(BrokenLog):
        old.authority.check()


def test_a_changed_hash_of_an_archived_decision_is_found(old: OldLog, places: Places) -> None:
    old.authority.archive(old.folder)
    other = "X'" + "ab" * 32 + "'" if places.kind == "sqlite" else "'\\x" + "ab" * 32 + "'"
    places.tamper(old.store, f"UPDATE events SET hash = {other} WHERE position = 77")
    with pytest.raises(StoreProblem), old.store.read() as reading:
        check_tree(reading)


def test_the_store_answers_meanwhile(old: OldLog) -> None:
    waited: list[float] = []
    ended = threading.Event()

    def use() -> None:
        while not ended.is_set():
            began = time.perf_counter()
            task = old.authority.open(allow=["crm.read"])
            old.authority.complete(task.id)
            waited.append(time.perf_counter() - began)

    thread = threading.Thread(target=use)
    thread.start()
    try:
        old.authority.archive(old.folder)
    finally:
        ended.set()
        thread.join()
    assert waited
    old.authority.check()


def test_a_part_that_is_large_ends_at_a_run(old: OldLog) -> None:
    old.authority.checkpoints.make()
    keyring = old.authority.keyring
    archiver = Archiver(old.store, keyring, old.folder, clock=lambda: int(old.clock.now), largest=50_000)
    done = archiver.run(before=int(old.clock.now) - 30 * DAY)
    assert len(done.files) > 1
    assert archived_ids(old) | old.here() == set(old.ids)
    assert [
        one.faults for one in check_ledger(sorted(old.folder.iterdir()), old.authority.checkpoints.public_keys())
    ] == [()]


def test_a_draft_is_never_written_through(old: OldLog, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"kept")
    os.link(kept, old.folder / ".log-000000000001.jsonl.new")
    old.authority.archive(old.folder)
    assert kept.read_bytes() == b"kept"
    assert [file.name for file in old.folder.iterdir()] == ["log-000000000001.jsonl"]


def test_a_full_disk_leaves_no_file(old: OldLog) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # The store of SQLite must not grow either: a checkpoint first.
    old.authority.checkpoints.make()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(StoreProblem):
            Archiver(old.store, old.authority.keyring, old.folder, clock=lambda: int(old.clock.now)).run(
                before=int(old.clock.now) - 30 * DAY
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    assert list(old.folder.iterdir()) == []
    assert old.here() == set(old.ids)
    old.authority.archive(old.folder)


ARCHIVES = """
import sys
from pathlib import Path
from capx.authority.archiving import Archiver
from capx.crypto.keys import KeyRing, RootKey
from capx.store.factory import open_store
store = open_store(sys.argv[1])
keyring = KeyRing(RootKey(bytes.fromhex(sys.argv[2])))
archiver = Archiver(store, keyring, Path(sys.argv[3]), clock=lambda: int(sys.argv[4]), largest=30_000)
print("began", flush=True)
archiver.run(before=int(sys.argv[4]) - 30 * 86_400)
print("ended", flush=True)
"""


@pytest.mark.timeout(900)  # two hundred stores and processes at night
def test_a_killed_archiver_loses_nothing_and_goes_on(tmp_path: Path) -> None:
    secret = bytes(range(32))
    ended = 0
    for nth in range(repeated(200)):
        folder = tmp_path / str(nth)
        folder.mkdir()
        place = str(folder / "capx.db")
        old = OldLog(create_store(place), folder, tasks=2, each=300)
        keyring = KeyRing(RootKey(secret))
        old.authority.checkpoints.make()
        child = start_program(ARCHIVES, place, secret.hex(), old.folder, int(old.clock.now))
        assert child.stdout is not None
        assert child.stdout.readline() == b"began\n"
        time.sleep((nth * 37 % 101) / 1_000)
        child.kill()
        said, _ = child.communicate(timeout=30)
        ended += b"ended" in said
        # Whatever stands in the store or in whole files is all there is.
        with old.store.read() as reading:
            until = archived_until(reading)
            there = {event.facts()["id"] for event in Archive(old.folder).decisions(reading)}
        assert there | old.here() == set(old.ids)
        again = Archiver(old.store, keyring, old.folder, clock=lambda old=old: int(old.clock.now), largest=30_000)  # type: ignore[misc]
        done = again.run(before=int(old.clock.now) - 30 * DAY)
        assert done.first == until + 1
        with old.store.read() as reading:
            assert archived_until(reading) == 512
            check_tree(reading)
        old.authority.check()
        assert archived_ids(old) | old.here() == set(old.ids)
        assert archived_ids(old).isdisjoint(old.here())
        assert not [file for file in old.folder.iterdir() if file.name.startswith(".") and file.stat().st_size == 0]
        old.authority.close()
    assert ended < repeated(200)


def test_two_processes_never_replace_a_file(old: OldLog, tmp_path: Path) -> None:
    old.authority.checkpoints.make()
    now = int(old.clock.now)
    others = tmp_path / "others"
    others.mkdir()

    def archiver(folder: Path, progress: Callable[[int], object] | None = None) -> Archiver:
        return Archiver(old.store, old.authority.keyring, folder, clock=lambda: now, progress=progress)

    with pytest.raises(StoreProblem, match="another process archives into"):
        archiver(old.folder, lambda _: archiver(old.folder).run(before=now - 30 * DAY)).run(before=now - 30 * DAY)
    assert list(old.folder.iterdir()) == []
    # Into another folder: what has left the store meanwhile is not written as if it were all.
    with pytest.raises(StoreProblem):
        archiver(others, lambda _: archiver(old.folder).run(before=now - 30 * DAY)).run(before=now - 30 * DAY)
    assert list(others.iterdir()) == []
    assert archived_ids(old) | old.here() == set(old.ids)
    old.authority.check()


def test_a_store_with_an_archive_is_backed_up_and_restored(tmp_path: Path) -> None:
    from capx.store.backup import backup

    old = OldLog(create_store(str(tmp_path / "capx.db")), tmp_path)
    old.authority.archive(old.folder)
    backup(old.store, tmp_path / "copy.db")
    copied = open_store(str(tmp_path / "copy.db"))
    with Authority(copied, old.authority.keyring, clock=old.clock) as restored:
        restored.check()
        with copied.read() as reading:
            assert len(list(Archive(old.folder).decisions(reading))) > 990
    old.authority.close()


def test_a_file_that_appears_meanwhile_is_not_replaced(old: OldLog) -> None:
    old.authority.checkpoints.make()
    now, file = int(old.clock.now), old.folder / "log-000000000001.jsonl"

    def appears(_: int) -> None:
        # Another machine knows nothing of the lock of this one.
        file.write_bytes(b"another")

    archiver = Archiver(old.store, old.authority.keyring, old.folder, clock=lambda: now, progress=appears)
    with pytest.raises(StoreProblem, match="cannot write the archive"):
        archiver.run(before=now - 30 * DAY)
    assert file.read_bytes() == b"another"
