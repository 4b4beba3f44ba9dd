"""Where an authority lives: a folder with its root keys and, apart from them, its store, or the name of where that is.

    root.keys      the root keys
    capx.db        the store, embedded; or
    store.place    where else it is: one line, postgresql://…, which may hold a password
    policy.toml    what it goes by, where it takes intents (capx.policy.file)

Laws: the folder is `$CAPX_HOME`, else `~/.capx`; it and its files are their owner's alone. Keys without their store
are refused: a new store would have forgotten every death. There is one store, or the name of one, never both.
"""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from capx.crypto import private_file
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import ConfigurationProblem, KeyProblem, StoreProblem
from capx.store.protocols import Store
from capx.store.sqlite.store import SQLiteStore

STORE = "capx.db"
PLACE = "store.place"
ROOT_KEYS = "root.keys"

_LONGEST = 4_096


def home_folder(given: Path | str | None = None) -> Path:
    """The folder that is meant: the given one, `$CAPX_HOME`, or `~/.capx`."""
    if given is not None:
        return Path(given)
    return Path(os.environ.get("CAPX_HOME") or Path.home() / ".capx")


def create_home(given: Path | str | None = None, *, store: str | None = None) -> Path:
    """The folder, made with a new store and a new root key; a making that was cut short is finished.

    `store` is a `postgresql://` URL for a store that is not in the folder; the folder then keeps where it is.
    """
    folder = home_folder(given)
    _demand_none(folder)
    with private_file.explained(ConfigurationProblem, f"the folder {folder} cannot be made"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The store first: keys that no token was minted with yet may be made anew, a store may not.
    if store is None and not _there(folder / PLACE):
        if not _holds_something(folder / STORE):
            SQLiteStore.create(folder / STORE).close()
    else:
        _create_elsewhere(folder, store)
    keys = folder / ROOT_KEYS
    # An empty file is what a making leaves that was cut short between naming its keys and writing them.
    if _there(keys) and not _holds_something(keys):
        keys.unlink()
    KeyRing(RootKey.generate()).save(keys)
    return folder


def open_parts(given: Path | str | None = None) -> tuple[Store, KeyRing]:
    """The store, opened, and the root keys; StoreProblem or KeyProblem says what to do."""
    keys = _keys_of(given)
    ring = KeyRing.load(keys)
    return _opened(keys.parent), ring


def open_home_store(given: Path | str | None = None) -> Store:
    """The store alone, opened, for what needs no root keys; StoreProblem says what to do."""
    return _opened(_lived_in(given))


def store_place(given: Path | str | None = None) -> str:
    """Where the store of this home is: a path, or a URL, which may hold a password."""
    folder = home_folder(given)
    named = folder / PLACE
    if not _there(named):
        return str(folder / STORE)
    if _holds_something(folder / STORE):
        raise ConfigurationProblem(
            f"{folder} holds a store, {STORE}, and the name of another, {PLACE}: move the one away that is not meant"
        )
    with private_file.explained(ConfigurationProblem, f"{named} cannot be read"):
        held = private_file.read_secret(named, ConfigurationProblem, "name of a store", _LONGEST + 1)
    text = held.decode("utf-8", "replace").strip()
    if not text or len(text) > _LONGEST or "\n" in text:
        raise ConfigurationProblem(
            f"{named} names no store: write one line into it, such as postgresql://HOST/DATABASE"
        )
    return text


def change_keys(change: Callable[[KeyRing], KeyRing], given: Path | str | None = None) -> KeyRing:
    """Replace the root keys by what `change` makes of them, as `KeyRing.change` does.

    An authority that is open goes on with the keys it was opened with.
    """
    return KeyRing.change(_keys_of(given), change)


def _demand_none(folder: Path) -> None:
    """Refuse to make a home where one is, or where keys are whose store is gone."""
    store, keys = folder / STORE, folder / ROOT_KEYS
    if not _holds_something(keys):
        return
    if _there(store) or _there(folder / PLACE):
        raise ConfigurationProblem(
            f"an authority lives in {folder} already: use it, or let CAPX_HOME name another folder"
        )
    raise ConfigurationProblem(
        f"{keys} is there and its store is not: restore {store} from a backup, or move the keys away; "
        "a new store would have forgotten what was revoked"
    )


def _create_elsewhere(folder: Path, store: str | None) -> None:
    """Make a store at a place that is kept beside the keys; one in which nothing has happened yet is taken as it is."""
    from capx.store.factory import create_store, is_postgres, open_store

    place = store_place(folder) if store is None else store
    if not is_postgres(place):
        raise ConfigurationProblem(
            f"a store in a file is {STORE} of its home: let CAPX_HOME name the folder; another place is postgresql://…"
        )
    if _holds_something(folder / STORE) or (_there(folder / PLACE) and store_place(folder) != place):
        raise ConfigurationProblem(f"{folder} has another store already: let CAPX_HOME name another folder")
    try:
        create_store(place).close()
    except StoreProblem:
        with closing(open_store(place)) as there, there.read() as reading:
            if reading.head().position > 0:
                raise ConfigurationProblem(
                    "an authority keeps its log in that store already: copy the home that holds its root keys, or "
                    "give another database"
                ) from None
    if not _there(folder / PLACE):
        with private_file.changing(folder / PLACE, ConfigurationProblem) as named:
            private_file.replace(named, f"{place}\n".encode, ConfigurationProblem)


def _opened(folder: Path) -> Store:
    place = store_place(folder)
    if place == str(folder / STORE):
        return SQLiteStore(place)
    from capx.store.factory import open_store

    return open_store(place)


def _lived_in(given: Path | str | None) -> Path:
    folder = home_folder(given)
    if not (_there(folder / STORE) or _there(folder / PLACE)):
        raise StoreProblem(f"no authority lives in {folder}: create one with capx init, or set CAPX_HOME")
    return folder


def _keys_of(given: Path | str | None) -> Path:
    keys = _lived_in(given) / ROOT_KEYS
    if not _there(keys):
        raise KeyProblem(f"the root keys {keys} are not there: put them back from where they are kept")
    return keys


def _holds_something(path: Path) -> bool:
    return _there(path) and path.stat().st_size > 0


def _there(path: Path) -> bool:
    with private_file.explained(ConfigurationProblem, f"{path} cannot be looked at"):
        return path.exists()
