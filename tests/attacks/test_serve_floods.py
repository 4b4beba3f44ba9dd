"""Strangers, or one caller, who flood `capx serve`: all others go on, and nothing that was decided is lost.

In `make nightly`, every kind of flood runs alone, and all together. By day, all run together until each caller has had
some answers.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from capx.api import resource_auth
from capx.authority.remote.client import RemoteAuthority
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from capx.tokens.binding import HttpRequest
from tests.labs.commands import plain_environment
from tests.labs.counts import NIGHTLY
from tests.labs.flooding import strangers_at
from tests.labs.office import Office
from tests.labs.people import People
from tests.labs.strangers import AUTHORITY, REPLAYED
from tests.labs.waiting import until
from tests.resource.test_spool import SERVICE, decided, logged
from tests.server.conftest import serving

CALLS = 100 if NIGHTLY else 8
EVERY = tuple(AUTHORITY)
FLOODS = [(kind,) for kind in EVERY] + [EVERY] if NIGHTLY else [EVERY]
MOST_TIMES = 5.0 if NIGHTLY else 25.0
"""How much longer than alone a caller may take. By day, other tests run meanwhile."""
MOST_TIMES_BESIDE_ONE = 20.0 if NIGHTLY else 50.0
"""The same beside one proven caller with hundreds of connections, which waits in the same queue as the others."""
REVOKED_WITHIN = 1.0 if NIGHTLY else 8.0
LINUX = pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has so many addresses of its own")


class Callers:
    """A person, a resource and an agent at one authority, and an operator with a follower; from one address."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.http = httpx.Client(base_url=people.origin, trust_env=False, timeout=60)
        self.operator = RemoteAuthority(people.served.place)
        keys = people.served.keys("crm")
        self.key = keys.live[0]
        self.follower = Follower(FeedSource(people.origin, keys.feed, proven_by=keys))
        self.follower.start()
        self.bundle = self.operator.open(allow=["crm.read"]).bundle

    def close(self) -> None:
        self.follower.close()
        self.operator.close()
        self.http.close()

    def person(self) -> None:
        """Read the first page of one's tasks."""
        target = "/people/tasks"
        proof = self.people.proof(self.people.office.ana, "GET", target)
        self._answered(self.http.get(target, headers={"authorization": proof}))

    def resource(self) -> None:
        """Report how much one knows, as each service does."""
        body = b'{"follower":"crm","deaths":0}'
        proof = resource_auth.prove(self.key, method="POST", target="/sighted", body=body, at=int(time.time()))
        self._answered(self.http.post("/sighted", content=body, headers={"authorization": proof}))

    def agent(self) -> None:
        """Ask how one's task is."""
        request = HttpRequest(method="GET", target="/agent/status", body=b"")
        shown = self.bundle.present("authority", request).authorization
        self._answered(self.http.get("/agent/status", headers={"authorization": shown}))

    def stranger(self) -> None:
        """Ask whether the authority lives."""
        self._answered(self.http.get("/healthz"))

    def head_of(self, who: str) -> str:
        """The head of a request of another person, agent or resource."""
        method, target, body = ("POST", "/sighted", b"{}") if who == "resource" else ("GET", "/agent/status", b"")
        if who == "person":
            target = "/people/tasks"
            proof = self.people.proof(self.people.office.ben, "GET", target)
            self._answered(self.http.get(target, headers={"authorization": proof}))
        elif who == "agent":
            other = self.operator.open(allow=["crm.read"]).bundle
            proof = other.present("authority", HttpRequest(method=method, target=target, body=body)).authorization
        else:
            key = self.people.served.keys("warehouse").live[0]
            proof = resource_auth.prove(key, method=method, target=target, body=body, at=int(time.time()))
        content = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
        return f"{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: {proof}\r\n{content}\r\n{body.decode()}"

    def revocation(self) -> None:
        """Revoke a task, until the follower knows of it."""
        task, known = self.operator.open(allow=["crm.read"]).id, len(self.follower.deaths)
        self.operator.revoke(task)
        until(lambda: len(self.follower.deaths) > known, seconds=60)

    def _answered(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text

    def medians(self, calls: int, last: Callable[[], None] | None = None) -> dict[str, float]:
        """How long each takes, in seconds; they take turns."""
        kinds: tuple[Callable[[], None], ...] = self.person, self.resource, self.agent, last or self.revocation
        took: dict[str, list[float]] = {kind.__name__: [] for kind in kinds}
        for _ in range(calls):
            for kind in kinds:
                began = time.perf_counter()
                kind()
                took[kind.__name__].append(time.perf_counter() - began)
        return {name: statistics.median(times) for name, times in took.items()}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    office = Office(tmp_path_factory.mktemp("office"))
    with serving(office.home) as served:
        yield People(office, served)


@LINUX
@pytest.mark.parametrize("addresses", [1, 4] if NIGHTLY else [4])
@pytest.mark.parametrize("connections", [64, 552] if NIGHTLY else [552])
@pytest.mark.parametrize("kinds", FLOODS, ids=lambda kinds: "all" if kinds == EVERY else kinds[0])
@pytest.mark.timeout(600)
def test_strangers_keep_no_proven_caller_waiting(
    people: People, kinds: tuple[str, ...], connections: int, addresses: int
) -> None:
    with closing(Callers(people)) as callers:
        callers.medians(3)
        alone = callers.medians(CALLS)
        kid = callers.key.kid
        with strangers_at(people.origin, kinds, addresses, connections=connections, kid=kid):
            time.sleep(1)
            flooded = callers.medians(CALLS)
    ratios = {name: flooded[name] / alone[name] for name in alone}
    assert flooded["revocation"] < REVOKED_WITHIN, (alone, flooded)
    assert max(ratios.values()) < MOST_TIMES, (alone, flooded)


@LINUX
@pytest.mark.parametrize("who", ["person", "agent", "resource"] if NIGHTLY else ["person", "agent"])
@pytest.mark.timeout(300)
def test_one_caller_keeps_nobody_waiting(people: People, who: str) -> None:
    with closing(Callers(people)) as callers:
        callers.medians(3, callers.stranger)
        alone = callers.medians(CALLS, callers.stranger)
        with strangers_at(people.origin, tuple(REPLAYED), 1, connections=600, head=callers.head_of(who)):
            time.sleep(1)
            flooded = callers.medians(CALLS, callers.stranger)
    assert max(flooded[name] / alone[name] for name in alone) < MOST_TIMES_BESIDE_ONE, (alone, flooded)


@LINUX
@pytest.mark.timeout(300)
def test_a_service_that_ends_in_a_flood_loses_no_decision(people: People, tmp_path: Path) -> None:
    key = people.served.keys("crm")
    key.save(tmp_path / "crm.keys")
    services: list[subprocess.Popen[str]] = []
    ids: list[str] = []
    with strangers_at(people.origin, EVERY, 4, connections=552, kid=key.live[0].kid):
        for ends in ("by itself", "SIGTERM"):
            spool = tmp_path / ends
            spool.mkdir(mode=0o700)
            count, pause = ("300", "0.001") if ends == "by itself" else ("100000", "0.001")
            arguments = (str(tmp_path / "crm.keys"), people.origin, str(spool), count, pause)
            service = subprocess.Popen(
                (sys.executable, "-c", SERVICE, *arguments),
                env=plain_environment(),
                stdout=subprocess.PIPE,
                text=True,
            )
            services.append(service)
        time.sleep(3)
        services[1].terminate()
        for service in services:
            ids += decided(service.communicate(timeout=120)[0])
    assert len(ids) > 300
    with RemoteAuthority(people.served.place) as remote:
        assert not set(ids) - set(logged(remote))
