"""What an agent can do at the authority itself, and what it cannot, over real HTTP."""

import contextvars
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from capx.agent import httpx_client
from capx.agent.actor import acting
from capx.agent.authority_client import AuthorityClient
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.authority.remote.client import RemoteAuthority
from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest, Unavailable
from capx.tokens.binding import HttpRequest
from capx.tokens.bundle import Bundle, hops_between
from capx.tokens.capability import new_nonce
from capx.tokens.chain import root_node
from capx.verify.decision import Denied
from capx_caveats import Entry, action, anything
from tests.server.conftest import Served

OWN: list[str | Entry] = ["task.complete", "task.status", action("node.revoke", args={"hops": anything()})]
"""What a delegator names for a child that is to act at the authority as it does itself."""


@pytest.fixture
def operator(shared: Served) -> Iterator[RemoteAuthority]:
    with RemoteAuthority(shared.place) as authority:
        yield authority


@pytest.fixture
def task(operator: RemoteAuthority) -> OpenedTask:
    return operator.open(allow=["crm.read"], tenant="Acme", purpose="qbr")


def presented(
    bundle: Bundle, path: str, body: bytes = b"", method: str = "POST", now: int | None = None, **headers: str
) -> dict[str, str]:
    """The headers with which a bundle's authority capability is presented for one request."""
    received = HttpRequest(method=method, target=path, content_type=headers.get("content-type"), body=body)
    return {**headers, "authorization": bundle.present("authority", received, now=now).authorization}


def sent(served: Served, bundle: Bundle, path: str, body: bytes = b"", method: str = "POST") -> httpx.Response:
    with served.everybody() as client:
        return client.request(method, path, content=body, headers=presented(bundle, path, body, method))


def codes(response: httpx.Response) -> list[str]:
    return [reason["code"] for reason in response.json()["reasons"]]


def test_an_agent_sees_how_its_task_stands_and_ends_it(
    shared: Served, operator: RemoteAuthority, task: OpenedTask
) -> None:
    with AuthorityClient(shared.url, task.bundle) as client:
        status = client.status()
        assert (status.task, status.state, status.tenant, status.purpose) == (task.id, "active", "Acme", "qbr")
        ended = client.complete()
        assert (ended.task, ended.end) == (task.id, "completed")
        assert operator.task(task.id).position == ended.position
        for again in (client.status, client.complete):
            with pytest.raises(Denied) as denied:
                again()
            assert denied.value.code == "task_completed"
            assert str(denied.value) == f"task {task.id} was completed"


def test_a_refusal_of_the_authority_is_found_by_its_id(
    shared: Served, operator: RemoteAuthority, task: OpenedTask
) -> None:
    child = task.bundle.delegate(to="child", allow=["task.status"])
    with AuthorityClient(shared.url, child) as client, pytest.raises(Denied) as denied:
        client.complete()
    assert str(denied.value) == 'hop 1 ("child") allows only task.status'
    found = operator.decision(denied.value.decision.id)
    assert found is not None
    assert found.facts()["audience"] == "authority"
    assert operator.task(task.id).state == "active"


def test_a_child_is_given_no_authority_over_its_task_by_itself(shared: Served, task: OpenedTask) -> None:
    child = task.bundle.delegate(to="child")
    with AuthorityClient(shared.url, child) as client, pytest.raises(InvalidRequest, match="holds nothing for"):
        client.complete()


def test_an_agent_revokes_what_lies_below_its_node(shared: Served, operator: RemoteAuthority, task: OpenedTask) -> None:
    child = task.bundle.delegate(to="child")
    below = child.delegate(to="grandchild")
    with AuthorityClient(shared.url, task.bundle) as client:
        revoked = client.revoke(below)
        assert below.node is not None
        assert [one.key for one in revoked.killed] == [b64u(below.node)]
        assert [one.again for one in client.revoke(below).killed] == [True]
        assert client.status().state == "active"
        client.revoke(child)
    dead = {event.facts()["id"] for event in operator.log() if event.kind == "revoked"}
    assert dead >= {b64u(below.node), b64u(child.node or b"")}


def test_a_delegated_block_revokes_over_http(shared: Served, operator: RemoteAuthority, task: OpenedTask) -> None:
    with AuthorityClient(shared.url, task.bundle) as client:
        with task.bundle.delegated(to="child", at=client) as child:
            pass
        assert child.node is not None
        assert operator.revoke(child.node, dry_run=True).killed[0].again


def test_a_run_that_was_cancelled_still_revokes_and_completes(
    shared: Served, operator: RemoteAuthority, task: OpenedTask
) -> None:
    with acting(task.bundle):
        ended = contextvars.copy_context()

    def clean_up() -> Bundle:
        with task.bundle.delegated(to="child", at=client) as child:
            pass
        client.complete()
        return child

    with AuthorityClient(shared.url, task.bundle) as client:
        child = ended.run(clean_up)
    assert child.node is not None
    assert operator.revoke(child.node, dry_run=True).killed[0].again
    assert operator.task(task.id).state == "completed"


