"""`capx graph`: who delegated to whom, what of it was spent, and what of it is dead."""

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from capx_cli import completion, following, reached, screen, words

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree as Drawn

    from capx.graph import Graph, Node, Tree
    from capx_cli.reached import Operations

_GLANCE = 0.5
"""Seconds between two looks at the log."""
_AGAIN = 10.0
"""Seconds after which it is drawn again, though nothing was logged: time ends tasks too, and counters move."""


@click.command(context_settings=words.IDS)
@click.argument("task_id", metavar="[TASK]", required=False, shell_complete=completion.tasks)
@click.option(
    "--format",
    "shape",
    type=click.Choice(["text", "json", "mermaid", "dot"]),
    help="Write it so: for people, for programs, for Mermaid, for Graphviz.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--watch", is_flag=True, help="Draw it again whenever something happened, until Ctrl-C.")
@reached.authority_option
def graph(task_id: str | None, shape: str | None, as_json: bool, watch: bool) -> None:
    """Draw the execution graph of all tasks, or of TASK (`last` is the newest), the dead parts marked.

    Agents delegate offline: a node appears when its token is first used. What a task has spent of its budgets stands
    below its name.

    Example: capx graph last
    """
    if as_json and shape not in {None, "json"}:
        raise click.UsageError(f"give either --json or --format {shape}")
    shape = "json" if as_json else shape or "text"
    if watch and (shape != "text" or not sys.stdout.isatty()):
        raise click.UsageError("--watch draws on a terminal, as text: for a program, capx log --follow --json")
    with reached.authority() as authority:
        with screen.busy("reading the log"):
            wanted = None if task_id is None else words.task_id(authority, task_id)
            found = authority.graph(wanted)
        if watch:
            _watch(authority, wanted, found)
        else:
            _write(found, shape)


def _write(found: "Graph", shape: str) -> None:
    from capx.drawing import DRAWN

    if shape == "json":
        screen.as_json({"trees": [_as_json(tree) for tree in found.trees]})
    elif shape in DRAWN:
        screen.lines(DRAWN[shape](found))
    elif not found.trees:
        screen.say("There is no task. Open one: capx task open --allow ACTION")
    else:
        for tree in found.trees:
            screen.draw(_drawn(tree))


def _as_json(tree: "Tree") -> dict[str, Any]:
    import msgspec

    said = words.with_instants(msgspec.to_builtins(tree))
    waiting: list[dict[str, Any]] = [said["node"]]
    while waiting:
        node = waiting.pop()
        node["capabilities"] = [words.with_instants(held) for held in node["capabilities"]]
        waiting += node["children"]
    return {**said, "budgets": [{**msgspec.to_builtins(one), "left": one.left} for one in tree.budgets]}


def _watch(authority: "Operations", wanted: str | None, found: "Graph") -> None:
    from rich.console import Group

    mark = following.end_of(authority)
    with contextlib.suppress(KeyboardInterrupt), screen.live() as show:
        while True:
            at = time.strftime("%H:%M:%S", time.localtime())
            foot = screen.text((f"position {mark.position} of the log, drawn at {at}; Ctrl-C ends", screen.QUIET))
            show(Group(*map(_drawn, found.trees), foot))
            mark = following.awaited(authority, mark, glance=_GLANCE, at_most=_AGAIN)
            found = authority.graph(wanted)


def _drawn(tree: "Tree") -> "Drawn":
    from rich.tree import Tree as Drawn

    from capx.drawing import budget_line

    title = f"task {tree.task}  tenant {tree.tenant or '-'}  {tree.purpose or ''}".rstrip()
    drawn = Drawn(screen.text((title, screen.STRONG)))
    for budget in tree.budgets:
        drawn.add(screen.text((f"spent  {budget_line(budget)}", screen.BAD if budget.left == "0" else "")))
    _grow(drawn, tree.node)
    return drawn


def _grow(above: "Drawn", node: "Node") -> None:
    waiting = [(above, node)]
    while waiting:
        parent, each = waiting.pop()
        branch = parent.add(_node(each))
        for capability in each.capabilities:
            branch.add(_alive(f"{capability.audience}  capability {capability.id}", capability.dead, screen.QUIET))
        waiting.extend((branch, child) for child in reversed(each.children))


def _node(node: "Node") -> "Text":
    name = ", also called ".join(node.labels) or "root"
    return _alive(f"{name}  {node.id}  {node.allowed} allowed, {node.denied} denied", node.dead, "")


def _alive(line: str, dead: str | None, style: str) -> "Text":
    if dead is None:
        return screen.text((line, style))
    return screen.text((line, "dim strike"), (f"  DEAD: {dead}", screen.BAD))
