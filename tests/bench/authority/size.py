"""The bytes that a decision takes of a store's files: its row, and all indexes of the log."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Final

from msgspec import json
from msgspec.structs import replace

from capx import RootKey
from capx.crypto.base64url import b64u
from capx.store.factory import open_store
from capx.store.records import DecisionRecord
from capx.tokens.lineage import unverified_lineage
from capx.verify.args_digest import args_digest
from capx.verify.decision import Decision, decision_id
from tests.bench import workload
from tests.bench.authority.figures import INDEXES, ROW, SIZE, SQLITE, Figure, figure
from tests.bench.authority.places import Places
from tests.bench.findings import Findings

_BATCH: Final = 500
_HOPS: Final = 3


def decisions() -> Iterator[DecisionRecord]:
    """Ever new decisions that allow a call of an agent three hops below its root, as a recorder writes them."""
    now = int(time.time())
    root = RootKey.generate()
    capability = workload.chain_of(_HOPS, root, now)
    # An authority gives its tasks and their roots ids of 22 characters.
    lineage = replace(unverified_lineage(capability), task=b64u(os.urandom(16)), root=b64u(os.urandom(16)))
    key = root.audience_key(workload.AUDIENCE)
    one = Decision(
        id=decision_id(now),
        at=now,
        allowed=True,
        audience=workload.AUDIENCE,
        action=workload.ACTION,
        lineage=lineage,
        presented=os.urandom(16),
        args_digest=args_digest(key, lineage.node, workload.ACTION, workload.ALLOWED),
    )
    # Only the id differs: to make a whole decision takes longer than to record it.
    before, after = json.encode(one.body()).split(one.id.encode())
    while True:
        id_ = decision_id(now)
        yield DecisionRecord(id_, now, before + id_.encode() + after)


def measure_sizes(found: Findings, places: Places) -> Iterator[Figure]:
    """What many decisions add to each store: to the table of the log, and to its indexes."""
    count = 2_000 if found.options.quick else 100_000
    told = found.told(SIZE, len(places.stores))
    for who in places.stores:
        address = places.new(who)
        sizes = _in_sqlite if who == SQLITE else _in_postgres
        table, indexes = sizes(places.new(who))
        with closing(open_store(address)) as store:
            made = islice(decisions(), count)
            while batch := list(islice(made, _BATCH)):
                store.record(batch)
        full_table, full_indexes = sizes(address)
        values = {ROW: (full_table - table) / count, INDEXES: (full_indexes - indexes) / count}
        yield figure(SIZE, who, count, values)
        told()


def _in_sqlite(path: str) -> tuple[int, int]:
    """The bytes of a file without the indexes of the log, and those of these indexes, which are dropped."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:

        def pages(name: str) -> int:
            (count,) = connection.execute(f"PRAGMA {name}").fetchone()
            return int(count)

        size, free = pages("page_size"), pages("freelist_count")
        named = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'events'"
        for (name,) in connection.execute(named).fetchall():
            connection.execute(f"DROP INDEX {name}")
        dropped = pages("freelist_count")
        return (pages("page_count") - dropped) * size, (dropped - free) * size


def _in_postgres(address: str) -> tuple[int, int]:
    import psycopg

    with psycopg.connect(address) as connection:
        row = connection.execute("SELECT pg_table_size('capx.events'), pg_indexes_size('capx.events')").fetchone()
    assert row is not None
    return row[0], row[1]
