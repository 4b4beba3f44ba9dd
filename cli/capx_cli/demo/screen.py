"""The steps of the demo on the screen: each step of one side beside the same step of the other.

Laws: it shows only what it was given. Text from tickets and tokens is shown as it is: no markup, no escapes. Colour
only repeats what the words say.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from capx_cli.demo.data import CREDIT, INFLATED
from capx_cli.demo.row import refused, served
from capx_cli.demo.side import Probe
from capx_cli.escape import clean
from capx_cli.screen import BAD, GOOD, QUIET

_INTRO = """\
An orchestrator agent makes the quarterly review for Acme from the CRM, a revenue warehouse and support tickets. \
It lets a presentation agent make the slides. An attacker left an instruction in one of the tickets, and the \
presentation agent falls for it.

The same agents run twice, at once, with the same code and the same data. Only what they hold differs."""


class Screen:
    """Prints the steps of the story as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step = 0

    def intro(self) -> None:
        """Introduce the demo."""
        self._console.print(Text("The Acme business review, attacked", "bold"), Text(_INTRO), sep="\n\n")
        self._beside(
            "Held by the agents",
            Text("session-scoped\none service-account token, the same for all agents", "bold"),
            Text("execution-scoped\na key each, and a bundle for this task, narrower with each delegation", "bold"),
            number=False,
        )

    def show(self, step: str, sides: Mapping[str, Any]) -> None:
        """Print one step, the two sides beside each other; a few steps have their own form."""
        if step in _COMPARED:
            heading, said = _COMPARED[step]
            self._beside(heading, said(sides["session"]), said(sides["execution"]))
        else:
            getattr(self, f"_{step}")(sides)

    def _asked(self, sides: Mapping[str, Any]) -> None:
        self._heading(f"{clean(sides['principal'])} wants it, and on the execution side signs that")
        self._indented(Text(f"“{clean(sides['statement'])}”", "italic"))
        self._heading("The policy there makes of it", number=False)
        for rule in sides["rules"]:
            given = ", ".join(offer.entry.pattern for offer in rule.offers)
            limits = "".join(f", {budget.sentence()}" for budget in rule.budgets)
            asked = f", if {' or '.join(rule.approvers)} agree" if rule.approvers else ""
            signed = f", if {' or '.join(rule.approval.by)} approve the very call" if rule.approval else ""
            self._indented(
                Text(f"{rule.how.replace('_', ' ')}: ").append(clean(given + limits + asked + signed), QUIET)
            )

    def _delegated(self, sides: Mapping[str, Any]) -> None:
        left, right = _shared(sides["session"]), _shared(sides["execution"])
        self._beside(f"It shares the work with {clean(sides['session']['to'])}", left, right)

    def _ticket(self, sides: Mapping[str, Any]) -> None:
        # Both sides read the same ticket.
        ticket = sides["session"]
        self._heading(f"presentation-agent reads ticket {ticket['id']}, and in it")
        self._indented(Text(f"“{clean(ticket['text'])}”", "italic"))

    def _publishing(self, sides: Mapping[str, Any]) -> None:
        answers = _answers(sides["execution"])
        self._beside("It publishes the deck. What Bo answers, in another process", Text("nobody is asked"), answers)

    def _credited(self, sides: Mapping[str, Any]) -> None:
        left, right = sides["session"], sides["execution"]
        approved = Text("\n").join([_answers(right), _credit(right)])
        heading = f"It credits ${CREDIT} for the import. Bo has to approve this very call"
        self._beside(heading, Text("nobody is asked\n").append(_credit(left)), approved)

    def _revoked(self, sides: Mapping[str, Probe]) -> None:
        self._heading("presentation-agent is revoked, on the execution side. All agents call all four services")
        for name, probe in sides.items():
            dead = any(probe.refused.values())
            verdict = Text(refused([probe], "revoked") if dead else served([probe]), BAD if dead else GOOD)
            self._indented(Text(f"{clean(name)}: ").append(verdict))

    def _ended(self, sides: Mapping[str, Any]) -> None:
        slowest = max(sides["took"].values())
        still = f"calls: {served(sides['session'].values())}"
        left = Text("nothing ends: a session knows no task\n").append(still, BAD)
        when = f"every service refused within {slowest * 1000:.0f} ms" if slowest < float("inf") else "still served"
        right = Text(f"{when}\n").append(f"calls: {refused(sides['execution'].values(), 'task_completed')}", GOOD)
        self._beside("The task is completed. All four agents call all four services again", left, right)

    def _proven(self, sides: Mapping[str, Any]) -> None:
        report, tampered = sides["report"], sides["tampered"]
        self._heading("Somebody who has only public keys verifies the proof of the task, in another process")
        intent: Mapping[str, Any] = report.get("intent") or {}
        good = report.get("result") == "consistent"
        found = f"{clean(str(report.get('result')))}: {len(report.get('decisions', ()))} decisions, the intent "
        self._indented(Text(f"{found}{clean(str(intent.get('vouched', '')))}", GOOD if good else BAD))
        said = clean(str(tampered.get("why", "nobody noticed")))
        self._indented(Text("a copy that hides the export is refused: ", GOOD).append(said, "default"))

    def _beside(self, heading: str, left: Text, right: Text, *, number: bool = True) -> None:
        self._heading(heading, number=number)
        if self._console.width < 60:
            self._indented(Text("session: ", QUIET).append(left))
            self._indented(Text("execution: ", QUIET).append(right))
            return
        columns = Table.grid(padding=(0, 3), expand=True)
        columns.add_column(ratio=1)
        columns.add_column(ratio=1)
        columns.add_row(left, right)
        self._indented(columns)

    def _heading(self, text: str, *, number: bool = True) -> None:
        self._step += number
        self._console.print(Text(f"\n{self._step}. {text}" if number else f"\n{text}", "cyan"))

    def _indented(self, what: Text | Table) -> None:
        self._console.print(Padding(what, (0, 0, 0, 3)))


