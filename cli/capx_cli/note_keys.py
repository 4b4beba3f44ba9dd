"""The option that names public keys of logs and witnesses: NAME+ID+KEY."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from capx_cli.arguments import Command

if TYPE_CHECKING:
    from capx.ledger.note import NoteKey


def option(name: str, help_: str, *, required: bool = False) -> Callable[[Command], Command]:
    """Return an option with a public key, which may be repeated; an empty text is no key."""
    return click.option(name, metavar="KEY", multiple=True, required=required, help=help_)


def parsed(texts: Iterable[str]) -> "list[NoteKey]":
    """Return the keys; one text may have several, one a line. KeyProblem for anything else."""
    from capx.ledger.note import NoteKey

    return [NoteKey.parse(line) for text in texts for line in text.split("\n") if line]
