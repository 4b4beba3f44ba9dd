"""`capx init`: a home for an authority."""

import click

from capx_cli import screen


@click.command()
def init() -> None:
    """Create the home of an authority: its store and its root key.

    The home is CAPX_HOME, else ~/.capx; only you may read it. Nothing that exists is overwritten.

    Example: CAPX_HOME=./authority capx init
    """
    from capx.home import create_home

    folder = create_home()
    screen.say(f"An authority lives in {folder}: capx.db is its store, root.keys its root key. Back both up apart.")
    screen.say("Next: capx task open --tenant Acme --allow crm.read", screen.QUIET)
