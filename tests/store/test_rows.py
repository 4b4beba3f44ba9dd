"""The rows of both kinds of store: one order, one way to clear them, and whom a change of the head wakes."""

from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
import pytest
from msgspec import structs

from capx.store.log import GENESIS
from capx.store.protocols import Store, Writing
from capx.store.records import (
    Damaged,
    Death,
    DecisionRecord,
    GrantRecord,
    Head,
    HookCursor,
    IntentRecord,
    RequestRecord,
    RequestState,
    TaskRecord,
)
from capx.store.sql import rows as rows_module
from capx.store.sql.rows import SqlRows, head_of
from capx.tokens.chain import root_node
from tests.labs.store_writes import granted_by
from tests.store.conftest import Places

NOW = 1_800_000_000
NODE = b"n" * 16


def request(id_: str) -> RequestRecord:
    return RequestRecord(
        id=id_, task="task-1", audience="crm", action="crm.read", args=None, ids=("a",), kid="k1", issued=NOW,
        path=("node-1",), labels=(), block="[]", principal="ana", asked=NOW, until=NOW + 60,
    )  # fmt: skip


def clear(rows: Writing) -> None:
    assert isinstance(rows, SqlRows)
    rows.clear()


def fill(rows: Writing) -> None:
    event = rows.append("revoked", b'{"task":"task-1"}', at=NOW)
    rows.kill(NODE, "revoked", at=NOW, position=event.position)
    rows.open_task(TaskRecord("task-1", "root-1", NOW, NOW + 60))
    rows.keep_intent(IntentRecord("digest-1", withdrawn=NOW))
    rows.keep_request(request("request-1"))
    rows.keep_grant(GrantRecord(NODE, (b"i" * 16, b"j" * 16), "k1", NOW, NOW))
    rows.count_revocation("task-1", NODE, now=NOW)


def test_cleared_rows_hold_nothing_but_their_epoch(store: Store) -> None:
    with store.write() as rows:
        epoch = rows.head().epoch
        fill(rows)
    store.sighted("crm", 1, now=NOW)
    with store.write() as rows:
        clear(rows)
    with store.read() as reading:
        assert reading.head() == Head(epoch, 0, GENESIS, 0, 0)
        held = [reading.tasks(), reading.intents(), reading.requests(), reading.counters(), reading.follower_acks()]
        assert (*held, list(reading.events()), list(reading.deaths())) == ([],) * 7
        assert (granted_by(reading, b"i" * 16), granted_by(reading, "kid:k1")) == ([], [])


def test_a_presentation_stays_burnt_when_rows_are_cleared(store: Store) -> None:
    assert store.burn(b"p" * 16, until=NOW + 60, now=NOW).new
    with store.write() as rows:
        clear(rows)
    assert not store.burn(b"p" * 16, until=NOW + 60, now=NOW).new


def test_cleared_rows_are_filled_again(store: Store) -> None:
    for _ in range(2):
        with store.write() as rows:
            clear(rows)
            fill(rows)
            assert (rows.head().position, rows.head().deaths) == (1, 1)


def test_rows_that_are_kept_again_keep_their_order(store: Store) -> None:
    with store.write() as rows:
        for id_ in ("c", "a", "b"):
            rows.keep_request(request(id_))
            rows.keep_intent(IntentRecord(id_, withdrawn=NOW))
        rows.keep_request(structs.replace(request("c"), state="denied"))
        rows.keep_intent(IntentRecord("c", withdrawn=NOW + 1))
    with store.read() as reading:
        requests = [(one.id, one.state) for one in reading.requests()]
        intents = [(one.digest, one.withdrawn) for one in reading.intents()]
    assert requests == [("c", "denied"), ("a", "pending"), ("b", "pending")]
    assert intents == [("c", NOW + 1), ("a", NOW), ("b", NOW)]


CHANGES: list[tuple[Callable[[Writing], object], bool]] = [
    (lambda rows: rows.append("noted", b"{}", at=NOW), False),
    (lambda rows: rows.forget(0), False),
    (lambda rows: rows.append_all("noted", [b"{}", b"{}"], at=NOW), False),
    (lambda rows: rows.kill(NODE, "revoked", at=NOW, position=1), True),
    (lambda rows: rows.kill_all({NODE: 1}, "revoked", at=NOW), True),
    (lambda rows: rows.forget(NOW + 1), True),
    (lambda rows: rows.begin_epoch("another.1"), True),
]


