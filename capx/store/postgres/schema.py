"""The tables and functions of a PostgreSQL store, as a list of migration steps.

Laws: the statements of a released step never change. A new store runs all steps, an older one the steps that it lacks,
in one transaction. Everything is in the schema `capx`, and PUBLIC has no rights there.
"""

from importlib.resources import files
from typing import Final

VERSION: Final = 9
"""The version of the schema that this code reads and writes."""

MARKED: Final = 8
"""The first version whose rows bear marks."""

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
"""Runs after the last step, because PostgreSQL lets PUBLIC execute each new function."""


def migration(version: int) -> bytes:
    """The SQL statements of the step to this version from the one before."""
    return files("capx.store.postgres").joinpath(f"schema_{version}.sql").read_bytes()
