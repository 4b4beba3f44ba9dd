"""The guard in front of any ASGI application, over real HTTP: who gets in, and what gets out."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest
from starlette.datastructures import MultiDict, QueryParams

from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import Message, Receive, Scope, Send
from capx.guard.asgi.response_gate import PathRules
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.capability import Capability
from tests.labs.serving import served

ACTION = "crm.echo"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path and body, judged; other paths show what an application can do wrong."""
    body = (await receive())["body"]
    match scope["path"]:
        case "/unjudged":
            pass
        case "/swallowed":
            try:
                passage(scope).judge("crm.forbidden", {})
            except Exception:  # noqa: BLE001 # the very mistake
                body = b"secret"
        case "/swallowed-after-a-pass":
            passage(scope).judge(ACTION, {})
            try:
                passage(scope).judge("crm.forbidden", {})
            except Exception:  # noqa: BLE001 # the very mistake
                body = b"secret"
        case "/open" | "/open-but-guarded":
            pass
        case _:
            passage(scope).judge(ACTION, {})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["raw_path"] + b" " + body})


@pytest.fixture(scope="module")
def capability(lab: Authority) -> Capability:
    (only,) = lab.open(allow=["crm.*"]).bundle.delegate(to="agent", allow=[ACTION])
    return only


@pytest.fixture(scope="module")
def origin(lab: Authority) -> Iterator[str]:
    with served(ASGIGuard(echo, lab.verifier("crm"), public=["/open"], max_body=1000), lifespan="off") as url:
        yield url


@pytest.fixture
def client(origin: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=origin) as opened:
        yield opened


def presented(capability: Capability, method: str = "GET", target: str = "/x", **parts: Any) -> dict[str, str]:
    received = HttpRequest(method=method, target=target, **parts)
    return {"Authorization": capability.present(received).authorization}


def problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    if status in {401, 403, 503}:
        assert response.headers["www-authenticate"] == "Capx"
        assert response.headers["capx-decision"] == body["decision"]
    return str(body["code"])


def test_a_presented_request_is_answered_with_its_decision(client: httpx.Client, capability: Capability) -> None:
    response = client.post("/x", content=b"hi", headers=presented(capability, "POST", body=b"hi"))
    assert response.text == "/x hi"
    assert response.headers["capx-decision"]


def test_presentation_none(client: httpx.Client) -> None:
    assert problem(client.get("/x"), 401) == "no_token"
    assert problem(client.get("/x", headers={"Authorization": "Bearer abc"}), 401) == "no_token"


def test_an_open_path_needs_none_and_opens_no_other(client: httpx.Client) -> None:
    assert client.get("/open").text == "/open "
    for path in ("/open/", "/open/x", "/Open", "/opened", "/unjudged"):
        assert problem(client.get(path), 401) == "no_token"


def test_who_presents_at_an_open_path_is_checked(client: httpx.Client) -> None:
    assert problem(client.get("/open", headers={"Authorization": "Capx junk"}), 401) == "malformed"


@pytest.mark.parametrize(
    "sent",
    [
        {"method": "PUT"},
        {"target": "/y"},
        {"target": "/x/"},
        {"target": "/x?a=2"},
        {"target": "/x?a=1&b=1"},
        {"target": "/x"},
        {"body": b"hj"},
        {"body": b""},
        {"content_type": "text/plain"},
        {"content_type": None},
        {"content_encoding": "gzip"},
    ],
)
def test_a_presentation_for_another_part_of_a_request_is_refused(
    client: httpx.Client, capability: Capability, sent: dict[str, Any]
) -> None:
    meant: dict[str, Any] = {"method": "POST", "target": "/x?a=1", "body": b"hi", "content_type": "application/json"}
    head = {"Content-Type": "application/json"}
    good = client.post("/x?a=1", content=b"hi", headers=presented(capability, **meant) | head)
    assert good.status_code == 200
    headers = presented(capability, **(meant | sent)) | head
    assert problem(client.post("/x?a=1", content=b"hi", headers=headers), 401) == "call_mismatch"


def test_presentation_for_a_tool_call_is_none_for_http(client: httpx.Client, capability: Capability) -> None:
    headers = {"Authorization": capability.present(ToolCall(ACTION)).authorization}
    assert problem(client.get("/x", headers=headers), 401) == "call_mismatch"


