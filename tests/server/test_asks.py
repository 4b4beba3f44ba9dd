"""Asking for more over real HTTP: what is answered, to whom, and what a stranger or a hostile agent gets out of it."""

import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from capx.agent.authority_client import AuthorityClient
from capx.authority.opening import OpenedTask
from capx.authority.remote.client import RemoteAuthority
from capx.authority.requests.verdict import Verdict
from capx.errors import ConfigurationProblem, InvalidRequest, UnknownRequest, UnknownTask
from capx.server.faces.asks import preferred_wait
from capx.server.faces.redaction import SENTENCE
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.verify.ask import Granted, Pending, Refused
from capx.verify.decision import Denied
from capx_caveats import action
from tests.labs.inbox import REFUND
from tests.labs.office import Office
from tests.server.conftest import Served, presented_ask, serving

JSON = "application/json"


@pytest.fixture
def task(office: Office, operator: RemoteAuthority) -> OpenedTask:
    return operator.open(office.signed(operator))


def asked(served_office: Served, bundle: Bundle, body: bytes, **headers: str) -> httpx.Response:
    """What is answered to an ask, as anybody may send it."""
    sent = {"content-type": JSON, "authorization": presented_ask(bundle, body), **headers}
    with served_office.everybody() as client:
        return client.post("/agent/ask", content=body, headers=sent)


def verdict(office: Office, operator: RemoteAuthority, request: str) -> Verdict:
    """The consent of ben."""
    return Verdict.sign(operator.inquiry(request), office.ben, yes=True, at=int(time.time()))


def test_an_ask_is_granted_pending_or_refused(served_office: Served, task: OpenedTask) -> None:
    granted = asked(served_office, task.bundle, b'{"audience":"warehouse","action":"warehouse.stock.read"}')
    assert (granted.status_code, granted.headers["cache-control"]) == (200, "no-store")
    assert set(granted.json()) == {"answer", "capability"}
    capability = Capability.parse(granted.json()["capability"])
    assert (granted.json()["answer"], capability.audience, capability.task) == ("granted", "warehouse", task.id)
    pending = asked(
        served_office, task.bundle, b'{"audience":"billing","action":"billing.refund","args":{"amount":20}}'
    ).json()
    assert (pending["answer"], pending["approvers"]) == ("pending", ["finance"])
    assert set(pending) == {"answer", "request", "until", "approvers"}
    refused = asked(served_office, task.bundle, b'{"audience":"crm","action":"crm.accounts.delete"}').json()
    assert (refused["answer"], [reason["code"] for reason in refused["reasons"]]) == ("refused", ["not_offered"])


def test_a_client_gets_the_answers_of_the_authoritys_process(served_office: Served, task: OpenedTask) -> None:
    with AuthorityClient(served_office.url, task.bundle) as client:
        granted = client.ask("warehouse.stock.read")
        assert isinstance(granted, Granted)
        fuller = task.bundle.holding(granted.capability)
        assert fuller.audiences == ("crm", "authority", "warehouse")
        pending = client.ask("billing.refund", args={"amount": 20})
        assert isinstance(pending, Pending)
        assert str(pending).startswith("billing.refund at billing, with amount 20 needs the consent of a person")
        refused = client.ask("crm.accounts.delete")
        assert isinstance(refused, Refused)
        assert str(refused) == "the policy offers this to no task of the purpose: crm.accounts.delete at crm"
        pins: list[dict[str, Any] | None] = [None, {}, {"deep": [{"er": {}}]}]
        for args in pins:
            refused = client.ask("crm.accounts.read", audience="warehouse", args=args)
            assert isinstance(refused, Refused)


def test_the_same_ask_has_one_answer(served_office: Served, operator: RemoteAuthority, task: OpenedTask) -> None:
    bodies = [
        b'{"audience":"warehouse","action":"warehouse.a","args":{"x":1,"y":2}}',
        b' {"action":"warehouse.a" ,"args":{"y":2,"x":1.0},"audience":"warehouse"}',
    ]
    answers = [asked(served_office, task.bundle, body).json() for body in (*bodies, *bodies)]
    assert all(answer == answers[0] for answer in answers)
    assert len(operator.requests(task=task.id)) == 1


