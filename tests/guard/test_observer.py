"""What a guard reports of its decisions: a line of the log, a callback, a span; and what it never reports."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from capx.agent import httpx_client
from capx.agent.actor import acting, current_actor
from capx.authority.authority import Authority
from capx.errors import Unavailable
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import App, Message, Receive, Scope, Send
from capx.guard.fastapi import GRANTED, Check, FastAPIGuard
from capx.guard.observer import LOGGER, Observer
from capx.guard.tool import ToolGuard, on_loop
from capx.policy.file import read_policy
from capx.tokens.binding import HttpRequest
from capx.tokens.capability import Capability
from capx.verify.ask import Pending
from capx.verify.decision import Decision, Denied
from capx.verify.verifier import Verifier
from capx_caveats import JSON, Budget, action, one_of, where
from tests.labs.asking_agent import POLICY, noting
from tests.labs.lab import Lab
from tests.labs.refunds import refund
from tests.labs.serving import served
from tests.labs.waiting import until

SECRET = "sesame-4711"
"""An argument that nothing but the answer may show."""

EXPORTER = InMemorySpanExporter()
_provider = TracerProvider()
_provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
# OpenTelemetry takes a provider once in a process.
trace.set_tracer_provider(_provider)


class Seen(list[Decision]):
    """A callback that keeps what it gets."""

    def __call__(self, decision: Decision) -> None:
        self.append(decision)

    @property
    def told(self) -> list[tuple[str, str]]:
        """The outcome and the id of each decision."""
        return [(decision.outcome, decision.id) for decision in self]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def spans() -> InMemorySpanExporter:
    EXPORTER.clear()
    return EXPORTER


class Lines(logging.Handler):
    """The records of the guards' logger."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records if record.levelno == logging.WARNING]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger(LOGGER)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def whole(record: logging.LogRecord) -> str:
    """Everything that a formatter could show of a record."""
    return repr(vars(record)) + logging.Formatter().format(record)


def crm(lab: Authority, *allow: Any, **parts: Any) -> Capability:
    bundle = lab.open(tenant="Acme", allow=list(allow), **parts).bundle
    return next(one for one in bundle if one.audience == "crm")


def headers(capability: Capability, method: str = "GET", target: str = "/x") -> dict[str, str]:
    return {"Authorization": capability.present(HttpRequest(method=method, target=target)).authorization}


# ASGI, over HTTP


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    def judge(name: str, **args: Any) -> None:
        passage(scope).judge(name, args, tenant="Acme", sent=True)

    match scope["path"]:
        case "/denied":
            judge("crm.forbidden", word=SECRET)
        case "/swallowed":
            for name in ("crm.forbidden", "crm.echo", "crm.other"):
                with suppress(Denied):
                    judge(name, word=SECRET)
        case "/twice":
            judge("crm.echo")
            judge("crm.list")
        case _:
            judge("crm.echo", word=SECRET)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    if scope["path"] == "/streamed":
        judge("crm.forbidden", word=SECRET)
    await send({"type": "http.response.body"})


@pytest.fixture
def client(lab: Authority, seen: Seen) -> Iterator[httpx.Client]:
    guard = ASGIGuard(application, lab.verifier("crm"), on_decision=seen)
    with served(guard, lifespan="off") as origin, httpx.Client(base_url=origin) as opened:
        yield opened


@pytest.fixture(scope="module")
def capability(lab: Authority) -> Capability:
    return crm(lab, "crm.echo", "crm.list")


def test_an_allowed_request_is_told_and_not_logged(
    client: httpx.Client, capability: Capability, seen: Seen, lines: Lines
) -> None:
    response = client.get("/x", headers=headers(capability))
    assert seen.told == [("allowed", response.headers["capx-decision"])]
    assert (seen[0].action, seen[0].task) == ("crm.echo", seen[0].lineage and seen[0].lineage.task)
    assert not lines.records


