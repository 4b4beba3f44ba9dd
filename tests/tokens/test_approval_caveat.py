"""The demand for an approval: one spelling, and the same bytes for the same demand."""

import json
from typing import Any

import pytest

from capx.crypto.base64url import b64u
from capx.crypto.boxes import seal_box
from capx.crypto.ed25519 import parse_public
from capx.crypto.hashing import digest, mac, macaroon_key
from capx.errors import InvalidRequest
from capx.tokens import chain, wire
from capx.tokens.approval_caveat import (
    ApprovalDemanded,
    KeyedCaveat,
    approval,
    caveat_key,
    read_approval_caveat,
)
from capx.tokens.chain import ThirdParty
from tests.labs.approving import BEN, CLEO, KEY, LEA, fresh_key, keyed, terms
from tests.labs.keyed import PLANNER
from tests.labs.lab import minted

TAIL = bytes(range(32))
SMALL_ORDER = "A" * 43


def parts(cid: bytes) -> list[Any]:
    found: list[Any] = json.loads(cid)
    return found


def spelt(found: object) -> bytes:
    return json.dumps(found, separators=(",", ":")).encode()


def test_a_demand_says_what_was_asked_for() -> None:
    cid = terms(LEA, BEN, CLEO, count=2, lasts=60).drawn().cid
    read = read_approval_caveat(cid)
    assert read is not None
    assert (read.count, read.lasts, read.cid) == (2, 60, cid)
    assert read.approvers == (LEA.public, BEN.public, CLEO.public)
    assert [person.open_box(box) for person, box in zip((LEA, BEN, CLEO), read.boxes, strict=True)]
    assert LEA.open_box(read.boxes[1]) is None


def test_each_approver_finds_the_same_key_in_its_box() -> None:
    demand = keyed(LEA, BEN)
    read = read_approval_caveat(demand.cid)
    assert read is not None
    assert [LEA.open_box(read.boxes[0]), BEN.open_box(read.boxes[1])] == [KEY, KEY]
    assert demand.key == macaroon_key(KEY)


def test_the_layout_is_that_of_libmacaroons() -> None:
    demand = keyed()
    third = demand.below(TAIL)
    assert third.cid == demand.cid
    assert third.vid[:24] == digest(b"capx/1/vid", TAIL, macaroon_key(KEY), demand.cid)[:24]
    assert caveat_key(TAIL, third) == mac(b"macaroons-key-generator", KEY)
    token = minted()
    signature = wire.decode(token.text).signature
    made = token.demanding(demand)
    assert made.blocks[-1] == demand.below(signature)
    assert wire.decode(made.text).signature == chain.extend(signature, demand.below(signature))


def test_the_same_demand_in_the_same_place_has_the_same_bytes() -> None:
    demand = keyed()
    assert minted().demanding(demand) == minted().demanding(demand)
    nonces = {
        demand.below(TAIL).vid[:24],
        demand.below(bytes(32)).vid[:24],
        keyed(nonce=b"n" * 16).below(TAIL).vid[:24],
    }
    assert len(nonces) == 3


def test_a_vid_opens_under_its_own_tail_only() -> None:
    assert caveat_key(bytes(32), keyed().below(TAIL)) is None
    assert caveat_key(TAIL, ThirdParty(b"", keyed().cid)) is None


def test_two_demands_on_the_same_terms_are_two() -> None:
    assert terms().drawn() != terms().drawn()


def test_all_capabilities_of_a_delegation_have_the_same_demand() -> None:
    child = minted().delegate(to="a", approval=terms())
    other = minted().delegate(to="a", approval=terms())
    assert child.demands != other.demands
    demand = terms().drawn()
    assert minted().demanding(demand).demands == minted(audience="erp").demanding(demand).demands


def test_a_demand_costs_about_as_many_characters_as_designed() -> None:
    one = len(minted().demanding(terms()).text) - len(minted().text)
    three = len(minted().demanding(terms(LEA, BEN, CLEO)).text) - len(minted().text)
    assert (one, three) == (363, 779) or (abs(one - 363) <= 8 and abs(three - 779) <= 8)


BOX = b64u(seal_box(KEY, parse_public(LEA.public)))
LEAS, BENS = LEA.public.removeprefix("ed25519:"), BEN.public.removeprefix("ed25519:")
NONE: list[Any] = []
GOOD: list[Any] = [1, 1, [LEAS], 900, "A" * 22, [BOX]]


def changed(at: int, value: object) -> list[Any]:
    return [*GOOD[:at], value, *GOOD[at + 1 :]]


