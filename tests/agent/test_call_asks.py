"""How a call ends, whether a tool makes it or a client: allowed, refused, waiting for a person, or unavailable."""

import asyncio
import contextlib
import json
import pickle
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

import httpx
import pytest

from capx.agent.agent import WAIT, Agent
from capx.agent.authority_client import AuthorityClient
from capx.agent.httpx_client import ASK_EXTENSION, NOTES_EXTENSION
from capx.authority.authority import Authority
from capx.authority.in_process import InProcess
from capx.authority.opening import OpenedTask
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import CapxError, ConfigurationProblem, InvalidRequest, StoreProblem, Unavailable
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.guard.tool import ToolGuard
from capx.policy.file import read_policy
from capx.policy.policy import Policy
from capx.resource.replay import Replay
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.bundle import Bundle
from capx.verify.ask import Answer, Ask, Pending
from capx.verify.decision import Denied
from capx.verify.verifier import Verifier
from tests.labs.asking_agent import POLICY, Tools, noting
from tests.labs.hostile_answers import answer, at_url
from tests.labs.lab import Deaths
from tests.labs.refunds import refund
from tests.labs.serving import served

Call = Callable[[Agent], object]


@pytest.fixture(params=["tool", "async tool", "client", "async client"])
def call(request: pytest.FixtureRequest, tools: Tools, origin: str) -> Call:
    """Calls crm.accounts.read as an agent: each way ends in the same answer."""

    def by_client(agent: Agent) -> object:
        with agent.http({origin: "crm"}, raise_denied=True) as client:
            return client.get(f"{origin}/crm.accounts.read").text

    async def by_async_client(agent: Agent) -> object:
        async with agent.async_http({origin: "crm"}, raise_denied=True) as client:
            return (await client.get(f"{origin}/crm.accounts.read")).text

    ways: dict[str, Call] = {
        "tool": lambda agent: agent.tool(tools.accounts)(),
        "async tool": lambda agent: asyncio.run(_awaited(agent, tools)),
        "client": by_client,
        "async client": lambda agent: asyncio.run(by_async_client(agent)),
    }
    return ways[request.param]


async def _awaited(agent: Agent, tools: Tools) -> object:
    return await agent.tool(tools.accounts_async)()


def problem(status: int, **said: object) -> list[bytes]:
    body = {"type": "urn:capx:problem:x", "title": "x", "status": status, "detail": "no", "code": "x", **said}
    return answer(json.dumps(body).encode(), f"{status} no")


def unable(code: str) -> list[bytes]:
    return problem(503, code=code, decision="d", reasons=[{"code": code, "sentence": "the disk is full"}])


def silent() -> Iterable[bytes]:
    time.sleep(0.6)
    return []


AWAY: dict[str, Callable[[], Iterable[bytes]]] = {
    "silent": silent,
    "broken off": list,
    "no HTTP": lambda: [b"hello\r\n"],
    "half an answer": lambda: answer(b'{"answer":', length=100),
    "no JSON": lambda: answer(b"\xff"),
    "another message": lambda: answer(b'{"answer": "yes"}'),
    "no capability": lambda: answer(b'{"answer": "granted", "capability": "capx1_AA"}'),
    "no capx authority": lambda: answer(b"<html>", "404 Not Found"),
    "a proxy's 502": lambda: answer(b"<html>", "502 Bad Gateway"),
    "a crash": lambda: problem(500, code="internal_error"),
    "no room": lambda: problem(503, code="unavailable"),
    "no policy": lambda: problem(503, code="configuration_problem"),
    "a denial that cannot say": lambda: unable("unavailable"),
    "stale news": lambda: unable("stale_liveness"),
    "a body that was too slow": lambda: problem(408, code="body_too_slow"),
    "a client that has gone": lambda: problem(400, code="client_gone"),
    "a request that cannot be read": lambda: problem(400, code="bad_request"),
    "a code of tomorrow": lambda: problem(400, code="of_tomorrow"),
    "a gateway's 429": lambda: problem(429, type="about:blank", code="rate_limited"),
    "a gateway's 400": lambda: problem(400, type="about:blank", code="invalid_request"),
    "another path": lambda: problem(404, code="not_found"),
    "a task that is not there": lambda: problem(404, code="unknown_task"),
    "another method": lambda: problem(405, code="method_not_allowed"),
    "a body that was too large": lambda: problem(413, code="body_too_large"),
    "a crash with a code of ours": lambda: problem(500, code="invalid_request"),
    "a proxy's 502 with reasons": lambda: problem(502, reasons=reasons("expired")),
    "503 with reasons for 403": lambda: problem(503, reasons=reasons("expired")),
    "a gateway's 403 with reasons": lambda: problem(403, type="about:blank", reasons=reasons("expired")),
    "a refusal without reasons": lambda: answer(b'{"answer": "refused", "reasons": []}'),
    "a redirect": lambda: answer(b"", "302 Found", "Location: http://127.0.0.1:9/"),
}


