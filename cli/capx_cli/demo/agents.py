"""The agents of the demo, scripted where a model would decide; the same code on both sides.

Laws: an agent is a process that is told its name, its credential and where the services are, on stdin. It says what
it does in lines of JSON. The presentation agent believes what it reads, like a model that fell for it: it follows
an instruction it finds in a ticket. The side it is on shows in nothing but the kind of its credential.

`python -m capx_cli.demo.agents orchestrator | presentation | notes` ends when its stdin does.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from capx_cli.demo.credential import SIDES, Credential
from capx_cli.demo.data import ACCOUNT, BEFORE, DECK, QUARTER, TENANT, TICKET
from capx_cli.demo.process import Child, Children, DemoProblem, heard, say

READ: Final = ["crm.accounts.read", "support.tickets.read", "warehouse.revenue.read", "slides.read"]
"""What every agent may do at the four services."""
WRITE: Final = [*READ, "slides.write"]
LEAD: Final = [*WRITE, "crm.accounts.list", "support.tickets.list"]
"""What the whole task needs."""

HARMLESS: Final = {
    "crm": f"/accounts/{ACCOUNT}",
    "support": f"/tickets/{TICKET}",
    "slides": f"/decks/{DECK}",
    "warehouse": f"/revenue?tenant={TENANT}&quarter={QUARTER}",
}
"""A call at each service that every agent may make."""

_OBEYED: Final = re.compile(r"export all CRM records to (\S+)")


class Agent:
    """A name, a credential, and a client that shows it to the services."""

    def __init__(self, name: str, credential: Credential, services: dict[str, str]) -> None:
        self.name = name
        self.credential = credential
        self.services = services
        self.client = credential.client(services)

    def get(self, service: str, path: str, **params: str) -> Any:
        """Read something that the work cannot do without."""
        return _done(self.client.get(self.services[service] + path, params=params or None))

    def write(self, position: int, heading: str, text: str) -> None:
        """Write one slide."""
        url = f"{self.services['slides']}/decks/{DECK}/slides/{position}"
        _done(self.client.put(url, json={"heading": heading, "text": text}))

    def helper(self, name: str) -> "Agent":
        """Share the right to read with a helper in this process."""
        return Agent(name, self.credential.shared(to=name, allow=READ), self.services)

    def probe(self) -> dict[str, Any]:
        """Try one harmless call at each service, and say the reasons of each that was refused."""
        tried = {service: self.client.get(self.services[service] + path) for service, path in HARMLESS.items()}
        refused = {service: reasons(response) for service, response in tried.items()}
        return {"node": self.credential.node, "refused": refused}


def orchestrate(agent: Agent, children: Children) -> Iterator[Callable[[], dict[str, Any]]]:
    """Read the figures, and let two other agents make the review of them."""
    accounts = agent.get("crm", "/accounts", tenant=TENANT)
    revenue, before = (
        sum(month["dollars"] for month in agent.get("warehouse", "/revenue", tenant=TENANT, quarter=quarter))
        for quarter in (QUARTER, BEFORE)
    )
    tickets = agent.get("support", "/tickets", tenant=TENANT)
    say({"step": "read", "accounts": len(accounts), "revenue": revenue, "tickets": len(tickets)})
    brief = {
        "accounts": f"{len(accounts)} accounts, ${sum(account['dollars'] for account in accounts):,} a year",
        "revenue": f"${revenue:,} in {QUARTER}, {(revenue - before) / before:+.1%} on {BEFORE}",
        "tickets": tickets,
    }
    for role in ("presentation", "notes"):
        name = f"{role}-agent"
        credential = agent.credential.shared(to=name, allow=WRITE)
        say({"step": "delegated", "to": name, "narrower": credential.text != agent.credential.text})
        child = children.start(name, "agents", role)
        child.tell({**_job(agent), "name": name, "credential": credential.text, "brief": brief})
        while (event := child.hear())["step"] != "done":
            say(event)
        yield _asking(child)


def present(agent: Agent, brief: dict[str, Any]) -> Iterator[Agent]:
    """Make the slides; on the way, read the tickets, and do what they say."""
    tickets = [agent.get("support", f"/tickets/{ticket['id']}") for ticket in brief["tickets"]]
    for ticket in tickets:
        if instruction := _OBEYED.search(ticket["text"]):
            say({"step": "ticket", "id": ticket["id"], "text": ticket["text"]})
            export = agent.client.get(f"{agent.services['crm']}/export")
            problem = _problem(export)
            records: list[Any] = [] if problem else export.json()
            say({"step": "export", "status": export.status_code, "records": len(records), "problem": problem})
            agent.client.post(instruction[1], json={"records": records})
            say({"step": "sent", "records": len(records)})
    owner = agent.get("crm", f"/accounts/{ACCOUNT}")["owner"]
    months = agent.get("warehouse", "/revenue", tenant=TENANT, quarter=QUARTER)
    still_open = _open(brief)
    slides = [
        (f"{TENANT}: business review {QUARTER}", f"For {owner}"),
        ("Revenue", brief["revenue"]),
        ("Month by month", ", ".join(f"{month['month']} ${month['dollars']:,}" for month in months)),
        ("Accounts", brief["accounts"]),
        ("Support", f"{len(tickets)} tickets, {len(still_open)} open: {', '.join(still_open)}"),
    ]
    for position, (heading, text) in enumerate(slides, 1):
        agent.write(position, heading, text)
    proofreader = agent.helper("proofreader")
    proofread = [(slide["heading"], slide["text"]) for slide in proofreader.get("slides", f"/decks/{DECK}")]
    say({"step": "slides", "written": len(slides), "proofread": proofread == slides})
    yield proofreader


def annotate(agent: Agent, brief: dict[str, Any]) -> Iterator[Agent]:
    """Write the speaker's notes."""
    owner = agent.get("crm", f"/accounts/{ACCOUNT}")["owner"]
    agent.write(6, "Speaker notes", f"Thank {owner}. Then: {', '.join(_open(brief))}.")
    say({"step": "notes"})
    yield from ()


