"""Whatever stands where an authority should: no client waits for it beyond its patience, or holds all that it sends."""

import contextlib
import socket
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

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
from tests.labs.hostile_answers import answer, at_url, standing

Answering = Callable[[], Iterable[bytes]]


@contextlib.contextmanager
def at_place(folder: Path, says: Answering) -> Generator[RemoteAuthority]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "a.sock"))
        with standing(listening, says), RemoteAuthority(f"unix:{folder}/a.sock") as remote:
            yield remote


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
            with pytest.raises(StoreProblem, match="the same page of the log again"):
                list(told())


PENDING = answer(b'{"answer":"pending","request":"x","until":9007199254740991,"approvers":["finance"]}')


def test_a_lost_answer_is_asked_for_again_and_nothing_else_is(bundle: Bundle) -> None:
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
        told = pytest.raises(StoreProblem, match="granted something else than the ask")
        with at_url(lambda: granted) as url, AuthorityClient(url, bundle) as client, told:  # noqa: B023 - called within this very turn
            client.ask("crm.write")
