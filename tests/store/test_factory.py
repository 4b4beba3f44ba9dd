"""Where a store is: URLs that are taken, and no password that is shown."""

import re
import subprocess
import sys
from contextlib import closing
from urllib.parse import quote

import pytest

from capx.errors import ConfigurationProblem, StoreProblem
from capx.store.factory import open_store
from capx.store.postgres.death_source import PostgresDeathSource
from capx.store.postgres.store import PostgresStore
from tests.labs.postgres import OWNER, Server
from tests.labs.postgres_cuts import SECRET, name_of


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ana:hidden@db.example:5433/capx?sslmode=require", "postgresql://ana@db.example:5433/capx"),
        ("postgresql://ana@h1,h2/capx?password=hidden", "postgresql://ana@h1,h2/capx"),
        (
            "postgres:///capx?host=/run/pg&port=5433&user=ana&password=hidden",
            "postgresql://ana@/capx?host=/run/pg&port=5433",
        ),
        ("postgresql://a%40b:hid%20den@h/c%2Fd", "postgresql://a%40b@h/c%2Fd"),
        ("postgresql://", "postgresql:///"),
    ],
)
def test_a_place_is_shown_without_its_password(url: str, shown: str) -> None:
    assert repr(PostgresDeathSource(url)) == f"PostgresDeathSource({shown!r})"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ana:{SECRET}@h:port/capx",
        f"postgresql://ana:{SECRET}@h/capx?no_such_option=1",
        f"postgresql://ana:{SECRET}@[h/capx",
        f"postgresql://ana:{SECRET}%zz@h/capx",
        f"postgresql://ana:{SECRET}@127.0.0.1:1/capx",
        f"postgresql://ana:{SECRET}@no-such-host.invalid/capx",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    command = [sys.executable, "-c", "import sys; from capx.store.factory import *; open_store(sys.argv[1])", url]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert failed.returncode == 1
    assert re.search(r"^capx\.errors\.(ConfigurationProblem|Unavailable): ", failed.stderr, re.MULTILINE)
    assert SECRET not in failed.stderr


@pytest.mark.parametrize(
    "rest",
    [
        "ana:s3cr@{}@127.0.0.1:1/capx",
        "ana:{}/et@127.0.0.1/capx",
        "ana:s3/{}@127.0.0.1/capx",
        "ana:{}?et@127.0.0.1/capx",
        "ana:s3?{}=x@127.0.0.1/capx",
        "ana:s3#{}@127.0.0.1/capx",
        "s3@{}:x@127.0.0.1/capx",
        "ana@127.0.0.1/{}@x",
        "ana@127.0.0.1:{}@x/capx",
        "/capx?password={}@x",
    ],
)
def test_a_password_readable_as_another_part_is_refused_unseen(rest: str) -> None:
    for scheme in ("postgresql", "postgres"):
        with pytest.raises(ConfigurationProblem, match="%40") as caught:
            PostgresDeathSource(f"{scheme}://{rest.format(SECRET)}")
        assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


@pytest.mark.parametrize("rest", ["ana:{}/capx", "ana:{}", "ana:{},h2:1/capx", "/capx?port={}"])
def test_a_password_without_a_host_is_no_port(rest: str) -> None:
    with pytest.raises(ConfigurationProblem, match="is not a PostgreSQL URL") as caught:
        PostgresDeathSource(f"postgresql://{rest.format(SECRET)}")
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


def test_what_is_written_as_percents_is_meant(own: Server, own_url: str) -> None:
    password = "a/b?c#d@e:f%g"
    role = f"special_{name_of(own_url)}"
    with closing(own.admin()) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
    with pytest.raises(StoreProblem, match="does not know the role"):
        PostgresStore(own.tcp_url(name_of(own_url), role, quote(password, safe="")))


def test_a_wrong_password_is_told_without_showing_it(own: Server, own_url: str) -> None:
    PostgresStore(own.tcp_url(name_of(own_url), OWNER, SECRET)).close()
    with pytest.raises(StoreProblem, match=r"cannot be reached|does not let this role in") as caught:
        PostgresStore(own.tcp_url(name_of(own_url), OWNER, "wr0ng-one"))
    assert "wr0ng-one" not in f"{caught.value} {caught.value.__cause__}"


def test_a_database_that_is_not_there_is_told(postgres_server: Server) -> None:
    with pytest.raises(StoreProblem, match="does not exist"):
        PostgresStore(postgres_server.url("nowhere"))


def test_without_psycopg_one_is_told_what_to_install() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None; from capx.store.factory import *; open_store('postgresql://h/d')"
    )
    failed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "ConfigurationProblem" in failed.stderr
    assert "pip install 'capx-auth[postgres]'" in failed.stderr


def test_what_is_no_postgresql_url_is_told() -> None:
    with pytest.raises(ConfigurationProblem, match="postgresql://USER@HOST"):
        open_store("postgresql://h/d?no_such_option=1")
