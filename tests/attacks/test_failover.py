"""The machine of the database is lost, or cut off: nothing answered is lost, and nothing is allowed that has ended."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest

from capx.authority.authority import Authority
from capx.authority.home import PLACE
from capx.errors import CapxError
from capx.resource.connection import Connection, connect
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.decision import Denied
from capx_caveats import Call
from tests.labs.replicated import Replicated
from tests.labs.waiting import until
from tests.server.conftest import Served, new_home, serving

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


# Killed


def test_nothing_answered_is_lost_with_a_machine(site: Site) -> None:
    served = site.serve()
    service = site.service(store=site.nodes.url(site.database))
    opened: list[str] = []
    ended: list[str] = []
    burnt: list[str] = []
    problems: list[str] = []
    over = threading.Event()

    def act(do: Callable[[Authority], object]) -> None:
        with Authority.open_home(site.home) as authority:
            while not over.is_set():
                try:
                    do(authority)
                except CapxError as error:
                    problems.append(str(error))
                    time.sleep(0.1)

    def open_and_end(authority: Authority) -> None:
        task = authority.open(allow=["crm.read"])
        opened.append(task.id)
        authority.complete(task.id)
        ended.append(task.id)

    def call(authority: Authority) -> None:
        bundle = authority.open(allow=["crm.read"]).bundle
        text = bundle.present("crm", RECEIVED).text
        service.verifier().verify(text, RECEIVED, CALL)
        burnt.append(text)

    threads = [threading.Thread(target=act, args=(do,)) for do in (open_and_end, call)]
    for thread in threads:
        thread.start()
    until(lambda: len(ended) > 10 and len(burnt) > 10, seconds=30)
    site.nodes.kill()
    done = len(ended), len(burnt)
    until(lambda: len(ended) > done[0] + 5 and len(burnt) > done[1] + 5, seconds=60)
    over.set()
    for thread in threads:
        thread.join()
    with closing(Authority.open_home(site.home)) as authority, authority.store.read() as reading:
        known = {task.id: task for task in reading.tasks()}
        assert not set(opened) - set(known)
        assert not [task for task in ended if known[task].state != "completed"]
    # No presentation passes twice.
    for text in burnt:
        with pytest.raises(Denied) as denied:
            service.verifier().verify(text, RECEIVED, CALL)
        assert denied.value.code in {"replayed", "call_window"}
    assert served.process.poll() is None
    assert {problem for problem in problems if not _is_told_well(problem)} == set()


def _is_told_well(problem: str) -> bool:
    words = "it may have", "try again", "unavailable", "is no primary", "cannot be reached", "read-only"
    return any(word in problem for word in words)
