"""The home of an authority: a folder with its root keys, and with its store or the place of its store.

    root.keys      the root keys
    capx.db        the store, in SQLite; or
    store.place    the place of the store: one line, postgresql://…, which may hold a password
    policy.toml    the policy, if the authority takes intents (capx.policy.file)
    checkpoint.note    the last checkpoint of the log (capx.authority.checkpoints)

Laws:

- The folder is `$CAPX_HOME`, else `~/.capx`. Only its owner can use it and its files.
- Keys without their store are refused: a new store would have forgotten every death.
- Root keys name the authority whose store they belong to: `create_home` writes its id into them.
- The folder holds a store or the place of one, never both.
- The rows of the store bear marks under the root keys: `retire_key` makes them anew.
"""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from capx.authority.row_guard import check_marks, replace_marks
from capx.crypto import private_file
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import ConfigurationProblem, KeyProblem, StoreProblem
from capx.intents.epoch import authority_of
from capx.ledger.stored_tree import check_tree
from capx.store.check import check_store
from capx.store.decision_index import check_index
from capx.store.log import Place
from capx.store.protocols import Store
from capx.store.row_check import check_rows
from capx.store.sqlite.store import SQLiteStore

STORE = "capx.db"
PLACE = "store.place"
ROOT_KEYS = "root.keys"
CHECKPOINT = "checkpoint.note"

_LONGEST = 4_096


def home_folder(given: Path | str | None = None) -> Path:
    """The given folder, else `$CAPX_HOME`, else `~/.capx`."""
    if given is not None:
        return Path(given)
    return Path(os.environ.get("CAPX_HOME") or Path.home() / ".capx")