@pytest.mark.parametrize(
    ("target", "code", "about"),
    [("/no-token", "no_token", "a request"), ("/junk", "malformed", "a request"), ("/two", "malformed", "a request"),
     ("/denied", "action_not_allowed", "crm.forbidden"), ("/replayed", "replayed", "a request")],
)  # fmt: skip
def test_a_denied_request_is_logged_and_told_once(  # noqa: PLR0917 # fixtures
    client: httpx.Client, capability: Capability, seen: Seen, lines: Lines, target: str, code: str, about: str
) -> None:
    head = {"/no-token": {}, "/junk": {"Authorization": f"Capx {SECRET}"}}.get(
        target, headers(capability, target=target)
    )
    if target == "/two":
        head |= {"Capx-Token": head["Authorization"].split()[1]}
    if target == "/replayed":
        client.get(target, headers=head)
        seen.clear()
    response = client.get(target, headers=head)
    body = response.json()
    assert body["code"] == code
    assert response.headers["capx-decision"] == body["decision"]
    assert seen.told == [("denied", body["decision"])]
    assert lines.texts == [f"denied {about}: {code}, decision {body['decision']}"]
    for record in lines.records:
        assert SECRET not in whole(record)
        assert "capx1_" not in whole(record)
        assert head.get("Authorization", "Capx -")[-30:] not in whole(record)


def test_a_dead_token_is_reported_each_time_with_one_id(
    lab: Authority, client: httpx.Client, seen: Seen, lines: Lines
) -> None:
    task = lab.open(allow=["crm.echo"])
    head = headers(next(one for one in task.bundle if one.audience == "crm"))
    lab.complete(task.id)
    until(lambda: client.get("/x", headers=head).json()["code"] == "task_completed")
    seen.clear()
    lines.records.clear()
    ids = [client.get("/x", headers=head).headers["capx-decision"] for _ in range(3)]
    assert seen.told == [("denied", one) for one in ids]
    assert lines.texts == [f"denied a request: task_completed, decision {one}" for one in ids]


def test_a_denial_that_is_swallowed_is_reported_all_the_same(
    client: httpx.Client, capability: Capability, seen: Seen, lines: Lines
) -> None:
    response = client.get("/swallowed", headers=headers(capability, target="/swallowed"))
    assert response.json()["code"] == "withheld"
    assert [(decision.action, decision.outcome) for decision in seen] == [
        ("crm.forbidden", "denied"), ("crm.echo", "allowed"), ("crm.other", "denied")
    ]  # fmt: skip
    assert lines.texts == [
        f"denied {decision.action}: action_not_allowed, decision {decision.id}"
        for decision in seen
        if not decision.allowed
    ]


def test_a_denial_behind_the_start_of_an_answer_is_reported(
    client: httpx.Client, capability: Capability, seen: Seen, lines: Lines
) -> None:
    with suppress(httpx.HTTPError):
        client.get("/streamed", headers=headers(capability, target="/streamed"))
    # The client may be gone before the application goes on.
    until(lambda: len(seen) == 2)
    assert [decision.outcome for decision in seen] == ["allowed", "denied"]
    assert lines.texts == [f"denied crm.forbidden: action_not_allowed, decision {seen[1].id}"]


def test_each_allowed_call_of_a_request_is_told(client: httpx.Client, capability: Capability, seen: Seen) -> None:
    response = client.get("/twice", headers=headers(capability, target="/twice"))
    assert [(decision.action, decision.allowed) for decision in seen] == [("crm.echo", True), ("crm.list", True)]
    assert response.headers["capx-decision"] == seen[-1].id


# A guard that a test drives: WebSockets, and callbacks that fail


def drive(guard: App, scope: Scope) -> list[Message]:
    """What a server would be told."""
    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        told.append(message)

    asyncio.run(asyncio.wait_for(guard(scope, receive, send), 20))
    return told


