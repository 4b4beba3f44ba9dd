"""`capx serve --notify` as a process: killed at any instant it loses nothing, and hooks keep nobody waiting."""

import random
import signal
import threading
import time
from pathlib import Path

import pytest

from capx.authority.remote.client import RemoteAuthority
from tests.labs.counts import repeated
from tests.labs.hooks import Receiver, hangs, write_file
from tests.labs.inbox import asks, opened
from tests.labs.office import Office
from tests.labs.serving_process import refused
from tests.labs.waiting import until
from tests.server.conftest import Served, serving

WAITS = 'kinds = ["request_waits"]'


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def requests(receiver: Receiver) -> list[str]:
    return [one["request"] for one in receiver.told]


@pytest.mark.timeout(900)  # sixty processes at night
def test_after_kill_9_everything_is_told_and_in_order(office: Office, tmp_path: Path) -> None:
    asked: list[str] = []
    with Receiver() as receiver:
        file = write_file(tmp_path, receiver.table(more=WAITS))
        served = Served(office.home, "--notify", str(file))
        try:
            for nth in range(repeated(60)):
                # Not all in one task: only so many of its requests may wait.
                asking = threading.Thread(target=asked_in, args=[office, asked])
                asking.start()
                # Between log and hook: as the notices are on their way, and as the cursor moves.
                time.sleep(random.uniform(0, 0.6))
                served.kill()
                asking.join(30)
                assert len(asked) == 4 * (nth + 1)
                served.restart("--notify", str(file))
            until(lambda: set(requests(receiver)) >= set(asked))
        finally:
            served.stop()
        told = requests(receiver)
        # Told again, if at all, are only those that were told when it was killed.
        assert list(dict.fromkeys(told)) == asked
        by_id = {headers["webhook-id"]: one for (headers, _), one in zip(receiver.got, told, strict=True)}
        assert len(by_id) == len(asked)


def asked_in(office: Office, asked: list[str]) -> None:
    bundle = opened(office)
    for amount in range(1, 5):
        asked.append(asks(office, bundle, amount=amount).request)  # noqa: PERF401 # one by one


def test_hooks_that_hang_delay_no_answer(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    loud, quiet = Office(tmp_path / "a"), Office(tmp_path / "b")
    with Receiver(seed=1) as one, Receiver(seed=2) as two:
        one.behaviour = two.behaviour = hangs
        file = write_file(
            tmp_path,
            one.table("one"),
            two.table("two"),
            '[hook.three]\ncommand = ["/bin/sleep", "100"]',
        )
        with serving(loud.home, "--notify", str(file)) as served, serving(quiet.home) as beside:
            asks(loud, opened(loud))
            until(lambda: one.got and two.got)
            times = [answered_in(each) for each in (beside, served)]
            one.closing.set()
            two.closing.set()
    assert times[1] < 3 * times[0] + 3, times


def answered_in(served: Served) -> float:
    """Seconds for requests of operators and of the network."""
    began = time.monotonic()
    with RemoteAuthority(served.place) as operator, served.everybody() as client:
        for _ in range(30):
            operator.revoke(operator.open(allow=["crm.read"]).id)
            assert client.get("/feed").status_code == 200
    return time.monotonic() - began


def test_a_signal_ends_it_in_order_while_hooks_hang(office: Office, tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.behaviour = hangs
        file = write_file(tmp_path, receiver.table(), '[hook.desk]\ncommand = ["/bin/sleep", "100"]')
        with serving(office.home, "--notify", str(file)) as served:
            asks(office, opened(office))
            until(lambda: receiver.got)
            began = time.monotonic()
            served.signal(signal.SIGTERM)
            assert served.ended() == (0, "")
            assert time.monotonic() - began < 9


def test_of_two_processes_the_one_with_hooks_tells(office: Office, tmp_path: Path) -> None:
    with Receiver() as receiver:
        file = write_file(tmp_path, receiver.table(more=WAITS))
        with (
            serving(office.home, "--notify", str(file)),
            serving(office.home, "--socket", str(tmp_path / "other.sock")) as other,
        ):
            with RemoteAuthority(other.place) as operator:
                bundle = operator.open(office.signed(operator)).bundle
            asked = asks(office, bundle).request
            until(lambda: requests(receiver) == [asked])
            assert not any(line.startswith("capx_notices_total{") for line in metrics(other))


def metrics(served: Served) -> list[str]:
    with served.everybody() as client:
        return client.get("/metrics").text.splitlines()


def test_a_bad_file_stops_the_start_with_all_its_mistakes(office: Office, tmp_path: Path) -> None:
    file = write_file(tmp_path, '[hook.a]\nvalues = 1\n[hook.b]\ncommand = ["x"]')
    first, *mistakes = refused(office.home, "--notify", str(file), code=3).splitlines()
    assert first == f"capx: {file} cannot be used:"
    assert mistakes == [
        "  hook.a.values: is a number, but must be true or false",
        '  hook.b.command[1]: "x" is not the full path of a program: begin it with /',
    ]
    file.chmod(0o666)
    assert "may be changed by others" in refused(office.home, "--notify", str(file), code=3)
