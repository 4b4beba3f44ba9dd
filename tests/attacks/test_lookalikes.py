"""A value, a name or an action that only looks like one that is allowed."""

import pytest

from capx.tokens.binding import ToolCall
from capx_caveats import (
    JSON,
    Call,
    CapxError,
    InvalidCaveat,
    Tenant,
    action,
    allow,
    each,
    glob,
    one_of,
    regex,
    within,
)
from tests.labs.lab import NOW, Lab, codes, minted

DECK = minted(allowed=allow(action("a.read", deck="deck-42")))
TWO_RESOURCES: dict[str, dict[str, JSON]] = {
    "a second argument": {"deck": "deck-42", "deck2": "deck-43"},
    "a name in capitals beside it": {"deck": "deck-42", "Deck": "deck-43"},
    "a name with a space beside it": {"deck": "deck-42", "deck ": "deck-43"},
    "a list": {"deck": ["deck-42", "deck-43"]},
    "a list of the one": {"deck": ["deck-42"]},
    "an object": {"deck": {"id": "deck-42", "also": "deck-43"}},
    "a text of both": {"deck": "deck-42,deck-43"},
    "a text in two lines": {"deck": "deck-42\ndeck-43"},
    "a text that ends in NUL": {"deck": "deck-42\0deck-43"},
}


@pytest.mark.parametrize("args", TWO_RESOURCES.values(), ids=list(TWO_RESOURCES))
def test_two_resources_in_one_call_are_not_one(args: dict[str, JSON]) -> None:
    (code,) = Lab().codes(DECK, args=args)
    assert code in {"argument_refused", "argument_not_named"}


def test_of_two_resources_in_a_list_each_must_be_allowed() -> None:
    capability = minted(allowed=allow(action("a.read", decks=each(one_of("deck-42", "deck-44")))))
    assert Lab().codes(capability, args={"decks": ["deck-42", "deck-44"]}) == ()
    for decks in (["deck-42", "deck-43"], ["deck-43", "deck-42"], [["deck-42"]], [], "deck-42"):
        assert Lab().codes(capability, args={"decks": decks}) == ("argument_refused",)


LIKE_IT = {
    "decomposed": "cafe\u0301",
    "a homoglyph": "\u0441af\u00e9",
    "full width": "\uff43af\u00e9",
    "capitals": "CAF\u00c9",
    "a variation selector": "caf\u00e9\ufe0f",
    "a combining grapheme joiner": "caf\u00e9\u034f",
    "a space after it": "caf\u00e9 ",
}


HIDDEN = {"zero width": "ca\u200bf\u00e9", "a soft hyphen": "ca\u00adf\u00e9", "a byte-order mark": "\ufeffcaf\u00e9"}


@pytest.mark.parametrize("other", [*LIKE_IT.values(), *HIDDEN.values()], ids=[*LIKE_IT, *HIDDEN])
def test_what_only_looks_like_a_value_is_another(other: str) -> None:
    for rule, prefix, suffix in (
        ("caf\u00e9", "", ""),
        (within("/caf\u00e9"), "/", "/x"),
        (glob("*/caf\u00e9"), "x/", ""),
        (regex("caf\u00e9"), "", ""),
    ):
        capability = minted(allowed=allow(action("a.read", x=rule)))
        assert Lab().codes(capability, args={"x": f"{prefix}caf\u00e9{suffix}"}) == ()
        assert Lab().codes(capability, args={"x": f"{prefix}{other}{suffix}"}) == ("argument_refused",)


@pytest.mark.parametrize("other", LIKE_IT.values(), ids=list(LIKE_IT))
def test_what_only_looks_like_a_name_is_another(other: str) -> None:
    named = minted(Tenant("caf\u00e9"), allowed=allow(action("a.read", args={"caf\u00e9": 1})))
    lab = Lab()
    assert codes(lab.decide(lab.present(named, args={"caf\u00e9": 1}), args={"caf\u00e9": 1}, tenant="caf\u00e9")) == ()
    for args, tenant_of_it, code in (
        ({other: 1}, "caf\u00e9", "argument_refused"),
        ({"caf\u00e9": 1, other: 1}, "caf\u00e9", "argument_not_named"),
        ({"caf\u00e9": 1}, other, "wrong_tenant"),
    ):
        assert codes(lab.decide(lab.present(named, args=args), args=args, tenant=tenant_of_it)) == (code,)


@pytest.mark.parametrize("name", HIDDEN.values(), ids=list(HIDDEN))
def test_a_call_states_no_name_that_hides_something(name: str) -> None:
    with pytest.raises(InvalidCaveat):
        Call("a.read", {name: 1})
    with pytest.raises(InvalidCaveat):
        Call("a.read", tenant=name)
    with pytest.raises(InvalidCaveat):
        Call(name)


@pytest.mark.parametrize(
    "other", ["\u0430.read", "a\u200b.read", "a.r\u0435ad", "a\uff0eread", "a\u2024read", "A.read", "a.read "]
)
def test_no_action_looks_like_another(other: str) -> None:
    try:
        received, call = ToolCall(other), Call(other)
    except CapxError:
        return
    assert codes(Lab().verifier.decide(minted().present(received, now=NOW).text, received, call)) == (
        "action_not_allowed",
    )
