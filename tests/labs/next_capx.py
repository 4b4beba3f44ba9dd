"""The capx that comes next: its schema has a made-up second version, with a table, indexes and a function more.

`python -m tests.labs.next_capx ARGUMENT …` is its command. In a test, `be_next(monkeypatch)` makes this process one.
"""

import sys
from typing import Final

import pytest

from capx.store.postgres import schema as postgres
from capx.store.sqlite import schema as sqlite

COMMAND: Final = (sys.executable, "-m", "tests.labs.next_capx")
SQLITE: Final = [
    "CREATE TABLE heard (position INTEGER PRIMARY KEY, length INTEGER NOT NULL) STRICT",
    "CREATE INDEX heard_length ON heard (length)",
    "CREATE INDEX heard_hashes ON events (hex(hash), body)",
    "INSERT INTO heard SELECT position, length(body) FROM events",
]
POSTGRES: Final = b"""
CREATE TABLE capx.heard (position bigint PRIMARY KEY, length bigint NOT NULL);
CREATE INDEX heard_length ON capx.heard (length);
INSERT INTO capx.heard SELECT position, length(body) FROM capx.events;
CREATE FUNCTION capx.heard() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT count(*) FROM capx.heard $$;
"""


def be_next(patching: pytest.MonkeyPatch) -> None:
    """Let this process know the second version of both schemas."""
    file, database = sqlite.step, postgres.step

    def of_file(version: int) -> list[str]:
        return SQLITE if version == 2 else file(version)

    def of_database(version: int) -> bytes:
        return POSTGRES if version == 2 else database(version)

    for module, step in ((sqlite, of_file), (postgres, of_database)):
        patching.setattr(module, "VERSION", 2)
        patching.setattr(module, "step", step)


if __name__ == "__main__":
    be_next(pytest.MonkeyPatch())
    from capx_cli.main import main

    main()
