"""A place in the code writes a few lines a minute, and says how many were left out."""

import logging

import pytest

from capx.server.log_limit import LINES, SECONDS, LogLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def written(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.name.startswith("limited")]
    caplog.clear()
    return found


def complain(number: int, logger: str = "limited") -> None:
    # One place in the code, whatever a stranger makes of its text.
    logging.getLogger(logger).warning("%s", f"stranger {number}")


def test_what_strangers_cause_is_written_a_few_times(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with LogLimit(clock=clock).on("limited"):
        for number in range(1_000):
            complain(number)
        *first, last = written(caplog)
        assert first == [f"stranger {number}" for number in range(LINES - 1)]
        assert last == f"stranger {LINES - 1} (more like this are left out for 60 s)"
        clock.now = SECONDS - 1
        complain(0)
        assert written(caplog) == []
        clock.now = SECONDS
        complain(7)
        assert written(caplog) == [f"stranger 7 ({1_001 - LINES} more like this were left out)"]
        complain(8)
        assert written(caplog) == ["stranger 8"]


def test_what_was_left_out_is_said_at_the_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with LogLimit(clock=clock).on("limited"):
        for number in range(LINES + 3):
            complain(number)
        written(caplog)
    assert written(caplog) == ["3 more like this were left out"]
    complain(9)
    assert written(caplog) == ["stranger 9"]


def test_places_and_loggers_do_not_count_together(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with LogLimit(clock=clock).on("limited", "limited.too"):
        for number in range(2 * LINES):
            complain(number)
        written(caplog)
        logging.getLogger("limited").warning("another place")
        complain(1, "limited.too")
        complain(1, "limited.free")
        assert written(caplog) == ["another place", "stranger 1", "stranger 1"]


def test_a_traceback_counts_as_one_line(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with LogLimit(clock=clock).on("limited"):
        for _ in range(LINES):
            logging.getLogger("limited").error("failed at %s", "x", exc_info=ValueError())
    assert [record.exc_info is not None for record in caplog.records] == [True] * LINES
    assert caplog.records[-1].getMessage() == "failed at x (more like this are left out for 60 s)"
