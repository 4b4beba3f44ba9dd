"""A ledger that somebody changed: what was done is found, and located."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from capx.crypto.base64url import b64u, unb64u
from capx.errors import InvalidRequest
from capx.ledger.checkpoint import Checkpoint, signed
from capx.ledger.ledger_check import MOST_FAULTS, check_ledger
from capx.ledger.ledger_lines import Entry, Header, entry_line, note_line, read_line
from capx.ledger.tree import Frontier
from capx.store.log import digest
from tests.labs.counts import NIGHTLY, repeated
from tests.labs.ledgers import KEY, OTHER_KEY, report, written

NOTES = 10 if NIGHTLY else 2
ENTRIES = NOTES * 1_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a ledger of thousands of entries."""
    (file,) = written(tmp_path_factory.mktemp("ledger") / "crm.jsonl", ENTRIES)
    lines = file.read_bytes().splitlines(keepends=True)
    found = report([file])
    assert (found.first, found.last, found.unsigned, found.notes, found.faults) == (1, ENTRIES, 0, NOTES, ())
    assert len(lines) == 1 + ENTRIES + NOTES
    return lines


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "crm.jsonl"


def found_in(file: Path, lines: Sequence[bytes]) -> tuple[int, str]:
    """The line of the first fault, and what it says."""
    file.write_bytes(b"".join(lines))
    try:
        faults = report([file]).faults
    except InvalidRequest as error:
        return 1, str(error)
    assert faults, "nothing was found"
    return faults[0].line, faults[0].why


def places(lines: Sequence[bytes], count: int = 1_000) -> list[int]:
    """Lines to do something to: at random, with all notes and both ends."""
    notes = [at for at, line in enumerate(lines) if line.startswith(b'{"note"')]
    some = random.Random(7).sample(range(1, len(lines)), repeated(count))
    return [0, 1, len(lines) - 1, *notes, *some]


def test_any_byte_that_is_changed_is_found_at_its_line(whole: list[bytes], file: Path) -> None:
    chance = random.Random(8)
    for at in places(whole):
        line = whole[at]
        where = chance.randrange(len(line))
        changed = line[:where] + bytes([line[where] ^ (1 << chance.randrange(8))]) + line[where + 1 :]
        told, why = found_in(file, [*whole[:at], changed, *whole[at + 1 :]])
        if "the first line was edited" in why:
            # Only a note knows the origin.
            assert at == 0
            continue
        # A changed hash is seen at its own line, and what is bound to it may be seen behind it.
        assert at + 1 <= told <= at + 2, (at, told, why, line, changed)


def test_any_line_that_is_removed_is_found_where_it_was(whole: list[bytes], file: Path) -> None:
    for at in places(whole):
        if at == len(whole) - 1:
            # The last note. Nobody who does not hold it can know.
            continue
        told, why = found_in(file, [*whole[:at], *whole[at + 1 :]])
        if whole[at].startswith(b'{"note"'):
            # The entries behind it stand under the next note. That one is missing is seen at the latest there.
            assert at + 1 <= told <= at + 1 + 1_001, (at, told, why)
        else:
            assert told == at + 1, (at, told, why)


def test_any_line_that_is_moved_is_found(whole: list[bytes], file: Path) -> None:
    chance = random.Random(9)
    for at in places(whole, 300):
        to = chance.randrange(len(whole) - 1)
        rest = [*whole[:at], *whole[at + 1 :]]
        moved = [*rest[:to], whole[at], *rest[to:]]
        if moved != whole:
            told, why = found_in(file, moved)
            assert min(at, to) + 1 <= told <= max(at, to) + 1_002, (at, to, told, why)


def test_any_line_that_is_doubled_is_found(whole: list[bytes], file: Path) -> None:
    for at in places(whole, 300):
        told, why = found_in(file, [*whole[: at + 1], whole[at], *whole[at + 1 :]])
        assert told == at + 2, (at, told, why)


def test_a_file_that_is_cut_within_a_line_is_found(whole: list[bytes], file: Path) -> None:
    text = b"".join(whole)
    for _, at in zip(range(repeated(300)), places(whole), strict=False):
        end = sum(map(len, whole[:at])) + len(whole[at]) // 2
        file.write_bytes(text[:end])
        if at == 0:
            with pytest.raises(InvalidRequest, match="is no ledger"):
                check_ledger([file], [KEY.note_key])
            continue
        (fault,) = report([file]).faults
        assert (fault.line, "was cut after" in fault.why) == (at + 1, True)


def test_a_tail_without_its_note_is_told_as_unsigned(whole: list[bytes], file: Path) -> None:
    file.write_bytes(b"".join(whole[:2_000]))
    found = report([file])
    assert (found.faults, found.last, found.unsigned) == ((), 1_998, 998)


Change = Callable[[Entry], bytes]


def rewritten(lines: Sequence[bytes], first: int, change: Change) -> list[bytes]:
    """The ledger from an entry on with other bodies and all hashes anew, its notes as they were."""
    made: list[bytes] = []
    before = bytes(32)
    for line in lines:
        found = read_line(line[:-1])
        if isinstance(found, Entry):
            body = change(found) if found.number >= first else found.body
            before = digest(before, found.number, found.at, found.kind, body)
            made.append(entry_line(found.number, found.at, found.kind, before, body))
        else:
            made.append(line)
    return made


