"""The keys in the home: one file each, those of people in `principals/`, as `capx principal new` writes them.

Law: the file itself says whose key it is. If it is not clear which key is meant, none is used.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from capx.intents.principal_key import PrincipalKey

_FOLDER = "principals"


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
