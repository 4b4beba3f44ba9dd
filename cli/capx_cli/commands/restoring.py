"""`capx store restore`: show what would happen, ask for confirmation, and restore."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import phrases, screen, target
from capx_cli.failure import Unusable
from capx_cli.view import Line, json_option, show_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capx.authority.restore import Restoration
    from capx.store.records import Head

FILE = click.Path(dir_okay=False, path_type=Path)
"""A file with a copy of a store."""
ITS_STORE = "works on the store itself"
"""The reason why a command needs the home."""


@click.command(short_help="Put a backup in the place of the store: all that was issued before is dead.")
@click.argument("file", type=FILE)
@click.option(
    "--into",
    metavar="PLACE",
    help="Restore to another place, new or empty: a path or postgresql://… Default: the home's store.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would happen.")
@click.option("--yes", is_flag=True, help="Do not ask before replacing the old store.")
@click.option("--discard", is_flag=True, help="Replace a store that has not gone on from the backup.")
@click.option("--no-copy", is_flag=True, help="Keep no copy of what the database holds now.")
@json_option
def restore(
    file: Path, *, into: str | None, dry_run: bool, yes: bool, discard: bool, no_copy: bool, as_json: bool
) -> None:
    """Put the backup FILE in the place of the store of this home, as a later epoch of it.

    Nobody knows what happened after the backup. So all that was issued up to now is dead, and every task that was
    active in the backup is withdrawn. Keys that were revoked after the backup stay revoked. The old store is kept under
    another name. Services that follow the store start over by themselves. If the old store has events that neither the
    backup has nor came after it, --dry-run says how many, and only --discard replaces it.

    Example: capx store restore monday.db --dry-run
    """
    from capx.authority.home import demand_keys_of, store_place
    from capx.authority.restore import restore as bring_back
    from capx.intents.epoch import authority_of

    target.demand_home("capx store restore", ITS_STORE)
    place = store_place() if into is None else into
    keep = None if no_copy else _beside_the_home(place)
    with screen.busy("checking the backup"):
        foreseen = bring_back(file, place, keep=keep, dry_run=True)
    if into is None:
        demand_keys_of(authority_of(foreseen.backup.epoch))
    if dry_run:
        _say_restored(foreseen, as_json)
        return
    if foreseen.replaced is not None and foreseen.replaced.position > 0 and not yes:
        _confirm(foreseen)
    with screen.busy("restoring"):
        done = bring_back(file, place, keep=keep, discard=discard)
    _say_restored(done, as_json)


def head_as_json(head: "Head") -> dict[str, Any]:
    """Return the position of a store as JSON values."""
    from capx.crypto.base64url import b64u

    return {"epoch": head.epoch, "position": head.position, "hash": b64u(head.hash), "deaths": head.deaths}


def _beside_the_home(place: str) -> Path | None:
    """Return where to keep what a database holds; a file is kept beside itself."""
    import time

    from capx.authority.home import home_folder
    from capx.store.factory import is_postgres

    if not is_postgres(place):
        return None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return home_folder() / f"store.before-restore-{stamp}.db"


def _confirm(foreseen: "Restoration") -> None:
    """Ask for confirmation; Unusable if there is no terminal."""
    if not sys.stdin.isatty():
        raise click.UsageError("this replaces the store: look at --dry-run first, then give --yes")
    _say_restored(foreseen, as_json=False)
    if not click.confirm("Replace the store?", err=True):
        raise Unusable("nothing was changed")


def _say_restored(restored: "Restoration", as_json: bool) -> None:
    from msgspec.structs import asdict

    replaced = None if restored.replaced is None else head_as_json(restored.replaced)
    facts = {**asdict(restored), "backup": head_as_json(restored.backup), "replaced": replaced}
    show_one(as_json, phrases.with_instants(facts), *_lines(restored))


def _lines(restored: "Restoration") -> "Iterator[Line]":
    done = restored.epoch is not None
    what = f"{'restored' if done else 'would restore'} {restored.place} from a backup that reaches position "
    yield f"{what}{restored.backup.position}", screen.GOOD if done else ""
    if restored.replaced is not None:
        yield f"  the store that it replaces reached position {restored.replaced.position}"
        if restored.parted is not None:
            lost = restored.replaced.position - restored.parted
            yield (
                f"  it has not gone on from the backup: its {lost} events after position {restored.parted} are lost",
                screen.BAD,
            )
    if restored.kept is not None:
        yield f"  it {'is' if done else 'would be'} kept as {restored.kept}"
    if restored.unread:
        keys = "root keys or agents' keys"
        yield (
            f"  it could not be read to its end: if {keys} were revoked after the backup, revoke them again",
            screen.BAD,
        )
    for key in (*(f"root key {kid}" for kid in restored.kids), *(f"agent's key {one}" for one in restored.agent_keys)):
        yield f"  {key}, which was revoked after the backup, {'stays' if done else 'would stay'} revoked"
    until = "now" if restored.issued is None else phrases.instant(restored.issued)
    yield f"  all that was issued up to {until} {'is' if done else 'would be'} dead"
    yield f"  tasks {'that were' if done else 'to be'} withdrawn: {len(restored.withdrawn)}"
    if done:
        yield f"  epoch {restored.epoch}, position {restored.position} of the log"
