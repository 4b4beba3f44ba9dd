"""Caveats and constraints that a service adds to its vocabulary."""

from typing import Annotated, Any, cast

import pytest
from msgspec import Meta

from capx_caveats import (
    DEFAULT,
    AnyConstraint,
    Caveat,
    ChainCaveat,
    Eq,
    Expires,
    InvalidCaveat,
    NotUnderstood,
    Task,
    Tenant,
    UntilCompleted,
    Vocabulary,
    Where,
    absent,
    action,
    all_of,
    allow,
    any_of,
    between,
    each,
    encode_block,
    not_,
    where,
)
from tests.labs.own_constraints import Near, Odd, Region

GOOD = b'[["expires",5]]'


# A service's own


def test_a_service_adds_a_dotted_caveat_and_the_default_stays() -> None:
    mine = DEFAULT.extended(Region)
    block = encode_block((Region("eu"),))
    assert block == b'[["acme.region","eu"]]'
    assert mine.decode(block) == (Region("eu"),)
    assert isinstance(DEFAULT.decode(block)[0], NotUnderstood)
    assert mine.decode(GOOD) == (Expires(5),)


def test_an_added_caveat_is_read_as_strictly() -> None:
    mine = DEFAULT.extended(Region)
    for block in (b'[["acme.region",1]]', b'[["acme.region","eu",1]]', b'[["acme.region"]]', b'[["acme.region",null]]'):
        assert isinstance(mine.decode(block)[0], NotUnderstood)


def test_an_undotted_taken_or_missing_tag_is_refused() -> None:
    class Undotted(Region, frozen=True, tag="region"):
        pass

    class Impostor(Region, frozen=True, tag="expires"):
        pass

    class Untagged(Caveat, frozen=True):
        pass

    class Numbered(Caveat, frozen=True, tag=7):
        pass

    class Twin(Region, frozen=True, tag="acme.region"):
        pass

    for kind in (Undotted, Impostor, Untagged, Numbered, NotUnderstood):
        with pytest.raises(InvalidCaveat):
            DEFAULT.extended(kind)
    with pytest.raises(InvalidCaveat):
        DEFAULT.extended(Region).extended(Region)
    with pytest.raises(InvalidCaveat):
        DEFAULT.extended(Region, Twin)


def test_a_service_adds_no_mark() -> None:
    class Badge(ChainCaveat, frozen=True, tag="acme.badge"):
        pass

    with pytest.raises(InvalidCaveat):
        DEFAULT.extended(Badge)


def test_a_vocabulary_can_be_small() -> None:
    small = Vocabulary(Expires, Tenant)
    assert small.decode(b'[["expires",5],["allow",[["a"]]]]')[0] == Expires(5)
    assert isinstance(small.decode(b'[["expires",5],["allow",[["a"]]]]')[1], NotUnderstood)
    assert Eq(1).wire() == ["eq", 1]


OWN = DEFAULT.extended(Odd, Near)
EVERYWHERE = [
    where("args.x", Odd()),
    where("args.x", any_of(not_(each(all_of(Odd(), between(1, 5)), min=0)), absent())),
    allow("a.read", action("a.write", x=Odd(), y=each(Odd()))),
    where("size", Near(3, Eq(3))),
    where("size", Near(3, cast("AnyConstraint", Odd()))),
]


@pytest.mark.parametrize("caveat", EVERYWHERE, ids=lambda caveat: caveat.sentence())
def test_an_own_constraint_stands_wherever_another_may(caveat: Caveat) -> None:
    block = encode_block((caveat, Expires(5)))
    assert OWN.decode(block) == (caveat, Expires(5))
    assert encode_block(OWN.decode(block)) == block


@pytest.mark.parametrize(
    "block",
    [
        b'[["where","args.x",["acme.odd",1]]]',
        b'[["where","args.x",["acme.near",0,["eq",1]]]]',
        b'[["where","args.x",["acme.near",1]]]',
        b'[["where","args.x",["acme.near",1,["newer"]]]]',
        b'[["where","args.x",["each",["acme.odd"],-1]]]',
        b'[["where","args.x",["acme.even"]]]',
        b'[["where","args.x",["any",[]]]]',
        b'[["acme.odd"]]',
        b'[["where","args.x",{"acme.odd":1}]]',
    ],
)
def test_an_own_constraint_is_read_as_strictly_as_the_others(block: bytes) -> None:
    assert [type(caveat) for caveat in OWN.decode(block)] == [NotUnderstood]


def test_an_own_constraint_is_known_to_its_vocabulary_alone() -> None:
    block = encode_block((where("args.x", not_(Odd())), Expires(5)))
    understood, other = DEFAULT.decode(block)
    assert isinstance(understood, NotUnderstood)
    assert other == Expires(5)
    assert type(OWN.decode(block)[0]) is Where
    assert DEFAULT.own == frozenset()


def test_an_own_constraint_needs_a_dotted_tag_that_is_free() -> None:
    class Bare(Odd, frozen=True, tag="odd"):
        pass

    class Twice(Odd, frozen=True, tag="acme.odd"):
        pass

    class Hidden(Odd, frozen=True, tag="acme.odd\u202e"):
        pass

    class Hollow(Odd, frozen=True, tag="acme..odd"):
        pass

    for kind in (Bare, Twice, Hidden, Hollow):
        with pytest.raises(InvalidCaveat, match="tag"):
            OWN.extended(kind)


class Ending(UntilCompleted, frozen=True, tag="acme.ending"):
    pass


class Claim(Task, frozen=True, tag="acme.claim"):
    pass


class Mapped(Odd, frozen=True, tag="acme.mapped"):
    members: dict[str, str]


class Listed(Odd, frozen=True, tag="acme.listed"):
    names: list[str]


class Unbounded(Odd, frozen=True, tag="acme.unbounded"):
    limits: tuple[int, ...]


class Beyond(Odd, frozen=True, tag="acme.beyond"):
    limit: Annotated[float, Meta(ge=0, le=1e300)]


class Whatever(Odd, frozen=True, tag="acme.whatever"):
    thing: Any


@pytest.mark.parametrize("kind", [Ending, Claim, Mapped, Listed, Unbounded, Beyond, Whatever])
def test_an_own_class_holds_what_a_block_may_and_is_no_built_in(kind: Any) -> None:
    with pytest.raises(InvalidCaveat, match=kind.__name__):
        DEFAULT.extended(kind)
