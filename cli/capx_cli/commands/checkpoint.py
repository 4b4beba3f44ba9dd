"""`capx checkpoint`: sign the log of this home, hold it to what was signed or seen, and let witnesses cosign."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import note_keys, phrases, screen, target
from capx_cli.failure import Unusable
from capx_cli.view import json_option, show_one

if TYPE_CHECKING:
    from capx.store.records import CheckpointRecord

_ITS_KEYS = "signs with the root keys, which stay with their authority"
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=phrases.InOrder)
def checkpoint() -> None:
    """Sign the size and the root of the log of this home, check what was signed, and let witnesses cosign.

    A checkpoint is a signed note: it binds all events up to now. Whoever keeps one can show later that an event was
    changed, and whoever trusts the key can check that one event is in the log. capx serve makes one every 10 seconds
    while the log grows. The last one stands in checkpoint.note beside the root keys: back it up with them.

    Example: capx checkpoint make
    """


@checkpoint.command(short_help="Sign the log as it is now.")
@json_option
def make(as_json: bool) -> None:
    """Sign the log as it is now, and write the signed note to standard output.

    If nothing was added since the last one, it is that one. If the log does not go on from the last checkpoint, nothing
    is signed: somebody put an older copy of the store back by hand, or rewrote it.

    Example: capx checkpoint make > monday.note
    """
    with screen.busy("signing the log"), target.home_authority("capx checkpoint make") as authority:
        record = authority.checkpoints.make()
    _show(record, as_json)


@checkpoint.command(short_help="Print the public keys that sign the log.")
@json_option
def key(as_json: bool) -> None:
    """Write the public keys that sign the log of this home to standard output, one a line: NAME+ID+KEY.

    A witness, or whoever verifies a proof, needs them. There is one for each live root key. A restoration begins
    another log, which has other names.

    Example: capx checkpoint key > log.vkey
    """
    with target.home_authority("capx checkpoint key") as authority:
        keys = [one.text() for one in authority.checkpoints.public_keys()]
    show_one(as_json, {"keys": keys}, *keys)


@checkpoint.command(short_help="Hold the log to a checkpoint, or to a page of the feed.")
@click.option("--note", "notes", type=FILE, multiple=True, help="A note that somebody has kept. May be repeated.")
@click.option("--page", "pages", type=FILE, multiple=True, help="A page of the feed that somebody has kept.")
@json_option
def check(notes: tuple[Path, ...], pages: tuple[Path, ...], as_json: bool) -> None:
    """Compute the tree of the log again, and hold it to every checkpoint in the store and in checkpoint.note.

    With --note or --page, hold it also to what somebody else has kept. A page of the feed names an event and its hash:
    every follower of the feed is a witness. Exits with 3 if the log is another one.

    Example: capx checkpoint check --note monday.note
    """
    with screen.busy("computing the tree of the log"), target.home_authority("capx checkpoint check") as authority:
        held = authority.checkpoints.check(
            notes=[_read(path) for path in notes],
            pages=[line for path in pages for line in _read(path).splitlines() if line],
        )
    facts = {"size": held.size, "checkpoints": held.checkpoints, "notes": held.notes, "pages": held.pages}
    counts = {"checkpoint": held.checkpoints, "note": held.notes, "page": held.pages}
    said = " and ".join(phrases.counted(count, what) for what, count in counts.items() if count)
    show_one(as_json, facts, (f"the log of {held.size} events is the one of {said or 'no checkpoint'}", screen.GOOD))


@checkpoint.command(short_help="Let a witness cosign the last checkpoint, over HTTP.")
@click.argument("url")
@note_keys.option("--witness", "The public key of the witness: NAME+ID+KEY. May be repeated.", required=True)
@json_option
def send(url: str, witness: tuple[str, ...], as_json: bool) -> None:
    """Let the witness at URL cosign the last checkpoint, and keep its line below the note.

    It speaks add-checkpoint of C2SP tlog-witness. For a witness that is not on the network, use capx checkpoint request
    and capx checkpoint add.

    Example: capx checkpoint send https://witness.example --witness "$(cat witness.vkey)"
    """
    keys = note_keys.parsed(witness)
    with screen.busy("waiting for the witness"), target.home_authority("capx checkpoint send") as authority:
        record = authority.checkpoints.send(url, keys)
    _show(record, as_json)


@checkpoint.command(short_help="Write the request for a witness that is not on the network.")
@click.option("--old", type=click.IntRange(min=0), default=0, help="The size that it has cosigned. Default: 0.")
def request(old: int) -> None:
    """Write to standard output what capx witness cosign reads: the last checkpoint, and the path from a size before.

    Example: capx checkpoint request > for-the-witness
    """
    with target.home_authority("capx checkpoint request") as authority:
        sys.stdout.write(authority.checkpoints.request(old).text())


@checkpoint.command(short_help="Keep the line of a witness below the last checkpoint.")
@note_keys.option("--witness", "The public key of the witness: NAME+ID+KEY. May be repeated.", required=True)
@json_option
def add(witness: tuple[str, ...], as_json: bool) -> None:
    """Read the line of a witness from standard input, check it, and keep it below the last checkpoint.

    Example: capx checkpoint add --witness "$(cat witness.vkey)" < line
    """
    keys = note_keys.parsed(witness)
    lines = sys.stdin.read(2**16).splitlines(keepends=True)
    with target.home_authority("capx checkpoint add") as authority:
        record = authority.checkpoints.add(lines, keys)
    _show(record, as_json)


def _show(record: "CheckpointRecord", as_json: bool) -> None:
    from capx.ledger.base64_text import b64
    from capx.ledger.checkpoint import Checkpoint
    from capx.ledger.note import Note

    found = Checkpoint.parse(Note.parse(record.note).text)
    if not as_json:
        sys.stdout.write(record.note)
        return
    facts: dict[str, Any] = {"origin": found.origin, "size": found.size, "root": b64(found.root)}
    screen.as_json({**facts, "at": record.at, "note": record.note})


def _read(path: Path) -> str:
    try:
        return path.read_bytes()[: 64 << 20].decode()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from None
