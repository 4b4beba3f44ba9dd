"""The header with which a person proves a request: one spelling, one window, and the origins that it may name."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from capx.api.person_auth import PersonClaim, UnprovenPerson, demand_origin, origin_of, prove
from capx.errors import InvalidRequest
from capx.intents.principal_key import PrincipalKey

ANA = PrincipalKey.generate("ana müller@our.example")
NOW = 1_795_600_000


def proof(key: PrincipalKey = ANA, **other: Any) -> str:
    parts: dict[str, Any] = {
        "origin": "https://capx.example",
        "epoch": "OYZ7VqUQJ9PBa0YXjDBPsw.1",
        "method": "GET",
        "target": "/people/tasks?limit=5",
        "body": b"",
        "at": NOW,
    }
    return prove(key, **(parts | other))


def test_a_proof_is_read_back() -> None:
    claim = PersonClaim.read(proof())
    assert (claim.principal, claim.at, claim.until) == (ANA.name, NOW, NOW + 60)
    assert len(claim.nonce) == 16
    claim.demand_body(b"")


def test_a_proof_is_of_one_body() -> None:
    claim = PersonClaim.read(proof(body=b"{}"))
    claim.demand_body(b"{}")
    for other in (b"", b"{} ", b"[]"):
        with pytest.raises(UnprovenPerson, match="another one than its header proves"):
            claim.demand_body(other)


def test_each_proof_has_a_nonce_of_its_own() -> None:
    assert PersonClaim.read(proof()).nonce != PersonClaim.read(proof()).nonce


def with_part(name: str, value: str) -> Callable[[str], str]:
    """Give a part of a header another value."""
    return lambda header: re.sub(rf"{name}=[^,]*", f"{name}={value}", header)


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda header: header.replace(old, new)


def around(before: str, behind: str) -> Callable[[str], str]:
    return lambda header: f"{before}{header}{behind}"


def turned(header: str) -> str:
    parts = header.split(", ")
    return ", ".join([*parts[:2], *reversed(parts[2:])])


SPELLINGS: list[Callable[[str], str]] = [
    *(around("", " "), around(" ", ""), around("", "\n"), around("", ", more=1"), turned),
    *(replaced("Capx-Person", "capx-person"), replaced("Capx-Person ", "Capx-Person  "), replaced("Capx-Person ", "")),
    *(replaced(", at=", ",at="), replaced(", at=", ",  at="), replaced("at=1", "at=01"), replaced("at=1", "at=+1")),
    *(with_part("principal", value) for value in ("", "YQ=", "YR", "_w", "AA")),
    *(with_part("nonce", value) for value in ("A" * 21 + "B", "A" * 21)),
    *(with_part("body", value) for value in ("A" * 42 + "B", "A" * 42, "A" * 44)),
    *(with_part("sig", value) for value in ("A" * 85 + "B", "A" * 84)),
]


@pytest.mark.parametrize("change", SPELLINGS)
def test_another_spelling_proves_nothing(change: Callable[[str], str]) -> None:
    with pytest.raises(UnprovenPerson, match="a person's request is proven by"):
        PersonClaim.read(change(proof()))


@pytest.mark.parametrize(("ahead", "good"), [(-60, True), (-61, False), (0, True), (5, True), (6, False)])
def test_a_proof_has_a_window(ahead: int, good: bool) -> None:
    claim = PersonClaim.read(proof(at=NOW + ahead))
    if good:
        claim.demand_timely(NOW)
    else:
        with pytest.raises(UnprovenPerson, match=f"signed at {NOW + ahead}, and .* says {NOW}:"):
            claim.demand_timely(NOW)


@pytest.mark.parametrize(
    "origin",
    [
        "https://capx.example",
        "https://capx.example:8443",
        "http://127.0.0.1:8411",
        "http://[::1]:1",
        "http://localhost:80443"[:21],
    ],
)
def test_an_origin_has_one_spelling(origin: str) -> None:
    demand_origin(origin)
    assert origin_of(origin) == origin
    assert origin_of(f"{origin}/") == origin
    assert origin_of(origin.upper()) == origin


@pytest.mark.parametrize(
    "origin",
    [
        *("", "capx.example", "https://", "https://CAPX.example", "https://capx.example/", "https://capx.example:443"),
        *("http://capx.example", "http://127.0.0.1:80", "https://a@capx.example", "https://capx.example?x=1"),
        *("ftp://capx.example", "https://capx.example:99999", "https://capx.example:0", "https://capx.example\n"),
    ],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(InvalidRequest):
        demand_origin(origin)
    with pytest.raises(InvalidRequest):
        proof(origin=origin)


@pytest.mark.parametrize(
    "url", ["https://capx.example/path", "https://a:b@capx.example", "https://capx.example?x", "http://[", "x"]
)
def test_a_url_that_is_more_than_an_origin_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        origin_of(url)


@pytest.mark.parametrize(
    "other", [{"method": "get"}, {"target": "people"}, {"target": "/a b"}, {"at": -1}, {"at": 2**53}]
)
def test_what_cannot_be_sent_is_not_proven(other: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        proof(**other)
