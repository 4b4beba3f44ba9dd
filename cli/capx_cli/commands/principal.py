"""`capx principal`: manage people who ask and consent, their keys, and their place in the policy."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import own_keys, phrases, policy_editing, screen, target
from capx_cli.arguments import file_option, repeatable
from capx_cli.view import View, json_option

if TYPE_CHECKING:
    from capx.intents.principal_key import PrincipalKey
    from capx.policy.policy import Principal

_ITS_POLICY = "reads the policy, which stays with its authority"


@click.group(cls=phrases.InOrder)
def principal() -> None:
    """Make keys for people, and name people in the policy.

    A principal is a person who asks for work, or consents to what agents ask for. Only the person has the key. The
    policy of an authority has its public half.

    Example: capx principal list
    """


@principal.command(short_help="Make a key for a person.")
@click.argument("name")
@file_option(
    "--key-file", "Write the key to this new file, which only you may read. Default: a file in principals/ of the home."
)
def new(name: str, key_file: Path | None) -> None:
    """Make a key for the person called NAME, and write its public half to standard output.

    The key file is a secret. It is never overwritten. Anybody who has it can ask for, and consent to, all that a policy
    leaves to NAME. So make it on that person's machine. NAME is the person's name in the policy, such as a mail
    address. capx principal show writes the public half again.

    Example: capx principal new ana --key-file ana.key
    """
    from capx.intents.principal_key import PrincipalKey

    key = PrincipalKey.generate(name)
    file = key_file or own_keys.new_file(name)
    key.save(file)
    screen.note(f"wrote {file}: a secret, only for {name}", screen.GOOD)
    _tell_public(key)


@principal.command(short_help="Show the public half of a person's key.")
@click.argument("name", required=False)
@own_keys.key_options
def show(name: str | None) -> None:
    """Write the public half of the key of NAME to standard output, as capx principal new did.

    With --key-agent, the key is in ssh-agent: ssh-keygen -t ed25519 made it, and ssh-add added it.

    Example: capx principal show --key-file ana.key
    """
    key = own_keys.load(name, None) if name is not None and not own_keys.is_given() else own_keys.named(name)
    if key is None:
        raise click.UsageError("give NAME, or --key-file FILE")
    _tell_public(key)


def _facts(found: "Principal") -> dict[str, Any]:
    from msgspec.structs import asdict

    from capx.crypto.ed25519 import public_text

    return {**asdict(found), "key": None if found.key is None else public_text(found.key)}


_PEOPLE = View(
    _facts,
    {"NAME": "name", "TENANTS": "tenants", "PURPOSES": "purposes", "GROUPS": "groups", "KEY": "key"},
    spare=("KEY", "GROUPS", "TENANTS", "PURPOSES"),
)


@principal.command("list", short_help="List the people in the policy.")
@json_option
def list_(as_json: bool) -> None:
    """List the people in the policy of the home, and what they may ask for.

    Example: capx principal list --json
    """
    from capx.authority.home import home_folder
    from capx.policy.file import FILE, PolicyFile

    target.demand_home("capx principal list", _ITS_POLICY)
    policy_editing.demand_home_of(home_folder() / FILE)
    found = list(PolicyFile(home_folder() / FILE)().principals.values())
    _PEOPLE.show(found, as_json, nothing="The policy has no people: capx principal add NAME --key ed25519:…")


@principal.command(short_help="Add a person to the policy, or extend one.")
@click.argument("name")
@click.option(
    "--key", metavar="ed25519:…", help="Their public key. Without it, only an attested login speaks for them."
)
@repeatable("--tenant", "tenants", "NAME", "A tenant they may ask for.")
@repeatable("--purpose", "purposes", "NAME", "A kind of work they may ask for.")
@repeatable("--group", "groups", "NAME", "An approvers' group they are in.")
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
    """Write the public half, and note the lines that a policy needs."""
    from capx.crypto.ed25519 import parse_public
    from capx.policy.policy import Principal

    screen.bare(key.public)
    screen.note(
        "Add this to the policy of an authority, with the tenants and purposes that they may ask for:", screen.QUIET
    )
    for line in policy_editing.table(Principal(name=key.name, key=parse_public(key.public))).splitlines():
        screen.note(f"  {line}")
