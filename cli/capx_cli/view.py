"""Show records: as lines or a table to people, as JSON to programs. One view of a record defines both.

    TASKS = View(phrases.with_instants, {"TASK": "id", "STATE": "state", "OPENED": "opened"})
    TASKS.show(tasks, as_json, nothing="There is no task.")

Law: a table shows the facts that programs get, by their names. A column with other words for people is a function.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import click

from capx_cli import screen

T = TypeVar("T")
Line = str | tuple[str, str]
"""A line for people, with or without its style."""

_MOST = 500
"""The most lines of a log for people who gave no limit."""

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


@dataclass(frozen=True)
class View(Generic[T]):
    """How to show records of one kind.

    `facts` makes JSON values of a record. `columns` gives each heading a fact by its name, or a function of the record.
    `styles` and `spare` are those of `screen.table`.
    """

    facts: Callable[[T], Mapping[str, Any]]
    columns: Mapping[str, str | Callable[[T], str | None]]
    styles: Mapping[str, str] = field(default_factory=dict[str, str])
    spare: Sequence[str] = ()

    def show(self, records: Sequence[T], as_json: bool, *, nothing: str = "", without: str | None = None) -> None:
        """Show records: an array, or rows without the column `without`; people read `nothing` if there are none."""
        if as_json:
            screen.as_json([self.facts(record) for record in records])
        elif not records:
            screen.say(nothing)
        else:
            shown = {heading: cell for heading, cell in self.columns.items() if heading != without}
            rows = (self._row(record, shown.values()) for record in records)
            screen.table(tuple(shown), rows, self.styles, self.spare)

    def _row(self, record: T, columns: "Iterable[str | Callable[[T], str | None]]") -> list[str]:
        facts = self.facts(record)
        return [_cell(facts[column] if isinstance(column, str) else column(record)) for column in columns]


def show_one(as_json: bool, facts: object, *lines: Line) -> None:
    """Show one thing: its facts as JSON, or its lines."""
    if as_json:
        screen.as_json(facts)
        return
    for line in lines:
        screen.say(*((line,) if isinstance(line, str) else line))


def show_each(
    found: Iterable[T], as_json: bool, *, facts: Callable[[T], object], say: Callable[[T], None], nothing: str
) -> None:
    """Show things as they come: as a JSON array, or with `say`; people read `nothing` if there are none."""
    if as_json:
        screen.as_json_array(map(facts, found))
    elif not sum(1 for _ in map(say, found)):
        screen.note(nothing)


class Newest:
    """The newest of what a log has: as many as were asked for. Else programs get all, and people 500 and a note.

    `limit` is how many to read; None means all.
    """

    def __init__(self, asked: int | None, *, as_json: bool) -> None:
        self._is_cut = asked is None and not as_json
        self.limit = _MOST + 1 if self._is_cut else asked

    def shown(self, found: Iterable[T]) -> Iterable[T]:
        """Return what to show of what was read; after the last one, people read whether there is more."""
        return self._cut(list(found)) if self._is_cut else found

    def _cut(self, read: Sequence[T]) -> Iterator[T]:
        yield from read[-_MOST:]
        if len(read) > _MOST:
            screen.note(f"only the newest {_MOST} are shown: --limit N shows more, and --json all", screen.QUIET)


def say_named(rows: Iterable[tuple[str, str]], styles: Mapping[str, str] | None = None) -> None:
    """Show sentences, each after its name, one below the other; `styles` is by name."""
    rows, styles = list(rows), styles or {}
    width = max((len(name) for name, _ in rows), default=0)
    for name, sentence in rows:
        screen.say(f"  {name:{width}}  {sentence}", styles.get(name, ""))


def _cell(fact: str | int | Sequence[str] | None) -> str:
    """Return the text of a fact in a table: names separated by commas, a dash for none."""
    if fact is None or isinstance(fact, str | int):
        return "-" if fact is None else str(fact) or "-"
    return ", ".join(fact) or "-"
