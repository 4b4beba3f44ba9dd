"""A session of requests presents each request: where tokens go, and where they never do."""

import gzip
import io
import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
import requests

from capx.agent.actor import acting
from capx.agent.agent import Agent
from capx.agent.requests_adapter import CapxAdapter, Redirected, session
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.errors import InvalidRequest, Unavailable
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.tokens.bundle import Bundle
from capx.verify.ask import Pending
from capx.verify.decision import Denied
from capx_caveats import where
from tests.labs.asking_agent import Liar, noting
from tests.labs.noting_services import received
from tests.labs.serving import served


def test_each_request_is_presented_anew(crm: str, bundle: Bundle) -> None:
    with session({crm: "crm"}, bundle) as client:
        for _ in range(2):
            assert client.get(f"{crm}/x").status_code == 200
        assert client.post(f"{crm}/x?q=a b&c=%2F", json={"a": 1}).json() == {"a": 1}
        assert client.get(f"{crm}/x", params={"q": ["a", "b c"]}).status_code == 200


def test_a_body_is_digested_as_it_is_sent(crm: str, bundle: Bundle) -> None:
    bodies: list[Any] = [
        b"ab",
        "ab",
        iter([b"a", b"b"]),
        iter(["a", "b"]),
        io.BytesIO(b"ab"),
        io.StringIO("ab"),
        bytearray(b"ab"),
    ]
    with session({crm: "crm"}, bundle) as client:
        for body in bodies:
            assert client.post(f"{crm}/x", data=body).text == "ab"
        assert client.post(f"{crm}/x", data="é").content == "é".encode()
        assert client.post(f"{crm}/x", data={"a": "1"}).text == "a=1"
        assert client.post(f"{crm}/x", files={"f": b"content"}).status_code == 200
        assert client.post(f"{crm}/x").status_code == 200
        assert client.delete(f"{crm}/x").status_code == 200


@pytest.mark.parametrize(
    "path", ["", "/", "/x?", "/a/../b", "/a%2fb", "/a b", "/~a%7e", "/é?é=ü", "/x#f", "//x", "/[a]|'?[b]|'", "/%zz"]
)
def test_a_path_is_presented_as_it_is_sent(crm: str, bundle: Bundle, path: str) -> None:
    with session({crm: "crm"}, bundle) as client:
        assert client.get(crm + path).status_code == 200


def test_a_prepared_request_is_presented_as_it_is_sent(crm: str, bundle: Bundle) -> None:
    with session({crm: "crm"}, bundle) as client:
        prepared = client.prepare_request(requests.Request("PUT", f"{crm}/x", data=b"ab"))
        prepared.url = f"{crm}/a%2fb/../c d?e=%7e f"
        for _ in range(2):
            assert client.send(prepared).text == "ab"


def test_other_origins_get_no_token(crm: str, elsewhere: str, bundle: Bundle) -> None:
    with session({crm: "crm"}, bundle) as client:
        client.get(f"{elsewhere}/x")
        client.get(f"{elsewhere}/x", headers={"Authorization": "Basic mine"})
    assert [headers.get("authorization") for _, headers in received] == [None, "Basic mine"]
    assert not any("capx-token" in headers for _, headers in received)


LOOK_ALIKES = [
    "http://{host}:{port}@127.0.0.1:{other}/x",
    "http://127.0.0.1:{other}/http://{host}:{port}",
    "http://localhost:{other}/x",
    "http://127.0.0.1:{other}\\@{host}:{port}/x",
]


@pytest.mark.parametrize("look_alike", LOOK_ALIKES)
def test_an_audience_learnt_from_a_look_alike_origin(crm: str, elsewhere: str, bundle: Bundle, look_alike: str) -> None:
    (host, port), other = crm.removeprefix("http://").split(":"), elsewhere.rpartition(":")[2]
    client = requests.Session()
    # By its prefix, this adapter gets them too.
    for prefix in ("http://", crm):
        client.mount(prefix, CapxAdapter({crm: "crm"}, bundle))
    with client:
        try:
            client.get(look_alike.format(host=host, port=port, other=other))
        except requests.RequestException:
            assert not received
    assert not any("Capx" in value for _, headers in received for value in headers.values())


def test_another_port_of_the_same_prefix_is_another_origin(elsewhere: str, bundle: Bundle) -> None:
    client = requests.Session()
    # A prefix of the origin of another service.
    client.mount(elsewhere[:-1], CapxAdapter({elsewhere[:-1]: "crm"}, bundle))
    with client:
        client.get(f"{elsewhere}/x")
    ((_, headers),) = received
    assert "authorization" not in headers


