"""Both kinds of store, each in a real file or a real database of its own."""

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from capx.store.factory import create_store, is_postgres, open_store
from capx.store.postgres.store import PostgresStore
from capx.store.protocols import Store
from capx.store.sqlite.store import SQLiteStore
from tests.labs.postgres import OWNER, Server, postgres_database, postgres_server, postgres_url, shared_server
from tests.labs.postgres_cuts import SECRET
from tests.labs.restoring import authority, place, saved, service

KINDS = ("sqlite", "postgres")


class Places:
    """Places for stores of one kind."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self._folder = folder
        self._opened: list[Store] = []
        self._databases: list[str] = []

    def empty(self) -> str:
        """A place where a store can be made."""
        if self.kind == "sqlite":
            return str(self._folder / f"{len(list(self._folder.iterdir()))}.db")
        self._databases.append(shared_server().database())
        return shared_server().url(self._databases[-1])

    def create(self) -> Store:
        """A new store."""
        return self._keep(create_store(self.empty()))

    def again(self, store: Store) -> Store:
        """The same store, opened once more."""
        return self._keep(open_store(store.place))

    def tamper(self, store: Store, statement: str) -> None:
        """Change tables behind the store's back."""
        if not is_postgres(store.place):
            with closing(sqlite3.connect(store.place)) as file, file:
                file.execute(statement)
            return
        with self._admin(store) as connection:
            connection.execute(statement.encode())

    def rows(self, store: Store, query: str) -> list[Any]:
        """Read tables behind the store's back."""
        if not is_postgres(store.place):
            with closing(sqlite3.connect(store.place)) as file:
                return file.execute(query).fetchall()
        with self._admin(store) as connection:
            return connection.execute(query.encode()).fetchall()

    @contextmanager
    def _admin(self, store: Store) -> Generator[psycopg.Connection[Any]]:
        database = store.place.rpartition("/capx_")[2].partition("?")[0]
        with shared_server().admin(f"capx_{database}") as connection:
            connection.execute("SET search_path = capx")
            yield connection

    def end(self) -> None:
        for store in self._opened:
            store.close()
        for database in self._databases:
            shared_server().give_back(database)

    def _keep(self, store: Store) -> Store:
        self._opened.append(store)
        return store


@pytest.fixture(params=KINDS)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Places]:
    """Places of one kind, and then of the other."""
    made = Places(request.param, tmp_path)
    yield made
    made.end()


@pytest.fixture
def store(places: Places) -> Store:
    """A new store of one kind, and then of the other."""
    return places.create()


@pytest.fixture
def of_kind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Store]]:
    """What makes a new store of the named kind."""
    with ExitStack() as stack:

        def make(kind: str) -> Store:
            made = Places(kind, tmp_path_factory.mktemp(kind))
            stack.callback(made.end)
            return made.create()

        yield make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a store in SQLite."""
    return tmp_path / "capx.db"


@pytest.fixture
def sqlite_store(path: Path) -> Iterator[SQLiteStore]:
    """A store in a file of its own."""
    made = SQLiteStore.create(path)
    yield made
    made.close()


@pytest.fixture
def postgres_store(postgres_url: str) -> Iterator[PostgresStore]:
    """A store in a database of its own."""
    opened = PostgresStore(postgres_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that may be killed and paused."""
    with Server() as server:
        with server.admin() as connection:
            connection.execute(f"ALTER ROLE {OWNER} PASSWORD '{SECRET}'".encode())
        yield server


@pytest.fixture
def own_url(own: Server) -> str:
    """A store on the server that may be killed and paused."""
    url = own.url(own.database())
    PostgresStore.create(url).close()
    return url


# Fixtures for the whole folder.
__all__ = ["authority", "place", "postgres_database", "postgres_server", "postgres_url", "saved", "service"]
