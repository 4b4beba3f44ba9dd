"""The only way to the terminal: bare tokens and JSON for programs; lines, trees and tables for people.

Laws: every text for people goes through `clean` here, so no command can forget it. No text is read as markup. Rich is
loaded only to draw: on a terminal, or for trees and tables. NO_COLOR is respected, and so is a narrow terminal. Without
a terminal nothing is wrapped, so that the output can be searched.
"""

import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from capx_cli.escape import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

T = TypeVar("T")

_UNWRAPPED = 10_000
_DIGITS = 5
"""The most digits in the size of a terminal."""
_LONG = 24
"""The characters that a cell keeps if there is little room."""

_unwritten: list[OSError] = []
"""The error with which standard output failed before a note."""

GOOD, BAD, LOUD, QUIET, STRONG = "green", "red", "bold red", "dim", "bold"


def bare(text: str) -> None:
    """Write what a program reads, such as a token: nothing else goes to standard output."""
    sys.stdout.write(f"{text}\n")


def as_json(value: object) -> None:
    """Write JSON to standard output, in ASCII, so that nothing in it can act on a terminal."""
    sys.stdout.write(f"{_json(value, indent=2)}\n")


def as_json_array(values: Iterable[object]) -> None:
    """Write a JSON array to standard output, one element a line, each as it comes."""
    before = "["
    for value in values:
        sys.stdout.write(f"{before}\n{_json(value)}")
        before = ","
    sys.stdout.write("[]\n" if before == "[" else "\n]\n")


def as_json_line(value: object) -> None:
    """Write one JSON value on a line of its own to standard output, for a program that reads line by line."""
    sys.stdout.write(f"{_json(value)}\n")


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=True, default=_record).replace("\x7f", "\\u007f")


def _record(value: object) -> object:
    """Return a record of capx as values that JSON can hold."""
    import msgspec

    return msgspec.to_builtins(value)


def say(text: str = "", style: str = "") -> None:
    """Write a line for people to standard output."""
    _line(sys.stdout, text, style)


def note(text: str, style: str = "") -> None:
    """Write a line for people to standard error, after all that was written to standard output before.

    Both may go into one pipe or file, and standard output is buffered then.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        # The next flush may succeed without the lost bytes, so keep the error until the end.
        _unwritten.append(error)
    warn(text, style)


def demand_written() -> None:
    """Flush standard output; OSError if any of it could not be written, now or before a note."""
    sys.stdout.flush()
    for error in _unwritten:
        raise error


def warn(text: str, style: str = "") -> None:
    """Write a line about a failure to standard error at once, whatever happens to standard output."""
    _line(sys.stderr, text, style)


def lines(text: str) -> None:
    """Write text of several lines for people to standard output."""
    for each in text.split("\n"):
        say(each)


def text(*parts: str | tuple[str, str]) -> "Text":
    """Return texts, each with or without a style, as one drawable text."""
    from rich.text import Text

    whole = Text()
    for part in parts:
        whole.append(*((clean(part),) if isinstance(part, str) else (clean(part[0]), part[1])))
    return whole


def draw(drawable: Any) -> None:
    """Draw a tree or table to standard output."""
    console = _console(sys.stdout)
    if sys.stdout.isatty():
        console.print(drawable)
        return
    with console.capture() as drawn:
        console.print(drawable)
    # Rich fills the last column with blanks, which only get in the way of searching and copying.
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in drawn.get().removesuffix("\n").split("\n")))


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    styles: Mapping[str, str] | None = None,
    spare: Sequence[str] = (),
) -> None:
    """Draw rows under headings; a cell whose text is in `styles` gets that style.

    With `spare`, no cell is broken. If there is little room, those columns are shortened, then left out in that order.
    A line on standard error then names those that are left out: `spare` is for commands that have `--json`.
    """
    from rich.table import Table

    known = styles or {}
    columns = dict(zip(headings, zip(*rows, strict=True), strict=True))
    if spare:
        columns = _fitting(columns, spare, _console(sys.stdout).width)
    drawn = Table(box=None, pad_edge=False, header_style=STRONG)
    for heading in columns:
        drawn.add_column(text(heading), overflow="fold", no_wrap=bool(spare))
    for row in zip(*columns.values(), strict=True):
        drawn.add_row(*(text((cell, known.get(cell, ""))) for cell in row))
    draw(drawn)
    if left_out := [heading for heading in headings if heading not in columns]:
        note(f"too narrow for {', '.join(left_out)}: use a wider terminal, or --json", QUIET)


def _fitting(columns: dict[str, tuple[str, ...]], spare: Sequence[str], room: int) -> dict[str, tuple[str, ...]]:
    """Return the columns that have room; long cells of the spare ones are shortened if there is little."""
    if _width(columns) <= room:
        return columns
    fitting = {
        heading: tuple(_shortened(cell) for cell in cells) if heading in spare else cells
        for heading, cells in columns.items()
    }
    for heading in spare:
        if _width(fitting) > room:
            del fitting[heading]
    return fitting


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    return sum(max(len(heading), *(len(clean(cell)) for cell in cells)) + 2 for heading, cells in columns.items()) - 2


def _shortened(cell: str) -> str:
    shown = clean(cell)
    return shown if len(shown) <= _LONG else f"{shown[: _LONG - 1]}…"


@contextmanager
def busy(doing: str) -> Generator[None]:
    """Show on a terminal that a command works on something."""
    if not sys.stderr.isatty():
        yield
        return
    with _console(sys.stderr).status(text(doing)):
        yield


@contextmanager
def live() -> Generator[Callable[[Any], None]]:
    """Return a function that draws something on the terminal, each time in the same place."""
    from rich.live import Live

    with Live(console=_console(sys.stdout), auto_refresh=False) as drawn:
        yield lambda drawable: drawn.update(drawable, refresh=True)


def awaited(doing: str, begun: Callable[[], Iterable[T]]) -> Iterator[T]:
    """Return the values; show that a command works until the first one comes."""
    with busy(doing):
        values = iter(begun())
        first = list(islice(values, 1))
    return chain(first, values)


def prepare() -> bool:
    """Write escapes for what a terminal's encoding lacks, instead of failing; return whether there is an output."""
    for size in ("COLUMNS", "LINES"):
        # Rich would parse a COLUMNS of any length.
        if len(os.environ.get(size, "")) > _DIGITS:
            del os.environ[size]
    # A closed stream is None in Python. Its file descriptor must not go to the store, so take it here.
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w"))  # noqa: SIM115 - open until the end
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    return "stdout" not in closed


def _line(stream: TextIO, line: str, style: str) -> None:
    if stream.isatty():
        _console(stream).print(text((line, style)))
    else:
        stream.write(f"{clean(line)}\n")


@cache
def _console(stream: TextIO) -> "Console":
    from rich.console import Console

    wide = None if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal() else _UNWRAPPED
    return Console(file=stream, markup=False, emoji=False, highlight=False, width=wide)
