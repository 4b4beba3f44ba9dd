"""`capx principal`: the people who ask and consent, their keys, and what the policy says of them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import reached, screen, words
from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capx.policy import Principal

_KEYS = "principals"
_ITS_POLICY = "reads the policy, which stays with its authority"


@click.group(cls=words.InOrder)
def principal() -> None:
    """Make keys for people, and name people in the policy.

    A principal is a person who asks for work, or consents to what agents ask for. The key is theirs alone; the policy
    of an authority holds its public half.

    Example: capx principal list
    """


@principal.command(short_help="Make a key for a person.")
@click.argument("name")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the key to this new file, which only you may read; else to principals/ in the home.",
)
def new(name: str, key_file: Path | None) -> None:
    """Make a key for the person called NAME, and write its public half to standard output.

    The key file is a secret, and never overwritten. Whoever has it can ask for, and consent to, whatever a policy
    leaves to NAME: make it where that person works. NAME is what a policy calls them, such as a mail address.

    Example: capx principal new ana --key-file ana.key
    """
    from capx.principal_key import PrincipalKey, file_name

    key = PrincipalKey.generate(name)
    file = _own_folder() / file_name(name) if key_file is None else key_file
    key.save(file)
    screen.bare(key.public)
    screen.note(f"wrote {file}: a secret, for {name} alone", screen.GOOD)
    screen.note("In the policy of an authority, with the tenants and purposes that they may ask for:", screen.QUIET)
    for line in _table(name, key.public, (), (), ()).splitlines():
        screen.note(f"  {line}")


@principal.command("list", short_help="List the people that the policy knows.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def list_(as_json: bool) -> None:
    """List the people that the policy of the home knows, with what they may ask for.

    Example: capx principal list --json
    """
    from capx.home import home_folder
    from capx.policy.file import FILE, PolicyFile

    reached.demand_home("capx principal list", _ITS_POLICY)
    found = PolicyFile(home_folder() / FILE)().principals.values()
    if as_json:
        screen.as_json([_as_json(each) for each in found])
    elif not found:
        screen.say("The policy knows nobody: capx principal add NAME --key ed25519:…")
    else:
        screen.table(
            ("NAME", "TENANTS", "PURPOSES", "GROUPS", "KEY"),
            (
                (
                    each.name,
                    *(", ".join(one) or "-" for one in (each.tenants, each.purposes, each.groups)),
                    _key(each) or "-",
                )
                for each in found
            ),
            spare=("KEY", "GROUPS", "TENANTS", "PURPOSES"),
        )


@principal.command(short_help="Name a person in the policy.")
@click.argument("name")
@click.option("--key", metavar="ed25519:…", help="Their public key; without it, only attested logins speak for them.")
@click.option("--tenant", "tenants", multiple=True, metavar="NAME", help="For whom they may ask. Repeatable.")
@click.option("--purpose", "purposes", multiple=True, metavar="NAME", help="What work they may ask for. Repeatable.")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="An approvers' group they are in. Repeatable.")
def add(
    name: str, key: str | None, tenants: tuple[str, ...], purposes: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    """Name the person called NAME in the policy of the home, whose file is kept as it is otherwise.

    The key is what capx principal new has written for them. An authority that is open goes by it from now on.

    Example: capx principal add bo --key "$(capx principal new bo)" --group finance
    """
    from capx.home import home_folder
    from capx.policy import Principal
    from capx.policy.file import FILE
    from capx.principal_key import parse_public
    from capx_cli.policy_editing import append

    reached.demand_home("capx principal add", "changes the policy, which stays with its authority")
    public = None if key is None else parse_public(key)
    wanted = Principal(name=name, key=public, tenants=tenants, purposes=purposes, groups=groups)
    file = home_folder() / FILE
    append(file, wanted, _table(name, key, tenants, purposes, groups))
    screen.note(f"{name} stands in {file}", screen.GOOD)


def _own_folder() -> Path:
    """Where the keys of people are kept at home: a folder that is its owner's alone."""
    from capx.home import home_folder

    folder = home_folder() / _KEYS
    for each in (folder.parent, folder):
        try:
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unusable(f"the folder {each} cannot be made: {error.strerror}") from None
    return folder


def _table(
    name: str, key: str | None, tenants: "Sequence[str]", purposes: "Sequence[str]", groups: "Sequence[str]"
) -> str:
    """What stands in a policy for a person."""
    held = {"tenants": tenants, "purposes": purposes, "groups": groups}
    lines = [f"[principal.{_text(name)}]", *([] if key is None else [f"key = {_text(key)}"])]
    lines += [f"{each} = [{', '.join(map(_text, names))}]" for each, names in held.items() if names]
    return "".join(f"{line}\n" for line in lines)


def _text(text: str) -> str:
    """A text as TOML has it: the escapes of JSON are among its own."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _as_json(found: "Principal") -> dict[str, Any]:
    return {
        "name": found.name,
        "key": _key(found),
        "tenants": list(found.tenants),
        "purposes": list(found.purposes),
        "groups": list(found.groups),
    }


def _key(found: "Principal") -> str | None:
    from capx.principal_key import public_text

    return None if found.key is None else public_text(found.key)
