"""A process that serves: who can reach it, how it starts, stops, and comes back."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from capx.agent.authority_client import AuthorityClient
from capx.api import resource_auth
from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.errors import ConfigurationProblem, StoreProblem, Unavailable
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from capx.server.net.connections import CONNECTIONS, HEAD_SECONDS, Limits
from capx.server.net.sockets import Address, OwnSocket
from capx.store.log import check
from tests.server import conftest
from tests.server.conftest import COMMAND, Served, new_home, serving


def until(what: Callable[[], object], seconds: float = 30.0) -> float:
    """Wait until something holds; how long it took, in seconds."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds
        time.sleep(0.005)
    return time.monotonic() - began


def refused(home: Path, *options: str, code: int) -> str:
    """What `capx serve` says that does not start."""
    done = subprocess.run(
        (*COMMAND, *options),
        env={**os.environ, "CAPX_HOME": str(home), "HOME": str(home.parent)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done
    return done.stderr


def test_the_socket_is_its_owners_alone_at_every_instant(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    seen: set[int] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for path in folder.iterdir():
                # It comes and goes.
                with contextlib.suppress(FileNotFoundError):
                    seen.add(stat.S_IMODE(path.lstat().st_mode))

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = os.umask(0)
    try:
        for count in range(20_000):
            own = OwnSocket(folder / "authority.sock")
            own.listening.close()
            own.remove()
            # It is there for so short a time that it may be missed two hundred times.
            if count >= 200 and seen:
                break
    finally:
        os.umask(before)
        done.set()
        watcher.join()
    assert seen == {0o600}


def test_the_socket_of_a_process_is_its_owners_alone(shared: Served) -> None:
    found = shared.socket.lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
    assert shared.socket == shared.home / "authority.sock"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_cannot_connect(tmp_path: Path) -> None:
    # Where everybody may enter, so that it is the socket alone that keeps them out.
    folder = Path("/tmp") / f"capx-{os.getpid()}-open"
    folder.mkdir(mode=0o755)
    try:
        with serving(new_home(tmp_path), "--socket", str(folder / "a.sock")) as served:
            script = (
                "import os, socket; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
                f"socket.socket(socket.AF_UNIX).connect({str(served.socket)!r})"
            )
            done = subprocess.run(
                (sys.executable, "-I", "-c", script),
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert "PermissionError" in done.stderr
            with served.operators() as client:
                assert client.get("/tasks").status_code == 200
    finally:
        folder.rmdir()


def test_a_folder_that_others_can_write_to_holds_no_socket(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    assert "others may write to the folder" in refused(home, "--socket", str(folder / "a.sock"), code=3)
    assert "cannot be used" in refused(home, "--socket", str(tmp_path / "none" / "a.sock"), code=3)
    assert "cannot listen" in refused(home, "--socket", str(home / ("a" * 120)), code=3)
    (home / "file").write_text("kept")
    assert "is no socket" in refused(home, "--socket", str(home / "file"), code=3)
    assert (home / "file").read_text() == "kept"


def test_a_folder_that_others_can_replace_holds_no_socket(tmp_path: Path) -> None:
    home, public, own = new_home(tmp_path), tmp_path / "public", tmp_path / "own"
    (public / "mine").mkdir(parents=True, mode=0o700)
    own.mkdir(mode=0o700)
    (public / "link").symlink_to(own)
    (tmp_path / "through").symlink_to(public / "link")
    public.chmod(0o777)
    for folder in ("public/mine", "public/link", "through", "own/../public/mine", "public/mine/../../own"):
        said = refused(home, "--socket", str(tmp_path / folder / "a.sock"), code=3)
        assert f"others may write to {public}, on the way to the socket" in " ".join(said.split())
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert "cannot be used" in refused(home, "--socket", str(tmp_path / "round" / "a.sock"), code=3)
    # Where each may replace what is their own, as in /tmp, nobody replaces ours.
    public.chmod(0o1777)
    sticky = OwnSocket(tmp_path / "through" / "a.sock")
    sticky.listening.close()
    assert sticky.path == own.resolve() / "a.sock"
    sticky.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give something away")
@pytest.mark.parametrize("given", ["folder", "folder/link"])
def test_a_folder_that_stands_in_anothers_holds_no_socket(tmp_path: Path, given: str) -> None:
    (tmp_path / "folder" / "own").mkdir(parents=True, mode=0o700)
    (tmp_path / "folder" / "link").symlink_to("own")
    os.chown(tmp_path / given, 65_534, 65_534, follow_symlinks=False)
    with pytest.raises(ConfigurationProblem, match=r"on the way to the socket .* belongs to another user"):
        OwnSocket(tmp_path / "folder" / "link" / "a.sock")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_who_took_the_place_of_the_socket_is_told_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "a.sock"))
        script = (
            "import os, socket; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
            f"s = socket.socket(fileno={listening.fileno()}); s.listen(); print(flush=True); "
            "print(s.accept()[0].recv(4096))"
        )
        with subprocess.Popen(
            (sys.executable, "-I", "-c", script), pass_fds=[listening.fileno()], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with (
                RemoteAuthority(f"unix:{tmp_path}/a.sock") as remote,
                pytest.raises(ConfigurationProblem, match="user 65534 listens on"),
            ):
                remote.open(allow=["crm.read"], tenant="Secret")
            assert process.communicate(timeout=20)[0] == "b''\n"


def test_a_server_that_answers_is_not_replaced_and_one_that_crashed_is(served: Served) -> None:
    assert "another capx serve answers" in refused(served.home, "--listen", "127.0.0.1:0", code=3)
    # Paused, it cannot answer, and is there all the same.
    served.signal(signal.SIGSTOP)
    assert "another capx serve answers" in refused(served.home, "--listen", "127.0.0.1:0", code=3)
    served.signal(signal.SIGCONT)
    with served.operators() as client:
        assert client.get("/tasks").status_code == 200
    served.kill()
    assert served.socket.exists()
    served.restart()
    with served.operators() as client:
        assert client.get("/tasks").status_code == 200


def test_of_two_that_start_at_once_on_what_a_crash_left_one_serves(served: Served) -> None:
    served.kill()
    env = {**os.environ, "CAPX_HOME": str(served.home)}
    started = [
        subprocess.Popen(
            (*COMMAND, "--listen", "127.0.0.1:0", "--json"),
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = [process.stdout.readline() if process.stdout else "" for process in started]
    assert sum(map(bool, said)) == 1
    with served.operators() as client:
        assert client.get("/tasks").status_code == 200
    for process in started:
        process.terminate()
        process.communicate(timeout=20)
    assert sorted(process.returncode for process in started) == [0, 3, 3]


def test_the_socket_that_is_removed_is_the_own_one(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    own = OwnSocket(folder / "a.sock")
    own.listening.close()
    later = OwnSocket(folder / "a.sock")
    own.remove()
    assert (folder / "a.sock").exists()
    later.listening.close()
    later.remove()
    assert not (folder / "a.sock").exists()


@pytest.mark.parametrize("text", ["", "8411", "x", ":8411", "localhost:x", "::1:8411", "h:99999", "h:-1", "h:\u0661"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationProblem, match="is no address"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:8411", True),
        ("[::1]:0", True),
        ("localhost:1", True),
        ("0.0.0.0:8411", False),
        ("[::]:8411", False),
        ("authority.internal:443", False),
    ],
)
def test_what_other_machines_can_reach_is_known(text: str, local: bool) -> None:
    address = Address.parse(text)
    assert (str(address), address.is_local) == (text, local)


def test_other_machines_are_not_let_in_by_accident(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    assert "other machines could connect" in refused(home, "--listen", "0.0.0.0:0", code=2)
    assert "--tls-key belongs to a --tls-cert" in refused(home, "--tls-key", str(home / "root.keys"), code=2)
    assert "cannot be served" in refused(home, "--tls-cert", str(home / "root.keys"), code=3)
    assert "cannot listen" in refused(home, "--listen", "192.0.2.1:1", "--insecure-public", code=3)
    assert "no authority lives in" in refused(tmp_path / "none", code=3)


def test_tls_is_served_with_a_certificate(tmp_path: Path) -> None:
    issuer: Any = trustme.CA()
    certificate = tmp_path / "own.pem"
    trusted = ssl.create_default_context(cadata=issuer.cert_pem.bytes().decode())
    issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with serving(new_home(tmp_path), "--tls-cert", str(certificate)) as served:
        assert served.url.startswith("https://127.0.0.1:")
        with RemoteAuthority(served.place) as remote:
            opened = remote.open(allow=["crm.read"])
        with AuthorityClient(served.url, opened.bundle, verify=trusted) as client:
            assert client.complete().end == "completed"
        follower = Follower(FeedSource(served.url, served.keys("crm").feed, tls=trusted))
        try:
            until(lambda: follower.age() < 1.5 and follower.deaths == {opened.id: "task_completed"})
        finally:
            follower.close()


def report_begun(served: Served) -> bytes:
    """The head of a report whose nine bytes of body are waited for, for they might prove it."""
    proof = resource_auth.prove(
        served.keys("crm").live[0], method="POST", target="/decisions", body=b"", at=int(time.time())
    )
    return f"POST /decisions HTTP/1.1\r\nhost: x\r\nauthorization: {proof}\r\ncontent-length: 9\r\n\r\n".encode()


def streams(served: Served) -> list[tuple[httpx.Client, httpx.Response]]:
    """A stream of each kind, open."""
    found: list[tuple[httpx.Client, httpx.Response]] = []
    for client, path in ((served.everybody(), "/feed"), (served.operators(), "/log")):
        request = client.build_request("GET", path, headers={"accept": "text/event-stream"})
        found.append((client, client.send(request, stream=True)))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_with_streams_open(served: Served, number: int) -> None:
    with RemoteAuthority(served.place) as remote:
        opened = remote.open(allow=["crm.read"])
    open_now = streams(served)
    with AuthorityClient(served.url, opened.bundle) as client:
        client.status()
        began = time.monotonic()
        served.signal(number)
        code, err = served.ended()
    assert (code, err) == (0, "")
    assert time.monotonic() - began < 5.0
    assert not served.socket.exists()
    for client_, response in open_now:
        # To its end, and not cut off.
        assert b"data: " in response.read()
        client_.close()
    # The decision on the agent's request was written before the end.
    with Authority.open_home(served.home) as authority:
        assert [event.facts()["action"] for event in authority.find()] == ["task.status"]


def test_what_is_under_way_is_finished(served: Served) -> None:
    answers: list[object] = []

    def revoke() -> None:
        with RemoteAuthority(served.place) as remote:
            # Answers when the second is over.
            answers.append(remote.revoke(issued=int(time.time())))

    began = threading.Thread(target=revoke)
    began.start()
    with Authority.open_home(served.home) as authority:
        until(lambda: any(event.kind == "revoked" for event in authority.log()))
    served.signal(signal.SIGTERM)
    began.join(20)
    assert len(answers) == 1
    assert served.ended() == (0, "")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # httpcore leaves a socket that could not connect
def test_nobody_is_let_in_while_it_stops(served: Served) -> None:
    with served.everybody() as client:
        assert client.get("/healthz").status_code == 200
    served.signal(signal.SIGTERM)
    assert served.ended() == (0, "")
    with served.everybody() as client, pytest.raises(httpx.ConnectError):
        client.get("/healthz")
    with RemoteAuthority(served.place) as remote, pytest.raises(Unavailable, match="start capx serve"):
        remote.tasks()


def test_a_second_signal_ends_it_at_once(served: Served) -> None:
    address = served.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=10) as slow:
        # A request that never comes to its end holds up an orderly one.
        slow.sendall(report_begun(served))
        until(lambda: figure(served, "capx_store_readable") == 1)
        served.signal(signal.SIGTERM)
        until(lambda: not reachable(address))
        assert served.process.poll() is None
        served.signal(signal.SIGTERM)
        code, err = served.ended(timeout=3)
    assert (code, "Traceback" in err) == (128 + signal.SIGTERM, False)
    assert not served.socket.exists()


def test_what_is_never_sent_to_its_end_is_let_go_without_a_trace(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        half = stack.enter_context(connected(served))
        half.sendall(report_begun(served) + b"1")
        stack.enter_context(locked(served))
        for _ in range(12):
            # Four at a time wait for the store, longer than an orderly end may take.
            waiting = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
            waiting.connect(str(served.socket))
            waiting.sendall(b'POST /tasks HTTP/1.1\r\nhost: x\r\ncontent-length: 22\r\n\r\n{"allow":["crm.read"]}')
        until(lambda: figure(served, "capx_store_readable") == 1)
        served.signal(signal.SIGTERM)
        assert half.recv(100) == b""
        code, err = served.ended(timeout=60)
    assert (code, "Traceback" in err) == (0, False), err


def reachable(address: list[str]) -> bool:
    try:
        socket.create_connection((address[0], int(address[1])), timeout=1).close()
    except OSError:
        return False
    return True


def figure(served: Served, name: str) -> float:
    with served.everybody() as client:
        lines = client.get("/metrics").text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} ")), -1.0)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # httpcore leaves a socket that could not connect
def test_after_kill_9_all_that_was_answered_is_there(served: Served) -> None:
    answered: list[tuple[str, int | None]] = []
    opened: list[str] = []

    def work() -> None:
        with RemoteAuthority(served.place) as remote:
            try:
                while True:
                    task = remote.open(allow=["crm.read"])
                    opened.append(task.id)
                    answered.append((task.id, remote.complete(task.id).position))
            except (StoreProblem, Unavailable):
                return

    for _ in range(5):
        before = len(answered)
        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        until(lambda: len(answered) >= before + 5)  # noqa: B023 - waited for within this very turn
        served.kill()
        for worker in workers:
            worker.join(40)
        served.restart()
        with RemoteAuthority(served.place) as remote:
            tasks = {task.id: task for task in remote.tasks()}
            assert all(tasks[id_].position == position for id_, position in answered)
            assert set(opened) <= tasks.keys()
            assert check(remote.log()) == remote.check()


def test_a_paused_authority_makes_followers_stale_and_they_recover(served: Served) -> None:
    follower = Follower(FeedSource(served.url, served.keys("crm").feed))
    try:
        until(lambda: follower.age() < 1.5)
        served.signal(signal.SIGSTOP)
        until(lambda: follower.age() > 2.5)
        served.signal(signal.SIGCONT)
        until(lambda: follower.age() < 1.5)
        with RemoteAuthority(served.place) as remote:
            task = remote.open(allow=["crm.read"])
            remote.complete(task.id)
            until(lambda: task.id in follower.deaths)
    finally:
        follower.close()


def test_a_follower_outlives_a_restart_of_the_authority(served: Served) -> None:
    follower = Follower(FeedSource(served.url, served.keys("crm").feed))
    try:
        until(lambda: follower.age() < 1.5)
        served.stop()
        with Authority.open_home(served.home) as authority:
            task = authority.open(allow=["crm.read"])
            authority.complete(task.id)
        served.restart("--listen", served.url.removeprefix("http://"))
        until(lambda: follower.deaths == {task.id: "task_completed"} and follower.age() < 1.5)
    finally:
        follower.close()


def test_a_task_ends_by_the_clock_without_being_asked(served: Served) -> None:
    follower = Follower(FeedSource(served.url, served.keys("crm").feed))
    try:
        with RemoteAuthority(served.place) as remote:
            task = remote.open(allow=["crm.read"], expires="1s")
            until(lambda: follower.age() < 1.5 and follower.deaths == {task.id: "task_expired"})
            assert remote.task(task.id).state == "expired"
            assert next(remote.newest_first()).kind == "task_expired"
    finally:
        follower.close()


def test_root_keys_that_change_are_taken_anew(served: Served) -> None:
    env = {**os.environ, "CAPX_HOME": str(served.home), "HOME": str(served.home.parent)}

    def keys(*args: str) -> str:
        command = (sys.executable, "-m", "capx_cli.main", "keys", *args)
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True).stdout.strip()

    with RemoteAuthority(served.place) as remote:
        (old,) = remote.kids()
        before = remote.open(allow=["crm.read"])
        new = keys("add")
        keys("activate", new)
        until(lambda: list(remote.kids()) == [new, old])
        after = remote.open(allow=["crm.read"])
        assert {capability.kid for capability in after.bundle} == {new}
        # What was minted under either goes on, until the old one is retired.
        for opened in (before, after):
            with AuthorityClient(served.url, opened.bundle) as client:
                assert client.status().state == "active"
        with served.everybody() as plain:
            assert plain.get("/feed").json()["by"] == new
        keys("retire", old, "--force")
        until(lambda: list(remote.kids()) == [new])
        remote.complete(after.id)
    served.signal(signal.SIGTERM)
    code, err = served.ended()
    assert code == 0
    assert "Traceback" not in err


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


@contextlib.contextmanager
def locked(served: Served) -> Generator[None]:
    """A block in which another process is alone with the log."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect('capx.db'); c.execute('BEGIN IMMEDIATE'); "
        "print(flush=True); sys.stdin.read(); c.rollback()"
    )
    with subprocess.Popen(
        (sys.executable, "-c", script), cwd=served.home, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.communicate(timeout=30)


async def opened(socket_: Path, count: int) -> list[bytes]:
    """The status lines of so many tasks that are opened at once, in the order in which they were answered."""
    answers: list[bytes] = []

    async def open_one() -> None:
        reader, writer = await asyncio.open_unix_connection(str(socket_))
        writer.write(
            b'POST /tasks HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 22\r\n\r\n{"allow":["crm.read"]}'
        )
        answers.append((await reader.read()).partition(b"\r\n\r\n")[0])
        writer.close()

    await asyncio.gather(*[open_one() for _ in range(count)])
    return answers


def test_too_much_at_once_is_told_so_and_the_rest_is_done(served: Served) -> None:
    with locked(served):
        asked = threading.Thread(target=lambda: answers.extend(asyncio.run(opened(served.socket, 250))))
        answers: list[bytes] = []
        asked.start()
        with served.everybody() as client:
            sent_away = 'capx_http_requests_total{face="operators",method="POST",route="/tasks",status="503"}'
            until(lambda: figure(served, sent_away) >= 40)
            # A face of others, and what looks at no store, go on.
            assert client.get("/feed").status_code == 200
            began = time.monotonic()
            assert client.get("/healthz").json() == {"alive": True}
            assert time.monotonic() - began < 1.0
    asked.join(60)
    refused_, done = [a for a in answers if b" 503 " in a], [a for a in answers if b" 200 " in a]
    assert len(refused_) + len(done) == 250
    assert len(refused_) >= 40
    assert all(b"retry-after: 1" in answer for answer in refused_)
    with RemoteAuthority(served.place) as remote:
        assert len(remote.tasks()) == len(done)


def connected(served: Served) -> socket.socket:
    """A connection to the face of everybody, on which nothing was sent."""
    host, port = served.url.split("://")[1].split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def with_files(monkeypatch: pytest.MonkeyPatch, ulimit: str) -> None:
    """Let what is served have so many files open as the shell's `ulimit` says."""
    limited = ("sh", "-c", f'ulimit {ulimit} && exec "$@"', "sh", *COMMAND)
    monkeypatch.setattr(conftest, "COMMAND", limited)


HEALTHY = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


def lives(connection: socket.socket) -> bool:
    """Whether what is asked on a connection is answered."""
    connection.setblocking(True)
    connection.sendall(HEALTHY)
    said = b""
    while piece := connection.recv(4096):
        said += piece
        if said.endswith(b'{"alive":true}'):
            return True
    return False


def aborted(connection: socket.socket) -> bool:
    """Whether a connection was ended from the other side, by now."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system tells nobody what a process has open")
def test_connections_that_say_nothing_lock_out_no_operator_and_fill_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_files(monkeypatch, "-n 256")
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(new_home(tmp_path)))
        limit = Limits.within(256).network
        idle: list[socket.socket] = []
        for _ in range(300):
            # It may be aborted before it is known here to be one.
            with contextlib.suppress(ConnectionError):
                idle.append(stack.enter_context(connected(served)))

        def let_in() -> int:
            held = sum(not aborted(connection) for connection in idle)
            for _ in range(limit - held):
                # Where this takes long, those that have said nothing for ten seconds are dropped: others take over.
                with contextlib.suppress(ConnectionError):
                    idle.append(stack.enter_context(connected(served)))
            return held

        def files_open() -> int:
            return len(list(Path(f"/proc/{served.process.pid}/fd").iterdir()))

        until(lambda: let_in() == limit < files_open(), seconds=60)
        files = files_open()
        assert files < 256 - 64
        with RemoteAuthority(served.place) as remote:
            opened = remote.open(allow=["crm.read"])
            assert remote.task(opened.id).state == "active"
        for connection in idle:
            connection.close()
        with served.everybody() as client:
            until(lambda: files_open() < files - limit / 2)
            assert client.get("/healthz").status_code == 200
        served.signal(signal.SIGTERM)
        assert served.ended() == (0, "")


def test_operators_have_a_limit_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_files(monkeypatch, "-n 256")
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(new_home(tmp_path)))
        limit = Limits.within(256).operators
        idle = [stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX))) for _ in range(2 * limit)]
        for connection in idle:
            connection.connect(str(served.socket))
        until(lambda: sum(map(aborted, idle)) == limit)
        with served.everybody() as client:
            assert client.get("/healthz").status_code == 200


def test_a_connection_that_owes_a_head_is_dropped_in_time_and_no_other(tmp_path: Path) -> None:
    issuer: Any = trustme.CA()
    certificate = tmp_path / "own.pem"
    issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(serving(new_home(tmp_path / "a")))
        tls = stack.enter_context(serving(new_home(tmp_path / "b"), "--tls-cert", str(certificate)))
        owing = {
            "nothing sent": connected(plain),
            "half a head": connected(plain),
            "half of the second head": connected(plain),
            "no handshake": connected(tls),
        }
        kept = {
            "half a body": connected(plain),
            "waits for what to ask next": connected(plain),
            "a stream": connected(plain),
        }
        for connection in (*owing.values(), *kept.values()):
            stack.enter_context(connection)
        began = time.monotonic()
        owing["half a head"].sendall(HEALTHY[:-2])
        for connection in (owing["half of the second head"], kept["waits for what to ask next"]):
            assert lives(connection)
        owing["half of the second head"].sendall(HEALTHY[:-2])
        kept["half a body"].sendall(report_begun(plain) + b"1")
        kept["a stream"].sendall(b"GET /feed HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
        # Byte by byte gains no time.
        ends = began + HEAD_SECONDS - 1
        while time.monotonic() < ends:
            assert not any(map(aborted, owing.values()))
            owing["half a head"].setblocking(True)
            owing["half a head"].sendall(b"x")
            owing["half of the second head"].setblocking(True)
            owing["half of the second head"].sendall(b"x")
            threading.Event().wait(0.5)
        until(lambda: all(map(aborted, owing.values())), seconds=5)
        # A piece of the stream may be there; none of them has ended.
        assert not any(map(aborted, kept.values()))
        assert lives(kept["waits for what to ask next"])


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process cannot be changed")
def test_that_no_connection_can_be_taken_is_told_once_and_passes(served: Served) -> None:
    pid = served.process.pid
    with served.operators() as client:
        assert client.get("/tasks").status_code == 200
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, before[1]))
        idle = [connected(served) for _ in range(40)]
        # This one was there before.
        for _ in range(20):
            assert client.get("/openapi.json").status_code == 200
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        with served.everybody() as later:
            assert later.get("/healthz").status_code == 200
        for connection in idle:
            connection.close()
    served.signal(signal.SIGTERM)
    assert served.ended() == (0, "no connection can be taken in for now: Too many open files\n")


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process cannot be read")
def test_it_asks_for_the_files_that_it_can_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with_files(monkeypatch, "-S -n 200")
    with serving(new_home(tmp_path)) as served:
        found = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)[0]
        assert found == (4_128 if hard == resource.RLIM_INFINITY else min(hard, 4_128))


def test_with_next_to_no_files_it_does_not_start(tmp_path: Path) -> None:
    done = subprocess.run(
        ("sh", "-c", 'ulimit -n 120 && exec "$@"', "sh", *COMMAND, "--listen", "127.0.0.1:0"),
        env={**os.environ, "CAPX_HOME": str(new_home(tmp_path))},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, "raise it with ulimit -n" in " ".join(done.stderr.split())) == (3, True), done


@pytest.mark.parametrize("files", [160, 256, 1_024, 4_096, 1_000_000])
def test_the_faces_leave_the_store_its_files(files: int) -> None:
    limits = Limits.within(files)
    assert limits.operators + limits.network <= files - 128
    assert 0 < limits.operators <= limits.network <= CONNECTIONS


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


def test_it_says_where_it_listens_to_people_too(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    process = subprocess.Popen(
        (*COMMAND, "--listen", "127.0.0.1:0"),
        env={**os.environ, "CAPX_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    process.terminate()
    process.communicate(timeout=20)
    assert lines[0] == f"operators             unix:{home}/authority.sock\n"
    assert lines[1].startswith("agents and resources  http://127.0.0.1:")
    assert process.returncode == 0


def test_a_peer_that_is_no_authority_is_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno")

        answering = threading.Thread(target=answer)
        answering.start()
        with RemoteAuthority(f"unix:{path}") as remote, pytest.raises(StoreProblem, match="is no capx authority"):
            remote.tasks()
        answering.join(10)


@pytest.mark.parametrize("place", ["", "unix:", "/tmp/x", "http://x"])
def test_a_place_is_a_unix_socket(place: str) -> None:
    with pytest.raises(ConfigurationProblem, match="write unix:PATH"):
        RemoteAuthority(place)
