"""Checking who has proven a request: nothing is told of names, a proof is burnt in time, and clocks may jump."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capx.api import person_auth
from capx.api.person_auth import UNPROVEN, PersonClaim, UnprovenPerson, prove
from capx.api.problems import HttpRefusal
from capx.authority.authority import Authority
from capx.authority.people.person import Person
from capx.crypto.ed25519 import is_signed_by
from capx.errors import ConfigurationProblem
from capx.intents.principal_key import PrincipalKey
from capx.server.callers import Callers
from capx.server.faces.person_proof import PersonProof
from tests.labs.office import Office

ORIGINS = ("https://capx.example", "https://capx.example:8443")
NOW = int(time.time())


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"))


@pytest.fixture
def authority(office: Office) -> Iterator[Authority]:
    with Authority.open_home(office.home) as authority:
        yield authority


def proof_of(
    authority: Authority, origins: tuple[str, ...] = ORIGINS, clock: Callable[[], float] = time.time
) -> PersonProof:
    known = Callers(authority.own_verifier(), lambda: authority.keyring, origins)
    return PersonProof(authority, origins, known, clock)


def header(authority: Authority, key: PrincipalKey, origin: str = ORIGINS[0], at: int | None = None) -> str:
    at = int(time.time()) if at is None else at
    return prove(key, origin=origin, epoch=authority.epoch(), method="GET", target="/people/tasks", body=b"", at=at)


def check(proof: PersonProof, text: str) -> Person:
    return proof.check(PersonClaim.read(text), method="GET", target="/people/tasks")


@pytest.mark.parametrize("origin", ORIGINS)
def test_each_origin_that_people_dial_counts(office: Office, authority: Authority, origin: str) -> None:
    person = check(proof_of(authority), header(authority, office.ana, origin))
    assert person == Person("ana", office.ana.public)


@pytest.mark.parametrize("headers", [[], ["", ""], ["Basic x"]])
def test_one_header_in_the_one_form_is_a_claim(authority: Authority, headers: list[str]) -> None:
    with pytest.raises(UnprovenPerson):
        proof_of(authority).claim(headers)


def test_an_authority_without_an_origin_serves_no_people(authority: Authority) -> None:
    with pytest.raises(HttpRefusal, match="--people ORIGIN") as error:
        proof_of(authority, ()).demand_people()
    assert error.value.status == 503


def test_the_unknown_cost_what_a_wrong_signature_costs(
    office: Office, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bytes] = []
    real = is_signed_by

    def counted(public: bytes, message: bytes, signature: str) -> bool:
        checked.append(public)
        return real(public, message, signature)

    monkeypatch.setattr(person_auth, "is_signed_by", counted)
    rules = office.policy.read_text()
    office.rule(f'{rules}\n[principal.sso]\ntenants = ["Acme"]\npurposes = ["refund"]\n')
    counts: list[int] = []
    for name in ("stranger", "sso", "ana"):
        proof = proof_of(authority)
        with pytest.raises(UnprovenPerson) as error:
            check(proof, header(authority, PrincipalKey.generate(name)))
        assert str(error.value) == UNPROVEN
        counts.append(len(checked))
        checked.clear()
    office.rule(rules)
    assert counts == [2, 2, 2]


def test_a_policy_that_cannot_be_used_proves_nobody(office: Office, authority: Authority) -> None:
    rules, text = office.policy.read_text(), header(authority, office.ana)
    office.rule("[")
    with pytest.raises(ConfigurationProblem):
        check(proof_of(authority), text)
    office.rule(rules)
    # Nothing was burnt.
    check(proof_of(authority), text)


def test_a_bad_signature_burns_nothing(office: Office, authority: Authority) -> None:
    proof, good = proof_of(authority), header(authority, office.ana)
    forged = f"{good[:-86]}{office.ben.sign(bytes(32))}"
    with pytest.raises(UnprovenPerson):
        check(proof, forged)
    check(proof, good)


@pytest.mark.parametrize("jump", [30, 66, 200, 100_000])
def test_a_clock_that_jumped_ahead_lets_no_replay_through(tmp_path: Path, jump: int) -> None:
    office, now = Office(tmp_path), [NOW]

    def clock() -> float:
        return now[0]

    with Authority.open_home(office.home, clock=clock) as authority:
        proof = proof_of(authority, clock=clock)
        text = header(authority, office.ana, at=NOW)
        check(proof, text)
        # Others come while the clock is ahead, and what has passed by then is forgotten.
        now[0] = NOW + jump
        check(proof, header(authority, office.ana, at=NOW + jump))
        now[0] = NOW + 1
        again = proof_of(authority, clock=clock)
        again.claim([text])
        with pytest.raises(UnprovenPerson, match="came before"):
            check(again, text)


def test_two_processes_remember_for_each_other(office: Office, authority: Authority) -> None:
    text = header(authority, office.ana)
    with Authority.open_home(office.home) as other:
        check(proof_of(other), text)
    with pytest.raises(UnprovenPerson, match="came before"):
        check(proof_of(authority), text)


def test_who_was_removed_is_refused_at_the_last_moment(office: Office, authority: Authority) -> None:
    person = check(proof_of(authority), header(authority, office.ana))
    person.demand_known(authority.policy)
    office.rule(office.policy.read_text().replace(office.ana.public, PrincipalKey.generate("ana").public))
    with pytest.raises(UnprovenPerson):
        person.demand_known(authority.policy)
