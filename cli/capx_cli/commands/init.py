"""`capx init`: a home for an authority."""

from pathlib import Path

import click

from capx_cli import screen
from capx_cli.failure import Unusable


@click.command()
@click.option(
    "--store",
    metavar="URL",
    help="Keep the store in that PostgreSQL database, postgresql://HOST/DATABASE; the home keeps the URL.",
)
@click.option("--store-file", type=click.Path(path_type=Path), metavar="FILE", help="Read that URL from FILE.")
def init(store: str | None, store_file: Path | None) -> None:
    """Create the home of an authority: its store and its root key.

    The home is CAPX_HOME, else ~/.capx; only you may read it. Nothing that exists is overwritten. A URL with a password
    shows in `ps`: put it in a file for --store-file, or the password where libpq looks, such as ~/.pgpass.

    Example: CAPX_HOME=./authority capx init
    """
    from capx.authority.home import PLACE, create_home, home_folder

    if store is not None and store_file is not None:
        raise click.UsageError("give either --store or --store-file")
    if store_file is not None:
        store = _line_of(store_file)
    _demand_private(home_folder())
    folder = create_home(store=store)
    if (folder / PLACE).exists():
        screen.say(f"An authority lives in {folder}: root.keys is its root key, {PLACE} says where its store is.")
        screen.say("Back both up, and the store apart from them: capx store backup FILE", screen.QUIET)
    else:
        screen.say(f"An authority lives in {folder}: capx.db is its store, root.keys its root key. Back both up apart.")
    screen.say("Next: capx task open --tenant Acme --allow crm.read", screen.QUIET)


def _line_of(file: Path) -> str:
    from capx.store.factory import is_postgres

    # A URL that was meant for --store; what it holds is not to be shown, and as a path it has lost a slash.
    if is_postgres(str(file)) or ":/" in str(file):
        raise click.UsageError("--store-file names a file that holds the URL; --store takes the URL itself")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"cannot read {file}: {error}") from None


def _demand_private(folder: Path) -> None:
    from capx.crypto.private_file import open_to_others

    if folder.is_dir() and open_to_others(folder.stat()):
        raise Unusable(f"{folder} is there and open to others: chmod 700 {folder}, or let CAPX_HOME name a new folder")
