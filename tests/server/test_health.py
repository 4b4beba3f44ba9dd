"""While its store cannot be read, a server says so, and it recovers."""

import asyncio
import subprocess
import sys
import threading

import httpx
import pytest

from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.errors import StoreProblem
from capx.server.app import everybody
from capx.server.metrics import Metrics
from capx.server.service import Service
from tests.labs.serving_process import figure
from tests.labs.waiting import until
from tests.server.conftest import Served


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
