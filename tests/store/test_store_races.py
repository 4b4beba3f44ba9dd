"""What holds when processes race: real ones, over a real file and a real database."""

import json
import os
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from capx.errors import StoreProblem
from capx.store.factory import open_store
from capx.store.log import check
from capx.store.postgres.store import PostgresStore
from capx.store.protocols import Store
from capx.store.records import DecisionRecord, Head, TaskRecord
from capx.tokens.revocation_key import RevocationKey
from capx.verify.meter import Spend
from tests.labs.payers import payer
from tests.labs.postgres import Server
from tests.store.conftest import Places

NOW = 1_800_000_000
RACERS = 16


class Race:
    """Processes that all do one thing from the same instant on, each with a number and a store of its own."""

    def __init__(self, place: str, count: int, work: Callable[[Store, int], Any]) -> None:
        gate, self._go = os.pipe()
        self._children: list[tuple[int, int]] = []
        for number in range(count):
            said, says = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(self._go)
                _run(place, number, work, gate, says)
            os.close(says)
            self._children.append((child, said))
        os.close(gate)

    def start(self) -> None:
        """Let them go."""
        os.close(self._go)

    def results(self) -> list[Any]:
        """What each came to, when all have."""
        results: list[Any] = []
        for child, said in self._children:
            with open(said, "rb") as told:  # noqa: PTH123 # a pipe
                answer = told.read()
            assert os.waitpid(child, 0)[1] == 0, answer.decode()
            results.append(json.loads(answer))
        return results


def _run(place: str, number: int, work: Callable[[Store, int], Any], gate: int, says: int) -> None:
    failed = 1
    try:
        store = open_store(place)
        os.read(gate, 1)
        answer = json.dumps(work(store, number))
        failed = 0
    except BaseException:  # noqa: BLE001 # told to who waits
        answer = traceback.format_exc()
    try:
        os.write(says, answer.encode())
    finally:
        os._exit(failed)


def race(place: str, work: Callable[[Store, int], Any], count: int = RACERS) -> list[Any]:
    """What each of so many processes came to."""
    racing = Race(place, count, work)
    racing.start()
    return racing.results()


def patiently(attempt: Callable[[], Any]) -> Any:
    """What is answered in the end, by a store that may be busy."""
    while True:
        try:
            return attempt()
        except StoreProblem as problem:
            if "busy" not in str(problem):
                raise


def test_sixteen_who_race_one_budget_spend_it_exactly(store: Store) -> None:
    def spend(mine: Store, number: int) -> int:
        cost = Decimal("0.5") if number % 2 else Decimal("1.5")
        # Another order for every second one: who locks in the order of asking waits for the other for ever.
        spends = [Spend("a", "calls", cost, Decimal(250)), Spend("b", "calls", cost, Decimal(500))]
        spends = spends[:: 1 if number % 4 < 2 else -1]
        done = 0
        while not patiently(lambda: mine.spend(payer(), spends, now=NOW)).exhausted:
            done += 1
        return int(done * cost * 2)

    halves = race(store.place, spend)
    assert sum(halves) == 500
    assert store.spent([("a", "calls"), ("b", "calls")]) == (Decimal(250), Decimal(250))


def test_racing_payments_of_one_presentation_pay_once(store: Store) -> None:
    one = payer()
    spends = [Spend(counter, "calls", Decimal(1), Decimal(1)) for counter in "abc"]

    def pay(mine: Store, _: int) -> list[int]:
        return list(patiently(lambda: mine.spend(one, spends, now=NOW)).exhausted)

    assert race(store.place, pay) == [[]] * RACERS
    assert store.spent([("a", "calls"), ("b", "calls"), ("c", "calls")]) == (Decimal(1),) * 3


def test_sixteen_who_race_one_presentation_have_one_winner(store: Store) -> None:
    presentations = [number.to_bytes(16, "big") for number in range(25)]

    def burn(mine: Store, _: int) -> list[bool]:
        return [patiently(attempt_of(mine, one, NOW + 60, NOW)) for one in presentations]

    won = race(store.place, burn)
    assert [sum(each) for each in zip(*won, strict=True)] == [1] * len(presentations)


def test_a_replay_is_refused_while_clocks_disagree(store: Store) -> None:
    began, lasts, pace = time.monotonic(), 1.5, 200

    def burn(mine: Store, number: int) -> list[int]:
        chance, won = random.Random(number), list[int]()
        # Clocks that run two hundred times as fast, and disagree by up to twenty seconds.
        while (passed := time.monotonic() - began) < lasts:
            now = NOW + int(passed * pace) + chance.randrange(-10, 11)
            one = (now - NOW) // 5 + chance.randrange(13)
            until = NOW + one * 5
            if now <= until <= now + 65 and patiently(
                attempt_of(mine, one.to_bytes(16, "big", signed=True), until, now)
            ):
                won.append(one)
        return won

    winners = Counter(one for won in race(store.place, burn, 6) for one in won)
    assert max(winners.values()) == 1
    assert len(winners) > 30


def attempt_of(store: Store, presentation: bytes, until: int, now: int) -> Callable[[], bool]:
    return lambda: store.burn(presentation, until=until, now=now).new


