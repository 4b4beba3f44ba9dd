"""Clients that present each request: where authority goes, and where it never does."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from capx.agent import httpx_client
from capx.agent.actor import acting
from capx.agent.httpx_client import Redirected
from capx.authority.authority import Authority
from capx.errors import InvalidRequest
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.tokens import wire
from capx.tokens.bundle import Bundle
from capx_caveats import budget, where
from tests.labs.noting_services import received
from tests.labs.serving import served


def test_each_request_is_presented_anew(crm: str, bundle: Bundle) -> None:
    with httpx_client.client({crm: "crm"}, bundle) as client:
        for _ in range(2):
            assert client.get(f"{crm}/x").status_code == 200
        assert client.post(f"{crm}/x?q=a b&c=%2F", json={"a": 1}).json() == {"a": 1}


def test_a_body_is_digested_as_it_is_sent(crm: str, bundle: Bundle) -> None:
    with httpx_client.client({crm: "crm"}, bundle) as client:
        assert client.post(f"{crm}/x", content=iter([b"a", b"b"])).text == "ab"
        assert client.post(f"{crm}/x", data={"a": "1"}).text == "a=1"
        assert client.post(f"{crm}/x", files={"f": b"content"}).status_code == 200


@pytest.mark.parametrize("path", ["", "/", "/x?", "/a/../b", "/a%2Fb", "/a b", "/~a%7e", "/é", "/x#fragment"])
def test_a_path_is_presented_as_it_is_sent(crm: str, bundle: Bundle, path: str) -> None:
    with httpx_client.client({crm: "crm"}, bundle) as client:
        assert client.get(crm + path).status_code == 200


async def test_an_async_client_presents_too(crm: str, bundle: Bundle) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async with httpx_client.async_client({crm: "crm"}, bundle) as client:
        assert (await client.get(f"{crm}/x")).status_code == 200
        assert (await client.post(f"{crm}/x", content=chunks())).text == "ab"


def test_other_origins_get_no_token(crm: str, elsewhere: str, bundle: Bundle) -> None:
    with httpx_client.client({crm: "crm"}, bundle) as client:
        client.get(f"{elsewhere}/x")
    ((_, headers),) = received
    assert "authorization" not in headers
    assert "capx-token" not in headers


LOOK_MAX_KINDSS = [
    "http://{host}:{port}@127.0.0.1:{other}/x",
    "http://{host}.:{other}/x",
    "http://127.0.0.1:{other}/http://{host}:{port}",
    "http://localhost:{other}/x",
]


@pytest.mark.parametrize("look_alike", LOOK_MAX_KINDSS)
def test_an_audience_learnt_from_a_look_alike_origin(crm: str, elsewhere: str, bundle: Bundle, look_alike: str) -> None:
    of_crm, of_other = httpx.URL(crm), httpx.URL(elsewhere)
    url = look_alike.format(host=of_crm.host, port=of_crm.port, other=of_other.port)
    with httpx_client.client({crm: "crm"}, bundle) as client:
        try:
            client.get(url)
        except httpx.HTTPError:
            assert not received
    assert not any("Capx" in value for _, headers in received for value in headers.values())


@pytest.mark.parametrize("origin", ["https://crm.internal", "http://crm.internal:81", "http://evil-crm.internal"])
def test_another_scheme_port_or_host_is_another_origin(bundle: Bundle, origin: str) -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200)

    with httpx_client.client({"http://crm.internal": "crm"}, bundle, transport=httpx.MockTransport(answer)) as client:
        client.get(f"{origin}/x")
        client.get("http://CRM.internal:80/x")
    assert seen[0] is None
    assert str(seen[1]).startswith("Capx capx1_")


@pytest.mark.parametrize("follow", [False, True])
def test_an_audience_learnt_from_a_redirect(crm: str, elsewhere: str, bundle: Bundle, *, follow: bool) -> None:
    with (
        httpx_client.client({crm: "crm"}, bundle, follow_redirects=follow) as client,
        pytest.raises(Redirected) as redirected,
    ):
        client.get(f"{elsewhere}/to?{crm}/x")
    assert redirected.value.url == f"{crm}/x"
    assert crm in str(redirected.value)
    assert [path for path, _ in received] == ["/to"]


async def test_a_redirect_by_a_service_takes_no_authority_along(elsewhere: str, bundle: Bundle) -> None:
    async with httpx_client.async_client({elsewhere: "crm"}, bundle, follow_redirects=True) as client:
        with pytest.raises(Redirected, match="/other"):
            await client.get(f"{elsewhere}/to?/other")
    assert [path for path, _ in received] == ["/to"]


@pytest.mark.parametrize("to", ["http://crm.internal/" + "a" * 60_000, "http://[" + "\x7f" * 60_000])
def test_a_redirect_cannot_write_a_long_text(bundle: Bundle, to: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(302, headers={"location": to}))
    with (
        httpx_client.client({"http://crm": "crm"}, bundle, transport=transport) as client,
        pytest.raises(Redirected) as redirected,
    ):
        client.get("http://crm/x")
    assert str(redirected.value).isprintable()
    assert len(str(redirected.value)) < 500


def test_an_authorization_that_is_there_stays(crm: str, elsewhere: str, bundle: Bundle) -> None:
    with httpx_client.client({elsewhere: "crm", crm: "crm"}, bundle, auth=("user", "secret")) as client:
        client.get(f"{elsewhere}/x")
        assert client.get(f"{crm}/x").status_code == 200
    headers = received[0][1]
    assert headers["authorization"].startswith("Basic ")
    assert headers["capx-token"].startswith("capx1_")


def test_the_next_capability_is_tried_with_a_fresh_presentation(lab: Authority, crm: str) -> None:
    task = lab.open(allow=["crm.echo"])
    newest = lab.mint(task.id, allow=["crm.echo"], caveats=[where("region", "EU")])
    with httpx_client.client({crm: "crm"}, Bundle([*task.bundle, *newest])) as client:
        assert client.post(f"{crm}/x", content=b"hi").text == "hi"
    with httpx_client.client({crm: "crm"}, newest) as client:
        response = client.get(f"{crm}/x")
    assert (response.status_code, json.loads(response.text)["code"]) == (403, "argument_refused")

    async def send() -> None:
        async with httpx_client.async_client({crm: "crm"}, Bundle([*task.bundle, *newest])) as client:
            assert (await client.post(f"{crm}/x", content=b"hi")).text == "hi"

    asyncio.run(send())


def budgeted(lab: Authority) -> Bundle:
    """What may do other things, and above it one call of what is done here."""
    task = lab.open(allow=["crm.other"])
    return Bundle([*task.bundle, *lab.mint(task.id, allow=["crm.echo"], caveats=[budget("calls", 1)])])


def test_of_several_refusals_the_one_that_says_most_is_returned(lab: Authority, crm: str) -> None:
    with httpx_client.client({crm: "crm"}, budgeted(lab)) as client:
        assert client.get(f"{crm}/x").status_code == 200
        assert client.get(f"{crm}/x").json()["code"] == "budget_exhausted"

    async def send() -> None:
        async with httpx_client.async_client({crm: "crm"}, budgeted(lab)) as client:
            assert (await client.get(f"{crm}/x")).status_code == 200
            assert (await client.get(f"{crm}/x")).json()["code"] == "budget_exhausted"

    asyncio.run(send())


def test_of_equal_refusals_the_newest_is_returned(lab: Authority, crm: str) -> None:
    task = lab.open(allow=["crm.older"])
    bundle = Bundle([*task.bundle, *lab.mint(task.id, allow=["crm.newer"])])
    with httpx_client.client({crm: "crm"}, bundle) as client:
        assert "crm.newer" in client.get(f"{crm}/x").json()["detail"]


async def by_path(scope: Scope, receive: Receive, send: Send) -> None:
    """`/ACTION/…` is that action."""
    del receive
    passage(scope).judge(scope["path"].split("/")[1], {})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Counting:
    """An application that counts its requests."""

    def __init__(self, app: ASGIGuard) -> None:
        self._app = app
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._count += 1
        await self._app(scope, receive, send)

    def counted(self) -> int:
        """How many there were since they were counted."""
        count, self._count = self._count, 0
        return count


def test_what_passed_for_such_a_request_is_tried_first(lab: Authority) -> None:
    task = lab.open(allow=["crm.a"])
    bundle = Bundle([*task.bundle, *(one for name in "bcde" for one in lab.mint(task.id, allow=[f"crm.{name}"]))])
    more = Bundle([*bundle, *lab.mint(task.id, allow=["crm.f"])])
    counting = Counting(ASGIGuard(by_path, lab.verifier("crm")))
    with served(counting, lifespan="off") as origin, httpx_client.client({origin: "crm"}) as client:

        def presented(url: str, held: Bundle) -> int:
            with acting(held):
                assert client.get(f"{origin}/{url}").status_code == 200
            return counting.counted()

        # The denial of the newest names the action, and the others do not allow it.
        assert presented("crm.a/rows/1", bundle) == 2
        assert presented("crm.a/rows/2", bundle) == 1
        assert presented("crm.e/rows/1", bundle) == 1
        assert presented("crm.a/rows/3", more) == 2
        assert presented("crm.a/rows/4", more) == 1
        # What another bundle does not hold is not tried.
        assert presented("crm.a/rows/5", task.bundle) == 1


def test_what_is_newer_is_tried_and_spent_before_the_last_passed(lab: Authority) -> None:
    task = lab.open(allow=["crm.a"])
    newer = Bundle([*task.bundle, *lab.mint(task.id, allow=["crm.a"], caveats=[budget("calls", 1)])])
    counting = Counting(ASGIGuard(by_path, lab.verifier("crm")))
    counts: list[int] = []
    with served(counting, lifespan="off") as origin, httpx_client.client({origin: "crm"}) as client:
        for held in (task.bundle, newer, newer, newer):
            with acting(held):
                assert client.get(f"{origin}/crm.a").status_code == 200
            counts.append(counting.counted())
    assert counts == [1, 1, 2, 1]


def test_a_client_remembers_a_bounded_number_of_requests(lab: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capx.agent.presented_call._MAX_KINDS", 2)
    task = lab.open(allow=["crm.a"])
    bundle = Bundle([*task.bundle, *lab.mint(task.id, allow=["crm.b"])])
    counting = Counting(ASGIGuard(by_path, lab.verifier("crm")))
    counts: list[int] = []
    with served(counting, lifespan="off") as origin, httpx_client.client({origin: "crm"}, bundle) as client:
        for kind in ("first", "second", "first", "third", "third", "first"):
            assert client.get(f"{origin}/crm.a/{kind}").status_code == 200
            counts.append(counting.counted())
    assert counts == [2, 2, 1, 2, 1, 2]


LONG = b"x" * 1_000_000
SHORT = json.dumps({"reasons": [{"code": "action_not_allowed"}]}).encode()


@pytest.mark.parametrize("bodies", [(LONG, SHORT), (SHORT, LONG), (LONG, LONG), (b"", SHORT)])
def test_a_refusal_too_long_to_look_at_holds_up_no_other(lab: Authority, bodies: tuple[bytes, bytes]) -> None:
    task = lab.open(allow=["crm.a"])
    both = Bundle([*task.bundle, *lab.mint(task.id, allow=["crm.b"])])
    left = list(bodies)

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 403, "headers": [(b"www-authenticate", b"Capx")]})
        await send({"type": "http.response.body", "body": left.pop(0)})

    limits = httpx.Limits(max_connections=1)
    with served(refuse, lifespan="off") as origin, httpx_client.client({origin: "crm"}, both, limits=limits) as client:
        assert client.get(f"{origin}/x").content == bodies[1]
    assert not left


def test_a_service_s_own_403_is_not_tried_again(lab: Authority, crm: str) -> None:
    task = lab.open(allow=["crm.echo"])
    both = Bundle([*task.bundle, *lab.mint(task.id, allow=["crm.echo"])])
    with httpx_client.client({crm: "crm"}, both) as client:
        response = client.get(f"{crm}/forbidden")
    assert response.status_code == 403
    assert response.headers["capx-decision"]
    assert len(received) == 1


def test_the_acting_bundle_is_used_where_none_is_given(crm: str, bundle: Bundle) -> None:
    with httpx_client.client({crm: "crm"}) as client:
        with pytest.raises(InvalidRequest, match=r"no bundle to act with.*Other threads and pools do not inherit"):
            client.get(f"{crm}/x")
        with acting(bundle):
            assert client.get(f"{crm}/x").status_code == 200


def test_a_bundle_without_the_audience_says_so(crm: str, bundle: Bundle) -> None:
    with httpx_client.client({crm: "warehouse"}, bundle) as client, pytest.raises(InvalidRequest, match="'warehouse'"):
        client.get(f"{crm}/x")


def test_a_body_beyond_the_limit_is_not_sent(crm: str, bundle: Bundle) -> None:
    with httpx_client.client({crm: "crm"}, bundle, max_body=3) as client:
        assert client.post(f"{crm}/x", content=b"abc").status_code == 200
        with pytest.raises(InvalidRequest, match="larger than 3 bytes"):
            client.post(f"{crm}/x", content=iter([b"ab", b"cd"]))


def test_a_repeated_content_type_has_no_presentation(crm: str, bundle: Bundle) -> None:
    twice = [("Content-Type", "text/plain"), ("Content-Type", "application/json")]
    with httpx_client.client({crm: "crm"}, bundle) as client, pytest.raises(InvalidRequest, match="content-type"):
        client.post(f"{crm}/x", headers=twice)


@pytest.mark.parametrize(
    "origin",
    ["crm.internal", "ftp://crm", "https://", "https://crm/path", "https://u:p@crm", "https://crm?q=1", "http://crm:x"],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(InvalidRequest, match="not an origin"):
        httpx_client.client({origin: "crm"})


@pytest.mark.parametrize(
    "settings",
    [{"mounts": {"all://": httpx.HTTPTransport()}}, {"transport": httpx.HTTPTransport(), "verify": False}],
)
def test_settings_around_the_presenting_transport_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        httpx_client.client({"http://crm": "crm"}, **settings)


def test_no_proxy_of_the_environment_stands_between(
    crm: str, elsewhere: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", elsewhere)
    monkeypatch.setenv("ALL_PROXY", elsewhere)
    with httpx_client.client({crm: "crm"}, bundle) as client:
        assert client.get(f"{crm}/x").status_code == 200
    assert [path for path, _ in received] == ["/x"]


CLAIMS = {
    "www-authenticate": 'Capx audience="slides", realm="slides"',
    "capx-audience": "slides",
    "location": "http://slides.internal/x",
    "alt-svc": 'h2="slides.internal:443"',
}


@pytest.mark.parametrize("status", [401, 403, 503])
@pytest.mark.parametrize("configured", [False, True])
def test_an_audience_learnt_from_a_response(bundle: Bundle, status: int, *, configured: bool) -> None:
    sent: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers.get("authorization"))
        body = {"code": "wrong_audience", "audience": "slides", "reasons": [{"wanted": "slides", "given": "crm"}]}
        return httpx.Response(status, headers=CLAIMS, json=body)

    origins = {"http://crm.internal": "crm"} if configured else {"http://other.internal": "crm"}
    with httpx_client.client(origins, bundle, transport=httpx.MockTransport(answer)) as client:
        for _ in range(2):
            assert client.get("http://crm.internal/x").status_code == status
    if not configured:
        assert sent == [None, None]
        return
    tokens = [wire.decode(str(value).removeprefix("Capx ")) for value in sent]
    assert [frame.identifier.audience for frame in tokens] == ["crm", "crm"]
