"""The schema of a PostgreSQL store: one file of SQL statements for each version, `schema_1.sql` and so on.

Laws: a released file never changes. A new store runs all of them, an older one those that it lacks, in one transaction.
Everything is in the PostgreSQL schema `capx`, and PUBLIC has no rights there.

To change the schema, add the file of the next version, which makes the change, and set VERSION. A function that roles
of resources may call and that is dropped takes their rights with it: the file grants them those of the new one.
"""

from importlib.resources import files
from typing import Final

VERSION: Final = 1
"""The version of the schema that this code reads and writes."""

FOR_RESOURCES: Final = (
    "capx.version()",
    "capx.head()",
    "capx.hash_at(bigint)",
    "capx.deaths(bigint, int)",
    "capx.burn(bytea, bigint, bigint, bytea, bigint)",
    "capx.spend(bytea, bytea, text, text, text[], text[], numeric[], numeric[], bigint)",
    "capx.give_back(bytea, bytea, text, text, text, bigint)",
    "capx.spent(text[], text[])",
    "capx.record(bigint[], text[])",
    "capx.sighted(text, bigint, bigint)",
)
"""The functions that the role of a resource may call; it has no rights on tables."""

CLOSED: Final = b"""
REVOKE ALL ON SCHEMA capx FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA capx FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA capx FROM PUBLIC;
"""
"""Runs after the last file, because PostgreSQL lets PUBLIC execute each new function."""


def step(version: int) -> bytes:
    """The statements that make this version from the one before, or from nothing."""
    return files("capx.store.postgres").joinpath(f"schema_{version}.sql").read_bytes()