def test_hops_lead_only_down(task: OpenedTask, operator: RemoteAuthority) -> None:
    child = task.bundle.delegate(to="child")
    sibling = task.bundle.delegate(to="sibling")
    other = operator.open(allow=["crm.read"]).bundle.delegate(to="other")
    assert len(hops_between(task.bundle, child.delegate(to="grandchild"))) == 2
    for above, below in ((child, sibling), (child, task.bundle), (child, child), (child, other), (task.bundle, other)):
        with pytest.raises(InvalidRequest, match="was not delegated from yours"):
            hops_between(above, below)


def test_who_gives_a_node_is_told_to_keep_the_bundle(task: OpenedTask) -> None:
    child: Any = task.bundle.delegate(to="child")
    with (
        AuthorityClient("http://127.0.0.1:1", task.bundle) as client,
        pytest.raises(InvalidRequest, match="pass the bundle that delegate returned"),
    ):
        client.revoke(child.node)


def test_a_sibling_is_out_of_reach_by_its_own_nonce(
    shared: Served, operator: RemoteAuthority, task: OpenedTask
) -> None:
    mine = task.bundle.delegate(to="mine", allow=OWN)
    nonce = new_nonce()
    sibling = task.bundle.delegate(to="sibling", nonce=nonce)
    response = sent(shared, mine, "/agent/revoke", b'{"hops":["%s"]}' % nonce.encode())
    assert response.status_code == 200
    assert sibling.node is not None
    # What died is a node of that name below the own one, where nobody is.
    assert response.json()["killed"][0]["key"] != b64u(sibling.node)
    assert not operator.revoke(sibling.node, dry_run=True).killed[0].again


def test_neither_the_own_node_nor_a_parent_can_be_named(
    shared: Served, operator: RemoteAuthority, task: OpenedTask
) -> None:
    mine = task.bundle.delegate(to="mine", allow=OWN)
    assert sent(shared, mine, "/agent/revoke", b'{"hops":[]}').status_code == 400
    assert not operator.revoke(root_node(task.root), dry_run=True).killed[0].again
    assert operator.task(task.id).state == "active"


@pytest.mark.parametrize(
    "hops",
    [
        b"[]",
        b"{}",
        b"null",
        b"5",
        b'"AgICAgICAgI"',
        b'[""]',
        b'["x"]',
        b"[1]",
        b"[null]",
        b'[["AgICAgICAgI"]]',
        b'["AgICAgICAgI=", "AwMDAwMDAwM"]',
        b'["AgICAgICAgJ"]',
        b'["' + b"A" * 100_000 + b'"]',
        b'["\\u0000"]',
        b'["\\ud800"]',
        b"[" * 5_000,
    ],
)
def test_hops_that_are_nonsense_kill_nothing(
    shared: Served, operator: RemoteAuthority, task: OpenedTask, hops: bytes
) -> None:
    before = sum(event.kind == "revoked" for event in operator.log())
    response = sent(shared, task.bundle, "/agent/revoke", b'{"hops":' + hops + b"}")
    assert response.status_code in {400, 401, 403}, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert sum(event.kind == "revoked" for event in operator.log()) == before


@pytest.mark.parametrize("path", ["/agent/complete", "/agent/revoke"])
@pytest.mark.parametrize("body", [b'{"task":"other"}', b'{"dry_run":true}', b'{"hops":["AgICAgICAgI"],"task":"x"}'])
def test_an_argument_more_is_refused_by_the_capability_itself(
    shared: Served, operator: RemoteAuthority, task: OpenedTask, path: str, body: bytes
) -> None:
    response = sent(shared, task.bundle, path, body)
    assert response.status_code == 403
    assert set(codes(response)) <= {"argument_not_named", "argument_refused"}
    assert operator.task(task.id).state == "active"


def test_a_query_is_an_argument_too(shared: Served, operator: RemoteAuthority, task: OpenedTask) -> None:
    response = sent(shared, task.bundle, "/agent/status?task=other", method="GET")
    assert (response.status_code, codes(response)) == (403, ["argument_not_named"])
    assert sent(shared, task.bundle, "/agent/complete?task=other").status_code == 400
    assert operator.task(task.id).state == "active"


def test_the_task_is_the_one_of_the_presentation(shared: Served, operator: RemoteAuthority, task: OpenedTask) -> None:
    other = operator.open(allow=["crm.read"])
    response = sent(shared, task.bundle, "/agent/complete", b'{"task":"%s"}' % other.id.encode())
    assert response.status_code == 403
    assert sent(shared, task.bundle, "/agent/complete").json()["task"] == task.id
    assert operator.task(other.id).state == "active"


@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"{", b"\xff", b"null", b'{"a":1}{}', b"{} x"])
def test_arguments_are_a_json_object(shared: Served, task: OpenedTask, body: bytes) -> None:
    response = sent(shared, task.bundle, "/agent/complete", body)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")


