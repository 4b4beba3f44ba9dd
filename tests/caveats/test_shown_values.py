"""How values are shown to people: cut for a line of a log, whole where people agree to them, and never in disguise."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx_caveats import DEFAULT, MISSING, SAFE_INTEGER, shown
from capx_caveats.shown_values import evidence, excerpt, listed, printable, whole

EMPTY: dict[str, Any] = {}
BLANKS = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u2800\u3164\ufe00\ufe0f\uffa0\U00016fe4\U0001d159\U000e0100\U000e01ef"


@pytest.mark.parametrize("blank", BLANKS, ids=lambda blank: f"U+{ord(blank):04X}")
def test_a_character_that_shows_as_nothing_is_spelled_out(blank: str) -> None:
    assert blank.isprintable()
    assert printable(f"b{blank}ob") == "b" + blank.encode("unicode_escape").decode() + "ob"
    assert blank not in shown({"name": f"bob{blank}"})


def test_what_shows_is_left_as_it_is() -> None:
    assert printable("Zoë\u200b\\") == r"Zoë\u200b" + "\\"
    assert printable("Zoë \u2013 株式会社 \U0001f600") == "Zoë \u2013 株式会社 \U0001f600"
    seen = [chr(point) for point in range(sys.maxunicode + 1) if printable(chr(point)) == chr(point)]
    assert {category(one) for one in seen}.isdisjoint({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def test_a_value_is_cut_but_where_it_is_to_be_whole() -> None:
    value = {"many": list(range(100)), "long": "x" * 500, "deep": [[[[["found"]]]]]}
    assert len(shown(value)) == 80
    with whole():
        assert json.loads(shown(value)) == value
        assert shown(MappingProxyType(value)) == shown(value)
    assert len(shown(value)) == 80


def test_spaces_in_a_row_cannot_be_taken_for_the_end_of_a_line() -> None:
    with whole():
        assert shown("a   b c ") == r'"a \u0020\u0020b c "'
        assert shown([" a", "  "]) == r'["\u0020a", "\u0020\u0020"]'
        assert shown({" ": 1, "b": 'say "no" to it'}) == r'{"\u0020": 1, "b": "say \"no\" to it"}'


def test_what_is_not_understood_is_whole_too() -> None:
    block = b'[["acme.region","' + b"x" * 300 + b'"]]'
    (cut,) = DEFAULT.decode(block)
    assert cut.sentence().endswith("…")
    with whole():
        (found,) = DEFAULT.decode(block)
    assert found.sentence() == f"not understood: {block[1:-1].decode()}"


SHOWN: list[tuple[Any, str]] = [
    (MISSING, "nothing"),
    (None, "null"),
    (True, "true"),
    (1.5, "1.5"),
    (float("inf"), "inf"),
    (float("nan"), "nan"),
    (SAFE_INTEGER, "9007199254740991"),
    (-SAFE_INTEGER, "-9007199254740991"),
    (2**53, '"a number beyond ±(2^53 - 1)"'),
    (-(10**9_000), '"a number beyond ±(2^53 - 1)"'),
    ("Zoë", '"Zoë"'),
    ("x" * 78, f'"{"x" * 78}"'),
    ("x" * 79, f'"{"x" * 78}…'),
    (b"x", '"bytes"'),
    ([object()], '["object"]'),
    ([SAFE_INTEGER, -SAFE_INTEGER], "[9007199254740991, -9007199254740991]"),
    ([2**53], '["a number beyond ±(2^53 - 1)"]'),
    ([0] * 20, f"[{', '.join('0' * 20)}]"),
    ([0] * 21, f"[{', '.join('0' * 20)}, " + '"…"]'),
    ((1, {"a": ()}), '[1, {"a": []}]'),
    ([[[1]]], "[[[1]]]"),
    ([[[[1]]]], '[[["…"]]]'),
    ([[[[]]]], "[[[[]]]]"),
    ({"a": {"b": {"c": 1}}}, '{"a": {"b": {"c": 1}}}'),
    ({"a": {"b": {"c": {"d": 1}}}}, '{"a": {"b": {"c": "…"}}}'),
    ({"a": {"b": {"c": {}}}}, '{"a": {"b": {"c": {}}}}'),
    (MappingProxyType({"a": MappingProxyType(EMPTY)}), '{"a": {}}'),
    ({None: 1, (1, 2): 3}, '{"None": 1, "…": 3}'),
    ({1: 2, "1": 3}, '{"1": 3, "…": "…"}'),
]


@pytest.mark.parametrize(("value", "text"), SHOWN, ids=lambda value: type(value).__name__)
def test_a_value_is_shown_as_json_on_one_short_line(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize("value", ["", "a b", "x" * 78, 0, SAFE_INTEGER, -SAFE_INTEGER], ids=repr)
def test_a_short_plain_scalar_is_shown_without_json(value: str | int, monkeypatch: pytest.MonkeyPatch) -> None:
    # To write JSON takes ten times as long.
    expected = json.dumps(value)
    monkeypatch.delattr(json, "dumps")
    assert shown(value) == expected
    if value != "a b":
        with whole():
            assert shown(value) == expected


class Counting(Mapping[str, object]):
    """An object as wide and as deep as can be, which counts how often a member of it is read."""

    read = 0

    def __getitem__(self, name: str) -> object:
        Counting.read += 1
        return self

    def __iter__(self) -> Iterator[str]:
        return (f"{number:03}" for number in range(1_000))

    def __len__(self) -> int:
        return 1_000


def test_little_of_a_large_value_is_read_to_show_it() -> None:
    Counting.read = 0
    assert len(shown(Counting())) == 80
    assert 0 < Counting.read <= 1_000


def test_a_value_that_is_whole_may_hold_what_is_no_json() -> None:
    with whole():
        assert shown([MappingProxyType({"a": object()})]) == '[{"a": "object"}]'
        assert shown("x" * 500) == f'"{"x" * 500}"'


def test_text_is_cut_to_its_visible_length() -> None:
    assert (excerpt("abc", 3), excerpt("abcd", 3)) == ("abc", "ab…")
    assert excerpt("\u200b" * 9, 5) == "\\u20…"
    with whole():
        assert excerpt("abcd  e", 3) == r"abcd \u0020e"


def test_evidence_is_the_value_unless_it_is_long() -> None:
    assert evidence({"a": [1, "b"]}) == {"a": [1, "b"]}
    assert evidence("x" * 79) == f'"{"x" * 78}…'
    assert evidence(list(range(30))) == shown(list(range(30)))


SHORT = [
    "wait…",
    "…",
    ["…"],
    ("a…", ("b",)),
    {"…": "…"},
    [*range(20), "…"],
    "x" * 78,
    "x" * 77 + "…",
    [],
    {},
    None,
    True,
    1.5,
]


@pytest.mark.parametrize("value", SHORT, ids=repr)
def test_a_short_value_with_an_ellipsis_is_not_cut(value: Any) -> None:
    assert evidence(value) is value


LONG = [
    [0] * 21,
    tuple([0] * 21),
    {str(at): 1 for at in range(21)},
    [[[[1]]]],
    [[[{"a": 1}]]],
    [[0] * 20] * 2,
    "x" * 79,
]


@given(st.one_of(st.text(max_size=90), st.text('a "\\~', max_size=90), st.integers(), st.booleans()), st.booleans())
def test_a_scalar_is_shown_as_in_an_array(value: Any, everything: bool) -> None:
    with whole() if everything else nullcontext():
        alone = shown(value)
        if len(alone) < 77:
            assert shown([value]) == f"[{alone}]"


@pytest.mark.parametrize("value", LONG, ids=repr)
def test_evidence_of_what_is_cut_is_what_is_shown(value: Any) -> None:
    assert evidence(value) == shown(value) != value
    assert "…" in shown(value)


def test_of_many_values_the_first_twenty_are_listed() -> None:
    assert listed([1, "a", None]) == '1, "a", null'
    assert listed([1, 2], "; ") == "1; 2"
    assert listed([0] * 20) == ", ".join("0" * 20)
    assert listed([0] * 21) == ", ".join("0" * 20) + ", … (21 in all)"
    with whole():
        assert listed([0] * 21) == ", ".join("0" * 21)
