"""The story of the demo: a quarterly business review, attacked, on both sides at once; then two endings.

Laws: both sides run the same code with the same data, and take each step together. Each row is measured. All that
is started is ended, whatever happens.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from capx import presenting
from capx.authority import Authority
from capx.bundle import Bundle
from capx.graph import Tree
from capx.log import Event
from capx_cli.demo import rows
from capx_cli.demo.agents import HARMLESS, LEAD, reasons
from capx_cli.demo.credential import PATIENCE
from capx_cli.demo.data import SERVICES, TENANT
from capx_cli.demo.process import Children, DemoProblem
from capx_cli.demo.rows import Row
from capx_cli.demo.side import Probe, Side

_WAIT = 3.0

Show = Callable[[str, Mapping[str, Any]], None]
"""Takes the name of a step, and what happened in it by side."""


class Outcome(NamedTuple):
    """What the demo leaves: its rows, and what the authority knows about the task."""

    rows: list[Row]
    seconds: float
    task: str
    tree: Tree
    events: list[Event]
    denial: dict[str, Any]


def run(home: Path, *, show: Show, completes: bool = True) -> Outcome:
    """Tell the whole story in `home`, which must hold no authority yet.

    Without `completes` the task is left open at the end: then rows differ.
    """
    began = time.monotonic()
    with Authority.create_home(home) as authority, Children(home / "demo" / "logs") as children:
        session, execution = (_side(name, home, children) for name in ("session", "execution"))
        token = secrets.token_urlsafe(32)
        session.start({service: {"DEMO_TOKEN": token} for service in SERVICES})
        execution.start({service: _keys(authority, home, service) for service in SERVICES})
        opened = authority.open(tenant=TENANT, purpose="qbr", allow=LEAD, expires="15m")
        session.work(token)
        execution.work(opened.bundle.text)

        export: dict[str, dict[str, Any]] = {"session": {}, "execution": {}}
        for left, right in zip(session.events(), execution.events(), strict=True):
            show(left["step"], {"session": left, "execution": right})
            if left["step"] == "export":
                export = {"session": left, "execution": right}
        table = [*rows.of_work(session, export["session"]), *rows.of_work(execution, export["execution"])]
        show("worked", {side.name: {"received": side.received(), "deck": side.deck()} for side in (session, execution)})

        before = execution.probes()
        authority.revoke(_node(before, "presentation-agent"))
        after = _once_known(execution, "presentation-agent")
        table += rows.of_revocation(before, after)
        show("revoked", after)

        took = _end(opened.bundle, execution.services, lambda: completes and authority.complete(opened.id))
        ended = {"session": session.probes(), "execution": execution.probes()}
        table += rows.of_completion(took, ended)
        show("ended", {"took": took, **ended})

        denial = _decision(authority, export["execution"].get("problem", {}).get("decision", ""))
        tree = authority.graph(opened.id).trees[0]
        with authority.store.read() as reading:
            events, head = list(reading.events()), reading.head().place
        table += rows.of_memory(tree, events, head, denial)
    table.sort(key=lambda row: row.side, reverse=True)
    return Outcome(table, time.monotonic() - began, opened.id, tree, events, denial)


def _side(name: str, home: Path, children: Children) -> Side:
    folder = home / "demo" / name
    folder.mkdir(parents=True)
    return Side(name, folder, children)


def _keys(authority: Authority, home: Path, service: str) -> dict[str, str]:
    """Export the key file of one service, and give the variables that tell it of it."""
    path = home / "demo" / "execution" / f"{service}.keys"
    authority.export_keys(service).save(path)
    return {"CAPX_AUDIENCE": service, "CAPX_KEY_FILE": str(path), "CAPX_STORE": authority.store.place}


def _node(probes: Mapping[str, Probe], name: str) -> str:
    node = probes[name].node
    if node is None:
        raise DemoProblem(f"{name} is no node of the execution graph")
    return node


def _once_known(side: Side, revoked: str) -> dict[str, Probe]:
    """What becomes of every agent once each service knows of the revocation, which takes a moment, or after a while."""
    ends = time.monotonic() + _WAIT
    probes = side.probes()
    while not all(probes[revoked].refused.values()) and time.monotonic() < ends:
        probes = side.probes()
    return probes


def _end(bundle: Bundle, services: Mapping[str, str], end: Callable[[], object]) -> dict[str, float]:
    """End the task, and measure for each service the seconds from then until it refuses, infinite if it does not."""
    origins = {origin: audience for audience, origin in services.items()}
    with presenting.http(origins, bundle, trust_env=False, timeout=PATIENCE) as client:
        urls = {service: services[service] + path for service, path in HARMLESS.items()}
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


def _decision(authority: Authority, id_: str) -> dict[str, Any]:
    """Wait until the service has written its decision into the log."""
    ends = time.monotonic() + _WAIT
    while (event := authority.decision(id_)) is None and time.monotonic() < ends:
        time.sleep(0.02)
    return {} if event is None else event.facts()
