"""The execution graph as text that other programs draw: Mermaid, and the DOT language of Graphviz.

Laws:

- The ids in a drawing are numbers that this module counts.
- Text that others chose is only inside a quoted label. There it cannot end the label or the line, cannot be markup,
  and cannot hide or reverse other text.
- What is dead has its own style, and also the word DEAD, for readers who do not see colours.
"""

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from capx.authority.graph.graph import Budgeted, Graph, Node, Omitted, Tree
from capx.tokens.wording import label
from capx_caveats import shown_instant
from capx_caveats.shown_values import printable

_TASK, _NODE, _TOKEN = "task", "node", "token"
_PLAIN = frozenset(" _-.,:/@+=()")
"""Characters that a Mermaid label holds as they are, besides letters and digits."""


class _Box(Struct, frozen=True):
    """One box of a drawing: its kind, its lines, and the reason of its death, if it is dead."""

    kind: str
    lines: tuple[str, ...]
    dead: str | None


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart."""
    lines = ["flowchart TD"]
    for number, (box, above) in enumerate(_boxes(graph)):
        label = "<br>".join(map(_mermaid, box.lines))
        begin, end = {_TASK: ('(["', '"])'), _NODE: ('["', '"]'), _TOKEN: ('[/"', '"/]')}[box.kind]
        lines.append(f"    n{number}{begin}{label}{end}{':::dead' if box.dead else ''}")
        if above is not None:
            lines.append(f"    n{above} {'-.->' if box.kind == _TOKEN else '-->'} n{number}")
    lines.append("    classDef dead stroke:#c00,color:#c00,stroke-dasharray:4 3")
    return "\n".join(lines)


def dot(graph: Graph) -> str:
    """The graph in the DOT language."""
    lines = ["digraph capx {", "    rankdir=TB;", '    node [fontname="sans-serif"];']
    for number, (box, above) in enumerate(_boxes(graph)):
        # \n ends a line of a DOT label. It is the only escape here: _dot has escaped every backslash of the text.
        label = "\\n".join(map(_dot, box.lines))
        shape = {_TASK: "oval", _NODE: "box", _TOKEN: "note"}[box.kind]
        dead = ', color="#cc0000", fontcolor="#cc0000", style="dashed"' if box.dead else ""
        lines.append(f'    n{number} [shape={shape}, label="{label}"{dead}];')
        if above is not None:
            lines.append(f"    n{above} -> n{number}{' [style=dashed, arrowhead=none]' if box.kind == _TOKEN else ''};")
    lines.append("}")
    return "\n".join(lines)


FORMATS: dict[str, Callable[[Graph], str]] = {"mermaid": mermaid, "dot": dot}
"""The formats, by name."""


def _boxes(graph: Graph) -> Iterator[tuple[_Box, int | None]]:
    """Each box, with the number of the box above it. Boxes are numbered in the order in which they come."""
    number = 0
    for tree in graph.trees:
        yield _task(tree), None
        waiting = [(tree.node, number)]
        number += 1
        while waiting:
            node, above = waiting.pop()
            own = number
            yield _node(node), above
            number += 1
            for held in node.capabilities:
                about = [f"{held.audience} capability", held.id, *([f"key {held.holder}"] if held.holder else [])]
                yield _Box(_TOKEN, _lines(about, held.dead), held.dead), own
                number += 1
            waiting.extend((child, own) for child in reversed(node.children))


def _task(tree: Tree) -> _Box:
    about = [f"task {tree.task}", f"tenant {tree.tenant or '-'}", *([tree.purpose] if tree.purpose else [])]
    about += [] if tree.holder is None else [f"key {tree.holder}"]
    about.append(f"until {shown_instant(tree.expires)}")
    about += map(budget_line, tree.budgets)
    return _Box(_TASK, tuple(about + list(map(omitted_line, tree.omitted))), None)


def _node(node: Node) -> _Box:
    name = ", also called ".join(map(label, node.labels)) or "root"
    return _Box(_NODE, _lines([name, node.id, f"{node.allowed} allowed, {node.denied} denied"], node.dead), node.dead)


def budget_line(budget: Budgeted) -> str:
    """One line of text for a budget: spent, limit and rest."""
    return f"{budget.unit}: {budget.spent} of {budget.limit} spent, {budget.left} left"


def omitted_line(omitted: Omitted) -> str:
    """One line of text for what an audience reported, and is not shown."""
    counts = {
        "calls of other nodes": omitted.calls,
        "other labels": omitted.labels,
        "other capabilities": omitted.capabilities,
        "other budgets": omitted.budgets,
    }
    said = ", ".join(f"{what} ({count})" for what, count in counts.items() if count)
    return f"not shown, too many of {omitted.audience}: {said}"


def _lines(lines: Iterable[str], dead: str | None) -> tuple[str, ...]:
    return (*lines, *(() if dead is None else (f"DEAD: {dead}",)))


def _mermaid(text: str) -> str:
    """One line of a Mermaid label: each character is a letter, a digit, known to be harmless, or a character code."""
    return "".join(one if one.isalnum() or one in _PLAIN else f"#{ord(one)};" for one in printable(text))


def _dot(text: str) -> str:
    """One line of a DOT label: the text cannot end the label, and holds no DOT escape and no HTML entity."""
    return printable(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
