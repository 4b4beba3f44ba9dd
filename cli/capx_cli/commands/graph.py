"""`capx graph`: draw who delegated to whom, what was spent, and what is dead."""

import contextlib
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from capx.tokens.wording import label
from capx_cli import completion, inbox, phrases, screen, tail, target
from capx_cli.view import json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.text import Text
    from rich.tree import Tree as Drawn

    from capx.authority.graph.graph import Graph, Node, Tree
    from capx.authority.requests.answers import GivenAnswer
    from capx.store.records import RequestRecord, TaskRecord

_GLANCE = 0.5
"""Seconds between two reads of the log."""
_AGAIN = 10.0
"""Seconds after which it is drawn again without news in the log: time also ends tasks, and counters change."""


@click.command(cls=phrases.TakesIds)
@click.argument("task_id", metavar="[TASK]", required=False, shell_complete=completion.tasks)
@click.option(
    "--format",
    "shape",
    type=click.Choice(["text", "json", "mermaid", "dot"]),
    help="The format: for people, for programs, for Mermaid, for Graphviz.",
)
@json_option
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000),
    metavar="N",
    help="Only the newest N tasks; without it, the newest 100.",
)
@click.option("--watch", is_flag=True, help="Draw it again when something happens, until Ctrl-C.")
@target.person_options
def graph(task_id: str | None, shape: str | None, as_json: bool, limit: int | None, watch: bool) -> None:
    """Draw the execution graph of the newest tasks, or of TASK (`last` is the newest), with the dead parts marked.

    Agents delegate offline, so a node appears when its token is first used. What a task has spent of its budgets is
    below its name. What one resource reports about a task is bounded: at most 1,000 nodes, and 100 if many tasks are
    drawn. What is not shown is counted below the name of the task. An authority elsewhere draws one task of yours.

    Example: capx graph last
    """
    if as_json and shape not in {None, "json"}:
        raise click.UsageError(f"give only one of --json and --format {shape}")
    if task_id is not None and limit is not None:
        raise click.UsageError("--limit counts tasks: leave it out, or leave out TASK")
    shape = "json" if as_json else shape or "text"
    if watch and (shape != "text" or not sys.stdout.isatty()):
        raise click.UsageError("--watch draws text on a terminal: for a program use capx log --follow --json")
    if watch:
        target.demand_operator("--watch follows the log, which")
        with target.authority() as authority:
            wanted = None if task_id is None else phrases.task_id(authority, task_id)
            _watch(authority, wanted, limit, _read(authority, wanted, limit))
        return
    with target.anyone() as opened, screen.busy("reading the log"):
        wanted = None if task_id is None else phrases.task_id(opened, task_id)
        found = _read(opened, wanted, limit)
    _write(found, shape)
    if found.graph.older:
        screen.note(f"{_older(found.graph)}: use --limit N, or capx graph TASK", screen.QUIET)


class _Read(NamedTuple):
    """A graph, with its tasks, and of each node that asked the requests and the answers."""

    graph: "Graph"
    tasks: "Mapping[str, TaskRecord]"
    requests: "Mapping[str, list[RequestRecord]]"
    answers: "Mapping[str, list[GivenAnswer]]"

    def trees(self) -> "list[tuple[Tree, TaskRecord | None]]":
        """Return the trees, each with its task; a task that was opened meanwhile is missing."""
        return [(tree, self.tasks.get(tree.task)) for tree in self.graph.trees]


def _read(authority: "target.Anyone", wanted: str | None, limit: int | None) -> _Read:
    from capx.authority.history import MOST_TREES

    graph = authority.graph(wanted) if limit is None else authority.graph(limit=limit)
    tasks = authority.task_page(limit=limit or MOST_TREES) if wanted is None else [authority.task(wanted)]
    requests = defaultdict[str, list["RequestRecord"]](list)
    answers = defaultdict[str, list["GivenAnswer"]](list)
    for tree in graph.trees:
        for request in authority.requests(task=tree.task):
            requests[request.node].append(request)
        for answer in authority.answers(tree.task):
            answers[answer.node].append(answer)
    return _Read(graph, {task.id: task for task in tasks}, requests, answers)


def _write(found: _Read, shape: str) -> None:
    from capx.authority.graph.drawing import FORMATS

    if shape == "json":
        trees = [_as_json(tree, task, found) for tree, task in found.trees()]
        screen.as_json({"trees": trees, "older": found.graph.older})
    elif shape in FORMATS:
        screen.lines(FORMATS[shape](found.graph))
    elif not found.graph.trees:
        screen.say("There is no task. Open one: capx task open --allow ACTION")
    else:
        for tree, task in found.trees():
            screen.draw(_drawn(tree, task, found))


