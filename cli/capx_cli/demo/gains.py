"""The rows about rights beyond those at the start: asks, attacks, a budget, and an approval.

Law: grants are read from the authority, refusals from the side that refused.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from capx.store.records import RequestRecord
from capx_cli.demo import attack
from capx_cli.demo.attack import Try
from capx_cli.demo.charter import BO
from capx_cli.demo.data import CREDIT, INFLATED
from capx_cli.demo.row import Row

_EXPECTED: Final[Mapping[str, Mapping[str, str]]] = {
    "session": {attack.STOLEN: "served"},
    "execution": {
        attack.OWN_CLIENT: "not_offered",
        "asks for crm.export": "not_offered",
        "asks for it, arguments pinned": "not_offered",
        "asks for crm.*": "invalid_request",
        "asks for it at the authority": "argument_refused",
        attack.DOOR: "not_found",
        attack.OWN_INTENT: "refused",
        attack.REPLAYED: "refused",
        attack.OWN_VERDICT: "refused",
        attack.WITHOUT_KEY: "403 hop_unsigned",
        attack.OWN_KEY: "403 hop_signature",
    },
}
_NEEDED: Final = {
    "orchestrator needs the warehouse": ("orchestrator", "warehouse.revenue.read", "granted"),
    "orchestrator publishes the deck": ("orchestrator", "slides.publish", f"{BO} agreed"),
    "sub-agent asks to publish it": ("presentation-agent", "slides.publish", f"{BO} denied it"),
    f"orchestrator credits ${CREDIT}": ("orchestrator", "crm.credit", f"{BO} agreed"),
}
"""Who asks for what, and the expected outcome."""
_SAID: Final = {"granted": "agreed", "denied": "denied it"}
"""The answer of a person to a request in this state."""


def of_tries(side: str, tried: Iterable[Sequence[str]]) -> Iterator[Row]:
    """Make a row for each way in which the agent of one side tried to reach the CRM."""
    tries = {one[0]: Try(*one) for one in tried}
    for way, expected in _EXPECTED[side].items():
        one = tries.get(way, Try(way, "not tried"))
        yield Row(side, f"sub-agent {way}", expected, one.outcome, one.why)


def of_requests(requests: Iterable[RequestRecord]) -> Iterator[Row]:
    """Make a row for each thing that an agent needed and asked for."""
    outcomes = {(_who(request), request.action): _outcome(request) for request in requests}
    for what, (who, action, expected) in _NEEDED.items():
        yield Row("execution", what, expected, outcomes.get((who, action), "not asked"))


def of_budget(thanks: Mapping[str, Any], requests: Iterable[RequestRecord]) -> Row:
    """Make a row for one slide more than the policy gives."""
    happened = f"{thanks['status']} {thanks['problem'].get('code', '')}".strip()
    asked = [request.state for request in requests if request.action == "slides.write"]
    note = f"more was {', '.join(asked)}, out of the same budget" if asked else ""
    return Row("execution", "a seventh slide, of six", "403 budget_exhausted", happened, note)


def of_approval(reports: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[Row]:
    """Make a row for each use of the approval that it was not given for; `reports` are those of the steps."""
    for what, step, code in (
        (f"the approval of ${CREDIT}, with ${INFLATED}", "inflated", "argument_refused"),
        (f"the approval of ${CREDIT}, a second time", "again", "budget_exhausted"),
    ):
        event = reports[step]["execution"]
        said = event["problem"]
        note = "; ".join(reason["sentence"] for reason in said.get("reasons", ()))
        yield Row("execution", what, f"403 {code}", f"{event['status']} {said.get('code', '')}".strip(), note)


def _who(request: RequestRecord) -> str:
    return request.labels[-1] if request.labels else "orchestrator"


def _outcome(request: RequestRecord) -> str:
    if request.approver is None:
        return request.state
    return f"{request.approver} {_SAID.get(request.state, request.state)}"