def scope_of(head: Mapping[str, str], kind: str = "http", path: str = "/x") -> Scope:
    listed = [(name.lower().encode(), value.encode()) for name, value in head.items()]
    told: dict[str, dict[str, str]] = {"websocket.http.response": {}} if kind == "websocket" else {}
    return {
        "type": kind, "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": listed,
        "extensions": told, **({"method": "GET"} if kind == "http" else {}),
    }  # fmt: skip


@pytest.mark.parametrize("known", [False, True])
def test_a_denied_websocket_is_logged_and_told_once(
    lab: Authority, capability: Capability, seen: Seen, lines: Lines, *, known: bool
) -> None:
    guard = ASGIGuard(application, lab.verifier("crm"), on_decision=seen)
    head = headers(capability, target="/denied") if known else {}
    start, body = drive(guard, scope_of(head, "websocket", "/denied"))
    problem = json.loads(body["body"])
    assert start["type"] == "websocket.http.response.start"
    assert problem["code"] == ("action_not_allowed" if known else "no_token")
    assert seen.told == [("denied", problem["decision"])]
    about = "crm.forbidden: action_not_allowed" if known else "a request: no_token"
    assert lines.texts == [f"denied {about}, decision {problem['decision']}"]


def test_a_callback_that_raises_is_logged_and_changes_nothing(
    lab: Authority, capability: Capability, lines: Lines
) -> None:
    def failing(decision: Decision) -> None:
        raise LookupError(f"no place for {decision.outcome}")

    guard = ASGIGuard(application, lab.verifier("crm"), on_decision=failing)
    start, _ = drive(guard, scope_of(headers(capability)))
    assert start["status"] == 204
    start, body = drive(guard, scope_of(headers(capability, target="/denied"), path="/denied"))
    assert (start["status"], json.loads(body["body"])["code"]) == (403, "action_not_allowed")
    failed = [record for record in lines.records if record.levelno == logging.ERROR]
    assert [whole(record).count("LookupError: no place for") > 0 for record in failed] == [True, True]
    decision = json.loads(body["body"])["decision"]
    assert failed[1].getMessage() == f"the decision {decision} could not be reported"
    assert all(SECRET not in whole(record) and "capx1_" not in whole(record) for record in lines.records)


def test_a_callback_that_ends_the_program_is_not_stopped(lab: Authority, capability: Capability) -> None:
    def ending(decision: Decision) -> None:
        raise KeyboardInterrupt

    guard = ASGIGuard(application, lab.verifier("crm"), on_decision=ending)
    with pytest.raises(KeyboardInterrupt):
        drive(guard, scope_of(headers(capability)))


# FastAPI, over HTTP


@pytest.fixture
def agent(lab: Authority, seen: Seen) -> Iterator[Callable[..., httpx.Client]]:
    guard = FastAPIGuard(lab.verifier("crm"), on_decision=seen)
    app = FastAPI(openapi_url=None)
    guard.protect(app)

    @app.get("/notes")
    @guard.action("crm.notes.read", tenant=GRANTED)
    def notes(word: str) -> str:
        return "read"

    @app.get("/tickets")
    @guard.action("crm.tickets.read", tenant=GRANTED)
    async def tickets() -> str:
        return "read"

    @app.get("/rows/{id}")
    @guard.deferred("crm.rows.read")
    async def row(id: int, check: Check) -> str:
        if id > 3:
            check.missing()
        await check(tenant="Acme" if id < 3 else "Globex", attributes={"region": "eu" if id == 1 else SECRET})
        return "read"

    opened: list[httpx.Client] = []

    with served(app) as origin:

        def act(*allow: Any, **parts: Any) -> httpx.Client:
            bundle = lab.open(tenant="Acme", allow=list(allow), **parts).bundle
            opened.append(httpx_client.client({origin: "crm"}, bundle, base_url=origin))
            return opened[-1]

        yield act
        for client in opened:
            client.close()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"/notes?word={SECRET}", "argument_refused"),
        ("/tickets", "action_not_allowed"),
        ("/rows/2", "argument_refused"),
        ("/rows/3", "wrong_tenant"),
        ("/rows/4", "wrong_tenant"),
    ],
)
def test_a_denial_of_an_endpoint_is_logged_and_told_once(
    agent: Callable[..., httpx.Client], seen: Seen, lines: Lines, path: str, code: str
) -> None:
    client = agent(action("crm.notes.read", word=one_of("a")), "crm.rows.read", caveats=[where("region", "eu")])
    response = client.get(path)
    # The bearer may be told less than the log: whether there is such a row is none of its business.
    assert response.json()["code"] in {code, "wrong_tenant"}
    decision = response.headers["capx-decision"]
    assert seen.told == [("denied", decision)]
    assert lines.texts == [f"denied {seen[0].action}: {code}, decision {decision}"]
    assert all(SECRET not in whole(record) and "capx1_" not in whole(record) for record in lines.records)


