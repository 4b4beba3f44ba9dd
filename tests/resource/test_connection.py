"""The parts of a verifier, from real stores of both kinds, a served authority and a saved page."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.keys import AudienceKeys, KeyRing, RootKey
from capx.errors import ConfigurationProblem, KeyProblem, StoreProblem
from capx.ledger.ledger_check import check_ledger
from capx.ledger.note_keys import LedgerKey
from capx.resource.connection import PLACES, Connection, connect, connect_from_env
from capx.resource.feed.client import FeedSource
from capx.resource.replay import Replay
from capx.store.factory import create_store, open_store
from capx.store.protocols import Store
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.decision import Decision, Denied
from capx_caveats import Amount, Call, budget
from capx_caveats.call import FREE
from tests.labs.commands import plain_environment, warm_python
from tests.labs.postgres import shared_server
from tests.labs.processes import ended_with_test
from tests.labs.waiting import until
from tests.server.conftest import Served, new_home, serving

READ = ToolCall("crm.read")


def decide(connection: Connection, bundle: Bundle, *, cost: Mapping[str, Amount] = FREE, **settings: Any) -> Decision:
    """The decision of a new verifier on a call presented now."""
    call = Call("crm.read", cost=cost)
    return connection.verifier(**settings).decide(bundle.present("crm", READ).text, READ, call)


def codes(decision: Decision) -> list[str]:
    return [refusal.code for refusal in decision.refusals]


# A store


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        made = create_store(str(tmp_path / "capx.db"))
        yield made
        made.close()
        return
    database = shared_server().store()
    made = open_store(shared_server().url(database))
    yield made
    made.close()
    shared_server().give_back_store(database)


@pytest.fixture
def place(store: Store) -> str:
    """The path or URL of the store."""
    return store.place


@pytest.fixture
def authority(store: Store) -> Authority:
    return Authority(store, KeyRing(RootKey.generate()))


def test_a_store_tells_burns_counts_and_records(authority: Authority, place: str) -> None:
    connection, other = (connect(authority.export_keys("crm"), store=place) for _ in range(2))
    task = authority.open(allow=["crm.read"], caveats=[budget("calls", 2)])
    token = task.bundle.present("crm", READ).text
    first = connection.verifier().decide(token, READ, Call("crm.read"))
    assert first.allowed
    assert codes(other.verifier().decide(token, READ, Call("crm.read"))) == ["replayed"]
    assert decide(other, task.bundle).allowed
    assert codes(decide(connection, task.bundle)) == ["budget_exhausted"]
    authority.complete(task.id)
    until(lambda: codes(decide(connection, task.bundle))[:1] == ["task_completed"])
    connection.close()
    assert authority.decision(first.id) is not None
    other.close()
    authority.close()


def test_a_follower_of_a_database_reports_its_deaths(authority: Authority, place: str) -> None:
    connection = connect(authority.export_keys("crm"), store=place)
    task = authority.open(allow=["crm.read"])
    assert decide(connection, task.bundle).allowed
    if place.startswith("postgresql://"):
        until(lambda: bool(sightings(authority)))
        assert {one.follower.partition("/")[0] for one in sightings(authority)} == {"crm"}
    else:
        assert sightings(authority) == []
    connection.close()
    authority.close()


def sightings(authority: Authority) -> list[Any]:
    with authority.store.read() as reading:
        return reading.follower_acks()


def test_no_store_is_a_store_problem(tmp_path: Path) -> None:
    keys = KeyRing(RootKey.generate()).exported("crm")
    with pytest.raises(StoreProblem, match="there is no store"):
        connect(keys, store=str(tmp_path / "none.db"))


# A feed


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(new_home(tmp_path_factory.mktemp("wired"))) as served:
        yield served


def fed(served: Served, **settings: Any) -> tuple[Connection, Replay]:
    """A connection to the feed, and a replay memory that looks long-running (so it accepts presentations at once)."""
    return connect(served.keys("crm"), feed=served.url, **settings), long_running()


def long_running() -> Replay:
    """A replay memory that looks as if it had started long ago."""
    return Replay.process(clock=lambda: time.time() - 1_000)


def test_a_feed_gives_deaths_and_accepts_decisions(served: Served, remote: RemoteAuthority) -> None:
    connection, replay = fed(served)
    task = remote.open(allow=["crm.read"])
    first = decide(connection, task.bundle, replay=replay)
    assert first.allowed
    remote.complete(task.id)
    until(lambda: codes(decide(connection, task.bundle, replay=replay)) == ["task_completed"])
    connection.close()
    recorded = remote.decision(first.id)
    assert recorded is not None
    assert recorded.facts()["audience"] == "crm"
    assert not [thread for thread in threading.enumerate() if thread.name == "capx-follower"]


def test_services_on_the_feed_share_the_budgets_of_the_authority(served: Served, remote: RemoteAuthority) -> None:
    (connection, replay), (other, its_replay) = fed(served), fed(served)
    task = remote.open(allow=["crm.read"], caveats=[budget("calls", 2), budget("eur", "5")])
    call = Call("crm.read", cost={"eur": "2.5"})
    first = connection.verifier(replay=replay).verify(task.bundle.present("crm", READ).text, READ, call)
    assert {(one.unit, one.cost, one.total, one.limit) for one in first.spent} == {
        ("calls", "1", "1", "2"),
        ("eur", "2.5", "2.5", "5"),
    }
    admitted = other.verifier(replay=its_replay).admit(task.bundle.present("crm", READ).text, READ)
    with pytest.raises(Denied, match="costs more than is left"):
        admitted.judge(Call("crm.read", cost={"eur": "2.6"}))
    assert admitted.judge(Call("crm.read", cost={"eur": "1"})).remaining == {"calls": "0", "eur": "1.5"}
    assert admitted.judge(call).remaining == {"calls": "0", "eur": "0"}
    assert codes(decide(connection, task.bundle, replay=replay, cost={"eur": 0})) == ["budget_exhausted"]
    assert {counter.unit: counter.spent for counter in remote.counters([task.id])} == {"calls": 2, "eur": 5}
    for each in (connection, other):
        each.close()


def test_where_the_authority_is_away_no_budget_is_spent(tmp_path: Path) -> None:
    with serving(new_home(tmp_path)) as served:
        connection, replay = fed(served, max_staleness=60.0)
        with RemoteAuthority(served.place) as remote:
            bundle = remote.open(allow=["crm.read"], caveats=[budget("calls", 2)]).bundle
        until(lambda: decide(connection, bundle, replay=replay).allowed)
        served.kill()
        assert codes(decide(connection, bundle, replay=replay)) == ["unavailable"]
        served.restart("--listen", served.url.removeprefix("http://"))
        assert decide(connection, bundle, replay=replay).allowed
        assert codes(decide(connection, bundle, replay=replay)) == ["budget_exhausted"]
        connection.close()


def test_a_bare_token_spends_nothing_on_the_feed(served: Served, remote: RemoteAuthority) -> None:
    connection, _ = fed(served)
    bundle = remote.open(allow=["crm.read"], caveats=[budget("calls", 2)]).bundle
    token = next(one for one in bundle if one.audience == "crm").text
    until(lambda: connection.liveness.age() < 1)
    assert codes(connection.verifier(bearer=True).decide(token, READ, Call("crm.read"))) == ["unavailable"]
    connection.close()


def test_a_service_on_the_feed_cannot_read_what_is_left(served: Served, remote: RemoteAuthority) -> None:
    connection, _ = fed(served)
    bundle = remote.open(allow=["crm.read"], caveats=[budget("calls", 2)]).bundle
    token = next(one for one in bundle if one.audience == "crm").text
    until(lambda: connection.liveness.age() < 1)
    (refusal,) = connection.verifier().explain(token, Call("crm.read")).refusals
    assert (refusal.code, "capx graph" in refusal.sentence) == ("unavailable", True)
    connection.close()


RACER = """
import sys, time
from capx.crypto.keys import AudienceKeys
from capx.resource.connection import connect
from capx.resource.replay import Replay
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx_caveats import Call
from pathlib import Path

