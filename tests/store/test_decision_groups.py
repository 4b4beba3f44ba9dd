"""Decisions about one call are a group: what is in it, how it ended, and that a long log needs little memory."""

import random
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import msgspec
import pytest

from capx.store.decision_groups import WINDOW, Group, grouped, newest, task_of_call
from capx.store.decision_query import Query
from capx.store.log import Event

BODY: dict[str, Any] = {
    "outcome": "denied",
    "audience": "crm",
    "action": "crm.read",
    "path": ["root", "N1"],
    "args_digest": "D" * 16,
    "reasons": [{"code": "action_not_allowed"}],
}
ALLOWED: dict[str, Any] = {"outcome": "allowed", "reasons": []}


def event(position: int, at: int = 0, kind: str = "decision", **facts: object) -> Event:
    return Event(position, at, kind, msgspec.json.encode({"id": f"d{position}", **BODY, **facts}), bytes(32))


def positions(groups: Iterator[Group] | list[Group]) -> list[list[int]]:
    return [[one.position for one in group.events] for group in groups]


def test_denials_and_the_yes_after_them_are_one_group() -> None:
    (group,) = grouped([event(1), event(2, 20), event(3, 60, **ALLOWED)])
    assert positions([group]) == [[1, 2, 3]]
    assert group.last.facts()["outcome"] == "allowed"


def test_an_allowed_call_is_never_hidden() -> None:
    calls = [event(1), event(2, **ALLOWED), event(3, **ALLOWED), event(4), event(5)]
    assert positions(grouped(calls)) == [[1, 2], [3], [4, 5]]


@pytest.mark.parametrize(
    "other",
    [
        {"audience": "billing"},
        {"action": "crm.write"},
        {"path": ["root", "N2"]},
        {"args_digest": "E" * 16},
        {"args_digest": None},
        {"args_digest": {"any": 1}},
        {"audience": 7},
        {"action": None},
        {"path": []},
        {"path": "no path"},
        {"kind": "revoked"},
    ],
    ids=str,
)
def test_a_decision_about_another_call_is_no_member(other: dict[str, Any]) -> None:
    assert positions(grouped([event(1), event(2, **{**ALLOWED, **other})])) == [[1], [2]]


def test_checks_of_one_presentation_are_not_grouped() -> None:
    rows = [event(1, presentation="P"), event(2, presentation="P", **ALLOWED), event(3, presentation="Q", **ALLOWED)]
    assert positions(grouped(rows)) == [[1], [2], [3]]
    again = [event(1, presentation="P"), event(2, presentation="Q"), event(3, presentation="P")]
    assert positions(grouped(again)) == [[1, 2], [3]]
    assert positions(grouped([event(1, presentation=None), event(2, presentation=None)])) == [[1, 2]]


def test_decisions_without_a_digest_are_not_grouped() -> None:
    without = [{**BODY, "id": f"d{number}"} for number in (1, 2)]
    for body in without:
        del body["args_digest"]
    events = [Event(nth, 0, "decision", msgspec.json.encode(body), bytes(32)) for nth, body in enumerate(without, 1)]
    assert positions(grouped(events)) == [[1], [2]]


def test_a_group_lasts_a_minute_from_its_first_decision() -> None:
    assert positions(grouped([event(1), event(2, WINDOW), event(3, WINDOW + 1)])) == [[1, 2], [3]]
    assert positions(grouped([event(1), event(2, 40), event(3, 80), event(4, 120)])) == [[1, 2], [3, 4]]


def test_in_the_last_second_of_the_minute_a_decision_joins() -> None:
    log = [event(1), event(2, WINDOW, args_digest="E" * 16, **ALLOWED), event(3, WINDOW, **ALLOWED)]
    assert positions(grouped(log)) == [[2], [1, 3]]