def test_sixteen_who_record_write_each_decision_once_and_no_gap(store: Store) -> None:
    def record(mine: Store, number: int) -> int:
        for batch in range(5):
            ids = [f"dec-{(number // 2 + batch) * 3 + i}" for i in range(3)]
            decisions = [DecisionRecord(id_, NOW, b'{"id":"%s","audience":"crm"}' % id_.encode()) for id_ in ids]
            record_patiently(mine, decisions)
        return 0

    def record_patiently(mine: Store, decisions: list[DecisionRecord]) -> None:
        patiently(lambda: mine.record(decisions))

    race(store.place, record)
    with store.read() as reading:
        check(reading.events(), head=reading.head().place)
        ids = [event.facts()["id"] for event in reading.events()]
    assert sorted(ids) == sorted({f"dec-{number}" for number in range(36)})


def test_a_follower_that_reads_while_writers_race_misses_nothing(store: Store) -> None:
    def write(mine: Store, number: int) -> list[int]:
        positions = list[int]()
        for step in range(12):
            with mine.write() as transaction:
                event = transaction.append("revoked", b"{}", at=NOW)
                transaction.kill(f"task-{number}-{step}", "revoked", at=NOW, position=event.position)
                if step % 3 == 0:
                    transaction.kill(b"%08d%08d" % (number, step), "revoked", at=NOW, position=event.position)
            positions.append(event.position)
        return positions

    racing = Race(store.place, 8, write)
    source, known, dead = store.source(), None, dict[RevocationKey, str]()
    racing.start()
    deadline = time.monotonic() + 60
    while len(dead) < 8 * 16:
        assert time.monotonic() < deadline
        news = source.news(known)
        assert news.head.deaths == len(dead) + len(news.deaths)
        dead.update(news.deaths)
        known = news.head
    source.close()
    positions = [position for each in racing.results() for position in each]
    assert sorted(positions) == list(range(1, 97))
    assert known is not None
    assert known.deaths == 8 * 16
    with store.read() as reading:
        assert check(reading.events(), head=reading.head().place).position == 96


def test_sixteen_who_open_one_task_open_it_once(store: Store) -> None:
    def open_it(mine: Store, number: int) -> bool:
        with mine.write() as transaction:
            if transaction.task("task-1") is not None:
                return False
            event = transaction.append("opened", b'{"task":"task-1"}', at=NOW)
            transaction.open_task(TaskRecord("task-1", "root-1", event.at, NOW))
        return True

    assert sum(race(store.place, open_it)) == 1


class Reader:
    """Reads on from the highest number that it has seen."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection
        self._highest = 0
        self.seen: list[str] = []

    def read_on(self) -> None:
        query = "SELECT number, what FROM public.numbered WHERE number > %s ORDER BY number"
        for number, what in self._connection.execute(query, (self._highest,)):
            self._highest = number
            self.seen.append(what)


def test_an_identity_column_loses_late_commits_a_counter_not(
    postgres_server: Server, postgres_url: str, postgres_store_name: str
) -> None:
    with (
        closing(postgres_server.admin(postgres_store_name)) as first,
        closing(postgres_server.admin(postgres_store_name)) as second,
        closing(postgres_server.admin(postgres_store_name)) as third,
    ):
        first.execute("CREATE TABLE public.numbered (number bigint GENERATED ALWAYS AS IDENTITY, what text)")
        reader = Reader(third)
        first.execute("BEGIN; INSERT INTO public.numbered (what) VALUES ('first')")
        second.execute("BEGIN; INSERT INTO public.numbered (what) VALUES ('second'); COMMIT")
        reader.read_on()
        first.execute("COMMIT")
        reader.read_on()
        assert reader.seen == ["second"]

        store, other = PostgresStore(postgres_url), PostgresStore(postgres_url)
        source, known, dead = store.source(), None, list[RevocationKey]()

        def read_on(known: Head | None) -> Head:
            news = source.news(known)
            dead.extend(news.deaths)
            return news.head

        def write_second() -> None:
            with other.write() as transaction:
                transaction.kill("second", "revoked", at=NOW, position=1)

        late = threading.Thread(target=write_second)
        with store.write() as transaction:
            transaction.kill("first", "revoked", at=NOW, position=1)
            late.start()
            while third.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone() is None:
                time.sleep(0.01)
            known = read_on(known)
            assert dead == []
        late.join()
        read_on(known)
        assert dead == ["first", "second"]
        source.close()
        store.close()
        other.close()


@pytest.mark.parametrize("places", ["postgres"], indirect=True)
def test_spenders_and_those_who_forget_do_not_deadlock(places: Places, store: Store) -> None:
    def work(mine: Store, number: int) -> int:
        chance = random.Random(number)
        for step in range(40):
            if number == 0:
                with mine.write() as transaction:
                    transaction.forget(NOW + step)
            else:
                ids = chance.sample("abcdefgh", 4)
                spends = [Spend(id_, "calls", Decimal(1), Decimal(10_000)) for id_ in ids]
                assert not mine.spend(payer(), spends, now=NOW + step + chance.randrange(3)).exhausted
        return 0

    race(store.place, work, 6)