def test_an_allowed_endpoint_is_told_once(agent: Callable[..., httpx.Client], seen: Seen, lines: Lines) -> None:
    client = agent("crm.notes.read", "crm.tickets.read", "crm.rows.read")
    for path in (f"/notes?word={SECRET}", "/tickets", "/rows/1"):
        response = client.get(path)
        assert seen.told == [("allowed", response.headers["capx-decision"])]
        seen.clear()
    assert not lines.records


# Tools


class Tools:
    """Guarded functions that report to one callback."""

    def __init__(self, verifier: Callable[[str], Verifier], seen: Seen) -> None:
        guard = ToolGuard(verifier, on_decision=seen)

        @guard.tool("crm.notes.read", tenant="Acme")
        def read(word: str = "") -> str:
            return word

        @guard.tool("crm.notes.read", tenant="Acme")
        async def read_async(word: str = "") -> str:
            return word

        @guard.tool("crm.accounts.delete", tenant="Acme")
        def delete(name: str = SECRET) -> str:
            return name

        self.read, self.read_async, self.delete = read, read_async, delete

    @property
    def each(self) -> list[Callable[[str], str]]:
        """The same function: plain, async, and plain in a thread."""
        return [
            self.read,
            lambda word: asyncio.run(self.read_async(word)),
            lambda word: asyncio.run(on_loop(self.read)(word)),
        ]


@pytest.mark.parametrize("way", [0, 1, 2], ids=["plain", "async", "on loop"])
def test_a_tool_reports_its_call_once(lab: Authority, seen: Seen, lines: Lines, way: int) -> None:
    call = Tools(lab.verifier, seen).each[way]
    task = lab.open(tenant="Acme", allow=[action("crm.notes.read", word=one_of("a"))])
    with acting(task.bundle):
        assert call("a") == "a"
        assert [decision.outcome for decision in seen] == ["allowed"]
        assert not lines.records
        with pytest.raises(Denied) as denied:
            call(SECRET)
    assert seen.told[1:] == [("denied", denied.value.decision.id)]
    assert lines.texts == [f"denied crm.notes.read: argument_refused, decision {denied.value.decision.id}"]
    assert all(SECRET not in whole(record) and "capx1_" not in whole(record) for record in lines.records)


def test_a_tool_without_a_bundle_reports_that(lab: Authority, seen: Seen, lines: Lines) -> None:
    with pytest.raises(Denied) as denied:
        Tools(lab.verifier, seen).read(SECRET)
    assert seen.told == [("denied", denied.value.decision.id)]
    assert lines.texts == [f"denied a request: no_token, decision {denied.value.decision.id}"]


def test_a_call_that_nobody_can_judge_is_reported(lab: Authority, seen: Seen, lines: Lines) -> None:
    usual = lab.verifier("crm")
    # Without a meter, nobody can count what a budget allows.
    verifier = Verifier("crm", usual._keys, liveness=usual._evaluator._liveness, replay=usual._replay)
    task = lab.open(tenant="Acme", allow=["crm.notes.read"])
    tools = Tools(lambda _: verifier, seen)
    with acting(task.bundle.attenuate(Budget("calls", "1"))), pytest.raises(Unavailable) as away:
        tools.read()
    assert isinstance(away.value.__cause__, Denied)
    assert seen.told == [("denied", away.value.__cause__.decision.id)]
    assert lines.texts == [f"denied crm.notes.read: no_meter, decision {seen[0].id}"]


