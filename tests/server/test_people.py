"""The face of people, attacked over real HTTP: who proves what, what is told to whom, and what nobody else may do."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx
import pytest

from capx.agent.authority_client import AuthorityClient
from capx.api.messages.base import encode
from capx.api.person_auth import UNPROVEN
from capx.api.problems import HttpRefusal
from capx.authority.authority import Authority
from capx.authority.people.messages import OpenOnIntent, OwnVerdict, WithdrawIntent
from capx.authority.remote.client import RemoteAuthority
from capx.authority.remote.messages import IntentDocument, IntentFile
from capx.authority.requests.verdict import Verdict
from capx.intents.intent import SignedIntent
from capx.intents.person_message import PersonRequest
from capx.intents.principal_key import PrincipalKey
from capx.store.records import DecisionRecord
from capx.tokens.bundle import Bundle
from capx.verify.ask import Granted, Pending
from tests.labs.office import Office
from tests.labs.people import People, nonce, signed_header
from tests.labs.postgres import shared_server
from tests.server.conftest import Served, serving

STRANGER = PrincipalKey.generate("stranger")
TASKS = "/people/tasks"
REFUND = ("billing.refund", {"amount": 20})


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    if request.param == "SQLite":
        yield Office(folder)
        return
    database = shared_server().database()
    yield Office(folder, store=shared_server().url(database))
    shared_server().give_back(database)


@pytest.fixture(scope="module")
def served(office: Office) -> Iterator[Served]:
    with serving(office.home) as served:
        yield served


@pytest.fixture(scope="module")
def people(office: Office, served: Served) -> People:
    return People(office, served)


def opening(signed: SignedIntent, **more: Any) -> bytes:
    return encode(OpenOnIntent(intent=IntentFile.of(signed), **more))


def opened(people: People, **said: Any) -> dict[str, Any]:
    answer = people.asked(people.office.ana, "POST", TASKS, opening(people.intent(**said)))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pending(people: People, bundle: str) -> Pending:
    with AuthorityClient(people.origin, Bundle.parse(bundle), trust_env=False) as agent:
        answer = agent.ask(REFUND[0], args=REFUND[1])
    assert isinstance(answer, Pending)
    return answer


def problem(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code
    return str(answer.json()["detail"])


# Proofs.


def test_everybody_learns_the_epoch_and_the_time(people: People) -> None:
    answer = people.sent("GET", "/people/authority", None)
    assert answer.json()["epoch"] == people.epoch
    assert abs(answer.json()["now"] - time.time()) < 5


def test_a_proof_is_good_once(people: People) -> None:
    header = people.proof(people.office.ana, "GET", TASKS)
    assert people.sent("GET", TASKS, header).status_code == 200
    again = people.sent("GET", TASKS, header)
    assert "came before" in problem(again, 401, "unproven_person")
    assert again.headers["www-authenticate"] == "Capx-Person"


def test_a_proof_is_for_one_request_alone(people: People) -> None:
    ana, body = people.office.ana, opening(people.intent())
    for sent, signed in (
        (("GET", TASKS, b""), {"target": "/people/tasks?limit=1"}),
        (("GET", f"{TASKS}?limit=1", b""), {"target": TASKS}),
        (("GET", "/people/requests", b""), {"target": TASKS}),
        (("POST", TASKS, body), {"method": "GET"}),
        (("GET", TASKS, b""), {"epoch": people.epoch + "1"}),
        (("GET", TASKS, b""), {"origin": "https://capx.example"}),
        (("GET", TASKS, b""), {"origin": people.origin.replace("127.0.0.1", "[::1]")}),
    ):
        header = people.proof(ana, *sent, **signed)
        assert problem(people.sent(*sent[:2], header, sent[2]), 401, "unproven_person") == UNPROVEN
    # Nothing of it was carried out.
    assert people.asked(ana, "GET", TASKS).status_code == 200
    other = people.sent("POST", TASKS, people.proof(ana, "POST", TASKS, body + b" "), body)
    assert "another one than its header proves" in problem(other, 401, "unproven_person")


def test_a_proof_is_not_for_a_target_with_an_empty_query(people: People) -> None:
    ana = people.office.ana
    for signed in (TASKS, f"{TASKS}?"):
        header = people.proof(ana, "GET", TASKS, target=signed)
        # As it is written: httpx leaves an empty query out.
        host, _, port = people.origin.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(f"GET {TASKS}? HTTP/1.1\r\nhost: {host}\r\nauthorization: {header}\r\n\r\n".encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert (answer.status, json.load(answer)["code"]) == (400, "bad_request")
    header = people.proof(ana, "GET", TASKS)
    assert people.sent("GET", TASKS, header).status_code == 200


def test_a_person_dials_either_name_of_this_machine(people: People) -> None:
    origin = people.origin.replace("127.0.0.1", "localhost")
    header = people.proof(people.office.ana, "GET", TASKS, origin=origin)
    assert people.sent("GET", TASKS, header).status_code == 200


def test_who_is_unknown_is_told_what_a_wrong_key_is_told(people: People) -> None:
    def answered(name: str, key: PrincipalKey) -> tuple[int, bytes, dict[str, str]]:
        request = PersonRequest(
            principal=name,
            origin=people.origin,
            epoch=people.epoch,
            method="GET",
            target=TASKS,
            body_digest=sha256(b"").digest(),
            at=int(time.time()),
            nonce=nonce(),
        )
        answer = people.sent("GET", TASKS, signed_header(key, request))
        told = {name: value for name, value in answer.headers.items() if name != "date"}
        return answer.status_code, answer.content, told

    unknown, wrong = answered("stranger", STRANGER), answered("ana", STRANGER)
    assert unknown == wrong == answered("ana", people.office.ben)
    assert unknown[0] == 401


@pytest.mark.parametrize(("ahead", "good"), [(-58, True), (-62, False), (3, True), (9, False)])
def test_a_proof_outside_its_window_says_both_times(people: People, ahead: int, good: bool) -> None:
    # Also of a name that nobody has.
    for key in (people.office.ana, STRANGER):
        at = int(time.time()) + ahead
        answer = people.sent("GET", TASKS, people.proof(key, "GET", TASKS, at=at))
        if good:
            assert answer.status_code == (200 if key is people.office.ana else 401)
        else:
            assert f"signed at {at}" in problem(answer, 401, "unproven_person")


def test_two_headers_prove_nothing(people: People) -> None:
    one, two = (people.proof(people.office.ana, "GET", TASKS) for _ in range(2))
    with httpx.Client(base_url=people.origin, trust_env=False) as http:
        sent = [("authorization", one), ("authorization", two)]
        assert problem(http.get(TASKS, headers=sent), 401, "unproven_person")
        assert problem(http.get(TASKS), 401, "unproven_person")


def test_a_large_body_is_refused_before_it_is_proven(people: People) -> None:
    large = b'{"intent":"' + b"x" * 70_000 + b'"}'
    header = people.proof(people.office.ana, "POST", TASKS, large)
    problem(people.sent("POST", TASKS, header, large), 413, "body_too_large")
    assert people.sent("POST", TASKS, people.proof(STRANGER, "POST", TASKS, b"{"), b"{").status_code == 401


def test_what_is_proven_is_read_strictly(people: People) -> None:
    ana = people.office.ana
    for body in (b"{", b"[]", b'{"intent":{}}', b'{"more":1}', b"", b'{"intent":1,"intent":1}'):
        problem(people.asked(ana, "POST", TASKS, body), 400, "invalid_request")
    problem(people.asked(ana, "GET", f"{TASKS}?limit=0"), 400, "invalid_request")
    problem(people.asked(ana, "GET", f"{TASKS}?limit=201"), 400, "invalid_request")
    problem(people.asked(ana, "GET", f"{TASKS}?since=1"), 400, "invalid_request")
    problem(people.asked(ana, "POST", f"{TASKS}?a=1", b"{}"), 400, "invalid_request")


def test_no_operation_of_operators_is_here(people: People) -> None:
    for method, target in (("GET", "/tasks"), ("POST", "/tasks"), ("POST", "/revocations"), ("GET", "/log")):
        assert people.asked(people.office.ana, method, target, b"{}" if method == "POST" else b"").status_code == 404


# Tasks.


def test_a_person_opens_a_task_on_their_intent(people: People, served: Served) -> None:
    found = opened(people)
    assert (found["principal"], found["tenant"]) == ("ana", "Acme")
    assert Bundle.parse(found["bundle"]).task == found["id"]
    assert "position" not in json.dumps(found)
    with RemoteAuthority(served.place) as operator:
        event = next(one for one in operator.log() if one.kind == "task_opened" and one.facts()["task"] == found["id"])
    assert event.facts()["by"] == {"principal": "ana", "key": people.office.ana.public}


def test_the_agent_of_an_intent_opens_it_too(people: People) -> None:
    signed = people.intent(agent="eve")
    answer = people.asked(people.office.eve, "POST", TASKS, opening(signed))
    assert answer.status_code == 201
    # It is ana's task all the same.
    assert people.asked(people.office.eve, "GET", f"{TASKS}/{answer.json()['id']}").status_code == 404
    assert people.asked(people.office.ana, "GET", f"{TASKS}/{answer.json()['id']}").status_code == 200


def test_who_only_holds_an_intent_opens_nothing(people: People) -> None:
    signed = people.intent()
    problem(people.asked(people.office.ben, "POST", TASKS, opening(signed)), 403, "not_yours")
    # And nothing was counted.
    assert people.asked(people.office.ana, "POST", TASKS, opening(signed)).status_code == 201


def test_an_intent_that_nobody_signed_opens_nothing(people: People) -> None:
    signed = people.intent()
    unsigned = encode(OpenOnIntent(intent=IntentFile.of(signed.intent)))
    assert "not signed" in problem(people.asked(people.office.ana, "POST", TASKS, unsigned), 400, "invalid_request")
    attested = b'{"attested":"sso",' + unsigned[1:]
    problem(people.asked(people.office.ana, "POST", TASKS, attested), 400, "invalid_request")
    forged = SignedIntent(signed.intent, people.office.ben.sign(signed.intent.message()))
    problem(people.asked(people.office.ana, "POST", TASKS, opening(forged)), 400, "invalid_request")


def test_a_token_can_come_sealed(people: People) -> None:
    from capx.crypto.agent_key import AgentKey

    key = AgentKey.generate("worker")
    answer = people.asked(people.office.ana, "POST", TASKS, opening(people.intent(), seal_to=key.public)).json()
    assert "bundle" not in answer
    assert Bundle.unseal(answer["sealed"], key).task == answer["id"]
    named = people.intent(agent_key=key.public)
    other = AgentKey.generate("other").public
    problem(people.asked(people.office.ana, "POST", TASKS, opening(named, seal_to=other)), 400, "invalid_request")
    given = {"agent_key": other, "seal_to": key.public}
    problem(people.asked(people.office.ana, "POST", TASKS, opening(people.intent(), **given)), 400, "invalid_request")
    assert people.asked(people.office.ana, "POST", TASKS, opening(named, seal_to=key.public)).status_code == 201


def test_a_task_of_another_person_is_one_that_does_not_exist(people: People) -> None:
    mine = opened(people)["id"]
    for method, path, body in (
        ("GET", "", b""),
        ("GET", "/graph", b""),
        ("GET", "/requests", b""),
        ("GET", "/decisions", b""),
        ("POST", "/withdraw", b"{}"),
        ("POST", "/withdraw", b'{"dry_run":true}'),
        ("POST", "/revoke", b'{"target":"AAAAAAAAAAAAAAAAAAAAAA"}'),
    ):
        none = "A" * 22
        foreign = people.asked(people.office.ben, method, f"{TASKS}/{mine}{path}", body)
        absent = people.asked(people.office.ben, method, f"{TASKS}/{none}{path}", body)
        assert foreign.status_code == absent.status_code == 404
        assert foreign.content == absent.content.replace(none.encode(), mine.encode())
    assert people.asked(people.office.ana, "GET", f"{TASKS}/{mine}").json()["state"] == "active"


def test_tasks_are_paged_by_the_id_of_the_last(people: People) -> None:
    # The two oldest are behind the last page that is asked for.
    made = [opened(people)["id"] for _ in range(7)][:1:-1]
    found: list[str] = []
    before = ""
    while len(found) < 5:
        page = people.asked(people.office.ana, "GET", f"{TASKS}?limit=2{before}").json()
        assert len(page["items"]) == 2
        found += [one["id"] for one in page["items"]]
        assert page["next"] == found[-1]
        before = f"&before={found[-1]}"
    assert found[:5] == made
    problem(people.asked(people.office.ben, "GET", f"{TASKS}?before={made[0]}"), 404, "unknown_task")
    assert people.asked(people.office.ben, "GET", TASKS).json() == {"items": [], "next": None}
    intent = opened(people)["intent"]
    alone = people.asked(people.office.ana, "GET", f"{TASKS}?intent={intent}").json()
    assert ([one["intent"] for one in alone["items"]], alone["next"]) == ([intent], None)


def test_pages_repeat_no_decision_that_two_services_share(people: People) -> None:
    """Two services record the same ids: a page that went on from an id would begin at the newer one again."""
    task = opened(people)["id"]
    recorded = [(f"shared-{nth}-{task}", audience) for audience in ("crm", "billing") for nth in range(4)]
    with Authority.open_home(people.office.home) as authority:
        authority.store.record(
            [
                DecisionRecord(id_, int(time.time()), encode({"id": id_, "audience": audience, "task": task}))
                for id_, audience in recorded
            ]
        )
    with people.client(people.office.ana) as ana:
        pages = [ana.decisions(task, limit=1)]
        while (last := pages[-1].next) is not None and len(pages) < 20:
            pages.append(ana.decisions(task, limit=1, before=last))
        told = [json.loads(bytes(one.facts)) for page in pages for one in page.items]
        with pytest.raises(HttpRefusal, match="has no decision"):
            ana.decisions(task, before=recorded[0][0])
    assert [(one["id"], one["audience"]) for one in told] == recorded[::-1]


def test_a_person_withdraws_and_revokes_what_is_theirs(people: People, served: Served) -> None:
    ana, found = people.office.ana, opened(people)
    place = f"{TASKS}/{found['id']}"
    bundle = Bundle.parse(found["bundle"])
    capability = next(one for one in bundle if one.audience == "crm")
    assert people.asked(ana, "GET", f"{place}/graph").json()["trees"][0]["task"] == found["id"]
    trial = json.dumps({"target": _id(capability), "dry_run": True}).encode()
    dry = people.asked(ana, "POST", f"{place}/revoke", trial)
    assert dry.json()["killed"][0]["position"] is None
    done = people.asked(ana, "POST", f"{place}/revoke", json.dumps({"target": _id(capability)}).encode())
    assert (done.status_code, done.json()["killed"][0]["position"]) == (200, None)
    other = opened(people)
    foreign = json.dumps({"target": _id(next(iter(Bundle.parse(other["bundle"]))))}).encode()
    problem(people.asked(ana, "POST", f"{place}/revoke", foreign), 404, "unknown_target")
    ended = people.asked(ana, "POST", f"{place}/withdraw", b"{}").json()
    assert (ended["end"], ended["position"]) == ("withdrawn", None)
    with RemoteAuthority(served.place) as operator:
        events = [one.facts() for one in operator.log() if one.kind in {"task_withdrawn", "revoked"}]
    mine = [one for one in events if one.get("task") == found["id"] or one.get("id") == _id(capability)]
    assert [one.get("by") or one.get("person") for one in mine] == [{"principal": "ana", "key": ana.public}] * 2


def _id(capability: Any) -> str:
    from capx.crypto.base64url import b64u

    return b64u(capability.id)


def test_only_its_principal_withdraws_an_intent(people: People, served: Served) -> None:
    signed = people.intent()
    body = encode(WithdrawIntent(intent=IntentDocument.of(signed.intent)))
    where = "/people/intents/withdraw"
    problem(people.asked(people.office.ben, "POST", where, body), 403, "not_yours")
    done = people.asked(people.office.ana, "POST", where, body).json()
    assert (done["intent"], done["again"], done["position"]) == (signed.intent.digest, False, None)
    assert "withdrawn" in problem(
        people.asked(people.office.ana, "POST", TASKS, opening(signed)), 400, "invalid_request"
    )
    with RemoteAuthority(served.place) as operator:
        event = next(one for one in operator.log() if one.kind == "intent_withdrawn")
        known = {one.digest for one in operator.intents()}
    assert event.facts()["by"]["principal"] == "ana"
    # One that has ended, or is for another authority, leaves no row.
    for other in (
        people.intent(now=int(time.time()) - 200_000, not_after=int(time.time()) - 100_000),
        people.intent(authority="OYZ7VqUQJ9PBa0YXjDBPsw.1"),
    ):
        ended = encode(WithdrawIntent(intent=IntentDocument.of(other.intent)))
        problem(people.asked(people.office.ana, "POST", where, ended), 400, "invalid_request")
        with RemoteAuthority(served.place) as operator:
            assert {one.digest for one in operator.intents()} == known


# Requests.


def test_who_is_asked_sees_and_answers(people: People) -> None:
    found = opened(people)
    request = pending(people, found["bundle"]).request
    office = people.office
    inboxes = {
        key.name: [one for one in people.asked(key, "GET", "/people/requests").json()["items"] if one["id"] == request]
        for key in (office.ana, office.ben, office.eve)
    }
    assert [(one["mine"], one["yours"]) for one in inboxes["ana"]] == [(False, True)]
    assert [(one["mine"], one["yours"]) for one in inboxes["ben"]] == [(True, False)]
    assert inboxes["eve"] == []
    with people.client(office.ben) as ben:
        shown = ben.inquiry(request)
        assert shown.task.id == found["id"]
        assert shown.task.position is None
        assert ben.answer(shown.inquiry, yes=True).state == "approved"
    with AuthorityClient(people.origin, Bundle.parse(found["bundle"]), trust_env=False) as agent:
        assert isinstance(agent.ask(REFUND[0], args=REFUND[1]), Granted)


def test_who_is_asked_sees_no_graph_and_no_decisions(people: People) -> None:
    found = opened(people)
    pending(people, found["bundle"])
    for path in ("", "/graph", "/decisions", "/requests"):
        problem(people.asked(people.office.ben, "GET", f"{TASKS}/{found['id']}{path}"), 404, "unknown_task")


def test_a_request_for_somebody_else_does_not_exist(people: People) -> None:
    request = pending(people, opened(people)["bundle"]).request
    verdict = encode(OwnVerdict(yes=True, at=int(time.time()), signature="A" * 86))
    for method, path, body in (
        ("GET", "inquiry", b""),
        ("POST", "verdict", verdict),
        ("POST", "approval", b'{"discharge":"x"}'),
    ):
        none = "A" * 22
        foreign = people.asked(people.office.eve, method, f"/people/requests/{request}/{path}", body)
        absent = people.asked(people.office.eve, method, f"/people/requests/{none}/{path}", body)
        assert foreign.status_code == absent.status_code == 404
        assert foreign.content == absent.content.replace(none.encode(), request.encode())


def test_nobody_consents_to_their_own_work(people: People) -> None:
    office = people.office
    # Named as the agent, ben opens it himself.
    signed = people.intent(agent="ben")
    found = people.asked(office.ben, "POST", TASKS, opening(signed)).json()
    request = pending(people, found["bundle"]).request
    with people.client(office.ana) as ana, people.client(office.ben) as ben:
        for client, refused in ((ana, (403, "not_yours")), (ben, (400, "invalid_request"))):
            inquiry = client.inquiry(request).inquiry
            verdict = Verdict.sign(inquiry, client.key, yes=True, at=int(time.time()))
            body = encode(OwnVerdict(yes=True, at=verdict.at, signature=verdict.signature))
            problem(people.asked(client.key, "POST", f"/people/requests/{request}/verdict", body), *refused)
        # To say no is left to whoever is asked.
        assert ben.answer(ben.inquiry(request).inquiry, yes=False).state == "denied"


def test_an_answer_of_another_person_is_none(people: People) -> None:
    request = pending(people, opened(people)["bundle"]).request
    office = people.office
    with people.client(office.ben) as ben:
        inquiry = ben.inquiry(request).inquiry
        verdict = Verdict.sign(inquiry, office.eve, yes=True, at=int(time.time()))
    body = encode(OwnVerdict(yes=True, at=verdict.at, signature=verdict.signature))
    problem(people.asked(office.ben, "POST", f"/people/requests/{request}/verdict", body), 400, "invalid_request")
    named = b'{"approver":"ben",' + body[1:]
    problem(people.asked(office.ben, "POST", f"/people/requests/{request}/verdict", named), 400, "invalid_request")


def test_a_person_learns_what_they_may_ask_for(people: People) -> None:
    mine = people.asked(people.office.ana, "GET", "/people/policy").json()
    assert mine["principal"] == "ana"
    assert [(one["name"], one["tenants"]) for one in mine["purposes"]] == [("refund", ["Acme"]), ("case", ["Acme"])]
    assert mine["purposes"][1]["parameters"] == ["marks", "share", "ticket"]
    assert "may ask for it" not in json.dumps(mine)
    assert people.asked(people.office.eve, "GET", "/people/policy").json()["purposes"] == []
