"""The end of the demo on the screen: the execution graph, some of the log, the rows, and commands to explore them.

Law: it shows only what it was given. Text from tokens is shown without effect on the terminal.
"""

import re
import shlex
import shutil
import sys
from pathlib import Path

from rich.box import ROUNDED
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree as Drawn

from capx.authority.graph.graph import Node
from capx.store.log import Event
from capx_cli.demo.row import Row
from capx_cli.demo.story import Outcome
from capx_cli.escape import clean
from capx_cli.screen import BAD, GOOD, QUIET, STRONG

_SHOWN = ("principal", "purpose", "tenant", "approver", "audience", "action", "id")
_NARROW = 70
_CURE = re.compile("[:;] ")
_LIMIT = (
    "What this does not stop: an agent can still give away what it may read for its own work. Here that is what "
    "belongs to Acme, one call at a time; never other tenants' records, and nothing once the task is over."
)


def show(console: Console, outcome: Outcome, kept: Path | None, *, every_row: bool) -> None:
    """Print the graph, some of the log, and the rows: with `every_row` also those of the execution side as expected."""
    titled(console, "The execution graph, as the authority saw it")
    indented(console, _drawn(outcome.tree.node))
    titled(console, f"The log: {len(outcome.events)} entries, each bound to the one before. Among them")
    for event in outcome.events:
        if _is_shown(event, outcome):
            indented(console, _entry(event))
    sides = {side: [row for row in outcome.rows if row.side == side] for side in ("session", "execution")}
    for side, rows in sides.items():
        shown = [row for row in rows if every_row or side == "session" or not row.ok]
        if shown:
            titled(console, f"{side}-scoped: what was expected, and what happened")
            table(console, shown)
    if not every_row:
        expected = f"{sum(row.ok for row in sides['execution'])} of {len(sides['execution'])} rows as expected"
        console.print(Text(f"\nexecution-scoped: {expected}. To see each: {_capx()} demo --all"))
    console.print(Text(f"\n{_LIMIT}"))
    verdict(console, outcome.rows, outcome.seconds)
    if kept is None:
        console.print(Text(f"Next: {_capx()} demo --keep DIR leaves store, keys and log in DIR, to look around in."))
    else:
        titled(console, "Kept. To look around")
        for command in commands(kept, outcome):
            # Not wrapped: a command with a line break in it cannot be copied.
            console.print(Text(f"   {command}"), soft_wrap=True)


def commands(home: Path, outcome: Outcome) -> list[str]:
    """Return the commands that explore a kept demo."""
    capx = f"CAPX_HOME={shlex.quote(str(home))} {_capx()}"
    shown = (
        "policy explain",
        "intent list",
        "requests list --all",
        f"graph {outcome.task}",
        "find --denied",
        f"why {outcome.denial.get('id')}",
    )
    proof, trust = (shlex.quote(str(Path(home, "demo", name))) for name in ("review.proof", "trust.keys"))
    return [f"{capx} {each}" for each in (*shown, f"proof show {proof} --trust {trust} --html review.html")]


def _capx() -> str:
    """Return what to type for this command: its name if the shell finds it, else its path as it was typed."""
    ran = Path(sys.argv[0])
    return shlex.quote("capx" if shutil.which("capx") or ran.name != "capx" else str(ran))


def titled(console: Console, title: str) -> None:
    """Print the title of a part."""
    console.print(Text(f"\n{title}", "cyan"))


def verdict(console: Console, rows: list[Row], seconds: float) -> None:
    """Print how many rows are as expected."""
    right = sum(row.ok for row in rows)
    said = f"\n{right} of {len(rows)} rows as expected, in {seconds:.1f} s."
    console.print(Text(said, GOOD if right == len(rows) else BAD))


def indented(console: Console, what: Text | Drawn | Table) -> None:
    """Print something with a margin."""
    console.print(Padding(what, (0, 0, 0, 3)))


def _drawn(root: Node) -> Drawn:
    drawn = Drawn(_label(root), guide_style=QUIET)
    waiting = [(drawn, root)]
    while waiting:
        above, node = waiting.pop()
        waiting.extend((above.add(_label(child)), child) for child in node.children)
    return drawn


def _label(node: Node) -> Text:
    name = clean(node.label or "orchestrator, at the task's root")
    text = Text(f"{name}: {node.allowed} calls allowed, {node.denied} denied")
    return text.append(f", dead: {node.dead}", BAD) if node.dead else text.append(", alive", GOOD)


def _is_shown(event: Event, outcome: Outcome) -> bool:
    """Whether to show an event: of the decisions only the export, of the mintings only those that were asked for."""
    facts = event.facts()
    if event.kind == "decision":
        return facts.get("id") == outcome.denial.get("id")
    return event.kind != "capability_minted" or "request" in facts


def _entry(event: Event) -> Text:
    facts = event.facts()
    kind = f"decision: {facts['outcome']}" if event.kind == "decision" else event.kind
    shown = ", ".join(f"{key} {clean(str(facts[key]))}" for key in _SHOWN if key in facts)
    return Text(f"{event.position:>3}  {event.hash.hex()[:6]}…  {kind}  ").append(shown, QUIET)


def table(console: Console, rows: list[Row]) -> None:
    """Print rows as a table, or, on a narrow terminal, one by one."""
    if console.width < _NARROW:
        for row in rows:
            indented(console, Text.assemble(_mark(row), f" {row.what}: expected {row.expected}; happened {_said(row)}"))
        return
    table = Table(expand=True, box=ROUNDED, header_style=STRONG)
    for header, ratio in (("what", 5), ("expected", 5), ("happened", 7)):
        table.add_column(header, ratio=ratio, overflow="fold")
    table.add_column("", min_width=2)
    for above, row in zip([None, *rows], rows, strict=False):
        table.add_row(row.what, row.expected, _said(row, above), _mark(row))
    console.print(table)


def _said(row: Row, above: Row | None = None) -> Text:
    """Return what happened, and the first part of the reason unless the row above has the same reason."""
    why = _why(row)
    same = above is not None and _why(above) == why
    return Text(clean(row.happened)).append(f" ({why})" if why and not same else "", QUIET)


def _why(row: Row) -> str:
    return _CURE.split(clean(row.note))[0]


def _mark(row: Row) -> Text:
    return Text("ok", GOOD) if row.ok else Text("NO", f"bold {BAD}")
