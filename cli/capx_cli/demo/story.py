"""The story of the demo: a quarterly business review, attacked, on both sides at once; two endings; then the proof.

Laws: both sides run the same code with the same data, and take each step together. Each row is measured. Every process
that was started is ended, whatever happens.
"""

import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from capx import AgentKey, Authority, Bundle, RemoteAuthority
from capx.agent import httpx_client
from capx.authority.graph.graph import Tree
from capx.store.log import Event
from capx_cli.demo import gains, proving, rows
from capx_cli.demo.charter import Charter
from capx_cli.demo.credential import PATIENCE
from capx_cli.demo.data import SERVICES
from capx_cli.demo.desk import Desk
from capx_cli.demo.process import Child, Children, DemoProblem
from capx_cli.demo.row import Row
from capx_cli.demo.side import Probe, Side
from capx_cli.demo.worker import HARMLESS, reasons

_WAIT = 3.0

Show = Callable[[str, Mapping[str, Any]], None]
"""Takes the name of a step, and what happened in it by side."""


class Outcome(NamedTuple):
    """The result of the demo: its rows, and what the authority knows about the task."""

    rows: list[Row]
    seconds: float
    task: str
    tree: Tree
    events: list[Event]
    denial: dict[str, Any]


def run(home: Path, *, show: Show, completes: bool = True) -> Outcome:
    """Run the whole story in `home`, which must hold no authority yet.

    Without `completes` the task stays open at the end, and some rows differ.
    """
    began = time.monotonic()
    folders = {name: home / "demo" / name for name in ("session", "execution")}
    with Authority.create_home(home) as made:
        for folder in folders.values():
            folder.mkdir(parents=True)
        charter = Charter.write(home, made.epoch())
        envs = {service: _keys(made, folders["execution"], service) for service in SERVICES}
        terms = made.policy.terms(charter.intent.intent)
    with ExitStack() as stack:
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="capx-")))
        children = stack.enter_context(Children(home / "demo" / "logs"))
        # `home` may be in a folder that others may write to, and `capx serve` makes no socket there.
        desk = Desk(home, private / "authority.sock", children)
        session, execution = (Side(name, folder, children) for name, folder in folders.items())
        token = secrets.token_urlsafe(32)
        session.start({service: {"DEMO_TOKEN": token} for service in SERVICES})
        execution.start(envs)
        approver = children.start("approver", "approver")
        desk.wait()
        authority = stack.enter_context(desk.authority)
        approver.tell(charter.introduction(desk.url))

        intent = charter.intent.intent
        show("asked", {"principal": intent.principal, "statement": intent.statement, "rules": terms.rules})
        opened = authority.open(charter.intent)
        signed = charter.intent.text().decode()
        session.work({"DEMO_TOKEN": token}, signed, opened.id)
        env = {"CAPX_TOKEN": opened.bundle.text, "CAPX_AGENT_KEY_FILE": str(charter.agent)}
        execution.work({**env, "CAPX_AUTHORITY_URL": desk.url}, signed, opened.id)
        reports = _work(session, execution, desk, approver, show)
        export = reports["export"]
        table = [*rows.of_work(session, export["session"]), *rows.of_work(execution, export["execution"])]
        table += [row for side, report in reports["struggle"].items() for row in gains.of_tries(side, report["tried"])]
        requests = authority.requests(task=opened.id)
        table += [
            *gains.of_requests(requests),
            gains.of_budget(reports["thanks"]["execution"], requests),
            *gains.of_approval(reports),
        ]
        show("worked", {side.name: {"received": side.received(), "deck": side.deck()} for side in (session, execution)})

        before = execution.probes()
        authority.revoke(_node(before, "presentation-agent"))
        after = _once_known(execution, "presentation-agent")
        table += rows.of_revocation(before, after)
        show("revoked", after)

        took = _end(
            opened.bundle.with_key(AgentKey.load(charter.agent)),
            execution.services,
            lambda: completes and authority.complete(opened.id),
        )
        ended = {"session": session.probes(), "execution": execution.probes()}
        table += rows.of_completion(took, ended)
        show("ended", {"took": took, **ended})

        denial = _decision(authority, export["execution"].get("problem", {}).get("decision", ""))
        tree = authority.graph(opened.id).trees[0]
        # Decisions may still arrive. The rows are about the log up to the head that was checked.
        head = authority.check()
        events = list(authority.log(limit=head.position))
        table += rows.of_memory(tree, events, head, denial)
    table += _proof(home, opened.id, events, show)
    # The session side first. The sort is stable, so the rows of a side keep their order.
    table.sort(key=lambda row: row.side, reverse=True)
    return Outcome(table, time.monotonic() - began, opened.id, tree, events, denial)


