"""A store by the text that says where it is: a path, or a URL that begins with `postgresql://`."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from capx.errors import ConfigurationProblem
from capx.store import DeathSource, Store

if TYPE_CHECKING:
    from capx.store.postgres import PostgresStore

_SCHEMES = ("postgresql://", "postgres://")


def is_postgres(place: str) -> bool:
    """Whether the text means a PostgreSQL database."""
    return place.startswith(_SCHEMES)


def open_store(place: str) -> Store:
    """The store that is there; StoreProblem if there is none, ConfigurationProblem if its library is not installed."""
    if is_postgres(place):
        return _postgres()(place)
    from capx.store.sqlite import SQLiteStore

    return SQLiteStore(place)


def create_store(place: str) -> Store:
    """A new store; StoreProblem if there is one already, ConfigurationProblem if its library is not installed."""
    if is_postgres(place):
        return _postgres().create(place)
    from capx.store.sqlite import SQLiteStore

    return SQLiteStore.create(place)


def death_source(place: str) -> DeathSource:
    """What tells of the deaths in the store at a place, whether or not there is one yet; ConfigurationProblem as above."""
    if is_postgres(place):
        with _explained():
            from capx.store.postgres_news import PostgresNews
        return PostgresNews(place)
    from capx.store.sqlite_news import SQLiteNews

    return SQLiteNews(place)


def _postgres() -> "type[PostgresStore]":
    with _explained():
        from capx.store.postgres import PostgresStore
    return PostgresStore


@contextmanager
def _explained() -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "psycopg":
            raise
        raise ConfigurationProblem("a store on PostgreSQL needs psycopg: pip install 'capx-auth[postgres]'") from error