def test_what_a_person_agreed_to_is_granted_to_the_next_ask(
    served_office: Served, office: Office, operator: RemoteAuthority, task: OpenedTask
) -> None:
    with AuthorityClient(served_office.url, task.bundle) as client:
        pending = client.ask("billing.refund", args=REFUND)
        assert isinstance(pending, Pending)
        assert [one.id for one in operator.requests(task=task.id, pending=True)] == [pending.request]
        decided = operator.answer(verdict(office, operator, pending.request))
        assert (decided.state, decided.approver) == ("approved", "ben")
        granted = client.ask("billing.refund", args=REFUND)
        assert isinstance(granted, Granted)
        assert granted == client.ask("billing.refund", args=REFUND)
        assert operator.request(pending.request).state == "granted"


def test_why_an_ask_is_denied_is_told_to_whoever_asks(served_office: Served, task: OpenedTask) -> None:
    child = task.bundle.delegate(to="child", may_ask=[action("billing.refund", args={"ticket": "T-1"})])
    with AuthorityClient(served_office.url, child) as client:
        assert isinstance(client.ask("billing.refund", args={"ticket": "T-1"}), Pending)
        with pytest.raises(Denied) as denied:
            client.ask("billing.refund", args={"ticket": "T-2"})
    assert denied.value.code == "argument_refused"
    assert (denied.value.refusals[0].hop, denied.value.refusals[0].hop_name) == (1, "child")
    without = task.bundle.delegate(to="other", allow=["task.status"])
    with AuthorityClient(served_office.url, without) as client, pytest.raises(Denied) as denied:
        client.ask("warehouse.stock.read")
    assert denied.value.code == "action_not_allowed"


HOSTILE = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b'{"audience":"warehouse"}',
    b'{"action":"warehouse.a"}',
    b'{"audience":"warehouse","action":"warehouse.*"}',
    b'{"audience":"warehouse","action":"*"}',
    b'{"audience":"warehouse","action":""}',
    b'{"audience":"warehouse","action":"warehouse.a\\n"}',
    b'{"audience":"warehouse","action":"warehouse.\\u202e"}',
    b'{"audience":"authority","action":"grant.request"}',
    b'{"audience":"authority","action":"task.complete"}',
    b'{"audience":"AUTHORITY","action":"task.complete"}',
    b'{"audience":"../crm","action":"crm.read"}',
    b'{"audience":["warehouse"],"action":"warehouse.a"}',
    b'{"audience":"warehouse","action":["warehouse.a"]}',
    b'{"audience":"warehouse","action":"warehouse.a","args":null}',
    b'{"audience":"warehouse","action":"warehouse.a","args":[]}',
    b'{"audience":"warehouse","action":"warehouse.a","args":"{}"}',
    b'{"audience":"warehouse","action":"warehouse.a","more":1}',
    b'{"audience":"warehouse","action":"warehouse.a","action":"crm.accounts.read"}',
    b'{"audience":"crm","audience":"warehouse","action":"warehouse.a"}',
    b'{"audience":"warehouse","action":"warehouse.a","args":{"x":1,"x":2}}',
    b'{"audience":"warehouse","action":"warehouse.a","args":{"x":1e999}}',
    b'{"audience":"warehouse","action":"warehouse.a","args":{"x":NaN}}',
    b'{"audience":"warehouse","action":"warehouse.a","args":{"x":"\\ud800"}}',
    b'{"audience":"warehouse","action":"warehouse.a"}{}',
    b'\xef\xbb\xbf{"audience":"warehouse","action":"warehouse.a"}',
    b'{"audience":"warehouse","action":"warehouse.a","args":' + b"[" * 100_000,
    b'{"audience":"warehouse","action":"warehouse.a","args":' + b'{"x":' * 3_000 + b"1" + b"}" * 3_001,
    b'{"audience":"warehouse","action":"warehouse.a","args":{"x":"' + b"x" * (1 << 20) + b'"}}',
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_what_cannot_be_meant_is_asked_of_nobody(
    served_office: Served, operator: RemoteAuthority, task: OpenedTask, body: bytes
) -> None:
    response = asked(served_office, task.bundle, body)
    # What the chain does not allow is refused before it is read as anything.
    assert response.status_code in ({413} if len(body) > 1 << 20 else {400, 403}), response.text[:300]
    assert response.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in response.text
    assert len(response.content) < 5_000
    assert operator.requests(task=task.id) == []


