"""Who can write the store and has no root key gets nothing minted that the untouched store would not give.

The stores, the keys, the signatures and the authority are real; the clock is the test's own.
"""

import sqlite3
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import copy
from os import urandom
from typing import Any

import psycopg
import pytest
from msgspec import structs

from capx.authority.row_guard import check_marks, replace_marks
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import CapxError, InvalidRequest, StoreProblem
from capx.intents.principal_key import PrincipalKey
from capx.store.factory import create_store, open_store
from capx.store.row_marks import MARK_BYTES, ChangedRow
from capx.tokens.chain import root_node
from capx.verify.ask import Granted
from capx_caveats import JSON, action, anything, budget
from tests.labs.counts import NIGHTLY
from tests.labs.granting_lab import ANA, GrantingLab, rule
from tests.labs.keyed import PLANNER
from tests.labs.lab import Clock
from tests.labs.postgres import shared_server
from tests.labs.tampering import MARKED, Behind, Rows, others

READ, QUERY, EXPORT, PAY = "crm.read", "warehouse.query", "warehouse.export", "bank.pay"
RULES = (
    rule("at_open", READ),
    rule("on_request", "warehouse.*"),
    rule("ask", action(PAY, to=anything(), amount=anything()), pinned=None),
)
Args = Mapping[str, JSON]
MILLION: Args = {"to": "mallory", "amount": 1_000_000}


class World:
    """A store in which something of each kind has happened, and what can be tried with what came out of it."""

    def __init__(self, place: str) -> None:
        self.place, self.clock = place, Clock()
        self.keys = KeyRing(RootKey(bytes(range(32))), [RootKey(bytes(range(1, 33)))])
        create_store(place).close()
        self.older = list[dict[str, Rows]]()
        with self.authority() as lab:
            self._live(lab)
        with self.behind() as behind:
            self.whole = behind.save()

    @contextmanager
    def authority(self) -> Generator[GrantingLab]:
        """A new process of the authority."""
        lab = GrantingLab(*RULES, clock=self.clock, store=open_store(self.place), keyring=self.keys)
        with lab.authority:
            yield lab

    @contextmanager
    def behind(self) -> Generator[Behind]:
        with Behind(self.place) as behind:
            yield behind

    def _live(self, lab: GrantingLab) -> None:
        self.attested, self.used = lab.intent(max_tasks=3), lab.intent(statement="Once.", max_tasks=1)
        self.withdrawn, self.spare = lab.intent(statement="Not any more.", max_tasks=5), lab.intent(statement="Spare.")
        task = lab.authority.open(self.attested, attested="the login")
        self.bundle, self.task = task.bundle, task.id
        # Another token of the same agent, and an agent below it that is revoked.
        self.narrowed = task.bundle.attenuate(budget("calls", 1_000))
        self.revoked = task.bundle.delegate(to="sub", allow=[READ], may_ask=[QUERY], now=int(self.clock.now))
        once = lab.authority.open(ANA.sign_intent(self.used))
        self.ended, self.ended_bundle = once.id, once.bundle
        lab.authority.open(self.withdrawn, attested="the login")
        lab.granted(self.bundle, QUERY)
        self.requests = {
            name: lab.pending(self.bundle, PAY, self.args(name)).request
            for name in ("pending", "approved", "denied", "granted", "fallen")
        }
        self._remember()
        for name in ("approved", "granted", "fallen"):
            lab.decide(self.requests[name])
        lab.decide(self.requests["denied"], yes=False)
        self._remember()
        lab.granted(self.bundle, PAY, self.args("granted"))
        fallen = lab.granted(self.bundle, PAY, self.args("fallen"))
        lab.authority.revoke(fallen.ids[0])
        lab.authority.revoke(lab.granted(self.bundle, EXPORT).ids[0])
        node = self.revoked.node
        assert node is not None
        self.node = node
        lab.authority.revoke(node)
        lab.authority.complete(self.ended)
        self._remember()
        lab.authority.withdraw_intent(self.withdrawn.digest)

    def _remember(self) -> None:
        with self.behind() as behind:
            self.older.append(behind.save())

    @staticmethod
    def args(name: str) -> Args:
        return {"to": name, "amount": 10}

    def minted(self, lab: GrantingLab) -> set[str]:
        """What this authority mints, in words that are the same each time."""
        authority, found = lab.authority, set[str]()
        for name, intent in (("attested", self.attested), ("withdrawn", self.withdrawn), ("spare", self.spare)):
            with suppress(CapxError):
                authority.open(intent, attested="the login")
                found.add(f"opened {name}")
        with suppress(CapxError):
            authority.open(ANA.sign_intent(self.used))
            found.add("opened again what was used up")
        for id_ in (self.task, self.ended):
            with suppress(CapxError):
                (one,) = authority.mint(id_, allow=["files.read"])
                found.add(f"minted for {one.task}: {[caveat.sentence() for caveat in one.caveats[0]]}")
        bundles = {
            "bundle": self.bundle,
            "narrowed": self.narrowed,
            "revoked": self.revoked,
            "ended": self.ended_bundle,
        }
        pays = {"bundle": tuple(self.requests), "narrowed": ("denied", "fallen")}
        for who, bundle in bundles.items():
            asks: list[tuple[str, Args | None]] = [(QUERY, None), (EXPORT, None)]
            asks += [(PAY, self.args(name)) for name in pays.get(who, ())]
            for what, args in asks:
                with suppress(CapxError):
                    answer = lab.ask(bundle, what, args)
                    if isinstance(answer, Granted):
                        # Without the counters: those of a next round have other names.
                        block = [one.sentence() for one in answer.capability.caveats[0]]
                        found.add(f"granted to {who}: {what} {args} {block}")
        return found


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def lived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if request.param == "sqlite":
        yield World(str(tmp_path_factory.mktemp("world") / "capx.db"))
        return
    database = shared_server().database()
    yield World(shared_server().url(database))
    shared_server().give_back(database)


