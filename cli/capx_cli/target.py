"""Which authority a command works with.

    --authority PLACE · else CAPX_AUTHORITY · else the home

    unix:/…/authority.sock    one that `capx serve` runs, for operators
    https://HOST[:PORT]       the same, for one person; http:// only at a loopback address

Laws: if a place is named, the command does not use the home, so nobody changes another store than they meant. A command
that needs root keys or the store itself refuses a place. One that is only for operators refuses the place of a person.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capx_cli import own_keys
from capx_cli.arguments import Command, noted, typed_as, with_options
from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from capx.authority.authority import Authority
    from capx.authority.remote.client import RemoteAuthority
    from capx.intents.principal_key import PrincipalKey
    from capx_cli.person import PersonOperations

    Operations = Authority | RemoteAuthority
    Anyone = Operations | PersonOperations

_KEY, _TRUST = "capx.authority", "capx.trust"
_OF_PEOPLE = ("https://", "http://")


def authority_option(command: Command) -> Command:
    """Add `--authority`, for commands that an authority elsewhere can carry out too."""
    return noted(
        "--authority",
        _KEY,
        metavar="PLACE",
        help="The authority that serves operators, such as unix:/run/capx/authority.sock. Else: CAPX_AUTHORITY, the "
        "home; CAPX_AUTHORITY_URL is for agents.",
    )(command)


def person_options(command: Command) -> Command:
    """Add `--authority` and who a person is, for commands that operators and people can carry out."""
    return with_options(
        command,
        noted(
            "--authority",
            _KEY,
            metavar="PLACE",
            help="The authority: unix:/run/capx/authority.sock for operators, or https://capx.example for you alone. "
            "Else: CAPX_AUTHORITY, the home; CAPX_AUTHORITY_URL is for agents.",
        ),
        own_keys.key_options,
        noted(
            "--trust",
            _TRUST,
            metavar="ID",
            help="The id of the authority at https://…, which its operator told you; needed once.",
        ),
    )


def typed_place() -> str | None:
    """Return what --authority names, if it was given."""
    place: str | None = typed_as(_KEY)
    return place


def elsewhere() -> str | None:
    """Return the place of an authority that is not the home, if one was named."""
    return typed_place() or os.environ.get("CAPX_AUTHORITY") or None


def authority(*, signs: bool = False) -> "Operations":
    """Open the authority that is meant, for an operator; `signs` if a person signs with their key all the same."""
    demand_operator()
    if typed_as(_TRUST) is not None or (own_keys.is_given() and not signs):
        raise click.UsageError(
            "--key-file, --key-agent and --trust are of a person at an authority elsewhere: name it with "
            "--authority https://…"
        )
    place = elsewhere()
    if place is None:
        from capx.authority.authority import Authority

        return Authority.open_home()
    _demand_httpx()
    from capx.authority.remote.client import RemoteAuthority

    return RemoteAuthority(place)


def origin() -> str | None:
    """Return where a person dials the authority, if such a place was named; InvalidRequest for no origin."""
    place = elsewhere()
    if place is None or not place.lower().startswith(_OF_PEOPLE):
        return None
    from capx.api.person_auth import origin_of

    return origin_of(place)


def demand_operator(what: str | None = None) -> None:
    """Raise UsageError if the place of a person was named, for what only operators can do: this command, or `what`."""
    if (at := origin()) is not None:
        what = what or click.get_current_context().command_path
        raise click.UsageError(
            f"{what} is for operators, and {at} serves people: name the socket of capx serve "
            "(--authority unix:PATH), or leave out --authority and CAPX_AUTHORITY to use the home here"
        )


def signing_key(name: str | None) -> "PrincipalKey":
    """Return the key with which a person signs; UsageError if it is missing, or not of the person with this name."""
    return own_keys.chosen(name) if origin() is None else _persons_key(name)


def person(key: "PrincipalKey | None" = None) -> "PersonOperations":
    """Open the authority of a person, which `origin` names; with their key, if it is not read yet."""
    at = origin() or ""
    _demand_httpx()
    from capx_cli.person import PersonOperations

    key = key or _persons_key(None)
    return PersonOperations.met(at, key, known=own_keys.beside_key("known"), trust=typed_as(_TRUST))


def anyone(key: "PrincipalKey | None" = None) -> "Anyone":
    """Open the authority that is meant, for an operator or for a person; `key` is what they sign with anyway."""
    return authority(signs=key is not None) if origin() is None else person(key)


def as_person(opened: "Anyone") -> "PersonOperations | None":
    """Return the authority of a person, or None for one of operators."""
    if origin() is None:
        return None
    from capx_cli.person import PersonOperations

    return opened if isinstance(opened, PersonOperations) else None


def _persons_key(name: str | None) -> "PrincipalKey":
    if (key := own_keys.named(name)) is None:
        raise click.UsageError(
            f"{origin()} must know who you are: name your key with --key-file FILE or {own_keys.VARIABLE}"
        )
    return key


def _demand_httpx() -> None:
    if find_spec("httpx") is None:
        raise Unusable("an authority elsewhere needs httpx: pip install 'capx-auth[httpx]'")


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


def archive_option(command: Command) -> Command:
    """Add `--archive`: a folder with decisions that have left the store of the home."""
    return click.option(
        "--archive",
        "archive_folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="The folder of capx store archive: decisions that have left the store. For the home only.",
    )(command)
