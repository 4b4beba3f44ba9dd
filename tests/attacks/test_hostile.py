"""Whatever stands where an authority should: no client waits for it beyond its patience, or holds all that it sends."""

import contextlib
import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from capx.agent.authority_client import AuthorityClient
from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import CapxError, StoreProblem
from capx.resource.report_client import ResourceClient
from capx.store.records import DecisionRecord
from capx.tokens.bundle import Bundle
from capx.verify.ask import Pending
from capx.verify.decision import Denied

Answering = Callable[[], Iterable[bytes]]


def answer(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> list[bytes]:
    """A whole answer, and the connection is closed."""
    size = len(body) if length is None else length
    lines = (f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {size}", *headers)
    return ["\r\n".join((*lines, "Connection: close", "", "")).encode() + body]


@contextlib.contextmanager
def standing(listening: socket.socket, says: Answering) -> Generator[None]:
    """Something that answers all that is asked in its own way."""
    listening.listen()
    over = threading.Event()

    def run() -> None:
        while True:
            with contextlib.suppress(OSError), listening.accept()[0] as connection:
                if over.is_set():
                    return
                connection.recv(65_536)
                for piece in says():
                    connection.sendall(piece)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        with socket.socket(listening.family) as last:
            last.connect(listening.getsockname())
        thread.join(20)
        assert not thread.is_alive()


@contextlib.contextmanager
def at_url(says: Answering) -> Generator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening, standing(listening, says):
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def at_place(folder: Path, says: Answering) -> Generator[RemoteAuthority]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "a.sock"))
        with standing(listening, says), RemoteAuthority(f"unix:{folder}/a.sock") as remote:
            yield remote


@pytest.fixture(scope="module")
def bundle() -> Iterator[Bundle]:
    with Authority.temporary() as authority:
        yield authority.open(allow=["crm.read"]).bundle


DEEP = b"[" * 100_000 + b"]" * 100_000
AMID = b"[" * 600 + b"]" * 600
REASON = b'{"decision":"x","reasons":[{"code":"c","sentence":"s","given":%b}]}'
HOSTILE: dict[str, list[bytes]] = {
    "garbage": [b"\x00\xff garbage"],
    "nothing": [b""],
    "a page for people": answer(b"<html>"),
    "deep": answer(b'{"task":' + DEEP + b"}"),
    "a deep reason": answer(REASON % DEEP, "403 Forbidden"),
    "a reason of some depth": answer(REASON % AMID, "403 Forbidden"),
    "a deep problem": answer(b'{"x":' + DEEP + b"}", "400 Bad Request"),
    "no content": answer(b"", "204 No Content"),
    "elsewhere": answer(b"", "302 Found", "Location: http://[::1"),
    "compressed, and not": answer(b"abc", "200 OK", "Content-Encoding: gzip"),
    "no text": answer(b'{"detail":"\xff"}', "400 Bad Request"),
    "no reasons": answer(b'{"decision":"x","reasons":[]}', "403 Forbidden"),
    "a huge number": answer(b'{"task":"x","state":"active","opened":' + b"9" * 5_000 + b',"expires":1}'),
    "no hash": answer(b'{"position":1,"hash":"%%%"}'),
    "no hash of an event": answer(
        b'{"events":[{"position":1,"at":1,"kind":"x","hash":"!!","facts":{}}],"reached":1,"end":1}'
    ),
    "cut off": answer(b"{}", length=9),
}


def raises_its_own(ask: Callable[[], Any]) -> None:
    with pytest.raises(CapxError) as told:
        ask()
    assert str(told.value)
    if isinstance(told.value, Denied):
        assert told.value.problem()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_wrong_answer_is_an_error_of_capx_and_no_other(tmp_path: Path, bundle: Bundle, name: str) -> None:
    key = KeyRing(RootKey.generate()).exported("crm")
    with at_url(lambda: HOSTILE[name]) as url:
        with AuthorityClient(url, bundle) as client:
            raises_its_own(client.status)
            raises_its_own(client.complete)
            raises_its_own(lambda: client.ask("crm.write"))
        reports = ResourceClient(url, key)
        raises_its_own(lambda: reports.record([DecisionRecord("x", 1, b"{}")]))
        raises_its_own(lambda: reports.sighted("crm", 1, now=1))
        reports.close()
    with at_place(tmp_path, lambda: HOSTILE[name]) as remote:
        for ask in (
            remote.tasks,
            remote.check,
            remote.graph,
            remote.kids,
            remote.intents,
            remote.requests,
            remote.epoch,
        ):
            raises_its_own(ask)
        raises_its_own(lambda: remote.task("x"))
        raises_its_own(lambda: remote.decision("x"))
        raises_its_own(lambda: remote.request("x"))
        raises_its_own(lambda: remote.inquiry("x"))
        for told in (remote.log, remote.newest_first, remote.find):
            raises_its_own(lambda: list(told()))  # noqa: B023 - called within this very turn


def test_a_log_that_tells_the_same_page_again_ends(tmp_path: Path) -> None:
    event = b'{"position":1,"at":1,"kind":"x","hash":"' + b"A" * 43 + b'","facts":{}}'
    page = answer(b'{"events":[%b],"reached":1,"end":9}' % event)
    with at_place(tmp_path, lambda: page) as remote:
        for told in (remote.log, remote.newest_first, remote.find):
            with pytest.raises(StoreProblem, match="the same page again"):
                list(told())


