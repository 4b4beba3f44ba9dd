"""The machine of the database is lost, or cut off: nothing answered is lost, and nothing is allowed that has ended."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from capx.authority.authority import Authority
from capx.authority.home import PLACE
from capx.authority.people.client import PersonClient
from capx.errors import CapxError
from capx.resource.connection import Connection, connect
from capx.store.check import check_store
from capx.store.factory import open_store
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.decision import Denied
from capx_caveats import Call, fresh
from tests.labs.commands import plain_environment, run_command
from tests.labs.counts import NIGHTLY, nightly
from tests.labs.office import Office
from tests.labs.postgres import faketime
from tests.labs.replicated import Replicated, cancel_waits
from tests.labs.waiting import eventually, until
from tests.labs.writers import Expected, Writer, answered, burnt_again, wait_for_more
from tests.server.conftest import Served, new_home, serving

if TYPE_CHECKING:
    from capx.authority.people.messages import Inbox

MAX_STALENESS = 3.0
CALL, RECEIVED = Call("crm.read"), ToolCall("crm.read")


class Site:
    """An authority at a database with a standby, and whatever else a test opens."""

    def __init__(self, folder: Path, nodes: Replicated, opened: ExitStack) -> None:
        self.folder, self.nodes, self._opened = folder, nodes, opened
        self.database = nodes.primary.database()
        self.home = new_home(folder, nodes.url(self.database))

    def serve(self) -> Served:
        return self._opened.enter_context(serving(self.home))

    def service(self, **place: str) -> Connection:
        with Authority.open_home(self.home) as authority:
            keys = authority.keyring.exported("crm")
        made = connect(keys, max_staleness=MAX_STALENESS, **place)  # type: ignore[arg-type]
        self._opened.callback(made.close)
        return made

    @contextmanager
    def at_the_new_primary(self) -> Iterator[Authority]:
        """The authority as somebody opens it who reaches the new primary."""
        there = self.folder / "there"
        shutil.copytree(self.home, there, ignore=shutil.ignore_patterns("*.sock"))
        (there / PLACE).write_text(self.nodes.primary.url(self.database))
        with Authority.open_home(there) as authority:
            yield authority


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Replicated() as nodes, ExitStack() as opened:
        yield Site(tmp_path, nodes, opened)


def is_allowed(service: Connection, bundle: Bundle) -> bool:
    try:
        service.verifier().verify(bundle.present("crm", RECEIVED).text, RECEIVED, CALL)
    except Denied:
        return False
    return True


def ages_of(service: Connection) -> list[float]:
    """How old its knowledge is in the seconds after it has heard news."""
    until(lambda: service.liveness.age() < 2, seconds=20)
    ages = list[float]()
    for _ in range(100):
        ages.append(service.liveness.age())
        time.sleep(0.1)
    return ages


# Cut off


@pytest.mark.parametrize("place", ["store", "feed"])
def test_nothing_that_ended_is_allowed_beside_an_old_primary(site: Site, place: str) -> None:
    served = site.serve()
    url = site.nodes.url(site.database) if place == "store" else served.url
    service = site.service(**{place: url})
    with Authority.open_home(site.home) as authority:
        ending, living = (authority.open(allow=["crm.read"]) for _ in range(2))
    # On the feed, it cannot tell at first whether something was presented before it started.
    until(lambda: is_allowed(service, ending.bundle), seconds=10)
    site.nodes.cut_off()
    with site.at_the_new_primary() as there:
        there.complete(ending.id)
    ended, allowed = time.monotonic(), []
    while time.monotonic() < ended + MAX_STALENESS + 3:
        if is_allowed(service, ending.bundle):
            allowed.append(time.monotonic() - ended)
        time.sleep(0.05)
    assert max(allowed, default=0) < MAX_STALENESS + 1
    with httpx.Client(base_url=served.url, trust_env=False) as http:
        until(lambda: http.get("/readyz").status_code == 503, seconds=10)
        # By itself, it goes on at the new one.
        site.nodes.address.lead_to(site.nodes.primary)
        until(lambda: is_allowed(service, living.bundle), seconds=20)
        assert not is_allowed(service, ending.bundle)
        until(lambda: http.get("/readyz").status_code == 200, seconds=20)


def test_an_authority_answers_nothing_at_an_old_primary(site: Site) -> None:
    with Authority.open_home(site.home) as authority:
        site.nodes.cut_off()
        with pytest.raises(CapxError, match=r"has confirmed no write|it may have"):
            authority.open(allow=["crm.read"])


@nightly
def test_with_more_standbys_than_a_commit_waits_for_it_warns(tmp_path: Path) -> None:
    """What no check of capx can bound: the old primary goes on together with a standby that it may count."""
    with Replicated(standbys=2, waits_for="FIRST 1 ({names})") as nodes, ExitStack() as opened:
        site = Site(tmp_path, nodes, opened)
        service = site.service(store=nodes.url(site.database))
        with Authority.open_home(site.home) as authority:
            task = authority.open(allow=["crm.read"])
        until(lambda: is_allowed(service, task.bundle), seconds=10)
        said = run_command("doctor", "--json", env={**plain_environment(), "CAPX_HOME": str(site.home)})
        assert b"1 of 2 standbys: if the primary is cut off together with one of them" in said.stdout
        old = nodes.cut_off()
        with site.at_the_new_primary() as there:
            there.complete(task.id)
        time.sleep(MAX_STALENESS + 2)
        assert is_allowed(service, task.bundle)
        # The fence: somebody ends it.
        old.kill()
        until(lambda: not is_allowed(service, task.bundle), seconds=MAX_STALENESS + 1)
        nodes.address.lead_to(nodes.primary)
        until(lambda: service.liveness.age() < MAX_STALENESS, seconds=20)
        assert not is_allowed(service, task.bundle)


@nightly
def test_a_person_hears_from_the_new_primary(tmp_path: Path) -> None:
    with Replicated() as nodes, ExitStack() as opened:
        office = Office(tmp_path, store=nodes.url(nodes.primary.database()))
        served = opened.enter_context(serving(office.home))
        with Authority.open_home(office.home) as authority:
            task = authority.open(office.signed(authority))
            person = PersonClient(served.url, office.ben, known=tmp_path / "known", trust=authority.id)
            heard = Heard(opened.enter_context(person))
            until(lambda: heard.inboxes and not heard.inboxes[-1].items)
            nodes.cut_off()
            nodes.address.lead_to(nodes.primary)
            until(lambda: asked(authority, task.bundle), seconds=30)
            until(lambda: heard.inboxes[-1].items, seconds=30)


@pytest.mark.parametrize("place", ["store", "feed"])
@nightly
def test_an_idle_service_is_as_fresh_as_three_seconds(site: Site, place: str) -> None:
    served = site.serve()
    service = site.service(**{place: site.nodes.url(site.database) if place == "store" else served.url})
    with Authority.open_home(site.home) as authority:
        task = authority.open(allow=["crm.read"])
    bundle = task.bundle.attenuate(fresh("3s"))
    until(lambda: is_allowed(service, bundle), seconds=10)
    assert max(ages_of(service)) < 3
    assert is_allowed(service, bundle)


@nightly
@pytest.mark.skipif(faketime() is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("clock", [-5, 5])
def test_clocks_of_the_nodes_change_no_age(tmp_path: Path, clock: int) -> None:
    with Replicated(clock=clock) as nodes, ExitStack() as opened:
        with closing(nodes.primary.admin()) as connection:
            (theirs,) = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone() or (0,)
        assert clock - 1 < float(theirs) - time.time() < clock + 1
        site = Site(tmp_path, nodes, opened)
        services = [site.service(store=nodes.url(site.database)), site.service(feed=site.serve().url)]
        for before in (True, False):
            for service in services:
                assert max(ages_of(service)) < MAX_STALENESS
            if before:
                # The other node has another clock. Let them find it.
                nodes.kill()
                time.sleep(MAX_STALENESS + 3)


# Killed


KILLS = 20 if NIGHTLY else 1
WRITERS = 2


@pytest.mark.timeout(60 + 60 * KILLS)
def test_nothing_answered_is_lost_with_a_machine(site: Site) -> None:
    served = site.serve()
    url = site.nodes.url(site.database)
    services = [site.service(store=url), site.service(feed=served.url)]
    writers = [Writer(url, number, site.folder) for number in range(WRITERS)]
    callers = Callers(site, services)
    try:
        for writer in writers:
            writer.wait_until_it_writes()
        callers.start()
        for kill in range(KILLS):
            if kill:
                site.nodes.follow()
            for _ in range(20):
                wait_for_more(writers, than=answered(writers))
            callers.wait_for_more()
            site.nodes.kill()
            wait_for_more(writers, than=answered(writers))
            callers.wait_for_more()
        callers.stop()
    finally:
        callers.over.set()
        for writer in writers:
            writer.kill()
    assert served.process.poll() is None
    said = [one for writer in writers for one in writer.said()]
    problems = callers.problems + [one["says"] for one in said if one["what"] == "problem"]
    assert {problem for problem in problems if not _is_told_well(problem)} == set()
    with closing(open_store(url)) as store:
        Expected().demand(store, said)
        assert burnt_again(store, said[-200:]) == []
        with store.read() as reading:
            check_store(reading)
            states = {task.id: task.state for task in reading.tasks()}
    assert {states.get(task) for task in callers.ended} == {"completed"}
    assert callers.allowed_when_ended == []
    # No presentation passes twice.
    for text in callers.passed:
        with pytest.raises(Denied) as denied:
            services[0].verifier().verify(text, RECEIVED, CALL)
        assert denied.value.code in {"replayed", "call_window", "task_completed", "expired"}


@nightly
def test_no_cancelled_wait_was_answered_as_done(tmp_path: Path) -> None:
    with Replicated(standbys=2) as nodes, ExitStack() as opened:
        site = Site(tmp_path, nodes, opened)
        url = nodes.url(site.database)
        writers = [Writer(url, number, tmp_path) for number in range(WRITERS)]
        try:
            for writer in writers:
                writer.wait_until_it_writes()
            for _ in range(20):
                wait_for_more(writers, than=answered(writers))
            nodes.pause_replication()
            before = answered(writers)
            ends = time.monotonic() + 4
            while time.monotonic() < ends:
                cancel_waits(nodes.primary)
                time.sleep(0.02)
            # Not one of those that were cancelled is among the answered.
            assert answered(writers) <= before + WRITERS
            nodes.kill()
            wait_for_more(writers, than=answered(writers))
        finally:
            for writer in writers:
                writer.kill()
        said = [one for writer in writers for one in writer.said()]
        assert any("it may have" in one["says"] for one in said if one["what"] == "problem")
        with closing(open_store(url)) as store:
            Expected().demand(store, said)
            assert burnt_again(store, said) == []


class Callers:
    """Threads that open, call and end, and what they were told; each call is made at all services."""

    def __init__(self, site: Site, services: list[Connection]) -> None:
        self._site, self._services = site, services
        self.over = threading.Event()
        self.ended: list[str] = []
        self.passed: list[str] = []
        self.problems: list[str] = []
        self.allowed_when_ended: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, after the call under way."""
        self.over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self) -> None:
        """Wait until some more calls have passed, and tasks have ended."""
        passed, ended = len(self.passed) + 5, len(self.ended) + 5
        until(lambda: len(self.passed) > passed and len(self.ended) > ended, seconds=60)

    def _run(self) -> None:
        with Authority.open_home(self._site.home) as authority:
            while not self.over.is_set():
                try:
                    self._call(authority)
                except CapxError as error:
                    self.problems.append(str(error))
                    time.sleep(0.1)

    def _call(self, authority: Authority) -> None:
        task = authority.open(allow=["crm.read"])
        for service in self._services:
            text = task.bundle.present("crm", RECEIVED).text
            # What is denied now, as on news that are too old, may pass at the next task.
            with suppress(Denied):
                service.verifier().verify(text, RECEIVED, CALL)
                if service is self._services[0]:
                    self.passed.append(text)
        authority.complete(task.id)
        self.ended.append(task.id)
        heard = [one for one in self._services if eventually(partial(_has_heard, one, task.id), 1)]
        self.allowed_when_ended += [task.id for service in heard if is_allowed(service, task.bundle)]


class Heard:
    """The inboxes that a person has got."""

    def __init__(self, person: PersonClient) -> None:
        self.inboxes: list[Inbox] = []
        self._person = person
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        # It ends with the connection.
        with suppress(CapxError, RuntimeError):
            self.inboxes.extend(self._person.watch())


def asked(authority: Authority, bundle: Bundle) -> bool:
    """Whether an ask, for which the policy wants a yes, is kept."""
    try:
        authority.ask(bundle, "billing.invoices.refund", args={})
    except CapxError:
        return False
    return True


def _has_heard(service: Connection, task: str) -> bool:
    return task in service.liveness.deaths


def _is_told_well(problem: str) -> bool:
    words = "it may have", "try again", "unavailable", "is no primary", "cannot be reached", "read-only"
    return any(word in problem for word in words)