def test_presentation_replayed_at_once(client: httpx.Client, capability: Capability) -> None:
    headers = presented(capability)
    assert client.get("/x", headers=headers).status_code == 200
    assert problem(client.get("/x", headers=headers), 401) == "replayed"


def test_presentation_replayed_after_a_denial(client: httpx.Client, capability: Capability) -> None:
    headers = presented(capability, target="/swallowed")
    client.get("/swallowed", headers=headers)
    assert problem(client.get("/swallowed", headers=headers), 401) == "replayed"


def test_a_presentation_replayed_at_another_server_is_refused(
    lab: Authority, client: httpx.Client, capability: Capability
) -> None:
    headers = presented(capability)
    assert client.get("/x", headers=headers).status_code == 200
    with served(ASGIGuard(echo, lab.verifier("crm")), lifespan="off") as origin:
        assert problem(httpx.get(f"{origin}/x", headers=headers), 401) == "replayed"


def test_presentation_replayed_by_racing_clients(origin: str, capability: Capability) -> None:
    headers = presented(capability)
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(httpx.get, f"{origin}/x", headers=headers) for _ in range(40)]
    assert sorted(answer.result().status_code for answer in answers) == [200] + [401] * 39


def test_presentation_outside_the_window(client: httpx.Client, capability: Capability) -> None:
    received = HttpRequest(method="GET", target="/x")
    for at in (int(time.time()) - 70, int(time.time()) + 15):
        headers = {"Authorization": capability.present(received, now=at).authorization}
        assert problem(client.get("/x", headers=headers), 401) == "call_window"


def test_presentation_for_another_audience(client: httpx.Client, lab: Authority) -> None:
    capability, *_ = lab.open(allow=["slides.write"]).bundle
    assert problem(client.get("/x", headers=presented(capability)), 401) == "wrong_audience"


def test_a_whole_bundle_sent(client: httpx.Client, lab: Authority, capability: Capability) -> None:
    task = lab.open(allow=["crm.echo", "slides.write"])
    assert problem(client.get("/x", headers={"Authorization": f"Capx {task.bundle.text}"}), 401) == "malformed"
    assert problem(client.get("/x", headers={"Authorization": f"Capx {capability.text}"}), 401) == "bearer_refused"


def test_two_tokens(client: httpx.Client, capability: Capability) -> None:
    headers = presented(capability)
    other = capability.present(HttpRequest(method="GET", target="/x")).text
    assert problem(client.get("/x", headers=headers | {"Capx-Token": other}), 401) == "malformed"
    twice = [("Authorization", headers["Authorization"]), ("Authorization", f"Capx {other}")]
    assert problem(client.get("/x", headers=twice), 401) == "malformed"
    assert problem(client.get("/x", headers=[("Capx-Token", other)] * 2), 401) == "malformed"


def test_a_token_beside_the_authorization_of_another_scheme(client: httpx.Client, capability: Capability) -> None:
    token = capability.present(HttpRequest(method="GET", target="/x")).text
    assert client.get("/x", headers={"Authorization": "Basic abc", "Capx-Token": token}).status_code == 200


def test_a_repeated_content_type(client: httpx.Client, capability: Capability) -> None:
    head = presented(capability, "POST", content_type="application/json")
    twice = [*head.items(), ("Content-Type", "application/json"), ("Content-Type", "text/plain")]
    assert problem(client.post("/x", headers=twice), 401) == "call_mismatch"


@pytest.mark.parametrize("path", ["/a%2Fb", "/a%2fb", "/a/%2e%2e/b", "/caf%C3%A9", "/a%20b", "/~a", "/%7Ea"])
def test_a_path_is_compared_as_it_was_sent(client: httpx.Client, capability: Capability, path: str) -> None:
    url = httpx.URL(str(client.base_url)).copy_with(raw_path=path.encode())
    assert client.get(url, headers=presented(capability, target=path)).status_code == 200
    other = "/a/b" if path != "/a/b" else "/b"
    assert problem(client.get(url, headers=presented(capability, target=other)), 401) == "call_mismatch"