def _as_json(tree: "Tree", task: "TaskRecord | None", found: _Read) -> dict[str, Any]:
    import msgspec

    said = phrases.with_instants(tree)
    waiting: list[dict[str, Any]] = [said["node"]]
    while waiting:
        node = waiting.pop()
        node["capabilities"] = [phrases.with_instants(held) for held in node["capabilities"]]
        node["requests"] = [inbox.as_json(request) for request in found.requests.get(node["id"], ())]
        node["answers"] = [inbox.answer_as_json(answer) for answer in found.answers.get(node["id"], ())]
        waiting += node["children"]
    return {
        **said,
        "principal": None if task is None else task.principal,
        "intent": None if task is None else task.intent,
        "budgets": [{**msgspec.to_builtins(one), "left": one.left} for one in tree.budgets],
    }


def _older(graph: "Graph") -> str:
    return f"{graph.older} older task{'s are' if graph.older > 1 else ' is'} not shown"


def _watch(authority: "target.Operations", wanted: str | None, limit: int | None, found: _Read) -> None:
    from rich.console import Group

    mark = tail.end_of(authority)
    with contextlib.suppress(KeyboardInterrupt), screen.live() as show:
        while True:
            at = time.strftime("%H:%M:%S", time.localtime())
            older = f"{_older(found.graph)}; " if found.graph.older else ""
            foot = screen.text(
                (f"{older}position {mark.position} of the log, drawn at {at}; Ctrl-C ends", screen.QUIET)
            )
            show(Group(*(_drawn(tree, task, found) for tree, task in found.trees()), foot))
            mark = tail.awaited(authority, mark, glance=_GLANCE, at_most=_AGAIN)
            found = _read(authority, wanted, limit)


def _drawn(tree: "Tree", task: "TaskRecord | None", found: _Read) -> "Drawn":
    from rich.tree import Tree as Drawn

    from capx.authority.graph.drawing import budget_line, omitted_line
    from capx.tokens.wording import label

    title = f"task {tree.task}  tenant {tree.tenant or '-'}  {tree.purpose or ''}".rstrip()
    drawn = Drawn(screen.text((title, screen.STRONG)))
    if task is not None and task.intent is not None:
        drawn.add(screen.text(f"for {label(task.principal or '?')}, on intent {task.intent}"))
    for budget in tree.budgets:
        drawn.add(screen.text((f"spent  {budget_line(budget)}", screen.BAD if budget.left == "0" else "")))
    for omitted in tree.omitted:
        drawn.add(screen.text((omitted_line(omitted), "yellow")))
    _grow(drawn, tree.node, found)
    return drawn


def _grow(above: "Drawn", node: "Node", found: _Read) -> None:
    waiting = [(above, node)]
    while waiting:
        parent, each = waiting.pop()
        branch = parent.add(_node(each))
        for capability in each.capabilities:
            how = ", granted at run time" if capability.asker else ""
            key = f", held with {capability.holder}" if capability.holder else ""
            line = f"{capability.audience}  capability {capability.id}{how}{key}"
            branch.add(_alive(line, capability.dead, screen.QUIET))
        requests = found.requests.get(each.id, ())
        for answer in inbox.of_people(found.answers.get(each.id, ())):
            what = inbox.answer_phrase(answer, requests)
            line = f"request {answer.request} for {answer.action} at {answer.audience} {what}"
            branch.add(screen.text((line, screen.GOOD if answer.yes else screen.BAD)))
        for request in inbox.unanswered(requests):
            line = f"request {request.id} for {request.action} at {request.audience} {inbox.state_phrase(request)}"
            branch.add(screen.text((line, inbox.STYLES[request.state])))
        waiting.extend((branch, child) for child in reversed(each.children))


def _node(node: "Node") -> "Text":
    name = ", also called ".join(map(label, node.labels)) or "root"
    return _alive(f"{name}  {node.id}  {node.allowed} allowed, {node.denied} denied", node.dead, "")


def _alive(line: str, dead: str | None, style: str) -> "Text":
    if dead is None:
        return screen.text((line, style))
    return screen.text((line, "dim strike"), (f"  DEAD: {dead}", screen.BAD))