def test_a_call_that_waits_for_a_person_is_reported(seen: Seen, lines: Lines) -> None:
    with Authority.temporary(policy=read_policy(POLICY)) as lab:
        agent, _ = noting(lab, refund(lab))
        with agent, acting(agent), pytest.raises(Pending):
            Tools(lab.verifier, seen).delete()
    assert [(decision.action, decision.outcome) for decision in seen] == [("crm.accounts.delete", "denied")]
    assert len(lines.texts) == 1
    assert all(SECRET not in whole(record) for record in lines.records)


def test_a_caller_that_left_before_the_function_ran_is_reported(lab: Authority, seen: Seen) -> None:
    def leave(decision: Decision) -> None:
        seen(decision)
        if decision.allowed:
            block.__exit__(None, None, None)

    guard = ToolGuard(lab.verifier, on_decision=leave)

    @guard.tool("crm.notes.read", tenant="Acme")
    def read() -> None:
        pytest.fail("it ran")

    block = acting(lab.open(tenant="Acme", allow=["crm.notes.read"]).bundle)
    block.__enter__()
    with pytest.raises(Denied) as denied:
        read()
    assert [decision.outcome for decision in seen] == ["allowed", "denied"]
    assert seen[1].id == denied.value.decision.id
    assert current_actor() is None


# OpenTelemetry


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_each_decision_is_a_span(
    client: httpx.Client, capability: Capability, seen: Seen, spans: InMemorySpanExporter
) -> None:
    before = time.time_ns()
    client.get("/x", headers=headers(capability))
    client.get("/denied", headers=headers(capability, target="/denied"))
    client.get("/x")
    allowed, denied, unknown = spans.get_finished_spans()
    assert {span.name for span in (allowed, denied, unknown)} == {"capx.guard"}
    of_all = {"capx.audience": "crm", "capx.task": seen[0].task}
    assert attributes(allowed) == {
        **of_all, "capx.action": "crm.echo", "capx.outcome": "allowed", "capx.decision": seen[0].id
    }  # fmt: skip
    assert attributes(denied) == {
        **of_all, "capx.action": "crm.forbidden", "capx.outcome": "denied", "capx.code": "action_not_allowed",
        "capx.decision": seen[1].id,
    }  # fmt: skip
    assert attributes(unknown) == {
        "capx.audience": "crm", "capx.outcome": "denied", "capx.code": "no_token", "capx.decision": seen[2].id
    }  # fmt: skip
    for span in (allowed, denied, unknown):
        assert span.start_time is not None
        assert span.end_time is not None
        assert before <= span.start_time <= span.end_time <= time.time_ns()
        assert SECRET not in span.to_json()
        assert "capx1_" not in span.to_json()
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.name == "capx"


def test_a_span_begins_when_the_guard_began(
    lab: Authority, capability: Capability, spans: InMemorySpanExporter
) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.1)
        passage(scope).judge("crm.echo", {}, tenant="Acme")
        await send({"type": "http.response.start", "status": 204, "headers": []})

    before = time.time_ns()
    drive(ASGIGuard(slow, lab.verifier("crm")), scope_of(headers(capability)))
    (span,) = spans.get_finished_spans()
    assert span.start_time is not None
    assert span.end_time is not None
    assert before <= span.start_time
    assert span.end_time - span.start_time >= 100_000_000


def test_a_span_of_a_tool_begins_with_the_call(lab: Authority, spans: InMemorySpanExporter) -> None:
    def slowly() -> dict[str, JSON]:
        time.sleep(0.05)
        return {}

    @ToolGuard(lab.verifier).tool("crm.notes.read", tenant="Acme", attributes=slowly)
    def read() -> None: ...

    with acting(lab.open(tenant="Acme", allow=["crm.notes.read"]).bundle):
        read()
    (span,) = spans.get_finished_spans()
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time >= 50_000_000


