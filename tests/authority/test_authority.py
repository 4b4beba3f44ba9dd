"""The authority as a whole: what its log holds, what it forgets, and what a second caveat in a value cannot do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from capx.agent.actor import acting
from capx.authority.authority import Authority
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.interop import from_text, to_text
from capx.verify.decision import Denied
from capx_caveats import (
    Allow,
    Call,
    NotUnderstood,
    Root,
    Task,
    Tenant,
    Where,
    action,
    where,
)
from tests.labs.timed_authority import NOW, only

PASSING = """
import sys
from pathlib import Path
from capx.agent.actor import acting
from capx.authority.authority import Authority
authority = Authority.temporary()
authority.open(allow=["a.b"])
folder = Path(authority.store.place).parent
assert folder.stat().st_mode & 0o777 == 0o700
if sys.argv[1] == "close":
    authority.close()
    assert not folder.exists()
print(folder)
"""


@pytest.mark.parametrize("how", ["close", "exit"])
def test_a_temporary_authority_leaves_nothing_behind(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PASSING, how], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stderr == ""
    assert not Path(done.stdout.strip()).exists()


def test_the_example_of_ten_lines_is_refused_where_it_says(lab: Authority) -> None:
    task = lab.open(tenant="Acme", allow=["slides.write", "crm.export"])
    sub = task.bundle.delegate(to="slides-agent", allow=["slides.write"])
    exported: list[str] = []

    @lab.tool("crm.export")
    def export() -> None:
        exported.append("everything")

    with acting(sub), pytest.raises(Denied, match=r"\(.slides-agent.\) allows only slides.write"):
        export()
    assert exported == []
    *_, last = lab.log()
    assert last.kind == "decision"
    assert lab.decision(last.facts()["id"]) == last
    for unknown in ("unknown", "", "\ud800"):
        assert lab.decision(unknown) is None


def test_a_tool_of_this_authority_runs_until_its_task_ends(lab: Authority) -> None:
    task = lab.open(allow=["notes.add"])
    notes: list[str] = []

    @lab.tool("notes.add")
    def add(text: str) -> None:
        notes.append(text)

    with acting(task.bundle):
        add("one")
        lab.complete(task.id)
        with pytest.raises(Denied) as denied:
            add("two")
    assert denied.value.code == "task_completed"
    assert notes == ["one"]


SECOND_CAVEATS = [
    'x"]]]]]],["allow",[["admin.*"]]],["tenant","Evil',
    '"]],["root","R2"]],[["hop","',
    'x"\\',
    "one\ntwo\r\n\x00three",
    "\x00",
    "capx1_AAAA,capx1_BBBB",
    "crm.read@authority",
    "\U0001f600\u2028\u202e\x7f",
    "\\u0022]]",
]


@pytest.mark.parametrize("text", SECOND_CAVEATS, ids=ascii)
def test_a_second_caveat_in_a_value_stays_one_value_when_minted(authority: Authority, text: str) -> None:
    entry, demand = action("crm.read", note=text), where("args.note", text)
    opened = authority.open(allow=[entry], caveats=[demand])
    first, _ = opened.bundle
    (again,) = authority.mint(opened.id, allow=[(entry, "crm")], caveats=[demand])
    told = only(opened.bundle.delegate(to="a", allow=[entry], caveats=[demand]).candidates("crm"))
    narrowed = only(opened.bundle.attenuate(allow := Allow((entry,)), demand).candidates("crm"))
    made = [first, again, told, narrowed, told.attenuate(allow, demand), told.delegate(to="b", allow=[entry])]
    made += [from_text(to_text(told, form)) for form in ("v1", "v2", "v2json")]
    whole, _ = Bundle.parse(opened.bundle.text)
    for capability in (*made, whole):
        assert Capability.parse(capability.text).text == capability.text
        caveats = [caveat for block in capability.caveats for caveat in block]
        assert not any(isinstance(caveat, NotUnderstood | Tenant) for caveat in caveats)
        assert {caveat for caveat in caveats if isinstance(caveat, Allow)} == {allow}
        assert {caveat for caveat in caveats if isinstance(caveat, Where)} == {demand}
        assert sum(isinstance(caveat, Root | Task) for caveat in caveats) == 2
        for args, allowed in (({"note": text}, True), ({"note": f"{text} "}, False)):
            sent = ToolCall("crm.read", args)
            token = capability.present(sent, now=NOW).text
            assert authority.verifier("crm").decide(token, sent, Call("crm.read", args)).allowed == allowed