def test_a_capability_for_another_audience_is_none_here(shared: Served, task: OpenedTask) -> None:
    received = HttpRequest(method="POST", target="/agent/complete")
    with shared.everybody() as client:
        headers = {"authorization": task.bundle.present("crm", received).authorization}
        response = client.post("/agent/complete", headers=headers)
    assert (response.status_code, codes(response)) == (401, ["wrong_audience"])
    assert response.headers["www-authenticate"] == "Capx"


def test_a_presentation_is_good_once(shared: Served, task: OpenedTask) -> None:
    headers = presented(task.bundle, "/agent/status", method="GET")
    with shared.everybody() as client:
        assert client.get("/agent/status", headers=headers).status_code == 200
        again = client.get("/agent/status", headers=headers)
    assert (again.status_code, codes(again)) == (401, ["replayed"])


def test_a_presentation_is_for_one_request_and_one_minute(
    shared: Served, operator: RemoteAuthority, task: OpenedTask
) -> None:
    now = int(time.time())
    attempts: list[tuple[str, Callable[[], dict[str, str]], str]] = [
        ("/agent/complete", lambda: presented(task.bundle, "/agent/status", method="GET"), "call_mismatch"),
        ("/agent/complete", lambda: presented(task.bundle, "/agent/complete", b"{}"), "call_mismatch"),
        ("/agent/complete", lambda: presented(task.bundle, "/agent/complete", now=now - 120), "call_window"),
        ("/agent/complete", lambda: presented(task.bundle, "/agent/complete", now=now + 120), "call_window"),
    ]
    with shared.everybody() as client:
        for path, headers, code in attempts:
            response = client.post(path, headers=headers())
            assert (response.status_code, codes(response)) == (401, [code]), path
    assert operator.task(task.id).state == "active"


def test_a_bare_token_or_a_whole_bundle_is_not_taken(shared: Served, task: OpenedTask) -> None:
    bare = next(one for one in task.bundle if one.audience == "authority")
    with shared.everybody() as client:
        response = client.post("/agent/complete", headers={"authorization": f"Capx {bare.text}"})
        assert codes(response) == ["bearer_refused"]
        response = client.post("/agent/complete", headers={"authorization": f"Capx {task.bundle.text}"})
        assert response.status_code == 401
        assert client.post("/agent/complete").json()["code"] == "no_token"


def test_a_stranger_is_told_so_before_its_body_is_read(shared: Served) -> None:
    address = shared.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=10) as connection:
        # No byte of the body follows.
        connection.sendall(
            b"POST /agent/complete HTTP/1.1\r\nhost: x\r\nauthorization: Capx x\r\ncontent-length: 9\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_body_has_a_limit(shared: Served, task: OpenedTask) -> None:
    body = b'{"hops":["' + b"A" * (1 << 20) + b'"]}'
    response = sent(shared, task.bundle, "/agent/revoke", body)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_after_revocation_an_agent_is_dead_here_too(
    shared: Served, operator: RemoteAuthority, task: OpenedTask
) -> None:
    child = task.bundle.delegate(to="child", allow=OWN)
    operator.revoke(child)
    with AuthorityClient(shared.url, child) as client, pytest.raises(Denied) as denied:
        client.status()
    assert denied.value.code == "revoked"


def test_a_task_without_a_tenant_ends_as_well(shared: Served, operator: RemoteAuthority) -> None:
    opened = operator.open(allow=["crm.read"])
    with AuthorityClient(shared.url, opened.bundle) as client:
        assert client.status().tenant is None
        assert client.complete().end == "completed"


def test_where_nobody_serves_it_is_said(task: OpenedTask) -> None:
    client = AuthorityClient("http://127.0.0.1:9", task.bundle)
    with client, pytest.raises(Unavailable, match="is capx serve running there"):
        client.complete()


def test_no_operation_of_operators_is_on_the_network(shared: Served, task: OpenedTask) -> None:
    with shared.operators() as client:
        said: dict[str, Any] = client.get("/openapi.json").json()
    with shared.everybody() as client:
        own = set(client.get("/openapi.json").json()["paths"])
        for path in set(said["paths"]) - own:
            for method in ("GET", "POST"):
                response = client.request(method, path.replace("{id}", task.id))
                assert response.status_code in {404, 405}, (method, path)
        # The same path, and another operation: reports need a proof, and nothing is told of decisions.
        assert set(said["paths"]) & own == {"/decisions"}
        assert client.get("/decisions").status_code == 405


def test_the_same_home_embedded_agrees(shared: Served, task: OpenedTask) -> None:
    with Authority.open_home(shared.home) as authority:
        assert authority.task(task.id).state == "active"
        with AuthorityClient(shared.url, task.bundle) as client:
            client.complete()
        assert authority.task(task.id).state == "completed"


def test_httpx_with_the_agents_transport_is_enough(shared: Served, task: OpenedTask) -> None:
    with httpx_client.client({shared.url: "authority"}, task.bundle) as client:
        assert client.get(f"{shared.url}/agent/status").json()["state"] == "active"
