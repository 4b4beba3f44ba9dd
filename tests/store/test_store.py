"""What every kind of store must do: SQLite and PostgreSQL, each a real one."""

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal

import pytest
from msgspec import structs

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import StoreProblem
from capx.intents.epoch import authority_of, new_epoch
from capx.store.events import CapabilityMinted
from capx.store.factory import create_store, open_store
from capx.store.log import GENESIS, Place
from capx.store.protocols import Store
from capx.store.records import Burn, Counter, FollowerAck, Pruned, TaskRecord, Unwritable
from capx.tokens.chain import nodes, root_node
from capx.tokens.revocation_key import RevocationKey, of_instant, of_kid
from capx.verify.meter import Spend, Tally
from tests.labs.payers import payer
from tests.labs.store_writes import decision, head_of, kill, note, verified
from tests.store.conftest import KINDS, Places

NOW = 1_800_000_000
TASK = TaskRecord("task-1", "root-1", NOW, NOW + 60, tenant="Acme", purpose=None)


def spend(counter: str, cost: str, limit: str, unit: str = "calls") -> Spend:
    return Spend(counter, unit, Decimal(cost), Decimal(limit))


def test_a_new_store_begins_an_epoch_of_its_own(places: Places) -> None:
    first, second = head_of(places.create()), head_of(places.create())
    assert (first.position, first.hash, first.deaths, first.forgotten) == (0, GENESIS, 0, 0)
    assert authority_of(first.epoch) != authority_of(second.epoch)
    assert first.epoch == new_epoch(authority_of(first.epoch), int(first.epoch.partition(".")[2]))


def test_a_store_is_opened_again_by_its_place(store: Store, places: Places) -> None:
    note(store)
    assert head_of(places.again(store)) == head_of(store)
    assert store.place in repr(store)


def test_a_store_is_never_made_over_another(store: Store) -> None:
    note(store)
    with pytest.raises(StoreProblem, match="already"):
        create_store(store.place)
    assert verified(store).position == 1


def test_no_store_says_how_to_create_one(places: Places) -> None:
    with pytest.raises(StoreProblem, match="capx init"):
        open_store(places.empty())


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(StoreProblem, match="closed"):
        note(store)


def test_a_block_that_raises_leaves_nothing(store: Store) -> None:
    def interrupted() -> None:
        with store.write() as transaction:
            event = transaction.append("noted", b"{}", at=NOW)
            transaction.open_task(TASK)
            transaction.kill("task-1", "task_completed", at=NOW, position=event.position)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    with store.read() as reading:
        assert (reading.head().position, reading.head().deaths) == (0, 0)
        assert (list(reading.events()), reading.tasks(), list(reading.deaths())) == ([], [], [])
    assert note(store) == 1


def test_a_reader_sees_one_instant(store: Store) -> None:
    note(store)
    with store.read() as reading:
        assert reading.head().position == 1
        kill(store, "task-1")
        assert reading.head().position == 1
        assert (len(list(reading.events())), list(reading.deaths())) == (1, [])
    assert verified(store).position == 2


def test_a_writer_sees_what_it_wrote(store: Store) -> None:
    with store.write() as transaction:
        event = transaction.append("noted", b"{}", at=NOW)
        transaction.open_task(TASK)
        transaction.kill("task-1", "task_completed", at=NOW, position=1)
        assert transaction.head().place == Place(1, event.hash)
        assert transaction.head().deaths == 1
        assert list(transaction.events()) == [event]
        assert transaction.death("task-1") is not None
        assert transaction.task("task-1") == TASK


def test_a_reader_that_stops_half_way_holds_nothing_up(store: Store) -> None:
    for _ in range(3):
        note(store)
    with store.read() as reading:
        next(reading.events())
    assert note(store) == 4
    assert verified(store).position == 4


