"""Who can reach a server: its socket is its owner's alone, other machines only where it is said."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from capx.authority.remote.client import RemoteAuthority
from capx.errors import ConfigurationProblem
from capx.server.net.sockets import Address, OwnSocket
from tests.labs.serving_process import refused
from tests.server.conftest import COMMAND, Served, new_home, serving


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
    assert "is not a socket" in refused(home, "--socket", str(home / "file"), code=3)
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
def test_another_user_in_the_place_of_the_socket_gets_nothing(tmp_path: Path) -> None:
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


def test_a_server_that_answers_is_not_replaced_a_crashed_one_is(served: Served) -> None:
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


def test_of_two_that_start_on_a_crashs_remains_one_serves(served: Served) -> None:
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
    with pytest.raises(ConfigurationProblem, match="is not an address"):
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
    assert "other machines can connect" in refused(home, "--listen", "0.0.0.0:0", code=2)
    assert "--tls-key needs --tls-cert" in refused(home, "--tls-key", str(home / "root.keys"), code=2)
    assert "cannot be served" in refused(home, "--tls-cert", str(home / "root.keys"), code=3)
    assert "cannot listen" in refused(home, "--listen", "192.0.2.1:1", "--insecure-public", code=3)
    assert "there is no authority in" in refused(tmp_path / "none", code=3)


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
    lines = [process.stdout.readline() for _ in range(6)]
    process.terminate()
    process.communicate(timeout=20)
    assert lines[0].startswith("authority             ")
    assert lines[1] == f"operators             unix:{home}/authority.sock\n"
    assert lines[2].startswith("agents and resources  http://127.0.0.1:")
    at = lines[2].rpartition(":")[2]
    assert lines[3:5] == [f"people                http://{name}:{at}" for name in ("127.0.0.1", "localhost")]
    assert process.returncode == 0
