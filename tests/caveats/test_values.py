"""How values are shown to people: cut for a line of a log, whole where they agree to them, never in disguise."""

import json
import sys
from types import MappingProxyType
from unicodedata import category

import pytest

from capx_caveats import DEFAULT, shown
from capx_caveats.values import printable, whole

BLANKS = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u2800\u3164\ufe00\ufe0f\uffa0\U00016fe4\U0001d159\U000e0100\U000e01ef"


@pytest.mark.parametrize("blank", BLANKS, ids=lambda blank: f"U+{ord(blank):04X}")
def test_a_character_that_shows_as_nothing_is_spelled_out(blank: str) -> None:
    assert blank.isprintable()
    assert printable(f"b{blank}ob") == "b" + blank.encode("unicode_escape").decode() + "ob"
    assert blank not in shown({"name": f"bob{blank}"})


def test_what_shows_is_left_as_it_is() -> None:
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