@pytest.mark.parametrize(
    "args",
    [
        b'{"x":"%s"}' % (b"x" * 500_000),
        b"{%s}" % b",".join(b'"n%d":1' % number for number in range(20_000)),
        b'{"x":%s}' % b",".join([b"[" * 60 + b"]" * 60]),
        b'{"x":9007199254740993}',
        b'{"x":{"deep":{"er":1}}}',
        b'{"x":null}',
        b'{"":1}',
    ],
    ids=["long", "many", "nested", "beyond-2-53", "object", "null", "nameless"],
)
def test_arguments_that_no_grant_can_be_pinned_to_get_none(
    served_office: Served, task: OpenedTask, args: bytes
) -> None:
    body = b'{"audience":"warehouse","action":"warehouse.a","args":%s}' % args
    began = time.monotonic()
    response = asked(served_office, task.bundle, body)
    assert time.monotonic() - began < 5
    said = response.json()
    if response.status_code == 200 and said["answer"] == "granted":
        # What is granted is for these arguments, and they fit into a token.
        assert len(said["capability"]) < 16_384
    else:
        assert response.status_code in {200, 400, 403}
        assert said.get("answer", "refused") == "refused"


@pytest.mark.parametrize(
    "prefer", ["wait=1e9", "wait=-1", "wait=", "wait", "wait=0", "respond-async", "wait=99999999999", "wait=1.5", ""]
)
def test_a_preference_that_is_none_holds_nothing_back(served_office: Served, task: OpenedTask, prefer: str) -> None:
    began = time.monotonic()
    response = asked(
        served_office,
        task.bundle,
        b'{"audience":"billing","action":"billing.refund","args":{"amount":20}}',
        prefer=prefer,
    )
    assert time.monotonic() - began < 5
    assert response.json()["answer"] == "pending"
    assert "preference-applied" not in response.headers


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((), 0),
        (("wait=7",), 7),
        (("respond-async, WAIT = 7",), 7),
        (("handling=lenient", "wait=7; foo"), 7),
        (('wait="7"',), 7),
        (("wait=7, wait=9",), 7),
        (("wait=1000",), 25),
        (("wait=999999999",), 25),
        (("wait=9999999999",), 0),
        (('wait="7',), 0),
        (("wait=\u0667",), 0),
        (("await=7",), 0),
        (("wait=7 8",), 0),
    ],
)
def test_how_long_to_wait_is_read_as_the_standard_has_it(headers: tuple[str, ...], seconds: int) -> None:
    assert preferred_wait(headers) == seconds


def test_an_answer_that_is_none_to_wait_for_comes_at_once(served_office: Served, task: OpenedTask) -> None:
    for name in ("warehouse.stock.read", "crm.accounts.delete"):
        body = b'{"audience":"%s","action":"%s"}' % (name.partition(".")[0].encode(), name.encode())
        began = time.monotonic()
        assert asked(served_office, task.bundle, body, prefer="wait=20").json()["answer"] in {"granted", "refused"}
        assert time.monotonic() - began < 5


