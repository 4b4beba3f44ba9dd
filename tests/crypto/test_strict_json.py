"""JSON of others: one reading for all readers, or a refusal in one clear sentence."""

from typing import Any

import msgspec
import pytest

from capx.crypto.strict_json import DEEPEST, read
from capx.errors import InvalidRequest


class Half(msgspec.Struct, forbid_unknown_fields=True):
    """A type with one member."""

    value: complex


def as_complex(kind: type, value: Any) -> Any:
    assert kind is complex
    return complex(value, 1)


def test_a_hook_converts_what_msgspec_does_not_know() -> None:
    assert read(b'{"value":2}', Half, as_complex) == Half(2 + 1j)
    with pytest.raises(InvalidRequest, match=r"^this is not the JSON that belongs here: "):
        read(b'{"value":2}', Half)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'[{"b":[{"a":1,"c":{},"a":{}}]}]',
        b'{"\xc3\xa9":1,"\\u00e9":2}',
        b'{"\xf0\x9f\x98\x80":1,"\\ud83d\\ude00":2}',
        b'{"":1,"":2}',
    ],
)
def test_a_member_that_is_named_twice_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^this is not the JSON that belongs here: Detected duplicate key "):
        read(data, object)


def test_an_error_repeats_no_more_than_some_letters_of_a_name() -> None:
    name = "n\x1b\u202e\N{GRINNING FACE}" * 10_000
    with pytest.raises(InvalidRequest) as error:
        read(
            msgspec.json.encode([{name: 1}]).replace(b"}", b',"%b":2}' % name.replace("\x1b", "\\u001b").encode()),
            object,
        )
    assert len(str(error.value)) == len("this is not the JSON that belongs here: ") + 120
    assert str(error.value).isprintable()
    assert str(error.value).isascii()


@pytest.mark.parametrize(("opened", "closed", "levels"), [(b"[", b"]", 1), (b'{"a":', b"}", 1), (b'[{"a":', b"}]", 2)])
def test_a_value_stands_in_so_many_levels_and_no_more(opened: bytes, closed: bytes, levels: int) -> None:
    deepest = opened * (DEEPEST // levels) + b"0" + closed * (DEEPEST // levels)
    assert msgspec.json.encode(read(deepest, object)) == deepest
    with pytest.raises(InvalidRequest, match="recursion limit exceeded"):
        read(b"[" + deepest + b"]", object)
    with pytest.raises(InvalidRequest, match="recursion limit exceeded"):
        read(opened * 100_000, object)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"1 2",
        b"NaN",
        b"[Infinity]",
        b"-",
        b'"\\ud800"',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        b"9" * 5000,
        b"{'a':1}",
    ],
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^this is not the JSON that belongs here: "):
        read(data, object)


@pytest.mark.parametrize("data", [b'{"value":1,"other":2}', b"{}", b"[]", b'{"value":[]}'])
def test_json_of_another_type_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^this is not the JSON that belongs here: "):
        read(data, Half, as_complex)
