"""`capx store`, and homes whose store is elsewhere."""

import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.store.sqlite.schema import VERSION
from capx.tokens.binding import ToolCall
from capx_caveats import Call, Refusal
from tests.cli.conftest import Shell
from tests.labs import next_capx
from tests.labs.postgres import Server


def test_a_home_with_its_store_in_a_database_works_as_any_other(
    capx: Shell, postgres_server: Server, postgres_database: str
) -> None:
    said = capx("init", "--store", postgres_server.url(postgres_database))
    assert "store.place says where its store is" in said.out
    assert sorted(file.name for file in capx.home.iterdir()) == ["root.keys", "store.place"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in capx.home.iterdir()} == {0o600}
    assert "already holds an authority" in capx("init", code=3).err
    token = capx("task", "open", "--tenant", "Acme", "--allow", "crm.read").token
    assert not capx.decide(token, "crm.write", "Acme").allowed
    assert capx("why", "last").out.startswith("DENIED  crm.write at crm")
    capx("task", "complete", "last")
    found = {finding["what"]: finding for finding in capx("doctor", "--json").json}
    assert found["store"]["state"] == found["log"]["state"] == "ok"
    assert "which answers" in found["store"]["says"]


def test_a_creation_cut_short_is_finished_a_used_store_refused(
    capx: Shell, postgres_server: Server, postgres_database: str, tmp_path: Path
) -> None:
    url = postgres_server.url(postgres_database)
    capx("init", "--store", url)
    (capx.home / "root.keys").unlink()
    capx("init")
    capx("task", "open", "--allow", "crm.read")
    (capx.home / "root.keys").unlink()
    assert "copy the home that holds its root keys" in capx("init", code=3).err
    said = capx("init", "--store", url, code=3, CAPX_HOME=str(tmp_path / "other"))
    assert "copy the home that holds its root keys" in said.err


def test_a_password_in_the_place_is_nobodys_to_read(
    capx: Shell, postgres_server: Server, postgres_database: str, tmp_path: Path
) -> None:
    with postgres_server.admin() as connection:
        connection.execute("ALTER ROLE capx_owner PASSWORD 'hush-7'")
    url = postgres_server.tcp_url(postgres_database, "capx_owner", "hush-7")
    file = tmp_path / "url"
    file.write_text(f"{url}\n")
    said = capx("init", "--store-file", str(file))
    saids = [said, capx("doctor"), capx("store", "stats"), capx("store", "check", "--json"), capx("task", "list")]
    (capx.home / "store.place").write_text(url.replace(postgres_database, "gone"))
    saids += [capx("doctor", code=3), capx("store", "check", code=3), capx("log", code=3)]
    assert all("hush-7" not in each.out + each.err for each in saids)
    (capx.home / "store.place").chmod(0o644)
    assert "chmod 600" in capx("task", "list", code=3).err


def test_two_stores_in_one_home_are_refused(home: Shell) -> None:
    (home.home / "store.place").write_text("postgresql://nowhere/x\n")
    (home.home / "store.place").chmod(0o600)
    for args in (("task", "list"), ("store", "check"), ("store", "backup", "x.db")):
        assert "move away the one that is wrong" in home(*args, code=3).err


@pytest.mark.parametrize("text", ["", "\n", "a\nb", "x" * 5000, "/tmp/elsewhere.db"])
def test_a_place_that_names_no_store_is_said_to(capx: Shell, text: str) -> None:
    capx("init")
    (capx.home / "capx.db").rename(capx.home / "away.db")
    (capx.home / "store.place").write_text(text)
    (capx.home / "store.place").chmod(0o600)
    said = capx("task", "list", code=3).err
    assert "does not name a store" in said or "there is no store at /tmp/elsewhere.db" in said


def test_a_place_that_is_no_database_is_refused_at_init(capx: Shell, tmp_path: Path) -> None:
    assert "set CAPX_HOME to its folder" in capx("init", "--store", str(tmp_path / "x.db"), code=3).err
    assert not (capx.home / "root.keys").exists()
    assert "cannot be reached" in capx("init", "--store", f"postgresql://u@/d?host={tmp_path}", code=3).err
    assert not (capx.home / "root.keys").exists()
    capx("init")


def test_a_whole_store_says_where_it_ends_a_broken_one_where(home: Shell) -> None:
    home("task", "open", "--allow", "crm.read")
    said = home("store", "check", "--json").json
    assert (said["whole"], said["position"]) == (True, 3)
    assert home("store", "check").out == f"whole, up to position 3, hash {said['hash']}\n"
    with closing(sqlite3.connect(home.home / "capx.db")) as store, store:
        store.execute("UPDATE events SET body = replace(body, 'crm', 'crn') WHERE position = 2")
    broken = home("store", "check", code=3)
    assert "the log is broken at position 2: its hash does not match" in broken.err
    assert broken.out == ""
    said = home("store", "check", "--json", code=3).json
    assert (said["whole"], said["position"]) == (False, 2)


def test_a_store_is_checked_without_its_root_keys(home: Shell) -> None:
    (home.home / "root.keys").rename(home.home / "away")
    for args in (("check",), ("stats",), ("backup", str(home.home / "saved.db"))):
        home("store", *args)


def test_what_a_store_holds_is_counted(kept: Shell) -> None:
    token = kept("task", "open", "--allow", "crm.read").token
    kept("task", "open", "--allow", "crm.read")
    kept("task", "complete", "last")
    kept.decide(token, "crm.read")
    said = kept("store", "stats", "--json").json
    assert (said["events"], said["decisions"]) == (8, 1)
    assert said["tasks"] == {"active": 1, "completed": 1}
    assert said["deaths"] == {"kept": 1, "forgotten": 0}
    assert "1 active, 1 completed" in kept("store", "stats").out