def test_a_stranger_asks_for_nothing_and_learns_nothing(
    served_office: Served, office: Office, operator: RemoteAuthority, task: OpenedTask
) -> None:
    with AuthorityClient(served_office.url, task.bundle) as client:
        pending = client.ask("billing.refund", args={"ticket": "T-4711"})
        assert isinstance(pending, Pending)
    body = b'{"audience":"billing","action":"billing.refund","args":{"ticket":"T-4711"}}'
    with served_office.everybody() as client:
        answers = [
            client.post("/agent/ask", content=body, headers={"content-type": JSON, "prefer": "wait=20"}),
            client.post("/agent/ask", content=body, headers={"content-type": JSON, "authorization": "Capx capx1_AAAA"}),
            client.get("/requests"),
            client.get(f"/requests/{pending.request}"),
            client.get(f"/requests/{pending.request}/inquiry"),
            client.post(f"/requests/{pending.request}/verdict", json={}),
            client.get("/intents"),
            client.get("/authority"),
            client.get("/metrics"),
        ]
    assert [answer.status_code for answer in answers] == [401, 401, *[404] * 6, 200]
    for answer in answers:
        for word in ("T-4711", "finance", "billing", pending.request if answer.status_code != 404 else "T-4711"):
            assert word not in answer.text
    # An agent of another task that asks alike asks for itself.
    other = operator.open(office.signed(operator))
    with AuthorityClient(served_office.url, other.bundle) as client:
        another = client.ask("billing.refund", args={"ticket": "T-4711"})
        assert isinstance(another, Pending)
        assert another.request != pending.request


def test_a_presentation_for_another_body_asks_for_nothing(served_office: Served, task: OpenedTask) -> None:
    body = b'{"audience":"warehouse","action":"warehouse.a"}'
    headers = {"content-type": JSON, "authorization": presented_ask(task.bundle, body)}
    with served_office.everybody() as client:
        other = client.post("/agent/ask", content=body.replace(b".a", b".b"), headers=headers)
        once = client.post("/agent/ask", content=body, headers=headers)
        again = client.post("/agent/ask", content=body, headers=headers)
    assert [answer.status_code for answer in (other, once, again)] == [401, 200, 401]
    assert [reason["code"] for reason in again.json()["reasons"]] == ["replayed"]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ({"approver": "eve"}, "cannot answer this request; who can:"),
        ({"yes": False}, "does not fit what request"),
        ({"signature": ""}, "does not fit what request"),
        ({"request": "x"}, "unknown field"),
        ({"yes": "true"}, "Expected `bool`"),
        ({"at": -1}, "Expected `int`"),
        ({"signature": None}, "Expected `str`"),
    ],
)
def test_why_a_verdict_is_refused_is_told_to_whoever_sent_it(
    served_office: Served,
    office: Office,
    operator: RemoteAuthority,
    task: OpenedTask,
    *,
    spoil: dict[str, Any],
    why: str,
) -> None:
    with AuthorityClient(served_office.url, task.bundle) as client:
        pending = client.ask("billing.refund", args=REFUND)
    assert isinstance(pending, Pending)
    good = verdict(office, operator, pending.request)
    said: dict[str, Any] = {"yes": good.yes, "approver": good.approver, "at": good.at, "signature": good.signature}
    path = f"/requests/{pending.request}/verdict"
    with served_office.operators() as client:
        refused = client.post(path, json={**said, **spoil})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
        assert why in refused.json()["detail"]
        assert operator.request(pending.request).state == "pending"
        assert client.post(path, json=said).status_code == 200
    with pytest.raises(InvalidRequest, match="no longer waits for an answer: it was approved by"):
        operator.answer(good)


def test_requests_that_there_are_not_are_not_found(served_office: Served, operator: RemoteAuthority) -> None:
    with served_office.operators() as client:
        good = {"yes": True, "approver": "ben", "at": 1, "signature": ""}
        for response in (
            client.get("/requests/nobody"),
            client.get("/requests/nobody/inquiry"),
            client.post("/requests/nobody/verdict", json=good),
        ):
            assert (response.status_code, response.json()["code"]) == (404, "unknown_request")
        assert client.get("/requests?task=nobody").json()["code"] == "unknown_task"
        assert client.get("/requests?pending=1").status_code == 400
    for name in ("nobody", "../tasks", "x" * 100, "a b", ""):
        with pytest.raises(UnknownRequest, match="there is no request"):
            operator.request(name)
        with pytest.raises(UnknownRequest, match="there is no request"):
            operator.inquiry(name)
    with pytest.raises(UnknownTask):
        operator.requests(task="../x")


