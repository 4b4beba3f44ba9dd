"""`capx witness`: a small witness for a machine of its own. It cosigns checkpoints of logs that only grow."""

import sys
import time
from pathlib import Path

import click

from capx_cli import note_keys, phrases, screen
from capx_cli.failure import DENIED, DONE, Unusable
from capx_cli.view import json_option, show_one

_NEW = click.Path(dir_okay=False, path_type=Path)
_THERE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=phrases.InOrder)
def witness() -> None:
    """Cosign checkpoints of the logs of others, on a machine that they do not control.

    A witness remembers how far it has seen a log. It cosigns a checkpoint only if the log goes on from there. So nobody
    can show two histories of a log to two people who both trust the witness.

    Example: capx witness new witness.example --key-file w.key --state w.state
    """


@witness.command(short_help="Make the key and the state of a new witness.")
@click.argument("name")
@click.option("--key-file", type=_NEW, required=True, metavar="FILE", help="Write the key to this new file: a secret.")
@click.option("--state", type=_NEW, required=True, metavar="FILE", help="Write an empty state to this new file.")
def new(name: str, key_file: Path, state: Path) -> None:
    """Make the key of a witness called NAME, and its state, and write its public key to standard output.

    NAME is best a name like witness.example/w1. Back up the state with the key: a witness that has lost it cosigns
    nothing.

    Example: capx witness new witness.example --key-file w.key --state w.state
    """
    from capx.ledger.note_keys import WitnessKey
    from capx.ledger.witness import WitnessState

    key = WitnessKey.generate(name)
    key.save(key_file)
    WitnessState(state).create()
    screen.note(f"wrote {key_file}, a secret, and {state}", screen.GOOD)
    screen.bare(key.note_key.text())


@witness.command(short_help="Write the public key of a witness.")
@click.option("--key-file", type=_THERE, required=True, metavar="FILE", help="The key of the witness.")
def key(key_file: Path) -> None:
    """Write the public key of a witness to standard output: NAME+ID+KEY.

    Example: capx witness key --key-file w.key
    """
    from capx.ledger.note_keys import WitnessKey

    screen.bare(WitnessKey.load(key_file).note_key.text())


@witness.command(short_help="Cosign a checkpoint of a log that goes on from what was cosigned before.")
@click.option("--key-file", type=_THERE, required=True, metavar="FILE", help="The key of the witness.")
@click.option("--state", type=_NEW, required=True, metavar="FILE", help="What it has cosigned so far.")
@note_keys.option("--log", "The public key of a log that it knows: NAME+ID+KEY. May be repeated.", required=True)
@json_option
def cosign(key_file: Path, state: Path, log: tuple[str, ...], as_json: bool) -> int:
    """Read a request (capx checkpoint request) from standard input, and write the line of the cosignature.

    Exits with 1, and writes nothing to standard output, if it does not cosign: the size that it has seen last is then
    in the message. Two checkpoints that contradict each other are written to standard error: keep them.

    Example: capx checkpoint request | capx witness cosign --key-file w.key --state w.state --log "$(cat log.vkey)"
    """
    from capx.ledger.note_keys import WitnessKey
    from capx.ledger.witness import MAX_REQUEST, AddCheckpoint, NotCosigned, OtherSize, SplitView, WitnessState

    cosigner, logs = WitnessKey.load(key_file).cosigner, note_keys.parsed(log)
    try:
        text = sys.stdin.buffer.read(4 * MAX_REQUEST).decode()
    except UnicodeDecodeError:
        raise Unusable("standard input is no request: pipe what capx checkpoint request writes") from None
    try:
        line = WitnessState(state).cosign(AddCheckpoint.parse(text), cosigner, logs, now=int(time.time()))
    except NotCosigned as refused:
        facts: dict[str, object] = {"cosigned": False, "status": refused.status, "says": str(refused)}
        if isinstance(refused, OtherSize):
            facts["size"] = refused.size
        if isinstance(refused, SplitView):
            facts |= {"before": refused.cosigned, "shown": refused.shown}
            for line in f"{refused.cosigned}\n{refused.shown}".splitlines():
                screen.note(line)
        if as_json:
            screen.as_json(facts)
        screen.note(f"not cosigned: {refused}", screen.BAD)
        return DENIED
    show_one(as_json, {"cosigned": True, "line": line}, line.removesuffix("\n"))
    return DONE
