"""`capx proof`: what a task was allowed to do and did, as a file that anybody can verify with public keys alone."""

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import completion, phrases, proof_view, screen, target
from capx_cli.arguments import Command, out_option, repeatable, with_options
from capx_cli.failure import DENIED, DONE, INCOMPLETE, Unusable, contents
from capx_cli.view import json_option

if TYPE_CHECKING:
    from capx.proof import Proof, Receipt, Report, Trust

_FILE = click.Path(dir_okay=False, path_type=Path)
_CODES = {"consistent": DONE, "incomplete": INCOMPLETE, "contradicted": DENIED}
_RECEIPT = b"c2sp.org/tlog-proof@v1\n"


@click.group(cls=phrases.InOrder)
def proof() -> None:
    """Prove what a task was allowed to do, what it did, and when its authority ended.

    A proof is one file of what was signed: the intent, the delegation chains, the decisions with their places in the
    logs, the answers of people. Whoever has the public keys in a trust file can verify it, without a store, a secret or
    a network. It holds no token.

    Example: capx proof verify qbr.proof --trust trust.keys
    """


def _output_options(what: str) -> Callable[[Command], Command]:
    return lambda command: with_options(
        command,
        out_option(f"Write {what} to a new file that only you may read, not to standard output (-)."),
        click.option("--replace", is_flag=True, help="Replace FILE as a whole if it exists."),
    )


@proof.command(cls=phrases.TakesIds, short_help="Write the proof of a task, from the log of this home.")
@click.argument("task_id", metavar="TASK", shell_complete=completion.tasks)
@repeatable("--disclose", "disclose", "ID=FILE", "Disclose the arguments of decision ID: FILE has them as JSON.")
@repeatable("--part", "parts", "FILE", "Add the part of a resource, which capx proof extract wrote.", type=_FILE)
@target.archive_option
@_output_options("the proof")
def export(
    *,
    task_id: str,
    disclose: tuple[str, ...],
    parts: tuple[Path, ...],
    archive_folder: Path | None,
    out: Path | None,
    replace: bool,
) -> None:
    """Write the proof of TASK (`last` is the newest), from the log of this home as it is now.

    It has all events of the task and every revocation since it was opened, and it is signed as complete. It shows no
    arguments but those that you disclose. Whoever has the proof can try guesses at the arguments of a call that an
    agent's key has signed.

    Example: capx proof export last --out last.proof
    """
    from capx.ledger import Archive
    from capx.proof import export

    _demand_out(out, replace)
    archive = None if archive_folder is None else Archive(archive_folder)
    shown = dict(map(_disclosed, disclose))
    with target.home_authority("capx proof export") as authority:
        task = phrases.task_id(authority, task_id)
        with screen.busy("collecting the events of the task"):
            made = export(authority, task, parts=list(map(_proof, parts)), disclose=shown, archive=archive)
    _write(made.dump(), out, replace)
    if out is not None:
        events = sum(len(source.events) for source in made.sources)
        screen.say(
            f"wrote {out}: {phrases.counted(events, 'event')} from {phrases.counted(len(made.sources), 'log')}",
            screen.GOOD,
        )
    screen.note("Next: give it with the lines of capx proof trust to whoever verifies it", screen.QUIET)


@proof.command(cls=phrases.TakesIds, short_help="Write the part of a resource, from its ledger.")
@click.argument("task_id", metavar="TASK")
@click.argument("files", type=_FILE, nargs=-1, required=True)
@click.option("--key-file", type=_FILE, required=True, metavar="FILE", help="The key of this ledger: a secret.")
@_output_options("the part")
def extract(task_id: str, files: tuple[Path, ...], key_file: Path, out: Path | None, replace: bool) -> None:
    """Write what the ledger in FILES has about TASK, signed as complete. Give all files of one ledger.

    The service that wrote the ledger does this with its own key. It needs neither the authority nor its consent.

    Example: capx proof extract TbdjVTw_aM7tWlH07OjEBg crm*.jsonl --key-file crm-ledger.key --out task.part
    """
    import time

    from capx.ledger.note_keys import LedgerKey
    from capx.proof import extract_ledger

    _demand_out(out, replace)
    phrases.demand_id("task", task_id)
    key = LedgerKey.load(key_file)
    try:
        with screen.busy("following the ledger"):
            made = extract_ledger(files, key, task_id, at=int(time.time()))
    except OSError as error:
        raise Unusable(f"cannot read {error.filename}: {error.strerror}") from None
    _write(made.dump(), out, replace)
    entries = len(made.sources[0].events)
    if out is not None:
        screen.say(f"wrote {out}: entries about this task: {entries}", screen.GOOD)
    if not entries:
        screen.note("the ledger has no entry about this task: the part says so", "yellow")


