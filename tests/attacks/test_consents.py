"""Attacks on a person's yes, a consent or an approval: more calls than the person agreed to."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import capx
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.authority.remote.client import RemoteAuthority
from capx.authority.requests.verdict import Verdict
from capx.tokens.bundle import Bundle
from capx.verify.ask import Granted, Pending
from capx_caveats import JSON
from tests.labs.commands import plain_environment, warm_python
from tests.labs.office import Office
from tests.labs.postgres import shared_server
from tests.labs.processes import ended_with_test
from tests.server.conftest import Served, serving

ORDER = "warehouse.order"
REFUND: dict[str, JSON] = {"amount": 400}
RACER = """
import ssl, sys, time
from pathlib import Path
from capx.crypto.keys import AudienceKeys
from capx.resource.connection import connect
from capx.resource.replay import Replay
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx_caveats import Call

kind, place, key_file, token, action = sys.argv[1:]
audience = action.partition(".")[0]
# An address of plain HTTP needs none of the certificates of this machine, which it takes long to read.
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if kind == "feed" else None
connection = connect(AudienceKeys.load(Path(key_file), audience), tls=tls, **{kind: place})
# Each has its own memory of presentations, as services on several machines have.
verifier = connection.verifier(replay=Replay.process(clock=lambda: time.time() - 1_000))
bundle, sent = Bundle.parse(token), ToolCall(action, {"amount": 400})
while connection.liveness.age() > 1:
    time.sleep(0.01)
print("ready", flush=True)
sys.stdin.readline()
call = Call(action, {"amount": 400}, tenant="Acme")
print(sum(verifier.decide(bundle.present(audience, sent).text, sent, call).allowed for _ in range(3)), flush=True)
sys.stdin.readline()
connection.close()
"""


class World:
    """A served authority, and a way for services to reach what counts."""

    def __init__(self, kind: str, place: str, office: Office, served: Served, remote: RemoteAuthority) -> None:
        self.kind = kind
        self.place = place
        self.office = office
        self.served = served
        self.remote = remote

    def asked(self, task: OpenedTask) -> Granted | Pending:
        """The answer to the ask for the refund, as an agent gets it in the authority's own process."""
        with Authority.open_home(self.office.home) as authority:
            answer = authority.ask(task.bundle, "billing.refund", args=REFUND)
        assert isinstance(answer, Granted | Pending), str(answer)
        return answer

    def consent(self, pending: Pending) -> None:
        inquiry = self.remote.inquiry(pending.request)
        self.remote.answer(Verdict.sign(inquiry, self.office.ben, yes=True, at=int(time.time())))

    def agreed(self, task: OpenedTask) -> Bundle:
        """The grant of the refund, which waits for a person, once the person has consented."""
        pending = self.asked(task)
        assert isinstance(pending, Pending)
        self.consent(pending)
        granted = self.asked(task)
        assert isinstance(granted, Granted)
        return Bundle([granted.capability])

    def approved(self, task: OpenedTask, uses: int = 1) -> Bundle:
        """A capability that may order without limit, each call of which ben must approve, and his approval of one."""
        with Authority.open_home(self.office.home) as authority:
            granted = authority.ask(task.bundle, ORDER)
        assert isinstance(granted, Granted)
        demand = capx.approval(by=[self.office.ben.public])
        held = Bundle([granted.capability]).delegate(to="buyer", approval=demand)
        return held.holding(self.office.ben.approve(held.approval_request(ORDER, REFUND), uses=uses))

    def race(self, bundle: Bundle, count: int = 16, *, action: str = "billing.refund") -> int:
        """How many calls so many processes are allowed, each of which tries three times."""
        racers = self._services(warm_python(), bundle, count, action)
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        return sum(int(racer.communicate("\n", timeout=120)[0]) for racer in racers)

    def _services(self, python: str, bundle: Bundle, count: int, action: str) -> "list[subprocess.Popen[str]]":
        """So many processes of the service, ready to try a call three times."""
        audience = action.partition(".")[0]
        key_file = self.office.home.parent / f"{audience}.keys"
        if not key_file.exists():
            self.served.keys(audience).save(key_file)
        command = (python, "-c", RACER, self.kind, self.place, str(key_file), bundle.text, action)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        env = plain_environment()
        racers = [ended_with_test(subprocess.Popen(command, env=env, **pipes)) for _ in range(count)]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        return racers

    def killed_after_payment(self, bundle: Bundle, *, action: str = "billing.refund") -> int:
        """How many calls a process is allowed that is killed with -9 before it does anything about them."""
        (service,) = self._services(sys.executable, bundle, 1, action)
        assert service.stdin is not None
        assert service.stdout is not None
        service.stdin.write("\n")
        service.stdin.flush()
        allowed = int(service.stdout.readline())
        service.send_signal(signal.SIGKILL)
        assert service.wait(30) == -signal.SIGKILL
        return allowed


@pytest.fixture(params=["sqlite", "postgres", "feed"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    database = shared_server().database() if request.param == "postgres" else None
    url = None if database is None else shared_server().url(database)
    office = Office(tmp_path, store=url)
    with serving(office.home) as served, RemoteAuthority(served.place) as remote:
        kind = "feed" if request.param == "feed" else "store"
        place = served.url if kind == "feed" else url or str(office.home / "capx.db")
        yield World(kind, place, office, served, remote)
    if database is not None:
        shared_server().give_back(database)


def test_sixteen_processes_that_race_one_consent_make_one_call(world: World) -> None:
    task = world.remote.open(world.office.signed(world.remote))
    for _ in range(2):
        assert world.race(world.agreed(task)) == 1


def test_a_call_that_was_paid_and_killed_is_made_never_twice(world: World) -> None:
    task = world.remote.open(world.office.signed(world.remote))
    bundles: list[Bundle] = []
    for _ in range(2):
        bundles.append(world.agreed(task))
        # Nobody knows whether it did the refund. The consent is used up; a person decides about another one.
        assert world.killed_after_payment(bundles[-1]) == 1
        assert [world.race(bundle, count=2) for bundle in bundles] == [0] * len(bundles)
    assert world.race(world.agreed(task), count=2) == 1


def test_a_delegated_consent_is_no_second_one(world: World) -> None:
    task = world.remote.open(world.office.signed(world.remote))
    granted = world.agreed(task)
    assert sum(world.race(granted.delegate(to=f"child-{nth}"), count=2) for nth in range(3)) == 1


# An approval, which the agent carries


def test_sixteen_processes_that_race_one_approval_make_one_call(world: World) -> None:
    task = world.remote.open(world.office.signed(world.remote))
    for uses in (1, 5):
        assert world.race(world.approved(task, uses), action=ORDER) == uses


def test_an_approval_that_was_paid_and_killed_is_not_used_twice(world: World) -> None:
    bundle = world.approved(world.remote.open(world.office.signed(world.remote)))
    assert world.killed_after_payment(bundle, action=ORDER) == 1
    assert world.race(bundle, count=2, action=ORDER) == 0


def test_children_share_one_approval(world: World) -> None:
    bundle = world.approved(world.remote.open(world.office.signed(world.remote)), uses=2)
    assert sum(world.race(bundle.delegate(to=f"child-{nth}"), count=2, action=ORDER) for nth in range(3)) == 2
