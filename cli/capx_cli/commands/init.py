"""`capx init`: a home for an authority."""

import os
from pathlib import Path

import click

from capx_cli import screen
from capx_cli.failure import Unusable


@click.command()
def init() -> None:
    """Create the home of an authority: its store and its root key.

    The home is CAPX_HOME, else ~/.capx; only you may read it. Nothing that exists is overwritten.

    Example: CAPX_HOME=./authority capx init
    """
    from capx.home import create_home, home_folder

    _demand_private(home_folder())
    folder = create_home()
    screen.say(f"An authority lives in {folder}: capx.db is its store, root.keys its root key. Back both up apart.")
    screen.say("Next: capx task open --tenant Acme --allow crm.read", screen.QUIET)


def _demand_private(folder: Path) -> None:
    if os.name == "posix" and folder.is_dir() and folder.stat().st_mode & 0o077:
        raise Unusable(f"{folder} is there and open to others: chmod 700 {folder}, or let CAPX_HOME name a new folder")
