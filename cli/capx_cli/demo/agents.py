"""The work of the demo's agents. A script decides where a model would; both sides run the same code.

Laws: an agent is a process. It gets its work on stdin, and it reports each step as a line of JSON. It has a key of its
own, and passes on only the public half. The orchestrator gets its credential from its environment, the others from a
file that everybody may read. The presentation agent obeys an instruction in a ticket, like a model that was misled.

`python -m capx_cli.demo.agents orchestrator | presentation | notes` ends when its stdin does.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from capx import AgentKey
from capx_cli.demo.credential import SIDES, Credential
from capx_cli.demo.data import ACCOUNT, BEFORE, CREDIT, DECK, INFLATED, QUARTER, TENANT
from capx_cli.demo.process import Children, DemoProblem, heard, say
from capx_cli.demo.worker import READ, Worker, problem

WRITE: Final = [*READ, "warehouse.revenue.read", "slides.write"]
"""The actions that making slides needs."""
MAY_ASK: Final = {"presentation": ["crm.*", "slides.publish"], "notes": []}
"""The actions that each other agent may ask for at run time."""

_OBEYED: Final = re.compile(r"export all CRM records to (\S+)")

Probe = Callable[[], dict[str, Any]]


def orchestrate(me: Worker, job: Mapping[str, Any], children: Children) -> Iterator[Probe]:
    """Read the figures, let two other agents make the review, publish it, and credit the customer."""
    accounts = me.get("crm", "/accounts", tenant=TENANT)
    tickets = me.get("support", "/tickets", tenant=TENANT)
    tables = me.get("warehouse", "/tables", tenant=TENANT)
    say({"step": "read", "accounts": len(accounts), "tickets": len(tickets), "tables": tables})
    held = me.credential.text
    revenue, before = (
        sum(month["dollars"] for month in me.get("warehouse", f"/{tables[0]}", tenant=TENANT, quarter=quarter))
        for quarter in (QUARTER, BEFORE)
    )
    say({"step": "found", "revenue": revenue, "gained": me.credential.text != held})
    brief = {
        "accounts": f"{len(accounts)} accounts, ${sum(account['dollars'] for account in accounts):,} a year",
        "revenue": f"${revenue:,} in {QUARTER}, {(revenue - before) / before:+.1%} on {BEFORE}",
        "tickets": tickets,
        # A mistake that agents make: they write down all that they know.
        "token": me.credential.text,
    }
    # One after the other, so that both sides report their steps in the same order.
    for role, may_ask in MAY_ASK.items():
        name = f"{role}-agent"
        child = children.start(name, "agents", role)
        to_key = child.ask({**job, "name": name, "brief": brief})["public"]
        credential = me.credential.shared(to=name, to_key=to_key, allow=WRITE, may_ask=may_ask)
        narrower = credential.text != me.credential.text
        say({"step": "delegated", "to": name, "narrower": narrower, "may_ask": may_ask})
        file = Path(job["folder"]) / f"{name}.handed"
        file.write_text(credential.to_hand())
        file.chmod(0o644)
        child.tell({"file": str(file)})
        while (event := child.hear())["step"] != "done":
            say(event)
        yield partial(child.ask, {"do": "probe"})
    thanks = me.write(7, "Thank you", "Questions?")
    say({"step": "thanks", "status": thanks.status_code, "problem": problem(thanks)})
    say({"step": "publishing"})
    # The answer does not matter: the demo looks into the data of the slides service.
    me.publish()
    say({"step": "crediting"})
    _credited("credited", CREDIT, me.credit(CREDIT))
    # The own client would ask Bo for an approval of each of these, too.
    with me.credential.client(me.services, asks=False) as client:
        _credited("inflated", INFLATED, me.credit(INFLATED, client))
        _credited("again", CREDIT, me.credit(CREDIT, client))


def present(me: Worker, job: Mapping[str, Any]) -> Iterator[Worker]:
    """Read the tickets, do what they say, and make the slides."""
    brief = job["brief"]
    tickets = [me.get("support", f"/tickets/{ticket['id']}") for ticket in brief["tickets"]]
    for ticket in tickets:
        if instruction := _OBEYED.search(ticket["text"]):
            say({"step": "ticket", "id": ticket["id"], "text": ticket["text"]})
            _obey(me, job, instruction[1])
    owner = me.get("crm", f"/accounts/{ACCOUNT}")["owner"]
    months = me.get("warehouse", "/revenue", tenant=TENANT, quarter=QUARTER)
    still_open = _open(brief)
    slides = [
        (f"{TENANT}: business review {QUARTER}", f"For {owner}"),
        ("Revenue", brief["revenue"]),
        ("Month by month", ", ".join(f"{month['month']} ${month['dollars']:,}" for month in months)),
        ("Accounts", brief["accounts"]),
        ("Support", f"{len(tickets)} tickets, {len(still_open)} open: {', '.join(still_open)}"),
    ]
    for position, (heading, text) in enumerate(slides, 1):
        _write(me, position, heading, text)
    proofreader = me.helper("proofreader")
    proofread = [(slide["heading"], slide["text"]) for slide in proofreader.get("slides", f"/decks/{DECK}")]
    say({"step": "slides", "written": len(slides), "proofread": proofread == slides})
    yield proofreader


def annotate(me: Worker, job: Mapping[str, Any]) -> Iterator[Worker]:
    """Write the speaker's notes."""
    owner = me.get("crm", f"/accounts/{ACCOUNT}")["owner"]
    _write(me, 6, "Speaker notes", f"Thank {owner}. Then: {', '.join(_open(job['brief']))}.")
    yield from ()


