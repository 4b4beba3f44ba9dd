"""Both faces keep to their own OpenAPI documents, whatever is asked of them (schemathesis)."""

import functools
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis import checks as general
from schemathesis.specs.openapi import checks as of_openapi

from capx.api import resource_auth
from capx.api.messages.agents import AskStatement
from capx.api.messages.base import decode_body
from capx.api.person_auth import prove
from capx.authority.remote import operations as operators
from capx.authority.remote.client import RemoteAuthority
from capx.errors import InvalidRequest
from capx.intents.principal_key import PrincipalKey
from capx.server import openapi
from capx.server.faces import agents, health, people, resources, statements
from capx.tokens.binding import HttpRequest, ToolCall
from capx.tokens.grants import ASK, ASK_APPROVAL
from capx_caveats import InvalidCaveat
from tests.labs.counts import repeated
from tests.labs.stating import POLICY
from tests.server.conftest import Served, presented_ask

Case = Any
"""One made-up request of schemathesis, whose own types are not known in full."""


ANA = PrincipalKey.generate("ana")
PEOPLE = f"""
[principal.ana]
key = "{ANA.public}"
purposes = ["review"]
[purpose.review]
ttl = "1h"
[[purpose.review.grant]]
how = "at_open"
allow = ["crm.read"]
"""

FACES = {
    "operators": operators.OPERATIONS,
    "everybody": (
        *agents.OPERATIONS,
        *people.OPERATIONS,
        *statements.OPERATIONS,
        *resources.OPERATIONS,
        *health.OPERATIONS,
    ),
}


DOCUMENTS: dict[str, dict[str, Any]] = {
    face: msgspec.json.decode(openapi.document(face, "", operations)) for face, operations in FACES.items()
}


CASES = [
    pytest.param(face, operation.method, operation.path, id=f"{operation.method} {operation.path} of {face}")
    for face, operations in FACES.items()
    for operation in operations
]


GENERAL: Any = general
OPENAPI: Any = of_openapi
CHECKS: list[Any] = [
    GENERAL.not_a_server_error,
    OPENAPI.status_code_conformance,
    OPENAPI.content_type_conformance,
    OPENAPI.response_schema_conformance,
]