@proof.command(short_help="Add the parts of resources to a proof.")
@click.argument("file", type=_FILE)
@click.argument("parts", type=_FILE, nargs=-1, required=True)
@_output_options("the proof")
def merge(file: Path, parts: tuple[Path, ...], out: Path | None, replace: bool) -> None:
    """Add PARTS, which capx proof extract wrote, to the proof in FILE. Nothing in them is verified here.

    Example: capx proof merge qbr.proof crm.part slides.part --out whole.proof
    """
    from capx.proof import merge

    _demand_out(out, replace)
    made = merge(_proof(file), *map(_proof, parts))
    _write(made.dump(), out, replace)
    if out is not None:
        screen.say(f"wrote {out}: {phrases.counted(len(made.sources), 'log')}", screen.GOOD)


@proof.command(short_help="Print the public keys of this home for a trust file.")
def trust() -> None:
    """Write the lines of this home for a trust file to standard output: its log, its keys, the people in its policy.

    Whoever verifies proofs must get these lines through a channel that they already trust, separate from the proof.
    They add a line `log KEY` for each ledger (capx ledger new-key prints KEY), and `witness KEY` and `quorum N`.

    Example: capx proof trust > trust.keys
    """
    from capx.errors import ConfigurationProblem
    from capx.proof import Trust

    with target.home_authority("capx proof trust") as authority:
        keys = authority.checkpoints.public_keys()
        try:
            people = [(one.name, one.key) for one in authority.policy.principals.values() if one.key is not None]
        except ConfigurationProblem as problem:
            screen.note(str(problem), "yellow")
            people = []
    if not people:
        screen.note("no people: the policy names nobody who has a key", "yellow")
    screen.bare(Trust(frozenset(key.name for key in keys), tuple(keys), principals=tuple(people)).text().rstrip("\n"))


def _verify_options(command: Command) -> Command:
    return with_options(
        command,
        click.option(
            "--trust", "trust_file", type=_FILE, required=True, metavar="FILE", help="The public keys that you trust."
        ),
        repeatable("--receipt", "receipts", "FILE", "Hold it to a receipt that somebody has kept.", type=_FILE),
        click.option(
            "--max-staleness",
            type=click.IntRange(0, 86_400),
            default=30,
            metavar="SECONDS",
            help="How long resources go on without news of an end. Default: 30.",
        ),
        click.option(
            "--clock-tolerance",
            type=click.IntRange(0, 86_400),
            default=30,
            metavar="SECONDS",
            help="By how much clocks may differ. Default: 30.",
        ),
        json_option,
    )


@proof.command(short_help="Verify a proof, or a receipt, with public keys alone.")
@click.argument("file", type=_FILE)
@_verify_options
def verify(*, file: Path, trust_file: Path, receipts: tuple[Path, ...], as_json: bool, **tolerances: int) -> int:
    """Verify the proof in FILE, or a receipt of capx why --receipt, and say what is signed and what is somebody's word.

    It reads no store, no secret and no network. Exits with 1 if the proof was altered, or contradicts itself or a
    receipt that somebody has kept; with 4 if it is incomplete: nothing contradicts, but something could hide behind
    what is missing; with 3 if a file cannot be read.

    Example: capx proof verify qbr.proof --trust trust.keys
    """
    from capx.proof import ProofBroken, Trust
    from capx.proof.receipts import check_receipt

    trusted = Trust.load(trust_file)
    try:
        if contents(file, len(_RECEIPT)) == _RECEIPT:
            if receipts:
                raise click.UsageError("a receipt is not held against others: leave out --receipt")
            proof_view.say_receipt(check_receipt(_receipt(file), trusted), as_json)
            return DONE
        report = _report(file, trusted, receipts, tolerances)
    except ProofBroken as problem:
        return _broken(problem, as_json)
    if as_json:
        screen.as_json(report.as_json())
    else:
        proof_view.say_findings(report)
    return _CODES[report.result]


