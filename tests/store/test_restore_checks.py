"""A crafted backup is refused; whatever capx writes can be brought back."""

import contextlib
import sqlite3
import time
from decimal import Decimal
from pathlib import Path

import pytest

from capx.authority.authority import Authority
from capx.authority.restore import restore
from capx.crypto.base64url import b64u
from capx.errors import BrokenLog, StoreProblem
from capx.store.backup import backup
from capx.store.factory import open_store
from capx.store.records import DecisionRecord
from capx.store.sqlite.store import SQLiteStore
from capx.verify.meter import Spend
from capx_caveats import budget
from tests.labs.payers import payer
from tests.labs.restoring import KEYS, LEAKED, an_intent, brought_back


def test_a_tampered_backup_is_refused_and_changes_nothing(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    opened = authority.open(allow=["crm.read"])
    backup(authority.store, saved)
    with contextlib.closing(sqlite3.connect(saved)) as connection, connection:
        connection.execute("UPDATE events SET body = replace(body, 'crm', 'crn') WHERE position = 2")
    for dry_run in (True, False):
        with pytest.raises(BrokenLog) as broken:
            restore(saved, place, dry_run=dry_run)
        assert broken.value.position == 2
    assert authority.task(opened.id).state == "active"


def replaced_by_a_view(table: str, columns: str) -> str:
    return f"ALTER TABLE {table} RENAME TO hidden; CREATE VIEW {table} AS SELECT {columns} FROM hidden"


ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"


CRAFTED = {
    "an amount that is none": ("UPDATE counters SET spent = 'abc'", "not an amount|an invalid amount"),
    "an amount that is no number": ("UPDATE counters SET spent = 'sNaN'", "not an amount|an invalid amount"),
    "an amount below nothing": ("UPDATE counters SET spent = '-1000'", "not an amount|an invalid amount"),
    "an amount without end": ("UPDATE counters SET spent = '1E+999999999999'", "not an amount|an invalid amount"),
    "an amount with a sign": ("UPDATE counters SET spent = '+1'", "not an amount|an invalid amount"),
    "a counter before all time": ("UPDATE counters SET last = -1", "is not a time"),
    "an epoch of many digits": ("UPDATE head SET epoch = epoch || printf('%05000d', 1)", "is not an epoch"),
    "an epoch to come": (
        "UPDATE head SET epoch = substr(epoch, 1, instr(epoch, '.')) || '9999999999999999'",
        "has not begun yet",
    ),
    "an epoch without a second": ("UPDATE head SET epoch = 'x'", "is not an epoch"),
    "an epoch that is bytes": ("UPDATE head SET epoch = CAST(x'ff' AS TEXT)", "is damaged|failed|UTF-8"),
    "a hash that is short": ("UPDATE head SET hash = x'00'", "is not the hash"),
    "less than nothing": ("UPDATE head SET deaths = -1", "is not a count"),
    "more forgotten than died": ("UPDATE head SET forgotten = deaths + 1", "is more than it has had"),
    "a state that is none": ("UPDATE tasks SET state = 'zombie'", "is not a state"),
    "an end of what is active": ("UPDATE tasks SET ended = 1", "is the end of an active task"),
    "an end that is none": ("UPDATE tasks SET state = 'completed'", "is not a time"),
    "an id that is none": ("UPDATE tasks SET id = 'a b'", "is not an id"),
    "a tenant that shows otherwise": ("UPDATE tasks SET tenant = char(8238)", "is not a name"),
    "a time that is none": ("UPDATE tasks SET expires = -5", "is not a time"),
    "somebody who shows otherwise": ("UPDATE tasks SET principal = char(8238)", "is not a name"),
    "a holder that is none": ("UPDATE tasks SET holder = 'planner'", "is not an agent's key"),
    "a holder of whom anybody could sign": (
        "UPDATE tasks SET holder = 'ed25519:' || replace(hex(zeroblob(21)), '0', 'A') || 'A'",
        "is not an agent's key",
    ),
    "a task on an intent that is none": ("UPDATE tasks SET intent = 'AAAA'", "is not (a|the) digest"),
    "an intent without a digest": ("UPDATE intents SET digest = 'AAAA'", "is not (a|the) digest"),
    "an intent under another digest": (
        "UPDATE intents SET digest = replace(hex(zeroblob(21)), '0', 'A') || 'A'",
        "is the digest of another document",
    ),
    "an intent that says more than was signed": (
        "UPDATE intents SET document = replace(document, '\"max_tasks\":2', '\"max_tasks\":9'), opened = 9",
        "is the digest of another document",
    ),
    "an intent that is laid out otherwise": (
        "UPDATE intents SET document = document || ' '",
        "is the digest of another document",
    ),
    "an intent that says something twice": (
        """UPDATE intents SET document = replace(document, '{"authority"', '{"nonce":"A","authority"')""",
        "holds an invalid intent",
    ),
    "an intent that is no JSON": ("UPDATE intents SET document = 'abc'", "holds an invalid intent"),
    "an intent of somebody else": ("UPDATE intents SET principal = 'ben'", "is not the principal of its document"),
    "a signature that is short": ("UPDATE intents SET proof = 'AAAA'", "is not a proof"),
    "an intent that nobody signed": ("UPDATE intents SET proof = NULL", "is not a proof"),
    "an intent that nobody attested": ("UPDATE intents SET proof = 'attested: '", "is not a proof"),
    "an intent that somebody hidden attested": (
        "UPDATE intents SET proof = 'attested: ' || char(8238)",
        "is not a proof",
    ),
    "more tasks than were asked for": ("UPDATE intents SET opened = 3", "is not a number of tasks"),
    "less than no task": ("UPDATE intents SET opened = -1", "is not a number of tasks"),
    "an intent that was withdrawn before all time": ("UPDATE intents SET withdrawn = -1", "is not a time"),
    "an intent unseen and opened": (
        "UPDATE intents SET document = NULL, proof = NULL, principal = NULL, withdrawn = 1",
        "belongs to an intent without a document",
    ),
    "an intent unseen and not withdrawn": (
        "UPDATE intents SET document = NULL, proof = NULL, principal = NULL, opened = 0",
        "is not a time",
    ),
    "an event before all time": ("UPDATE events SET at = -1 WHERE position = 1", "is not a time"),
    "an event of no kind": ("UPDATE events SET kind = '\x1b[2J' WHERE position = 1", "is not a kind"),
    "an event without its place": ("DELETE FROM events WHERE position = 2", "the log is broken at position 2"),
    "a death that nothing caused": (
        "INSERT INTO deaths VALUES (9, x'00', 'revoked', 1, 1)",
        "is not a key of a revocation",
    ),
    "a death that is a number": ("INSERT INTO deaths VALUES (9, 7, 'revoked', 1, 1)", "is not a key of a revocation"),
    "a death for another reason": ("INSERT INTO deaths VALUES (9, 'A', 'bored', 1, 1)", "is not a reason"),
    "a death of an instant to come": (
        "INSERT INTO deaths VALUES (9, 'issued:9999999999', 'revoked', 1, 1)",
        "is later than all that it could revoke",
    ),
    "a death of an instant beyond numbers": (
        "INSERT INTO deaths VALUES (9, 'issued:' || printf('%05000d', 1), 'revoked', 1, 1)",
        "is not a key of a revocation",
    ),
    "a death that the log does not know": (
        "INSERT INTO deaths VALUES (9, 'A', 'revoked', 1, 1)",
        "the log is broken at position 1",
    ),
    "a row of twenty megabytes": (
        "UPDATE events SET body = json_quote(hex(zeroblob(10000000))) WHERE position = 1",
        "too big",
    ),
    "text for a time": (replaced_by_a_view("events", "position, 'x' AS at, kind, body, hash"), "not a store of capx"),
    "nothing for a kind": (
        replaced_by_a_view("events", "position, at, NULL AS kind, body, hash"),
        "not a store of capx",
    ),
    "a number for an epoch": (
        replaced_by_a_view("head", "only_row, 5 AS epoch, position, hash, deaths, forgotten"),
        "not a store of capx",
    ),
    "tasks without end": (
        f"ALTER TABLE tasks RENAME TO hidden; CREATE VIEW tasks AS {ENDLESS} SELECT n AS id, n AS root, 1 AS opened, 2",
        "not a store of capx",
    ),
    "a table of one's own": ("CREATE TABLE mine (x)", "the table 'mine' differs"),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON deaths BEGIN DELETE FROM deaths; END", "the trigger 't' differs"),
    "a view": (f"CREATE VIEW v AS {ENDLESS} SELECT n FROM r", "the view 'v' differs"),
    "a missing index": ("DROP INDEX decisions", "the index decisions differs"),
    "a schema that was written by hand": (
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'deaths'",
        "damaged",
    ),
}


@pytest.mark.parametrize("craft", CRAFTED)
def test_a_crafted_backup_is_refused_and_changes_nothing(tmp_path: Path, saved: Path, craft: str) -> None:
    path = tmp_path / "capx.db"
    with Authority(SQLiteStore.create(path), KEYS) as authority:
        opened = authority.open(allow=["crm.read"], caveats=[budget("calls", 5)])
        authority.store.spend(payer(), [Spend("AAAA", "calls", Decimal(1), Decimal(5))], now=1)
        with authority.store.write() as writing:
            writing.keep_intent(an_intent())
        backup(authority.store, saved)
        crafting, said = CRAFTED[craft]
        with contextlib.closing(sqlite3.connect(saved)) as connection:
            with contextlib.suppress(sqlite3.IntegrityError):
                connection.executescript(crafting)
            connection.commit()
        before, files = list(authority.log()), sorted(tmp_path.iterdir())
        for dry_run in (True, False):
            with pytest.raises(StoreProblem, match=said):
                restore(saved, str(path), dry_run=dry_run)
        assert list(authority.log()) == before
        assert authority.task(opened.id).state == "active"
        assert [found for found in sorted(tmp_path.iterdir()) if found not in files] == []


def test_whatever_capx_writes_can_be_brought_back(
    authority: Authority, place: str, saved: Path, tmp_path: Path
) -> None:
    ends = [authority.open(allow=["crm.read"], tenant="Acmé 1", caveats=[budget("calls", "0.5")]) for _ in range(4)]
    authority.complete(ends[0].id)
    authority.withdraw(ends[1].id)
    authority.revoke(ends[2].root)
    authority.revoke(kid=LEAKED)
    authority.revoke(issued=int(time.time()) - 1)
    long_ago = Authority(open_store(place), KEYS, clock=lambda: 1_000_000_000)
    long_ago.complete(long_ago.open(allow=["crm.read"]).id)
    long_ago.close()
    authority.end_overdue()
    (token,) = [each for each in ends[3].bundle if each.audience == "authority"]
    with authority.store.write() as transaction:
        transaction.count_revocation(ends[3].id, token.path[-1], now=int(time.time()))
    authority.store.spend(
        payer(), [Spend("any\nname", "Of a resource", Decimal("0.000001"), Decimal(10**14))], now=int(time.time())
    )
    ids = [b64u(bytes([nth]) * 16) for nth in range(2)]
    authority.store.record([DecisionRecord(id_, nth, b'{"id":"%s"}' % id_.encode()) for nth, id_ in enumerate(ids)])
    authority.prune()
    head = backup(authority.store, saved)
    again = tmp_path / "again.db"
    done = brought_back(saved, place, tmp_path)
    assert done.backup == head
    backup(authority.store, again)
    restore(again, place)
    restore(saved, str(tmp_path / "new.db"))
