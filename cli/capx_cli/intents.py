"""Read and show intents.

    FILE    a document, or one that is signed; - is standard input

Laws: a person sees all of what they sign, nothing shortened. A person's words and wrapped lines are indented, so that
no text in an intent can imitate the text of capx around it. Parameters are shown by name and as JSON. A name is in
quotes if a reader could take it for another name, or for none.
"""

import json
import os
import re
import sys
import time
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from capx_cli import phrases, screen
from capx_cli.escape import clean
from capx_cli.failure import DENIED, contents
from capx_cli.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capx.errors import InvalidRequest
    from capx.intents.intent import Intent, SignedIntent
    from capx.store.records import IntentRecord

STDIN = "-"
_MOST = 64 * 1024
"""The most bytes that are read of a file: more than any intent has."""
_MARGIN = "  | "
_PLAIN: Final = re.compile(r"\w[\w.@+-]*(?: [\w.@+-]+)*", re.ASCII)
"""A name that needs no quotes: no space at its ends, and no two spaces in a row."""


def read(file: str) -> "Intent | SignedIntent":
    """Return the intent in a file, signed or not."""
    import msgspec

    from capx.errors import InvalidRequest
    from capx.intents.intent import SignedIntent, parse_intent

    data = _bytes(file)
    try:
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        members = {}
    try:
        return SignedIntent.parse(data) if members.keys() & {"intent", "signature"} else parse_intent(data)
    except InvalidRequest as error:
        if file == STDIN:
            raise
        raise InvalidRequest(f"{file}: {error}") from None


def read_signed(file: str, cure: str) -> "SignedIntent":
    """Return the signed intent in a file; for one that is not signed, UsageError says what to do."""
    from capx.intents.intent import SignedIntent

    intent = read(file)
    if not isinstance(intent, SignedIntent):
        raise click.UsageError(f"the intent in {file} is not signed: {cure}")
    return intent


def document(intent: "Intent | SignedIntent") -> "Intent":
    """Return the intent itself, without its signature."""
    from capx.intents.intent import SignedIntent

    return intent.intent if isinstance(intent, SignedIntent) else intent


def refused(why: "InvalidRequest") -> int:
    """Say why an intent gets nothing; return the exit code for denied."""
    screen.note(f"capx: {why}", screen.BAD)
    return DENIED


def tell(intent: "Intent", *, on_stderr: bool = False) -> None:
    """Show in plain words all that somebody asks for."""
    for line in _lines(intent):
        say(line, on_stderr=on_stderr)


def say(line: str, style: str = "", *, on_stderr: bool = False) -> None:
    """Show a line that others wrote; if the terminal breaks it, the rest gets a margin."""
    stream, write = (sys.stderr, screen.note) if on_stderr else (sys.stdout, screen.say)
    room = _columns(stream) - len(_MARGIN) if stream.isatty() else None
    for piece in _pieces(clean(line), room):
        write(piece, style)


def named(name: str) -> str:
    """Return a name that others chose, in quotes if a reader could take it for another name, or for none."""
    from capx_caveats import shown
    from capx_caveats.shown_values import whole

    if _PLAIN.fullmatch(name):
        return name
    with whole():
        return shown(name)


def as_json(intent: "Intent") -> dict[str, Any]:
    """Return an intent and its digest as JSON values."""
    return {"digest": intent.digest, "document": intent.document()}


def _document(record: "IntentRecord") -> dict[str, Any]:
    document: dict[str, Any] = {} if record.document is None else json.loads(record.document)
    return document


def _facts(record: "IntentRecord") -> dict[str, Any]:
    said = _document(record)
    facts = {
        "digest": record.digest,
        "state": _state(record, said),
        "principal": record.principal,
        "tasks": record.opened,
        "withdrawn": record.withdrawn,
        "proof": record.proof,
        "document": said or None,
    }
    return phrases.with_instants(facts)


def _state(record: "IntentRecord", said: "dict[str, Any]") -> str:
    if record.withdrawn is not None:
        return "withdrawn"
    if record.opened >= said["max_tasks"]:
        return "used up"
    return "ended" if said["not_after"] <= time.time() else "open"


def _opened(record: "IntentRecord") -> str:
    said = _document(record)
    return f"{record.opened} of {said['max_tasks']}" if said else str(record.opened)


RECORDS = View(
    _facts,
    {
        "DIGEST": "digest",
        "STATE": "state",
        "PRINCIPAL": lambda record: _said(record.principal),
        "PURPOSE": lambda record: _said(_document(record).get("purpose")),
        "TENANT": lambda record: _said(_document(record).get("tenant")),
        "OPENED": _opened,
    },
    {"open": screen.GOOD, "used up": screen.QUIET, "ended": screen.QUIET, "withdrawn": screen.BAD},
    spare=("TENANT", "PURPOSE", "PRINCIPAL"),
)
"""Intents that were opened or withdrawn."""


def _lines(intent: "Intent") -> "Iterator[str]":
    for line in intent.statement.split("\n"):
        yield f"{_MARGIN}{line}"
    for name, value in intent.parameters.items():
        yield f"  with {name} = {json.dumps(value, ensure_ascii=False)}"
    tasks = "one task" if intent.max_tasks == 1 else f"{intent.max_tasks} tasks"
    yield f"  purpose    {intent.purpose}"
    yield f"  tenant     {_said(intent.tenant)}"
    yield f"  agent      {_said(intent.agent)}"
    if isinstance(intent.agent_key, str):
        yield f"  agent key  {intent.agent_key}"
    yield f"  opens      {tasks}, from {phrases.instant(intent.issued)} until {phrases.instant(intent.not_after)}"
    yield f"  authority  {intent.authority}"
    yield f"  digest     {intent.digest}"


def _pieces(line: str, room: int | None) -> "Iterator[str]":
    """Break a line where the terminal would break it: the terminal would add no margin."""
    if room is None:
        yield line
        return
    # A character outside ASCII may take two cells.
    width = max(1, room if line.isascii() else room // 2)
    for at, piece in enumerate(wrap(line, width, drop_whitespace=False)):
        yield f"{_MARGIN}{piece}" if at else piece


def _columns(stream: TextIO) -> int:
    """Return the columns of a line: those of the terminal, or the fewer that rich uses."""
    from rich.console import Console

    reckoned = Console(file=stream).width
    return min(os.get_terminal_size(stream.fileno()).columns or reckoned, reckoned)


def _said(member: object) -> str:
    return named(member) if isinstance(member, str) else "-"


def _bytes(file: str) -> bytes:
    if file == STDIN:
        if sys.stdin.isatty():
            raise click.UsageError("name a FILE with an intent, or pipe one in")
        return sys.stdin.buffer.read(_MOST)
    return contents(Path(file), _MOST)
