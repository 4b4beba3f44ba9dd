"""Each decision says its status, and their index names each of them once."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
HEAD = re.compile(
    r"# (?P<number>[1-9]\d*)\. (?P<title>.+)\n\n"
    r"Status: (?:accepted|superseded by \[(?P<by>\d+)\]\((?P<file>[\w.-]+)\))\n\n"
)


def head(record: Path) -> re.Match[str]:
    found = HEAD.match(record.read_text("utf-8"))
    assert found is not None, f"{record.name}: a title, then `Status: accepted` or `Status: superseded by [N](FILE)`"
    return found


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem[:4])
def test_a_decision_has_its_number_a_title_and_a_status(record: Path) -> None:
    said = head(record)
    assert record.name.startswith(f"{int(said['number']):04}-")
    if said["by"]:
        (later,) = (each for each in RECORDS if each.name == said["file"])
        assert int(said["by"]) == int(later.name[:4]) > int(said["number"])
        assert f"]({record.name})" in later.read_text("utf-8"), f"{later.name} does not say what it supersedes"


def test_every_decision_is_accepted_or_superseded() -> None:
    # Both words of the index are in use.
    assert {bool(head(record)["by"]) for record in RECORDS} == {True, False}
    numbers = [head(record)["number"] for record in RECORDS]
    assert sorted(set(numbers), key=int) == numbers


def test_the_index_has_each_decision_in_order_with_its_title() -> None:
    listed = re.findall(r"^- \[(.+)\]\((\d.+\.md)\)$", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    assert listed == [(f"{head(each)['number']}. {head(each)['title']}", each.name) for each in RECORDS]
