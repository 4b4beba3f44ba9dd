"""Streams of inboxes: the list at once and when it changes, the end of who is removed, and bounds for each person."""

import contextlib
import json
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import httpx
import pytest

from capx.agent.authority_client import AuthorityClient
from capx.api.person_auth import UnprovenPerson
from capx.intents.principal_key import PrincipalKey
from capx.server.waiting.stream_limits import INBOXES_OF_ONE
from capx.tokens.bundle import Bundle
from capx.verify.ask import Pending
from tests.labs.office import Office
from tests.labs.people import People
from tests.server.conftest import serving

INBOX = "/people/requests"


@pytest.fixture
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"))


@pytest.fixture
def people(office: Office) -> Iterator[People]:
    with serving(office.home) as served:
        yield People(office, served)


def ask(people: People, amount: int) -> Pending:
    with people.client(people.office.ana) as ana:
        bundle = ana.open(people.intent()).bundle
    assert isinstance(bundle, Bundle)
    with AuthorityClient(people.origin, bundle, trust_env=False) as agent:
        answer = agent.ask("billing.refund", args={"amount": amount})
    assert isinstance(answer, Pending)
    return answer


@contextlib.contextmanager
def stream(people: People, key: PrincipalKey) -> Generator[Iterator[tuple[str, Any]]]:
    """The events of a stream, each with its data."""
    headers = {"authorization": people.proof(key, "GET", INBOX), "accept": "text/event-stream"}
    with (
        httpx.Client(base_url=people.origin, trust_env=False, timeout=20) as http,
        http.stream("GET", INBOX, headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _events(answer.iter_lines())


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


def test_the_whole_inbox_comes_at_once_and_when_it_changes(people: People) -> None:
    first = ask(people, 1)
    with stream(people, people.office.ben) as events:
        kind, inbox = next(events)
        assert (kind, [one["id"] for one in inbox["items"]]) == ("inbox", [first.request])
        began = time.monotonic()
        second = ask(people, 2)
        kind, inbox = next(events)
        assert [one["id"] for one in inbox["items"]] == [first.request, second.request]
        assert time.monotonic() - began < 10
        with people.client(people.office.ben) as ben:
            ben.answer(ben.inquiry(first.request).inquiry, yes=False)
        _, inbox = next(events)
        assert [one["id"] for one in inbox["items"]] == [second.request]


def test_who_is_removed_or_has_another_key_gets_no_more(people: People) -> None:
    office = people.office
    rules = office.policy.read_text()
    for changed in (
        rules.replace(office.ben.public, PrincipalKey.generate("ben").public),
        rules.replace("[principal.ben]", "[principal.bob]"),
    ):
        office.rule(rules)
        with stream(people, office.ben) as events:
            assert next(events)[0] == "inbox"
            office.rule(changed)
            assert next(events) == ("end", "unproven")
            assert list(events) == []
        with people.client(office.ben) as ben, pytest.raises(UnprovenPerson):
            ben.inbox()
        with people.client(office.ben) as ben, pytest.raises(UnprovenPerson):
            next(ben.watch())


def test_who_left_the_group_sees_nothing_any_more(people: People) -> None:
    office, request = people.office, ask(people, 3).request
    with stream(people, office.ben) as events:
        assert [one["id"] for one in next(events)[1]["items"]] == [request]
        rules = office.policy.read_text().replace('groups = ["finance"]', 'groups = ["gone"]')
        office.rule(rules.replace('groups = ["sales"]', 'groups = ["finance"]'))
        assert next(events)[1] == {"items": [], "more": 0}
    assert people.asked(office.ben, "GET", f"{INBOX}/{request}/inquiry").status_code == 404


def test_a_person_has_few_streams_and_others_have_theirs(people: People) -> None:
    with contextlib.ExitStack() as held:
        # Kept, because a stream whose iterator is forgotten is closed.
        streams = [held.enter_context(stream(people, people.office.ben)) for _ in range(INBOXES_OF_ONE)]
        for events in streams:
            next(events)
        header = people.proof(people.office.ben, "GET", INBOX)
        refused = people.sent("GET", INBOX, header, accept="text/event-stream")
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert people.asked(people.office.ben, "GET", INBOX).status_code == 200
        other = held.enter_context(stream(people, people.office.ana))
        assert next(other)[0] == "inbox"
    # What has ended makes room.
    for _ in range(50):
        with contextlib.suppress(AssertionError), stream(people, people.office.ben) as events:
            next(events)
            return
        time.sleep(0.1)
    raise AssertionError("the streams that ended still count")


def test_a_client_watches_through_a_restart(people: People) -> None:
    found: list[list[str]] = []
    seen = threading.Event()
    first = ask(people, 4)

    def watch() -> None:
        with people.client(people.office.ben) as ben, contextlib.suppress(UnprovenPerson):
            for inbox in ben.watch():
                found.append([one.id for one in inbox.items])
                seen.set()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    assert seen.wait(10)
    assert found == [[first.request]]
    port = people.origin.rpartition(":")[2]
    people.served.stop()
    seen.clear()
    people.served.restart("--listen", f"127.0.0.1:{port}")
    assert seen.wait(20)
    people.office.rule(people.office.policy.read_text().replace("[principal.ben]", "[principal.bob]"))
    watching.join(20)
    assert not watching.is_alive()


def test_streams_end_when_the_authority_stops(people: People) -> None:
    with stream(people, people.office.ben) as events:
        next(events)
        people.served.stop()
        assert list(events) == []
