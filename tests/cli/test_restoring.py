"""From a backup to a restored store, by the command line."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from capx.authority.authority import Authority
from capx.crypto.agent_key import AgentKey
from capx.crypto.keys import AudienceKeys, KeyRing
from capx.resource.connection import connect
from capx.store.backup import backup as store_backup
from capx.store.factory import open_store
from tests.cli.conftest import Shell
from tests.labs.postgres import Server


def test_from_a_backup_to_a_restored_store(kept: Shell, tmp_path: Path) -> None:
    saved = str(tmp_path / "saved.db")
    token = kept("task", "open", "--tenant", "Acme", "--allow", "crm.read").token
    said = kept("store", "backup", saved, "--json").json
    assert (said["position"], said["file"]) == (3, saved)
    assert "exists already" in kept("store", "backup", saved, code=3).err
    kept("task", "open", "--allow", "crm.read")

    assert "look at --dry-run first, then give --yes" in kept("store", "restore", saved, code=2).err
    dry = kept("store", "restore", saved, "--dry-run")
    assert "tasks to be withdrawn: 1" in dry.out
    assert [task["state"] for task in kept("task", "list", "--json").json] == ["active", "active"]
    done = kept("store", "restore", saved, "--yes", "--json").json
    assert done["position"] == 5
    assert Path(done["kept"]).exists()
    assert [task["state"] for task in kept("task", "list", "--json").json] == ["withdrawn"]
    said = kept("verify", "--action", "crm.read", "--tenant", "Acme", token=token, code=1).out
    assert "every token issued up to a certain time was revoked, and this is one of them" in said
    assert "restored           from a backup that reached position 3; all that was issued up to" in kept("log").out
    kept("store", "check")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["home", "saved.db"]


def test_keys_that_were_revoked_after_the_backup_are_named(home: Shell, tmp_path: Path) -> None:
    saved, key = str(tmp_path / "saved.db"), AgentKey.generate("reader").public
    home("task", "open", "--allow", "crm.read")
    home("store", "backup", saved)
    home("revoke", "--key", key)
    kid = KeyRing.load(home.home / "root.keys").kids[0]
    home("revoke", "--kid", kid)
    foreseen = home("store", "restore", saved, "--dry-run").out
    assert f"  agent's key {key}, which was revoked after the backup, would stay revoked\n" in foreseen
    done = home("store", "restore", saved, "--yes").out
    for revoked in (f"agent's key {key}", f"root key {kid}"):
        assert f"  {revoked}, which was revoked after the backup, stays revoked\n" in done


def test_a_store_that_cannot_be_read_leaves_both_kinds_of_keys(home: Shell, tmp_path: Path) -> None:
    home("task", "open", "--allow", "crm.read")
    home("store", "backup", str(tmp_path / "saved.db"))
    store = home.home / "capx.db"
    for name in ("capx.db-wal", "capx.db-shm"):
        (home.home / name).unlink(missing_ok=True)
    store.write_bytes(store.read_bytes()[:8_192])
    said = home("store", "restore", str(tmp_path / "saved.db"), "--yes").out
    assert "if root keys or agents' keys were revoked after the backup, revoke them again" in said


def test_restoring_says_what_it_will_not_take(home: Shell, tmp_path: Path) -> None:
    home("task", "open", "--allow", "crm.read")
    live = str(home.home / "capx.db")
    assert "is the store itself" in home("store", "restore", live, "--yes", code=3).err
    assert "there is no backup at" in home("store", "restore", str(tmp_path / "none.db"), "--yes", code=3).err
    home("store", "backup", str(tmp_path / "changed.db"))
    with closing(sqlite3.connect(tmp_path / "changed.db")) as changed, changed:
        changed.execute("UPDATE events SET at = at - 1 WHERE position = 2")
    refused = home("store", "restore", str(tmp_path / "changed.db"), "--yes", code=3).err
    assert (
        f"the backup {tmp_path / 'changed.db'} is refused, give another one: the log is broken at position 2" in refused
    )
    (tmp_path / "cut.db").write_bytes((tmp_path / "changed.db").read_bytes()[:20_000])
    (tmp_path / "cut.db").chmod(0o600)
    refused = home("store", "restore", str(tmp_path / "cut.db"), "--yes", code=3).err
    assert f"the backup {tmp_path / 'cut.db'} is damaged" in refused
    assert "restore it from" not in refused
    (tmp_path / "text.db").write_text("no store")
    (tmp_path / "text.db").chmod(0o600)
    assert "is not a database" in home("store", "restore", str(tmp_path / "text.db"), "--yes", code=3).err
    other: Any = {"CAPX_HOME": str(tmp_path / "other")}
    home("init", **other)
    home("task", "open", "--allow", "crm.read", **other)
    home("store", "backup", str(tmp_path / "other.db"), **other)
    said = home("store", "restore", str(tmp_path / "other.db"), "--yes", code=3)
    assert "this backup is of another store than the one that is there" in said.err
    home("store", "restore", str(tmp_path / "other.db"), "--into", str(tmp_path / "new.db"))
    assert (tmp_path / "new.db").exists()


def test_a_store_moves_into_a_database_that_is_empty(
    home: Shell, postgres_server: Server, postgres_database: str, tmp_path: Path
) -> None:
    home("task", "open", "--allow", "crm.read")
    home("store", "backup", str(tmp_path / "saved.db"))
    url, before = postgres_server.url(postgres_database), sorted(home.home.iterdir())
    into = ("store", "restore", str(tmp_path / "saved.db"), "--into", url)
    dry = home(*into, "--dry-run")
    assert "from a backup that reaches position 3" in dry.out
    assert "tasks to be withdrawn: 1" in dry.out
    assert "kept" not in dry.out
    with postgres_server.admin(postgres_database) as connection:
        found = connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'capx'").fetchone()
    assert found == (0,)
    done = home(*into, "--json").json
    assert (done["position"], done["replaced"], done["kept"], len(done["withdrawn"])) == (5, None, None, 1)
    assert sorted(home.home.iterdir()) == before
    with closing(open_store(url)) as there, there.read() as reading:
        assert reading.head().position == 5


def test_a_lost_store_is_brought_back_into_the_home_of_its_keys(home: Shell, tmp_path: Path) -> None:
    home("task", "open", "--allow", "crm.read")
    home("store", "backup", str(tmp_path / "saved.db"))
    for name in ("capx.db", "capx.db-wal", "capx.db-shm"):
        (home.home / name).unlink(missing_ok=True)
    assert "restore" in home("init", code=3).err
    home("store", "restore", str(tmp_path / "saved.db"))
    assert [task["state"] for task in home("task", "list", "--json").json] == ["withdrawn"]


def test_a_backup_of_another_authority_is_refused_beside_keys(home: Shell, tmp_path: Path) -> None:
    backup, mine = tmp_path / "other.db", home.home / "root.keys"
    with Authority.create_home(tmp_path / "other") as other:
        other.open(allow=["crm.read"])
        store_backup(other.store, backup)
        authority = other.id
    for options in ((), ("--dry-run",)):
        said = home("store", "restore", str(backup), "--yes", *options, code=3).err
        assert "this backup is of another authority than the keys in" in said
    # The keys of that authority are lost: restore without any, and make new ones.
    mine.rename(tmp_path / "mine.keys")
    home("store", "restore", str(backup), "--yes")
    home("init")
    assert KeyRing.load(mine).authority == authority
    home("doctor")


def test_a_restored_store_is_still_that_of_its_authority(home: Shell, tmp_path: Path) -> None:
    saved, keys = str(tmp_path / "saved.db"), tmp_path / "crm.keys"
    home("keys", "export", "crm", "--out", str(keys))
    home("task", "open", "--allow", "crm.read")
    home("store", "backup", saved)
    home("store", "restore", saved, "--yes")
    for empty in (False, True):
        if empty:
            for file in home.home.glob("capx.db*"):
                file.unlink()
            home("store", "restore", saved)
        home("doctor")
        connect(AudienceKeys.load(keys), store=str(home.home / "capx.db")).close()
