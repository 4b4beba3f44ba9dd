"""A database whose connections are all cut at once; the server is real."""

from tests.labs.postgres import Server

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
