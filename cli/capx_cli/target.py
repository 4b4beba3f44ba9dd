"""Which authority a command works with.

    --authority PLACE · else CAPX_AUTHORITY: unix:/…/authority.sock, one that `capx serve` runs · else the home

Law: if a place is named, the command does not use the home, so nobody changes another store than they meant. A command
that needs root keys or the store itself refuses a place.
"""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from capx.authority.authority import Authority
    from capx.authority.remote.client import RemoteAuthority

    Operations = Authority | RemoteAuthority

F = TypeVar("F", bound=Callable[..., Any])

_KEY = "capx.authority"


def _keep(context: click.Context, _: click.Parameter, place: str | None) -> None:
    if place is not None:
        context.meta[_KEY] = place


def authority_option(command: F) -> F:
    """Add `--authority`, for commands that an authority elsewhere can carry out too."""
    option: Callable[[F], F] = click.option(
        "--authority",
        metavar="PLACE",
        expose_value=False,
        callback=_keep,
        help="The authority that serves operators, such as unix:/run/capx/authority.sock. Else: CAPX_AUTHORITY, the "
        "home; CAPX_AUTHORITY_URL is for agents.",
    )
    return option(command)


def elsewhere() -> str | None:
    """Return the place of an authority that is not the home, if one was named."""
    context = click.get_current_context(silent=True)
    named: str | None = None if context is None else context.meta.get(_KEY)
    return named or os.environ.get("CAPX_AUTHORITY") or None


def authority() -> "Operations":
    """Open the authority that is meant."""
    place = elsewhere()
    if place is None:
        from capx.authority.authority import Authority

        return Authority.open_home()
    if find_spec("httpx") is None:
        raise Unusable("an authority elsewhere needs httpx: pip install 'capx-auth[httpx]'")
    from capx.authority.remote.client import RemoteAuthority

    return RemoteAuthority(place)


def home_authority(what: str) -> "Authority":
    """Open the authority of the home, for what needs its root keys; UsageError if another one was named."""
    demand_home(what, "needs the root keys, which stay with their authority")
    from capx.authority.authority import Authority

    return Authority.open_home()


def demand_home(what: str, why: str) -> None:
    """Raise UsageError if another authority than that of the home was named."""
    if (place := elsewhere()) is not None:
        cure = f"run it where its home is, or leave out --authority and CAPX_AUTHORITY ({place:.80})"
        raise click.UsageError(f"{what} {why}: {cure} to use the home here")


def with_variable(message: str) -> str:
    """Add the variable from which a place in a message came, unless it was typed or is named already."""
    for name in ("CAPX_AUTHORITY_URL", "CAPX_AUTHORITY"):
        place = os.environ.get(name, "").rstrip("/")
        if place and place in message and name not in message and not any(place in typed for typed in sys.argv):
            return f"{message} (from {name})"
    return message


def archive_option(command: F) -> F:
    """Add `--archive`: a folder with decisions that have left the store of the home."""
    option: Callable[[F], F] = click.option(
        "--archive",
        "archive_folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="The folder of capx store archive: decisions that have left the store. For the home only.",
    )
    return option(command)
