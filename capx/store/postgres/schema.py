"""The tables and functions of a PostgreSQL store, as the steps that lead to them.

Laws: a step that was released never changes. A new store takes all of them, an older one those that it lacks, in one
transaction. Everything is in the schema `capx`, in which PUBLIC may do nothing.
"""

from importlib.resources import files
from typing import Final

VERSION: Final = 1
"""The schema that this code reads and writes."""

FOR_RESOURCES: Final = (
    "capx.version()",
    "capx.head()",
    "capx.hash_at(bigint)",
    "capx.deaths(bigint, int)",
    "capx.burn(bytea, bigint, bigint, bytea, bigint)",
    "capx.spend(text[], text[], numeric[], numeric[], bigint)",
    "capx.spent(text[], text[])",
    "capx.record(bigint[], text[])",
    "capx.sighted(text, bigint, bigint)",
)
"""The functions that a resource may call; it touches no table itself."""

CLOSED: Final = b"""
REVOKE ALL ON SCHEMA capx FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA capx FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA capx FROM PUBLIC;
"""
"""What is said after the last step, for all that is new."""


def migration(version: int) -> bytes:
    """The SQL statements that lead to this version from the one before."""
    return files("capx.store.postgres").joinpath(f"schema_{version}.sql").read_bytes()
