import json

import pytest
from msgspec import Struct

from capx_cli import phrases
from capx_cli.view import View, say_named, show_each, show_one


class Thing(Struct):
    name: str
    opened: int = 1_800_000_000
    groups: tuple[str, ...] = ()
    tenant: str | None = None


THINGS = View[Thing](
    phrases.with_instants,
    {
        "NAME": "name",
        "OPENED": "opened",
        "GROUPS": "groups",
        "TENANT": "tenant",
        "LOUD": lambda thing: thing.name.upper(),
    },
)


def test_the_table_shows_the_facts_that_programs_get(capsys: pytest.CaptureFixture[str]) -> None:
    things = [Thing("one", groups=("a", "b")), Thing("two", tenant="Acme")]
    THINGS.show(things, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts[0] == {"name": "one", "opened": "2027-01-15T08:00:00Z", "groups": ["a", "b"], "tenant": None}
    THINGS.show(things, as_json=False)
    heading, first, second = (line.split("  ") for line in capsys.readouterr().out.splitlines())
    assert [cell.strip() for cell in heading if cell] == ["NAME", "OPENED", "GROUPS", "TENANT", "LOUD"]
    assert [cell.strip() for cell in first if cell] == ["one", facts[0]["opened"], "a, b", "-", "ONE"]
    assert [cell.strip() for cell in second if cell] == ["two", facts[1]["opened"], "-", "Acme", "TWO"]


def test_a_column_can_be_left_out_of_the_table_alone(capsys: pytest.CaptureFixture[str]) -> None:
    THINGS.show([Thing("one")], as_json=False, without="NAME")
    assert "NAME" not in capsys.readouterr().out
    THINGS.show([Thing("one")], as_json=True, without="NAME")
    assert json.loads(capsys.readouterr().out)[0]["name"] == "one"


def test_where_there_is_none_people_read_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    THINGS.show([], as_json=False, nothing="There is none.")
    assert capsys.readouterr().out == "There is none.\n"
    THINGS.show([], as_json=True, nothing="There is none.")
    assert capsys.readouterr().out == "[]\n"


def test_one_answer_is_told_as_facts_or_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_one(True, Thing("one"), "a line")
    assert json.loads(capsys.readouterr().out)["name"] == "one"
    show_one(False, Thing("one"), "a line", ("another", "bold"))
    assert capsys.readouterr().out == "a line\nanother\n"


def test_sentences_stand_below_one_another_behind_names(capsys: pytest.CaptureFixture[str]) -> None:
    say_named([("a", "first"), ("longer", "second")])
    assert capsys.readouterr().out == "  a       first\n  longer  second\n"
    say_named([])
    assert capsys.readouterr().out == ""


def test_styles_and_columns_to_spare_reach_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[object, ...]] = []

    def table(headings: object, rows: object, *rest: object) -> None:
        shown.append((headings, *rest))

    monkeypatch.setattr("capx_cli.screen.table", table)
    view = View[Thing](phrases.with_instants, {"NAME": "name"}, {"NAME": "bold"}, ("NAME",))
    view.show([Thing("one")], as_json=False)
    assert shown == [(("NAME",), {"NAME": "bold"}, ("NAME",))]


def test_where_there_is_one_the_sentence_for_none_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    THINGS.show([Thing("")], as_json=False, nothing="There is none.")
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.startswith("NAME")
    assert row.startswith("- ")
    THINGS.show([], as_json=False)
    assert capsys.readouterr().out == "\n"


def test_a_sentence_has_the_style_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, ...]] = []

    def say(*line: str) -> None:
        said.append(line)

    monkeypatch.setattr("capx_cli.screen.say", say)
    say_named([("a", "first"), ("b", "second")], {"b": "red"})
    assert said == [("  a  first", ""), ("  b  second", "red")]


@pytest.mark.parametrize(("as_json", "out", "err"), [(True, "[]\n", ""), (False, "", "nothing\n")])
def test_a_stream_of_nothing_is_an_empty_array_or_a_note(
    as_json: bool, out: str, err: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_each(list[int](), as_json, facts=str, say=print, nothing="nothing")
    written = capsys.readouterr()
    assert (written.out, written.err) == (out, err)


def test_things_are_shown_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    show_each([1, 2], True, facts=lambda one: {"n": one}, say=print, nothing="nothing")
    assert json.loads(capsys.readouterr().out) == [{"n": 1}, {"n": 2}]
    show_each([1, 2], False, facts=str, say=print, nothing="nothing")
    assert capsys.readouterr() == ("1\n2\n", "")