def test_reports_that_come_late_are_grouped_by_their_own_time() -> None:
    late = [event(1, 1_000, **ALLOWED), event(2, 10), event(3, 11, **ALLOWED), event(4, 100), event(5, 161)]
    assert positions(grouped(late)) == [[1], [2, 3], [4], [5]]
    # A clock that is years ahead ends the open groups, once. It hides nothing.
    ahead = [event(1), event(2, 2**40, args_digest="E" * 16), event(3, 5), event(4, 6, **ALLOWED)]
    assert positions(grouped(ahead)) == [[1], [2], [3, 4]]


def test_groups_come_in_the_order_of_their_last_events() -> None:
    def call(name: str, **facts: Any) -> dict[str, Any]:
        return {"args_digest": name * 16, **facts}

    log = [
        event(1, 0, **call("A")),
        event(2, 1, "task_opened"),
        event(3, 2, **call("B")),
        event(4, 3, **call("A", **ALLOWED)),
        event(5, 90, **call("B")),
    ]
    assert positions(grouped(log)) == [[2], [3], [1, 4], [5]]


def test_a_call_is_given_before_the_log_ends() -> None:
    def endless() -> Iterator[Event]:
        position = 0
        while True:
            position += 1
            yield event(position, position, args_digest=f"{position:016}")

    found = grouped(endless())
    assert positions([next(found) for _ in range(3)]) == [[1], [2], [3]]


def test_what_nothing_can_join_is_given_at_once() -> None:
    read: list[int] = []

    def log() -> Iterator[Event]:
        for one in (event(1, args_digest=None), event(2, **ALLOWED), event(3, 0, "revoked"), event(4)):
            read.append(one.position)
            yield one

    found = grouped(log())
    for position in (1, 2, 3):
        assert positions([next(found)]) == [[position]]
        assert read[-1] == position


def test_the_newest_of_a_long_log_need_little_memory() -> None:
    def events(after: int) -> Iterator[Event]:
        filler = "x" * 4_000
        return (event(nth, 0, filler=filler, **ALLOWED) for nth in range(after + 1, 4_001))

    tracemalloc.start()
    try:
        assert positions(newest(events, end=4_000, limit=2)) == [[3_999], [4_000]]
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_a_million_decisions_a_minute_need_little_memory() -> None:
    def many(outcome: str) -> Iterator[Event]:
        filler = "x" * 4_000
        return (event(nth, 0, outcome=outcome, args_digest=f"{nth:016}", filler=filler) for nth in range(1, 20_001))

    tracemalloc.start()
    try:
        assert sum(1 for _ in grouped(many("denied"))) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
        tracemalloc.reset_peak()
        assert sum(1 for _ in grouped(many("allowed"))) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    loop = (event(nth, 0, filler="x" * 4_000) for nth in range(1, 20_001))
    sizes = [len(group.events) for group in grouped(loop)]
    assert sum(sizes) == 20_000
    assert all(one * 4_000 <= 256 << 10 for one in sizes)
    # So the newest 500 groups need as little, whoever made them large.
    small = (event(nth, 0) for nth in range(1, 20_001))
    assert 50 < max(len(group.events) for group in grouped(small)) < 500


def long(chance: random.Random, count: int) -> list[Event]:
    at, log = 0, list[Event]()
    for position in range(1, count + 1):
        at += chance.choice((0, 1, 5, 40))
        facts = ALLOWED if chance.random() < 0.4 else {}
        log.append(event(position, at, args_digest=f"{position // 3:016}", **facts))
    return log


def reading(log: list[Event]) -> tuple[Callable[[int], Iterator[Event]], list[int]]:
    """What reads a log from a position, and the positions that it was read from."""
    read: list[int] = []

    def events(after: int) -> Iterator[Event]:
        read.append(after)
        return iter(log[after:])

    return events, read


@pytest.mark.parametrize("limit", [1, 7, 40, 10_000])
@pytest.mark.parametrize("denied", [False, True])
def test_the_newest_are_the_last_of_all(limit: int, denied: bool) -> None:
    log = long(random.Random(7), 5_000)
    query = Query(denied=denied)

    def keep(group: Group) -> bool:
        return query.matches(group.last)

    every = [group for group in grouped(log) if keep(group)]
    assert list(grouped(log, keep)) == every
    events, read = reading(log)
    found = newest(events, end=len(log), limit=limit, keep=keep)
    assert positions(found) == positions(every[-limit:])
    assert read[0] == 4_000
    assert (read[-1] == 0) == (limit == 10_000)


