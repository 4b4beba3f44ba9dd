"""Stores of the last released schema, with many decisions; and a process that migrates one.

`python -m tests.labs.old_stores PLACE` says `began`, migrates the store there, and says `done`.
"""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg

from capx.crypto.base64url import b64u
from capx.store.factory import is_postgres
from capx.store.log import START, Event, Place, following
from capx.store.postgres.schema import CLOSED, migration
from capx.store.postgres.store import migrate as migrate_database
from capx.store.sqlite.connection import APPLICATION
from capx.store.sqlite.connection import migrate as migrate_file
from capx.store.sqlite.schema import MIGRATIONS
from tests.labs.store_writes import unmarked

SQLITE, POSTGRES = 6, 7
"""The last released schema of each store."""
EPOCH = "AAAAAAAAAAAAAAAAAAAAAA.1700000000"


def _decided(count: int) -> Iterator[Event]:
    place = START
    for nth in range(count):
        task = b64u((nth // 10).to_bytes(16))
        body = (
            f'{{"id":"d.{nth:022}","outcome":"allowed","at":{1_700_000_000 + nth},"audience":"crm","action":"crm.read",'
            f'"tenant":"tenant {nth % 1_000}","task":"{task}","hops":["planner","agent {nth % 50}"],"path":["{task}"]}}'
        )
        event = following(place, at=1_700_000_000 + nth, kind="decision", body=body.encode())
        place = Place(event.position, event.hash)
        yield event


def make_old(place: str, decisions: int) -> None:
    """Make a store of the last released schema, at a path or a URL, with so many decisions in its log."""
    events = list(_decided(decisions))
    (make_database if is_postgres(place) else make_file)(place, events)


def make_file(path: str, events: list[Event]) -> None:
    """Make one in a file."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript("".join(MIGRATIONS[:SQLITE]))
        rows = ((one.position, one.at, one.kind, one.body.decode(), one.hash) for one in events)
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
        connection.execute("INSERT INTO head VALUES (1, ?, ?, ?, 0, 0)", (EPOCH, len(events), events[-1].hash))
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SQLITE}")
        connection.commit()


def make_database(url: str, events: list[Event]) -> None:
    """Make one in an empty database."""
    with contextlib.closing(psycopg.connect(url)) as connection:
        for step in range(1, POSTGRES + 1):
            connection.execute(migration(step))
        connection.execute(CLOSED)
        into = b"COPY capx.events (position, at, kind, body, hash, decision, audience, task) FROM STDIN"
        with connection.cursor().copy(into) as copy:
            for one in events:
                facts = one.facts()
                named = facts["id"], facts["audience"], facts["task"]
                copy.write_row((one.position, one.at, one.kind, one.body.decode(), one.hash, *named))
        head = (EPOCH, len(events), events[-1].hash)
        connection.execute("INSERT INTO capx.head VALUES (1, %s, %s, %s, 0, 0)", head)
        connection.commit()


def migrate_there(place: str) -> tuple[int, int]:
    """Migrate the store at a path or a URL, without marks."""
    return migrate_database(place, unmarked) if is_postgres(place) else migrate_file(Path(place), unmarked)


if __name__ == "__main__":
    os.write(1, b"began\n")
    migrate_there(sys.argv[1])
    os.write(1, b"done\n")
