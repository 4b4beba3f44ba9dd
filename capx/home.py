"""Where an authority lives: a folder with its store and, apart from it, its root keys.

Laws: the folder is `$CAPX_HOME`, else `~/.capx`; it and both files are their owner's alone. Keys without their store
are refused: a new store would have forgotten every death.
"""

import os
from collections.abc import Callable
from pathlib import Path

from capx.errors import ConfigurationProblem, KeyProblem, StoreProblem
from capx.keys import KeyRing, RootKey
from capx.store.sqlite import SQLiteStore

STORE = "capx.db"
ROOT_KEYS = "root.keys"


def home_folder(given: Path | str | None = None) -> Path:
    """The folder that is meant: the given one, `$CAPX_HOME`, or `~/.capx`."""
    if given is not None:
        return Path(given)
    return Path(os.environ.get("CAPX_HOME") or Path.home() / ".capx")


def create_home(given: Path | str | None = None) -> Path:
    """The folder, made with a new store and a new root key; a making that was cut short is finished."""
    folder = home_folder(given)
    store, keys = folder / STORE, folder / ROOT_KEYS
    if _holds_something(keys):
        if store.exists():
            raise ConfigurationProblem(
                f"an authority lives in {folder} already: use it, or let CAPX_HOME name another folder"
            )
        raise ConfigurationProblem(
            f"{keys} is there and its store is not: restore {store} from a backup, or move the keys away; "
            "a new store would have forgotten what was revoked"
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationProblem(f"the folder {folder} cannot be made: {error.strerror}") from error
    # The store first: keys that no token was minted with yet may be made anew, a store may not.
    if not _holds_something(store):
        SQLiteStore.create(store).close()
    # An empty file is what a making leaves that was cut short between naming its keys and writing them.
    if _there(keys) and not _holds_something(keys):
        keys.unlink()
    KeyRing(RootKey.generate()).save(keys)
    return folder


def open_parts(given: Path | str | None = None) -> tuple[SQLiteStore, KeyRing]:
    """The store, opened, and the root keys; StoreProblem or KeyProblem says what to do."""
    folder = _lived_in(given)
    ring = KeyRing.load(folder / ROOT_KEYS)
    return SQLiteStore(folder / STORE), ring


def change_keys(change: Callable[[KeyRing], KeyRing], given: Path | str | None = None) -> KeyRing:
    """Replace the root keys by what `change` makes of them, as `KeyRing.change` does.

    An authority that is open goes on with the keys it was opened with.
    """
    return KeyRing.change(_lived_in(given) / ROOT_KEYS, change)


def _lived_in(given: Path | str | None) -> Path:
    folder = home_folder(given)
    if not _there(folder / STORE):
        raise StoreProblem(f"no authority lives in {folder}: create one with capx init, or set CAPX_HOME")
    if not _there(folder / ROOT_KEYS):
        raise KeyProblem(f"the root keys {folder / ROOT_KEYS} are not there: put them back from where they are kept")
    return folder


def _holds_something(path: Path) -> bool:
    return _there(path) and path.stat().st_size > 0


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise ConfigurationProblem(f"{path} cannot be looked at: {error.strerror}") from None