@pytest.fixture
def world(lived: World) -> World:
    """The world as it was when it had lived, whatever a test before has done to it."""
    with lived.behind() as behind:
        behind.put_back(lived.whole)
    world = copy(lived)
    world.clock = Clock(lived.clock.now)
    return world


def test_no_change_of_one_row_lets_more_be_minted(world: World) -> None:
    with world.behind() as behind:
        whole = behind.save()
        with world.authority() as lab:
            honest = world.minted(lab)
        assert any("granted" in one for one in honest)
        assert any("opened" in one for one in honest)
        assert not any("1000000" in one or "again" in one for one in honest)
        for what, table, row, other in changes(behind, whole, world.older):
            behind.put_back(whole)
            try:
                behind.replace(table, row, other)
            except (sqlite3.Error, psycopg.Error):
                # The database itself refuses it.
                continue
            with world.authority() as lab:
                assert world.minted(lab) <= honest, what


def changes(
    behind: Behind, whole: dict[str, Rows], older: list[dict[str, Rows]]
) -> Iterator[tuple[str, str, tuple[Any, ...], tuple[Any, ...]]]:
    """Each row of before, and each row with one column of another row, of before, or made up."""
    for table in MARKED:
        names = behind.columns(table)
        keys = {row[:2]: row for row in whole[table]}
        for earlier in older:
            for row in earlier[table]:
                if (now := keys.get(row[:2])) is not None and now != row:
                    yield f"an older row of {table}: {row}", table, now, row
        cases = [
            (f"{table}.{names[at]} of {row} set to {value!r:.200}", table, row, (*row[:at], value, *row[at + 1 :]))
            for at in range(len(names))
            for row in whole[table]
            for value in others(at, row, whole[table])
        ]
        yield from cases if NIGHTLY else one_of_each(cases)


Case = tuple[str, str, tuple[Any, ...], tuple[Any, ...]]


def one_of_each(cases: list[Case]) -> list[Case]:
    """One case of each column: the first of the first column, the second of the second, and so on."""
    columns = dict[str, list[Case]]()
    for case in cases:
        columns.setdefault(case[0].partition(" ")[0], []).append(case)
    return [found[nth % len(found)] for nth, found in enumerate(columns.values())]


def test_no_row_that_is_made_up_or_removed_lets_more_be_minted(world: World) -> None:
    with world.behind() as behind:
        whole = behind.save()
        with world.authority() as lab:
            honest = world.minted(lab)
        for table in MARKED:
            for row in whole[table]:
                behind.put_back(whole)
                behind.delete(table, row)
                with world.authority() as lab:
                    assert world.minted(lab) <= honest, f"without {row} of {table}"
        # The row of a task on an intent that nobody has opened, and of an intent that counts no opening.
        behind.put_back(whole)
        columns = behind.columns("intents")
        (row,) = [one for one in whole["intents"] if world.used.digest in one]
        forged = {**dict(zip(columns, row, strict=True)), "opened": 0}
        behind.replace("intents", row, tuple(forged.values()))
        with world.authority() as lab:
            assert world.minted(lab) <= honest