@pytest.mark.parametrize("follow", [False, True])
def test_an_audience_learnt_from_a_redirect(crm: str, elsewhere: str, bundle: Bundle, *, follow: bool) -> None:
    with session({crm: "crm"}, bundle) as client, pytest.raises(Redirected) as redirected:
        client.get(f"{elsewhere}/to?{crm}/x", allow_redirects=follow)
    assert redirected.value.url == f"{crm}/x"
    with session({elsewhere: "crm"}, bundle) as client, pytest.raises(Redirected, match="/other"):
        client.get(f"{elsewhere}/to?/other", allow_redirects=follow)
    assert [path for path, _ in received] == ["/to", "/to"]


def test_an_authorization_that_is_there_stays(elsewhere: str, crm: str, bundle: Bundle) -> None:
    with session({elsewhere: "crm", crm: "crm"}, bundle) as client:
        client.auth = ("user", "secret")
        client.get(f"{elsewhere}/x")
        assert client.get(f"{crm}/x").status_code == 200
    headers = received[0][1]
    assert headers["authorization"].startswith("Basic ")
    assert headers["capx-token"].startswith("capx1_")


def holds_token(*found: requests.Request | requests.PreparedRequest | None) -> bool:
    return any("capx1_" in str(one and one.headers) for one in found)


def test_no_token_stays_where_the_caller_can_pass_it_on(crm: str, elsewhere: str, lab: Authority) -> None:
    task = lab.open(allow=["crm.echo"])
    with session({crm: "crm", elsewhere: "crm", "http://127.0.0.1:9": "crm"}, task.bundle) as client:
        prepared = client.prepare_request(requests.Request("POST", f"{crm}/x", data=iter([b"a"])))
        response = client.send(prepared)
        assert response.request is prepared
        assert (prepared.body, response.history) == (b"a", [])
        assert client.cookies["a"] == "b"
        with pytest.raises(requests.ConnectionError) as away:
            client.get("http://127.0.0.1:9/x")
        lab.complete(task.id)
        refused = client.get(f"{crm}/x")
        assert refused.json()["code"] == "task_completed"
        assert not holds_token(prepared, response.request, away.value.request, refused.request)
        assert "capx1_" not in str(client.headers)
    assert not any("capx1_" in str(vars(one)) for one in (response, refused))


def test_the_next_capability_is_tried_with_a_fresh_presentation(lab: Authority, crm: str) -> None:
    task = lab.open(allow=["crm.echo"])
    newest = lab.mint(task.id, allow=["crm.echo"], caveats=[where("region", "EU")])
    with session({crm: "crm"}, Bundle([*task.bundle, *newest])) as client:
        assert client.post(f"{crm}/x", data=io.BytesIO(b"hi")).text == "hi"
    with session({crm: "crm"}, newest) as client:
        response = client.get(f"{crm}/x")
    assert (response.status_code, json.loads(response.text)["code"]) == (403, "argument_refused")


