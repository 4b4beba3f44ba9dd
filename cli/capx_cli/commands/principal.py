"""`capx principal`: the people who ask and consent, their keys, and what the policy says of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import own_keys, phrases, policy_editing, screen, target
from capx_cli.arguments import file_option
from capx_cli.view import View, json_option

if TYPE_CHECKING:
    from capx.intents.principal_key import PrincipalKey
    from capx.policy.policy import Principal

_ITS_POLICY = "reads the policy, which stays with its authority"


@click.group(cls=phrases.InOrder)
def principal() -> None:
    """Make keys for people, and name people in the policy.

    A principal is a person who asks for work, or consents to what agents ask for. The key is theirs alone; the policy
    of an authority holds its public half.

    Example: capx principal list
    """


@principal.command(short_help="Make a key for a person.")
@click.argument("name")
@file_option("--key-file", "Write the key to this new file, which only you may read; else to principals/ in the home.")
def new(name: str, key_file: Path | None) -> None:
    """Make a key for the person called NAME, and write its public half to standard output.

    The key file is a secret, and never overwritten. Whoever has it can ask for, and consent to, whatever a policy
    leaves to NAME: make it where that person works. NAME is what a policy calls them, such as a mail address.
    The public half is written again by capx principal show.

    Example: capx principal new ana --key-file ana.key
    """
    from capx.intents.principal_key import PrincipalKey

    key = PrincipalKey.generate(name)
    file = key_file or own_keys.new_file(name)
    key.save(file)
    screen.note(f"wrote {file}: a secret, for {name} alone", screen.GOOD)
    _tell_public(key)


@principal.command(short_help="Show the public half of a person's key.")
@click.argument("name", required=False)
@file_option("--key-file", "The key in this file; else that of NAME in principals/ of the home.")
def show(name: str | None, key_file: Path | None) -> None:
    """Write the public half of the key of NAME to standard output, as capx principal new did.

    Example: capx principal show --key-file ana.key
    """
    if name is None and key_file is None:
        raise click.UsageError("give NAME, or --key-file FILE")
    _tell_public(own_keys.load(name, key_file))


def _facts(found: "Principal") -> dict[str, Any]:
    from msgspec.structs import asdict

    from capx.crypto.ed25519 import public_text

    return {**asdict(found), "key": None if found.key is None else public_text(found.key)}


_PEOPLE = View(
    _facts,
    {"NAME": "name", "TENANTS": "tenants", "PURPOSES": "purposes", "GROUPS": "groups", "KEY": "key"},
    spare=("KEY", "GROUPS", "TENANTS", "PURPOSES"),
)


@principal.command("list", short_help="List the people that the policy knows.")
@json_option
def list_(as_json: bool) -> None:
    """List the people that the policy of the home knows, with what they may ask for.

    Example: capx principal list --json
    """
    from capx.authority.home import home_folder
    from capx.policy.file import FILE, PolicyFile

    target.demand_home("capx principal list", _ITS_POLICY)
    policy_editing.demand_home_of(home_folder() / FILE)
    found = list(PolicyFile(home_folder() / FILE)().principals.values())
    _PEOPLE.show(found, as_json, nothing="The policy knows nobody: capx principal add NAME --key ed25519:…")


@principal.command(short_help="Add a person to the policy, or extend one.")
@click.argument("name")
@click.option("--key", metavar="ed25519:…", help="Their public key; without it, only attested logins speak for them.")
@click.option("--tenant", "tenants", multiple=True, metavar="NAME", help="For whom they may ask. Repeatable.")
@click.option("--purpose", "purposes", multiple=True, metavar="NAME", help="What work they may ask for. Repeatable.")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="An approvers' group they are in. Repeatable.")
def add(key: str | None, **said: Any) -> None:
    """Add the person called NAME to the policy of the home, or add to what it says about them.

    The key is the public half, which capx principal new wrote for them. A person who is in the policy already keeps
    what they have. Their tenants, purposes and groups get what is new, and a key is added if there is none. Another
    key is refused: take the old one out of the file first. The rest of the file, and its comments, stay as they are.
    An open authority uses the new policy at once.

    Example: capx principal add bo --key "$(capx principal new bo)" --group finance
    """
    from capx.authority.home import home_folder
    from capx.crypto.ed25519 import parse_public
    from capx.policy.file import FILE
    from capx.policy.policy import Principal

    target.demand_home("capx principal add", "changes the policy, which stays with its authority")
    public = None if key is None else parse_public(key)
    wanted = Principal(key=public, **said)
    file = home_folder() / FILE
    screen.note(policy_editing.add(file, wanted), screen.GOOD)


def _tell_public(key: "PrincipalKey") -> None:
    """Write the public half, and note what a policy has of it."""
    from capx.crypto.ed25519 import parse_public
    from capx.policy.policy import Principal

    screen.bare(key.public)
    screen.note("In the policy of an authority, with the tenants and purposes that they may ask for:", screen.QUIET)
    for line in policy_editing.table(Principal(name=key.name, key=parse_public(key.public))).splitlines():
        screen.note(f"  {line}")
