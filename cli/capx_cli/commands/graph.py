"""`capx graph`: who delegated to whom, and what of it is dead."""

from typing import TYPE_CHECKING

import click

from capx_cli import completion, screen, words

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree as Drawn

    from capx.graph import Node, Tree


@click.command(context_settings=words.IDS)
@click.argument("task_id", metavar="[TASK]", required=False, shell_complete=completion.tasks)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def graph(task_id: str | None, as_json: bool) -> None:
    """Draw the execution graph of all tasks, or of TASK (`last` is the newest), the dead parts marked.

    Agents delegate offline: a node appears when its token is first used.

    Example: capx graph last
    """
    import msgspec

    from capx.authority import Authority

    with screen.busy("reading the log"), Authority.open_home() as authority:
        wanted = None if task_id is None else words.task_id(authority, task_id)
        found = authority.graph(wanted)
    if as_json:
        screen.as_json({"trees": [words.with_instants(msgspec.to_builtins(tree)) for tree in found.trees]})
        return
    if not found.trees:
        screen.say("There is no task. Open one: capx task open --allow ACTION")
    for tree in found.trees:
        screen.draw(_drawn(tree))


def _drawn(tree: "Tree") -> "Drawn":
    from rich.tree import Tree as Drawn

    title = f"task {tree.task}  tenant {tree.tenant or '-'}  {tree.purpose or ''}".rstrip()
    drawn = Drawn(screen.text((title, screen.STRONG)))
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
