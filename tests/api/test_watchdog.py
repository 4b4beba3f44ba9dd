"""The end of a connection on which nothing comes."""

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import httpx
import pytest

from capx.api.deadline import SINGLE, whole_response
from capx.api.watchdog import Watchdog
from capx.errors import StoreProblem
from tests.labs.processes import in_a_child
from tests.labs.waiting import eventually

CONNECTED = "connection.connect_tcp.complete"
A_RECORD_OF_TLS_THAT_PROMISES_MORE = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"


class Stream:
    """A connection as httpx shows it."""

    def __init__(self, connected: socket.socket | None) -> None:
        self._connected = connected

    def get_extra_info(self, name: str) -> socket.socket | None:
        assert name == "socket"
        return self._connected

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with closing(ours), closing(theirs):
        yield ours, theirs


def is_alive(pair: tuple[socket.socket, socket.socket]) -> bool:
    with suppress(OSError):
        pair[1].send(b"!")
        return pair[0].recv(1) == b"!"
    return False


def watching() -> bool:
    return any(thread.name == "capx-watchdog" for thread in threading.enumerate())


def test_a_connection_on_which_nothing_comes_is_shut_down(pair: tuple[socket.socket, socket.socket]) -> None:
    with Watchdog(0.2, "nothing came") as watchdog:
        watchdog.note(CONNECTED, {"return_value": Stream(pair[0])})
        for _ in range(6):
            time.sleep(0.05)
            watchdog.heard()
        assert is_alive(pair)
        assert watchdog.why is None
        assert eventually(lambda: watchdog.why == "nothing came")
        assert pair[0].recv(1) == b""
    assert not watching()


def test_whoever_is_busy_keeps_the_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    with Watchdog(0.1, "nothing came") as watchdog:
        watchdog.note(CONNECTED, {"return_value": Stream(pair[0])})
        watchdog.hold()
        time.sleep(0.3)
        assert watchdog.why is None
        assert is_alive(pair)


def test_a_connection_made_after_the_cut_is_shut_down(pair: tuple[socket.socket, socket.socket]) -> None:
    with Watchdog(math.inf, "never") as watchdog:
        assert not watching()
        watchdog.cut("closed")
        watchdog.cut("once more")
        watchdog.note(CONNECTED, {"return_value": Stream(pair[0])})
        assert not is_alive(pair)
        assert watchdog.why == "closed"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_cuts_nothing_of_its_parents(pair: tuple[socket.socket, socket.socket]) -> None:
    with Watchdog(60, "nothing came") as watchdog:
        watchdog.note(CONNECTED, {"return_value": Stream(pair[0])})

        def cuts() -> bool:
            with watchdog:
                watchdog.cut("by a child")
            return not watching()

        assert in_a_child(cuts)
        assert is_alive(pair)
        assert watchdog.why is None


def test_a_connection_without_a_socket_is_left_alone() -> None:
    with Watchdog(60, "nothing came") as watchdog:
        watchdog.note(CONNECTED, {"return_value": Stream(None)})
        watchdog.cut("closed")


def test_a_connection_that_cannot_be_watched_is_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    with (
        Watchdog(60, "nothing came") as watchdog,
        pytest.raises(StoreProblem, match="cannot watch the connection"),
    ):
        watchdog.note(CONNECTED, {"return_value": Stream(pair[0])})


@pytest.mark.parametrize(
    ("scheme", "start"),
    [("http", b"HTTP/1.1 200 OK\r\nx: "), ("https", A_RECORD_OF_TLS_THAT_PROMISES_MORE)],
    ids=["a head", "a handshake"],
)
def test_no_drip_holds_a_question_beyond_its_time(scheme: str, start: bytes) -> None:
    over = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with closing(connection), suppress(OSError):
            connection.sendall(start)
            while not over.wait(0.02):
                connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        dripping = threading.Thread(target=drip)
        dripping.start()
        url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
        began = time.monotonic()
        late = pytest.raises(httpx.ReadTimeout, match=r"within 0\.3 s")
        with httpx.Client(base_url=url, timeout=30, limits=SINGLE) as client, late:
            whole_response(client, "GET", "/", seconds=0.3, most=100)
        assert time.monotonic() - began < 5
        over.set()
        dripping.join()


def test_a_watchdog_is_a_daemon_thread_with_a_name() -> None:
    with Watchdog(60, "nothing came"):
        (watcher,) = (thread for thread in threading.enumerate() if thread.name == "capx-watchdog")
        assert watcher.daemon


def test_without_a_thread_nothing_goes_unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    with pytest.raises(StoreProblem, match=r"cannot start a thread .*: can't start new thread"), Watchdog(60, "late"):
        raise AssertionError("the block was entered")


def test_a_unix_socket_is_watched_like_any_other(pair: tuple[socket.socket, socket.socket]) -> None:
    with Watchdog(60, "nothing came") as watchdog:
        watchdog.note("connection.connect_unix_socket.complete", {"return_value": Stream(pair[0])})
        watchdog.cut("closed")
        assert not is_alive(pair)


def test_a_cut_after_the_other_side_has_left_raises_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
        with closing(ours), Watchdog(60, "nothing came") as watchdog:
            watchdog.note(CONNECTED, {"return_value": Stream(ours)})
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            theirs.close()
            with suppress(OSError):
                ours.settimeout(5)
                ours.recv(1)
            watchdog.cut("closed")
            assert watchdog.why == "closed"


def test_what_ends_a_connection_says_why_even_while_it_is_held(pair: tuple[socket.socket, socket.socket]) -> None:
    with Watchdog(0.1, "nothing came") as watchdog:
        watchdog.note(CONNECTED, {"return_value": Stream(pair[0])})
        assert pair[0].recv(1) == b""
        watchdog.hold()
        assert watchdog.why == "nothing came"


def test_a_pause_ends_by_itself_or_by_a_cut() -> None:
    with Watchdog(60, "nothing came") as watchdog:
        began = time.monotonic()
        watchdog.pause(0.05)
        assert time.monotonic() - began > 0.04
        watchdog.cut("closed")
        watchdog.pause(60)
        assert time.monotonic() - began < 10


def test_a_watchdog_ends_a_connection_when_its_time_is_over(pair: tuple[socket.socket, socket.socket]) -> None:
    began = time.monotonic()
    with Watchdog(0.2, "nothing came") as watchdog:
        watchdog.note(CONNECTED, {"return_value": Stream(pair[0])})
        time.sleep(0.1)
        watchdog.heard()
        assert pair[0].recv(1) == b""
        assert time.monotonic() - began > 0.25