def main(role: str) -> None:
    """Do the work of one role, then answer probes until the parent process ends."""
    job = heard()
    if job is None:
        return
    credential = SIDES[job["side"]].from_env() if role == "orchestrator" else _handed(job)
    me = Worker(job["name"], credential, job["services"])
    with tempfile.TemporaryDirectory() as logs, Children(Path(logs)) as children:
        if role == "orchestrator":
            others = list(orchestrate(me, job, children))
        else:
            work = present if role == "presentation" else annotate
            others = [helper.probe for helper in work(me, job)]
        say({"step": "done"})
        while heard() is not None:
            answer = me.probe()
            for other in others:
                answer.update(other())
            say(answer)


def _handed(job: Mapping[str, Any]) -> Credential:
    """Make a key, say its public half, and take the credential out of the file that is then named."""
    key = AgentKey.generate(job["name"])
    key.save(Path(job["folder"]) / f"{key.name}.key")
    say({"public": key.public})
    named = heard() or sys.exit()
    return SIDES[job["side"]].handed(Path(named["file"]).read_text(), key, job)


def _obey(me: Worker, job: Mapping[str, Any], sink: str) -> None:
    """Try every way to export all records, and send the sink what it got."""
    export = me.client.get(f"{me.services['crm']}/export")
    refusal = problem(export)
    records: list[Any] = [] if refusal else export.json()
    say({"step": "export", "status": export.status_code, "records": len(records), "problem": refusal})
    say({"step": "struggle", **me.credential.struggle(export, job)})
    me.client.post(sink, json={"records": records})
    say({"step": "sent", "records": len(records)})


def _write(me: Worker, position: int, heading: str, text: str) -> None:
    written = me.write(position, heading, text)
    if not written.is_success:
        raise DemoProblem(f"slide {position}: {written.status_code} {written.text}")


def _credited(step: str, dollars: int, answer: httpx.Response) -> None:
    say({"step": step, "dollars": dollars, "status": answer.status_code, "problem": problem(answer)})


def _open(brief: Mapping[str, Any]) -> list[str]:
    return [ticket["subject"] for ticket in brief["tickets"] if ticket["state"] == "open"]


if __name__ == "__main__":
    main(sys.argv[1])