@contextlib.contextmanager
def asking(task: OpenedTask, url: str, *, wait: float = WAIT) -> Generator[Agent]:
    with (
        AuthorityClient(url, task.bundle, timeout=0.3) as authority,
        Agent(task.bundle, authority=authority, wait=wait) as agent,
    ):
        yield agent


@pytest.mark.parametrize("says", AWAY.values(), ids=AWAY.keys())
def test_an_authority_without_an_answer_is_unavailable(
    task: OpenedTask, tools: Tools, call: Call, says: Callable[[], Iterable[bytes]]
) -> None:
    with at_url(says) as url, asking(task, url) as agent, pytest.raises(Unavailable) as away:
        call(agent)
    assert isinstance(away.value.__cause__, Denied)
    assert away.value.__cause__.code == "action_not_allowed"
    assert str(away.value.__cause__) in str(away.value)
    assert str(away.value).endswith("Nothing was done: try the very same call again later.")
    assert not tools.ran


def test_an_authority_where_nothing_listens_is_unavailable(task: OpenedTask, tools: Tools, call: Call) -> None:
    with asking(task, "http://127.0.0.1:9") as agent, pytest.raises(Unavailable, match="no authority answers at"):
        call(agent)
    assert not tools.ran


def test_a_client_without_raise_denied_is_unavailable_too(task: OpenedTask, origin: str) -> None:
    with (
        asking(task, "http://127.0.0.1:9") as agent,
        agent.http({origin: "crm"}) as client,
        pytest.raises(Unavailable) as away,
    ):
        client.get(f"{origin}/crm.accounts.read")
    assert isinstance(away.value.__cause__, Denied)