def test_a_request_that_is_set_to_granted_is_not_minted(world: World) -> None:
    with world.authority() as lab:
        million = lab.pending(world.bundle, PAY, MILLION)
        with world.behind() as behind:
            granted = {"minted_under": world.keys.active.kid, "nonce": b64u(b"n" * 16), "minted": int(world.clock.now)}
            behind.request(million.request, state="granted", capability=b64u(b"c" * 16), **granted)
        with pytest.raises(ChangedRow, match="does not bear the mark"):
            lab.ask(world.bundle, PAY, MILLION)
        with pytest.raises(StoreProblem, match=million.request):
            lab.authority.check()


def test_a_request_that_names_a_rogue_consent_is_not_minted(world: World) -> None:
    rogue = PrincipalKey.generate("bob")
    with world.authority() as lab:
        million = lab.pending(world.bundle, PAY, MILLION)
        verdict = lab.verdict(million.request, rogue)
        with world.behind() as behind:
            said = {"approver": "bob", "signed": verdict.at, "answered": verdict.at, "signature": verdict.signature}
            behind.request(million.request, state="approved", **said)
        with pytest.raises(ChangedRow):
            lab.ask(world.bundle, PAY, MILLION)


def test_a_grant_is_given_again_only_while_its_consent_counts(world: World) -> None:
    with world.authority() as lab:
        args = world.args("granted")
        first = lab.granted(world.bundle, PAY, args)
        assert lab.granted(world.bundle, PAY, args).text == first.text
        # Bob has another key now: what the old one signed counts no more.
        principal = lab.policy.principals["bob"]
        fresh = structs.replace(principal, key=lab.policy.principals["cara"].key)
        lab.policy = structs.replace(lab.policy, principals={**lab.policy.principals, "bob": fresh})
        lab.pending(world.bundle, PAY, args)


def test_a_task_that_names_another_intent_gets_nothing_by_it(world: World) -> None:
    """Even with a right mark: whoever has a root key of another authority, or a flaw in the marks, gets no further."""
    with world.authority() as lab:
        other = lab.authority.open(world.spare, attested="the login")
        assert other.intent is not None
        with world.behind() as behind:
            behind.do("UPDATE tasks SET intent = ? WHERE id = ?", other.intent, world.task)
        with pytest.raises(ChangedRow, match="does not bear the mark"):
            lab.ask(world.bundle, QUERY)
        with lab.authority.store.write() as transaction:
            for row in transaction.marked_rows("tasks"):
                transaction.put_mark(row, world.keys.active.row_mark(row.table, row.id, row.fields))
            for row in transaction.marked_rows("intents"):
                transaction.put_mark(row, world.keys.active.row_mark(row.table, row.id, row.fields))
        with pytest.raises(ChangedRow, match=r"another intent|older one"):
            lab.ask(world.bundle, QUERY)


@pytest.mark.parametrize("what", ["deleted", "of another key"])
def test_a_revocation_that_was_taken_back_is_remembered(world: World, what: str) -> None:
    with world.authority() as lab:
        lab.ask(world.bundle, QUERY)
        with world.behind() as behind:
            # In SQLite one column holds the key; in PostgreSQL one of two.
            key = "key" if "key" in behind.columns("deaths") else "id"
            if what == "deleted":
                behind.do(f"DELETE FROM deaths WHERE {key} = ?", world.node)
            else:
                behind.do(f"UPDATE deaths SET {key} = ? WHERE {key} = ?", b"x" * 16, world.node)
        assert not any("granted to revoked" in one for one in world.minted(lab))
        with pytest.raises(StoreProblem):
            lab.authority.check()


def test_a_store_that_went_back_mints_nothing(world: World) -> None:
    with world.behind() as behind:
        before = behind.save()
        with world.authority() as lab:
            lab.open()
            behind.put_back(before)
            with pytest.raises(StoreProblem, match="went back"):
                lab.open()
            with pytest.raises(StoreProblem, match="went back"):
                lab.authority.mint(world.task, allow=["files.read"])
            # To end something is possible all the same.
            assert lab.authority.complete(world.task).end == "completed"