STRANGE: dict[str, bytes] = {
    "another version": spelt(changed(0, 2)),
    "nobody": spelt(changed(1, 0)),
    "more than there are": spelt(changed(1, 2)),
    "a count that is a text": spelt(changed(1, "1")),
    "no keys": spelt([1, 1, NONE, 900, "A" * 22, NONE]),
    "a key twice": spelt([1, 1, [LEAS, LEAS], 900, "A" * 22, [BOX, BOX]]),
    "a weak key": spelt(changed(2, [SMALL_ORDER])),
    "a key too short": spelt(changed(2, [LEAS[:-1]])),
    "a key with another last character": spelt(changed(2, [LEAS[:-1] + "B"])),
    "17 keys": spelt([1, 1, [fresh_key().public[8:] for _ in range(17)], 900, "A" * 22, [BOX] * 17]),
    "one box too few": spelt([1, 1, [LEAS, BENS], 900, "A" * 22, [BOX]]),
    "one box too many": spelt(changed(5, [BOX, BOX])),
    "a box too short": spelt(changed(5, [BOX[:-1]])),
    "no time": spelt(changed(3, 0)),
    "more than a day": spelt(changed(3, 86_401)),
    "a time with a fraction": b'[1,1,["%b"],900.0,"%b",["%b"]]' % (LEAS.encode(), b"A" * 22, BOX.encode()),
    "a leading zero": b'[1,1,["%b"],0900,"%b",["%b"]]' % (LEAS.encode(), b"A" * 22, BOX.encode()),
    "a nonce too short": spelt(changed(4, "A" * 21)),
    "spaces": json.dumps(GOOD).encode(),
    "a line end": spelt(GOOD) + b"\n",
    "an escape": spelt(GOOD).replace(LEAS.encode(), b"\\u00%02x" % ord(LEAS[0]) + LEAS[1:].encode()),
    "one part more": spelt([*GOOD, 1]),
    "one part less": spelt(GOOD[:-1]),
    "an object": b"{}",
    "no JSON": b"approve this, please",
    "no text": b"\xff\xfe",
    "nothing": b"",
}


def test_the_good_one_is_read() -> None:
    assert read_approval_caveat(spelt(GOOD)) is not None


@pytest.mark.parametrize("cid", STRANGE.values(), ids=STRANGE.keys())
def test_any_other_cid_is_no_demand(cid: bytes) -> None:
    assert read_approval_caveat(cid) is None


def test_the_most_approvers_fit() -> None:
    people = [fresh_key() for _ in range(16)]
    read = read_approval_caveat(terms(*people, count=16, lasts=86_400).drawn().cid)
    assert read is not None
    assert (read.count, len(read.keys), read.lasts) == (16, 16, 86_400)
    assert len(read.cid) <= 4096


def test_a_longer_cid_is_no_demand() -> None:
    assert read_approval_caveat(spelt(GOOD) + b" " * 4096) is None


def test_a_demand_is_read_in_plain_words() -> None:
    one, two = (read_approval_caveat(each.drawn().cid) for each in (terms(LEA, BEN), terms(LEA, BEN, count=2)))
    assert one is not None
    assert two is not None
    assert one.sentence() == f"each call needs the approval of {LEA.public} or {BEN.public}"
    assert two.wanted() == f"the approval of 2 of {LEA.public}, {BEN.public}"
    assert minted().demanding(terms(LEA, BEN)).caveats[-1] == (ApprovalDemanded(one.sentence()),)


def test_the_key_of_a_demand_never_shows() -> None:
    demand = keyed()
    assert repr(demand) == f"KeyedCaveat({len(demand.cid)} bytes)"
    assert isinstance(demand, KeyedCaveat)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a text": ({"by": LEA.public}, "`by` is a list of public keys"),
    "a key itself": ({"by": LEA}, "`by` is a list of public keys"),
    "keys themselves": ({"by": [LEA]}, "write lea.public, and not the key itself"),
    "no key": ({"by": []}, "nobody could approve"),
    "a key twice": ({"by": [LEA.public, LEA.public]}, "in `by` twice"),
    "a weak key": ({"by": [f"ed25519:{SMALL_ORDER}"]}, "an approver's key cannot be used: this is not a safe"),
    "17 keys": ({"by": [fresh_key().public for _ in range(17)]}, "at most 16 people, and this has 17"),
    "no person": ({"by": [LEA.public], "count": 0}, "`count` must be a whole number from 1 to 1"),
    "too many": ({"by": [LEA.public], "count": 2}, "from 1 to 1, the number of people in `by`"),
    "a number that is none": ({"by": [LEA.public], "count": True}, "`count` must be a whole number"),
    "no time": ({"by": [LEA.public], "lasts": 0}, "from 1s to 1d"),
    "too long": ({"by": [LEA.public], "lasts": "25h"}, "from 1s to 1d"),
    "a time that is none": ({"by": [LEA.public], "lasts": "soon"}, "`lasts`: 'soon' is not a duration"),
    "a time of another type": ({"by": [LEA.public], "lasts": 1.5}, "from 1s to 1d"),
}


@pytest.mark.parametrize(("given", "told"), WRONG.values(), ids=WRONG.keys())
def test_what_nobody_could_approve_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        approval(**given)
    assert told in str(error.value)


def test_durations_may_be_written() -> None:
    assert approval(by=[LEA.public], lasts="15m") == approval(by=[LEA.public]) == terms()


@pytest.mark.parametrize("lasts", [1, "1s", 86_400, "24h"])
def test_an_approval_lasts_a_second_to_a_day(lasts: int | str) -> None:
    assert approval(by=[LEA.public], lasts=lasts).lasts in (1, 86_400)


def test_a_demand_is_drawn_with_the_key_and_nonce_given() -> None:
    drawn = terms().drawn(KEY, b"n" * 16)
    assert drawn.key == macaroon_key(KEY)
    assert parts(drawn.cid)[4] == b64u(b"n" * 16)


def test_an_agents_key_may_approve_for_another_task() -> None:
    # Who approves does not act: the resource looks at the chain. Here it is only a public key.
    assert approval(by=[PLANNER.public]).by == (PLANNER.public,)
