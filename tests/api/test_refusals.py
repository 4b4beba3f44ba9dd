"""How a proxy answers what it refuses: a result that a model reads, or an error."""

import pytest

from capx.api.jsonrpc import Request, Response
from capx.api.mcp_messages import CALL
from capx.api.relay.refusals import refused
from capx.errors import CapxError, InvalidRequest, Unavailable
from capx.verify.ask import Ask, Pending
from capx.verify.decision import Decision, Denied
from capx_caveats import Refusal

DENIED = Denied(
    Decision(id="d", at=1, allowed=False, audience="files", refusals=(Refusal("action_not_allowed", "no", "x"),))
)
PENDING = Pending(Ask.of("files.read"), request="r1", until=9, approvers=("lea",))
LATER = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}


@pytest.mark.parametrize(
    ("error", "member"), [(DENIED, "dev.capx/problem"), (PENDING, "dev.capx/pending"), (Unavailable("away"), None)]
)
def test_a_refused_tool_call_is_a_result(error: CapxError, member: str | None) -> None:
    result = refused(Request(1, CALL, {}), error).result
    assert result["isError"]
    assert list(result.get("_meta", {})) == ([] if member is None else [member])
    assert "resultType" not in result
    assert refused(Request(1, CALL, LATER), error, "read this").result["resultType"] == "complete"
    assert refused(Request(1, CALL, LATER), error, "read this").result["content"] == [
        {"type": "text", "text": "read this"}
    ]


@pytest.mark.parametrize(
    ("error", "code"), [(DENIED, 403), (PENDING, 503), (Unavailable("away"), 503), (InvalidRequest("what"), 400)]
)
def test_any_other_request_gets_an_error(error: CapxError, code: int) -> None:
    response = refused(Request("a", "resources/read", {}), error)
    assert response.id == "a"
    assert isinstance(response.error, dict)
    assert response.error["code"] == code
    assert ("data" in response.error) is isinstance(error, Denied | Pending)
    assert response != Response(id="a", result=None)
