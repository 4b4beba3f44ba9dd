"""The counter of decisions for Prometheus, by itself and over real HTTP."""

import subprocess
import sys

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from capx.authority.authority import Authority
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.guard.decision_counter import DecisionCounter
from capx.tokens.binding import HttpRequest
from tests.labs.lab import Lab, minted
from tests.labs.serving import served

NAME = "capx_guard_decisions_total"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def counted(registry: CollectorRegistry, outcome: str, code: str, audience: str = "crm") -> float | None:
    return registry.get_sample_value(NAME, {"audience": audience, "outcome": outcome, "code": code})


def test_decisions_are_counted_by_their_outcome_and_first_code(registry: CollectorRegistry) -> None:
    count, lab = DecisionCounter(registry), Lab()
    lab.deaths.deaths["T1"] = "task_completed"
    denied = lab.decide(lab.present(minted()))
    lab.deaths.deaths.clear()
    for decision in (denied, denied, lab.decide(lab.present(minted())), lab.decide("junk")):
        count(decision)
    assert counted(registry, "denied", "task_completed") == 2
    assert counted(registry, "denied", "malformed") == 1
    assert counted(registry, "allowed", "") == 1
    assert counted(registry, "allowed", "", "slides") is None


def test_neither_actions_nor_arguments_are_labels(registry: CollectorRegistry) -> None:
    count, lab = DecisionCounter(registry), Lab()
    for number in range(50):
        name = f"a.x{number}"
        count(lab.decide(lab.present(minted(), name, {"id": number}), name, {"id": number}))
    shown = generate_latest(registry).decode()
    assert "# HELP capx_guard_decisions_total Decisions of a guard." in shown
    assert [line for line in shown.splitlines() if line.startswith(f"{NAME}{{")] == [
        f'{NAME}{{audience="crm",code="action_not_allowed",outcome="denied"}} 50.0'
    ]


TWICE = """
from prometheus_client import generate_latest
from capx.guard.decision_counter import DecisionCounter
from tests.labs.lab import Lab
DecisionCounter()(Lab().decide("junk"))
print(generate_latest().decode())
DecisionCounter()
"""


def test_the_usual_registry_takes_one_counter() -> None:
    # In a process of its own: a page of the documentation may have made one in this process.
    ran = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, check=False)
    assert f'{NAME}{{audience="crm",code="malformed",outcome="denied"}} 1.0' in ran.stdout
    assert "Duplicated" in ran.stderr.splitlines()[-1]
    assert ran.returncode == 1


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    passage(scope).judge("crm.echo", {})
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def test_a_guard_over_http_counts_what_it_answers(lab: Authority, registry: CollectorRegistry) -> None:
    capability = next(one for one in lab.open(allow=["crm.echo"]).bundle if one.audience == "crm")
    guard = ASGIGuard(application, lab.verifier("crm"), on_decision=DecisionCounter(registry))
    with served(guard, lifespan="off") as origin:
        for _ in range(3):
            head = {"Authorization": capability.present(HttpRequest(method="GET", target="/")).authorization}
            assert httpx.get(origin, headers=head).status_code == 204
            assert httpx.get(origin, headers=head).status_code == 401
        assert httpx.get(origin).status_code == 401
    assert counted(registry, "allowed", "") == 3
    assert counted(registry, "denied", "replayed") == 3
    assert counted(registry, "denied", "no_token") == 1