class Broken(httpx.BaseTransport):
    """A transport whose errors are not httpx's."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise OSError("\x1b[2J")


def test_a_transport_with_errors_of_its_own_is_unavailable(task: OpenedTask, tools: Tools, call: Call) -> None:
    with (
        AuthorityClient("http://authority", task.bundle, transport=Broken()) as authority,
        Agent(task.bundle, authority=authority) as agent,
    ):
        with pytest.raises(Unavailable) as away:
            call(agent)
        with pytest.raises(StoreProblem, match="did not answer"):
            authority.status()
    assert str(away.value).isprintable()
    assert not tools.ran


class Failing(InProcess):
    """An authority that fails with an error that is not ours."""

    def acting_for(self, bundle: Bundle, /) -> "Failing":
        return Failing(self._authority, bundle)

    def answer(self, ask: Ask, wait: float) -> Answer:
        raise TimeoutError


def test_an_authority_with_errors_of_its_own_is_unavailable(lab: Authority, task: OpenedTask, call: Call) -> None:
    agent = Agent(task.bundle, authority=Failing(lab, task.bundle))
    with pytest.raises(Unavailable, match="TimeoutError"):
        call(agent)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_an_agent_that_is_closed_says_so(lab: Authority, task: OpenedTask, call: Call, *, elsewhere: bool) -> None:
    agent = Agent(task.bundle, authority="http://127.0.0.1:9" if elsewhere else lab)
    agent.close()
    ways: tuple[Call, ...] = (call, by_ask, by_async_ask)
    for asks in ways:
        with pytest.raises(InvalidRequest, match="the agent is closed"):
            asks(agent)


def by_ask(agent: Agent) -> Answer:
    return agent.ask("crm.accounts.read")


def by_async_ask(agent: Agent) -> Answer:
    return asyncio.run(agent.ask_async("crm.accounts.read"))


def test_a_client_of_an_authority_that_is_closed_says_so(task: OpenedTask) -> None:
    client = AuthorityClient("http://127.0.0.1:9", task.bundle)
    client.close()
    for asks in (lambda: client.ask("crm.accounts.read"), client.status):
        with pytest.raises(InvalidRequest, match="is closed"):
            asks()


@pytest.mark.parametrize("says", [AWAY["no room"], AWAY["stale news"], AWAY["a redirect"], AWAY["no policy"]])
def test_an_ask_by_hand_without_an_answer_is_unavailable(task: OpenedTask, says: Callable[[], Iterable[bytes]]) -> None:
    with at_url(says) as url, asking(task, url) as agent, pytest.raises(Unavailable):
        agent.ask("crm.accounts.read")


class Twin:
    """An authority of its own over the same store as another one that guards tools."""

    def __init__(self, folder: Path) -> None:
        self.policy: Policy | None = read_policy(POLICY)
        key = RootKey.generate()
        self.path = folder / "capx.db"
        self.lab = Authority(SQLiteStore.create(self.path), KeyRing(key), policy=self._policy)
        self.asked = Authority(SQLiteStore(self.path, busy_seconds=0.2), KeyRing(key), policy=self._policy)

    def _policy(self) -> Policy:
        if self.policy is None:
            raise ConfigurationProblem("the policy file cannot be read")
        return self.policy


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Twin]:
    made = Twin(tmp_path)
    with made.lab, made.asked:
        yield made


@pytest.mark.parametrize("gone", ["closed", "no policy"])
def test_an_authority_here_that_is_out_of_order_is_unavailable(twin: Twin, gone: str) -> None:
    task = refund(twin.lab)
    tools = Tools(twin.lab)
    agent = Agent(task.bundle, authority=twin.asked)
    if gone == "closed":
        twin.asked.close()
    else:
        twin.policy = None
    with pytest.raises(Unavailable) as away:
        agent.tool(tools.accounts)()
    assert isinstance(away.value.__cause__, Denied)
    assert not tools.ran


def test_a_locked_store_of_the_authority_is_no_refusal(twin: Twin) -> None:
    task = refund(twin.lab)
    # A guard that needs no store: only the authority uses it.
    keys = twin.lab.export_keys("crm")
    verifier = Verifier("crm", keys, liveness=Deaths(twin.lab.id), replay=Replay.process(clock=lambda: 0.0))
    guard = ToolGuard(lambda _: verifier)
    export = guard.tool("crm.accounts.read", tenant="Acme")(lambda: pytest.fail("it ran"))
    agent = Agent(task.bundle, authority=twin.asked)
    locking = sqlite3.connect(twin.path, isolation_level=None)
    locking.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Unavailable) as away:
            agent.tool(export)()
    finally:
        locking.close()
    assert isinstance(away.value.__cause__, Denied)
    assert away.value.__cause__.code == "action_not_allowed"


def test_a_tool_whose_own_guard_cannot_say_is_unavailable(twin: Twin) -> None:
    task, tools = refund(twin.lab), Tools(twin.lab)
    twin.lab.close()
    with pytest.raises(Unavailable) as away:
        Agent(task.bundle, authority=twin.asked).tool(tools.tickets)()
    assert isinstance(away.value.__cause__, Denied)
    assert away.value.__cause__.status == 503
    assert not tools.ran


# Refusals.


def test_an_authority_that_says_no_is_a_refusal(lab: Authority, task: OpenedTask, tools: Tools, call: Call) -> None:
    child = task.bundle.delegate(to="helper", audiences=["crm", "authority"], may_ask=["crm.notes.write"])
    agent = Agent(child, authority=lab)
    with pytest.raises(Denied) as refused:
        call(agent)
    assert refused.value.code == "action_not_allowed"
    (note,) = refused.value.notes
    assert note.startswith('the agent asked for more and did not get it: hop 1 ("helper") ')
    assert str(refused.value).endswith(f"; {note}")
    assert str(refused.value).count(note) == 1
    assert not tools.ran


@pytest.mark.parametrize(
    "says",
    [
        lambda: problem(403, code="x", decision="d", reasons=[{"code": "task_completed", "sentence": "over"}]),
        lambda: problem(400, code="invalid_request"),
        lambda: answer(b'{"answer": "refused", "reasons": [{"code": "not_offered", "sentence": "no"}]}'),
    ],
    ids=["denied", "makes no sense", "refused"],
)
def test_a_no_over_http_is_a_refusal(task: OpenedTask, call: Call, says: Callable[[], Iterable[bytes]]) -> None:
    with at_url(says) as url, asking(task, url) as agent, pytest.raises(Denied) as refused:
        call(agent)
    assert len(refused.value.notes) == 1


def test_the_notes_of_a_denial_go_with_it_and_to_no_bearer(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task)
    with pytest.raises(Denied) as refused:
        agent.tool(tools.export)()
    copy = pickle.loads(pickle.dumps(refused.value))
    assert copy.notes == refused.value.notes != ()
    assert str(copy) == str(refused.value)
    assert refused.value.notes[0] not in refused.value.problem()["detail"]


def test_a_response_has_the_notes_that_a_raised_denial_has(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, _ = noting(lab, task)
    with agent.http({origin: "crm"}) as client, agent.http({origin: "crm"}, raise_denied=True) as raising:
        response = client.get(f"{origin}/crm.export")
        with pytest.raises(Denied) as refused:
            raising.get(f"{origin}/crm.export")
    assert response.extensions[NOTES_EXTENSION] == refused.value.notes != ()
    assert ASK_EXTENSION in response.extensions
    assert response.json()["detail"] == str(refused.value).removesuffix(f"; {refused.value.notes[0]}")


def test_pending_is_raised_by_a_client_that_raises(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, _ = noting(lab, task)
    with agent.http({origin: "crm"}, raise_denied=True) as client, pytest.raises(Pending):
        client.get(f"{origin}/crm.accounts.delete")


# Authorities that write what they like.

STRANGE = "\x1b[2J\n" * 12_500


def strange_answer(**said: object) -> list[bytes]:
    return answer(json.dumps(said).encode())


STRANGE_ANSWERS: dict[str, Callable[[], Iterable[bytes]]] = {
    "detail": lambda: problem(400, code="invalid_request", detail=STRANGE),
    "detail of 503": lambda: problem(503, code="unavailable", detail=STRANGE),
    "code": lambda: problem(400, code=STRANGE, detail=STRANGE),
    "broken log": lambda: problem(503, code="broken_log", position=3, why=STRANGE),
    "position": lambda: problem(503, code="broken_log", position=10**4000, why="x"),
    "denied": lambda: problem(403, reasons=[strange_reason()] * 3),
    "refused": lambda: strange_answer(answer="refused", reasons=[strange_reason()] * 200),
    "pending": lambda: strange_answer(answer="pending", request=STRANGE, until=10**4000, approvers=[STRANGE] * 9),
    "approvers": lambda: strange_answer(answer="pending", request="r", until=1, approvers=["Ben"] * 50_000),
    "another message": lambda: strange_answer(answer=STRANGE),
}


def strange_reason() -> dict[str, object]:
    return {"code": STRANGE, "sentence": STRANGE, "wanted": STRANGE, "hop": 0, "hop_name": STRANGE, "given": STRANGE}


@pytest.mark.parametrize("says", STRANGE_ANSWERS.values(), ids=STRANGE_ANSWERS.keys())
def test_what_an_authority_writes_is_one_bounded_line(
    task: OpenedTask, call: Call, says: Callable[[], Iterable[bytes]]
) -> None:
    # It would wait for a person whom an answer names.
    with at_url(says) as url, asking(task, url, wait=0) as agent, pytest.raises(CapxError) as ended:
        call(agent)
    assert str(ended.value).isprintable()
    assert len(str(ended.value)) < 80_000


# Services that cannot say.


class Saying:
    """A service that answers each request with this problem."""

    def __init__(self, status: int, *, capx: bool = True, **said: object) -> None:
        self.status = said["status"] = status
        self.headers = [(b"content-type", b"application/problem+json"), *([(b"www-authenticate", b"Capx")] * capx)]
        self.body = json.dumps({"type": "urn:capx:reason:x", "title": "x", "detail": "no", "code": "x", **said})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body.encode()})


def raised(service: Saying, task: OpenedTask) -> tuple[object, object]:
    """What a client raises by default and with `raise_denied`: the error, or else the status."""
    ends: list[object] = []
    with served(service, lifespan="off") as origin:
        for raising in (False, True):
            with Agent(task.bundle).http({origin: "crm"}, raise_denied=raising) as client:
                try:
                    ends.append(client.get(f"{origin}/x").status_code)
                except (Denied, StoreProblem) as error:
                    ends.append(error)
    return ends[0], ends[1]


def reasons(code: str) -> list[dict[str, str]]:
    return [{"code": code, "sentence": "because"}]


def test_a_service_that_cannot_say_is_unavailable(task: OpenedTask) -> None:
    status, error = raised(Saying(503, decision="d", reasons=reasons("unavailable")), task)
    assert status == 503
    assert isinstance(error, Unavailable)
    assert isinstance(error.__cause__, Denied)
    assert error.__cause__.code == "unavailable"


@pytest.mark.parametrize("code", ["call_mismatch", "replayed"])
def test_a_presentation_that_is_refused_is_raised_as_denied(task: OpenedTask, code: str) -> None:
    status, error = raised(Saying(401, decision="d", reasons=reasons(code)), task)
    assert status == 401
    assert isinstance(error, Denied)
    assert (error.code, error.status, error.decision.audience, error.notes) == (code, 401, "crm", ())


def test_what_another_says_with_the_same_status_is_returned(task: OpenedTask) -> None:
    for service in (
        Saying(403, capx=False, decision="d", reasons=reasons("action_not_allowed")),
        Saying(401, capx=False, decision="d", reasons=reasons("replayed")),
        Saying(403, decision="d", reasons=[]),
        Saying(403, reasons="none"),
        Saying(503, capx=False, type="https://example.org/busy"),
        # The service itself may answer so after effects: it is no denial.
        Saying(503, capx=False, type="urn:capx:problem:store_problem"),
        Saying(200, decision="d", reasons=reasons("action_not_allowed")),
    ):
        assert raised(service, task) == (service.status, service.status)


def test_a_denial_that_imitates_a_log_is_one_printable_line(task: OpenedTask) -> None:
    lie = {"code": "action_not_allowed\n", "sentence": "no\nallowed: all\x1b[2J" + "x" * 4000, "wanted": "\x00"}
    _, error = raised(Saying(403, decision="\n", reasons=[lie, *reasons("expired") * 100]), task)
    assert isinstance(error, Denied)
    assert str(error).isprintable()
    assert len(error.refusals) == 32
    assert len(error.refusals[0].sentence) < 2100
    assert (error.refusals[0].wanted + error.decision.id).isprintable()


def test_a_denial_without_sentences_is_still_raised(task: OpenedTask) -> None:
    _, error = raised(Saying(403, reasons=[{"code": "action_not_allowed"}]), task)
    assert isinstance(error, Denied)
    assert str(error) == "action_not_allowed"


def test_an_ask_for_another_audience_is_not_on_the_denial(task: OpenedTask) -> None:
    for audience, found in (("billing", None), ("crm", "crm.x")):
        asked = {"audience": audience, "action": "crm.x"}
        _, error = raised(Saying(403, reasons=reasons("action_not_allowed"), ask=asked), task)
        assert isinstance(error, Denied)
        assert (error.ask and error.ask.action) == found