def test_an_empty_query_is_none(client: httpx.Client, capability: Capability) -> None:
    url = httpx.URL(str(client.base_url)).copy_with(raw_path=b"/x?")
    assert client.get(url, headers=presented(capability, target="/x")).status_code == 200


def test_a_proxy_that_takes_a_prefix_away(lab: Authority, capability: Capability) -> None:
    with (
        served(ASGIGuard(echo, lab.verifier("crm"), prefix="/crm"), lifespan="off") as origin,
        httpx.Client(base_url=origin) as client,
    ):
        assert client.get("/x", headers=presented(capability, target="/crm/x")).status_code == 200
        assert problem(client.get("/x", headers=presented(capability, target="/x")), 401) == "call_mismatch"


def test_a_proxy_that_takes_the_root_path_away(lab: Authority, capability: Capability) -> None:
    guard = ASGIGuard(echo, lab.verifier("crm"))
    with served(guard, lifespan="off", root_path="/crm") as origin, httpx.Client(base_url=origin) as client:
        assert client.get("/x", headers=presented(capability, target="/crm/x")).text == "/crm/x "
        assert problem(client.get("/x", headers=presented(capability, target="/x")), 401) == "call_mismatch"


def test_a_root_path_that_the_server_leaves_out_of_the_raw_path(lab: Authority, capability: Capability) -> None:
    for raw in (b"/x", b"/crm/x"):
        scope = asked(presented(capability, target="/crm/x"), root_path="/crm", raw_path=raw)
        assert status(drive(ASGIGuard(echo, lab.verifier("crm")), scope)) == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit(client: httpx.Client, capability: Capability, *, chunked: bool) -> None:
    body = b"a" * 1001
    content: Any = iter([body[:600], body[600:]]) if chunked else body
    headers = presented(capability, "POST", body=body)
    assert problem(client.post("/x", content=content, headers=headers), 413) == "body_too_large"
    fits = presented(capability, "POST", body=body[:1000])
    assert client.post("/x", content=iter([body[:500], body[:500]]), headers=fits).status_code == 200


def test_a_bad_mac_is_refused_before_a_byte_of_the_body_is_read(lab: Authority) -> None:
    async def unread() -> Message:
        pytest.fail("the body was read")

    with Authority.temporary() as other:
        forged, *_ = other.open(allow=[ACTION]).bundle
    scope = asked(presented(forged))
    assert status(drive(ASGIGuard(echo, lab.verifier("crm")), scope, receive=unread)) == 401


def test_a_large_body_behind_a_bad_token_is_answered(client: httpx.Client) -> None:
    response = client.post("/x", content=b"a" * 20_000_000, headers={"Authorization": "Capx junk"})
    assert problem(response, 401) == "malformed"


@pytest.mark.parametrize("path", ["/unjudged", "/swallowed", "/swallowed-after-a-pass"])
def test_an_answer_that_no_passed_verdict_covers_is_withheld(
    client: httpx.Client, capability: Capability, path: str
) -> None:
    response = client.get(path, headers=presented(capability, target=path))
    assert problem(response, 500) == "withheld"
    assert "secret" not in response.text


