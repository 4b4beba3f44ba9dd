"""What an ask is pinned to: exactly the arguments that a person saw, with their types."""

from typing import Any

import pytest

from capx.errors import InvalidRequest
from capx.tokens.pins import asked_allowlist, offer_digest, offer_in, pinned_entry
from capx_caveats import JSON, Allow, Call, Entry, Eq, Pair

SEND = "mail.send"
CONFUSED: dict[str, list[Any]] = {
    "a text": ["Ben", "ben", "Ben ", "", ["Ben"], {"Ben": 1}, None],
    "an empty text": ["", [], {}, None, 0, False, " ", [""]],
    "an empty array": [[], "", {}, None, [[]], [None], 0],
    "an empty object": [{}, [], "", None, {"a": None}, {"a": {}}],
    "null": [None, 0, "", False, [], {}, "null", [None]],
    "true": [True, 1, "true", False, None, [True]],
    "a number": [1, True, "1", 1.5, [1], None],
    "an array": [[1, "a"], [1], ["a", 1], [1, "a", None], "1", [True, "a"], [[1, "a"]]],
    "an object": [{"a": 1, "b": ""}, {"a": 1}, {"a": 1, "b": []}, {"a": 1, "b": "", "c": None}, {"a": True, "b": ""}],
    "a deep object": [{"a": {"b": [1]}}, {"a": {"b": [2]}}, {"a": {"b": 1}}, {"a": {}}, {"a": {"b": [1], "c": 0}}],
}


def fits(entry: Entry, args: dict[str, JSON]) -> bool:
    return entry.misfit(Call(SEND, args)) is None


@pytest.mark.parametrize("values", CONFUSED.values(), ids=CONFUSED.keys())
def test_a_pinned_argument_is_its_value_and_no_other(values: list[Any]) -> None:
    pinned, *others = values
    entry = pinned_entry(SEND, {"to": pinned})
    assert fits(entry, {"to": pinned})
    assert not any(fits(entry, {"to": other}) for other in others)
    assert not fits(entry, {})
    assert not fits(entry, {"to": pinned, "cc": "eve"})


@pytest.mark.parametrize("values", CONFUSED.values(), ids=CONFUSED.keys())
def test_a_listed_argument_is_its_value_and_the_others_are_free(values: list[Any]) -> None:
    pinned, *others = values
    entry = pinned_entry(SEND, {"to": pinned, "body": "x"}, ("to",))
    assert all(fits(entry, {"to": pinned, "body": body}) for body in others)
    assert fits(entry, {"to": pinned})
    assert not any(fits(entry, {"to": other, "body": "x"}) for other in others)
    assert not fits(entry, {"body": "x"})


def test_a_listed_argument_that_was_left_out_stays_left_out() -> None:
    entry = pinned_entry(SEND, {"to": "ben"}, ("to", "cc"))
    assert fits(entry, {"to": "ben", "body": "x"})
    copied: list[JSON] = ["eve", "", None, [], {}]
    assert not any(fits(entry, {"to": "ben", "cc": cc}) for cc in copied)


def test_no_arguments_are_pinned_to_none() -> None:
    assert pinned_entry(SEND, {}) == Entry(SEND, ())
    assert not fits(pinned_entry(SEND, {}), {"to": "ben"})


def test_the_same_arguments_make_the_same_entry() -> None:
    entry = pinned_entry(SEND, {"to": "a", "id": 1.0})
    assert entry == pinned_entry(SEND, {"id": 1, "to": "a"}) == Entry(SEND, (Pair("id", Eq(1)), Pair("to", Eq("a"))))


UNPINNABLE: list[tuple[Any, str]] = [
    ([[1]], "array that holds an array"),
    ([{}], "array that holds an array, an object"),
    ([1, ""], "an empty text"),
    ({"a": [[1]]}, "array that holds an array"),
    ({"*": 1}, "a member \\*"),
    ({"": 1}, "not an argument name"),
]


@pytest.mark.parametrize(("value", "why"), UNPINNABLE)
@pytest.mark.parametrize("names", [None, ("body",)])
def test_what_cannot_be_pinned_is_named(value: JSON, why: str, names: Any) -> None:
    with pytest.raises(InvalidRequest, match=rf'the argument "body" cannot be pinned: .*{why}.*pinned = \['):
        pinned_entry(SEND, {"to": "ben", "body": value}, names)


def test_what_cannot_be_pinned_is_free_if_it_is_not_listed() -> None:
    entry = pinned_entry(SEND, {"to": "ben", "body": [[1]]}, ("to",))
    assert fits(entry, {"to": "ben", "body": [[2]]})


@pytest.mark.parametrize("names", [None, ("*",)])
def test_nothing_is_pinned_under_the_name_of_all_others(names: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"no argument can be called \*"):
        pinned_entry(SEND, {"*": 1}, names)


def test_an_offer_is_told_by_the_first_of_two_allowlists() -> None:
    block = b'[["task","T"],["allow",[["a.*"]]],["allow",[["a.b",[["id",["eq",1]]]]]],["expires",9]]'
    assert offer_in(block) == offer_digest(Allow((Entry("a.*"),)).wire())
    assert offer_in(block.replace(b"a.*", b"a.b")) != offer_in(block)


@pytest.mark.parametrize(
    "block",
    [
        *(b"", b"junk", b"{}", b"[]", b"[7]", b"[[]]", b"[" * 5_000, b'[["allow",[["a.b"]]]]'),
        b'[["allow",[["a.*"]]],["allow",[["a.b"]]],["allow",[["a.b"]]]]',
        b'[["allow",[["a.*",[["id",["eq",1e400]]]]]],["allow",[["a.b"]]]]',
        b'[["allow",[["a.*",[["id",["eq",99999999999999999999]]]]]],["allow",[["a.b"]]]]',
    ],
)
def test_what_is_no_block_of_a_grant_tells_no_offer(block: bytes) -> None:
    assert offer_in(block) is None


def test_what_was_asked_is_read_beside_an_offer_not_understood() -> None:
    block = b'[["allow",[["a.b",[["id",["acme.odd"]]]]]],["allow",[["a.b",[["id",["eq",1]]]]]]]'
    assert asked_allowlist(block) == Allow((pinned_entry("a.b", {"id": 1}),))
    assert asked_allowlist(b'[["allow",[["a.b"]]]]') is None