def dripped(head: bytes, drop: bytes, seconds: float) -> Iterator[bytes]:
    """A beginning, and then a little now and then."""
    yield head
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield drop
        threading.Event().wait(0.1)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", id="a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", id="a body whose length is told"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Drip: ", id="a head"),
    ],
)
def test_an_answer_that_drips_holds_nobody_beyond_the_timeout(bundle: Bundle, head: bytes) -> None:
    key = KeyRing(RootKey.generate()).exported("crm")
    with at_url(lambda: dripped(head, b" ", 12)) as url:
        began = time.monotonic()
        with AuthorityClient(url, bundle, timeout=0.7) as client:
            for ask in (client.status, lambda: client.ask("crm.write", wait=20)):
                with pytest.raises(StoreProblem, match="did not answer"):
                    ask()
        reports = ResourceClient(url, key, timeout=0.7)
        with pytest.raises(StoreProblem, match="did not answer"):
            reports.sighted("crm", 1, now=1)
        reports.close()
        assert time.monotonic() - began < 6


def test_an_answer_that_drips_through_tls_holds_nobody_either(bundle: Bundle) -> None:
    issuer: Any = trustme.CA()
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("127.0.0.1").configure_cert(own)
    trusted = ssl.create_default_context(cadata=issuer.cert_pem.bytes().decode())
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            with own.wrap_socket(listening.accept()[0], server_side=True) as connection, contextlib.suppress(OSError):
                connection.recv(65_536)
                for piece in dripped(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x", 12):
                    if over.is_set():
                        return
                    connection.sendall(piece)

        dripping = threading.Thread(target=drip)
        dripping.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        began = time.monotonic()
        told = pytest.raises(StoreProblem, match="did not answer")
        with AuthorityClient(url, bundle, timeout=2, verify=trusted) as client, told:
            client.status()
        assert time.monotonic() - began < 6
        over.set()
        dripping.join(20)


def endless() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    while True:
        yield b" " * (1 << 16)


def test_an_answer_without_end_is_left_before_its_end(bundle: Bundle) -> None:
    told = pytest.raises(StoreProblem, match="more than 1048576 bytes")
    with at_url(endless) as url, AuthorityClient(url, bundle) as client, told:
        client.status()


def test_nothing_compressed_is_asked_for_nor_unpacked(bundle: Bundle) -> None:
    bombed = answer(gzip.compress(b" " * (64 << 20), 9), "200 OK", "Content-Encoding: gzip")
    # Unpacked, it would be too long.
    told = pytest.raises(StoreProblem, match="of another version")
    with at_url(lambda: bombed) as url, AuthorityClient(url, bundle) as client, told:
        client.status()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        heard: list[bytes] = []

        def hear() -> None:
            with listening.accept()[0] as connection:
                heard.append(connection.recv(65_536))

        hearing = threading.Thread(target=hear)
        hearing.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with AuthorityClient(url, bundle) as client, pytest.raises(StoreProblem):
            client.status()
        hearing.join(20)
    assert heard[0].lower().count(b"accept-encoding:") == heard[0].lower().count(b"accept-encoding: identity") == 1


PENDING = answer(b'{"answer":"pending","request":"x","until":9007199254740991,"approvers":["finance"]}')


def test_an_ask_whose_answer_was_lost_is_asked_again_and_nothing_else_is(bundle: Bundle) -> None:
    answers: list[list[bytes]] = [[], PENDING]
    with at_url(lambda: answers.pop(0)) as url, AuthorityClient(url, bundle) as client:
        assert isinstance(client.ask("crm.write"), Pending)
    assert answers == []
    answers = [[], [], PENDING]
    with at_url(lambda: answers.pop(0)) as url, AuthorityClient(url, bundle) as client:
        with pytest.raises(StoreProblem, match="may have done what it was asked"):
            client.ask("crm.write")
        assert answers == [PENDING]
    answers = [[], PENDING]
    with at_url(lambda: answers.pop(0)) as url, AuthorityClient(url, bundle) as client:
        with pytest.raises(StoreProblem, match="may have done what it was asked"):
            client.complete()
        assert answers == [PENDING]


def test_who_lets_nobody_wait_is_not_asked_all_the_time(bundle: Bundle) -> None:
    asked: list[float] = []

    def pending() -> list[bytes]:
        asked.append(time.monotonic())
        return PENDING

    with at_url(pending) as url, AuthorityClient(url, bundle) as client:
        began = time.monotonic()
        assert isinstance(client.ask("crm.write", wait=2.5), Pending)
        assert 2.5 <= time.monotonic() - began < 6
        assert 3 <= len(asked) <= 4


def test_a_grant_that_was_not_asked_for_is_none(bundle: Bundle) -> None:
    with Authority.temporary() as another:
        other = another.open(allow=["crm.read", "slides.write"]).bundle
    held = {capability.audience: capability for capability in (*bundle, *other)}
    below = bundle.delegate(to="below")
    for capability in (held["slides"], *other, *below):
        granted = answer(b'{"answer":"granted","capability":"%s"}' % capability.text.encode())
        told = pytest.raises(StoreProblem, match="grants what was not asked for")
        with at_url(lambda: granted) as url, AuthorityClient(url, bundle) as client, told:  # noqa: B023 - called within this very turn
            client.ask("crm.write")