def test_of_the_newest_none_lacks_its_first_decision() -> None:
    def found(*first: Event, limit: int) -> list[int]:
        log = [*first, *(event(nth, 200, "revoked") for nth in range(len(first) + 1, 1_002))]
        return positions(newest(lambda after: log[after:], end=len(log), limit=limit))[0]

    assert found(event(1), event(2, 1, **ALLOWED), limit=1_000) == [1, 2]
    assert found(event(1), event(2, 0, "revoked"), event(3, WINDOW, **ALLOWED), limit=999) == [1, 3]


def test_what_is_left_of_a_log_is_read_with_the_last_piece() -> None:
    log = [event(position, kind="noted") for position in range(1, 1_801)]
    events, read = reading(log)
    assert newest(events, end=len(log), limit=1, keep=lambda group: group.last.position == 1)[0].last.position == 1
    assert read == [0]


def test_no_flood_of_what_is_not_wanted_waits_for_anything() -> None:
    asked: list[int] = []

    def keep(group: Group) -> bool:
        asked.append(group.last.position)
        return group.last.position == 50

    flood = (event(position, 0, args_digest=None) for position in range(2, 100))
    open_group = event(1)
    found = grouped(chain([open_group], flood), keep)
    assert positions(found) == [[50]]
    # The open group comes last, and nothing is asked about twice.
    assert asked == [*range(2, 100), 1]


def test_the_newest_after_a_position_are_none_before_it() -> None:
    log = [event(1), event(2, **ALLOWED), event(3)]
    assert positions(newest(lambda after: log[after:], end=3, limit=5, after=1)) == [[2], [3]]
    assert newest(lambda after: log[after:], end=3, limit=5, after=3) == []
    assert newest(lambda after: log[after:], end=3, limit=5, after=99) == []


def test_a_decision_about_a_call_names_its_task() -> None:
    assert task_of_call(event(1, task="T")) == "T"
    assert task_of_call(event(1, task="T", **ALLOWED)) == "T"
    assert task_of_call(event(1, task="T", args_digest=None)) is None
    assert task_of_call(event(1, task="T", kind="revoked")) is None
    assert task_of_call(Event(1, 0, "decision", b"[]", bytes(32))) is None


def test_a_group_has_at_most_a_quarter_of_a_mebibyte() -> None:
    small = len(event(1, note="").body)

    def of_size(position: int, size: int) -> Event:
        return event(position, note="x" * (size - 1_000 - small))

    half = 128 << 10
    assert positions(grouped([of_size(1, half), of_size(2, half)])) == [[1, 2]]
    assert positions(grouped([of_size(1, half), of_size(2, half + 1)])) == [[1], [2]]


def test_what_was_given_takes_no_room_any_more() -> None:
    # A mebibyte each, every minute: only what waits counts against 16 MiB.
    large = (event(nth, nth * 2 * WINDOW, args_digest=f"{nth}", note="x" * (1 << 20)) for nth in range(1, 20))
    denied, allowed = event(20, 40 * WINDOW), event(22, 40 * WINDOW, **ALLOWED)
    other = event(21, 40 * WINDOW, args_digest="other")
    assert positions(grouped([*large, denied, other, allowed]))[-2:] == [[21], [20, 22]]


def test_the_first_decision_is_sought_a_piece_further_back() -> None:
    early = (event(nth, 0, "revoked") for nth in range(1, 1_501))
    late = (event(nth, 200, "revoked") for nth in range(1_504, 2_502))
    log = [*early, event(1_501), event(1_502, 0, "revoked"), event(1_503, 30, **ALLOWED), *late]
    assert positions(newest(lambda after: log[after:], end=len(log), limit=999))[0] == [1_501, 1_503]
