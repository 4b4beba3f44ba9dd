"""`capx store`: check, count, copy and migrate a store."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import phrases, screen, target
from capx_cli.commands.restoring import FILE, ITS_STORE, head_as_json, restore
from capx_cli.failure import DONE, UNUSABLE
from capx_cli.view import Line, json_option, show_one

if TYPE_CHECKING:
    from capx.authority.home import CheckedHome
    from capx.store.protocols import Store


class Counts(Counter[str]):
    """How many rows of each kind there are."""


@click.group(cls=phrases.InOrder)
def store() -> None:
    """Check, count, prune, back up and restore the store of this home.

    Example: capx store check
    """


@store.command(short_help="Check the log from its beginning, and what else the store holds against it.")
@json_option
@target.authority_option
def check(as_json: bool) -> int:
    """Follow the log from its beginning, and each death and row to its event. Exits with 3 if something is broken.

    A death is a revocation, or the end of a task. The rows are those of tasks, intents, requests and grants. If the
    root keys are here, it checks the marks of these rows as well. If somebody cut the end of the log off, the rest is
    whole. To notice that, compare the position with one that you noted elsewhere before.

    Example: capx store check
    """
    from capx.crypto.base64url import b64u
    from capx.errors import BrokenLog, StoreProblem

    try:
        with screen.busy("following the log"):
            found = _checked()
    except StoreProblem as problem:
        if not as_json:
            raise
        broken = {"position": problem.position} if isinstance(problem, BrokenLog) else {}
        screen.as_json({"whole": False, **broken, "says": str(problem)})
        return UNUSABLE
    hash_ = b64u(found.place.hash)
    whole = {"whole": True, "position": found.place.position, "hash": hash_}
    whole |= {"marks_checked": found.unchecked is None, "marks_of_other_keys": found.of_other_keys}
    lines: list[tuple[str, str]] = [(f"whole, up to position {found.place.position}, hash {hash_}", screen.GOOD)]
    if found.unchecked is not None:
        lines.append((f"the marks of rows were not checked: {found.unchecked}", "yellow"))
    if others := found.of_other_keys:
        lines.append((f"{others} rows bear the mark of a key that is not here: nothing is minted from them", "yellow"))
    show_one(as_json, whole, *lines)
    return DONE


@store.command(short_help="Bring the store to the schema of this capx.")
@json_option
def migrate(as_json: bool) -> None:
    """Bring the store of this home to the schema of this capx, as a whole or not at all.

    Before that, back the store up with the capx that wrote it, and stop its services.

    Example: capx store migrate
    """
    from capx.authority.home import migrate_store

    target.demand_home("capx store migrate", ITS_STORE)
    with screen.busy("migrating"):
        before, after = migrate_store()
    nothing = f"schema {after} already: nothing to do"
    done = f"from schema {before} to {after}", screen.GOOD
    show_one(as_json, {"from": before, "to": after}, nothing if before == after else done)


@store.command(short_help="Count what the store holds.")
@json_option
def stats(as_json: bool) -> None:
    """Count what the store holds: events, decisions, tasks, deaths, counters, and its size.

    Example: capx store stats
    """
    target.demand_home("capx store stats", ITS_STORE)
    with screen.busy("counting"), closing(_opened()) as opened:
        counted = _counted(opened)
    show_one(as_json, counted, *(f"{name:10}  {_shown(value)}" for name, value in counted.items()))


@store.command(short_help="Forget deaths and counters that nobody needs any more.")
@json_option
@target.authority_option
def prune(as_json: bool) -> None:
    """Forget deaths of what expired long ago, counters that nobody can spend from, and old sightings of followers.

    It first ends tasks whose time ran out. It never forgets that a root key was revoked. It never prunes the log.

    Example: capx store prune
    """
    with screen.busy("pruning"), target.authority() as authority:
        pruned = authority.prune()
    show_one(
        as_json,
        pruned,
        f"forgot {pruned.deaths} deaths, {pruned.counters} counters, {pruned.requests} requests and "
        f"{pruned.sightings} sightings of followers; the log keeps what happened",
    )


@store.command(short_help="Move old decisions out of the store, into files.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--older-than", default="30d", metavar="TIME", help="Only what is older: 30d, 12h. Default: 30d.")
@json_option
def archive(folder: Path, older_than: str, as_json: bool) -> None:
    """Move decisions that are older out of the store of this home, into new files in FOLDER, while it is in use.

    A file has all events of its part of the log, and is signed as the log is: capx ledger verify checks it with the key
    that capx checkpoint key prints now. Keep that line: the command prints no key that is retired. A file is read back
    before anything leaves the store. Hashes stay in the store, and so does everything that is not a decision. What a
    living task may need stays. capx find, capx why and capx proof export read the files with --archive. Keep them:
    nobody else has these decisions.

    You may stop it at any time, and run it again with the same FOLDER.

    Example: capx store archive archive --older-than 90d
    """
    from capx_caveats import parse_duration

    seconds = parse_duration(older_than)
    with screen.busy("archiving"), target.home_authority("capx store archive") as authority:
        done = authority.archive(folder, older_than=seconds)
    lines: list[Line] = [f"wrote {folder / name}" for name in done.files]
    if done.last < done.first:
        lines.append("nothing more can be archived: what is left is younger, or a living task may need it")
    else:
        lines.append((f"events {done.first} to {done.last} are archived", screen.GOOD))
    if done.decisions:
        lines.append(f"{done.decisions} decisions have left the store")
    show_one(as_json, done, *lines)


@store.command(short_help="Copy the store into a new file, while it is in use.")
@click.argument("file", type=FILE)
@json_option
def backup(file: Path, as_json: bool) -> None:
    """Copy the store of this home into the new file FILE, while it is in use.

    FILE is there whole and checked, or not at all. It holds the log, and no key: back up root.keys in another place.

    Example: capx store backup monday.db
    """
    from capx.store.backup import backup as back_up

    target.demand_home("capx store backup", ITS_STORE)
    with screen.busy("copying the store"), closing(_opened()) as opened:
        head = back_up(opened, file)
    show_one(
        as_json,
        {"file": str(file.absolute()), **head_as_json(head)},
        (f"wrote {file}: whole, up to position {head.position}, with {head.deaths} deaths", screen.GOOD),
        ("It holds no key: back up root.keys in another place.", screen.QUIET),
    )


store.add_command(restore)


@store.command(short_help="Print the SQL for the PostgreSQL role of one resource.")
@click.argument("audience")
@click.option("--role", metavar="NAME", help="The name of the role. Default: capx_AUDIENCE.")
@json_option
def role(audience: str, role: str | None, as_json: bool) -> None:
    """Print the SQL that makes the PostgreSQL role of one resource, for `psql` to run.

    With this role a service can read revocations, burn presentations, spend budgets, and record decisions of its own
    audience, and nothing else.

    Example: capx store role crm
    """
    from capx.store.postgres.role import role_sql
    from capx.tokens.grants import demand_audience

    sql = role_sql(demand_audience(audience), role)
    show_one(as_json, {"audience": audience, "sql": sql}, *sql.rstrip("\n").split("\n"))


def _opened() -> "Store":
    from capx.authority.home import open_home_store

    return open_home_store()


def _checked() -> "CheckedHome":
    from capx.authority.home import CheckedHome, check_home

    if target.elsewhere() is None:
        return check_home()
    # There the root keys are at hand.
    with target.authority() as authority:
        return CheckedHome(authority.check())


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
            "followers": len(reading.follower_acks()),
            "bytes": _size(Path(opened.place)),
            "hash": head_as_json(head)["hash"],
        }


def _shown(value: Any) -> str:
    if isinstance(value, Counts):
        return ", ".join(f"{count} {what}" for what, count in value.items()) or "none"
    return "-" if value is None else str(value)


def _size(path: Path) -> int | None:
    """Return the size of a store in a file, including what is not written into it yet."""
    files = [path, Path(f"{path}-wal")]
    return sum(file.stat().st_size for file in files if file.exists()) if path.exists() else None
