"""Asking for approvals over real HTTP: who may ask, what waits, who may answer, and what a stranger gets out of it."""

import threading
import time

import httpx
import pytest

import capx
from capx.agent.authority_client import AuthorityClient
from capx.authority.remote.client import RemoteAuthority
from capx.errors import InvalidRequest, MalformedToken, UnknownRequest
from capx.intents.principal_key import PrincipalKey
from capx.resource.connection import connect
from capx.resource.replay import Replay
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.discharge import Discharge
from capx.tokens.grants import ASK_APPROVAL
from capx.tokens.wire import MAX_CREDENTIAL
from capx.verify.ask import Approved, Pending
from capx.verify.decision import Denied
from capx_caveats import Call
from tests.labs.office import Office
from tests.labs.waiting import until
from tests.server.conftest import Served, presented_ask

READ, ARGS = "crm.accounts.read", {"id": 7}
JSON = "application/json"


@pytest.fixture
def bundle(office: Office, operator: RemoteAuthority) -> Bundle:
    """What an agent holds, each call of which ben must approve."""
    opened = operator.open(office.signed(operator))
    return opened.bundle.delegate(to="reader", approval=capx.approval(by=[office.ben.public]))


def demand(bundle: Bundle) -> str:
    return bundle.demands_for(Call(READ, ARGS), audience="crm")[0].decode()


def pending(client: AuthorityClient, bundle: Bundle) -> Pending:
    answer = client.ask(READ, args=ARGS, demand=demand(bundle))
    assert isinstance(answer, Pending), str(answer)
    return answer


def signed(operator: RemoteAuthority, request: str, key: PrincipalKey) -> Discharge:
    return key.approve(ApprovalRequest.parse(operator.request(request).to_approve or ""))


def allowed(served_office: Served, bundle: Bundle) -> bool:
    sent = ToolCall(READ, ARGS)
    connection = connect(served_office.keys("crm"), feed=served_office.url)
    until(lambda: connection.liveness.age() < 5)
    verifier = connection.verifier(replay=Replay.process(clock=lambda: time.time() - 1_000))
    decision = verifier.decide(bundle.present("crm", sent).text, sent, Call(READ, ARGS, tenant="Acme"))
    connection.close()
    return decision.allowed


def test_an_approval_is_asked_for_signed_and_fetched(
    served_office: Served, office: Office, operator: RemoteAuthority, bundle: Bundle
) -> None:
    with AuthorityClient(served_office.url, bundle) as client:
        waits = pending(client, bundle)
        assert pending(client, bundle).request == waits.request
        record = operator.approve(waits.request, signed(operator, waits.request, office.ben))
        assert (record.state, record.approver) == ("granted", "ben")
        got = client.ask(READ, args=ARGS, demand=demand(bundle))
    assert isinstance(got, Approved)
    assert not allowed(served_office, bundle)
    assert allowed(served_office, bundle.holding(got.discharge))


def test_an_ask_waits_for_the_signature(
    served_office: Served, office: Office, operator: RemoteAuthority, bundle: Bundle
) -> None:
    with AuthorityClient(served_office.url, bundle) as client:
        waits = pending(client, bundle)

        def later() -> None:
            time.sleep(0.5)
            operator.approve(waits.request, signed(operator, waits.request, office.ben))

        thread = threading.Thread(target=later)
        thread.start()
        began = time.monotonic()
        got = client.ask(READ, args=ARGS, demand=demand(bundle), wait=30)
        thread.join()
    assert isinstance(got, Approved)
    assert 0.3 < time.monotonic() - began < 25


def test_who_was_not_asked_cannot_approve(
    served_office: Served, office: Office, operator: RemoteAuthority, bundle: Bundle
) -> None:
    with AuthorityClient(served_office.url, bundle) as client:
        waits = pending(client, bundle)
        with pytest.raises(InvalidRequest, match="this request asks ed25519:"):
            signed(operator, waits.request, office.eve)
        other = pending_of_another(served_office, office, operator)
        with pytest.raises(InvalidRequest, match="approval"):
            operator.approve(waits.request, signed(operator, other, office.ben))
        for text in ("", "capxd1_AAAA", "x" * 100, bundle.text):
            with pytest.raises((InvalidRequest, MalformedToken)):
                operator.approve(waits.request, text)
        assert operator.request(waits.request).state == "pending"


def pending_of_another(served_office: Served, office: Office, operator: RemoteAuthority) -> str:
    demanded = capx.approval(by=[office.ben.public])
    other = operator.open(office.signed(operator)).bundle.delegate(to="reader", approval=demanded)
    with AuthorityClient(served_office.url, other) as client:
        return pending(client, other).request


def test_a_request_that_is_unknown_takes_no_approval(
    served_office: Served, office: Office, operator: RemoteAuthority, bundle: Bundle
) -> None:
    with AuthorityClient(served_office.url, bundle) as client:
        discharge = signed(operator, pending(client, bundle).request, office.ben)
    with pytest.raises(UnknownRequest):
        operator.approve("A" * 22, discharge)


def test_what_is_no_demand_is_not_asked_for(served_office: Served, bundle: Bundle) -> None:
    with AuthorityClient(served_office.url, bundle) as client, pytest.raises(InvalidRequest):
        client.ask(READ, args=ARGS, demand="no demand")


def test_who_may_not_ask_for_approvals_is_denied(
    served_office: Served, office: Office, operator: RemoteAuthority, bundle: Bundle
) -> None:
    first = operator.open(office.signed(operator)).bundle
    with AuthorityClient(served_office.url, first.delegate(to="reader", allow=["task.status"])) as client:
        with pytest.raises(Denied) as denied:
            client.ask(READ, args=ARGS, demand=demand(bundle))
        assert denied.value.code == "action_not_allowed"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{}", 400), (b'{"approval":1}', 400), (b"[" * 2000, 400), (b'{"approval":"x","more":1}', 400)],
)
def test_what_cannot_be_read_is_told(served_office: Served, bundle: Bundle, body: bytes, status: int) -> None:
    headers = {"content-type": JSON, "authorization": presented_ask(bundle, body, ASK_APPROVAL)}
    with served_office.everybody() as client:
        answer = client.post("/agent/approval", content=body, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_a_head_has_room_for_approvals_and_no_more(served_office: Served, bundle: Bundle) -> None:
    with served_office.everybody() as client:
        for length, status in ((MAX_CREDENTIAL - 100, {401}), (MAX_CREDENTIAL + 4096, {401, 431})):
            headers = {"content-type": JSON, "authorization": "Capx " + "a" * length}
            try:
                answer = client.post("/agent/approval", content=b"{}", headers=headers)
            except httpx.RemoteProtocolError:
                assert length > MAX_CREDENTIAL
                continue
            assert answer.status_code in status


def test_what_lives_no_more_is_not_approved(
    served_office: Served, office: Office, operator: RemoteAuthority, bundle: Bundle
) -> None:
    with AuthorityClient(served_office.url, bundle) as client:
        waits = pending(client, bundle)
        discharge = signed(operator, waits.request, office.ben)
        assert bundle.task
        operator.complete(bundle.task)
        with pytest.raises((InvalidRequest, capx.CapxError)):
            operator.approve(waits.request, discharge)
        with pytest.raises(Denied):
            client.ask(READ, args=ARGS, demand=demand(bundle))
