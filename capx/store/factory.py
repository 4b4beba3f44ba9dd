"""A store by the text that says where it is: a path, or a URL that begins with `postgresql://`."""

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
# How libpq writes the same without a URL.
_CONNINFO = re.compile(r"\b(?:host|hostaddr|dbname|user|password|service)\s*=")


def is_postgres(place: str) -> bool:
    """Whether the text means a PostgreSQL database; ConfigurationProblem if it means neither that nor a path.

    What is refused is not shown: it may hold a password.
    """
    if place.startswith(_SCHEMES):
        return True
    if "://" in place or _CONNINFO.search(place) or place != place.strip():
        raise ConfigurationProblem(
            "a store is at a path or at postgresql://USER@HOST/DATABASE, and the text given is neither: "
            "it is not shown, for it may hold a password"
        )
    return False


def open_store(place: str) -> Store:
    """The store that is there; StoreProblem if there is none, ConfigurationProblem if its library is not installed."""
    if is_postgres(place):
        return _postgres()(place)
    from capx.store.sqlite.store import SQLiteStore

    return SQLiteStore(place)


def create_store(place: str) -> Store:
    """A new store; StoreProblem if there is one already, ConfigurationProblem if its library is not installed."""
    if is_postgres(place):
        return _postgres().create(place)
    from capx.store.sqlite.store import SQLiteStore

    return SQLiteStore.create(place)


def death_source(place: str) -> DeathSource:
    """What tells of the deaths in the store that is there, or comes to be; ConfigurationProblem as for `open_store`."""
    if is_postgres(place):
        with _explained():
            from capx.store.postgres.death_source import PostgresDeathSource
        return PostgresDeathSource(place)
    from capx.store.sqlite.death_source import SQLiteDeathSource

    return SQLiteDeathSource(place)


def replaceable(place: str, keep: Path | None) -> "Replaceable":
    """The place as one where a backup can take the place of what is there; what a database holds is kept at `keep`."""
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
        if error.name is None or error.name.partition(".")[0] != "psycopg":
            raise
        raise ConfigurationProblem("a store on PostgreSQL needs psycopg: pip install 'capx-auth[postgres]'") from error
