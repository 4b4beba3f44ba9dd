"""What a process that is gone has left: lines that were cut off, that no log takes, and very many."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import StoreProblem
from capx.resource.connection import connect
from capx.resource.spool_files import SpoolFile, SpoolFolder
from capx.resource.spool_orphans import Orphans
from capx.store.records import DecisionRecord, Unwritable
from capx.verify.decision import decision_id
from tests.labs.counts import nightly
from tests.labs.waiting import until
from tests.server.conftest import new_home, serving

KEYS = KeyRing(RootKey.generate()).exported("crm")


class Log:
    """A log that refuses a decision if `refuses` says so."""

    def __init__(self, refuses: Callable[[DecisionRecord], bool] = lambda _: False) -> None:
        self.refuses = refuses
        self.taken: list[DecisionRecord] = []
        self.away = False
        self.asked = 0

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        self.asked += 1
        if self.away:
            raise StoreProblem("away")
        if any(map(self.refuses, decisions)):
            raise Unwritable("too odd")
        self.taken += decisions

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.taken]


def line(number: int, audience: str = "crm", **others: object) -> bytes:
    said = {"id": f"d{number}", "at": number, "outcome": "allowed", "audience": audience, **others}
    return json.dumps(said).encode() + b"\n"


@pytest.fixture
def folder(tmp_path: Path) -> SpoolFolder:
    return SpoolFolder(tmp_path, KEYS)


def left(folder: SpoolFolder, content: bytes) -> Orphans:
    """What a process that is gone has left, taken over."""
    file = folder.create()
    file.path.write_bytes(content)
    file.close()
    return Orphans(folder, "crm", folder.orphans())


def test_orphans_are_reported_in_their_order_then_removed(folder: SpoolFolder) -> None:
    log = Log()
    orphans = left(folder, b"\n" * 9 + b"".join(map(line, range(1_234))))
    orphans.begin(log.record)
    until(lambda: not list(folder.path.iterdir()))
    assert [(one.id, one.at) for one in log.taken] == [(f"d{number}", number) for number in range(1_234)]
    assert b"".join(one.body + b"\n" for one in log.taken) == b"".join(map(line, range(1_234)))
    assert log.asked == 3


def test_a_line_cut_off_at_any_length_costs_no_other(folder: SpoolFolder) -> None:
    last = line(3)
    for length in range(len(last)):
        log = Log()
        left(folder, line(1) + line(2) + last[:length]).begin(log.record)
        until(lambda: not list(folder.path.iterdir()))
        assert log.ids == ["d1", "d2"]


@pytest.mark.parametrize(
    "odd",
    [
        b"{}\n",
        b"\0" * 40 + b"\n",
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        b'{"id":1,"at":1,"audience":"crm"}\n',
        line(2)[:20] + b"\n",
        line(2)[:-1] + b"," + line(3),
        line(2, "billing"),
    ],
)
def test_a_line_that_is_no_decision_costs_no_other(folder: SpoolFolder, odd: bytes) -> None:
    log = Log()
    left(folder, line(1) + odd + line(4)).begin(log.record)
    until(lambda: not list(folder.path.glob("*.spool")))
    assert log.ids == ["d1", "d4"]
    (beside,) = folder.path.iterdir()
    assert beside.read_bytes() == odd


def test_one_refused_line_costs_no_other(folder: SpoolFolder, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(lambda one: one.id == "d77")
    left(folder, b"".join(map(line, range(200)))).begin(log.record)
    until(lambda: not list(folder.path.glob("*.spool")))
    assert log.ids == [f"d{number}" for number in range(200) if number != 77]
    (beside,) = folder.path.iterdir()
    assert beside.read_bytes() == line(77)
    assert "a decision is in no log" in caplog.text


def test_evidence_too_large_hides_no_reason_of_an_orphan(folder: SpoolFolder) -> None:
    log = Log(lambda one: len(one.body) > 1_000)
    reasons = [{"code": "odd", "sentence": "is odd", "given": [1]}]
    left(folder, line(1, reasons=reasons, chain="x" * 2_000, shown_args={"a": 1})).begin(log.record)
    until(lambda: not list(folder.path.iterdir()))
    (said,) = [json.loads(one.body) for one in log.taken]
    assert (said["reasons"], "chain" in said, "shown_args" in said) == (reasons, False, False)


def test_orphans_wait_while_the_authority_is_away(folder: SpoolFolder) -> None:
    log = Log()
    log.away = True
    orphans = left(folder, line(1))
    orphans.begin(log.record)
    until(lambda: log.asked > 1)
    assert folder.orphans() == []
    orphans.end()
    (file,) = folder.orphans()
    assert list(file.lines()) == [line(1)]
    log.away = False
    Orphans(folder, "crm", [file]).begin(log.record)
    until(lambda: not list(folder.path.iterdir()))
    assert log.ids == ["d1"]


@pytest.mark.parametrize(
    ("member", "value"), [("reasons", None), ("reasons", ["x"]), ("action", "bad")], ids=["null", "text", "a bad byte"]
)
def test_a_line_that_has_no_form_is_kept_beside(folder: SpoolFolder, member: str, value: object) -> None:
    odd = line(0, **{member: value}).replace(b"bad", b"\xff")  # type: ignore[arg-type] # never the audience
    log = Log(lambda record: record.id == "d0")
    orphans = left(folder, odd + line(1))
    orphans.begin(log.record)
    until(lambda: log.ids == ["d1"])
    orphans.end()
    (beside,) = folder.path.iterdir()
    assert (beside.suffix, beside.read_bytes()) == (".refused", odd)


def test_a_file_that_cannot_be_removed_is_told_and_tried_again(
    folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[Path] = []
    remove = SpoolFile.remove

    def fails_first(file: SpoolFile) -> None:
        tries.append(file.path)
        if len(tries) == 1:
            raise PermissionError("not yours")
        remove(file)

    monkeypatch.setattr(SpoolFile, "remove", fails_first)
    log = Log()
    orphans = left(folder, line(0))
    orphans.begin(log.record)
    until(lambda: not any(folder.path.iterdir()))
    orphans.end()
    assert "decisions of a process that ended are not reported: not yours" in caplog.text
    assert set(log.ids) == {"d0"}


def test_files_of_processes_that_end_later_are_reported_too(
    folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capx.resource.spool_orphans._AGAIN", 0.05)
    other, log = folder.create(), Log()
    orphans = Orphans(folder, "crm", folder.orphans())
    orphans.begin(log.record)
    time.sleep(0.2)
    other.append([line(0)[:-1]])
    assert log.ids == []
    other.close()
    until(lambda: log.ids == ["d0"])
    orphans.end()
    assert not any(folder.path.iterdir())


def test_who_ends_before_reporting_leaves_files_to_the_next(folder: SpoolFolder, tmp_path: Path) -> None:
    heir = left(folder, line(0))
    assert not folder.orphans()
    heir.end()
    (file,) = folder.orphans()
    log = Log()
    next_heir = Orphans(folder, "crm", [file])
    next_heir.begin(log.record)
    until(lambda: not any(tmp_path.glob("*.spool")))
    assert log.ids == ["d0"]


def thousands(tmp_path: Path, count: int) -> None:
    """Report a file of so many lines to a real authority, and look at its log."""
    home, at = new_home(tmp_path), int(time.time())
    with Authority.open_home(home) as authority:
        keys = authority.export_keys("crm")
    folder = SpoolFolder(tmp_path, keys)
    file = folder.create()
    for begin in range(0, count, 1_000):
        ids = [decision_id(at) for _ in range(begin, min(count, begin + 1_000))]
        file.append([line(0, id=one, at=at)[:-1] for one in ids])
    file.close()
    with serving(home) as served:
        connection = connect(keys, feed=served.url, spool=str(tmp_path))
        until(lambda: not file.path.exists(), 1_200)
        connection.close()
    with Authority.open_home(home) as authority:
        logged = [event.facts()["id"] for event in authority.log() if event.kind == "decision"]
    assert (len(logged), len(set(logged))) == (count, count)


def test_a_file_of_ten_thousand_lines_is_in_the_log_once(tmp_path: Path) -> None:
    thousands(tmp_path, 10_000)


@nightly
@pytest.mark.timeout(1_500)
def test_a_file_of_a_million_lines_is_in_the_log_once(tmp_path: Path) -> None:
    thousands(tmp_path, 1_000_000)
