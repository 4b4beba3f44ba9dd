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
from capx_cli.arguments import Command, with_options

T = TypeVar("T")
Line = str | tuple[str, str]
"""A line for people, with or without its style."""

SHOWN = 50
"""The lines of a page if no limit is given."""

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


class Limit(click.IntRange):
    """How many lines a page has: a number from 1 up, or `all`, which is also 0."""

    def __init__(self) -> None:
        super().__init__(min=0, max=10**9)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number that was typed; 0 means all."""
        return 0 if value == "all" else super().convert(value, param, ctx)


def page_options(unit: str) -> Callable[[Command], Command]:
    """Add --limit, --before and --after; `unit` is what --before and --after name."""
    return lambda command: with_options(
        command,
        click.option("--limit", type=Limit(), metavar="N", help=f"Lines of a page: N, or all; without it, {SHOWN}."),
        click.option("--before", metavar=unit, help="The page before this one: older ones."),
        click.option("--after", metavar=unit, help="The page after this one: newer ones."),
    )


class Page(Generic[T]):
    """A page of what a log has, the newest last: the newest ones, those before a mark, or the first after a mark.

    `most` is how many to read: one more than are shown, which tells whether there are more; None means all. `mark`
    gives what somebody types after --before or --after.
    """

    def __init__(self, limit: int | None, before: str | None, after: str | None, mark: Callable[[T], object]) -> None:
        if before is not None and after is not None:
            raise click.UsageError("give only one of --before and --after")
        self._limit = SHOWN if limit is None else limit
        self._onwards = after is not None
        self._mark = mark
        self.most = self._limit + 1 if self._limit else None

    def shown(self, found: Iterable[T]) -> Iterable[T]:
        """Return what to show of what was read; after the last one, a note says how to get the next page."""
        if self.most is None:
            return found
        return self._forwards(found) if self._onwards else self._backwards(list(found))

    def _forwards(self, found: Iterable[T]) -> Iterator[T]:
        last: T | None = None
        for nth, one in enumerate(found):
            if nth == self._limit and last is not None:
                screen.note(f"there are more: --after {self._mark(last)} shows the next {self._limit}", screen.QUIET)
                return
            yield (last := one)

    def _backwards(self, read: Sequence[T]) -> Iterator[T]:
        page = read[-self._limit :]
        yield from page
        if len(read) > self._limit:
            screen.note(
                f"there are older ones: --before {self._mark(page[0])} shows the next {self._limit}, --limit all all",
                screen.QUIET,
            )


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
