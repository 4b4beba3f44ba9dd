"""Round trips to PostgreSQL: how many a step takes, and what is true of statements that are not waited for."""

import os
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import StoreProblem, Unavailable
from capx.policy.file import read_policy
from capx.store.lifecycle import FIRST
from capx.store.postgres.connection import Link
from capx.store.postgres.store import PostgresStore
from capx.store.records import DecisionRecord, TaskRecord, Unwritable
from capx.tokens.binding import ToolCall
from capx.verify.ask import Granted
from capx.verify.meter import Spend
from capx_caveats import Call
from tests.labs.payers import payer
from tests.labs.postgres import Server
from tests.labs.postgres_cuts import cut
from tests.labs.refunds import grant, policy, refund
from tests.labs.store_writes import NOW, kill, note, position, verified

POLICY = policy(grant("at_open", "crm.read"), grant("on_request", "crm.accounts.*"))
Step = Callable[[], object]


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one with each answer that this thread waits for."""
    waited = list[object]()
    wait, here = Link.wait, threading.current_thread()

    def counted(link: Link, *args: Any, **options: Any) -> Any:
        if threading.current_thread() is here:
            waited.append(link)
        return wait(link, *args, **options)

    monkeypatch.setattr(Link, "wait", counted)
    return waited


def task(id_: str) -> TaskRecord:
    return TaskRecord(id_, f"root of {id_}", NOW, NOW + 60)


def decisions(count: int) -> list[DecisionRecord]:
    ids = [f"d.{b64u(os.urandom(16))}" for _ in range(count)]
    return [DecisionRecord(id_, NOW, b'{"id":"%s","audience":"crm"}' % id_.encode()) for id_ in ids]


def test_each_step_takes_few_round_trips(store: PostgresStore, waits: list[object]) -> None:
    authority = Authority(store, KeyRing(RootKey.generate()), policy=read_policy(POLICY))
    bundle, verifier = refund(authority).bundle, authority.verifier("crm")
    running = authority.open(allow=["crm.read"])
    caller = running.bundle

    def ask(action: str) -> None:
        assert isinstance(authority.ask(bundle, action), Granted)

    def call() -> None:
        presented = caller.present("crm", ToolCall("crm.read")).text
        assert verifier.decide(presented, ToolCall("crm.read"), Call("crm.read")).allowed

    steps: dict[str, tuple[Step, int]] = {
        "open": (lambda: authority.open(allow=["a.read", "b.read", "c.read"]), 4),
        "open, complete": (lambda: authority.complete(authority.open(allow=["a.read"]).id), 10),
        "mint": (lambda: authority.mint(running.id, allow=["a.read"]), 5),
        "ask for something new": (lambda: ask(f"crm.accounts.a{os.urandom(8).hex()}"), 18),
        "ask for the same again": (lambda: ask("crm.accounts.read"), 13),
        "guarded call": (call, 2),
        "record 1": (lambda: store.record(decisions(1)), 1),
        "record 100": (lambda: store.record(decisions(100)), 1),
        "burn": (lambda: store.burn(os.urandom(16), until=int(time.time()) + 60, now=int(time.time())), 1),
        "spend": (lambda: store.spend(payer(), [Spend("a", "calls", Decimal(1), Decimal(99))], now=NOW), 1),
    }
    counted = dict[str, int]()
    for name, (step, _) in steps.items():
        # The first times, connections are opened, and what is known of deaths is read.
        for _ in range(3):
            step()
        authority.flush()
        waits.clear()
        step()
        counted[name] = len(waits)
    assert {name: count for name, count in counted.items() if count > steps[name][1]} == {}
    authority.close()


def test_a_write_that_fails_is_told_before_anything_is_kept(store: PostgresStore) -> None:
    with pytest.raises(StoreProblem, match="has this already"), store.write() as transaction:  # noqa: PT012 # a transaction
        transaction.append("noted", b"{}", at=NOW)
        transaction.open_task(task("a"))
        transaction.open_task(task("a"))
    with store.read() as reading:
        assert (reading.head().position, reading.tasks(), list(reading.events())) == (0, [], [])
    assert note(store) == 1


def test_a_value_that_no_store_holds_leaves_nothing(store: PostgresStore) -> None:
    with pytest.raises(Unwritable), store.write() as transaction:  # noqa: PT012 # a transaction
        transaction.append("noted", b"{}", at=NOW)
        transaction.open_task(task("a\0"))
    with pytest.raises(Unwritable), store.write() as transaction:  # noqa: PT012 # a transaction
        transaction.append("noted", b"{}", at=NOW)
        transaction.kill("a", "\ud800", at=NOW, position=1)
    assert note(store) == 1


def test_a_transaction_reads_what_it_has_not_waited_for(store: PostgresStore) -> None:
    with store.write() as transaction:
        for number in range(250):
            transaction.append("noted", b'{"number":%d}' % number, at=NOW)
        transaction.open_task(task("a"))
        assert transaction.task("a") == task("a")
        assert len(list(transaction.events())) == 250
        transaction.end_task("a", "completed", at=NOW, position=250)
        assert transaction.active() == 0
        transaction.open_task(task("b"))
    with store.read() as reading:
        assert [one.state for one in reading.tasks()] == ["completed", FIRST]
    assert verified(store).position == 250


@pytest.mark.parametrize("text", ["'; DROP SCHEMA capx CASCADE; --", "\\'; COMMIT; --", "%s $1 %%", "\\", "''", "é\n"])
def test_a_text_that_is_written_is_never_read_as_sql(store: PostgresStore, text: str) -> None:
    written = TaskRecord(text, "root", NOW, NOW + 60, tenant=text, purpose=text)
    with store.write() as transaction:
        transaction.append(text, b"{}", at=NOW)
        transaction.open_task(written)
        transaction.kill(text, text, at=NOW, position=1)
        assert transaction.task(text) == written
    with store.read() as reading:
        assert (reading.tasks(), [event.kind for event in reading.events()]) == ([written], [text])
        assert [(death.key, death.reason) for death in reading.deaths()] == [(text, text)]


def test_a_connection_that_breaks_before_a_commit_keeps_nothing(
    store: PostgresStore, postgres_server: Server, postgres_url: str
) -> None:
    assert note(store) == 1
    with pytest.raises(Unavailable), store.write() as transaction:  # noqa: PT012 # a transaction
        transaction.append("noted", b"{}", at=NOW)
        transaction.open_task(task("a"))
        cut(postgres_server, postgres_url)
    with store.read() as reading:
        assert (reading.head().position, reading.tasks()) == (1, [])
    assert note(store) == 2


def test_what_was_answered_survives_a_server_killed_in_a_write(own: Server, own_url: str) -> None:
    store = PostgresStore(own_url)
    for moment in range(5):
        answered = note(store)
        with pytest.raises(StoreProblem), store.write() as transaction:  # noqa: PT012 # a transaction
            transaction.append("noted", b"{}", at=NOW)
            transaction.open_task(task(str(moment)))
            own.kill()
        own.start()
        assert position(store) == answered
        with store.read() as reading:
            assert reading.tasks() == []
    store.close()


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101])
def test_news_of_few_and_of_many_deaths_is_whole(store: PostgresStore, count: int) -> None:
    kill(store, "before")
    source = store.source()
    known = source.news(None).head
    kill(store, *(f"task-{number}" for number in range(count)))
    news = source.news(known)
    assert list(news.deaths) == [f"task-{number}" for number in range(count)]
    assert (news.head.deaths, news.anew) == (count + 1, False)
    source.close()
