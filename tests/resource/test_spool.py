"""A service on the feed whose authority is away when it ends, or that is killed: its decisions are in the log once."""

import json
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.authority.restore import restore
from capx.crypto.keys import AudienceKeys, KeyRing, RootKey
from capx.errors import ConfigurationProblem, StoreProblem, Unavailable
from capx.resource.connection import connect, connect_from_env
from capx.resource.recorder import StoreRecorder
from capx.resource.spool import Spool
from capx.resource.spool_files import SpoolFile, SpoolFolder
from capx.store.backup import backup
from capx.store.records import DecisionRecord, Unwritable
from capx.verify.decision import Decision
from tests.labs.commands import plain_environment
from tests.labs.counts import nightly, repeated
from tests.labs.processes import ended_with_test, in_a_child
from tests.labs.read_only import AS_ANYBODY, obeys_permissions, without_writing
from tests.labs.small_disk import fill, small_disk
from tests.labs.waiting import until
from tests.server.conftest import Served, new_home, serving

KEYS = KeyRing(RootKey.generate()).exported("crm")

SERVICE = """
import signal, sys, time
from pathlib import Path
from capx.crypto.keys import AudienceKeys
from capx.errors import Unavailable
from capx.resource.connection import connect
from capx.verify.decision import Decision, decision_id
key_file, feed, spool, count, pause = sys.argv[1:]
# As servers end: in order.
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
connection = connect(AudienceKeys.load(Path(key_file), "crm"), feed=feed, spool=spool)
print("ready", flush=True)
for _ in range(int(count)):
    try:
        connection.recorder.reserve()
    except Unavailable as error:
        print(f"denied {error}", flush=True)
        break
    at = int(time.time())
    decision = Decision(id=decision_id(at), at=at, allowed=True, audience="crm", action="crm.read")
    connection.recorder.record(decision)
    print(decision.id, flush=True)
    time.sleep(float(pause))
if pause != "0":
    connection.close()
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(new_home(tmp_path_factory.mktemp("spooled"))) as served:
        yield served


@pytest.fixture
def remote(served: Served) -> Iterator[RemoteAuthority]:
    with RemoteAuthority(served.place) as remote:
        yield remote


@pytest.fixture
def keys(served: Served, tmp_path: Path) -> AudienceKeys:
    keys = served.keys("crm")
    keys.save(tmp_path / "crm.keys")
    return keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "spool"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def nowhere() -> str:
    """The URL of an authority that is away."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of an authority that takes connections, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class Log:
    """An authority in this process, which is away while it has a problem."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem
        self.taken: list[DecisionRecord] = []

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        if self.problem is not None:
            raise self.problem
        self.taken += decisions


AWAY = StoreProblem("the authority is away")


def service(
    tmp_path: Path, url: str, count: int = 50, pause: str = "0.001", *, before: Sequence[str] = ()
) -> "subprocess.Popen[str]":
    command = [*before, sys.executable, "-c", SERVICE, str(tmp_path / "crm.keys"), url, str(tmp_path / "spool")]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return ended_with_test(subprocess.Popen([*command, str(count), pause], env=plain_environment(), **pipes))


def decided(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("d.")]


def kept(folder: Path) -> list[str]:
    """The ids in all files of the spool, with those of lines that were cut off left out."""
    lines = [line for file in sorted(folder.glob("*.spool")) for line in file.read_bytes().splitlines(keepends=True)]
    return [json.loads(line)["id"] for line in lines if line.endswith(b"}\n")]


def reported(served: Served, keys: AudienceKeys, folder: Path) -> None:
    """Have another service take over and report what is there."""
    with_spool = connect(keys, feed=served.url, spool=str(folder))
    until(lambda: len(list(folder.glob("*.spool"))) == 1)
    with_spool.close()
    assert list(folder.glob("*")) == []


def logged(remote: RemoteAuthority) -> Counter[str]:
    return Counter(event.facts()["id"] for event in remote.log() if event.kind == "decision")


def decide(recorder: StoreRecorder, number: int) -> None:
    recorder.reserve()
    recorder.record(Decision(id=f"d{number}", at=number, allowed=True, audience="crm", action="crm.read"))


def test_what_was_decided_while_the_authority_was_away_is_logged(
    served: Served, remote: RemoteAuthority, keys: AudienceKeys, folder: Path, nowhere: str
) -> None:
    tmp_path = folder.parent
    for pause in ("0.001", "0"):
        said, told = service(tmp_path, nowhere, pause=pause).communicate(timeout=60)
        assert f"50 decisions wait in the spool {folder}: " in told
        assert "lost" not in told
        assert kept(folder) == decided(said)
        (file,) = folder.iterdir()
        assert (file.stat().st_mode & 0o777, len(decided(said))) == (0o600, 50)
        assert not set(decided(said)) & set(logged(remote))
        reported(served, keys, folder)
        events = [event for event in remote.log() if event.kind == "decision"]
        mine = [event for event in events if event.facts()["id"] in decided(said)]
        assert [event.facts()["id"] for event in mine] == decided(said)
        assert all(0 <= event.at - int(time.time()) + 60 <= 60 for event in mine)


def test_kill_between_spool_and_report_loses_and_doubles_nothing(
    served: Served, remote: RemoteAuthority, keys: AudienceKeys, tmp_path: Path, folder: Path
) -> None:
    seen: set[str] = set()
    for _ in range(repeated(100)):
        process = service(tmp_path, served.url, 100_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.uniform(0.02, 0.4))
        process.kill()
        process.communicate(timeout=30)
        seen.update(kept(folder))
    assert seen
    reported(served, keys, folder)
    log = logged(remote)
    assert not [one for one in seen if log[one] != 1]
    assert max(log.values()) == 1


@pytest.mark.parametrize("authority", ["nowhere", "silent"])
def test_a_service_that_a_signal_ends_loses_nothing(
    request: pytest.FixtureRequest, keys: AudienceKeys, tmp_path: Path, folder: Path, authority: str
) -> None:
    url, expected = request.getfixturevalue(authority), list[str]()
    for _ in range(repeated(20, fewest=2)):
        process = service(tmp_path, url, 100_000, "0")
        assert process.stdout is not None
        ids = [process.stdout.readline().strip() for _ in range(random.randrange(2, 400))][1:]
        process.terminate()
        rest, told = process.communicate(timeout=30)
        expected += ids + decided(rest)
        assert ("decisions wait in" in told, "lost" in told) == (True, False), told
    # The signal may have come before the last one was printed.
    assert not set(expected) - set(kept(folder))


@nightly
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_restored_store_gets_what_was_kept(
    request: pytest.FixtureRequest, tmp_path: Path, folder: Path, nowhere: str, kind: str
) -> None:
    home = new_home(tmp_path, request.getfixturevalue("postgres_url") if kind == "postgres" else None)
    with Authority.open_home(home) as authority:
        keys, place = authority.export_keys("crm"), authority.store.place
        keys.save(tmp_path / "crm.keys")
        backup(authority.store, tmp_path / "saved.db")
    first = decided(service(tmp_path, nowhere).communicate(timeout=60)[0])
    with serving(home) as served, RemoteAuthority(served.place) as remote:
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        reported(served, keys, folder)
        assert logged(remote) == Counter(first)
    # Of what the log lost, the service still had a file, and more is decided.
    for file in tmp_path.glob("*.spool"):
        file.rename(folder / file.name)
        (folder / file.name).chmod(0o600)
    restore(tmp_path / "saved.db", place)
    second = decided(service(tmp_path, nowhere).communicate(timeout=60)[0])
    with serving(home) as served, RemoteAuthority(served.place) as remote:
        reported(served, keys, folder)
        assert list(logged(remote)) == first + second
        assert max(logged(remote).values()) == 1


@pytest.mark.parametrize("authority", ["nowhere", "silent"])
def test_a_killed_service_had_written_all_but_the_last_moment(
    request: pytest.FixtureRequest, keys: AudienceKeys, tmp_path: Path, folder: Path, authority: str
) -> None:
    process = service(tmp_path, request.getfixturevalue(authority), 200, "0")
    assert process.stdout is not None
    ids = [process.stdout.readline().strip() for _ in range(201)][1:]
    until(lambda: kept(folder) == ids)
    process.kill()
    process.wait(timeout=30)
    assert kept(folder) == ids


def test_while_the_authority_is_well_no_line_stays(folder: Path) -> None:
    log, spool = Log(), Spool(str(folder), KEYS)
    recorder = StoreRecorder(log, spool=spool, together=0.1)
    for number in range(5_000):
        decide(recorder, number)
    assert recorder.flush()
    until(lambda: [file.stat().st_size for file in folder.iterdir()] == [0])
    assert recorder.close()
    assert list(folder.iterdir()) == []
    assert [one.at for one in log.taken] == list(range(5_000))


def test_a_file_stays_bounded_though_the_queue_is_never_empty(folder: Path) -> None:
    spool, most = Spool(str(folder), KEYS), 0

    def ends_with(last: int) -> bool:
        return any(file.read_bytes().endswith(b"%09d\n" % last) for file in folder.iterdir())

    spool.keep(b"%09d" % 0)
    for begin in range(0, 60_000, 2_000):
        for number in range(begin + 1, begin + 2_001):
            spool.keep(b"%09d" % number)
        until(partial(ends_with, begin + 2_000))
        # A file may go while it is looked at.
        with suppress(FileNotFoundError):
            most = max(most, *(file.stat().st_size // 10 for file in folder.iterdir()))
        spool.answered(2_000)
    assert 5_000 < most < 20_000
    spool.answered(1)
    assert spool.settle() == 0
    assert list(folder.iterdir()) == []


def test_no_decision_is_taken_while_log_and_disk_take_none(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        log = Log(AWAY)
        recorder = StoreRecorder(log, spool=Spool(str(disk), KEYS))
        decide(recorder, 0)
        until(lambda: kept(disk) == ["d0"])
        filler = fill(disk)
        count = 1

        def refused() -> str:
            nonlocal count
            try:
                decide(recorder, count)
            except Unavailable as error:
                return str(error)
            count += 1
            return ""

        assert "the spool cannot be written" in until(refused)
        filler.unlink()
        until(lambda: len(kept(disk)) == count)
        assert kept(disk) == [f"d{number}" for number in range(count)]
        assert not recorder.close(timeout=0.1)
        assert kept(disk) == [f"d{number}" for number in range(count)]


def test_a_full_disk_is_told_at_the_start(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        fill(disk)
        with pytest.raises(ConfigurationProblem, match=r"cannot write .*: No space left on device"):
            Spool(str(disk), KEYS)
        assert [file.name for file in disk.iterdir()] == ["filler"]


def test_a_full_disk_alone_denies_no_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path) as disk:
        log = Log()
        recorder = StoreRecorder(log, spool=Spool(str(disk), KEYS), together=0.1)
        fill(disk)
        for number in range(200):
            decide(recorder, number)
            time.sleep(0.001)
        assert recorder.close()
        assert [one.at for one in log.taken] == list(range(200))
        assert "decisions cannot be kept in the spool" in caplog.text


def test_a_decision_refused_in_all_forms_goes_beside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Strict(Log):
        def record(self, decisions: Sequence[DecisionRecord]) -> None:
            if any(one.id == "d3" for one in decisions):
                raise Unwritable("never")
            super().record(decisions)

    log = Strict()
    recorder = StoreRecorder(log, spool=Spool(str(folder), KEYS))
    for number in range(6):
        decide(recorder, number)
    assert recorder.close()
    assert [one.at for one in log.taken] == [0, 1, 2, 4, 5]
    (beside,) = folder.iterdir()
    assert (beside.suffix, beside.stat().st_mode & 0o777) == (".refused", 0o600)
    assert [json.loads(line)["id"] for line in beside.read_text().splitlines()] == ["d3"]
    assert f"a decision is in no log, but in {beside}: never" in caplog.text


@nightly
def test_two_workers_of_one_key_file_have_a_file_each(
    served: Served, remote: RemoteAuthority, keys: AudienceKeys, folder: Path, nowhere: str
) -> None:
    tmp_path = folder.parent
    ended = [worker.communicate(timeout=60)[0] for worker in [service(tmp_path, nowhere) for _ in range(2)]]
    both = [one for said in ended for one in decided(said)]
    assert (len(both), sorted(kept(folder))) == (100, sorted(both))
    first, second = (connect(keys, feed=served.url, spool=str(folder)) for _ in range(2))
    until(lambda: len(list(folder.iterdir())) == 2)
    first.close()
    second.close()
    assert not [one for one in both if logged(remote)[one] != 1]
    assert list(folder.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_reports_none_of_its_parents_lines(folder: Path) -> None:
    recorder = StoreRecorder(Log(AWAY), spool=Spool(str(folder), KEYS))
    decide(recorder, 1)
    until(lambda: kept(folder) == ["d1"])

    def keeps_its_own() -> bool:
        decide(recorder, 2)
        return not recorder.close(timeout=0.1) and sorted(kept(folder)) == ["d1", "d2"]

    assert in_a_child(keeps_its_own)
    assert sorted(kept(folder)) == ["d1", "d2"]
    assert not recorder.close(timeout=0.1)
    log = Log()
    heir = Spool(str(folder), KEYS)
    heir.take_over(log.record)
    until(lambda: len(list(folder.iterdir())) == 1)
    assert sorted(one.id for one in log.taken) == ["d1", "d2"]
    assert heir.settle() == 0


def test_who_cannot_connect_keeps_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = Spool(str(folder), KEYS)
    left.keep(b"1")
    left.settle()
    with monkeypatch.context() as patched:
        patched.setenv("SSL_CERT_FILE", str(folder / "nowhere.pem"))
        with pytest.raises(ConfigurationProblem):
            connect(KEYS, feed="https://authority.internal", spool=str(folder))
    (file,) = SpoolFolder(folder, KEYS).orphans()
    assert list(file.lines()) == [b"1\n"]
    file.close()


def test_who_can_make_no_file_keeps_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = Spool(str(folder), KEYS)
    left.keep(b"1")
    left.settle()

    def fail(self: SpoolFolder) -> None:
        raise ConfigurationProblem("no room")

    with monkeypatch.context() as patched:
        patched.setattr(SpoolFolder, "create", fail)
        with pytest.raises(ConfigurationProblem):
            Spool(str(folder), KEYS)
    (file,) = SpoolFolder(folder, KEYS).orphans()
    file.close()


@pytest.mark.parametrize("gone", ["file", "folder"])
def test_what_was_in_a_file_that_is_gone_is_written_again(folder: Path, gone: str) -> None:
    recorder = StoreRecorder(Log(AWAY), spool=Spool(str(folder), KEYS))
    decide(recorder, 1)
    until(lambda: kept(folder) == ["d1"])
    if gone == "file":
        (file,) = folder.iterdir()
        file.unlink()
    else:
        folder.rename(folder.with_name("elsewhere"))
        folder.mkdir(mode=0o700)
    decide(recorder, 2)
    until(lambda: sorted(kept(folder)) == ["d1", "d2"])
    assert not recorder.close(timeout=0.1)


def test_what_is_in_no_file_is_told_as_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = StoreRecorder(Log(AWAY), spool=Spool(str(folder), KEYS))
    decide(recorder, 1)
    until(lambda: kept(folder) == ["d1"])

    def fail(self: SpoolFile, lines: Sequence[bytes]) -> None:
        raise OSError("no room")

    monkeypatch.setattr(SpoolFile, "append", fail)
    decide(recorder, 2)
    assert not recorder.close(timeout=0.1)
    assert f"1 decisions wait in the spool {folder}: " in caplog.text
    assert "1 decisions were not written and are lost with this process" in caplog.text


def test_what_a_closed_service_still_decides_is_kept(folder: Path) -> None:
    recorder = StoreRecorder(Log(AWAY), spool=Spool(str(folder), KEYS))
    decide(recorder, 1)
    recorder.reserve()
    assert not recorder.close(timeout=0.1)
    recorder.record(Decision(id="d2", at=2, allowed=True, audience="crm"))
    until(lambda: sorted(kept(folder)) == ["d1", "d2"])
    assert not recorder.close(timeout=0.1)


@obeys_permissions
def test_a_read_only_folder_is_told_at_the_start(
    keys: AudienceKeys, tmp_path: Path, folder: Path, nowhere: str
) -> None:
    del keys  # the service reads its file
    with without_writing(folder):
        said, told = service(tmp_path, nowhere, before=AS_ANYBODY).communicate(timeout=60)
    assert said == ""
    assert f"cannot write {folder}/crm." in told.splitlines()[-1]
    assert "Permission denied" in told.splitlines()[-1]


def test_a_spool_is_for_the_feed_alone(keys: AudienceKeys, tmp_path: Path, folder: Path) -> None:
    del keys  # it is in the file
    environ = {"CAPX_AUDIENCE": "crm", "CAPX_KEY_FILE": str(tmp_path / "crm.keys"), "CAPX_SPOOL": str(folder)}
    with pytest.raises(ConfigurationProblem, match="name no spool here"):
        connect_from_env({**environ, "CAPX_STORE": "x"})
    connection = connect_from_env({**environ, "CAPX_FEED": "http://127.0.0.1:9"})
    assert len(list(folder.iterdir())) == 1
    connection.close()
    assert list(folder.iterdir()) == []
