"""Sightings as they are kept in either kind of store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from capx.api.messages.resources import Sighted
from capx.authority.authority import Authority
from capx.server.faces.follower_acks import LATELY, MOST, keep_follower_ack
from capx.store.protocols import Store
from tests.labs.postgres import shared_server
from tests.server.conftest import new_home

NOW = 1_800_000_000


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def authority(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Authority]:
    database = shared_server().database() if request.param == "PostgreSQL" else None
    home = new_home(tmp_path, database and shared_server().url(database))
    with Authority.open_home(home) as authority:
        yield authority
    if database is not None:
        shared_server().give_back(database)


def kept(store: Store) -> list[str]:
    with store.read() as reading:
        return [one.follower for one in reading.follower_acks()]


def test_a_crowd_is_kept_to_its_latest_and_takes_nothing_else(authority: Authority) -> None:
    task = authority.open(allow=["crm.read"])
    authority.complete(task.id)
    store = authority.store
    store.sighted("billing/1", 0, now=NOW)
    for number in range(MOST + 30):
        keep_follower_ack(store, "crm", Sighted(f"crm/{number:03}", 5), now=NOW + number // 10)
    assert kept(store) == ["billing/1", *(f"crm/{number:03}" for number in range(30, MOST + 30))]
    with store.read() as reading:
        assert {one.deaths for one in reading.follower_acks() if one.follower != "billing/1"} == {1}
        assert (reading.head().deaths, reading.head().forgotten) == (1, 0)
        assert reading.death(task.id) is not None
    # Who was not heard of lately is not waited for, and stands in nobody's way.
    keep_follower_ack(store, "crm", Sighted("crm/late", 1), now=NOW + LATELY + 100)
    assert len(kept(store)) == MOST + 2
