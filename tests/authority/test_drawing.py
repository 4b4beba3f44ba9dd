"""The graph as Mermaid and DOT, with text in it that would like to be more than a label."""

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from capx.authority.graph.drawing import dot, mermaid
from capx.authority.graph.graph import Budgeted, Graph, Held, Node, Tree

GRAPHVIZ = shutil.which("dot")
HOSTILE = [
    'a"]; evil --> b["',
    'x" shape=none label=<<b>B</b>>',
    "one\ntwo\r\n\x00three",
    '\\N \\" \\l \\',
    "\\",
    "<script>alert(1)</script>",
    "&#8238;&lt;&quot;",
    "#quot;#35;#",
    "`code` **bold** [link](javascript:x)",
    "gnp.\u202eexe\u2066\u200f",
    "\x1b[31mred\x9b0m",
    "%% comment\nend\nsubgraph x",
    ":::dead classDef click n0 href",
    "}] })//- [/",
    "株式会社 Zoë ok",
    "\ud800",
    "$$x$$",
]


def node(label: str, number: int, *children: Node, dead: str | None = None) -> Node:
    id_ = f"node{number}"
    held = Held(f"id{number}", label, id_, (f"id{number}",), dead)
    return Node(id_, "task-1", (label,), (held,), 1, 2, dead, None, children)


def graph_of(label: str) -> Graph:
    below = node(label, 2, dead=label)
    root = Node("root", "task-1", (), (), 0, 0, None, None, (node(label, 1, below), node("plain", 3)))
    budgets = (Budgeted("task-1", label, "1", "3"),)
    return Graph((Tree("task-1", "root-1", label, label, 1, 2, root, budgets),))


# The language of https://graphviz.org/doc/info/lang.html, as far as it is used here.
STRING = r'"(?:[^"\\\n]|\\.)*"'
VALUE = rf"(?:{STRING}|[a-z0-9]+)"
ATTRIBUTES = rf"\[[a-z]+={VALUE}(?:, [a-z]+={VALUE})*\]"
STATEMENT = re.compile(rf"    (?:rankdir=TB|node {ATTRIBUTES}|n\d+ {ATTRIBUTES}|n\d+ -> n\d+(?: {ATTRIBUTES})?);")
LABEL = r'"(?:[\w _.,:/@+=()-]|#\d+;|<br>)*"'
BOX = rf"\(\[{LABEL}\]\)|\[{LABEL}\]|\[/{LABEL}/\]"
MERMAID = re.compile(rf"    (?:n\d+(?:{BOX})(?::::dead)?|n\d+ -\.?-> n\d+|classDef dead [a-z0-9#:, -]+)")


def statements(text: str, begin: str, end: str | None) -> Iterator[str]:
    first, *lines = text.split("\n")
    assert first == begin
    if end is not None:
        assert lines.pop() == end
    yield from lines


@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
def test_a_label_stays_a_label(label: str) -> None:
    drawn, plain = graph_of(label), graph_of("plain")
    for line in statements(dot(drawn), "digraph capx {", "}"):
        assert STATEMENT.fullmatch(line), line
    for line in statements(mermaid(drawn), "flowchart TD", None):
        assert MERMAID.fullmatch(line), line
    for draw in (dot, mermaid):
        # As many boxes and lines as for a label that wants nothing.
        assert len(draw(drawn).split("\n")) == len(draw(plain).split("\n"))
        assert all(line.isprintable() for line in draw(drawn).split("\n"))


@pytest.mark.skipif(GRAPHVIZ is None, reason="Graphviz is not installed; the grammar above is held to in any case")
@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
def test_graphviz_reads_it_as_it_was_meant(label: str) -> None:
    assert GRAPHVIZ is not None
    done = subprocess.run([GRAPHVIZ, "-Tplain"], input=dot(graph_of(label)).encode(), capture_output=True, check=True)
    assert done.stderr == b""
    found = [line.split()[0] for line in done.stdout.decode().splitlines()]
    assert (found.count("node"), found.count("edge")) == (8, 7)


def test_what_is_dead_is_marked_for_whoever_sees_no_colours() -> None:
    drawn = Graph((Tree("t", "r", None, None, 1, 2, node("x", 1, dead="revoked")),))
    assert dot(drawn).count("DEAD: revoked") == mermaid(drawn).count("DEAD: revoked") == 2
    assert mermaid(drawn).count(":::dead") == 2


def test_honest_names_stay_readable() -> None:
    for draw in (dot, mermaid):
        assert "Zoë 株式会社, 2nd" in draw(graph_of("Zoë 株式会社, 2nd"))


def test_the_key_of_a_task_is_in_the_box_of_the_task() -> None:
    (tree,) = graph_of("plain").trees
    keyed = Graph((replace(tree, holder=f"ed25519:{'A' * 43}"),))
    assert f"key ed25519:{'A' * 43}" in mermaid(keyed)
    assert f"key ed25519:{'A' * 43}" in dot(keyed)
    assert "ed25519" not in mermaid(graph_of("plain"))


def test_an_empty_graph_is_one_too() -> None:
    assert dot(Graph(())).startswith("digraph capx {")
    assert mermaid(Graph(())).startswith("flowchart TD")
