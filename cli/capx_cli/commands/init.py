"""`capx init`: create a home for an authority."""

from pathlib import Path

import click

from capx_cli import screen
from capx_cli.failure import Unusable


@click.command()
@click.option(
    "--store",
    metavar="URL",
    help="Keep the store in this PostgreSQL database, postgresql://HOST/DATABASE. The home keeps the URL.",
)
@click.option("--store-file", type=click.Path(path_type=Path), metavar="FILE", help="Read the URL from FILE.")
def init(store: str | None, store_file: Path | None) -> None:
    """Create the home of an authority: its store and its root key.

    The home is CAPX_HOME, else ~/.capx. Only you may read it. Nothing that exists is overwritten. A URL with a password
    shows in `ps`: put it in a file for --store-file, or put the password where libpq looks, such as ~/.pgpass.

    Example: CAPX_HOME=./authority capx init
    """
    from capx.authority.home import PLACE, create_home, home_folder

    if store is not None and store_file is not None:
        raise click.UsageError("give only one of --store and --store-file")
    if store_file is not None:
        store = _line_of(store_file)
    _demand_private(home_folder())
    folder = create_home(store=store)
    if (folder / PLACE).exists():
        screen.say(f"created an authority in {folder}: its root key is root.keys, and {PLACE} says where its store is")
        screen.say("Back up both files. Back up the store in another place: capx store backup FILE", screen.QUIET)
    else:
        screen.say(
            f"created an authority in {folder}: its store is capx.db, its root key is root.keys. "
            "Back up both, in two different places."
        )
    screen.say("Next: capx task open --tenant Acme --allow crm.read", screen.QUIET)


def _line_of(file: Path) -> str:
    from capx.store.factory import is_postgres

    # A URL that was meant for --store. It may hold a password, so do not show it. As a path it has lost a slash.
    if is_postgres(str(file)) or ":/" in str(file):
        raise click.UsageError("--store-file names a file that holds the URL; --store takes the URL itself")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"cannot read {file}: {error}") from None


def _demand_private(folder: Path) -> None:
    from capx.crypto.private_file import open_to_others

    if folder.is_dir() and open_to_others(folder.stat()):
        raise Unusable(f"other users may use {folder}: chmod 700 {folder}, or set CAPX_HOME to a new folder")
