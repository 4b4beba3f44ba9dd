"""The response to a request of MCP that a proxy refuses."""

from capx.api.jsonrpc import INTERNAL_ERROR, Request, Response, failure
from capx.api.mcp_messages import names_version, refusal
from capx.errors import CapxError, Unavailable
from capx.verify.ask import Pending
from capx.verify.decision import Denied

REFUSALS = (Denied, Pending, Unavailable)
"""The errors that refuse one request, and say to its sender why."""


def refused(request: Request, error: CapxError, text: str | None = None) -> Response:
    """Return the response to a request that was refused; `text` is what a model reads instead of the error's own."""
    found = refusal(request.method, error, typed=names_version(request.params), text=text)
    if found.result is not None:
        return Response(id=request.id, result=found.result)
    return failure(request.id, found.code or INTERNAL_ERROR, found.message, found.data)