def test_ends_need_no_marks(world: World) -> None:
    with world.authority() as lab:
        with world.behind() as behind:
            for table in MARKED:
                behind.do(f"UPDATE {table} SET mark = NULL")
        assert lab.authority.revoke(world.node).killed[0].again
        assert lab.authority.withdraw_intent(world.attested.digest).tasks[0].end == "withdrawn"
        assert lab.authority.complete(world.task).again
        world.clock.now += 100_000
        lab.authority.prune()
        assert not world.minted(lab)


def test_an_intent_is_withdrawn_while_a_row_of_a_task_is_gone(world: World) -> None:
    with world.authority() as lab, world.behind() as behind:
        (row,) = [row for row in behind.rows("tasks") if world.ended in row]
        behind.delete("tasks", row)
        assert not lab.authority.withdraw_intent(world.used.digest).again
        assert lab.authority.withdraw_intent(world.used.digest).again
        behind.insert("tasks", row)
        lab.authority.check()
        assert lab.authority.withdraw_intent(world.used.digest).again


def test_an_expired_task_gets_nothing_whatever_its_row_says(world: World) -> None:
    with world.authority() as lab, world.behind() as behind:
        world.clock.now += 26 * 3_600
        for state in ("active", "completed", "anything"):
            behind.do("UPDATE tasks SET state = ? WHERE id = ?", state, world.task)
            with pytest.raises(InvalidRequest):
                lab.authority.mint(world.task, allow=["files.read"])


@pytest.mark.parametrize("end", ["complete", "withdraw", "the intent", "where"])
def test_a_task_whose_row_says_that_it_ended_is_ended(world: World, end: str) -> None:
    with world.authority() as lab:
        principal = lab.authority.task(world.task).principal
        assert principal is not None
        with world.behind() as behind:
            behind.do("UPDATE tasks SET state = 'completed', ended = 1 WHERE id = ?", world.task)
        if end == "complete":
            assert not lab.authority.complete(world.task).again
        elif end == "withdraw":
            assert not lab.authority.withdraw(world.task).again
        elif end == "the intent":
            assert world.task in {one.task for one in lab.authority.withdraw_intent(world.attested.digest).tasks}
        else:
            assert lab.authority.revoke(where={"principal": principal}).killed
        with lab.authority.store.read() as reading:
            task = reading.task(world.task)
            assert task is not None
            assert reading.deaths_of((task.id, root_node(task.root)))


def test_a_key_is_retired_only_after_rows_got_another_mark(world: World) -> None:
    old, new = world.keys.kids
    world.keys = world.keys.activated(new)
    with world.authority() as lab:
        honest = lab.granted(world.bundle, QUERY)
        with world.behind() as behind:
            behind.do("UPDATE tasks SET expires = expires + 1 WHERE id = ?", world.ended)
        with lab.authority.store.write() as transaction:
            replace_marks(transaction, world.keys, of=old)
        with lab.authority.store.read() as reading:
            kids = {row.id: row.kid for row in reading.marked_rows("tasks")}
        # A row that somebody changed gets no mark by this.
        assert kids[world.ended] == old
        assert kids[world.task] == new
        assert honest.kid == old


def test_the_check_names_rows_and_counts_those_of_other_keys(world: World) -> None:
    with world.authority() as lab:
        lab.authority.check()
        with lab.authority.store.read() as reading:
            assert check_marks(reading, world.keys) == 0
            # They have minted: so the log names them.
            assert check_marks(reading, KeyRing(RootKey(bytes(range(2, 34))))) > 10
        with world.behind() as behind:
            behind.do("UPDATE intents SET proof = 'attested: nobody' WHERE digest = ?", world.attested.digest)
        with pytest.raises(ChangedRow, match=world.attested.digest):
            lab.authority.check()


def test_the_check_finds_a_flip_of_any_byte_of_a_mark(world: World) -> None:
    with world.authority() as lab, world.behind() as behind:
        for table in MARKED:
            column = behind.columns(table).index("mark")
            row = behind.rows(table)[0]
            for at in range(MARK_BYTES):
                flipped = bytearray(row[column])
                flipped[at] ^= 1
                changed = (*row[:column], bytes(flipped), *row[column + 1 :])
                behind.replace(table, row, changed)
                with pytest.raises(ChangedRow, match="mark"):
                    lab.authority.check()
                behind.replace(table, changed, row)
        lab.authority.check()


