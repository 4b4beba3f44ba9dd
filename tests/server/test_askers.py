"""Agents that wait for a person: who is woken, who is let go, and what is left of those who went away."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from capx.agent.authority_client import AuthorityClient
from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.authority.requests.verdict import Verdict
from capx.errors import Unavailable
from capx.server.waiting.askers import WAITERS, WAITERS_OF_ONE
from capx.tokens.bundle import Bundle
from capx.verify.ask import Answer, Granted, Pending, Refused
from tests.labs.commands import COMMAND, plain_environment, run_command
from tests.labs.inbox import REFUND
from tests.labs.office import Office
from tests.labs.waiting import until
from tests.server.conftest import Served, presented_ask, serving

JSON = "application/json"


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def served(office: Office) -> Iterator[Served]:
    with serving(office.home) as served:
        yield served


@pytest.fixture
def operator(served: Served) -> Iterator[RemoteAuthority]:
    with RemoteAuthority(served.place) as authority:
        yield authority


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def bundles(office: Office, operator: RemoteAuthority, count: int) -> list[Bundle]:
    """Those of as many tasks."""
    intent = office.signed(operator, max_tasks=count)
    return [operator.open(intent).bundle for _ in range(count)]


def waiting(served: Served) -> int:
    """How many agents wait."""
    with served.everybody() as client:
        found = re.search(r"^capx_askers_waiting (\d+)", client.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def asks(served: Served, bundle: Bundle, seconds: float) -> Answer:
    with AuthorityClient(served.url, bundle) as client:
        return client.ask("billing.refund", args=REFUND, wait=seconds)


def request_of(operator: RemoteAuthority, bundle: Bundle) -> str:
    (request,) = operator.requests(task=bundle.task, pending=True)
    return request.id


def capx(office: Office, *args: str) -> "subprocess.CompletedProcess[bytes]":
    """A command of an operator, in a process of its own."""
    env = {**plain_environment(), "CAPX_HOME": str(office.home), "HOME": str(office.home.parent)}
    return run_command(*args, env=env, timeout=60)


def decide(office: Office, operator: RemoteAuthority, request: str, *, yes: bool = True) -> None:
    operator.answer(Verdict.sign(operator.inquiry(request), office.ben, yes=yes, at=int(time.time())))


@contextlib.contextmanager
def asking(served: Served, bundle: Bundle, wait: int = 20) -> Generator[socket.socket]:
    """A connection over which was asked, and nothing answered yet."""
    body = b'{"audience":"billing","action":"billing.refund","args":{"amount":20}}'
    host, port = served.url.split("://")[1].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = (
            f"POST /agent/ask HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: {len(body)}\r\n"
            f"prefer: wait={wait}\r\nconnection: close\r\n"
            f"authorization: {presented_ask(bundle, body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        yield connection


def answered(connection: socket.socket) -> tuple[bytes, dict[str, object]]:
    """The head and the body of an answer."""
    said = b""
    while piece := connection.recv(65_536):
        said += piece
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), said
    return head.lower(), json.loads(body)


def test_an_approval_by_another_process_wakes_the_one_it_is_for(
    served: Served, office: Office, operator: RemoteAuthority, pool: ThreadPoolExecutor
) -> None:
    held = bundles(office, operator, 3)
    futures: list[Future[Answer]] = [pool.submit(asks, served, bundle, 100) for bundle in held]
    until(lambda: waiting(served) == 3)
    done = capx(
        office,
        *("requests", "approve", request_of(operator, held[1]), "--as", "ben"),
        *("--key-file", str(office.key_file("ben")), "--yes"),
    )
    assert done.returncode == 0, done
    answer = futures[1].result(timeout=20)
    assert isinstance(answer, Granted)
    assert answer.capability.task == held[1].task
    assert [future.done() for future in futures] == [False, True, False]
    assert [operator.request(request_of(operator, held[at])).state for at in (0, 2)] == ["pending", "pending"]
    decide(office, operator, request_of(operator, held[0]), yes=False)
    refused = futures[0].result(timeout=20)
    assert isinstance(refused, Refused)
    assert [reason.code for reason in refused.reasons] == ["request_denied"]
    assert not futures[2].done()
    operator.withdraw(str(held[2].task))
    assert not isinstance(futures[2].result(timeout=20), Granted)
    until(lambda: waiting(served) == 0)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_approval_in_the_store_itself_wakes_it_too(
    tmp_path: Path, pool: ThreadPoolExecutor, request: pytest.FixtureRequest, kind: str
) -> None:
    store = request.getfixturevalue("postgres_url") if kind == "postgres" else None
    office = Office(tmp_path, store=store)
    with serving(office.home) as served, RemoteAuthority(served.place) as operator:
        (bundle,) = bundles(office, operator, 1)
        future = pool.submit(asks, served, bundle, 60)
        until(lambda: waiting(served) == 1)
        with Authority.open_home(office.home) as authority:
            inquiry = authority.inquiry(request_of(operator, bundle))
            authority.answer(Verdict.sign(inquiry, office.ben, yes=True, at=int(time.time())))
            began = time.monotonic()
        assert isinstance(future.result(timeout=20), Granted)
        assert time.monotonic() - began < 2


def test_two_who_wait_for_one_answer_are_granted_the_same(
    served: Served, office: Office, operator: RemoteAuthority, pool: ThreadPoolExecutor
) -> None:
    (bundle,) = bundles(office, operator, 1)
    futures = [pool.submit(asks, served, bundle, 60) for _ in range(4)]
    until(lambda: waiting(served) == 4)
    decide(office, operator, request_of(operator, bundle))
    answers = [future.result(timeout=20) for future in futures]
    assert isinstance(answers[0], Granted)
    assert all(answer == answers[0] for answer in answers)


def test_whoever_is_revoked_while_it_waits_is_granted_nothing(
    served: Served, office: Office, operator: RemoteAuthority, pool: ThreadPoolExecutor
) -> None:
    (bundle,) = bundles(office, operator, 1)
    child = bundle.delegate(to="child", may_ask=["billing.*"])
    future = pool.submit(asks, served, child, 20)
    until(lambda: waiting(served) == 1)
    operator.revoke(child)
    answer = future.result(timeout=20)
    assert isinstance(answer, Refused)
    assert not any(event.kind == "capability_minted" and event.facts().get("request") for event in operator.log())


def test_a_consent_that_the_policy_has_overtaken_grants_nothing(
    served: Served, office: Office, operator: RemoteAuthority
) -> None:
    (bundle,) = bundles(office, operator, 1)
    assert isinstance(asks(served, bundle, 0), Pending)
    decide(office, operator, request_of(operator, bundle))
    office.rule(office.policy.read_text().replace('"billing.*"', '"billing.read"'))
    answer = asks(served, bundle, 0)
    assert isinstance(answer, Refused)
    assert [reason.code for reason in answer.reasons] == ["not_offered"]


def test_who_waits_holds_no_thread_and_has_a_bounded_place(
    served: Served, office: Office, operator: RemoteAuthority
) -> None:
    tasks = WAITERS // WAITERS_OF_ONE
    held = bundles(office, operator, tasks + 1)
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(asking(served, bundle)) for bundle in held[:tasks] for _ in range(WAITERS_OF_ONE)
        ]
        until(lambda: waiting(served) == WAITERS)
        # All others are answered as ever, and one more is not made to wait.
        for bundle in (held[0], held[-1]):
            began = time.monotonic()
            with asking(served, bundle) as connection:
                head, said = answered(connection)
            assert time.monotonic() - began < 5
            assert (said["answer"], b"preference-applied" in head) == ("pending", False)
        with AuthorityClient(served.url, held[-1]) as client:
            assert client.status().state == "active"
        # One approval is one request's: of its task all are answered, and of the others nobody is.
        decide(office, operator, request_of(operator, held[0]))
        texts = {str(answered(connection)[1]["capability"]) for connection in connections[:WAITERS_OF_ONE]}
        assert len(texts) == 1
        until(lambda: waiting(served) == WAITERS - WAITERS_OF_ONE)
    until(lambda: waiting(served) == 0)


def test_one_task_leaves_others_room_to_wait(served: Served, office: Office, operator: RemoteAuthority) -> None:
    held = bundles(office, operator, 2)
    with contextlib.ExitStack() as stack:
        for _ in range(WAITERS_OF_ONE):
            stack.enter_context(asking(served, held[0]))
        until(lambda: waiting(served) == WAITERS_OF_ONE)
        with asking(served, held[0]) as connection:
            assert b"preference-applied" not in answered(connection)[0]
        stack.enter_context(asking(served, held[1]))
        until(lambda: waiting(served) == WAITERS_OF_ONE + 1)


def test_an_agent_that_is_killed_while_it_waits_leaves_nothing(
    served: Served, office: Office, operator: RemoteAuthority
) -> None:
    (bundle,) = bundles(office, operator, 1)
    agents = [
        subprocess.Popen(
            (
                *COMMAND,
                "ask",
                "billing.refund",
                "--with",
                "amount:=20",
                "--wait",
                "60s",
                "--url",
                served.url,
                "--token-file",
                "-",
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    for agent in agents:
        assert agent.stdin is not None
        agent.stdin.write(bundle.text.encode())
        agent.stdin.close()
    until(lambda: waiting(served) == 2)
    for agent in agents:
        agent.kill()
        agent.wait(20)
    until(lambda: waiting(served) == 0)
    decide(office, operator, request_of(operator, bundle))
    # Nothing is minted for whoever is away; it is there when they ask again.
    assert not any(event.kind == "capability_minted" and event.facts().get("request") for event in operator.log())
    assert isinstance(asks(served, bundle, 0), Granted)


def test_a_wait_ends_when_its_time_is_over(served: Served, office: Office, operator: RemoteAuthority) -> None:
    (bundle,) = bundles(office, operator, 1)
    began = time.monotonic()
    with asking(served, bundle, wait=1) as connection:
        head, said = answered(connection)
    assert 1 <= time.monotonic() - began < 6
    assert (said["answer"], b"preference-applied: wait=1" in head) == ("pending", True)
    began = time.monotonic()
    assert isinstance(asks(served, bundle, 1.5), Pending)
    assert 1.5 <= time.monotonic() - began < 8


def test_a_request_nobody_answers_ends_with_the_wait_for_it(tmp_path: Path) -> None:
    office = Office(tmp_path, within="1s")
    with serving(office.home) as served, RemoteAuthority(served.place) as operator:
        (bundle,) = bundles(office, operator, 1)
        began = time.monotonic()
        with asking(served, bundle) as connection:
            said = answered(connection)[1]
        assert time.monotonic() - began < 10
        assert said["answer"] == "pending"
        until(
            lambda: [event.kind for event in operator.log() if event.kind == "request_expired"] == ["request_expired"]
        )
        assert operator.request(str(said["request"])).state == "expired"
        # To ask again is to ask people again.
        assert isinstance(asks(served, bundle, 0), Pending)
        assert len([event for event in operator.log() if event.kind == "request_made"]) == 2


def test_whoever_waits_is_answered_when_the_authority_stops(
    served: Served, office: Office, operator: RemoteAuthority
) -> None:
    held = bundles(office, operator, 2)
    with asking(served, held[0]) as one, asking(served, held[1]) as other:
        until(lambda: waiting(served) == 2)
        began = time.monotonic()
        served.signal(signal.SIGTERM)
        for connection in (one, other):
            assert answered(connection)[1]["answer"] == "pending"
        assert served.ended()[0] == 0
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_waits_on_for_an_authority_that_restarts(
    office: Office, pool: ThreadPoolExecutor, number: int
) -> None:
    with serving(office.home) as served:
        with RemoteAuthority(served.place) as operator:
            (bundle,) = bundles(office, operator, 1)
            future = pool.submit(asks, served, bundle, 60)
            until(lambda: waiting(served) == 1)
            request = request_of(operator, bundle)
        served.signal(number)
        served.process.communicate(timeout=20)
        with Authority.open_home(office.home) as authority:
            verdict = Verdict.sign(authority.inquiry(request), office.ben, yes=True, at=int(time.time()))
            authority.answer(verdict)
        served.restart("--listen", served.url.removeprefix("http://"))
        assert isinstance(future.result(timeout=20), Granted)


def test_an_authority_that_is_not_there_is_told_at_once(office: Office) -> None:
    with Authority.open_home(office.home) as authority:
        bundle = authority.open(office.signed(authority)).bundle
    began = time.monotonic()
    with AuthorityClient("http://127.0.0.1:1", bundle) as client, pytest.raises(Unavailable):
        client.ask("billing.refund", args=REFUND, wait=20)
    assert time.monotonic() - began < 5