bounded = settings(
    max_examples=repeated(40),
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


def called(body: bytes) -> ToolCall:
    """The call in the body of an ask for a statement, if there is one."""
    try:
        call = decode_body(body, AskStatement).call()
        call.digest()
    except (InvalidRequest, InvalidCaveat):
        return ToolCall("partner.quote", {})
    return call


_ASKS = {"/agent/ask": ASK, "/agent/approval": ASK_APPROVAL}


class Asker:
    """Sends what was made up, proven where the face wants a proof."""

    def __init__(self, served: Served) -> None:
        self._clients = {"operators": served.operators(), "everybody": served.everybody()}
        policy = served.home / "policy.toml"
        policy.write_text(POLICY + PEOPLE)
        policy.chmod(0o600)
        self._remote = RemoteAuthority(served.place)
        self._url, self._epoch = served.url, self._remote.epoch()
        keys = served.keys("crm")
        self._key = keys.get(next(iter(keys.feed)))

    def close(self) -> None:
        self._remote.close()
        for client in self._clients.values():
            client.close()

    def __call__(self, face: str, case: Case) -> httpx.Response:
        made = case.as_transport_kwargs(base_url="http://capx")
        wanted = {name: made.get(name) for name in ("method", "url", "headers", "params", "data", "json", "cookies")}
        prepared: Any = requests.Request(**wanted).prepare()
        body: bytes = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body or b""
        headers: dict[str, str] = {
            name: value for name, value in prepared.headers.items() if name.lower() in {"content-type", "accept"}
        }
        target: str = prepared.path_url
        proof = self._proof(case, target, body, headers.get("Content-Type"))
        client = self._clients[face]
        url = client.base_url.copy_with(raw_path=target.encode())
        return client.send(
            httpx.Request(prepared.method, url, headers={**headers, **proof, "host": "capx"}, content=body)
        )

    def _proof(self, case: Case, target: str, body: bytes, kind: str | None) -> dict[str, str]:
        path: str = case.operation.path
        if path.startswith("/people/"):
            method = case.method
            where = {"origin": self._url, "epoch": self._epoch, "method": method, "target": target}
            return {"authorization": prove(ANA, **where, body=body, at=int(time.time()))}
        if path == "/agent/statement":
            bundle = self._remote.open(allow=["partner.quote"]).bundle
            return {"authorization": bundle.present("partner", called(body)).authorization}
        if path in _ASKS:
            bundle = self._remote.open(allow=["crm.read"]).bundle
            return {"authorization": presented_ask(bundle, body, _ASKS[path])}
        if path.startswith("/agent/"):
            received = HttpRequest(method=case.method, target=target, content_type=kind, body=body)
            bundle = self._remote.open(allow=["crm.read"]).bundle
            return {"authorization": bundle.present("authority", received).authorization}
        if (
            self._key is not None
            and path in {"/decisions", "/sighted", "/spend", "/give-back"}
            and case.method == "POST"
        ):
            proof = resource_auth.prove(self._key, method="POST", target=target, body=body, at=int(time.time()))
            return {"authorization": proof}
        return {}


@pytest.fixture(scope="module")
def ask(shared: Served) -> Iterator[Asker]:
    made = Asker(shared)
    yield made
    made.close()


@functools.cache
def without_proofs(face: str) -> Any:
    """The document for schemathesis, as if nobody had to prove anything: that is done here, and not made up."""
    document = deepcopy(DOCUMENTS[face])
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return schemathesis.openapi.from_dict(document)


def walked(ask: Asker, case: tuple[str, str, str], mode: GenerationMode, checks: list[Any]) -> set[int]:
    """The statuses that were answered to many requests."""
    face, method, path = case
    operation = without_proofs(face)[path][method]
    statuses: set[int] = set()

    @bounded
    @given(case=operation.as_strategy(generation_mode=mode))
    def walk(case: Case) -> None:
        response = ask(face, case)
        statuses.add(response.status_code)
        assert response.status_code < 500, (case, response.text)
        # What is too large is refused unread, which schemathesis does not count as a refusal of what is ill-formed.
        of_form = [check for check in checks if check is not OPENAPI.negative_data_rejection]
        case.validate_response(response, checks=of_form if response.status_code == 413 else checks)

    walk()
    return statuses


@pytest.mark.parametrize(("face", "method", "path"), CASES)
def test_what_is_well_formed_is_answered_as_the_document_says(ask: Asker, face: str, method: str, path: str) -> None:
    statuses = walked(ask, (face, method, path), GenerationMode.POSITIVE, CHECKS)
    assert statuses & {200, 400, 403, 404}


def takes_something(face: str, method: str, path: str) -> bool:
    said = DOCUMENTS[face]["paths"][path][method.lower()]
    return bool(said.get("parameters") or said.get("requestBody"))


@pytest.mark.parametrize(
    ("face", "method", "path"), [case for case in CASES if takes_something(*map(str, case.values))]
)
def test_what_is_ill_formed_is_refused(ask: Asker, face: str, method: str, path: str) -> None:
    statuses = walked(ask, (face, method, path), GenerationMode.NEGATIVE, [*CHECKS, OPENAPI.negative_data_rejection])
    assert statuses & {400, 401, 403, 404}


@pytest.mark.parametrize("face", FACES)
def test_the_document_is_one_of_openapi_and_is_served(shared: Served, face: str) -> None:
    clients: dict[str, Callable[[], httpx.Client]] = {"operators": shared.operators, "everybody": shared.everybody}
    with clients[face]() as client:
        response = client.get("/openapi.json")
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        served = response.json()
        assert served["openapi"] == "3.1.0"
        assert served["paths"] == DOCUMENTS[face]["paths"]
        assert served["components"] == DOCUMENTS[face]["components"]
        for name, schema in served["components"]["schemas"].items():
            jsonschema.Draft202012Validator.check_schema(schema)
            assert name == schema["title"]
        for path in served["paths"]:
            for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
                refused = client.request(method, path.replace("{id}", "x"))
                assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
                assert refused.headers["allow"]


def test_there_is_no_head_of_what_has_no_end(shared: Served) -> None:
    with shared.everybody() as client:
        assert client.head("/feed", headers={"accept": "text/event-stream"}).status_code == 405


@pytest.mark.parametrize("path", ["/", "/tasks/", "/nope", "/tasks/x/nope", "/%2e%2e/tasks"])
def test_what_is_nowhere_is_a_problem_too(shared: Served, path: str) -> None:
    for client in (shared.operators(), shared.everybody()):
        with client:
            response = client.get(path)
            assert (response.status_code, response.json()["code"]) == (404, "not_found")
            assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", None, 400),
        (b"{}", "application/json", 400),
        (b'{"allow":["crm.read"],"more":1}', "application/json", 400),
        (b'{"allow":["crm.read"],"expires":true}', "application/json", 400),
        (b'{"allow":["crm.read"],"expires":1.5}', "application/json", 400),
        (b'{"allow":[5]}', "application/json", 400),
        (b'{"allow":["crm.read"],"caveats":[["unknown",1]]}', "application/json", 400),
        (b'{"allow":["crm.read"],"caveats":[{}]}', "application/json", 400),
        (b'{"allow":["crm.read"],"caveats":[["task","x"]]}', "application/json", 400),
        (b'{"allow":["crm.read"],"caveats":[["expires",1],["expires",2]]} ', "text/plain", 415),
        (b'{"allow":[{"entry":["crm.read"],"more":1}]}', "application/json", 400),
        (b'{"allow":[{"entry":["crm.read",{}]}]}', "application/json", 400),
        (b'{"allow":[{"entry":"crm.read"}]}', "application/json", 400),
        (b'{"allow":["crm.read"]}{}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"allow":["' + b"x" * (1 << 20) + b'"]}', "application/json", 413),
    ],
)
def test_a_task_is_opened_by_nothing_that_is_not_understood(
    shared: Served, content: bytes, kind: str | None, status: int
) -> None:
    with shared.operators() as client:
        before = len(client.get("/tasks").json())
        headers = {} if kind is None else {"content-type": kind}
        response = client.post("/tasks", content=content, headers=headers)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert "Traceback" not in response.text
        assert len(client.get("/tasks").json()) == before


def test_an_entry_and_caveats_as_in_tokens_are_understood(shared: Served) -> None:
    asked = {
        "allow": [{"entry": ["slides.write", [["deck", ["eq", "deck-42"]]]], "audience": "decks"}],
        "caveats": [["max_hops", 1], ["budget", "calls", "5"]],
    }
    with shared.operators() as client:
        opened = client.post("/tasks", json=asked).json()
        minted = client.get("/log", params={"newest": "true", "limit": 2}).json()["events"][1]
    assert minted["facts"]["allow"] == ['slides.write where deck is "deck-42"']
    assert minted["facts"]["budgets"] == [{"counter": opened["id"], "unit": "calls", "limit": "5"}]


@pytest.mark.parametrize(
    "query",
    ["since=-1", "since=1&since=2", "limit=0", "limit=1001", "limit=x", "newest=1", "before=1", "newest=true&since=1"],
)
def test_a_log_is_asked_for_in_terms_that_it_has(shared: Served, query: str) -> None:
    with shared.operators() as client:
        for accept in ("application/json", "text/event-stream"):
            response = client.get(f"/log?{query}", headers={"accept": accept})
            assert (response.status_code, response.json()["code"]) == (400, "invalid_request"), query
