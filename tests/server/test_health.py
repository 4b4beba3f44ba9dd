"""While its store cannot be read, a server says so, and it recovers."""

import asyncio
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import StoreProblem
from capx.resource.feed.reader import PageReader
from capx.server.app import everybody
from capx.server.metrics import Metrics
from capx.server.service import Service
from capx.store.continuity import LONG_UNCONFIRMED
from capx.store.postgres.store import PostgresStore
from capx.store.sqlite.store import SQLiteStore
from tests.labs.postgres import Server
from tests.labs.postgres_cuts import admin, name_of
from tests.labs.read_only import mounted_read_only
from tests.labs.replicated import Replicated
from tests.labs.serving_process import figure
from tests.labs.small_disk import fill, small_disk
from tests.labs.waiting import until
from tests.server.conftest import Served, new_home, serving

RING = KeyRing(RootKey(bytes(range(32))))


def test_while_the_store_cannot_be_read_it_says_so_and_recovers(served: Served) -> None:
    store, away = served.home / "capx.db", served.home / "away.db"
    with served.everybody() as client, RemoteAuthority(served.place) as remote:
        assert client.get("/readyz").json()["position"] == 0
        until(lambda: figure(served, "capx_store_readable") == 1)
        store.rename(away)
        with pytest.raises(StoreProblem):
            remote.tasks()
        until(lambda: client.get("/readyz").status_code == 503)
        problem = client.get("/readyz")
        assert problem.headers["content-type"] == "application/problem+json"
        assert problem.headers["retry-after"] == "1"
        assert client.get("/feed").status_code == 503
        assert client.get("/healthz").status_code == 200
        until(lambda: figure(served, "capx_store_readable") == 0)
        away.rename(store)
        until(lambda: client.get("/readyz").status_code == 200)
        assert remote.tasks() == []


def test_on_a_full_disk_it_says_so_and_recovers(served: Served) -> None:
    """The process may make no file longer than its `-wal` is, as on a disk that is full."""
    wal, before = served.home / "capx.db-wal", resource.getrlimit(resource.RLIMIT_FSIZE)
    with served.everybody() as client, RemoteAuthority(served.place) as remote:
        assert client.get("/readyz").json()["position"] == 0
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (wal.stat().st_size, before[1]))
        until(lambda: client.get("/readyz").status_code == 503)
        with pytest.raises(StoreProblem):
            remote.open(allow=["crm.read"])
        assert client.get("/readyz").json()["detail"]
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, before)
        until(lambda: client.get("/readyz").status_code == 200)
        # What it wrote to learn that is no event.
        assert client.get("/readyz").json()["position"] == 0


def test_on_a_disk_without_room_it_is_not_ready(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk, Authority(SQLiteStore.create(disk / "capx.db"), RING) as authority:
        assert readiness(authority) == 200
        filler = fill(disk)
        # A page may have room left.
        until(lambda: readiness(authority) == 503)
        filler.unlink()
        assert readiness(authority) == 200


def test_on_a_read_only_file_it_is_not_ready(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir(0o700)
    SQLiteStore.create(folder / "capx.db").close()
    with mounted_read_only(folder) as there, Authority(SQLiteStore(there / "capx.db"), RING) as authority:
        assert readiness(authority) == 503


def test_on_a_read_only_database_it_is_not_ready(postgres_server: Server, postgres_url: str) -> None:
    with admin(postgres_server, postgres_url) as connection:
        connection.execute(f"ALTER DATABASE {name_of(postgres_url)} SET default_transaction_read_only = on".encode())
    with Authority(PostgresStore(postgres_url), RING) as authority:
        assert readiness(authority) == 503


def test_a_database_without_room_is_not_ready(postgres_server: Server, postgres_url: str) -> None:
    with (
        admin(postgres_server, postgres_url) as connection,
        Authority(PostgresStore(postgres_url), RING) as authority,
        authority.store.beating(),
    ):
        assert readiness(authority) == 200
        connection.execute(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
        )
        connection.execute("CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON probe EXECUTE FUNCTION no_room()")
        assert readiness(authority) == 503
        connection.execute("DROP TRIGGER no_room ON probe")
        assert readiness(authority) == 200


def test_nobody_can_make_it_write_twice_a_second(served: Served) -> None:
    with served.everybody() as client:
        began = time.monotonic()
        for _ in range(200):
            assert client.get("/readyz").status_code == 200
        lasted = time.monotonic() - began
    with closing(sqlite3.connect(served.home / "capx.db")) as file:
        ((times,),) = file.execute("SELECT times FROM probe")
    assert 1 <= times <= lasted + 1


def test_a_log_that_was_changed_is_told_as_that(served: Served) -> None:
    with RemoteAuthority(served.place) as remote:
        remote.open(allow=["crm.read"])
        script = "UPDATE events SET body = '{}' WHERE position = 2"
        subprocess.run(
            (sys.executable, "-c", f"import sqlite3; c=sqlite3.connect('capx.db'); c.execute({script!r}); c.commit()"),
            cwd=served.home,
            check=True,
            timeout=30,
        )
        with pytest.raises(StoreProblem, match="the log is broken at position 2") as broken:
            remote.check()
        assert (type(broken.value).__name__, getattr(broken.value, "position", None)) == ("BrokenLog", 2)


def readiness(authority: Authority) -> int:
    """The status of `/readyz` of a service that was not asked before."""

    async def asked() -> int:
        transport = httpx.ASGITransport(everybody(Service(authority)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return (await client.get("/readyz")).status_code

    return asyncio.run(asked())


def test_whoever_scrapes_keeps_no_readiness_check_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    ends, scraped = threading.Event(), list[int]()

    def slow(metrics: Metrics) -> bytes:
        scraped.append(1)
        ends.wait(20)
        return b"figures"

    monkeypatch.setattr(Metrics, "text", slow)

    async def run(authority: Authority) -> None:
        transport = httpx.ASGITransport(everybody(Service(authority)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            scrapes = [asyncio.create_task(client.get("/metrics")) for _ in range(300)]
            ready = await asyncio.gather(*(client.get("/readyz") for _ in range(300)))
            assert not any(scrape.done() for scrape in scrapes)
            ends.set()
            texts = await asyncio.gather(*scrapes)
        assert {answer.status_code for answer in (*ready, *texts)} == {200}
        assert {answer.content for answer in texts} == {b"figures"}
        assert len(scraped) == 1

    with Authority.temporary() as authority:
        asyncio.run(run(authority))


def test_it_is_as_ready_as_its_standby_confirms(tmp_path: Path) -> None:
    with (
        Replicated() as nodes,
        serving(new_home(tmp_path, nodes.url(nodes.primary.database()))) as served,
        served.everybody() as client,
    ):
        feed = served.keys("crm").feed

        def page_age() -> float:
            text = client.get("/feed", headers={"accept": "application/json"}).text
            news = PageReader(feed).take(text.strip(), now=time.time())
            assert news is not None
            assert news.at is not None
            return time.time() - news.at

        assert client.get("/readyz").json()["standbys"] == {"waited_for": 1, "listed": 1}
        assert page_age() < 2
        nodes.pause_replication()
        paused = time.time()
        until(lambda: client.get("/readyz").status_code == 503, seconds=LONG_UNCONFIRMED + 5)
        # Its pages come, and are as old as the last write.
        assert page_age() > time.time() - paused - 0.1
        nodes.resume_replication()
        until(lambda: client.get("/readyz").status_code == 200, seconds=15)
        until(lambda: page_age() < 2, seconds=5)
