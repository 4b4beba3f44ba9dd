"""The lines of a ledger, each in one spelling."""

import pytest

from capx.crypto.base64url import b64u
from capx.ledger.ledger_lines import Entry, Header, entry_line, note_line, read_line
from capx.ledger.tree import Frontier
from capx.store.log import Place, digest


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"x" * (1 << 20),
        b'{"note":"\xff"}',
        b'{"note":1}',
        b'{ "note":"x"}',
        b"[" * 5_000,
        b'{"n":01,"at":1,"kind":"decision","hash":"%b","body":{}}' % (b"A" * 43),
        b'{"n":1,"at":1,"kind":"Decision","hash":"%b","body":{}}' % (b"A" * 43),
        b'{"n":9007199254740993,"at":1,"kind":"decision","hash":"%b","body":{}}' % (b"A" * 43),
        b'{"n":1,"at":1,"kind":"decision","hash":"%b","body":[]}' % (b"A" * 43),
        b'{"n":1,"at":1,"kind":"decision","hash":"%b","body":{"x":"\xff"}}' % (b"A" * 43),
    ],
)
def test_a_line_in_another_spelling_is_none(line: bytes) -> None:
    assert read_line(line) is None


@pytest.mark.parametrize("number", [1, 2**53 - 1])
def test_an_entry_is_read_back(number: int) -> None:
    line = entry_line(number, 7, "decision", bytes(range(32)), b'{"a":"}"}')
    assert line.endswith(b"\n")
    assert read_line(line[:-1]) == Entry(number, 7, "decision", b64u(bytes(range(32))), b'{"a":"}"}')


def test_an_entry_fits_behind_one_other() -> None:
    hash_ = digest(bytes(32), 1, 7, "decision", b"{}")
    entry = read_line(entry_line(1, 7, "decision", hash_, b"{}")[:-1])
    assert isinstance(entry, Entry)
    assert entry.fits(bytes(32))
    assert not entry.fits(bytes(range(32)))


def test_a_note_is_read_back() -> None:
    for note in ("", "capx/a\n1\n\n\u2014 x y\n", 'quote " and \\'):
        assert read_line(note_line(note)[:-1]) == note


def test_a_header_says_where_a_file_begins() -> None:
    tree = Frontier()
    for nth in range(5):
        tree.append(bytes([nth]) * 32)
    header = Header.after("capx-ledger/crm/x", Place(5, bytes(range(32))), tree)
    assert read_line(header.line()[:-1]) == header
    start = header.start()
    assert start is not None
    assert (start[0], start[1].hashes) == (Place(5, bytes(range(32))), tree.hashes)
    assert Header.after("x", Place(), Frontier()).start() is not None
    for other in (
        Header(1, "x", 0, header.before, []),
        Header(1, "x", 6, header.before, header.tree[:-1]),
        Header(1, "x", 6, "A" * 42, header.tree),
        Header(1, "x", 6, header.before, [*header.tree[:-1], "A" * 44]),
        Header(1, "x", 6, b64u(bytes(32)), header.tree),
        Header(1, "x", 1, header.before, []),
        Header(1, "x", 2**53 + 1, header.before, []),
    ):
        assert other.start() is None


@pytest.mark.parametrize("body", [b"[1]", b"7", b' {"a":1}', b'{"a":1} ', b'{"a":\n1}', b'{"a":1}\r', b"\xff", b""])
def test_a_body_that_is_no_line_has_another_form(body: bytes) -> None:
    line = entry_line(3, 4, "decision", bytes(32), body)
    assert line.count(b"\n") == 1
    assert b'"raw":"' in line
    found = read_line(line[:-1])
    assert isinstance(found, Entry)
    assert found.body == body
    # The other form is not a second spelling of what has the first one.
    plain = entry_line(3, 4, "decision", bytes(32), b'{"a":1}')
    raw = plain.replace(b'"body":{"a":1}', b'"raw":"%b"' % b64u(b'{"a":1}').encode())
    assert read_line(raw[:-1]) is None
    assert read_line(raw.replace(b'"raw":"', b'"raw":"!')[:-1]) is None
