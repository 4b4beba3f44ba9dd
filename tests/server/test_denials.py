"""Denials of one task within a minute make a notice, and a flood of them makes one a minute."""

import pytest

from capx.server.notify.denials import MOST_TASKS, Denials


def test_the_last_of_so_many_within_a_minute_makes_a_notice() -> None:
    counted = Denials(3)
    assert [counted.count("t", at) for at in (0, 30, 59)] == [False, False, True]
    counted = Denials(3)
    assert [counted.count("t", at) for at in (0, 30, 60)] == [False, False, False]
    assert Denials(1).count("t", 5)


def test_tasks_are_counted_apart() -> None:
    counted = Denials(2)
    assert [counted.count(task, 1) for task in ("a", "b", "a", "b")] == [False, False, True, True]


def test_a_flood_makes_one_notice_a_minute() -> None:
    counted = Denials(2)
    made = [at for at in range(1_000, 1_180) for _ in range(50) if counted.count("t", at)]
    assert made == [1_000, 1_060, 1_120]


def test_a_time_far_ahead_hides_no_later_denial() -> None:
    counted = Denials(2)
    assert [counted.count("t", at) for at in (2**40, 2**40)] == [False, True]
    # What a service has said of the future does not count with what happens now.
    assert [counted.count("t", at) for at in (100, 101, 102)] == [False, True, False]


@pytest.mark.parametrize(("others", "known"), [(MOST_TASKS - 1, True), (MOST_TASKS, False)])
def test_the_memory_is_bounded(others: int, known: bool) -> None:
    counted = Denials(2)
    counted.count("t", 1)
    for nth in range(others):
        counted.count(f"t{nth}", 1)
    # Forgotten is the one that was denied longest ago.
    assert counted.count("t", 1) is known
