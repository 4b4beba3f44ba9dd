"""`capx store`: whether a store is whole, how it stands, and how it is brought back."""

import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import reached, screen, words
from capx_cli.failure import DONE, UNUSABLE, Unusable

if TYPE_CHECKING:
    from capx.recovery import Restored
    from capx.store import Head, Store


class Counts(Counter[str]):
    """How many there are of each."""


_FILE = click.Path(dir_okay=False, path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
_ITS_STORE = "works on the store itself"


@click.group(cls=words.InOrder)
def store() -> None:
    """Check, count, prune, back up and restore the store of this home.

    Example: capx store check
    """


@store.command(short_help="Follow the log from its beginning, and each death to its event.")
@_JSON
@reached.authority_option
def check(as_json: bool) -> int:
    """Follow the log from its beginning, and each death to the event that caused it. Exits with 3 when it is broken.

    A log that was cut short shows when the place is compared with one that was noted elsewhere before.

    Example: capx store check
    """
    from capx.chain import b64u
    from capx.errors import StoreProblem
    from capx.log import BrokenLog

    try:
        with screen.busy("following the log"):
            if reached.elsewhere() is None:
                place = _checked_here()
            else:
                with reached.authority() as authority:
                    place = authority.check()
    except StoreProblem as problem:
        if not as_json:
            raise
        broken = {"position": problem.position} if isinstance(problem, BrokenLog) else {}
        screen.as_json({"whole": False, **broken, "says": str(problem)})
        return UNUSABLE
    if as_json:
        screen.as_json({"whole": True, "position": place.position, "hash": b64u(place.hash)})
    else:
        screen.say(f"whole, up to position {place.position}, hash {b64u(place.hash)}", screen.GOOD)
    return DONE


@store.command(short_help="Bring the store to the schema of this capx.")
@_JSON
def migrate(as_json: bool) -> None:
    """Bring the store of this home to the schema that this capx needs, whole or not at all. Stop its services first.

    Back it up before, with the capx that wrote it.

    Example: capx store migrate
    """
    from capx.home import store_place
    from capx.store.opening import is_postgres

    reached.demand_home("capx store migrate", _ITS_STORE)
    place = store_place()
    with screen.busy("migrating"):
        if is_postgres(place):
            from capx.store.postgres import migrate as migrate_there

            before, after = migrate_there(place)
        else:
            from capx.store.sqlite_file import migrate as migrate_file

            before, after = migrate_file(Path(place))
    if as_json:
        screen.as_json({"from": before, "to": after})
    elif before == after:
        screen.say(f"schema {after} already: there was nothing to do")
    else:
        screen.say(f"from schema {before} to {after}", screen.GOOD)


@store.command(short_help="Count what the store holds.")
@_JSON
def stats(as_json: bool) -> None:
    """Count what the store holds: events, decisions, tasks, deaths, counters, and how big it is.

    Example: capx store stats
    """
    reached.demand_home("capx store stats", _ITS_STORE)
    with screen.busy("counting"), closing(_opened()) as opened:
        counted = _counted(opened)
    if as_json:
        screen.as_json(counted)
        return
    for name, value in counted.items():
        screen.say(f"{name:10}  {_shown(value)}")


@store.command(short_help="Forget deaths and counters that protect nothing any more.")
@_JSON
@reached.authority_option
def prune(as_json: bool) -> None:
    """Forget deaths of what has expired long since, counters nobody can spend from, and old sightings of followers.

    Tasks whose time ran out are ended first. What was revoked with its key is never forgotten, and the log is never
    pruned: what happened stays there.

    Example: capx store prune
    """
    import msgspec

    with screen.busy("pruning"), reached.authority() as authority:
        pruned = authority.prune()
    if as_json:
        screen.as_json(msgspec.to_builtins(pruned))
    else:
        screen.say(
            f"forgot {pruned.deaths} deaths, {pruned.counters} counters and {pruned.sightings} sightings of followers; "
            "the log keeps what happened"
        )


@store.command(short_help="Copy the store into a new file, while it is in use.")
@click.argument("file", type=_FILE)
@_JSON
def backup(file: Path, as_json: bool) -> None:
    """Copy the store of this home into FILE, which must not be there, while others go on using it.

    FILE is there whole and checked, or not at all. It holds the log and no key: back up root.keys apart from it.

    Example: capx store backup before-upgrade.db
    """
    from capx.recovery import backup as back_up

    reached.demand_home("capx store backup", _ITS_STORE)
    with screen.busy("copying the store"), closing(_opened()) as opened:
        head = back_up(opened, file)
    if as_json:
        screen.as_json({"file": str(file.absolute()), **_head_as_json(head)})
    else:
        screen.say(f"wrote {file}: whole, up to position {head.position}, with {head.deaths} deaths", screen.GOOD)
        screen.say("It holds no key: root.keys is backed up apart from it.", screen.QUIET)


@store.command(short_help="Put a backup in the place of the store: all issued before is dead.")
@click.argument("file", type=_FILE)
@click.option("--into", metavar="PLACE", help="A store elsewhere, new or empty: a path or postgresql://… [the home's]")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@click.option("--yes", is_flag=True, help="Do not ask whether to replace what is there.")
@click.option("--discard", is_flag=True, help="Keep no copy of what a database holds now.")
@_JSON
def restore(file: Path, *, into: str | None, dry_run: bool, yes: bool, discard: bool, as_json: bool) -> None:
    """Put the backup FILE in the place of the store of this home, as a later epoch of it.

    What happened since the backup is unknown, so that all that was issued up to now is dead, and every task that was
    active in the backup is withdrawn. Keys that were revoked since stay revoked. The store that is there is kept under
    another name. Services that follow the store start over by themselves.

    Example: capx store restore before-upgrade.db --dry-run
    """
    from capx.home import store_place
    from capx.recovery import restore as bring_back

    reached.demand_home("capx store restore", _ITS_STORE)
    place = store_place() if into is None else into
    keep = None if discard else _beside_the_home(place)
    with screen.busy("checking the backup"):
        foreseen = bring_back(file, place, keep=keep, dry_run=True)
    if dry_run:
        _say_restored(foreseen, as_json)
        return
    if foreseen.replaced is not None and foreseen.replaced.position > 0 and not yes:
        _confirm(foreseen)
    with screen.busy("restoring"):
        done = bring_back(file, place, keep=keep)
    _say_restored(done, as_json)


@store.command(short_help="Print the SQL for the PostgreSQL role of one resource.")
@click.argument("audience")
@click.option("--role", metavar="NAME", help="The name of the role; else capx_AUDIENCE.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def role(audience: str, role: str | None, as_json: bool) -> None:
    """Print the SQL that makes the PostgreSQL role of one resource, for `psql` to run.

    Under it a service reads deaths, burns, spends, and records decisions for its own audience, and nothing else.

    Example: capx store role crm
    """
    from capx.grant import demand_audience
    from capx.store.postgres_role import role_sql

    sql = role_sql(demand_audience(audience), role)
    if as_json:
        screen.as_json({"audience": audience, "sql": sql})
    else:
        screen.lines(sql.rstrip("\n"))


def _opened() -> "Store":
    from capx.home import open_home_store

    return open_home_store()


def _checked_here() -> Any:
    """The place that the log of this home's store reaches; for this no root key is needed."""
    from capx.checking import check_store

    with closing(_opened()) as opened, opened.read() as reading:
        return check_store(reading)


def _counted(opened: "Store") -> dict[str, Any]:
    with opened.read() as reading:
        head = reading.head()
        return {
            "place": opened.place,
            "epoch": head.epoch,
            "events": head.position,
            "decisions": sum(1 for _ in reading.events(kind="decision")),
            "tasks": Counts(task.state for task in reading.tasks()),
            "deaths": Counts(kept=sum(1 for _ in reading.deaths()), forgotten=head.forgotten),
            "counters": len(reading.counters()),
            "followers": len(reading.sightings()),
            "bytes": _size(Path(opened.place)),
            "hash": _head_as_json(head)["hash"],
        }


def _shown(value: Any) -> str:
    if isinstance(value, Counts):
        return ", ".join(f"{count} {what}" for what, count in value.items()) or "none"
    return "-" if value is None else str(value)


def _size(path: Path) -> int | None:
    """How big a store in a file is, with what is not yet written into it."""
    files = [path, Path(f"{path}-wal")]
    return sum(file.stat().st_size for file in files if file.exists()) if path.exists() else None


def _head_as_json(head: "Head") -> dict[str, Any]:
    from capx.chain import b64u

    return {"epoch": head.epoch, "position": head.position, "hash": b64u(head.hash), "deaths": head.deaths}


def _beside_the_home(place: str) -> Path | None:
    """Where what a database holds is kept; a file is kept beside itself."""
    import time

    from capx.home import home_folder
    from capx.store.opening import is_postgres

    if not is_postgres(place):
        return None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return home_folder() / f"store.before-restore-{stamp}.db"


def _confirm(foreseen: "Restored") -> None:
    """Ask whoever sits there; Unusable when nobody does."""
    if not sys.stdin.isatty():
        raise click.UsageError("this replaces the store that is there: look with --dry-run, then say --yes")
    _say_restored(foreseen, as_json=False)
    if not click.confirm("Replace the store?", err=True):
        raise Unusable("nothing was changed")


def _say_restored(restored: "Restored", as_json: bool) -> None:
    from capx_caveats import shown_instant

    if as_json:
        screen.as_json(_restored_as_json(restored))
        return
    done = restored.epoch is not None
    screen.say(
        f"{'restored' if done else 'would restore'} {restored.place} from a backup that reaches position "
        f"{restored.backup.position}",
        screen.GOOD if done else "",
    )
    if restored.replaced is not None:
        screen.say(f"  the store that was there reached position {restored.replaced.position}")
    if restored.kept is not None:
        screen.say(f"  it {'is' if done else 'would be'} kept as {restored.kept}")
    if restored.unread:
        screen.say("  it could not be read to its end: revoke again the keys that were revoked since", screen.BAD)
    for kid in restored.kids:
        screen.say(f"  key {kid}, which was revoked since, {'stays' if done else 'would stay'} revoked")
    until = "now" if restored.issued is None else shown_instant(restored.issued)
    screen.say(f"  all that was issued up to {until} {'is' if done else 'would be'} dead")
    screen.say(f"  tasks {'that were' if done else 'to be'} withdrawn: {len(restored.withdrawn)}")
    if done:
        screen.say(f"  epoch {restored.epoch}, position {restored.position} of the log")


def _restored_as_json(restored: "Restored") -> dict[str, Any]:
    return words.with_instants(
        {
            "place": restored.place,
            "backup": _head_as_json(restored.backup),
            "replaced": None if restored.replaced is None else _head_as_json(restored.replaced),
            "unread": restored.unread,
            "withdrawn": list(restored.withdrawn),
            "kids": list(restored.kids),
            "kept": restored.kept,
            "epoch": restored.epoch,
            "position": restored.position,
            "issued": restored.issued,
        }
    )