def test_marks_of_a_lost_key_are_known_once_it_is_revoked(world: World) -> None:
    lost = RootKey(bytes(range(3, 35)))
    with world.authority() as lab:
        with lab.authority.store.write() as transaction:
            replace_marks(transaction, KeyRing(lost, [world.keys.active]), of=world.keys.active.kid)
        with pytest.raises(ChangedRow, match=f"{lost.kid}.*capx revoke --kid"):
            lab.authority.check()
        lab.authority.revoke(kid=lost.kid)
        lab.authority.check()


@pytest.mark.parametrize("column", ["node", "revocations"])
def test_the_check_finds_a_task_that_counts_or_is_found_wrong(world: World, column: str) -> None:
    with world.authority() as lab:
        path = next(iter(world.bundle)).path
        lab.authority.revoke_below(world.task, path, ["BBBBBBBBBBA"])
        lab.authority.check()
        for value in [b"x" * 16] if column == "node" else [0, 2]:
            with world.behind() as behind:
                behind.do(f"UPDATE tasks SET {column} = ? WHERE id = ?", value, world.task)
            with pytest.raises(ChangedRow, match=world.task):
                lab.authority.check()


@pytest.mark.parametrize(("column", "value"), [("task", "x"), ("node", "x"), ("state", "expired"), ("asked", 0)])
def test_the_check_finds_a_request_under_other_values(world: World, column: str, value: str | int) -> None:
    with world.authority() as lab:
        with world.behind() as behind:
            behind.do(f"UPDATE requests SET {column} = ? WHERE id = ?", value, world.requests["pending"])
        with pytest.raises(ChangedRow, match="is found by other values"):
            lab.authority.check()


def test_what_others_do_meanwhile_is_no_lost_state(world: World) -> None:
    problems = list[Exception]()
    with world.authority() as lab, ThreadPoolExecutor() as pool:
        lab.granted(world.bundle, QUERY)

        def ask() -> None:
            # Some of these asks meet such a change.
            for _ in range(200 if NIGHTLY else 80):
                try:
                    lab.ask(world.bundle, QUERY)
                except StoreProblem as problem:
                    problems.append(problem)

        asking = [pool.submit(ask) for _ in range(3)]
        while not all(one.done() for one in asking):
            opened = lab.authority.open(lab.intent(statement=b64u(urandom(8))), attested="the login")
            lab.authority.complete(opened.id)
        for one in asking:
            one.result()
    assert problems == []


@pytest.mark.parametrize("column", ["root", "expires", "tenant", "purpose", "principal", "holder"])
def test_a_changed_task_is_not_minted_for(world: World, column: str) -> None:
    other = {"expires": 2**40, "holder": PLANNER.public}.get(column, "x")
    with world.authority() as lab, world.behind() as behind:
        behind.do(f"UPDATE tasks SET {column} = ? WHERE id = ?", other, world.task)
        with pytest.raises(ChangedRow, match="does not bear the mark"):
            lab.authority.mint(world.task, allow=["files.read"])


@pytest.mark.parametrize("end", ["complete", "upkeep"])
def test_a_task_that_is_made_active_again_has_no_second_end(world: World, end: str) -> None:
    with world.authority() as lab:
        position = lab.authority.complete(world.task).position
        with world.behind() as behind:
            behind.do("UPDATE tasks SET state = 'active', ended = NULL, position = NULL WHERE id = ?", world.task)
        if end == "complete":
            ended = lab.authority.withdraw(world.task)
            assert (ended.end, ended.position, ended.again) == ("completed", position, True)
        else:
            world.clock.now += 26 * 3_600
            lab.authority.end_overdue()
        assert lab.authority.task(world.task).state == "completed"
        lab.authority.check()


def test_an_end_that_was_taken_back_is_remembered(world: World) -> None:
    with world.authority() as lab, world.behind() as behind:
        lab.authority.complete(world.task)
        with suppress(StoreProblem):
            lab.open()
        key = "key" if "key" in behind.columns("deaths") else "name"
        behind.do(f"DELETE FROM deaths WHERE {key} = ?", world.task)
        behind.do("UPDATE tasks SET state = 'active', ended = NULL, position = NULL WHERE id = ?", world.task)
        with pytest.raises(StoreProblem, match="lost the revocation"):
            lab.authority.mint(world.task, allow=["files.read"])
