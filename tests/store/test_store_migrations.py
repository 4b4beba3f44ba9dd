"""A migration of a long log that is killed leaves the store as it was, and the next one does it all."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capx.errors import StoreProblem
from capx.store.call_page import call_page
from capx.store.check import check_store
from capx.store.decision_index import BLOCK, check_index
from capx.store.decision_query import Query
from capx.store.factory import open_store
from tests.labs.old_stores import make_old, migrate_there

DECISIONS = 20_000
KILLS = 6


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_killed_migration_is_done_by_the_next(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = str(tmp_path / "capx.db")
    if kind == "postgres":
        place = request.getfixturevalue("postgres_server").url(request.getfixturevalue("postgres_database"))
    make_old(place, DECISIONS)
    chance, killed = random.Random(7), 0
    while killed < KILLS:
        if _was_killed(place, chance.random() * 0.05):
            killed += 1
            with pytest.raises(StoreProblem, match="capx store migrate"):
                open_store(place)
    migrate_there(place)
    store = open_store(place)
    with store.read() as reading:
        assert check_store(reading).position == DECISIONS
        check_index(reading)
        assert reading.indexed_blocks() == DECISIONS // BLOCK
        found = call_page(reading, Query(tenant="tenant 7"), before=DECISIONS + 1, limit=50, each=True)
        assert len(found.groups) == DECISIONS // 1_000
    store.close()


def _was_killed(place: str, after: float) -> bool:
    """Kill a process so many seconds after it has begun to migrate; it must not have come to its end."""
    command = [sys.executable, "-m", "tests.labs.old_stores", place]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"began\n"
        time.sleep(after)
        process.kill()
        assert process.stdout.read() == b""
    return process.returncode < 0
