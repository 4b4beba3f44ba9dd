"""Opens or creates a store by its place: a path, or a URL that begins with `postgresql://`.

The stores are imported only when they are used, so that a SQLite store works without psycopg.
"""

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from capx.errors import ConfigurationProblem
from capx.store.protocols import DeathSource, Store

if TYPE_CHECKING:
    from capx.store.postgres.store import PostgresStore
    from capx.store.replace import Replaceable

_SCHEMES = ("postgresql://", "postgres://")
# The other notation of libpq (`host=… password=…`). Taken as a path, it would be shown with its password.
_CONNINFO = re.compile(r"\b(?:host|hostaddr|dbname|user|password|service)\s*=")


def is_postgres(place: str) -> bool:
    """Whether the text is a PostgreSQL URL; ConfigurationProblem if it is neither that nor a path.

    The error does not show the text, because it may hold a password.
    """
    if place.startswith(_SCHEMES):
        return True
    if "://" in place or _CONNINFO.search(place) or place != place.strip():
        raise ConfigurationProblem(
            "the place of a store is a path or a URL such as postgresql://USER@HOST/DATABASE, and this text is neither "
            "(it is not shown, because it may hold a password)"
        )
    return False


def open_store(place: str) -> Store:
    """Open an existing store.

    StoreProblem if there is none, ConfigurationProblem if its library is not installed.
    """
    if is_postgres(place):
        return _postgres()(place)
    from capx.store.sqlite.store import SQLiteStore

    return SQLiteStore(place)


def create_store(place: str) -> Store:
    """Create a new store, and open it.

    StoreProblem if there is one already, ConfigurationProblem if its library is not installed.
    """
    if is_postgres(place):
        return _postgres().create(place)
    from capx.store.sqlite.store import SQLiteStore

    return SQLiteStore.create(place)


def death_source(place: str) -> DeathSource:
    """A source of the deaths in a store, which need not exist yet; ConfigurationProblem as for `open_store`."""
    if is_postgres(place):
        with _explained():
            from capx.store.postgres.death_source import PostgresDeathSource
        return PostgresDeathSource(place)
    from capx.store.sqlite.death_source import SQLiteDeathSource

    return SQLiteDeathSource(place)


def replaceable(place: str, keep: Path | None) -> "Replaceable":
    """The place, for a restoration that replaces what is there; the old content of a database is kept at `keep`."""
    if is_postgres(place):
        with _explained():
            from capx.store.postgres.replace import ReplaceableDatabase
        return ReplaceableDatabase(place, keep)
    from capx.store.sqlite.replace import ReplaceableFile

    return ReplaceableFile(Path(place))


def _postgres() -> "type[PostgresStore]":
    with _explained():
        from capx.store.postgres.store import PostgresStore
    return PostgresStore


@contextmanager
def _explained() -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        # Any other missing module is a broken installation: this advice would not help.
        if error.name is None or error.name.partition(".")[0] != "psycopg":
            raise
        raise ConfigurationProblem("a store on PostgreSQL needs psycopg: pip install 'capx-auth[postgres]'") from error
