"""The keys of people: one file each, as `capx principal new` writes them, or in ssh-agent.

    --key-file FILE · --key-agent NAME · else the file that CAPX_PERSON_KEY_FILE names · else principals/ in the home

Laws: the file itself says whose key it is. If it is not clear which key is meant, none is used. Where somebody else
would get to know the key, as at an authority elsewhere, it is never looked for in the home.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capx_cli.arguments import Command, noted, typed_as, with_options
from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from capx.intents.principal_key import PrincipalKey

VARIABLE = "CAPX_PERSON_KEY_FILE"
_FOLDER = "principals"
_FILE, _AGENT = "capx.key_file", "capx.key_agent"


def key_options(command: Command) -> Command:
    """Add `--key-file` and `--key-agent`, for commands in which a person signs."""
    return with_options(
        command,
        noted(
            "--key-file",
            _FILE,
            type=click.Path(path_type=Path),
            metavar="FILE",
            help=f"Your key, as capx principal new made it. Else: {VARIABLE}; then, except for an authority elsewhere, "
            "the key in principals/ of the home.",
        ),
        noted(
            "--key-agent",
            _AGENT,
            metavar="NAME",
            help="Instead: your name, for a key in ssh-agent. NAME=ed25519:… says which, if it holds several.",
        ),
    )


def is_given() -> bool:
    """Whether a key was named on the command line."""
    return bool(typed_as(_FILE) or typed_as(_AGENT))


def chosen(name: str | None) -> "PrincipalKey":
    """Return the key that was given, else that of the named person in the home, else the only one there is."""
    return named(name) or load(name, None)


def named(name: str | None) -> "PrincipalKey | None":
    """Return the key that was given by an option or the variable, None if none was; it must be of this person."""
    agent: str | None = typed_as(_AGENT)
    if agent is None:
        file = key_file()
        return None if file is None else load(name, file)
    from capx.intents.principal_key import PrincipalKey

    if typed_as(_FILE) is not None:
        raise click.UsageError("give only one of --key-file and --key-agent")
    owner, _, public = agent.partition("=ed25519:")
    key = PrincipalKey.in_ssh_agent(owner, f"ed25519:{public}" if public else None)
    if name not in {None, owner}:
        raise click.UsageError(f"--key-agent gives the key of {owner}, not of {name:.80}")
    return key


def key_file() -> Path | None:
    """Return the file that was given, or that the variable names."""
    typed: Path | None = typed_as(_FILE)
    in_environment = os.environ.get(VARIABLE)
    return typed or (Path(in_environment) if in_environment else None)


def beside_key(name: str) -> Path:
    """Return the path of a file beside the key that was given; for one in ssh-agent, in principals/ of the home."""
    file = None if typed_as(_AGENT) else key_file()
    return new_file(name).with_name(name) if file is None else file.with_name(name)


def new_file(name: str, kind: str = _FOLDER, instead: str = "--key-file") -> Path:
    """Return where the new key of this name belongs: a folder that only its owner may use; make it if needed.

    `kind` is the folder in the home, and `instead` the option that names another file.
    """
    from capx.crypto import private_file
    from capx.crypto.named_key import file_name

    folder = _folder(kind)
    for each in (folder.parent, folder):
        with private_file.explained(Unusable, f"the folder {each} cannot be made"):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
    # If others can write to this folder, they can replace the keys in it.
    private_file.demand_ours(folder, folder.stat(), Unusable, f", or name a file with {instead}")
    return folder / file_name(name)


def load(name: str | None, file: Path | None) -> "PrincipalKey":
    """Return the key in the file, else the key of the named person, else the only key there is."""
    from capx.intents.principal_key import PrincipalKey

    found = file or (_only() if name is None else _of(name))
    key = PrincipalKey.load(found)
    if name not in {None, key.name}:
        raise click.UsageError(f"{found} is the key of {key.name}, not of {name:.80}")
    return key


def file_or_name(typed: str, kind: str) -> Path:
    """Return the file that was typed; if there is none, that of the key of this name in the home, if there is one."""
    from capx.crypto.named_key import file_name
    from capx_caveats import is_label

    if not os.path.lexists(typed) and is_label(typed):
        in_home = _folder(kind) / file_name(typed)
        if os.path.lexists(in_home):
            return in_home
    return Path(typed)


def _of(name: str) -> Path:
    from capx.crypto.named_key import file_name
    from capx_caveats import is_label

    # Text with surrogates cannot be part of a path, so check before the path is made.
    if not is_label(name):
        raise click.UsageError(f"{name!r:.80} cannot name a principal: 1 to 128 characters, none of them hidden")
    file = _folder() / file_name(name)
    if not os.path.lexists(file):
        raise Unusable(f"there is no key of {name:.80} at {file}: name its file with --key-file")
    return file


def _only() -> Path:
    folder = _folder()
    try:
        files = sorted(each for each in folder.iterdir() if each.suffix == ".key")
    except OSError:
        files = []
    if not files:
        raise click.UsageError(f"there is no key in {folder}: name the file of your key with --key-file")
    if len(files) > 1:
        raise click.UsageError(f"there are {len(files)} keys in {folder}: choose one with --as NAME")
    return files[0]


def _folder(kind: str = _FOLDER) -> Path:
    from capx.authority.home import home_folder

    return home_folder() / kind
