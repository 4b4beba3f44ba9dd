"""The rows about more than was given: what was found to be needed, what was tried, and what a budget left.

Law: who was granted what is told by the authority, what was refused by whoever refused it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from capx.store.records import RequestRecord
from capx_cli.demo import attack
from capx_cli.demo.attack import Try
from capx_cli.demo.charter import BO
from capx_cli.demo.row import Row

_EXPECTED: Final = {
    attack.OWN_CLIENT: "not_offered",
    "asks for crm.export": "not_offered",
    "asks for it, arguments pinned": "not_offered",
    "asks for crm.*": "invalid_request",
    "asks for it at the authority": "argument_refused",
    attack.DOOR: "not_found",
    attack.OWN_INTENT: "refused",
    attack.REPLAYED: "refused",
    attack.OWN_VERDICT: "refused",
}
_NEEDED: Final = {
    "orchestrator needs the warehouse": ("orchestrator", "warehouse.revenue.read", "granted"),
    "orchestrator publishes the deck": ("orchestrator", "slides.publish", f"{BO} agreed"),
    "sub-agent asks to publish it": ("presentation-agent", "slides.publish", f"{BO} denied it"),
}
"""Who asks for what, and what becomes of it."""
_SAID: Final = {"granted": "agreed", "denied": "denied it"}
"""What a person did to a request that is in this state."""


def of_tries(tried: Iterable[Try]) -> Iterator[Row]:
    """What came of each way to the CRM."""
    came = {one.way: one for one in tried}
    for way, expected in _EXPECTED.items():
        one = came.get(way, Try(way, "not tried"))
        yield Row("execution", f"sub-agent {way}", expected, one.came, one.why)


def of_requests(requests: Iterable[RequestRecord]) -> Iterator[Row]:
    """What became of what was found to be needed on the way."""
    became = {(_who(request), request.action): _became(request) for request in requests}
    for what, (who, action, expected) in _NEEDED.items():
        yield Row("execution", what, expected, became.get((who, action), "not asked"))


def of_budget(thanks: Mapping[str, Any], requests: Iterable[RequestRecord]) -> Row:
    """What became of a slide more than the policy gives."""
    happened = f"{thanks['status']} {thanks['problem'].get('code', '')}".strip()
    asked = [request.state for request in requests if request.action == "slides.write"]
    note = f"more was {', '.join(asked)}, out of the same budget" if asked else ""
    return Row("execution", "a seventh slide, of six", "403 budget_exhausted", happened, note)


def _who(request: RequestRecord) -> str:
    return request.labels[-1] if request.labels else "orchestrator"


def _became(request: RequestRecord) -> str:
    if request.approver is None:
        return request.state
    return f"{request.approver} {_SAID.get(request.state, request.state)}"
