"""People elsewhere, attacked: hostile authorities, floods of strangers and of principals, lost answers, old epochs."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from capx.agent.authority_client import AuthorityClient
from capx.api.messages.base import encode
from capx.api.person_auth import UnprovenPerson
from capx.api.problems import NotThere
from capx.authority.authority import Authority
from capx.authority.people import own_tasks
from capx.authority.people.client import PersonClient, Unanswered
from capx.authority.people.inbox import inbox, waiting
from capx.authority.people.known import KnownAuthorities, OtherAuthority, UnknownAuthority
from capx.authority.people.messages import OwnDecisionsQuery
from capx.authority.people.person import Person
from capx.authority.requests.verdict import Verdict
from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest, StoreProblem, Unavailable, UnknownRequest, UnknownTask
from capx.intents.epoch import authority_of, new_epoch
from capx.intents.principal_key import PrincipalKey
from capx.server.faces.people import MAX_BODY
from capx.tokens.bundle import Bundle
from capx.verify.ask import Pending
from tests.labs.hostile_answers import at_url
from tests.labs.office import Office
from tests.labs.people import People
from tests.labs.raw_http import asked, connected
from tests.labs.serving import served as serve_app
from tests.server.conftest import serving

TASKS = "/people/tasks"
INBOX = "/people/requests"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    office = Office(tmp_path_factory.mktemp("office"))
    with serving(office.home) as served:
        yield People(office, served)


class Hostile:
    """An authority that gives itself out for another one, and keeps what people send."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.got: list[tuple[str, str, bytes]] = []
        self.answer: tuple[int, bytes] | None = None
        """What it answers to a request with a proof; None if it never does."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = (await receive()).get("body", b"")
        headers = dict(scope["headers"])
        if scope["path"] == "/people/authority":
            await _answer(send, 200, json.dumps({"epoch": self.epoch, "now": int(time.time())}).encode())
            return
        self.got.append((scope["path"], headers.get(b"authorization", b"").decode(), body))
        if self.answer is None:
            # The connection closes before the answer is whole.
            await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"100")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            await asyncio.sleep(0.1)
            return
        await _answer(send, *self.answer)


async def _answer(send: Any, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


def test_nothing_is_signed_for_an_authority_that_nobody_knows(people: People) -> None:
    hostile = Hostile("A" * 22 + ".1")
    with (
        serve_app(hostile, lifespan="off") as origin,
        PersonClient(origin, people.office.ana, trust_env=False) as me,
        pytest.raises(UnknownAuthority, match=origin),
    ):
        me.inbox()
    assert hostile.got == []


def test_an_authority_that_poses_as_another_is_found_out(people: People, tmp_path: Path) -> None:
    known = tmp_path / "known"
    KnownAuthorities(known).demand(people.origin, authority_of(people.epoch), trust=authority_of(people.epoch))
    hostile = Hostile(people.epoch)
    with (
        serve_app(hostile, lifespan="off") as origin,
        PersonClient(origin, people.office.ana, known=known, trust_env=False) as me,
        pytest.raises(OtherAuthority, match=f"know at {people.origin}"),
    ):
        me.epoch()
    assert hostile.got == []


def test_a_proof_for_a_hostile_authority_is_of_no_use_elsewhere(people: People) -> None:
    hostile = Hostile(people.epoch)
    hostile.answer = (200, b'{"items":[],"next":null}')
    with serve_app(hostile, lifespan="off") as origin:
        trust = authority_of(people.epoch)
        with PersonClient(origin, people.office.ana, trust=trust, trust_env=False) as me:
            assert me.tasks().items == []
        [(target, header, body)] = hostile.got
        assert target == TASKS
        # It passes the very bytes on.
        assert people.sent("GET", target, header, body).status_code == 401


def test_a_request_of_another_authority_is_not_answered(people: People) -> None:
    with people.client(people.office.ana) as ana, people.client(people.office.ben) as ben:
        bundle = ana.open(people.intent()).bundle
        assert isinstance(bundle, Bundle)
        with AuthorityClient(people.origin, bundle, trust_env=False) as agent:
            asked = agent.ask("billing.refund", args={"amount": 7})
        assert isinstance(asked, Pending)
        shown = ben.inquiry(asked.request)
    hostile = Hostile(new_epoch(b64u(bytes(16)), int(time.time())))
    hostile.answer = (200, encode(shown))
    with serve_app(hostile, lifespan="off") as origin:
        trust = authority_of(hostile.epoch)
        with PersonClient(origin, people.office.ben, trust=trust, trust_env=False) as me:
            with pytest.raises(OtherAuthority, match="sign nothing"):
                me.inquiry(asked.request)
            with pytest.raises(OtherAuthority, match="sign nothing"):
                me.answer(shown.inquiry, yes=True)
    assert [path for path, _, _ in hostile.got] == [f"{INBOX}/{asked.request}/inquiry"]


def test_a_stream_that_ends_at_once_is_not_asked_for_at_once(people: People) -> None:
    hostile = Hostile(people.epoch)
    hostile.answer = (200, b'event: end\ndata: "again"\n\n')
    told: list[str] = []

    def watch(origin: str) -> None:
        trust = authority_of(people.epoch)
        with PersonClient(origin, people.office.ben, trust=trust, trust_env=False) as me:
            try:
                next(me.watch())
            except UnprovenPerson as error:
                told.append(str(error))

    with serve_app(hostile, lifespan="off") as origin:
        watching = threading.Thread(target=watch, args=(origin,))
        watching.start()
        time.sleep(1.5)
        asked_by_then = len(hostile.got)
        hostile.answer = (200, b'event: end\ndata: "unproven"\n\n')
        watching.join(20)
    assert 1 <= asked_by_then <= 2
    assert told


def test_an_inbox_of_another_version_is_told_at_once(people: People) -> None:
    hostile = Hostile(people.epoch)
    hostile.answer = (200, b'event: inbox\ndata: {"items": {}}\n\n')
    with serve_app(hostile, lifespan="off") as origin:
        told = pytest.raises(StoreProblem, match="is of another version")
        client = PersonClient(origin, people.office.ben, trust=authority_of(people.epoch), trust_env=False)
        with client as me, told:
            next(me.watch())


def test_nothing_is_opened_where_no_epoch_is_answered(people: People) -> None:
    cut = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"]
    told = pytest.raises(Unavailable, match="did not say its epoch: nothing was signed")
    with at_url(lambda: cut) as url, PersonClient(url, people.office.ana, trust_env=False) as me, told:
        me.open(people.intent())


def test_a_lost_answer_says_what_to_look_for(people: People) -> None:
    hostile = Hostile(people.epoch)
    with serve_app(hostile, lifespan="off") as origin:
        trust = authority_of(people.epoch)
        with PersonClient(origin, people.office.ana, trust=trust, trust_env=False) as me:
            signed = people.intent()
            with pytest.raises(Unanswered, match=f"capx task list --intent {signed.intent.digest}") as error:
                me.open(signed)
            assert error.value.intent == signed.intent.digest
            # It was sent once: to send it again could open another task.
            assert len(hostile.got) == 1
            with pytest.raises(StoreProblem):
                me.inbox()
    with pytest.raises(Unavailable), PersonClient(origin, people.office.ana, trust=trust, trust_env=False) as me:
        me.epoch()


@pytest.mark.parametrize(
    "answer",
    [(200, b"[]"), (200, b"<html>"), (302, b""), (500, b"{}"), (401, b"{}"), (200, b'{"items":' + b"[" * 9_999)],
)
def test_a_hostile_answer_is_one_clear_error(people: People, answer: tuple[int, bytes]) -> None:
    hostile = Hostile(people.epoch)
    hostile.answer = answer
    with serve_app(hostile, lifespan="off") as origin:
        trust = authority_of(people.epoch)
        with PersonClient(origin, people.office.ana, trust=trust, trust_env=False) as me, pytest.raises(StoreProblem):
            me.tasks()


@pytest.mark.parametrize("id", ["", "..", "a/b", "A" * 22 + "/x", "a?b", "%2e"])
def test_an_id_cannot_lead_to_another_path(people: People, id: str) -> None:
    with people.client(people.office.ana) as me:
        with pytest.raises(UnknownTask):
            me.withdraw(id)
        with pytest.raises(UnknownRequest):
            me.inquiry(id)


def test_an_answer_cannot_lead_to_another_path(people: People) -> None:
    verdict = Verdict(request="../tasks/x/withdraw?", yes=True, approver="ben", at=0, signature="A" * 86)
    with people.client(people.office.ben) as ben, pytest.raises(UnknownRequest):
        ben.hand_in(verdict)


def test_a_restored_store_has_people_sign_anew(tmp_path: Path) -> None:
    office = Office(tmp_path)
    with serving(office.home) as served:
        people = People(office, served)
        with people.client(office.ana) as me:
            signed = people.intent()
            me.open(signed)
            port = people.origin.rpartition(":")[2]
            served.stop()
            time.sleep(1.1)
            with Authority.open_home(office.home) as authority, authority.store.write() as writing:
                writing.begin_epoch(f"{authority_of(people.epoch)}.{int(time.time())}")
            served.restart("--listen", f"127.0.0.1:{port}")
            # It asks for the epoch again, and signs for that.
            assert me.tasks().items
            assert me.epoch() != people.epoch


async def _flood(people: People, key: PrincipalKey, seconds: float, at_once: int, good: bool) -> list[int]:
    """The statuses of as many requests as fit, with true proofs or with bad ones."""
    statuses: list[int] = []
    ends = time.monotonic() + seconds

    async def one(http: httpx.AsyncClient) -> None:
        while time.monotonic() < ends:
            header = people.proof(key, "GET", TASKS)
            answer = await http.get(TASKS, headers={"authorization": header if good else header[:-4] + "AAAA"})
            statuses.append(answer.status_code)

    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(base_url=people.origin, trust_env=False, timeout=30, limits=limits) as http:
        await asyncio.gather(*(one(http) for _ in range(at_once)))
    return statuses


@pytest.mark.parametrize("good", [True, False])
def test_a_flood_of_one_keeps_no_other_out(people: People, good: bool) -> None:
    flooder = people.office.eve if good else PrincipalKey.generate("ben")
    statuses: list[int] = []
    flooding = threading.Thread(target=lambda: statuses.extend(asyncio.run(_flood(people, flooder, 3, 60, good))))
    flooding.start()
    mine: list[int] = []
    with people.client(people.office.ben) as ben:
        while flooding.is_alive():
            mine.append(len(ben.inbox().items))
    flooding.join()
    assert len(statuses) > 10
    assert set(statuses) <= ({200, 503} if good else {401, 503})
    # Each of these was answered.
    assert len(mine) >= 3


def test_a_thousand_streams_are_bounded_and_delay_nobody(people: People) -> None:
    opened: list[int] = []

    async def stream(http: httpx.AsyncClient, key: PrincipalKey, held: asyncio.Event) -> None:
        headers = {"authorization": people.proof(key, "GET", INBOX), "accept": "text/event-stream"}
        try:
            async with http.stream("GET", INBOX, headers=headers) as answer:
                opened.append(answer.status_code)
                if answer.status_code == 200:
                    await held.wait()
        except httpx.TransportError:
            # No room for one more connection.
            opened.append(0)

    async def main() -> None:
        held = asyncio.Event()
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=people.origin, trust_env=False, timeout=60, limits=limits) as http:
            keys = (people.office.ana, people.office.ben, people.office.eve)
            tasks = [asyncio.create_task(stream(http, keys[nth % 3], held)) for nth in range(1_000)]
            async with asyncio.timeout(90):
                while len(opened) < 1_000:
                    await asyncio.sleep(0.05)
            # Those that were refused have left, so there is room.
            answer = await asyncio.to_thread(people.asked, people.office.ana, "GET", TASKS)
            assert answer.status_code == 200
            held.set()
            await asyncio.gather(*tasks)

    asyncio.run(main())
    assert opened.count(200) == 12
    assert set(opened) <= {200, 503, 0}
    assert opened.count(503) > 100


def test_large_bodies_are_refused_unread(people: People) -> None:
    for key, status in ((PrincipalKey.generate("stranger"), b" 401 "), (people.office.ana, b" 413 ")):
        header = people.proof(key, "POST", TASKS, b"{}")
        head = f"POST {TASKS} HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY + 1}\r\nAuthorization: {header}\r\n\r\n"
        with connected(people.served) as connection:
            # Only the head was sent.
            assert status in asked(connection, head.encode()).split(b"\r\n")[0]


# One person against the others.


def test_one_principal_cannot_hide_the_requests_of_others(tmp_path: Path) -> None:
    office = Office(tmp_path)
    wants = 'tenants = ["Acme"]\npurposes = ["refund"]\n'
    office.rule(office.policy.read_text().replace("[principal.eve]\n", f"[principal.eve]\n{wants}"))
    with Authority.open_home(office.home) as authority:
        for _ in range(9):
            bundle = authority.open(office.signed(authority)).bundle
            for amount in range(25):
                authority.ask(bundle, "billing.refund", args={"amount": amount})
        meant = office.intent(authority, principal="eve")
        asked = authority.ask(authority.open(office.eve.sign_intent(meant)).bundle, "billing.refund", args={})
        assert isinstance(asked, Pending)
        me = Person("ben", office.ben.public)
        found = inbox(authority, waiting(authority), authority.policy, me, now=int(time.time()))
        every = [one.id for one in authority.requests(pending=True)]
    assert len(every) == 226
    # The oldest 199 of ana, and that of eve, by age.
    assert [one.id for one in found.items] == [*every[:199], asked.request]
    assert found.more == 26


def test_intents_that_open_nothing_leave_no_row(people: People) -> None:
    office = people.office
    with people.client(office.ben) as ben, people.client(office.ana) as ana:
        for me, said in ((ben, {}), (ana, {"tenant": "Other"}), (ana, {"purpose": "invented"})):
            for dry_run in (True, False):
                with pytest.raises(InvalidRequest, match="was never opened here"):
                    me.withdraw_intent(people.intent(me.key, **said), dry_run=dry_run)
    with Authority.open_home(office.home) as authority:
        assert {one.principal for one in authority.intents()} <= {"ana"}
        assert all(one.withdrawn is None for one in authority.intents())


def test_an_intent_is_withdrawn_whatever_the_policy_says(tmp_path: Path) -> None:
    office = Office(tmp_path)
    ana = Person("ana", office.ana.public)
    with Authority.open_home(office.home) as authority:
        signed = office.signed(authority)
        authority.open(signed)
    office.rule(office.policy.read_text().replace('purposes = ["refund", "case"]', ""))
    with Authority.open_home(office.home) as authority:
        now = int(time.time())
        never = office.signed(authority)
        with pytest.raises(InvalidRequest, match="was never opened here"):
            own_tasks.withdraw_intent(authority, ana, never.intent, dry_run=False, now=now)
        done = own_tasks.withdraw_intent(authority, ana, signed.intent, dry_run=False, now=now)
        assert [one.end for one in done.tasks] == ["withdrawn"]
        assert own_tasks.withdraw_intent(authority, ana, signed.intent, dry_run=False, now=now).again


def test_an_id_that_others_report_first_is_no_dead_end(tmp_path: Path) -> None:
    office = Office(tmp_path)
    ana = Person("ana", office.ana.public)
    with Authority.open_home(office.home) as authority:
        mine, other = (authority.open(office.signed(authority)).id for _ in range(2))
        first, last = (f"d.{b64u(bytes([nth] * 16))}" for nth in range(2))
        reported = [("billing", last, other), ("crm", first, mine), ("crm", last, mine), ("warehouse", last, other)]
        for audience, id, task in reported:
            body = json.dumps({"id": id, "task": task, "audience": audience}).encode()
            with authority.store.write() as writing:
                writing.append("decision", body, at=int(time.time()))
        page = own_tasks.decisions(authority, ana, mine, OwnDecisionsQuery(limit=1))
        assert page.next == f"{last}@crm"
        rest = own_tasks.decisions(authority, ana, mine, OwnDecisionsQuery(limit=1, before=page.next))
        assert [json.loads(bytes(one.facts))["id"] for one in rest.items] == [first]
        third = authority.open(office.signed(authority)).id
        with pytest.raises(NotThere):
            own_tasks.decisions(authority, ana, third, OwnDecisionsQuery(before=page.next))
