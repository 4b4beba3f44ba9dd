"""A real store in a file, and a verifier that spends in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from capx.store.sqlite.store import SQLiteStore
from tests.labs.lab import Lab
from tests.labs.meters import meter

__all__ = ["meter"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore.create(tmp_path / "capx.db")
    yield made
    made.close()


@pytest.fixture
def lab(store: SQLiteStore) -> Lab:
    return Lab(meter=store)
