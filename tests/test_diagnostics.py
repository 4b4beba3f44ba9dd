"""Warnings for the person who runs a service."""

import logging

import pytest

from capx import diagnostics
from tests.labs.processes import in_a_child


def test_the_same_warning_is_written_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "capx"):
        diagnostics.warn_once("the disk of this test is full")
        diagnostics.warn_once("the disk of this test is full")
    assert [record.getMessage() for record in caplog.records] == ["the disk of this test is full"]


def test_a_child_warns_though_its_parent_held_the_lock() -> None:
    def warns() -> bool:
        held = diagnostics._lock.acquire(blocking=False)
        if held:
            diagnostics._lock.release()
        return held

    with diagnostics._lock:
        assert in_a_child(warns)
        # The parent still holds its own lock.
        assert not diagnostics._lock.acquire(blocking=False)