def test_an_intent_opens_over_http_what_it_opens_in_process(
    served_office: Served, office: Office, operator: RemoteAuthority
) -> None:
    parameters = {"ticket": 'T-1", "', "share": 1.0, "marks": ["a", 2, None]}
    intent = office.signed(operator, max_tasks=2, agent="case-agent", purpose="case", parameters=parameters)
    opened = operator.open(intent, expires="5m")
    assert (opened.principal, opened.intent) == ("ana", intent.intent.digest)
    assert (opened.tenant, opened.purpose, opened.bundle.audiences) == ("Acme", "case", ("crm", "authority"))
    operator.open(intent)
    with pytest.raises(InvalidRequest, match="opened 2 times"):
        operator.open(intent)
    kept = next(one for one in operator.intents() if one.digest == intent.intent.digest)
    assert (kept.opened, kept.proof) == (2, intent.signature)
    attested = office.intent(operator)
    with pytest.raises(InvalidRequest, match="not signed"):
        operator.open(attested)
    assert operator.open(attested, attested="the office's login").principal == "ana"
    with pytest.raises(InvalidRequest, match="the intent names purpose and tenant"):
        operator.open(office.signed(operator), allow=["crm.read"])
    forged = office.eve.sign(intent.intent.message())
    with served_office.operators() as client:
        document = {"intent": {"intent": intent.intent.document(), "signature": forged}}
        response = client.post("/tasks", json=document)
        assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
        no_intents: list[Any] = [None, "x", {}, {"intent": {}}, {"intent": {**intent.intent.document(), "more": 1}}]
        for spoilt in no_intents:
            assert client.post("/tasks", json={"intent": spoilt}).status_code == 400


def test_a_withdrawn_intent_is_refused_and_its_tasks_end(
    served_office: Served, office: Office, operator: RemoteAuthority
) -> None:
    intent = office.signed(operator, max_tasks=5)
    opened = operator.open(intent)
    tried = operator.withdraw_intent(intent, dry_run=True)
    assert (tried.at, [end.task for end in tried.tasks]) == (None, [opened.id])
    withdrawn = operator.withdraw_intent(intent.intent.digest)
    assert [(end.task, end.end) for end in withdrawn.tasks] == [(opened.id, "withdrawn")]
    assert operator.withdraw_intent(intent.intent).again
    with AuthorityClient(served_office.url, opened.bundle) as client, pytest.raises(Denied) as denied:
        client.ask("warehouse.stock.read")
    assert denied.value.code == "task_withdrawn"
    with pytest.raises(InvalidRequest, match="withdrawn"):
        operator.open(intent)
    with pytest.raises(InvalidRequest, match="is not an intent"):
        operator.withdraw_intent("../tasks")
    with served_office.operators() as client:
        assert client.post("/intents/nobody/withdraw").json()["code"] == "invalid_request"


def test_the_epoch_of_an_authority_is_told_to_operators_alone(served_office: Served, operator: RemoteAuthority) -> None:
    with served_office.operators() as client:
        assert client.get("/authority").json() == {"epoch": operator.epoch()}


def test_a_broken_policy_is_told_to_operators_and_not_to_agents(tmp_path: Path) -> None:
    office = Office(tmp_path)
    with serving(office.home) as served_office, RemoteAuthority(served_office.place) as operator:
        opened = operator.open(office.signed(operator))
        whole = office.policy.read_text()
        office.rule(whole.replace("approvers", "aprovers"))
        with pytest.raises(ConfigurationProblem, match="aprovers"):
            operator.open(office.signed(operator))
        response = asked(served_office, opened.bundle, b'{"audience":"warehouse","action":"warehouse.a"}')
        assert (response.status_code, response.json()["detail"]) == (503, SENTENCE)
        assert "policy" not in response.text
        office.rule(whole)
        with AuthorityClient(served_office.url, opened.bundle) as client:
            assert isinstance(client.ask("warehouse.a"), Granted)
        served_office.signal(signal.SIGTERM)
        _, err = served_office.ended()
    assert "aprovers" in err


def test_what_cannot_be_asked_for_is_not_sent(task: OpenedTask) -> None:
    with AuthorityClient("http://127.0.0.1:1", task.bundle) as client:
        with pytest.raises(InvalidRequest, match="is not an action: ask for one"):
            client.ask("warehouse.*")
        with pytest.raises(InvalidRequest, match="the audience authority is reserved"):
            client.ask("task.complete", audience="authority")
