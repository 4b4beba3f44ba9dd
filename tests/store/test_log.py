"""The log: one order, one history."""

import hashlib
from collections.abc import Sequence

import msgspec
import pytest

from capx.errors import BrokenLog
from capx.store.log import GENESIS, START, Event, Place, check, following


def chain(count: int = 6) -> list[Event]:
    events: list[Event] = []
    place = START
    for number in range(count):
        event = following(place, at=1_000 + number, kind="noted", body=b'{"number":%d}' % number)
        place = Place(event.position, event.hash)
        events.append(event)
    return events


def head_of(events: Sequence[Event]) -> Place:
    return Place(events[-1].position, events[-1].hash)


def broken_at(events: Sequence[Event], head: Place | None = None) -> int:
    with pytest.raises(BrokenLog) as caught:
        check(events, head=head)
    assert str(caught.value.position) in str(caught.value)
    return caught.value.position


def test_the_hash_is_the_one_that_the_format_names() -> None:
    parts = [
        b"capx/1/event",
        GENESIS,
        b"\0\0\0\0\0\0\0\1",
        b"\0\0\0\0\0\0\3\xe8",
        b"noted",
        b'{"number":0}',
    ]
    sized = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert chain(1)[0].hash == hashlib.sha256(sized).digest()


def test_an_untouched_log_leads_to_its_head() -> None:
    events = chain()
    assert check(events, head=head_of(events)) == head_of(events)
    assert check(events[3:], after=head_of(events[:3]), head=head_of(events)) == head_of(events)
    assert check([]) == START


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("field", ["at", "kind", "body", "hash"])
def test_an_edited_event_is_found_where_it_stands(place: int, field: str) -> None:
    events = chain()
    edited = {"at": 5, "kind": "other", "body": b"{}", "hash": bytes(32)}[field]
    events[place] = msgspec.structs.replace(events[place], **{field: edited})
    assert broken_at(events) == place + 1


@pytest.mark.parametrize("place", range(5))
def test_an_edited_event_with_a_new_hash_is_found_at_the_next(place: int) -> None:
    events = chain()
    before = head_of(events[:place]) if place else START
    events[place] = following(before, at=1, kind="forged", body=b"{}")
    assert broken_at(events) == place + 2


@pytest.mark.parametrize("place", range(5))
def test_a_missing_event_is_a_gap_that_is_found(place: int) -> None:
    events = chain()
    del events[place]
    assert broken_at(events) == place + 1
    with pytest.raises(BrokenLog, match=f"event {place + 2} is where event {place + 1} should be"):
        check(events)


@pytest.mark.parametrize("place", range(4))
def test_swapped_and_repeated_events_are_found(place: int) -> None:
    events = chain()
    swapped = [*events[:place], events[place + 1], events[place], *events[place + 2 :]]
    assert broken_at(swapped) == place + 1
    assert broken_at([*events[: place + 1], events[place], *events[place + 1 :]]) == place + 2


def test_events_moved_up_to_hide_a_gap_are_found() -> None:
    events = chain()
    moved = [*events[:2], *(msgspec.structs.replace(e, position=e.position - 1) for e in events[3:])]
    assert broken_at(moved) == 3


def test_a_log_cut_short_is_found_by_its_head() -> None:
    events = chain()
    assert broken_at(events[:4], head=head_of(events)) == 5
    assert broken_at([], head=head_of(events)) == 1


def test_a_head_that_lags_or_names_another_hash_is_found() -> None:
    events = chain()
    assert broken_at(events, head=head_of(events[:4])) == 4
    assert broken_at(events, head=Place(6, bytes(32))) == 6


@pytest.mark.parametrize("edit", [{"at": -1}, {"at": 2**64}, {"kind": "\ud800"}])
def test_values_that_no_event_can_hold_are_told_as_breaks(edit: dict[str, object]) -> None:
    events = chain()
    events[2] = msgspec.structs.replace(events[2], **edit)
    assert broken_at(events) == 3


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'"\xff"', b'{"a":'])
def test_a_body_that_is_no_object_is_a_break(body: bytes) -> None:
    with pytest.raises(BrokenLog) as caught:
        following(START, at=1, kind="noted", body=body).facts()
    assert caught.value.position == 1