def create_home(given: Path | str | None = None, *, store: str | None = None) -> Path:
    """Create a home with a new store and a new root key, and return its folder.

    If an earlier call was interrupted, this one finishes its work. `store` is a `postgresql://` URL for a store that is
    not in the folder; the folder then keeps the URL.
    """
    folder = home_folder(given)
    _demand_none(folder)
    with private_file.explained(ConfigurationProblem, f"the folder {folder} cannot be made"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The store before the keys. If this is interrupted, no token was minted with the keys, so they can be made again.
    if store is None and not _there(folder / PLACE):
        if not _holds_something(folder / STORE):
            SQLiteStore.create(folder / STORE).close()
    else:
        _create_elsewhere(folder, store)
    keys = folder / ROOT_KEYS
    # An empty key file is left when the program stopped after it had created the file and before it wrote the keys.
    if _there(keys) and not _holds_something(keys):
        keys.unlink()
    with closing(_opened(folder)) as opened:
        KeyRing(RootKey.generate(), authority=opened.authority()).save(keys)
    return folder


def open_parts(given: Path | str | None = None) -> tuple[Store, KeyRing]:
    """Open the store and load the root keys; StoreProblem or KeyProblem says what to do."""
    keys = _keys_of(given)
    # Keys first: if they cannot be used, no store is left open.
    ring = KeyRing.load(keys)
    return _opened(keys.parent), ring


def open_home_store(given: Path | str | None = None) -> Store:
    """Open only the store, for work that needs no root keys; StoreProblem says what to do."""
    return _opened(_lived_in(given))


def store_place(given: Path | str | None = None) -> str:
    """The place of the store: a path, or a URL, which may hold a password."""
    folder = home_folder(given)
    named = folder / PLACE
    if not _there(named):
        return str(folder / STORE)
    if _holds_something(folder / STORE):
        raise ConfigurationProblem(
            f"{folder} holds a store, {STORE}, and the place of another, {PLACE}: move away the one that is wrong"
        )
    with private_file.explained(ConfigurationProblem, f"{named} cannot be read"):
        # One byte more than the longest place, so that a longer one is noticed below.
        held = private_file.read_secret(named, ConfigurationProblem, "place of a store", _LONGEST + 1)
    text = held.decode("utf-8", "replace").strip()
    if not text or len(text) > _LONGEST or "\n" in text:
        raise ConfigurationProblem(
            f"{named} does not name a store: write one line into it, such as postgresql://HOST/DATABASE"
        )
    return text


def change_keys(change: Callable[[KeyRing], KeyRing], given: Path | str | None = None) -> KeyRing:
    """Replace the root keys by the result of `change`, as `KeyRing.change` does.

    An authority that is open keeps the keys that it was opened with.
    """
    return KeyRing.change(_keys_of(given), change)


def migrate_store(given: Path | str | None = None) -> tuple[int, int]:
    """Bring the store of an older capx to this schema; gives the versions before and now."""
    from capx.store.factory import is_postgres

    if is_postgres(place := store_place(_lived_in(given))):
        from capx.store.postgres.store import migrate as migrate_there

        return migrate_there(place)
    from capx.store.sqlite.connection import migrate as migrate_file

    return migrate_file(Path(place))


class CheckedHome(Struct, frozen=True):
    """What a check of the home found whole: the place that the log reaches, and what is to be said of the marks.

    `of_other_keys` rows bear the mark of a key that is not among the root keys. `unchecked` says why no mark was
    checked.
    """

    place: Place
    of_other_keys: int = 0
    unchecked: str | None = None


def check_home(given: Path | str | None = None) -> CheckedHome:
    """Check the log of the store, its tree, deaths and rows, and the marks of these, if the root keys can be used.

    BrokenLog or another StoreProblem says what is wrong.
    """
    with closing(open_home_store(given)) as store, store.read() as reading:
        place = check_store(reading)
        check_index(reading)
        check_rows(reading)
        check_tree(reading)
        try:
            keyring = KeyRing.load(_keys_of(given)).of(authority_of(reading.head().epoch))
        except KeyProblem as problem:
            return CheckedHome(place, unchecked=str(problem))
        return CheckedHome(place, check_marks(reading, keyring))


def retire_key(kid: str, given: Path | str | None = None, *, leaked: bool = False) -> KeyRing:
    """Remove a root key. What it has marked gets the mark of the key that mints, unless it has leaked."""
    folder = _lived_in(given)

    def change(ring: KeyRing) -> KeyRing:
        left = ring.retired(kid)
        # Before the key file changes: after a crash in between, both keys are live, and all marks are good.
        if not leaked:
            with closing(_opened(folder)) as store, store.write() as transaction:
                replace_marks(transaction, ring, of=kid)
        return left

    return change_keys(change, given)


def demand_keys_of(authority: str, given: Path | str | None = None) -> None:
    """Refuse to restore the store of this authority beside the root keys of another one."""
    path = home_folder(given) / ROOT_KEYS
    if not _holds_something(path) or KeyRing.load(path).authority == authority:
        return
    raise ConfigurationProblem(
        f"this backup is of another authority than the keys in {path}: move them away and put the root keys of that "
        "authority there; if these are lost, restore without any, then capx init makes new ones"
    )


def _demand_none(folder: Path) -> None:
    """Refuse a folder that is a home already, or that holds root keys whose store is gone."""
    store, keys = folder / STORE, folder / ROOT_KEYS
    if not _holds_something(keys):
        return
    if _there(store) or _there(folder / PLACE):
        raise ConfigurationProblem(f"{folder} already holds an authority: use it, or set CAPX_HOME to another folder")
    raise ConfigurationProblem(
        f"{keys} exists, but its store does not: restore {store} from a backup, or move the keys away; "
        "a new store would have forgotten what was revoked"
    )


def _create_elsewhere(folder: Path, store: str | None) -> None:
    """Create a store elsewhere and keep its place beside the keys; a store whose log is empty is used as it is."""
    from capx.store.factory import create_store, is_postgres, open_store

    place = store_place(folder) if store is None else store
    if not is_postgres(place):
        raise ConfigurationProblem(
            f"a store must be postgresql://… or the file {STORE} in the home: for a file, set CAPX_HOME to its folder"
        )
    if _holds_something(folder / STORE) or (_there(folder / PLACE) and store_place(folder) != place):
        raise ConfigurationProblem(f"{folder} already has another store: set CAPX_HOME to another folder")
    try:
        create_store(place).close()
    except StoreProblem:
        # It may exist because an earlier call was interrupted. Then its log is empty, and this call goes on.
        with closing(open_store(place)) as there, there.read() as reading:
            if reading.head().position > 0:
                raise ConfigurationProblem(
                    "another authority already uses that store: copy the home that holds its root keys, or give "
                    "another database"
                ) from None
    # Only now: the folder never names a store that does not exist.
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
        raise StoreProblem(f"there is no authority in {folder}: create one with capx init, or set CAPX_HOME")
    return folder


def _keys_of(given: Path | str | None) -> Path:
    keys = _lived_in(given) / ROOT_KEYS
    if not _there(keys):
        raise KeyProblem(f"the root keys {keys} are missing: put them back from your backup")
    return keys


def _holds_something(path: Path) -> bool:
    return _there(path) and path.stat().st_size > 0


def _there(path: Path) -> bool:
    with private_file.explained(ConfigurationProblem, f"{path} cannot be looked at"):
        return path.exists()