def test_a_session_asks_and_sends_once_more(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, authority = noting(lab, task)
    with session({origin: "crm"}, agent) as client:
        for _ in range(2):
            assert client.post(f"{origin}/crm.accounts.read", data=iter([b"x" * 1000])).text == "done"
        refused = client.get(f"{origin}/crm.export")
        assert (refused.status_code, refused.json()["code"]) == (403, "action_not_allowed")
        with pytest.raises(Pending):
            client.get(f"{origin}/crm.accounts.delete")
    assert authority.asked[:2] == [("crm.accounts.read@crm", None), ("crm.export@crm", None)]


def test_a_denial_may_be_raised(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent = Agent(task.bundle, authority=lab, wait=0)
    with session({origin: "crm"}, agent, raise_denied=True) as client:
        with pytest.raises(Denied) as denied:
            client.get(f"{origin}/crm.export")
        assert "the agent asked for more and did not get it" in str(denied.value)
        assert client.get(f"{origin}/crm.tickets.read").text == "done"
        lab.complete(task.id)
        with pytest.raises(Denied, match="completed"):
            client.get(f"{origin}/crm.tickets.read")


def answering(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Any:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        with_capx = [(b"www-authenticate", b"Capx"), *headers]
        await send({"type": "http.response.start", "status": status, "headers": with_capx})
        await send({"type": "http.response.body", "body": body})

    return application


def test_what_nobody_can_say_now_is_unavailable(bundle: Bundle) -> None:
    body = json.dumps({"code": "unavailable", "reasons": [{"code": "unavailable"}]}).encode()
    with served(answering(503, body), lifespan="off") as origin:
        with session({origin: "crm"}, bundle) as client:
            assert client.get(f"{origin}/x").status_code == 503
        with session({origin: "crm"}, bundle, raise_denied=True) as client, pytest.raises(Unavailable):
            client.get(f"{origin}/x")


def test_a_refusal_is_read_as_it_was_sent(lab: Authority, task: OpenedTask, origin: str) -> None:
    # The service packs its answers.
    agent, _ = noting(lab, task)
    with session({origin: "crm"}, agent) as client:
        streamed = client.get(f"{origin}/crm.export", stream=True)
        assert json.loads(gzip.decompress(streamed.raw.read()))["code"] == "action_not_allowed"
        assert client.get(f"{origin}/crm.export").json()["code"] == "action_not_allowed"


def test_a_long_refusal_is_read_as_sent_and_asks_for_nothing(
    lab: Authority, task: OpenedTask, liars: tuple[Liar, str]
) -> None:
    liar, origin = liars
    liar.says(ask={"audience": "crm", "action": "crm.accounts.read"}, more="x" * 1_000_000)
    agent, authority = noting(lab, task)
    with session({origin: "crm"}, agent) as client:
        assert client.get(f"{origin}/x").content == liar.body
        with client.get(f"{origin}/x", stream=True) as left_early:
            assert left_early.status_code == 403
        assert client.get(f"{origin}/x").content == liar.body
    assert not authority.asked


def test_a_service_that_packs_a_bomb_into_its_refusal(lab: Authority, task: OpenedTask) -> None:
    bomb = gzip.compress(b'{"ask":' + b" " * 50_000_000 + b"null}")
    agent, authority = noting(lab, task)
    with (
        served(answering(403, bomb, (b"content-encoding", b"gzip")), lifespan="off") as origin,
        session({origin: "crm"}, agent) as client,
    ):
        assert client.get(f"{origin}/x", stream=True).status_code == 403
    assert not authority.asked


def test_a_services_own_403_is_not_tried_again(lab: Authority, crm: str) -> None:
    task = lab.open(allow=["crm.echo"])
    both = Bundle([*task.bundle, *lab.mint(task.id, allow=["crm.echo"])])
    with session({crm: "crm"}, both) as client:
        assert client.get(f"{crm}/forbidden").status_code == 403
    assert len(received) == 1


def test_the_acting_bundle_is_used_where_none_is_given(crm: str, bundle: Bundle) -> None:
    with session({crm: "crm"}) as client:
        with pytest.raises(InvalidRequest, match="no bundle to act with"):
            client.get(f"{crm}/x")
        with acting(bundle):
            assert client.get(f"{crm}/x").status_code == 200


def test_an_agent_without_the_audience_is_told_to_ask(lab: Authority, task: OpenedTask, crm: str) -> None:
    with (
        session({crm: "warehouse"}, Agent(task.bundle, authority=lab)) as client,
        pytest.raises(InvalidRequest, match=r"agent\.ask\(ACTION, audience='warehouse'"),
    ):
        client.get(f"{crm}/x")


def test_a_body_beyond_the_limit_is_not_sent(crm: str, bundle: Bundle) -> None:
    with session({crm: "crm"}, bundle, max_body=3) as client:
        assert client.post(f"{crm}/x", data=b"abc").status_code == 200
        with pytest.raises(InvalidRequest, match="larger than 3 bytes"):
            client.post(f"{crm}/x", data=iter([b"ab", b"cd"]))


@pytest.mark.parametrize(
    "origin",
    ["crm.internal", "ftp://crm", "https://", "https://crm/path", "https://u:p@crm", "https://crm?q=1", "http://crm:x"],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(InvalidRequest, match="not an origin"):
        session({origin: "crm"})


def test_a_presentation_is_never_sent_twice() -> None:
    with pytest.raises(InvalidRequest, match="`max_retries`"):
        CapxAdapter({"https://crm.internal": "crm"}, max_retries=3)


def test_no_proxy_of_the_environment_stands_between(
    crm: str, elsewhere: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", elsewhere)
    monkeypatch.setenv("ALL_PROXY", elsewhere)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with session({crm: "crm"}, bundle) as client:
        assert client.get(f"{crm}/x").status_code == 200
    assert [path for path, _ in received] == ["/x"]


def test_a_session_of_an_agent_cannot_be_pickled(bundle: Bundle) -> None:
    with pytest.raises(InvalidRequest, match="cannot be pickled"):
        pickle.dumps(session({"https://crm.internal": "crm"}, bundle))


WITHOUT_HTTPX = """
import sys
sys.modules["httpx"] = None
from capx.agent import requests_adapter
with requests_adapter.session({"https://crm.internal": "crm"}) as session:
    print(type(session).__module__)
"""


def test_httpx_need_not_be_there() -> None:
    command = [sys.executable, "-c", WITHOUT_HTTPX]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "requests.sessions\n"
