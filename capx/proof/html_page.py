"""What a proof shows as one HTML page, for people who do not work at a shell.

Laws:

- The page is one file without script, link, image or form. Its policy forbids all of them, and every style but its own.
- Every text goes through ElementTree, which escapes it, and shows what is invisible or turns text around as escapes.
- An agent, an intent or an answer without a signature is marked as claimed.
"""

from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final
from xml.etree import ElementTree as ET

import msgspec

from capx.proof.report import Answered, CallApproved, Decided, ProvenNode, Report
from capx.tokens.lineage import AUTHORITY
from capx.tokens.wording import label
from capx_caveats import shown_instant
from capx_caveats.shown_values import printable

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8885;--good:#1a7f37;--bad:#c11c28}
@media (prefers-color-scheme:dark){:root{--good:#4cc26a;--bad:#ff7b72}}
body{font:16px/1.5 system-ui,sans-serif;max-width:58rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.5rem 0}
h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}
p,ul,ol,dl{margin:.4rem 0}
ul,ol{padding-left:1.4rem}
li{margin:.25rem 0}
dl{display:grid;grid-template-columns:fit-content(9rem) 1fr;gap:.15rem .9rem}
dt{opacity:.7}
dd{margin:0}
.plain{list-style:none;padding-left:0}
.card{border:1px solid var(--line);border-left-width:4px;border-radius:4px;padding:.4rem .7rem;margin:.6rem 0}
.good{border-left-color:var(--good)}
.bad{border-left-color:var(--bad)}
.banner{padding:.6rem .9rem;border:2px solid;border-radius:4px;font-weight:600}
.consistent{color:var(--good)}
.incomplete{color:#9a6700}
.contradicted{color:var(--bad)}
.claimed{border:1px dashed;border-radius:3px;padding:0 .3rem;font-size:.8em;opacity:.75}
.tree ul{border-left:2px solid var(--line);padding-left:.8rem;margin-left:.3rem}
.tree,.tree ul{list-style:none}
.tree .may{list-style:disc;border:0;padding-left:1.2rem}
.may li{margin:0}
.tree{padding-left:0}
.small,code{font-size:.85em}
code{font-family:ui-monospace,monospace}
@media (max-width:30rem){dl{grid-template-columns:1fr;gap:0}dt{margin-top:.3rem;font-size:.85em}}
@media print{.card{break-inside:avoid}}
"""
_POLICY: Final = (
    "default-src 'none'; style-src 'sha256-"
    + b64encode(sha256(_STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'"
)
_BANNERS: Final = {
    "contradicted": "Contradicted: parts of this proof cannot be true together",
    "incomplete": "Incomplete: nothing contradicts, but the proof has gaps, where something could hide",
    "consistent": "Consistent: nothing was altered since it was signed, and nothing contradicts",
}
_FIRST: Final = "first agent"
_SIGNED: Final = "the agent's key has signed this action with these arguments"
_PRESENTED: Final = "the agent's key has signed a call here; that it was this one is the word of the service"
_OUTCOMES: Final = {
    (True, False): "ALLOWED",
    (False, False): "DENIED",
    (True, True): "MAY ASK THE AUTHORITY:",
    (False, True): "MAY NOT ASK THE AUTHORITY:",
}
"""The heading of a decision, by whether it allowed, and whether the authority decided about a call to itself."""
_DEEPEST: Final = 12
"""The levels of the graph that are drawn as such."""
_NO_POLICY: Final = "no policy: an operator opened the task by hand"


def page(report: Report) -> str:
    """Return the page: one HTML document."""
    html = _element("html", _head(), _element("body", _element("main", *_main(report))), lang="en")
    return f"<!DOCTYPE html>\n{ET.tostring(html, encoding='unicode', method='html')}\n"


def _head() -> ET.Element:
    policy = _element("meta", content=_POLICY)
    policy.set("http-equiv", "Content-Security-Policy")
    style = ET.Element("style")
    # ElementTree writes the text of a style as it stands. It is a constant.
    style.text = _STYLE
    return _element(
        "head",
        _element("meta", charset="utf-8"),
        policy,
        _element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        _element("title", "Execution proof"),
        style,
    )


def _main(report: Report) -> Iterator[ET.Element]:
    yield _element("h1", "Execution proof")
    yield _element("p", _BANNERS[report.result], class_=f"banner {report.result}")
    yield from _section("What does not fit", _list(report.contradictions), shown=bool(report.contradictions))
    yield from _section("Receipts", _list(report.receipts), shown=bool(report.receipts))
    yield from _section("Gaps: something could hide here", _list(report.gaps), shown=bool(report.gaps))
    yield from _section("What would show more", _list(report.would_show_more), shown=bool(report.would_show_more))
    yield from _section("The task", _facts(_task(report)))
    yield from _section("Whose intent", _intent(report))
    yield from _section("Who acted", _graph(report.nodes))
    yield from _section("What was decided", _cards(map(_decision, report.decisions)))
    yield from _section("What was asked for and refused at once", _list(_asks(report)), shown=bool(report.refused))
    yield from _section("What people answered", _cards(map(_answer, report.answers)), shown=bool(report.answers))
    yield from _section("When authority ended", _list(_ended(report)))
    yield from _section("What is signed, and by whom", _list(report.signed))
    yield from _section("Whose word the rest is", _list(report.words))
    yield from _section("What this proof does not show", _list(report.not_shown))
    yield from _section("The logs", _cards(map(_facts, _logs(report))))


def _section(title: str, *parts: ET.Element, shown: bool = True) -> Iterator[ET.Element]:
    if shown:
        yield _element("section", _element("h2", title), *parts)


def _task(report: Report) -> Iterator[tuple[str, "ET.Element | str"]]:
    yield "task", _code(report.task)
    yield "tenant", report.tenant or "none"
    yield "purpose", report.purpose or "none was given"
    yield "opened", shown_instant(report.opened)
    yield "root", _code(report.root)
    if report.holder is not None:
        yield "first agent", _code(report.holder)
    yield "policy", _NO_POLICY if report.policy is None else _code(report.policy)


def _intent(report: Report) -> ET.Element:
    intent = report.intent
    if intent is None:
        of_hand = "Nobody's: an operator opened the task by hand."
        by_digest = f"Not in this proof; the log has the digest {report.intent_digest}."
        return _element("p", of_hand if report.intent_digest is None else by_digest)
    facts: list[tuple[str, ET.Element | str]] = [("principal", intent.principal), ("statement", intent.statement)]
    if intent.parameters:
        facts.append(("parameters", _code(_json(intent.parameters))))
    facts += [("tenant", intent.tenant or "none"), ("purpose", intent.purpose)]
    if intent.agent_key is not None:
        facts.append(("for the agent", _code(intent.agent_key)))
    facts.append(("good until", shown_instant(intent.not_after)))
    facts.append(("vouched for", intent.vouched if intent.is_signed else _marked(intent.vouched)))
    return _facts(facts)


def _graph(nodes: Sequence[ProvenNode]) -> ET.Element:
    """The execution graph as lists in lists.

    Agents decide how deep it is. What is deeper than a page can show stands beside the node above it, which it names.
    """
    below: defaultdict[str | None, list[ProvenNode]] = defaultdict(list)
    for node in nodes:
        below[node.above].append(node)
    root = _element("ul", class_="tree")
    waiting = [(root, node, 1) for node in reversed(below[None])]
    while waiting:
        above, node, depth = waiting.pop()
        item = _element("li", *_node(node, is_deep=depth > _DEEPEST))
        above.append(item)
        if children := below[node.id]:
            inner = above
            if depth < _DEEPEST:
                inner = _element("ul")
                item.append(inner)
            waiting += [(inner, child, depth + 1) for child in reversed(children)]
    return root


def _node(node: ProvenNode, *, is_deep: bool) -> Iterator["ET.Element | str"]:
    name = _element("strong", _FIRST if node.above is None else label(node.label))
    yield name if node.key is not None else _element("span", name, " ", _claimed())
    yield f" {node.allowed} allowed, {node.denied} denied"
    yield _element("div", "node ", _code(node.id), class_="small")
    if is_deep and node.above is not None:
        yield _element("div", "below ", _code(node.above), class_="small")
    if node.key is not None:
        yield _element("div", "key ", _code(node.key), class_="small")
    if node.may:
        yield _element("div", "could do", class_="small")
        may = _list(node.may)
        may.set("class", "small may")
        yield may


def _decision(decided: Decided) -> ET.Element:
    allowed = decided.outcome == "allowed"
    facts: list[tuple[str, ET.Element | str]] = [
        ("at", f"{decided.audience}, {shown_instant(decided.at)}, event {decided.position} of its log"),
        ("who", _path(decided.agents) if decided.agent_signed else _marked(_unproven(decided))),
    ]
    if decided.agent_signed:
        facts.append(("signed", _SIGNED if decided.compared else _PRESENTED))
    if decided.args is not None:
        filled = f", of which the service filled in {', '.join(decided.filled)}" if decided.filled else ""
        facts.append(("arguments", _element("span", _code(_json(decided.args)), filled)))
    elif decided.shown_args:
        facts.append(("arguments, as recorded", _code(_json(decided.shown_args))))
    facts += [("because", reason) for reason in decided.reasons]
    facts += [("approved", _approved(one)) for one in decided.approvals]
    facts.append(("decision", _code(decided.id)))
    what = decided.action or "a call that was refused before anybody looked at its action"
    stated = ", stated to a third party" if decided.stated else ""
    title = f"{_OUTCOMES[allowed, decided.audience == AUTHORITY]} {what}{stated}"
    return _element("div", _element("strong", title), _facts(facts), class_=f"card {'good' if allowed else 'bad'}")


def _path(agents: Sequence[str]) -> str:
    return " > ".join((_FIRST, *map(label, agents)))


def _unproven(decided: Decided) -> str:
    return _path(decided.agents) if decided.node is not None else "a caller who has proven nothing"


def _approved(approval: CallApproved) -> str:
    calls = "any number of calls" if approval.calls is None else f"{approval.calls} calls at most"
    said = f"{', '.join(approval.signers)}: {'; '.join(approval.of)}; {calls}, until {shown_instant(approval.ends)}"
    return f"not by this approval, because it {approval.faults[0]} ({said})" if approval.faults else f"by {said}"


def _asks(report: Report) -> Iterator[str]:
    for ask in report.refused:
        what = f"{ask.action} at {ask.audience}, by {_path(ask.agents)}: refused, {', '.join(ask.reasons)}"
        yield f"{shown_instant(ask.at)}, event {ask.position}: {what}"


def _answer(answer: Answered) -> ET.Element:
    who = f"{'yes' if answer.yes else 'no'}, by {answer.approver}, {shown_instant(answer.at)}"
    facts: list[tuple[str, ET.Element | str]] = [("answer", who if answer.is_signed else _marked(who))]
    if answer.action is not None:
        facts += [("to", answer.about), ("asked by", _path(answer.agents))]
    if answer.signed_at is not None:
        facts.append(("signed at", shown_instant(answer.signed_at)))
    facts.append(("request", _code(answer.request)))
    return _element("div", _facts(facts), class_=f"card {'good' if answer.yes else 'bad'}")


def _ended(report: Report) -> Iterator[str]:
    for ended in report.ended:
        where = f", event {ended.position}" if ended.position else ""
        yield f"{shown_instant(ended.at)}{where}: {ended.what}"


def _logs(report: Report) -> Iterator[Iterable[tuple[str, "ET.Element | str"]]]:
    for source in report.sources:
        witnesses = [f"{one.name}, {shown_instant(one.at)}" for one in source.witnesses]
        yield [
            ("log", _code(source.origin)),
            ("of", "the authority" if source.is_authority else "a resource"),
            ("events", f"{len(source.events)} about this task, of {source.size} in all"),
            *[("signed by", _code(key)) for key in source.signed_by],
            ("cosigned by", "; ".join(witnesses) or "no witness"),
        ]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _marked(text: str) -> ET.Element:
    return _element("span", text, " ", _claimed())


def _claimed() -> ET.Element:
    return _element("span", "claimed", class_="claimed")


def _code(text: str) -> ET.Element:
    return _element("code", text)


def _list(lines: Iterable[str]) -> ET.Element:
    return _element("ul", *[_element("li", line) for line in lines])


def _cards(cards: Iterable[ET.Element]) -> ET.Element:
    return _element("div", *cards)


def _facts(facts: Iterable[tuple[str, "ET.Element | str"]]) -> ET.Element:
    return _element("dl", *[each for name, said in facts for each in (_element("dt", name), _element("dd", said))])


def _element(name: str, /, *parts: "ET.Element | str", class_: str | None = None, **attributes: str) -> ET.Element:
    """Return an element; every text in it is made visible, and written with escapes."""
    made = ET.Element(name, {**({} if class_ is None else {"class": class_}), **attributes})
    last: ET.Element | None = None
    for part in parts:
        if isinstance(part, str):
            text = printable(part)
            if last is None:
                made.text = (made.text or "") + text
            else:
                last.tail = (last.tail or "") + text
        else:
            made.append(part)
            last = part
    return made