def _proof(home: Path, task: str, events: list[Event], show: Show) -> list[Row]:
    """Prove the task to a process with public keys alone, and return the rows about that."""
    proven = proving.prove(home, task)
    show("proven", {"report": proven.report, "tampered": proven.tampered})
    decisions = sum(event.kind == "decision" and event.facts().get("task") == task for event in events)
    return proving.rows_of(proven, decisions)


def _work(session: Side, execution: Side, desk: Desk, approver: Child, show: Show) -> dict[str, dict[str, Any]]:
    """Let both sides work, step by step; return the reports of both sides by the name of the step."""
    reports: dict[str, dict[str, Any]] = {}
    answers: dict[str, Any] = {}
    # Strict: if one side reports a step that the other does not, the demo is broken.
    for left, right in zip(session.events(), execution.events(), strict=True):
        if right["step"] == "crediting":
            # Shown with the next step: the agent waits for the answer before it has something to report.
            answers = approver.ask({"do": "look"})
            continue
        more: dict[str, Any] = {}
        if right["step"] == "credited":
            more = answers
        elif right["step"] == "struggle":
            more = {"tried": [*right["tried"], *desk.taken(right["documents"])]}
        elif right["step"] == "publishing":
            more = approver.ask({"do": "look"})
        reports[left["step"]] = {"session": left, "execution": {**right, **more}}
        show(left["step"], reports[left["step"]])
    return reports


def _keys(authority: Authority, folder: Path, service: str) -> dict[str, str]:
    """Export the key file of one service, and return the variables that name it."""
    path = folder / f"{service}.keys"
    authority.export_keys(service).save(path)
    return {"CAPX_AUDIENCE": service, "CAPX_KEY_FILE": str(path), "CAPX_STORE": authority.store.place}


def _node(probes: Mapping[str, Probe], name: str) -> str:
    node = probes[name].node
    if node is None:
        raise DemoProblem(f"{name} is not a node of the execution graph")
    return node


def _once_known(side: Side, revoked: str) -> dict[str, Probe]:
    """Return the probes once each service knows of the revocation, or after some seconds."""
    ends = time.monotonic() + _WAIT
    probes = side.probes()
    while not all(probes[revoked].refused.values()) and time.monotonic() < ends:
        probes = side.probes()
    return probes


def _end(bundle: Bundle, services: Mapping[str, str], end: Callable[[], object]) -> dict[str, float]:
    """End the task; return for each service the seconds until it denied a call, infinite if it did not."""
    origins = {origin: audience for audience, origin in services.items()}
    with httpx_client.client(origins, bundle, trust_env=False, timeout=PATIENCE) as client:
        urls = {service: services[service] + path for service, path in HARMLESS.items()}
        # A first call at each service proves that it serves, and the measured time then includes no connecting.
        for url in urls.values():
            client.get(url).raise_for_status()
        end()
        ended = time.perf_counter()
        took = dict.fromkeys(urls, float("inf"))
        while float("inf") in took.values() and time.perf_counter() - ended < _WAIT:
            for service, url in urls.items():
                if took[service] == float("inf") and "task_completed" in reasons(client.get(url)):
                    took[service] = time.perf_counter() - ended
        return took


def _decision(authority: RemoteAuthority, id_: str) -> dict[str, Any]:
    """Wait until the service has written its decision into the log."""
    ends = time.monotonic() + _WAIT
    while (event := authority.decision(id_)) is None and time.monotonic() < ends:
        time.sleep(0.02)
    return {} if event is None else event.facts()
