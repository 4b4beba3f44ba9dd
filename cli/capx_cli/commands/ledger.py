"""`capx ledger`: the file in which a verifier without a store keeps its decisions."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import note_keys, phrases, screen
from capx_cli.failure import DENIED, DONE, Unusable
from capx_cli.view import json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capx.ledger.ledger_check import LedgerReport
    from capx.store.log import Event

_NEW = click.Path(dir_okay=False, path_type=Path)
_THERE = click.Path(exists=True, dir_okay=False, path_type=Path)
_GLANCE = 0.25
_SHOWN = 50


@click.group(cls=phrases.InOrder)
def ledger() -> None:
    """Make keys for ledgers, check ledgers, and show what they hold.

    A service without a store writes its decisions into a ledger: a file that only grows. It signs what it holds, so an
    entry that somebody changes, removes or adds is found.

    Example: capx ledger verify crm.jsonl --key "$(cat crm-ledger.vkey)"
    """


@ledger.command("new-key", short_help="Make the key of a resource's ledgers.")
@click.argument("audience")
@click.option("--key-file", type=_NEW, required=True, metavar="FILE", help="Write the key to this new file: a secret.")
def new_key(audience: str, key_file: Path) -> None:
    """Make the key with which the service AUDIENCE signs its ledgers, and write its public key to standard output.

    The key file is a secret, only for that service: make it where the service runs. Whoever verifies the ledger needs
    the public key, NAME+ID+KEY.

    Example: capx ledger new-key crm --key-file crm-ledger.key > crm-ledger.vkey
    """
    from capx.ledger.note_keys import LedgerKey
    from capx_caveats import is_audience

    if not is_audience(audience):
        raise click.UsageError(f"{audience!r:.80} is not an audience: lower-case letters, digits, dots and dashes")
    key = LedgerKey.generate(f"capx-ledger/{audience}")
    key.save(key_file)
    screen.note(f"wrote {key_file}: a secret, only for {audience}", screen.GOOD)
    screen.bare(key.note_key.text())


@ledger.command(short_help="Check ledgers from their beginning, and say what does not fit.")
@click.argument("files", type=_THERE, nargs=-1, required=True)
@note_keys.option("--key", "The public key of the ledger: NAME+ID+KEY. May be repeated.", required=True)
@json_option
def verify(files: tuple[Path, ...], key: tuple[str, ...], as_json: bool) -> int:
    """Check the FILES of one or several ledgers, in any order. Exits with 1 if something does not fit.

    An entry that was edited, removed, moved or doubled is named by its line and number. If a part was written anew with
    all its hashes, it is located between two signed notes. A tail that was cut off cannot be seen, if nobody holds a
    later note: so it says how many of the last entries stand under no note.

    Example: capx ledger verify crm*.jsonl --key "$(cat crm-ledger.vkey)"
    """
    from capx.errors import InvalidRequest
    from capx.ledger.ledger_check import MOST_FAULTS, check_ledger

    keys = note_keys.parsed(key)
    try:
        with screen.busy("following the ledger"):
            reports = check_ledger(files, keys)
    except InvalidRequest as problem:
        raise Unusable(str(problem)) from None
    except OSError as error:
        raise Unusable(f"cannot read {error.filename}: {error.strerror}") from None
    if as_json:
        screen.as_json([_facts(report) for report in reports])
    else:
        for report in reports:
            _say(report, MOST_FAULTS)
    return DENIED if any(report.faults for report in reports) else DONE


def _facts(report: "LedgerReport") -> dict[str, Any]:
    from msgspec.structs import asdict

    return {**asdict(report), "whole": not report.faults, "faults": [asdict(fault) for fault in report.faults]}


def _say(report: "LedgerReport", most: int) -> None:
    for fault in report.faults:
        screen.say(fault.sentence(), screen.BAD)
    if report.faults:
        more = ", and perhaps more" if len(report.faults) == most else ""
        screen.say(f"{report.origin}: {phrases.counted(len(report.faults), 'fault')}{more}", screen.LOUD)
        return
    span = f"entries {report.first} to {report.last}" if report.last else "no entries"
    screen.say(f"{report.origin}: {span}, whole, under {phrases.counted(report.notes, 'note')}", screen.GOOD)
    if report.unsigned:
        screen.say(f"  the last {report.unsigned} stand under no note: nobody could see that one was cut off", "yellow")


@ledger.command(short_help="Show the last entries of a ledger.")
@click.argument("file", type=_THERE)
@click.option("--limit", type=click.IntRange(min=1), default=_SHOWN, help=f"At most so many. Default: {_SHOWN}.")
@click.option("--follow", is_flag=True, help="Then show what is written from now on, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, one entry a line.")
def tail(file: Path, limit: int, follow: bool, as_json: bool) -> None:
    """Show the last entries of a ledger file: number, time, outcome, and what was decided. Nothing is checked.

    Example: capx ledger tail crm.jsonl --follow
    """
    from collections import deque

    from capx_cli import events

    try:
        with file.open("rb") as opened:
            for event in deque(_entries(opened), maxlen=limit):
                events.tell_event(event, as_json)
            sys.stdout.flush()
            while follow:
                time.sleep(_GLANCE)
                for event in _entries(opened):
                    events.tell_event(event, as_json)
                sys.stdout.flush()
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise Unusable(f"cannot read {file}: {error.strerror}") from None


def _entries(opened: Any) -> "Iterator[Event]":
    """The entries of whole lines; a line that is still being written is read later."""
    from capx.crypto.base64url import unb64u
    from capx.errors import MalformedToken
    from capx.ledger.ledger_lines import MAX_LINE, Entry, read_line
    from capx.store.log import Event

    while True:
        at = opened.tell()
        line = opened.readline(MAX_LINE + 1)
        if not line.endswith(b"\n"):
            opened.seek(at)
            return
        found = read_line(line[:-1])
        if isinstance(found, Entry):
            try:
                hash_ = unb64u(found.hash)
            except MalformedToken:
                continue
            yield Event(found.number, found.at, found.kind, found.body, hash_)
        elif found is None:
            screen.note("a line of this file is none of a ledger: capx ledger verify tells more", screen.BAD)