@pytest.mark.parametrize(("change", "wakes"), CHANGES)
def test_followers_wake_for_deaths_and_epochs_alone(
    tmp_path_factory: pytest.TempPathFactory, change: Callable[[Writing], object], wakes: bool
) -> None:
    places = Places("postgres", tmp_path_factory.mktemp("postgres"))
    try:
        store = places.create()
        with store.write() as rows:
            rows.kill(b"d" * 16, "revoked", at=NOW, position=1)
        with psycopg.connect(store.place, autocommit=True) as listening:
            listening.execute("LISTEN capx")
            with store.write() as rows:
                change(rows)
            assert bool(list(listening.notifies(timeout=0.5, stop_after=1))) == wakes
    finally:
        places.end()


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two rows are read at once."""
    monkeypatch.setattr(rows_module, "_PAGE", 2)


def note(store: Store, count: int) -> None:
    with store.write() as rows:
        for _ in range(count):
            rows.append("noted", b"{}", at=NOW)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize(("limit", "count"), [(None, 5), (0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (9, 5)])
def test_events_over_several_pages_are_as_many_as_asked(store: Store, limit: int | None, count: int) -> None:
    note(store, 5)
    with store.read() as reading:
        assert [event.position for event in reading.events(limit=limit)] == list(range(1, count + 1))


@pytest.mark.usefixtures("small_pages")
def test_decisions_that_do_not_name_a_node_are_left_out(store: Store) -> None:
    bodies = [
        b'{"id":"%d","task":"%s"%s}' % (n, b"ab"[n % 2 : n % 2 + 1], b',"path":["N"]' * (n % 3 == 0)) for n in range(9)
    ]
    store.record([DecisionRecord(str(n), NOW, body) for n, body in enumerate(bodies)])
    note(store, 1)
    with store.read() as reading:
        every = list(reading.events())
        assert list(reading.events(naming="N")) == [one for one in every if b"N" in one.body or one.kind == "noted"]
        assert [one.position for one in reading.events(naming="N", task="a")] == [1, 7]
        assert [one.kind for one in reading.events(naming="%")] == ["noted"]


@pytest.mark.usefixtures("small_pages")
def test_deaths_over_several_pages_are_all_there(store: Store) -> None:
    with store.write() as rows:
        for letter in "abcde":
            rows.kill(letter, "revoked", at=NOW, position=1)
    with store.read() as reading:
        assert [death.seq for death in reading.deaths()] == [1, 2, 3, 4, 5]
        assert [death.seq for death in reading.deaths(after=2)] == [3, 4, 5]
        for limit in range(7):
            assert [death.seq for death in reading.deaths(after=1, limit=limit)] == [2, 3, 4, 5][:limit]


def test_a_death_is_kept_with_all_that_is_known_of_it(store: Store) -> None:
    with store.write() as rows:
        death = rows.kill(NODE, "revoked", at=NOW, position=7)
        assert rows.death(NODE) == death == Death(1, NODE, "revoked", NOW, 7)


def test_an_event_follows_the_one_before_it(store: Store) -> None:
    with store.write() as rows:
        first, second = (rows.append("noted", b"{}", at=NOW) for _ in range(2))
        head = rows.head()
    assert (first.position, second.position, head.position, head.hash) == (1, 2, 2, second.hash)


def test_a_task_is_found_by_its_id_and_by_its_root(store: Store) -> None:
    task = TaskRecord("task-1", "root-1", NOW, NOW + 60, "Acme", "work")
    with store.write() as rows:
        rows.open_task(task)
        assert (rows.task("task-1"), rows.rooted(root_node("root-1"))) == (task, task)
        assert (rows.task("task-2"), rows.rooted(root_node("root-2"))) == (None, None)


def test_only_tasks_that_are_active_count_as_such(store: Store) -> None:
    with store.write() as rows:
        assert rows.active() == 0
        for id_ in ("a", "b", "c"):
            rows.open_task(TaskRecord(id_, f"root-{id_}", NOW, NOW + 60))
        rows.end_task("b", "completed", at=NOW + 5, position=9)
        assert rows.active() == 2
        ended = rows.task("b")
    assert ended is not None
    assert (ended.state, ended.ended, ended.position) == ("completed", NOW + 5, 9)


def test_an_epoch_that_begins_changes_nothing_else(store: Store) -> None:
    note(store, 1)
    with store.write() as rows:
        before = rows.head()
        rows.begin_epoch("another.1")
        assert rows.head() == structs.replace(before, epoch="another.1")


def test_deaths_below_a_position_alone_are_forgotten(store: Store) -> None:
    with store.write() as rows:
        for position, key in enumerate("abc", start=1):
            rows.kill(key, "revoked", at=NOW, position=position)
        assert rows.forget(NOW + 1, below=2).deaths == 1
        assert [death.key for death in rows.deaths()] == ["b", "c"]


def test_deaths_of_the_instant_itself_are_kept(store: Store) -> None:
    with store.write() as rows:
        rows.kill("a", "revoked", at=NOW, position=1)
        assert rows.forget(NOW).deaths == 0


def test_a_head_that_is_gone_is_damage() -> None:
    with pytest.raises(Damaged, match="backup"):
        head_of(None)


def test_a_head_is_read_as_it_stands() -> None:
    assert head_of(("epoch", 1, b"h", 2, 3)) == Head("epoch", 1, b"h", 2, 3)


def test_pages_of_tasks_are_in_the_order_of_opening(store: Store) -> None:
    tasks = [TaskRecord(id_, f"root-{id_}", NOW, NOW + 60 + nth) for nth, id_ in enumerate("ebdac")]
    with store.write() as writing:
        for task in tasks:
            writing.open_task(task)
        writing.end_task(tasks[4].id, "completed", at=NOW + 5, position=9)
        ids = [task.id for task in tasks]
        assert [task.id for task in writing.task_page(limit=2)] == ids[3:]
        assert [task.id for task in writing.task_page(limit=2, before=ids[3])] == ids[1:3]
        assert [task.id for task in writing.task_page(limit=2, after=ids[1])] == ids[2:4]
        assert [task.id for task in writing.task_page(limit=9, alive_at=NOW + 61)] == ids[2:4]
        assert writing.task_page(limit=9, after=ids[4]) == []
        assert writing.task_page(limit=9, before=ids[0]) == []
        assert writing.task_count() == 5


def open_tasks(store: Store, chosen: dict[str, tuple[str | None, str | None]]) -> None:
    with store.write() as writing:
        for id_, (principal, intent) in chosen.items():
            writing.open_task(TaskRecord(id_, f"root-{id_}", NOW, NOW + 60, principal=principal, intent=intent))


CHOSEN: dict[str, tuple[str | None, str | None]] = {
    "e": ("ana", "i"), "b": ("ben", "j"), "d": ("ana", "k"), "a": (None, None), "c": ("ana", "i"), "f": ("Ana", "l"),
}  # fmt: skip
"""Tasks, in the order of their opening: each its principal and its intent."""


def test_pages_of_tasks_are_those_of_one_person_or_intent(store: Store) -> None:
    open_tasks(store, CHOSEN)
    with store.read() as reading:

        def page(limit: int = 9, **chosen: Any) -> str:
            return "".join(task.id for task in reading.task_page(limit=limit, **chosen))

        assert [page(principal=name) for name in ("ana", "ben", "Ana", "an", "")] == ["edc", "b", "f", "", ""]
        assert [page(intent=digest) for digest in ("i", "j", "m")] == ["ec", "b", ""]
        assert [page(principal="ana", intent=digest) for digest in ("i", "j", "k")] == ["ec", "", "d"]
        assert [page(2, principal="ana"), page(1, intent="i")] == ["dc", "c"]
        assert [page(principal="ana", before="c"), page(principal="ana", after="e")] == ["ed", "dc"]
        assert page(1, principal="ana", intent="i", before="c") == "e"


def test_a_task_of_somebody_else_marks_no_place_in_a_page(store: Store) -> None:
    open_tasks(store, CHOSEN)
    with store.read() as reading:
        for id_ in ("b", "a", "f", "nothing"):
            assert reading.task_page(limit=9, principal="ana", before=id_) == []
            assert reading.task_page(limit=9, principal="ana", after=id_) == []
        assert reading.task_page(limit=9, principal="ana", intent="i", before="d") == []


def test_a_task_that_has_ended_still_marks_its_place(store: Store) -> None:
    open_tasks(store, CHOSEN)
    with store.write() as writing:
        writing.end_task("c", "completed", at=NOW, position=9)
        alive = writing.task_page(limit=9, principal="ana", before="c", alive_at=NOW)
    assert [task.id for task in alive] == ["e", "d"]


def test_an_index_finds_the_tasks_of_a_person_in_order(store: Store, places: Places) -> None:
    query = "SELECT id FROM tasks WHERE principal = 'ana' AND {nth} < 5 ORDER BY {nth} DESC"
    if places.kind == "sqlite":
        plan = places.rows(store, f"EXPLAIN QUERY PLAN {query.format(nth='rowid')}")
        assert [row[-1] for row in plan] == ["SEARCH tasks USING INDEX tasks_of_principal (principal=? AND rowid<?)"]
        return
    # Of few tasks, PostgreSQL rather reads all.
    open_tasks(store, {f"{nth}": (f"person {nth % 200}", None) for nth in range(2_000)})
    places.tamper(store, "ANALYZE tasks")
    plan = [line for (line,) in places.rows(store, f"EXPLAIN {query.format(nth='nth')}")]
    assert "Index Scan Backward using tasks_of_principal" in plan[0]


def test_requests_are_those_of_the_tasks_of_one_person(store: Store) -> None:
    open_tasks(store, CHOSEN)
    with store.write() as writing:
        for nth, task in enumerate("cbeafz"):
            state: RequestState = "denied" if task == "e" else "pending"
            writing.keep_request(structs.replace(request(f"request-{nth}"), task=task, state=state))
        assert [one.task for one in writing.requests(principal="ana")] == ["c", "e"]
        assert [one.task for one in writing.requests(principal="ana", pending=True)] == ["c"]
        assert [one.task for one in writing.requests(principal="ana", task="e")] == ["e"]
        assert writing.requests(principal="ana", task="b") == writing.requests(principal="nobody") == []


def test_a_hook_stands_where_it_was_moved_last(store: Store) -> None:
    with store.write(durable=False) as writing:
        head = writing.head()
        assert writing.hook("mail") is None
        for cursor in (
            HookCursor("mail", "A.1", 7),
            HookCursor("chat", "A.2", 2**53 - 1),
            HookCursor("mail", "A.2", 3),
        ):
            writing.move_hook(cursor)
            assert writing.hook(cursor.name) == cursor
    with store.read() as reading:
        assert reading.hook("chat") == HookCursor("chat", "A.2", 2**53 - 1)
        assert reading.hook("mail") == HookCursor("mail", "A.2", 3)
        assert reading.hook("mai") is None
        assert reading.head() == head, "a hook that moves is no event"


def test_hooks_stay_in_their_own_store(places: Places) -> None:
    old, new = places.create(), places.create()
    with old.write() as writing:
        fill(writing)
        writing.move_hook(HookCursor("mail", writing.head().epoch, 1))
        clear(writing)
        assert writing.hook("mail") is None
        writing.move_hook(HookCursor("mail", writing.head().epoch, 1))
    with new.write() as writing:
        with old.read() as reading:
            writing.adopt(reading)
        assert writing.hook("mail") is None


def test_what_was_minted_is_found_without_the_decisions(store: Store) -> None:
    def body(**facts: object) -> bytes:
        return msgspec.json.encode({"id": "x", "ids": ["a", "b"], **facts})

    with store.write() as writing:
        writing.append("capability_minted", body(task="t"), at=NOW)
        writing.append_all("decision", (body(task="t", id=str(nth)) for nth in range(50)), at=NOW)
        writing.append("capability_minted", body(task="u"), at=NOW)
        writing.append("task_completed", body(task="t"), at=NOW)
        last = writing.append("capability_minted", body(task="t"), at=NOW)
        assert [event.position for event in writing.minted_in("t")] == [1, last.position]
        assert writing.minted_in("nobody") == []