def _read(event: Mapping[str, Any]) -> Text:
    return Text(f"{event['accounts']} accounts, {event['tickets']} tickets")


def _found(event: Mapping[str, Any]) -> Text:
    how = "refused, so it asks, is granted it, and has " if event["gained"] else ""
    return Text(f"{how}${event['revenue']:,}")


def _shared(event: Mapping[str, Any]) -> Text:
    if not event["narrower"]:
        return Text("hands over the same token")
    more = f"; it may ask for {', '.join(event['may_ask'])}" if event["may_ask"] else ""
    return Text(f"hands over a narrower bundle, made offline, asking no one, and sealed{more}")


def _exported(event: Mapping[str, Any]) -> Text:
    if not event["problem"]:
        return Text(f"served: {event['records']} records of all tenants", BAD)
    return _refusal(event["problem"], "\n")


def _struggled(event: Mapping[str, Any]) -> Text:
    outcomes = [outcome for _, outcome, *_ in event["tried"]]
    got = sum(outcome in {"granted", "done", "taken", "served"} for outcome in outcomes)
    if got == len(outcomes):
        return Text("has them already, and a stolen token serves too", BAD)
    return Text(f"{got} of {len(outcomes)} ways lead there (--all shows each)", BAD if got else GOOD)


def _sent(event: Mapping[str, Any]) -> Text:
    return Text(f"sends {event['records']} records")


def _made(event: Mapping[str, Any]) -> Text:
    return Text(f"{event['written']} slides, " + ("proofread" if event["proofread"] else "not as they were written"))


def _thanked(event: Mapping[str, Any]) -> Text:
    return _refusal(event["problem"], "; ") if event["problem"] else Text("written")


def _credit(event: Mapping[str, Any]) -> Text:
    return _refusal(event["problem"], "; ") if event["problem"] else Text(f"credited ${event['dollars']}")


def _answers(event: Mapping[str, Any]) -> Text:
    """Return the text of what Bo has answered, and to whom."""

    def said(answer: Mapping[str, Any]) -> Text:
        said, colour = ("yes", GOOD) if answer["yes"] else ("no", BAD)
        return Text(f"to {clean(answer['who'])}, who asks for {clean(answer['what'])}: {said}", colour)

    return Text("\n").join(map(said, event["answered"]))


def _worked(measured: Mapping[str, Any]) -> Text:
    received = measured["received"]["records"]
    text = Text(f"{received} records reached the attacker", BAD if received else GOOD)
    return text.append(f"\nthe review: {measured['deck']}", "default")


def _refusal(problem: Mapping[str, Any], between: str) -> Text:
    """Return the text of a denial: its code, and the sentences of its reasons."""
    reasons = between.join(clean(reason["sentence"]) for reason in problem.get("reasons", ()))
    return Text(f"refused: {clean(problem.get('code', ''))}\n", GOOD).append(reasons, "default")


_COMPARED: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Text]]] = {
    "read": ("The orchestrator reads CRM and tickets", _read),
    "found": ("It finds out that it needs the revenue in the warehouse", _found),
    "export": ("It obeys: it asks the CRM to export all records", _exported),
    "struggle": ("It tries to get the rights that it takes", _struggled),
    "sent": ("It sends what it has to the attacker", _sent),
    "slides": ("It makes the slides; its helper, a proofreader, reads them", _made),
    "thanks": ("The orchestrator writes a seventh slide", _thanked),
    "inflated": (f"It credits ${INFLATED}, with the same approval", _credit),
    "again": (f"It credits the ${CREDIT} a second time", _credit),
    "worked": ("The work is over. Counted at the sink and in the slides service", _worked),
}
"""The heading of each step that both sides take, and the function that describes one side."""