def test_pruning_forgets_deaths_and_never_the_log(kept: Shell) -> None:
    with Authority.open_home(kept.home, clock=lambda: 1_000_000_000) as long_ago:
        long_ago.complete(long_ago.open(allow=["crm.read"]).id)
        long_ago.revoke(kid="AAAAAAAAAAA")
    # What is forgotten goes by an event that is a day old.
    with Authority.open_home(kept.home, clock=lambda: 1_000_100_000) as later:
        later.complete(later.open(allow=["crm.read"]).id)
    before = kept("log").out
    assert kept("store", "prune", "--json").json["deaths"] == 2
    assert kept("log").out == before
    assert kept("store", "stats", "--json").json["deaths"] == {"kept": 2, "forgotten": 2}
    kept("store", "check")
    assert "forgot 0 deaths" in kept("store", "prune").out


def test_a_store_of_an_older_schema_is_migrated_where_it_says_so(home: Shell) -> None:
    home("task", "open", "--allow", "crm.read")
    assert home("store", "migrate", "--json").json == {"from": VERSION, "to": VERSION}
    assert "nothing to do" in home("store", "migrate").out
    home.command = next_capx.COMMAND
    assert "stop its services, then run capx store migrate" in home("task", "list", code=3).err
    # No key is needed: the rows keep their marks.
    (home.home / "root.keys").rename(home.home / "away")
    assert home("store", "migrate").out == f"from schema {VERSION} to {VERSION + 1}\n"
    (home.home / "away").rename(home.home / "root.keys")
    home("task", "list")
    said = home("store", "check").out
    assert "marks" not in said
    home.command = None
    assert "was written by a newer capx" in home("task", "list", code=3).err
    assert "was written by a newer capx" in home("store", "migrate", code=3).err


def test_the_role_of_a_resource_is_printed_as_sql_that_runs(
    capx: Shell, postgres_server: Server, postgres_database: str
) -> None:
    capx("init", "--store", postgres_server.url(postgres_database))
    name = f"role_{postgres_database}"
    sql = capx("store", "role", "crm", "--role", name).out
    with postgres_server.admin(postgres_database) as connection:
        connection.execute(sql.encode())
        held = connection.execute("SELECT audience FROM capx.resources WHERE role = %s", [name]).fetchall()
        assert held == [("crm",)]
        connection.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"'.encode())
    assert capx("store", "role", "crm", "--json").json["audience"] == "crm"
    assert "reserved" in capx("store", "role", "authority", code=2).err


def test_old_decisions_are_archived_and_still_found(home: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    with Authority.open_home(home.home) as authority:
        task = authority.open(allow=["crm.read"], tenant="Acme", expires="4s")
        verifier = authority.verifier("crm", record=["ticket"])
        decided = verifier.denial(Refusal("expired", "never")).decision
        for nth in range(300):
            received = ToolCall("crm.read", {"ticket": f"T-{nth}"})
            text = task.bundle.present("crm", received).text
            decided = verifier.decide(text, received, Call("crm.read", received.args, tenant="Acme"))
        authority.complete(task.id)
        assert authority.flush()
    time.sleep(4.1)
    home("task", "open", "--allow", "crm.read")
    said = home("store", "archive", str(folder), "--older-than", "1s")
    assert "events 1 to 256 are archived" in said.out
    assert "decisions have left the store" in said.out
    assert "nothing more can be archived" in home("store", "archive", str(folder), "--older-than", "1s").out
    home("store", "check")
    home("checkpoint", "check")
    key = home("checkpoint", "key").out.strip()
    home("ledger", "verify", str(folder / "log-000000000001.jsonl"), "--key", key)
    assert home("find", "--arg", "ticket=T-5", "--json", code=1).json == []
    (found,) = home("find", "--arg", "ticket=T-5", "--archive", str(folder), "--json").json
    assert found["shown_args"] == {"ticket": "T-5"}
    assert home("find", "--decision", found["id"], "--archive", str(folder), "--json").json[0]["id"] == found["id"]
    assert len(home("find", "--task", task.id, "--archive", str(folder), "--limit", "7", "--json").json) == 7
    assert "is in the archive: give its folder with --archive" in home("why", found["id"], code=2).err
    assert "ALLOWED  crm.read" in home("why", found["id"], "--archive", str(folder)).out
    receipt = home("why", found["id"], "--archive", str(folder), "--receipt").out
    assert receipt.startswith("c2sp.org/tlog-proof@v1")
    assert "is in the archive" in home("log", "--limit", "all").out
    assert "may be in the archive: name its folder" in home("proof", "export", task.id, code=2).err
    proof = tmp_path / "old.proof"
    disclose = ("--disclose", f"{found['id']}={tmp_path / 'args.json'}")
    (tmp_path / "args.json").write_text('{"ticket": "T-5"}')
    home("proof", "export", task.id, "--archive", str(folder), *disclose, "--out", str(proof))
    trust = tmp_path / "trust.keys"
    trust.write_text(home("proof", "trust").out)
    report = home("proof", "verify", str(proof), "--trust", str(trust), "--json").json
    assert len(report["decisions"]) == 300
    assert decided.id in {one["id"] for one in report["decisions"]}
    assert home("store", "archive", str(tmp_path / "none"), code=2).err
