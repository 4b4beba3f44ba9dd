"""Who has sent a request, as its head shows: what a stranger makes up is never a caller's."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capx.api import person_auth, resource_auth
from capx.authority.authority import Authority
from capx.intents.principal_key import PrincipalKey
from capx.server.callers import KEPT, Callers
from capx.tokens.binding import HttpRequest
from capx.tokens.bundle import Bundle
from tests.labs.office import Office

ORIGIN = "https://capx.example"
MACHINE = "192.0.2.7"


class Door:
    """The callers of an authority, whose clock stands until it is moved."""

    def __init__(self, office: Office, authority: Authority) -> None:
        self.now = time.time()
        self.office = office
        self.authority = authority
        self.callers = Callers(authority.own_verifier(), lambda: authority.keyring, (ORIGIN,), lambda: self.now)

    def sender(self, shown: str, path: str = "/people/tasks", method: str = "GET") -> str | bytes:
        """Who has sent a head with these fields."""
        return self.callers.sender_of(f"{method} {path} HTTP/1.1\r\nhost: x\r\n{shown}\r\n".encode(), MACHINE)

    def person(self, key: PrincipalKey, path: str = "/people/tasks", body: bytes = b"") -> str:
        proof = person_auth.prove(
            key,
            origin=ORIGIN,
            epoch=self.authority.epoch(),
            method="GET",
            target=path,
            body=body,
            at=int(self.now),
        )
        return f"Authorization: {proof}\r\n"

    def report(self, path: str = "/decisions") -> str:
        key = self.authority.keyring.active.audience_key("crm")
        proof = resource_auth.prove(key, method="POST", target=path, body=b"{}", at=int(self.now))
        return f"authorization: {proof}\r\n"

    def remember(self, key: PrincipalKey) -> None:
        known = self.authority.policy.principals[key.name].key
        assert known is not None
        self.callers.remember(key.name, known, self.authority.epoch())


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    office = Office(tmp_path)
    with Authority.open_home(office.home) as authority:
        yield Door(office, authority)


def test_who_shows_nothing_is_the_stranger_at_the_machine(door: Door) -> None:
    assert door.sender("") == MACHINE
    assert door.callers.sender_of(b"\0", MACHINE) == MACHINE


@pytest.mark.parametrize("form", ["Authorization: Capx {}\r\n", "authorization:capx   {}  \r\n", "capx-token: {}\r\n"])
def test_an_agent_is_the_capability_that_it_shows(door: Door, form: str) -> None:
    own, other = (door.authority.open(allow=["crm.read"]).bundle for _ in range(2))

    def sender(of: Bundle, skip: int = 0) -> str | bytes:
        request = HttpRequest(method="GET", target="/agent/status", body=b"")
        return door.sender(form.format(of.present("authority", request).text[skip:]), "/agent/status")

    assert isinstance(sender(own), bytes)
    assert sender(own) == sender(own) == sender(own.delegate(to="helper", allow=["task.status"]))
    assert sender(own) != sender(other)
    assert sender(own, skip=1) == MACHINE


@pytest.mark.parametrize(
    "form",
    ["Authorization: Bearer {}\r\n", "Authorization: Capx \v{}\r\n", "Authorization: {}\r\n", "capx-token: {}\v\r\n"],
)
def test_a_presentation_in_another_form_is_a_strangers(door: Door, form: str) -> None:
    shown = door.authority.open(allow=["crm.read"]).bundle.present(
        "authority", HttpRequest(method="GET", target="/agent/status", body=b"")
    )
    assert door.sender(form.format(shown.text), "/agent/status") == MACHINE


def test_only_a_presentation_of_this_minute_shows_a_capability(door: Door) -> None:
    bundle = door.authority.open(allow=["crm.read"]).bundle
    request = HttpRequest(method="GET", target="/agent/status", body=b"")
    old = bundle.present("authority", request, now=int(door.now) - 61)
    for shown in (old.text, bundle.candidates("authority")[0].text, f",{old.text}", ""):
        assert door.sender(f"capx-token: {shown}\r\n", "/agent/status") == MACHINE


def test_a_resource_with_a_revoked_key_is_a_stranger(door: Door) -> None:
    door.callers.revoked_kids = frozenset({door.authority.keyring.active.kid})
    assert door.sender(door.report(), "/decisions", "POST") == MACHINE


def test_a_resource_is_its_audience(door: Door) -> None:
    assert door.sender(door.report(), "/decisions", "POST") == b"resource crm"
    assert door.sender(door.report(), "/spend", "POST") == MACHINE
    shown = door.report()
    door.now += 61
    assert door.sender(shown, "/decisions", "POST") == MACHINE


def test_a_person_is_known_once_they_have_proven_a_request(door: Door) -> None:
    ana = door.office.ana
    assert door.sender(door.person(ana)) == MACHINE
    door.remember(ana)
    assert door.sender(door.person(ana)) == b"person ana"
    assert door.sender(door.person(ana).replace("\r\n", " \t\r\n")) == b"person ana"
    assert door.sender(door.person(ana).replace("\r\n", "\v\r\n")) == MACHINE
    assert door.sender(door.person(PrincipalKey.generate("ana"))) == MACHINE
    assert door.sender(door.person(ana, "/people/requests")) == MACHINE
    shown = door.person(ana)
    door.now += 61
    assert door.sender(shown) == MACHINE
    door.now += KEPT - 61
    assert door.sender(door.person(ana)) == b"person ana"
    door.now += 1
    assert door.sender(door.person(ana)) == MACHINE


def test_made_up_names_cost_no_check_of_a_signature(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(person_auth, "is_signed_by", None)
    assert door.sender(door.person(PrincipalKey.generate("stranger"))) == MACHINE
    assert door.sender(door.person(door.office.ana)) == MACHINE


CHANGES: list[Callable[[str], str]] = [
    lambda shown: shown + shown,
    lambda shown: shown + "capx-token: x\r\n",
    lambda shown: shown.replace("Authorization: ", "Authorization: x"),
    lambda shown: shown.replace("Capx-Person", "Basic"),
    lambda shown: shown.replace(", ", ",\r\n "),
    lambda shown: shown.replace("Authorization", "X-Authorization"),
    lambda shown: f"x: \u00e9\r\n{shown[:-10]}\u00e9\r\n",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_head_that_the_route_would_refuse_is_a_strangers(door: Door, change: Callable[[str], str]) -> None:
    door.remember(door.office.ana)
    assert door.sender(change(door.person(door.office.ana))) == MACHINE
