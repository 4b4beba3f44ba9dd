"""Roles of resources in a PostgreSQL store."""

from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from capx.store.postgres.role import role_sql
from tests.labs.postgres import Server

Connection = psycopg.Connection[tuple[Any, ...]]


class Roles:
    """Roles of resources, each made by the SQL that an operator runs."""

    def __init__(self, server: Server, database: str) -> None:
        self.server = server
        self.database = database
        self._made: list[str] = []

    def make(self, audience: str, role: str | None = None) -> str:
        name = role or f"{audience}_of_{self.database}"
        with closing(self.server.admin(self.database)) as operator:
            operator.execute(role_sql(audience, name).encode())
        self._made.append(name)
        return name

    def stranger(self) -> str:
        name = f"stranger_of_{self.database}"
        with closing(self.server.admin(self.database)) as operator:
            operator.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(name)))
        self._made.append(name)
        return name

    def url(self, role: str) -> str:
        return self.server.url(self.database, role)

    @contextmanager
    def connected(self, role: str) -> Generator[Connection]:
        with closing(psycopg.connect(autocommit=True, **self.parts(role))) as connection:
            yield connection

    def parts(self, role: str) -> dict[str, Any]:
        return {"dbname": self.database, "user": role, "host": str(self.server.folder), "port": self.server.port}

    def end(self) -> None:
        with closing(self.server.admin(self.database)) as operator:
            for name in self._made:
                operator.execute(SQL("DROP OWNED BY {}").format(Identifier(name)))
                operator.execute(SQL("DROP ROLE {}").format(Identifier(name)))