def test_threads_write_without_gaps(store: Store) -> None:
    def write() -> None:
        for _ in range(10):
            note(store)

    threads = [threading.Thread(target=write) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verified(store).position == 120


def test_a_forked_child_uses_connections_of_its_own(store: Store) -> None:
    note(store)
    source = store.source()
    known = source.news(None).head
    child = os.fork()
    if child == 0:
        verdict = 1
        try:
            verdict = 0 if note(store) == 2 and source.news(known).head.position == 2 else 1
        finally:
            os._exit(verdict)
    assert os.waitpid(child, 0)[1] == 0
    assert note(store) == 3
    assert source.news(known).head.position == 3
    assert verified(store).position == 3
    source.close()


def test_a_task_ends_once(store: Store) -> None:
    with store.write() as transaction:
        transaction.open_task(TASK)
        transaction.end_task("task-1", "completed", at=NOW + 1, position=7)
        transaction.end_task("task-1", "withdrawn", at=NOW + 2, position=8)
        task = transaction.task("task-1")
        assert task == transaction.rooted(root_node("root-1"))
        assert transaction.task("task-2") is None
        assert transaction.rooted(root_node("root-2")) is None
    assert task == structs.replace(TASK, state="completed", ended=NOW + 1, position=7)


def test_a_task_is_opened_once(store: Store) -> None:
    with store.write() as transaction:
        transaction.open_task(TASK)
    with pytest.raises(StoreProblem), store.write() as transaction:
        transaction.open_task(TASK)


def test_tasks_come_in_the_order_in_which_they_were_opened(store: Store) -> None:
    ids = ["z", "a", "m"]
    for id_ in ids:
        with store.write() as transaction:
            transaction.open_task(TaskRecord(id_, f"root-{id_}", NOW, NOW))
    with store.write() as transaction:
        transaction.end_task("z", "completed", at=NOW, position=1)
        assert [task.id for task in transaction.tasks()] == ids


def test_overdue_tasks_are_found_the_longest_overdue_first(store: Store) -> None:
    with store.write() as transaction:
        for id_, expires in (("a", NOW), ("b", NOW - 2), ("c", NOW + 1), ("d", NOW - 1)):
            transaction.open_task(TaskRecord(id_, f"root-{id_}", NOW - 9, expires))
        transaction.end_task("d", "completed", at=NOW, position=1)
        assert [task.id for task in transaction.overdue(NOW, 10)] == ["b", "a"]
        assert [task.id for task in transaction.overdue(NOW, 1)] == ["b"]
        assert transaction.overdue(NOW - 3, 10) == []


def test_revocations_are_counted_for_each_node_and_for_each_task(store: Store) -> None:
    with store.write() as transaction:
        transaction.open_task(TASK)
        counted = [transaction.count_revocation("task-1", node, now=NOW) for node in (b"a" * 16, b"b" * 16, b"a" * 16)]
        assert counted == [(1, 1), (1, 2), (2, 3)]
        assert transaction.count_revocation("task-2", b"a" * 16, now=NOW) == (3, 0)


def test_the_oldest_task_in_time_is_found_ended_or_not(store: Store) -> None:
    with store.write() as transaction:
        for id_, expires in (("gone", NOW), ("a", NOW + 2), ("b", NOW + 9)):
            transaction.open_task(TaskRecord(id_, f"root-{id_}", NOW - 9, expires))
        transaction.end_task("a", "completed", at=NOW, position=1)
        found = [transaction.oldest_unexpired(NOW + later) for later in (0, 2, 9)]
        assert [task and task.id for task in found] == ["a", "b", None]


def test_a_key_dies_once_and_deaths_are_numbered_without_gaps(store: Store) -> None:
    keys: list[RevocationKey] = [b"n" * 16, "task-1", b"n" * 16, "n" * 16]
    with store.write() as transaction:
        deaths = [transaction.kill(key, "revoked", at=NOW + i, position=i) for i, key in enumerate(keys)]
    assert [death.seq for death in deaths] == [1, 2, 1, 3]
    assert deaths[2] == deaths[0]
    with store.read() as reading:
        assert [death.key for death in reading.deaths()] == [b"n" * 16, "task-1", "n" * 16]
        assert [death.seq for death in reading.deaths(after=1)] == [2, 3]
        assert reading.head().deaths == 3
        assert reading.death("task-1") == deaths[1]
        assert reading.death(b"task-1") is None


@pytest.mark.parametrize("others", [0, 1_300])
def test_deaths_are_found_by_many_keys_at_once(store: Store, others: int) -> None:
    kill(store, b"n" * 16, "task-1", of_kid("k1"), "n" * 16)
    with store.write() as writing:
        writing.kill_all({b"other" + number.to_bytes(11): 1 for number in range(others)}, "revoked", at=NOW)
    unseen: list[RevocationKey] = [number.to_bytes(16, "big") for number in range(1_200)]
    with store.read() as reading:
        found = reading.deaths_of([*unseen, "task-1", b"n" * 16, "task-2", of_kid("k1"), b"task-1", b"n" * 16])
        assert found == {key: reading.death(key) for key in (b"n" * 16, "task-1", of_kid("k1"))}
        assert reading.deaths_of([]) == {}


def test_a_write_that_need_not_be_durable_is_kept_all_the_same(store: Store, places: Places) -> None:
    with store.write(durable=False) as transaction:
        transaction.append("noted", b"{}", at=NOW)
    with places.again(store).read() as reading:
        assert [event.kind for event in reading.events()] == ["noted"]


def test_the_last_instant_of_revocation_is_found_among_others(store: Store) -> None:
    with store.read() as reading:
        assert reading.revoked_until() == -1
    kill(
        store, of_kid("k1"), of_instant(9), "issue", b"issued:999999999", of_instant(1_000_000_000), of_instant(50), "j"
    )
    with store.read() as reading:
        assert reading.revoked_until() == 1_000_000_000


def test_many_deaths_come_in_order(store: Store) -> None:
    kill(store, *[number.to_bytes(16, "big") for number in range(2_500)])
    with store.read() as reading:
        assert [death.seq for death in reading.deaths()] == list(range(1, 2_501))
    news = store.source().news(None)
    assert list(news.deaths) == [number.to_bytes(16, "big") for number in range(2_500)]


def test_deaths_are_forgotten_from_the_first_on_without_gaps(store: Store) -> None:
    for at, key in ((NOW, "a"), (NOW + 5, "b"), (NOW + 1, "c"), (NOW + 9, "d")):
        kill(store, key, at=at)
    with store.write() as transaction:
        # "c" happened long ago too, but after "b", which is kept.
        assert transaction.forget(NOW + 3) == Pruned(1, 0, 0)
        assert transaction.head().forgotten == 1
        assert [death.key for death in transaction.deaths()] == ["b", "c", "d"]
        assert transaction.forget(NOW + 3) == Pruned(0, 0, 0)
        assert transaction.forget(NOW + 99, below=0) == Pruned(0, 0, 0)
    assert (head_of(store).deaths, head_of(store).forgotten) == (4, 1)
    with store.write() as transaction:
        assert transaction.forget(NOW + 99).deaths == 3
        assert list(transaction.deaths()) == []
        assert transaction.kill("e", "revoked", at=NOW, position=9).seq == 5


def test_the_death_of_a_root_key_is_never_forgotten(store: Store) -> None:
    kill(store, "a", of_kid("k1"), b"kid:56789abcdefg", of_instant(NOW), of_kid("k2"), at=NOW)
    kill(store, "z", at=NOW + 9)
    with store.write() as transaction:
        assert transaction.forget(NOW + 1).deaths == 5
        assert transaction.forget(NOW + 1).deaths == 0
        assert [(death.seq, death.key) for death in transaction.deaths()] == [(2, "kid:k1"), (5, "kid:k2"), (6, "z")]
        assert transaction.kill(of_kid("k1"), "revoked", at=NOW, position=9).seq == 2


def test_counters_and_sightings_are_forgotten_by_their_last_use(store: Store) -> None:
    old, new = "o" * 22, "n" * 22
    store.spend(payer(), [spend("named", "1", "5")], now=NOW)
    store.spend(payer(), [spend(old, "1", "5")], now=NOW)
    store.spend(payer(), [spend(new, "1", "5")], now=NOW)
    store.spend(payer(), [spend(new, "1", "5")], now=NOW + 9)
    store.sighted("old", 1, now=NOW)
    store.sighted("new", 1, now=NOW + 9)
    with store.write() as transaction:
        assert transaction.forget(NOW + 5) == Pruned(0, 1, 1)
        assert [counter.counter for counter in transaction.counters()] == ["named", new]
        assert [sighting.follower for sighting in transaction.follower_acks()] == ["new"]


def test_amounts_are_exact(store: Store) -> None:
    for total in ("0.1", "0.2", "0.3"):
        assert store.spend(payer(), [spend("a", "0.1", "0.3")], now=NOW) == Tally((Decimal(total),))
    assert store.spend(payer(), [spend("a", "0.000001", "0.3")], now=NOW).exhausted == (0,)
    large = "900719925474099.300001"
    assert store.spend(payer(), [spend("b", large, large)], now=NOW) == Tally((Decimal(large),))
    assert store.spent([("b", "calls"), ("a", "calls")]) == (Decimal(large), Decimal("0.3"))


def test_all_is_spent_or_nothing_and_told_in_the_order_asked(store: Store) -> None:
    first = [spend("b", "2", "3"), spend("a", "1", "1"), spend("a", "5", "9", unit="euro")]
    assert store.spend(payer(), first, now=NOW) == Tally((Decimal(2), Decimal(1), Decimal(5)))
    tally = store.spend(payer(), [*first, spend("c", "1", "1")], now=NOW)
    assert tally == Tally((Decimal(2), Decimal(1), Decimal(5), Decimal(0)), (0, 1, 2))
    assert store.spent([("c", "calls"), ("a", "euro"), ("a", "calls"), ("b", "calls")]) == tuple(
        map(Decimal, (0, 5, 1, 2))
    )
    with store.read() as reading:
        assert [(held.counter, held.unit) for held in reading.counters()] == [
            ("a", "calls"),
            ("a", "euro"),
            ("b", "calls"),
        ]


def test_only_what_had_no_room_is_named(store: Store) -> None:
    store.spend(payer(), [spend("b", "1", "1")], now=NOW)
    tally = store.spend(payer(), [spend("c", "1", "1"), spend("b", "1", "1"), spend("a", "1", "1")], now=NOW)
    assert tally == Tally((Decimal(0), Decimal(1), Decimal(0)), (1,))


def test_counters_tell_what_was_spent_and_when(store: Store) -> None:
    store.spend(payer(), [spend("b", "1.50", "5"), spend("a", "2", "5")], now=NOW + 5)
    store.spend(payer(), [spend("b", "1", "5")], now=NOW)
    with store.read() as reading:
        held = [Counter("a", "calls", Decimal(2), NOW + 5), Counter("b", "calls", Decimal("2.5"), NOW + 5)]
        assert reading.counters() == held
        assert reading.counters(["b", "b", "z"]) == held[1:]
        assert reading.counters([]) == []
        # A resource may have reported it, and not every database can even look for it.
        assert reading.counters(["\0"]) == []


def test_nothing_can_be_spent_from_a_limit_of_nothing(store: Store) -> None:
    assert store.spend(payer(), [spend("a", "1", "0")], now=NOW) == Tally((Decimal(0),), (0,))
    assert store.spend(payer(), [], now=NOW) == Tally(())
    assert store.spent([]) == ()


def test_one_presentation_pays_only_what_it_has_not_paid(store: Store) -> None:
    one, other = payer(), payer()
    assert store.spend(one, [spend("a", "2", "5")], now=NOW) == Tally((Decimal(2),))
    assert store.spend(other, [spend("a", "3", "5")], now=NOW) == Tally((Decimal(5),))
    assert store.spend(one, [spend("a", "2", "5")], now=NOW) == Tally((Decimal(5),))
    assert store.spend(one, [spend("a", "1", "5")], now=NOW) == Tally((Decimal(5),))
    assert store.spend(one, [spend("a", "4", "5")], now=NOW) == Tally((Decimal(3),), (0,))
    assert store.spend(one, [spend("a", "4", "9")], now=NOW) == Tally((Decimal(7),))
    assert store.spent([("a", "calls")]) == (Decimal(7),)


def test_what_was_paid_passes_again_whatever_others_spent(store: Store) -> None:
    for cost, counter in (("0", "a"), ("1", "b")):
        one = payer()
        assert store.spend(one, [spend(counter, cost, "1")], now=NOW).exhausted == ()
        assert store.spend(payer(), [spend(counter, "5", "99")], now=NOW).exhausted == ()
        assert store.spend(one, [spend(counter, cost, "1")], now=NOW).exhausted == ()
        assert store.spend(payer(), [spend(counter, "0", "1")], now=NOW).exhausted == (0,)


def test_what_a_presentation_paid_into_one_counter_pays_no_other(store: Store) -> None:
    one = payer()
    store.spend(one, [spend("a", "1", "1")], now=NOW)
    assert store.spend(one, [spend("a", "1", "1"), spend("b", "1", "1")], now=NOW) == Tally((Decimal(1), Decimal(1)))
    assert store.spend(one, [spend("a", "1", "9", unit="eur")], now=NOW) == Tally((Decimal(1),))
    tally = store.spend(one, [spend("a", "1", "1"), spend("c", "2", "1")], now=NOW)
    assert tally == Tally((Decimal(0), Decimal(0)), (1,))
    assert store.spent([("a", "calls"), ("b", "calls"), ("c", "calls")]) == (Decimal(1), Decimal(1), Decimal(0))


def test_what_was_paid_long_ago_is_forgotten(store: Store) -> None:
    one, other = payer(), payer()
    store.spend(one, [spend("a", "1", "9")], now=NOW)
    store.spend(other, [spend("a", "1", "9")], now=NOW)
    store.spend(other, [spend("a", "1", "9")], now=NOW + 9)
    with store.write() as transaction:
        transaction.forget(NOW + 5)
    assert store.spend(one, [spend("a", "1", "9")], now=NOW + 9) == Tally((Decimal(3),))
    assert store.spend(other, [spend("a", "1", "9")], now=NOW + 9) == Tally((Decimal(3),))


def test_a_minted_capability_is_found_by_its_id(store: Store) -> None:
    with Authority(store, KeyRing(RootKey.generate())) as authority:
        opened = authority.open(allow=["crm.read", "slides.write"])
        with store.read() as reading:
            found = {one.audience: reading.minted(b64u(one.ids[1])) for one in opened.bundle}
            assert reading.minted(b64u(b"x" * 16)) is None
            assert reading.minted(opened.id) is None
    assert {event.read(CapabilityMinted).audience for event in found.values() if event} == set(found)


def test_the_tasks_whose_events_name_an_id_are_found(store: Store) -> None:
    node, other = "N" * 21 + "Q", "O" * 21 + "Q"
    with store.write() as transaction:
        for task in ("task-1", "task-2", "task-3"):
            transaction.open_task(TaskRecord(task, f"root-{task}", NOW, NOW))
        for task in ("task-2", "task-1", "task-1", "nobody"):
            body = json.dumps({"task": task, "path": [node]}).encode()
            transaction.append("decision", body, at=1)
        transaction.append("revoked", json.dumps({"id": other}).encode(), at=1)
    with store.read() as reading:
        assert reading.tasks_with(node) == ["task-1", "task-2"]
        assert reading.tasks_with(other) == []


@pytest.mark.parametrize("nonces", [["AAAAAAAAAAA"], ["AAAAAAAAAAA", "BBBBBBBBBBA"]])
def test_the_tasks_with_a_node_are_found_by_nonces(store: Store, nonces: list[str]) -> None:
    with store.write() as transaction:
        for task in ("task-1", "task-2", "task-3"):
            transaction.open_task(TaskRecord(task, f"root-{task}", NOW, NOW))
        for task in ("task-1", "task-2", "nobody"):
            transaction.append("decision", json.dumps({"task": task, "nonces": nonces}).encode(), at=1)
        # A resource may write anything there.
        nonsense: list[object] = ["A", 5, ["A", 5], {"a": []}, ["\ud800"], ["A" * 11] * 300]
        for odd in nonsense:
            with suppress(Unwritable):
                transaction.append("decision", json.dumps({"task": "task-1", "nonces": odd}).encode(), at=1)
    with store.read() as reading:
        for task in ("task-1", "task-2"):
            for node in nodes(f"root-{task}", nonces):
                assert reading.tasks_with(b64u(node)) == [task]
        # Nobody has acted in this task.
        assert reading.tasks_with(b64u(root_node("root-task-3"))) == ["task-3"]
        assert reading.tasks_with(b64u(nodes("root-task-3", nonces)[-1])) == []


def test_a_presentation_is_new_once(store: Store, places: Places) -> None:
    assert store.burn(b"a" * 16, until=NOW + 60, now=NOW) == Burn(True)
    assert store.burn(b"a" * 16, until=NOW + 60, now=NOW + 1) == Burn(False)
    assert places.again(store).burn(b"a" * 16, until=NOW + 60, now=NOW + 2) == Burn(False)
    assert store.burn(b"b" * 16, until=NOW + 60, now=NOW) == Burn(True)


def test_what_was_forgotten_counts_as_burnt(store: Store) -> None:
    store.burn(b"a" * 16, until=NOW + 60, now=NOW)
    # Far enough on for its window to be forgotten.
    assert store.burn(b"b" * 16, until=NOW + 200, now=NOW + 140).new
    assert not store.burn(b"a" * 16, until=NOW + 60, now=NOW + 140).new
    # Until 10 seconds after its window has passed: the clock of another process may be behind.
    assert not store.burn(b"c" * 16, until=NOW + 129, now=NOW + 140).new
    assert store.burn(b"d" * 16, until=NOW + 130, now=NOW + 140).new


def test_a_replay_is_refused_after_a_clock_was_ahead(store: Store) -> None:
    assert store.burn(b"a" * 16, until=NOW + 60, now=NOW).new
    assert store.burn(b"z" * 16, until=NOW + 4_000, now=NOW + 3_600).new
    assert not store.burn(b"a" * 16, until=NOW + 60, now=NOW + 1).new
    assert not store.burn(b"b" * 16, until=NOW + 61, now=NOW + 1).new
    later = NOW + 70
    assert store.burn(b"c" * 16, until=later + 60, now=later).new
    assert not store.burn(b"c" * 16, until=later + 60, now=later).new


def test_a_store_says_whether_it_remembers(store: Store) -> None:
    store.burn(b"a" * 16, until=NOW + 60, now=NOW)
    assert store.burn(b"b" * 16, until=NOW + 60, now=NOW, remembered=(b"a" * 16, NOW + 60)) == Burn(True, True)
    assert store.burn(b"c" * 16, until=NOW + 60, now=NOW, remembered=(b"x" * 16, NOW + 60)) == Burn(True, False)
    assert store.burn(b"c" * 16, until=NOW + 60, now=NOW, remembered=(b"x" * 16, NOW + 60)) == Burn(False, False)
    # Nobody can remember what may be forgotten.
    late = NOW + 200
    assert store.burn(b"d" * 16, until=late + 60, now=late, remembered=(b"x" * 16, NOW + 60)) == Burn(True, True)


def test_the_last_sighting_of_a_follower_is_kept(store: Store) -> None:
    store.sighted("b", 1, now=NOW)
    store.sighted("a", 5, now=NOW)
    store.sighted("b", 3, now=NOW + 2)
    with store.read() as reading:
        assert reading.follower_acks() == [FollowerAck("a", 5, NOW), FollowerAck("b", 3, NOW + 2)]


def fill(store: Store) -> None:
    with store.write() as transaction:
        for number in range(1_200):
            transaction.append("noted", b'{"task":"task-1","n":%d,"x":"\\u0000"}' % number, at=NOW)
        transaction.open_task(TASK)
        transaction.open_task(TaskRecord("task-0", "root-0", NOW, NOW))
        transaction.end_task("task-1", "completed", at=NOW + 1, position=7)
    kill(store, of_kid("k1"), "a", b"b" * 16, at=NOW)
    kill(store, "c", of_instant(NOW), at=NOW + 9)
    store.record([decision("dec-1", b',"task":"task-0"')])
    store.spend(payer(), [spend("a", "0.10", "5"), spend("b", "7", "9")], now=NOW)
    with store.write() as transaction:
        transaction.forget(NOW + 5)
    store.spend(payer(), [spend("a", "0.10", "5"), spend("b", "7", "9")], now=NOW + 7)


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("of", KINDS)
def test_a_store_takes_over_all_that_another_one_holds(of_kind: Callable[[str], Store], of: str, to: str) -> None:
    old, new = of_kind(of), of_kind(to)
    fill(old)
    with old.read() as reading, new.write() as transaction:
        transaction.adopt(reading)
        assert transaction.head() == reading.head()
    with old.read() as was, new.read() as now:
        assert now.head() == was.head()
        assert list(now.events()) == list(was.events())
        assert list(now.events(task="task-0")) == list(was.events(task="task-0"))
        assert now.decision("dec-1") == was.decision("dec-1")
        assert now.tasks() == was.tasks()
        assert list(now.deaths()) == list(was.deaths())
        assert [death.key for death in now.deaths()] == ["kid:k1", "c", of_instant(NOW)]
        assert now.counters() == was.counters()
    assert verified(new) == verified(old)
    source = new.source()
    assert source.news(head_of(old)).deaths == {}
    source.close()
    # And goes on from there.
    assert note(new) == head_of(old).position + 1
    kill(new, "d")
    assert head_of(new).deaths == head_of(old).deaths + 1
    assert verified(new).position == head_of(old).position + 2


def test_a_store_that_holds_something_takes_over_nothing(places: Places) -> None:
    old, new = places.create(), places.create()
    fill(old)
    note(new)
    before = head_of(new)
    with pytest.raises(StoreProblem, match="is not empty"), old.read() as reading, new.write() as transaction:
        transaction.adopt(reading)
    assert head_of(new) == before


@pytest.mark.parametrize(
    "statement", ["UPDATE events SET at = at + 1 WHERE position = 3", "DELETE FROM deaths WHERE seq = 4"]
)
def test_nothing_is_taken_over_from_a_store_that_is_not_whole(places: Places, statement: str) -> None:
    old, new = places.create(), places.create()
    fill(old)
    places.tamper(old, statement)
    with pytest.raises(StoreProblem, match=r"broken|damaged"), old.read() as reading, new.write() as transaction:
        transaction.adopt(reading)
    with new.read() as now:
        assert (now.head().position, now.tasks(), list(now.events())) == (0, [], [])


@pytest.mark.parametrize("table", ["head", "events", "forgotten"])
def test_a_table_that_is_gone_is_a_problem_of_the_store(store: Store, places: Places, table: str) -> None:
    note(store)
    places.tamper(store, f"DROP TABLE {table}")
    use = (lambda: store.burn(b"a" * 16, until=NOW, now=NOW)) if table == "forgotten" else (lambda: note(store))
    with pytest.raises(StoreProblem, match=r"^the store "):
        use()
