"""A store that notes what is spent from it."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from capx.store.sqlite.store import SQLiteStore
from capx.verify.meter import Payer, Spend, Tally


class NotingMeter(SQLiteStore):
    """Notes who pays, and in which thread, before anything is spent."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, busy_seconds=2)
        self.payers: list[Payer] = []
        self.threads: list[threading.Thread] = []

    def spend(self, payer: Payer, spends: Sequence[Spend], *, now: int) -> Tally:
        assert all(isinstance(one, Spend) for one in spends)
        self.payers.append(payer)
        self.threads.append(threading.current_thread())
        return super().spend(payer, spends, now=now)


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[NotingMeter]:
    """A new store, from which nothing has been spent."""
    SQLiteStore.create(tmp_path / "meter.db").close()
    store = NotingMeter(tmp_path / "meter.db")
    yield store
    store.close()