def test_a_part_written_anew_is_located_between_two_notes(whole: list[bytes], file: Path) -> None:
    for first in (1, 999, 1_000, 1_001, 1_500, ENTRIES):
        other = rewritten(whole, first, lambda entry: entry.body.replace(b"allowed", b"denied"))
        told, why = found_in(file, other)
        low = (first - 1) // 1_000 * 1_000 + 1
        assert why == f"entries {low} to {low + 999} are not those that were signed", (first, why)
        assert other[told - 1].startswith(b'{"note"')


def test_a_ledger_written_anew_with_another_key_is_told(whole: list[bytes], file: Path) -> None:
    other = rewritten(whole[:1_001], 1, lambda entry: entry.body.replace(b"allowed", b"denied"))
    tree = Frontier()
    for line in other[1:]:
        tree.append(unb64u(str(read_line(line[:-1]).hash)))  # type: ignore[union-attr]
    header = read_line(other[0][:-1])
    assert isinstance(header, Header)
    note = signed(Checkpoint(header.origin, tree.size, tree.root), [OTHER_KEY.signer]).dump()
    told, why = found_in(file, [*other, note_line(note)])
    assert (told, why) == (1_002, "no known key of this ledger has signed the note")
    file.write_bytes(b"".join([*other, note_line(note)]))
    assert report([file], keys=[OTHER_KEY.note_key]).faults == ()


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """The files of a ledger that was rotated."""
    files = written(tmp_path / "crm.jsonl", 3_000, rotate_at=60_000, batch=100)
    assert len(files) > 4
    assert report(files[::-1]).faults == ()
    return files


def test_the_files_of_a_ledger_go_on_from_each_other(parts: list[Path]) -> None:
    found = report(parts)
    assert (found.first, found.last, found.unsigned, found.faults) == (1, 3_000, 0, ())
    assert found.files == tuple(map(str, parts))
    # What is left of it is checked from its first header on.
    rest = report(parts[2:])
    assert (rest.first, rest.last, rest.faults) == (int(parts[2].name.split(".")[1]), 3_000, ())


def test_a_missing_file_is_found(parts: list[Path]) -> None:
    (fault,) = report([parts[0], *parts[2:]]).faults[:1]
    assert (fault.file, fault.line) == (str(parts[2]), 1)
    assert "should follow" in fault.why


X = b64u(bytes(range(32)))
CHANGED_HEADERS: dict[str, Callable[[Header], Header]] = {
    "one later": lambda header: replace(header, first=header.first + 1),
    "one earlier": lambda header: replace(header, first=header.first - 1),
    "other entry before": lambda header: replace(header, before=X),
    "other tree": lambda header: replace(header, tree=[*header.tree[:-1], X]),
    "smaller tree": lambda header: replace(header, tree=header.tree[:-1]),
    "larger tree": lambda header: replace(header, tree=[*header.tree, X]),
    "other origin": lambda header: replace(header, origin=f"{header.origin[:-2]}-Q"),
    "other version": lambda header: replace(header, ledger=2),
}


@pytest.mark.parametrize("change", CHANGED_HEADERS)
def test_a_changed_header_is_found(parts: list[Path], change: str) -> None:
    first, *rest = parts[2].read_bytes().splitlines(keepends=True)
    header = read_line(first[:-1])
    assert isinstance(header, Header)
    parts[2].write_bytes(b"".join([CHANGED_HEADERS[change](header).line(), *rest]))
    # With the files around it, and by itself.
    for files in (parts, [parts[2]]):
        try:
            found = check_ledger(files, [KEY.note_key])
        except InvalidRequest:
            assert change == "other version"
            continue
        assert any(one.faults for one in found), (change, files)


def test_a_header_or_an_entry_in_the_wrong_place_is_told(whole: list[bytes], file: Path) -> None:
    assert found_in(file, [*whole[:50], whole[0], *whole[50:]]) == (51, "is the first line of a file")
    file.write_bytes(b"".join(whole[1:]))
    with pytest.raises(InvalidRequest, match="does not begin with the first line of one"):
        check_ledger([file], [KEY.note_key])


def test_faults_are_bounded(whole: list[bytes], file: Path) -> None:
    file.write_bytes(b"".join([whole[0], *(b"x\n" for _ in range(1_000))]))
    assert len(report([file]).faults) == MOST_FAULTS


def test_a_line_in_another_spelling_is_told(whole: list[bytes], file: Path) -> None:
    for line in (b"", b"{}", b"x" * (1 << 20)):
        assert found_in(file, [*whole[:5], line + b"\n", *whole[5:]])[0] == 6


def test_ledgers_are_told_apart(tmp_path: Path) -> None:
    for name in ("one.jsonl", "two.jsonl"):
        written(tmp_path / name, 10)
    found = check_ledger([tmp_path / "one.jsonl", tmp_path / "two.jsonl"], [KEY.note_key])
    assert len({one.origin for one in found}) == 2
    assert all(one.origin.startswith("capx-ledger/crm/") and one.faults == () for one in found)
