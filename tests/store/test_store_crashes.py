"""Killed at any instant: what was answered is there, nothing is half done, and no position is missing."""

import random
import time
from pathlib import Path

import pytest

from capx.store.factory import create_store, open_store
from capx.store.sqlite.store import SQLiteStore
from tests.labs.counts import repeated
from tests.labs.postgres import Server
from tests.labs.writers import Expected, Writer, burnt_again, wait_for_more

KILLS = repeated(200)
WRITERS = 4


def kill_writers(place: str, folder: Path, kills: int) -> None:
    """Start writers and kill them, again and again; nothing that they were told is lost."""
    chance, expected, store = random.Random(kills), Expected(), open_store(place)
    killed = 0
    while killed < kills:
        writers = [Writer(place, killed + number, folder) for number in range(WRITERS)]
        for writer in writers:
            writer.wait_until_it_writes()
        for writer in writers:
            time.sleep(chance.uniform(0, 0.05))
            writer.kill()
        killed += len(writers)
        said = [one for writer in writers for one in writer.said()]
        assert {one["what"] for one in said} > {"ready"} or killed < kills
        expected.demand(store, said)
        assert burnt_again(store, said[-200:]) == []
    expected.demand_nothing_else(store, killed)
    assert expected.problems == 0
    store.close()


@pytest.mark.timeout(300)
def test_a_writer_that_is_killed_loses_nothing_on_sqlite(tmp_path: Path) -> None:
    SQLiteStore.create(tmp_path / "capx.db").close()
    kill_writers(str(tmp_path / "capx.db"), tmp_path, KILLS)


@pytest.mark.timeout(300)
def test_a_writer_that_is_killed_loses_nothing_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    kill_writers(postgres_url, tmp_path, KILLS)


@pytest.mark.timeout(600)
def test_a_server_that_is_killed_under_its_writers_loses_nothing(tmp_path: Path) -> None:
    with Server() as server:
        place = server.url(server.database())
        create_store(place).close()
        writers = [Writer(place, number, tmp_path) for number in range(WRITERS)]
        try:
            for writer in writers:
                writer.wait_until_it_writes()
            chance, answered = random.Random(0), 0
            for _ in range(KILLS):
                answered = wait_for_more(writers, than=answered)
                time.sleep(chance.uniform(0, 0.05))
                server.kill()
                server.start()
        finally:
            for writer in writers:
                writer.kill()
        expected, store = Expected(), open_store(place)
        for writer in writers:
            expected.demand(store, writer.said())
        expected.demand_nothing_else(store, WRITERS)
        assert expected.problems > KILLS / 2
        store.close()
