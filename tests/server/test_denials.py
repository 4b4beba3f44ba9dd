"""Denials of one task within a minute make a notice, and a flood of them makes one a minute."""

import pytest

from capx.server.notify.denials import MINUTE, MOST_TASKS, Denials
from tests.labs.lab import NOW, Clock


def test_the_last_of_so_many_within_a_minute_makes_a_notice() -> None:
    for last, tells in ((59, True), (60, False)):
        clock = Clock()
        counted, made = Denials(3, clock), list[bool]()
        for at in (NOW, NOW + 30, NOW + last):
            clock.now = at
            made.append(counted.count("t", "a", at))
        assert made == [False, False, tells]
    assert Denials(1, Clock()).count("t", "a", NOW)


def test_tasks_are_counted_apart() -> None:
    counted = Denials(2, Clock())
    assert [counted.count(task, "a", NOW) for task in ("a", "b", "a", "b")] == [False, False, True, True]


def test_services_are_counted_apart() -> None:
    counted = Denials(2, Clock())
    assert [counted.count("t", audience, NOW) for audience in ("a", "b", "c", None)] == [False] * 4
    assert counted.count("t", "b", NOW)


def test_a_flood_makes_one_notice_a_minute() -> None:
    clock = Clock()
    counted, made = Denials(2, clock), list[int]()
    for second in range(180):
        clock.now = NOW + second
        made += [second for _ in range(50) if counted.count("t", "a", NOW + second)]
    assert made == [0, 60, 120]


def test_no_time_that_a_service_says_makes_more_notices() -> None:
    clock = Clock()
    counted = Denials(2, clock)
    lies = [NOW + 61 * nth for nth in range(-200, 200) for _ in range(2)]
    lies += [NOW + shift for _ in range(20) for shift in (-59, -59, 59, 59)]
    # Another service has no notice of its own: one look at the task shows both.
    made = [counted.count("t", audience, at) for at in lies for audience in ("a", "b")]
    assert sum(made) == 1
    # Nor does a time of the service end the minute.
    clock.now = NOW + 59.5
    assert not any(counted.count("t", "a", NOW + 100) for _ in range(5))
    clock.now = NOW + 60
    assert counted.count("t", "a", NOW + 100)


@pytest.mark.parametrize("lie", [-3_600, -MINUTE, MINUTE, 3_600, 2**40])
@pytest.mark.parametrize("audience", ["a", "hostile"])
def test_a_time_far_from_now_hides_no_denial(lie: int, audience: str) -> None:
    counted = Denials(3, Clock())
    made: list[bool] = []
    for _ in range(3):
        assert not any(counted.count("t", audience, NOW + lie) for _ in range(5))
        made.append(counted.count("t", "a", NOW))
    assert made == [False, False, True]


@pytest.mark.parametrize(("others", "known"), [(MOST_TASKS - 1, True), (MOST_TASKS, False)])
def test_the_memory_is_bounded(others: int, known: bool) -> None:
    counted = Denials(2, Clock())
    counted.count("t", "a", NOW)
    for nth in range(others):
        counted.count(f"t{nth}", "a", NOW)
    # Forgotten is the one that was denied longest ago.
    assert counted.count("t", "a", NOW) is known


def test_the_memory_of_what_was_told_is_bounded() -> None:
    counted = Denials(1, Clock())
    for nth in range(MOST_TASKS + 5):
        assert counted.count(f"t{nth}", "a", NOW)
    # The first ones are forgotten, and only they.
    assert [counted.count(f"t{nth}", "a", NOW) for nth in (4, MOST_TASKS + 4)] == [True, False]
