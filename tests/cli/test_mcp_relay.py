"""How a proxy of MCP starts, and how it ends: by its client, by its server, by a signal; nothing is left behind."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Any

import pytest

from tests.labs.commands import COMMAND
from tests.labs.mcp_home import CHILD, McpHome
from tests.labs.processes import ended_with_test


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> McpHome:
    return McpHome(tmp_path_factory.mktemp("relay"))


def child(how: str) -> list[str]:
    return [*CHILD, how]


def line(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"


PING = line(id=1, method="ping")


class Proxy:
    """A proxy that runs, with a client that a test plays."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.process = ended_with_test(
            subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )

    @property
    def input(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def ask(self, sent: bytes) -> Any:
        self.input.write(sent)
        self.input.flush()
        return self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ended(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=30)
        assert out == b""
        assert b"Traceback" not in err
        return self.process.returncode, err.decode()


def guard(home: McpHome, how: str, *options: str) -> Proxy:
    return Proxy(home.guard(child(how), *options), home.plain)


def ran(home: McpHome, *command: str, code: int, **env: str) -> str:
    done = subprocess.run(
        (*COMMAND, "mcp", *command),
        env={**home.plain, **env},
        cwd=home.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done
    return done.stderr


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_client_that_closes_its_side_ends_both(home: McpHome) -> None:
    proxy = guard(home, "honest")
    assert proxy.ask(PING)["id"] == 1
    assert proxy.ended() == (0, "")


def test_a_child_that_dies_is_told_by_the_exit_code(home: McpHome) -> None:
    proxy = Proxy(home.present(home.guard(child("dies"))), {**home.plain, **home.present_env("reader.token")})
    assert proxy.ask(PING)["id"] == 1
    params: dict[str, Any] = {"name": "read", "arguments": {}}
    error = proxy.ask(line(id=2, method="tools/call", params=params))["error"]
    assert "the server has ended with exit status 7" in error["message"]
    proxy.process.wait(timeout=20)
    code, told = proxy.ended()
    assert code == 3
    assert "capx: the server has ended with exit status 7" in told
    assert "capx: the server has ended with exit status 3" in told


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_stubborn_child_too(home: McpHome, number: int, code: int) -> None:
    proxy = guard(home, "stubborn")
    assert proxy.ask(PING)["id"] == 1
    assert proxy.process.stderr is not None
    pid = int(proxy.process.stderr.readline().split()[1])
    assert lives(pid)
    proxy.process.send_signal(number)
    proxy.process.wait(timeout=10)
    assert (proxy.process.returncode, lives(pid)) == (code, False)


def test_a_stubborn_child_ends_when_the_client_has_left(home: McpHome) -> None:
    proxy = guard(home, "stubborn")
    assert proxy.ask(PING)["id"] == 1
    assert proxy.process.stderr is not None
    pid = int(proxy.process.stderr.readline().split()[1])
    assert proxy.ended() == (0, "")
    assert not lives(pid)


def test_a_child_of_the_child_is_not_left_either(home: McpHome) -> None:
    script = f"sleep 60 & echo $! >&2; exec {' '.join(CHILD)}"
    proxy = Proxy(home.guard(["bash", "-c", script]), home.plain)
    assert proxy.ask(PING)["id"] == 1
    assert proxy.process.stderr is not None
    pid = int(proxy.process.stderr.readline())
    assert proxy.ended() == (0, "")
    deadline = time.monotonic() + 5
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(pid)


def test_a_client_that_reads_nothing_more_ends_it(home: McpHome) -> None:
    proxy = guard(home, "honest")
    assert proxy.ask(PING)["id"] == 1
    assert proxy.process.stdout is not None
    proxy.process.stdout.close()
    proxy.input.write(PING * 3)
    proxy.input.close()
    assert proxy.process.wait(timeout=20) == 0


def test_a_long_line_gets_one_error_and_nothing_is_lost(home: McpHome) -> None:
    proxy = guard(home, "honest", "--max-message", "1")
    long = line(id=5, method="tools/call", params={"name": "x" * (10 << 20)})
    refused = proxy.ask(long + PING)
    assert (refused["id"], refused["error"]["code"]) == (None, -32600)
    assert "more than 1048576 bytes" in refused["error"]["message"]
    assert proxy.answer()["id"] == 1
    assert proxy.ended() == (0, "")


def test_messages_in_a_file_are_answered(home: McpHome, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(PING + line(id=2, method="tools/list") + b'{"jsonrpc"')
    with (tmp_path / "in").open("rb") as sent, (tmp_path / "out").open("wb") as got:
        done = subprocess.run(
            home.guard(child("honest")), env=home.plain, stdin=sent, stdout=got, timeout=60, check=False
        )
    answers = [json.loads(each) for each in (tmp_path / "out").read_bytes().splitlines()]
    assert done.returncode == 0
    assert sorted(str(one["id"]) for one in answers) == ["1", "2", "None"]


def test_a_key_in_a_folder_of_the_server_is_refused(home: McpHome) -> None:
    env = home.guard_env
    for given in (str(home.folder), ".", f"--root={home.folder}", env["CAPX_KEY_FILE"], "/"):
        said = ran(home, "guard", "--table", "files.toml", "--", *CHILD, given, code=3, **env)
        assert "its tools could read that file" in said
    said = ran(home, "present", "--audience", "files", "--", *CHILD, "..", code=3, **home.present_env())
    assert "agent.token is in it" in said


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (("guard", "--table", "files.toml"), 2, "name one server: -- COMMAND"),
        (("guard", "--table", "files.toml", "--upstream", "http://x", "--", "true"), 2, "name one server"),
        (("guard", "--table", "files.toml", "--upstream", "x"), 2, "'x' is not a URL"),
        (("guard", "--table", "files.toml", "--listen", "127.0.0.1:0", "--", "true"), 2, "--listen needs --upstream"),
        (("guard", "--table", "files.toml", "--", "true"), 3, "CAPX_KEY_FILE is not set"),
        (("guard", "--table", "nowhere.toml", "--", "true"), 2, "does not exist"),
        (("guard", "--", "true"), 2, "Missing option '--table'"),
        (("present", "--audience", "files", "--", "true"), 3, "set CAPX_TOKEN_FILE or CAPX_TOKEN"),
        (("present", "--audience", "no audience", "--", "true"), 2, "is not an audience"),
        (("map", "--", "true"), 2, "give --audience NAME for a new table, or --update FILE"),
        (("map", "--audience", "files", "--", "/nowhere/server"), 3, "cannot start '/nowhere/server'"),
        (("map", "--audience", "files", "--", "false"), 3, "has ended with exit status 1, before it has listed"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(
    home: McpHome, command: tuple[str, ...], code: int, says: str
) -> None:
    said = ran(home, *command, code=code)
    assert says in said
    assert said.count("\n") == 1


def test_a_guard_of_another_audience_does_not_start(home: McpHome) -> None:
    said = ran(home, "guard", "--table", "files.toml", "--", "true", code=3, **home.guard_env, CAPX_AUDIENCE="mail")
    assert "CAPX_AUDIENCE is mail, and the table is for files" in said


def test_a_guard_on_a_feed_warns(home: McpHome) -> None:
    env = {"CAPX_KEY_FILE": home.guard_env["CAPX_KEY_FILE"], "CAPX_FEED": "http://127.0.0.1:1"}
    said = ran(home, "guard", "--table", "files.toml", "--", *child("honest"), code=0, **env)
    assert "remembers presentations only in its own process" in said


def test_a_server_that_cannot_be_started_is_told(home: McpHome) -> None:
    said = ran(home, "guard", "--table", "files.toml", "--", "/nowhere/server", code=3, **home.guard_env)
    assert said == "capx: cannot start '/nowhere/server': No such file or directory\n"