READ = ToolCall("crm.read")
connection = connect(AudienceKeys.load(Path(sys.argv[1]), "crm"), feed=sys.argv[2])
verifier = connection.verifier(replay=Replay.process(clock=lambda: time.time() - 1_000))
bundle = Bundle.parse(sys.argv[3])
while connection.liveness.age() > 1:
    time.sleep(0.01)
print("ready", flush=True)
sys.stdin.readline()
done = 0
while True:
    decision = verifier.decide(bundle.present("crm", READ).text, READ, Call("crm.read"))
    done += decision.allowed
    if [refusal.code for refusal in decision.refusals] == ["budget_exhausted"]:
        break
print(done, flush=True)
connection.close()
"""


def test_sixteen_processes_on_the_feed_spend_one_budget_exactly(
    served: Served, remote: RemoteAuthority, tmp_path: Path
) -> None:
    key_file = tmp_path / "crm.key"
    served.keys("crm").save(key_file)
    bundle = remote.open(allow=["crm.read"], caveats=[budget("calls", 100)]).bundle
    command = (warm_python(), "-c", RACER, str(key_file), served.url, bundle.text)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = plain_environment()
    racers = [ended_with_test(subprocess.Popen(command, env=env, **pipes)) for _ in range(16)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    assert sum(int(racer.communicate("\n", timeout=120)[0]) for racer in racers) == 100


def test_a_presentation_from_before_the_start_is_refused(served: Served, remote: RemoteAuthority) -> None:
    connection, _ = fed(served)
    assert codes(decide(connection, remote.open(allow=["crm.read"]).bundle)) == ["unavailable"]
    connection.close()


def test_a_service_learns_of_deaths_before_its_first_call(served: Served, remote: RemoteAuthority) -> None:
    connection, replay = fed(served)
    task = remote.open(allow=["crm.read"])
    remote.complete(task.id)
    until(lambda: task.id in connection.liveness.deaths)
    assert codes(decide(connection, task.bundle, replay=replay)) == ["task_completed"]
    connection.close()


def test_a_feed_that_is_gone_grows_old(tmp_path: Path) -> None:
    with serving(new_home(tmp_path)) as served:
        connection, replay = fed(served, max_staleness=2.0)
        with RemoteAuthority(served.place) as remote:
            bundle = remote.open(allow=["crm.read"]).bundle
        until(lambda: decide(connection, bundle, replay=replay).allowed)
        served.kill()
        until(lambda: codes(decide(connection, bundle, replay=replay)) == ["stale_liveness"])
        served.restart("--listen", served.url.removeprefix("http://"))
        until(lambda: decide(connection, bundle, replay=replay).allowed)
        connection.close()


def test_keys_without_feed_keys_are_refused(served: Served) -> None:
    bare = KeyRing(RootKey.generate()).audience_keys("crm")
    with pytest.raises(ConfigurationProblem, match="run capx keys export again"):
        connect(bare, feed=served.url)
    with pytest.raises(ConfigurationProblem, match="run capx keys export again"):
        connect(bare, snapshot="page")
    with pytest.raises(ConfigurationProblem, match=r"https://authority\.internal"):
        connect(served.keys("crm"), feed="authority.internal")


# A saved page


def test_an_old_or_missing_snapshot_is_refused(served: Served, remote: RemoteAuthority, tmp_path: Path) -> None:
    keys, page = served.keys("crm"), tmp_path / "deaths.json"
    task, dead = (remote.open(allow=["crm.read"]) for _ in range(2))
    counted = remote.open(allow=["crm.read"], caveats=[budget("calls", 2)])
    remote.complete(dead.id)
    page.write_text("\n".join(FeedSource(served.url, keys.feed).pages()))
    replay = long_running()
    connection = connect(keys, snapshot=str(page), max_staleness=3600)
    assert decide(connection, task.bundle, replay=replay).allowed
    assert codes(decide(connection, dead.bundle, replay=replay)) == ["task_completed"]
    assert codes(decide(connection, counted.bundle, replay=replay)) == ["no_meter"]
    old = connect(keys, snapshot=str(page), max_staleness=1e-6)
    assert codes(decide(old, task.bundle, replay=replay)) == ["stale_liveness"]
    missing = connect(keys, snapshot=str(tmp_path / "none"), max_staleness=3600)
    assert codes(decide(missing, task.bundle, replay=replay)) == ["unknown_liveness"]
    connection.close()


# The environment


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    key_file, store = tmp_path / "crm.keys", tmp_path / "capx.db"
    with contextlib.closing(create_store(str(store))) as made:
        KeyRing(RootKey.generate(), authority=made.authority()).exported("crm").save(key_file)
    return {"CAPX_AUDIENCE": "crm", "CAPX_KEY_FILE": str(key_file), "CAPX_STORE": str(store)}


def test_the_environment_describes_a_verifier(environ: dict[str, str]) -> None:
    connection = connect_from_env(environ)
    assert (connection.keys.audience, connection.max_staleness) == ("crm", 30.0)
    assert connection.verifier().audience == "crm"
    connection.close()
    connection = connect_from_env({**environ, "CAPX_MAX_STALENESS": "2.5", "CAPX_FEED": ""})
    assert connection.max_staleness == 2.5
    connection.close()


@pytest.mark.parametrize("name", ["CAPX_AUDIENCE", "CAPX_KEY_FILE"])
def test_what_the_environment_lacks_is_named(environ: dict[str, str], name: str) -> None:
    for without in ({**environ, name: ""}, {other: value for other, value in environ.items() if other != name}):
        with pytest.raises(ConfigurationProblem, match=f"{name} is not set"):
            connect_from_env(without)


def test_exactly_one_place_is_named(environ: dict[str, str]) -> None:
    one_of = "set exactly one of CAPX_STORE, CAPX_FEED, CAPX_SNAPSHOT: "
    with pytest.raises(ConfigurationProblem, match=f"{one_of}none is set"):
        connect_from_env({**environ, "CAPX_STORE": ""})
    with pytest.raises(ConfigurationProblem, match=f"{one_of}CAPX_FEED and CAPX_STORE are set"):
        connect_from_env({**environ, "CAPX_FEED": "https://authority.internal"})
    with pytest.raises(ConfigurationProblem, match=f"{one_of}CAPX_FEED and CAPX_SNAPSHOT and CAPX_STORE are set"):
        connect_from_env({**environ, **dict.fromkeys(PLACES.values(), "x")})
    keys = AudienceKeys.load(Path(environ["CAPX_KEY_FILE"]), "crm")
    with pytest.raises(ConfigurationProblem, match="store, feed or snapshot: none is named"):
        connect(keys)
    with pytest.raises(ConfigurationProblem, match="feed and store are named"):
        connect(keys, store=environ["CAPX_STORE"], feed="https://authority.internal")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon", "30s", " ", "0x10"])
def test_a_staleness_that_is_no_number_of_seconds_is_refused(environ: dict[str, str], seconds: str) -> None:
    with pytest.raises(ConfigurationProblem, match="seconds"):
        connect_from_env({**environ, "CAPX_MAX_STALENESS": seconds})


def test_keys_of_another_audience_are_refused(environ: dict[str, str]) -> None:
    with pytest.raises(KeyProblem, match="cannot be among the keys of 'slides'"):
        connect_from_env({**environ, "CAPX_AUDIENCE": "slides"})


def test_the_repr_of_a_connection_shows_no_key(environ: dict[str, str]) -> None:
    connection = connect_from_env(environ)
    secrets = [line.split()[-1] for line in Path(environ["CAPX_KEY_FILE"]).read_text("utf-8").splitlines() if line]
    assert secrets
    assert not [secret for secret in secrets if secret in repr(connection)]
    connection.close()


def test_a_ledger_takes_the_decisions_instead_of_the_place(tmp_path: Path) -> None:
    lab = Authority.temporary()
    LedgerKey.generate("capx-ledger/crm").save(tmp_path / "l.key")
    lab.export_keys("crm").save(tmp_path / "crm.keys")
    environ = {
        "CAPX_AUDIENCE": "crm",
        "CAPX_KEY_FILE": str(tmp_path / "crm.keys"),
        "CAPX_STORE": lab.store.place,
        "CAPX_LEDGER": str(tmp_path / "crm.jsonl"),
        "CAPX_LEDGER_KEY_FILE": str(tmp_path / "l.key"),
    }
    connection = connect_from_env(environ)
    task = lab.open(allow=["crm.read"])
    received = ToolCall("crm.read")
    decision = connection.verifier().decide(task.bundle.present("crm", received).text, received, Call("crm.read"))
    before = lab.end()
    connection.close()
    assert lab.end() == before
    (report,) = check_ledger([tmp_path / "crm.jsonl"], [LedgerKey.load(tmp_path / "l.key").note_key])
    assert (report.last, report.unsigned, report.faults) == (1, 0, ())
    assert decision.id in (tmp_path / "crm.jsonl").read_text()
    for missing in ("CAPX_LEDGER", "CAPX_LEDGER_KEY_FILE"):
        with pytest.raises(ConfigurationProblem, match=f"{missing} is not set"):
            connect_from_env({name: value for name, value in environ.items() if name != missing})
    lab.close()
