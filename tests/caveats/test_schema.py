"""What its own class would not read is neither built nor written."""

from collections.abc import Callable
from decimal import Decimal
from enum import IntFlag

import pytest
from msgspec.structs import replace

from capx_caveats import (
    Allow,
    AnyConstraint,
    Caveat,
    Entry,
    Eq,
    Expires,
    InvalidCaveat,
    MaxHops,
    Not,
    NotUnderstood,
    Tenant,
    Where,
    encode_block,
)

# What may be written

BAD: dict[str, Callable[[], Caveat]] = {
    "a time that is true": lambda: Expires(True),
    "a time with a fraction": lambda: Expires(5.0),  # type: ignore[arg-type] # no integer
    "a time beyond 2**53": lambda: Expires(2**53),
    "a negative time": lambda: Expires(-1),
    "a time that is text": lambda: Expires("5"),  # type: ignore[arg-type] # no integer
    "no time": lambda: Expires(*()),  # type: ignore[call-arg] # too few
    "two times": lambda: Expires(5, 6),  # type: ignore[call-arg] # too many
    "a field that there is not": lambda: Expires(at=5, to=6),  # type: ignore[call-arg] # unknown
    "a field given twice": lambda: Expires(5, at=6),  # type: ignore[misc] # twice
    "more hops than can be": lambda: MaxHops(2**53),
    "an attribute that is a number": lambda: Where(5, Eq(1)),  # type: ignore[arg-type] # no text
    "a constraint that is a value": lambda: Where("size", 5),  # type: ignore[arg-type] # no constraint
    "a constraint that is a caveat": lambda: Where("size", Expires(5)),  # type: ignore[arg-type] # no constraint
    "an entry that is a text": lambda: Allow(("a.read",)),  # type: ignore[arg-type] # no entry
    "a literal of a class of its own": lambda: Where("size", Eq(IntFlag("Size", "S M").S)),  # type: ignore[attr-defined] # no int
    "a literal that is a set": lambda: Where("size", Eq({1})),  # type: ignore[arg-type] # no tuple
    "a decimal": lambda: Where("size", Eq(Decimal("0.1"))),  # type: ignore[arg-type] # no float
    "a lone surrogate": lambda: Tenant("\ud800"),
    "a lone surrogate in a list": lambda: Where("size", Eq(("a", "\ud800"))),
}


@pytest.mark.parametrize("build", BAD.values(), ids=list(BAD))
def test_what_its_own_class_would_not_read_is_not_built(build: Callable[[], Caveat]) -> None:
    with pytest.raises(InvalidCaveat):
        build()


def test_what_cannot_be_built_says_which_field_is_wrong() -> None:
    with pytest.raises(InvalidCaveat, match=r"Expires: .*`at`"):
        Expires("5")  # type: ignore[arg-type] # no integer


def test_what_was_changed_past_its_class_is_not_written() -> None:
    with pytest.raises(InvalidCaveat):
        encode_block((replace(Expires(5), at=-1),))
    with pytest.raises(InvalidCaveat):
        encode_block((NotUnderstood("x", "y"),))


def test_a_list_is_built_as_it_is_read_and_never_changes() -> None:
    entries = [Entry("a.read", [])]  # type: ignore[arg-type] # a list
    built = Allow(entries)  # type: ignore[arg-type] # a list
    entries.clear()
    assert built == Allow((Entry("a.read", ()),))


def test_what_nests_without_end_is_not_written() -> None:
    endless: AnyConstraint = Eq(1)
    for _ in range(5000):
        endless = Not(endless)
    with pytest.raises(InvalidCaveat):
        encode_block((Where("size", endless),))


def test_an_empty_block_is_not_written() -> None:
    with pytest.raises(InvalidCaveat):
        encode_block(())
