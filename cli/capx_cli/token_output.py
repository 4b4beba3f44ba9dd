"""Where a command puts the token that it makes.

    standard output, and nothing else goes there · with --out FILE, a private file: then no token goes there

`--out -` is standard output, as without `--out`.

Law: what would refuse the file is checked before the command asks an authority for anything.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from capx_cli import screen
from capx_cli.arguments import Command, out_option, with_options
from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from capx_cli.view import Line

SECRET, SEALED = "a secret", "sealed, for one reader"
"""What a file holds, in words."""


class Output(NamedTuple):
    """The values of `--out`, `--replace` and `--json`."""

    out: Path | None
    replace: bool
    as_json: bool

    def write(
        self, text: str, facts: Callable[[], Mapping[str, Any]], lines: "Iterable[Line]", kind: str = SECRET
    ) -> None:
        """Write a token to its place, then tell about it: the facts as JSON with `--json`, else the lines."""
        self.place(text, kind)
        self.tell(facts, lines)

    def place(self, text: str, kind: str = SECRET) -> None:
        """Write a token to its place, for a command that must do something before it tells about the token."""
        if self.out is None:
            screen.bare(text)
            return
        from capx.crypto import private_file

        private_file.save(self.out, lambda: f"{text}\n".encode("ascii"), Unusable, over=self.replace)
        if not self.as_json:
            screen.note(f"wrote {self.out}: {kind}", screen.GOOD)

    def tell(self, facts: Callable[[], Mapping[str, Any]], lines: "Iterable[Line]") -> None:
        """Tell about a token that is in its place; what is not told is not computed either."""
        if self.as_json:
            screen.as_json({"wrote": str(self.out), **facts()})
            return
        for line in lines:
            screen.note(*((line,) if isinstance(line, str) else line))


def output_options_for(what: str) -> Callable[[Command], Command]:
    """Add `--out`, `--replace` and `--json` to a command that makes `what`; it gets them as one `output`."""

    def add(command: Command) -> Command:
        @wraps(command)
        def placed(*, out: Path | None, replace: bool, as_json: bool, **others: Any) -> Any:
            if out is None and (replace or as_json):
                raise click.UsageError(f"{'--replace' if replace else '--json'} needs --out FILE")
            if out is not None:
                _demand_writable(out, replace=replace)
            return command(output=Output(out, replace, as_json), **others)

        return with_options(
            placed,
            out_option(f"Write {what} to a new file that only you may read, not to standard output (-)."),
            click.option("--replace", is_flag=True, help="Replace FILE as a whole if it exists."),
            click.option("--json", "as_json", is_flag=True, help=f"With --out: write all but {what} as JSON."),
        )

    return add


def output_options(command: Command) -> Command:
    """Add the options of `output_options_for` to a command that makes a token."""
    return output_options_for("the token")(command)


def demand_free(out: Path) -> None:
    """Raise Unusable if no new file can be made there, for a command that replaces none."""
    if os.path.lexists(out):
        raise Unusable(f"{out} is there already: choose another name")
    _demand_writable(out, replace=False)


def _demand_writable(out: Path, *, replace: bool) -> None:
    there = os.path.lexists(out)
    if there and not replace:
        raise Unusable(f"{out} is there already: choose another name, or give --replace")
    if there and not out.is_file():
        raise Unusable(f"{out} is not a regular file: choose another name")
    if not out.parent.is_dir():
        raise Unusable(f"there is no folder {out.parent}: make it first, or choose another name")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise Unusable(f"cannot write to the folder {out.parent}: choose another one")
