"""What a hop appended, and what can no longer be done."""

import re
from pathlib import Path
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx_caveats import (
    action,
    allow,
    anything,
    glob,
    not_,
    where,
)
from tests.cli.conftest import first
from tests.labs.token_files import Files

WARNING = "NOTHING WAS VERIFIED"


@pytest.fixture
def file(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_diff_shows_what_a_hop_appended_and_what_is_lost(home: Any, file: Files, task: str, slides: str) -> None:
    files = file("parent", task), file("child", slides)
    said = home("diff", *files).out
    assert said.startswith(WARNING)
    lines = said.splitlines()
    assert "slides: PARENT held by task, CHILD by task > slides-agent" in lines
    appended = lines[lines.index('  hop 1 ("slides-agent") appended') + 1 :]
    assert appended[1].strip() == 'allows only slides.write where deck is "deck-42"'
    assert '  narrowed    slides.write, to slides.write where deck is "deck-42"' in lines
    assert "  lost        slides.list" in lines
    assert "  delegation  no further" in lines
    assert any(re.fullmatch(r"  until       \S+, no longer \S+", line) for line in lines)
    assert re.fullmatch(r"crm, capability [\w-]{22}: not passed on", lines[-3])
    view = home("diff", *files, "--json").json
    assert view["verified"] is False
    (one,) = view["audiences"]
    assert (one["descends"], one["hops"]) == (True, ["slides-agent"])
    assert [loss["left"] for loss in one["lost"]] == [['slides.write where deck is "deck-42"'], []]
    assert [each["audience"] for each in view["not_passed_on"]] == ["crm", "authority"]
    assert home("diff", files[0], "-", token=slides).out == said


def test_a_diff_shows_a_demand_that_reads_like_one_before(home: Any, file: Files) -> None:
    with Authority.temporary() as lab:
        held, _ = lab.open(allow=["crm.read"]).bundle
        parent = held.attenuate(where("region", glob("a" * 90 + "*")))
        child = parent.attenuate(where("region", glob("a" * 90 + "b")))
    said = home("diff", file("parent", parent.text), file("child", child.text)).out
    assert "and only where" in said
    assert "it can do all that PARENT can" not in said


def test_a_diff_with_itself_and_of_one_narrowed_to_nothing(home: Any, file: Files, task: str) -> None:
    parent = file("parent", task)
    assert home("diff", parent, parent).out.count("unchanged  it can do all that PARENT can") == 3
    nothing = file("child", home("delegate", "--to", "x", "--allow", "hr.read", token=task).token)
    said = home("diff", parent, nothing).out
    assert said.count("  allows nothing  no action is left") == 2
    held = file("shown", home("present", "--action", "crm.read", token=task).token)
    assert "  this presentation appended" in home("diff", parent, held).out


def test_a_token_made_to_multiply_is_described_as_any_other(home: Any, file: Files) -> None:
    parent = first(home("task", "open", "--allow", "crm.*").token)
    for hop in range(2):
        limits = (action("crm.read", args={"x": not_(100 * hop + n), "*": anything()}) for n in range(30))
        parent = parent.attenuate(allow(*limits))
    once = child = parent.attenuate(where("args.x", not_(999)))
    for block in range(4):
        child = child.attenuate(*(where("args.x", not_(1000 + 30 * block + n)) for n in range(30)))
    files = (file("parent", parent.text), file("child", once.text))
    assert "there are too many entries to compare: see capx can for each" in home("diff", *files).out
    assert home("diff", *files, "--json").json["audiences"][0]["lost"] is None
    assert home("diff", files[0], file("last", child.text)).out.count("  and only where  ") == 121
    assert home("inspect", token=child.text).out.count("  may ") == 900
    assert len(home("can", token=child.text).out.splitlines()) == 900
    assert len(home("can", "--also", token=child.text).out.splitlines()) == 121
    call = ("--action", "crm.read", "--arg", "x:=1119")
    assert "args.x not: is 1119" in home("explain", *call, token=child.text, code=1).out
    home("present", *call, token=child.text)


def test_a_diff_of_strangers_says_why_they_are(home: Any, file: Files, task: str, slides: str) -> None:
    other = home("task", "open", "--allow", "slides.write").token
    sibling = home("delegate", "--to", "y", "--audience", "slides", token=task).token
    alone = home("task", "open", "--allow", "hr.read").token
    parent, child = file("parent", task), file("child", slides)
    for one, two, why in (
        (child, parent, "slides: CHILD does not descend from PARENT: the order is wrong"),
        (parent, file("a", other), "it was minted separately"),
        (file("b", sibling), child, "both were narrowed from the same token, in different ways"),
        (parent, file("c", alone), "PARENT holds nothing for hr"),
    ):
        said = home("diff", one, two, code=3)
        assert why in said.out
        assert home("diff", one, two, "--json", code=3).json["audiences"][-1]["descends"] is False
    for args, code, says in (
        (("-", "-"), 2, "only one token can come from standard input"),
        ((parent,), 2, "Missing argument 'CHILD'"),
        ((parent, "/nowhere"), 3, "cannot read the token file /nowhere"),
        ((task, slides), 2, "shows in `ps`"),
    ):
        said = home("diff", *args, code=code)
        assert says in said.err
        assert said.err.count("\n") == 1
