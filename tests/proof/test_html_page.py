"""The page of a proof runs nothing, loads nothing, and shows what it cannot show as escapes."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

from capx.proof import Report, page
from tests.proof.conftest import Told

ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "section", "h1", "h2", "p", "ul", "li", "dl", "dt"),
    *("dd", "div", "span", "strong", "code"),
}
ATTRIBUTES = {"lang", "charset", "content", "http-equiv", "name", "class"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>*{display:none}",
    "&lt;script&gt;",
    "\u202egnol\u202c\u200b\x1b[31m",
    "]]><!--",
    "javascript:alert(1)",
]


class Seen(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def hostile(report: Report, text: str) -> Report:
    """The report with this text wherever others decide a text."""
    decided = replace(
        report.decisions[1],
        action=text,
        audience=text,
        agents=(text,),
        reasons=(text,),
        args={text: text},
        key=text,
        approvals=tuple([replace(one, signers=(text,)) for one in report.decisions[3].approvals]),
    )
    nodes = tuple([replace(one, label=text, key=None, may=(text,)) for one in report.nodes])
    intent = None if report.intent is None else replace(report.intent, statement=text, parameters={text: [text]})
    answers = tuple([replace(one, approver=text, action=text) for one in report.answers])
    return replace(
        report,
        tenant=text,
        purpose=text,
        decisions=(decided,),
        nodes=nodes,
        intent=intent,
        answers=answers,
        contradictions=(text,),
        words=(text,),
        signed=(text,),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_others_becomes_markup(told: Told, text: str) -> None:
    made = page(hostile(told.report, text))
    seen = Seen(made)
    assert seen.tags <= ALLOWED
    assert seen.attributes <= ATTRIBUTES
    assert not re.search("[\u202a-\u202e\u200b\x1b]", made)
    if text.isprintable():
        assert text in "".join(seen.texts)


def test_the_page_allows_nothing_but_its_own_style(told: Told) -> None:
    made = page(told.report)
    (policy,) = re.findall(r'content="(default-src[^"]*)"', made)
    (style,) = re.findall(r"<style>(.*?)</style>", made, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "style=" not in made
    assert "//" not in style


def test_the_page_tells_signed_from_claimed(told: Told) -> None:
    made = page(told.report)
    assert "claimed" not in "".join(Seen(made).texts).split("Whose intent")[1].split("What people answered")[0]
    bearer = replace(told.report, nodes=tuple([replace(one, key=None) for one in told.report.nodes]))
    assert '<span class="claimed">claimed</span>' in page(bearer)


def test_the_page_says_at_the_top_whether_it_holds(told: Told) -> None:
    assert "Consistent: nothing was altered" in page(told.report)
    assert "Contradicted: parts of this proof" in page(replace(told.report, contradictions=("no",)))


def test_a_deep_graph_is_drawn_whole(told: Told) -> None:
    root = told.report.nodes[0]
    nodes = [root]
    for nth in range(3_000):
        nodes.append(replace(root, id=f"n{nth}", label=f"agent-{nth}", above=nodes[-1].id, may=()))
    made = page(replace(told.report, nodes=tuple(nodes)))
    assert [f"agent-{nth}<" in made for nth in range(3_000)] == [True] * 3_000
    assert made.count("below <code>") == 3_000 - 11