def main(role: str) -> None:
    """Do the work of one role, then answer to probes until the parent process ends."""
    job = heard()
    if job is None:
        return
    agent = Agent(job["name"], SIDES[job["side"]](job["credential"]), job["services"])
    with tempfile.TemporaryDirectory() as logs, Children(Path(logs)) as children:
        if role == "orchestrator":
            others = list(orchestrate(agent, children))
        else:
            work = present if role == "presentation" else annotate
            others = [_probing(helper) for helper in work(agent, job["brief"])]
        say({"step": "done"})
        while heard() is not None:
            answer = {agent.name: agent.probe()}
            for other in others:
                answer.update(other())
            say(answer)


def _asking(child: Child) -> Callable[[], dict[str, Any]]:
    return lambda: child.ask({"do": "probe"})


def _probing(helper: Agent) -> Callable[[], dict[str, Any]]:
    return lambda: {helper.name: helper.probe()}


def _job(agent: Agent) -> dict[str, Any]:
    side = next(side for side, kind in SIDES.items() if isinstance(agent.credential, kind))
    return {"side": side, "services": agent.services}


def _open(brief: dict[str, Any]) -> list[str]:
    return [ticket["subject"] for ticket in brief["tickets"] if ticket["state"] == "open"]


def _done(response: httpx.Response) -> Any:
    if not response.is_success:
        raise DemoProblem(f"{response.request.method} {response.request.url}: {response.status_code} {response.text}")
    return response.json()


def _problem(response: httpx.Response) -> dict[str, Any]:
    """What a refusal says, empty for an answer."""
    if response.is_success:
        return {}
    body: dict[str, Any] = response.json()
    return body


def reasons(response: httpx.Response) -> list[str]:
    """The codes of all reasons for which a call was refused, its status if it names none; empty if it was served."""
    problem = _problem(response)
    return [reason["code"] for reason in problem.get("reasons", ())] or ([str(response.status_code)] if problem else [])


if __name__ == "__main__":
    main(sys.argv[1])
