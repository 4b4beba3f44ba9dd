"""A database whose connections are all cut at once; the server is real."""

import time
from collections.abc import Generator
from contextlib import closing, contextmanager

import psycopg

from capx.store.protocols import Store
from tests.labs.postgres import Server
from tests.labs.store_writes import NOW

SECRET = "s3cr3t-and-long"
"""The password of whoever owns the stores of a server that may be killed."""


def name_of(url: str) -> str:
    return url.rpartition("/capx_")[2].partition("?")[0].join(("capx_", ""))


def cut(server: Server, url: str) -> None:
    """Cut all connections to a database."""
    with server.admin() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name_of(url),)
        )


@contextmanager
def admin(server: Server, url: str) -> Generator[psycopg.Connection[tuple[object, ...]]]:
    with closing(server.admin(name_of(url))) as connection:
        connection.execute("SET search_path = capx")
        yield connection


@contextmanager
def within(seconds: float) -> Generator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def kill(store: Store, key: str) -> None:
    with store.write() as transaction:
        event = transaction.append("revoked", b"{}", at=NOW)
        transaction.kill(key, "revoked", at=NOW, position=event.position)