@proof.command(short_help="Show everything that a proof shows, as text or as one HTML page.")
@click.argument("file", type=_FILE)
@_verify_options
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page to FILE.")
@click.option("--replace", is_flag=True, help="Replace the page as a whole if it exists.")
def show(
    *,
    file: Path,
    trust_file: Path,
    receipts: tuple[Path, ...],
    as_json: bool,
    html: Path | None,
    replace: bool,
    **tolerances: int,
) -> int:
    """Verify the proof in FILE, and show all of it: the intent, who acted, each decision, the answers, the end.

    With --html, write one page for people who do not work at a shell. It loads nothing, and has no script.

    Example: capx proof show qbr.proof --trust trust.keys --html qbr.html
    """
    from capx.proof import ProofBroken, Trust, page

    if replace and html is None:
        raise click.UsageError("--replace needs --html FILE")
    try:
        report = _report(file, Trust.load(trust_file), receipts, tolerances)
    except ProofBroken as problem:
        return _broken(problem, as_json)
    if html is not None:
        _write(page(report).encode("utf-8"), html, replace)
    if as_json:
        screen.as_json(report.as_json())
    elif html is None:
        proof_view.say_story(report)
        proof_view.say_findings(report)
    else:
        screen.say(f"wrote {html}", screen.GOOD)
        proof_view.say_contradictions(report)
    return _CODES[report.result]


def _report(file: Path, trusted: "Trust", receipts: Sequence[Path], tolerances: dict[str, int]) -> "Report":
    from capx.proof import verify

    kept = list(map(_receipt, receipts))
    # The file and not what is in it: verify reads it whole only if its logs have signed it.
    with screen.busy("verifying"), _readable_proof(file):
        return verify(file, trusted, receipts=kept, **tolerances)


def _proof(file: Path) -> "Proof":
    from capx.proof import Proof

    with _readable_proof(file):
        return Proof.load(file)


def _receipt(file: Path) -> "Receipt":
    from capx.proof import Receipt

    with _readable(file, "receipt: capx why ID --receipt writes one"):
        return Receipt.load(file)


@contextmanager
def _readable_proof(file: Path) -> Generator[None]:
    if contents(file, len(_RECEIPT)) == _RECEIPT:
        raise Unusable(f"{file} is a receipt: capx proof verify reads it by itself, or behind --receipt")
    with _readable(file, "proof: capx proof export writes one"):
        yield


@contextmanager
def _readable(file: Path, what: str) -> Generator[None]:
    """Unusable for what is no proof, part or receipt: exit code 3, and not that of a wrong option."""
    from capx.errors import InvalidRequest

    try:
        yield
    except InvalidRequest as problem:
        raise Unusable(f"{file} is no {what} ({problem})") from None


def _broken(problem: Exception, as_json: bool) -> int:
    if as_json:
        screen.as_json({"result": "broken", "why": str(problem)})
    else:
        screen.say(f"BROKEN: {problem}", screen.LOUD)
    return DENIED


def _disclosed(text: str) -> "tuple[str, dict[str, Any]]":
    from capx.crypto import strict_json

    id_, equals, name = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--disclose {text:.80} is not ID=FILE")
    phrases.demand_id("decision", id_)
    return id_, strict_json.read(contents(Path(name), 1 << 20), dict[str, Any])


def _demand_out(out: Path | None, replace: bool) -> None:
    if replace and out is None:
        raise click.UsageError("--replace needs --out FILE")
    if out is not None and not replace and os.path.lexists(out):
        raise Unusable(f"{out} exists: give --replace, or another name")


def _write(data: bytes, out: Path | None, replace: bool) -> None:
    if out is None:
        sys.stdout.buffer.write(data)
        return
    from capx.crypto import private_file

    private_file.save(out, lambda: data, Unusable, over=replace)
