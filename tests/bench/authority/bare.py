"""The bare store: a table of one column, by the same libraries and with the same promise on each commit."""

import sqlite3
from contextlib import closing
from typing import Any, Final

from capx.store.factory import is_postgres

_TABLE: Final = "CREATE TABLE bare (spent bigint)"


def bare(address: str) -> Any:
    """A connection that commits each statement durably, as the stores do."""
    if is_postgres(address):
        import psycopg

        return psycopg.connect(address, autocommit=True)
    connection = sqlite3.connect(address, isolation_level=None, timeout=5.0)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def make_bare(address: str) -> None:
    """Make the table, in a file that is new or an empty database."""
    with closing(bare(address)) as connection:
        if not is_postgres(address):
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(_TABLE)