@pytest.mark.parametrize("path", ["/swallowed", "/swallowed-after-a-pass"])
@pytest.mark.parametrize("stops", [False, True])
def test_a_swallowed_refusal_may_be_answered_by_the_guard(
    lab: Authority, capability: Capability, path: str, *, stops: bool
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        # Some servers pass on what `send` raises, and others keep it to themselves.
        try:
            await echo(scope, receive, send)
        except Exception:
            if stops:
                raise

    guarded = ASGIGuard(application, lab.verifier("crm"), swallowed="refusal")
    with served(guarded, lifespan="off") as url, httpx.Client(base_url=url) as client:
        response = client.get(path, headers=presented(capability, target=path))
        assert problem(response, 403) == "action_not_allowed"
        assert "secret" not in response.text
        # That no call was judged is no refusal.
        response = client.get("/unjudged", headers=presented(capability, target="/unjudged"))
        assert problem(response, 500) == "withheld"


def test_what_is_done_with_a_swallowed_refusal_is_named(lab: Authority) -> None:
    wrong: Any = "refuse"
    with pytest.raises(ConfigurationProblem, match="'error' or 'refusal'"):
        ASGIGuard(echo, lab.verifier("crm"), swallowed=wrong)


def test_head_is_guarded_as_get_is(client: httpx.Client, capability: Capability) -> None:
    assert client.head("/x").status_code == 401
    assert client.head("/x", headers=presented(capability)).status_code == 401
    answer = client.head("/x", headers=presented(capability, "HEAD"))
    assert (answer.status_code, answer.content) == (200, b"")


def test_options_is_guarded_too(client: httpx.Client) -> None:
    assert problem(client.options("/x"), 401) == "no_token"


def test_no_raw_path_from_the_server_is_no_reason_to_guess(lab: Authority, capability: Capability) -> None:
    scope = asked(presented(capability))
    del scope["raw_path"]
    assert status(drive(ASGIGuard(echo, lab.verifier("crm")), scope)) == 500


def test_a_target_beyond_ascii(lab: Authority, capability: Capability) -> None:
    scope = asked(presented(capability), raw_path="/é".encode())
    assert status(drive(ASGIGuard(echo, lab.verifier("crm")), scope)) == 401


@pytest.mark.parametrize("target", [b"http://evil/x", b"*", b"evil:80"])
def test_a_target_in_absolute_form_is_refused_in_true_words(
    lab: Authority, capability: Capability, target: bytes
) -> None:
    scope = asked(presented(capability), path=target.decode(), raw_path=target)
    head, body = drive(ASGIGuard(echo, lab.verifier("crm")), scope)
    assert head["status"] == 401
    assert "not in origin form" in json.loads(body["body"])["detail"]
    assert "ASCII" not in json.loads(body["body"])["detail"]


@pytest.mark.parametrize("path", ["/x", "/open"])
def test_an_error_before_the_verdict_is_kept_from_outer_handlers(
    lab: Authority, capability: Capability, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret")

    guard = ASGIGuard(failing, lab.verifier("crm"), public=["/open"])
    scope = asked(presented(capability, target=path), path=path, raw_path=path.encode())
    if path == "/open":
        with pytest.raises(RuntimeError, match="secret"):
            drive(guard, scope)
        return
    head, body = drive(guard, scope)
    assert (head["status"], json.loads(body["body"])["code"]) == (500, "withheld")
    assert "RuntimeError: secret" in caplog.text


@pytest.mark.parametrize("more", [False, True])
def test_code_that_catches_the_end_of_its_answer_is_ended_again(
    lab: Authority, capability: Capability, *, more: bool
) -> None:
    went_on: list[str] = []

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(Exception):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            went_on.append("start")
        with suppress(Exception):
            await send({"type": "http.response.body", "body": b"secret", "more_body": more})
            went_on.append("body")

    messages = drive(ASGIGuard(stubborn, lab.verifier("crm")), asked(presented(capability)))
    assert status(messages) == 500
    assert not went_on


def test_a_guard_set_up_wrongly_neither_starts_nor_answers(lab: Authority, capability: Capability) -> None:
    guard = ASGIGuard(echo, lab.verifier("crm"), public=["open"])
    (answer,) = drive(guard, {"type": "lifespan"})
    assert answer["type"] == "lifespan.startup.failed"
    assert "'open' is not a path" in answer["message"]
    assert status(drive(guard, asked(presented(capability)))) == 500


def test_public_paths_and_rules_are_not_both_given(lab: Authority) -> None:
    with pytest.raises(ConfigurationProblem, match="let the rules say which paths are public"):
        ASGIGuard(echo, lab.verifier("crm"), public=["/open"], rules=PathRules())
    ASGIGuard(echo, lab.verifier("crm"), public=[], rules=PathRules(["/open"]))


def test_a_websocket_is_refused_before_it_is_accepted(lab: Authority, capability: Capability) -> None:
    went_on: list[str] = []

    async def accepting(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/judged":
            passage(scope).judge(ACTION, {})
        await send({"type": "websocket.accept"})
        went_on.append(scope["path"])
        await send({"type": "websocket.send", "text": "hello"})

    guard = ASGIGuard(accepting, lab.verifier("crm"))

    def opened(path: str, **headers: str) -> list[str]:
        scope = asked(headers, path=path, raw_path=path.encode()) | {"type": "websocket"}
        del scope["method"]
        return [message["type"] for message in drive(guard, scope)]

    assert opened("/judged") == ["websocket.close"]
    assert opened("/unjudged", **presented(capability, target="/unjudged")) == ["websocket.close"]
    accepted = opened("/judged", **presented(capability, target="/judged"))
    assert accepted == ["websocket.accept", "websocket.send"]
    assert went_on == ["/judged"]


def test_a_websocket_is_told_why_where_the_server_can(lab: Authority) -> None:
    told: dict[str, Any] = {"websocket.http.response": {}}
    scope = asked() | {"type": "websocket", "extensions": told}
    start, body = drive(ASGIGuard(echo, lab.verifier("crm")), scope)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert json.loads(body["body"])["code"] == "no_token"


def test_a_stream_without_end_that_no_verdict_covers_is_stopped(lab: Authority, capability: Capability) -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"secret", "more_body": True})

    messages = drive(ASGIGuard(endless, lab.verifier("crm")), asked(presented(capability)))
    assert status(messages) == 500
    assert b"secret" not in b"".join(message.get("body", b"") for message in messages)


def test_a_client_that_leaves_while_it_is_read_is_not_answered(lab: Authority, capability: Capability) -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    assert not drive(ASGIGuard(echo, lab.verifier("crm")), asked(presented(capability)), receive=gone)


def test_a_call_outside_json_is_refused_as_the_bearer_s(lab: Authority, capability: Capability) -> None:
    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        passage(scope).judge(ACTION, {"n": 2**53})

    messages = drive(ASGIGuard(counting, lab.verifier("crm")), asked(presented(capability)))
    assert json.loads(messages[1]["body"])["code"] == "argument_refused"


@pytest.mark.parametrize("part", ["args", "attributes", "cost"])
@pytest.mark.parametrize("kind", [QueryParams, MultiDict])
def test_a_query_with_a_parameter_twice_is_refused(
    lab: Authority, capability: Capability, kind: Callable[[list[tuple[str, str]]], Mapping[str, str]], part: str
) -> None:
    query = kind([("to", "ann"), ("to", "eve@x")])
    facts: dict[str, Any] = {"args": dict[str, str](), part: query}

    async def judging(scope: Scope, receive: Receive, send: Send) -> None:
        passage(scope).judge(ACTION, **facts)

    messages = drive(ASGIGuard(judging, lab.verifier("crm")), asked(presented(capability)))
    problem = json.loads(messages[1]["body"])
    assert problem["code"] == "argument_refused"
    # What is wrong with it is for the service, whose code took it.
    event = [event for event in lab.log() if event.kind == "decision"][-1]
    logged = b"a %s may hold more than it shows: pass a plain dict" % kind.__name__.encode()
    assert logged in event.body
    assert b"eve@x" not in event.body


def asked(
    headers: dict[str, str] | None = None, *, path: str = "/x", raw_path: bytes = b"/x", root_path: str = ""
) -> dict[str, Any]:
    """A scope as a server would make it."""
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": raw_path,
        "root_path": root_path,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }


def drive(guard: ASGIGuard, scope: Scope, receive: Receive | None = None) -> list[Message]:
    """What a server would be told."""
    told: list[Message] = []

    async def nothing() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        told.append(message)

    asyncio.run(asyncio.wait_for(guard(scope, receive or nothing, send), 5))
    return told


def status(messages: list[Message]) -> int:
    return int(messages[0]["status"])


def test_no_log_line_holds_a_token(lab: Authority, capability: Capability, caplog: pytest.LogCaptureFixture) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        passage(scope).judge("crm.forbidden", {})
        raise RuntimeError("not reached")

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("the handler's own")

    caplog.set_level(0)
    for app in (echo, failing, broken):
        guard = ASGIGuard(app, lab.verifier("crm"))
        head = presented(capability)
        for headers in (head, head, {"Authorization": head["Authorization"][:-4]}):
            drive(guard, asked(headers))
    assert "the handler's own" in caplog.text
    assert "capx1_" not in caplog.text
    assert presented(capability)["Authorization"][20:60] not in caplog.text