def test_a_span_of_a_tool_is_in_the_span_around_it(lab: Authority, seen: Seen, spans: InMemorySpanExporter) -> None:
    with (
        trace.get_tracer("test").start_as_current_span("around") as around,
        acting(lab.open(tenant="Acme", allow=["crm.notes.read"]).bundle),
    ):
        Tools(lab.verifier, seen).read(SECRET)
    span = spans.get_finished_spans()[0]
    assert span.parent is not None
    assert span.parent.span_id == around.get_span_context().span_id
    assert SECRET not in span.to_json()


def test_a_tracer_that_raises_is_logged_and_changes_nothing(
    lab: Authority, seen: Seen, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(SimpleSpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise LookupError("no place for a span")

    provider = TracerProvider()
    provider.add_span_processor(Failing(EXPORTER))
    monkeypatch.setattr("capx.guard.observer._tracer", lambda: provider.get_tracer("capx"))
    with acting(lab.open(tenant="Acme", allow=["crm.notes.read"]).bundle):
        assert Tools(lab.verifier, seen).read("a") == "a"
    assert [decision.outcome for decision in seen] == ["allowed"]
    assert ["could not be reported" in record.getMessage() for record in lines.records] == [True]


# What is not there

WITHOUT = """
import sys
for name in ("opentelemetry", "prometheus_client"):
    sys.modules[name] = None
import logging
logging.disable()
import capx
from capx.guard.tool import ToolGuard
seen = []
authority = capx.Authority.temporary()
guard = ToolGuard(authority.verifier, on_decision=seen.append)
read = guard.tool("crm.read")(lambda: 7)
with capx.acting(authority.open(allow=["crm.read"]).bundle):
    assert read() == 7
try:
    read()
except capx.Denied:
    pass
assert [one.outcome for one in seen] == ["allowed", "denied"]
"""

NOT_IMPORTED = """
import sys
import capx
import capx.guard, capx.guard.tool, capx.guard.asgi
found = {name.partition(".")[0] for name in sys.modules} & {"opentelemetry", "prometheus_client", "fastapi"}
assert not found, found
import fastapi
before = {*sys.modules}
import capx.guard.fastapi
found = {name.partition(".")[0] for name in {*sys.modules} - before} & {"opentelemetry", "prometheus_client"}
assert not found, found
"""


@pytest.mark.parametrize("code", [WITHOUT, NOT_IMPORTED], ids=["without libraries", "not imported"])
def test_a_guard_needs_no_library_to_report(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_an_observer_without_a_callback_only_logs(lines: Lines) -> None:
    lab = Lab()
    decision = lab.decide("junk")
    observer = Observer()
    observer.decided(decision, observer.started())
    assert lines.texts == [f"denied a.read: malformed, decision {decision.id}"]


def test_a_callback_of_another_thread_gets_each_decision(lab: Authority, seen: Seen) -> None:
    tools = Tools(lab.verifier, seen)
    bundle = lab.open(tenant="Acme", allow=["crm.notes.read"]).bundle

    def call() -> None:
        with acting(bundle):
            for _ in range(10):
                tools.read()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({decision.id for decision in seen}) == len(seen) == 80


def test_an_agent_that_is_granted_more_reports_the_last_decision(seen: Seen, lines: Lines) -> None:
    with Authority.temporary(policy=read_policy(POLICY)) as lab:
        agent, _ = noting(lab, refund(lab))
        guard = ToolGuard(lab.verifier, on_decision=seen)
        accounts = guard.tool("crm.accounts.read", tenant="Acme")(lambda: "read")
        with agent, acting(agent):
            assert accounts() == "read"
    assert [decision.outcome for decision in seen] == ["allowed"]
    assert not lines.texts
