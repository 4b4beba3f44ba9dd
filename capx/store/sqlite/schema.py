"""The schema of a SQLite store: one file of SQL statements for each version, `schema_1.sql` and so on.

Laws: a released file never changes, because a restoration compares the schema of a file with what these files make. A
new store runs all of them, an older one those that it lacks, in one transaction.

To change the schema, add the file of the next version, which makes the change, and set VERSION.
"""

from importlib.resources import files
from typing import Final

VERSION: Final = 1
"""The version of the schema that this code reads and writes."""


def step(version: int) -> list[str]:
    """The statements that make this version from the one before, or from nothing; each ends at the end of a line."""
    text = files("capx.store.sqlite").joinpath(f"schema_{version}.sql").read_text("utf-8")
    return text.strip().split(";\n")
