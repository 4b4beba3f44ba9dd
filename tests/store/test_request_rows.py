"""What every kind of store must do with intents, requests and grants."""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from msgspec import structs

from capx.crypto.base64url import b64u
from capx.errors import StoreProblem
from capx.store.protocols import Store
from capx.store.records import (
    Damaged,
    GrantRecord,
    IntentRecord,
    Pruned,
    RequestRecord,
    RequestState,
    TaskRecord,
)
from capx.store.row_marks import ChangedRow
from capx.tokens.revocation_key import of_instant, of_kid
from tests.labs.store_writes import granted_by
from tests.store.conftest import KINDS, Places

NOW = 1_800_000_000
ROOT, NODE, OTHER = b64u(b"r" * 16), b64u(b"n" * 16), b64u(b"o" * 16)
INTENT = IntentRecord("digest-1", "ana@our.example", '{"statement":"Zoë, \\u0000"}', "signature", 1)
UNSEEN = IntentRecord("digest-0", withdrawn=NOW)


def request(
    id_: str, *, task: str = "task-1", node: str = NODE, state: RequestState = "pending", asked: int = NOW
) -> RequestRecord:
    return RequestRecord(
        id=id_,
        task=task,
        audience="billing",
        action="billing.refund",
        args='{"ticket":"T-1 \\u0000 Zoë"}',
        ids=(b64u(b"i" * 16),),
        kid="k1",
        issued=NOW - 60,
        path=(ROOT, node),
        labels=("finder",),
        block='[["task","task-1"]]',
        principal="ana",
        asked=asked,
        until=NOW + 600,
        state=state,
        approvers=("finance",),
    )


def keep(store: Store, *kept: IntentRecord | RequestRecord | GrantRecord) -> None:
    with store.write() as transaction:
        for one in kept:
            if isinstance(one, IntentRecord):
                transaction.keep_intent(one)
            elif isinstance(one, RequestRecord):
                transaction.keep_request(one)
            else:
                transaction.keep_grant(one)


def test_a_task_says_who_asked_for_it_and_by_which_intent(store: Store) -> None:
    asked_for = TaskRecord("task-1", "root-1", NOW, NOW + 60, principal="ana@our.example", intent="digest-1")
    by_hand = TaskRecord("task-2", "root-2", NOW, NOW + 60)
    with store.write() as transaction:
        transaction.open_task(asked_for)
        transaction.open_task(by_hand)
    with store.read() as reading:
        assert reading.tasks() == [asked_for, by_hand]


def test_an_intent_is_found_by_its_digest_where_it_became_known(store: Store) -> None:
    keep(store, INTENT, UNSEEN)
    used = structs.replace(INTENT, opened=2, withdrawn=NOW + 1)
    keep(store, used)
    with store.read() as reading:
        assert reading.intents() == [used, UNSEEN]
        assert reading.intent("digest-1") == used
        assert reading.intent("digest-0") == UNSEEN
        assert reading.intent("digest-2") is None


def test_an_intent_that_was_withdrawn_unseen_can_become_known(store: Store) -> None:
    keep(store, UNSEEN)
    seen = structs.replace(INTENT, digest="digest-0", opened=0, withdrawn=NOW)
    keep(store, seen)
    with store.read() as reading:
        assert reading.intents() == [seen]


def waiting_for(principal: str, *approvers: str, id_: str, until: int = NOW + 600) -> RequestRecord:
    return structs.replace(request(id_), principal=principal, approvers=approvers, until=until)


def test_what_waits_is_counted_in_groups(store: Store) -> None:
    with store.read() as reading:
        assert reading.waiting() == ()
        assert reading.oldest_waiting([]) == []
    first = [
        waiting_for("ana", "finance", id_="a1"),
        waiting_for("ben", "finance", id_="b1"),
        waiting_for("ana", "finance", "legal", id_="a2"),
        waiting_for("ana", "finance", id_="a3"),
        structs.replace(waiting_for("ana", "finance", id_="a4"), state="denied"),
    ]
    keep(store, *first)
    with store.read() as reading:
        found = reading.waiting()
        counts = {(one.principal, one.approvers): one.count for one in found}
        assert counts == {("ana", ("finance",)): 2, ("ana", ("finance", "legal")): 1, ("ben", ("finance",)): 1}
        assert [reading.waiting_count(name) for name in ("ana", "ben", "eve")] == [3, 1, 0]
        ana = [one for one in found if one.principal == "ana"]
        ben = [one for one in found if one.principal == "ben"]
        for wanted, ids in (
            ([(ana, 2)], ["a1", "a2"]),
            ([(ana, 9), (ben, 1)], ["a1", "b1", "a2", "a3"]),
            ([([one for one in ana if one.approvers == ("finance",)], 9), (ben, 0)], ["a1", "a3"]),
        ):
            assert [one.id for one in reading.oldest_waiting(wanted)] == ids


@pytest.mark.parametrize(
    "changed",
    [
        waiting_for("ana", id_="new"),
        structs.replace(waiting_for("ana", "finance", id_="a"), state="expired"),
        waiting_for("ana", "finance", id_="a", until=NOW + 900),
        waiting_for("ana", "legal", id_="a"),
    ],
)
def test_what_waits_is_another_once_a_request_has_changed(store: Store, changed: RequestRecord) -> None:
    keep(store, waiting_for("ana", "finance", id_="a"), waiting_for("ana", "finance", id_="b"))
    with store.read() as reading:
        before = reading.waiting()
        assert reading.waiting() == before
    keep(store, changed)
    with store.read() as reading:
        assert reading.waiting() != before


def test_groups_count_through_any_history(store: Store) -> None:
    chosen = Random(7)
    states: tuple[RequestState, ...] = ("pending", "pending", "granted", "denied", "expired")
    for _ in range(60):
        changed = [
            structs.replace(
                waiting_for("ana", chosen.choice(["finance", "legal"]), id_=f"{chosen.randrange(9)}"),
                state=chosen.choice(states),
                asked=NOW + chosen.randrange(9),
            )
            for _ in range(chosen.randrange(4))
        ]
        with store.write() as transaction:
            for one in changed:
                transaction.keep_request(one)
            if chosen.random() < 0.1:
                transaction.forget(NOW + chosen.randrange(5))
        with store.read() as reading:
            reading.check_columns({})
            wait = Counter(one.approvers for one in reading.requests(pending=True))
            assert {one.approvers: one.count for one in reading.waiting()} == wait
            assert reading.waiting_count("ana") == wait.total()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE waiting SET count = count - 1",
        "UPDATE waiting SET asks = 'x'",
        "DELETE FROM waiting",
        "INSERT INTO waiting VALUES ('eve', 'x', 1, 1)",
    ],
)
def test_a_group_that_counts_others_is_found_by_a_check(store: Store, places: Places, statement: str) -> None:
    keep(store, waiting_for("ana", "finance", id_="a"))
    with store.read() as reading:
        reading.check_columns({})
    places.tamper(store, statement)
    with store.read() as reading:
        assert reading.waiting() == () or "eve" in statement
        with pytest.raises(ChangedRow, match="of the table waiting counts other requests than wait"):
            reading.check_columns({})


def test_very_many_groups_are_read_at_once(store: Store) -> None:
    keep(store, *(waiting_for(f"person {nth}", f"group {nth % 3}", id_=f"{nth}") for nth in range(1_000)))
    with store.read() as reading:
        groups = reading.waiting()
        found = reading.oldest_waiting([([one], 1) for one in groups])
        assert [one.id for one in found] == [f"{nth}" for nth in range(1_000)]


def test_overdue_requests_are_found_by_their_end(store: Store, places: Places) -> None:
    keep(store, *(waiting_for("ana", id_=str(nth), until=NOW + nth) for nth in range(5)))
    keep(store, structs.replace(waiting_for("ana", id_="x", until=NOW), state="granted"))
    with store.read() as reading:
        assert {one.id for one in reading.requests_due(NOW + 2)} == {"0", "1", "2"}
    if places.kind == "sqlite":
        query = "SELECT body FROM requests WHERE state = 'pending' AND until <= 5"
        assert "requests_due" in str(places.rows(store, f"EXPLAIN QUERY PLAN {query}"))


def test_a_request_is_kept_whole_and_replaced_in_its_place(store: Store) -> None:
    keep(store, request("z"), request("a"), request("m"))
    granted = structs.replace(
        request("z", state="granted", asked=NOW + 5),
        approver="ben@our.example",
        answered=NOW + 4,
        signed=NOW + 3,
        signature="signature",
        minted_under="k2",
        nonce=b64u(b"x" * 16),
        minted=NOW + 5,
        capability=b64u(b"c" * 16),
    )
    keep(store, granted)
    with store.read() as reading:
        assert reading.requests() == [granted, request("a"), request("m")]
        assert reading.request("z") == granted
        assert reading.request("b") is None


def test_requests_are_found_by_task_and_by_whether_they_wait(store: Store) -> None:
    keep(store, request("a"), request("b", state="denied"), request("c", task="task-2"))
    keep(store, request("d", task="task-2", state="granted"), request("a", state="approved"), request("e"))
    with store.read() as reading:

        def found(task: str | None = None, *, pending: bool = False) -> list[str]:
            return [one.id for one in reading.requests(task=task, pending=pending)]

        assert found() == ["a", "b", "c", "d", "e"]
        assert found("task-1") == ["a", "b", "e"]
        assert found("task-3") == []
        assert found(pending=True) == ["c", "e"]
        assert found("task-1", pending=True) == ["e"]


def counted(store: Store, *requests: RequestRecord) -> None:
    """Keep new requests, and count them."""
    with store.write() as transaction:
        for one in requests:
            transaction.keep_request(one)
            transaction.count_request(one)


def counts(store: Store, *path: str, audience: str = "billing") -> list[tuple[int, int]]:
    with store.read() as reading:
        return [(each.of_all, each.of_audience) for each in reading.request_counts(path, audience)]


def test_a_request_counts_at_every_node_of_its_path(store: Store) -> None:
    elsewhere = structs.replace(request("c", node=OTHER), audience="crm")
    counted(store, request("a"), request("b", state="denied"), elsewhere)
    assert counts(store, ROOT, NODE) == [(3, 2), (2, 2)]
    assert counts(store, OTHER, ROOT) == [(1, 0), (3, 2)]
    assert counts(store, ROOT, audience="crm") == [(3, 1)]
    assert counts(store, "unseen") == [(0, 0)]


def test_a_request_that_is_kept_again_counts_once(store: Store) -> None:
    counted(store, request("a"))
    keep(store, request("a", state="granted", asked=NOW + 5))
    assert counts(store, ROOT, NODE) == [(1, 1), (1, 1)]


def test_requests_that_count_no_more_count_at_no_node_above(store: Store) -> None:
    below = structs.replace(request("b"), path=(ROOT, NODE, "below"))
    counted(store, request("a"), below, request("c", node=OTHER))
    for node, left in (("unseen", 3), ("below", 2), (NODE, 1), (NODE, 1), ("below", 1)):
        with store.write() as transaction:
            transaction.uncount_requests([node])
        assert counts(store, ROOT, OTHER) == [(left, left), (1, 1)]
    assert counts(store, NODE, "below") == [(1, 1), (1, 1)]
    # Kept all the same: what was denied stays denied.
    keep(store, request("a", state="expired"))
    assert counts(store, ROOT) == [(1, 1)]
    with store.read() as reading:
        assert [one.id for one in reading.requests()] == ["a", "b", "c"]


def test_requests_are_found_by_their_node_and_their_call(store: Store) -> None:
    other = structs.replace(request("c"), action="billing.read")
    some = structs.replace(request("d"), all_args="{}")
    anything = structs.replace(request("e"), args=None)
    assert len({one.call for one in (request("a"), other, some, anything)}) == 4
    keep(store, request("b", node=OTHER), request("a"), other, some, anything)
    with store.read() as reading:

        def found(nodes: tuple[str, ...], *requests: RequestRecord) -> list[str]:
            return [one.id for one in reading.requests_for(nodes, [one.call for one in requests])]

        assert found((NODE, OTHER), request("a")) == found((OTHER, NODE, "unseen"), request("z")) == ["b", "a"]
        assert found((NODE,), request("a"), some) == ["a", "d"]
        assert found((NODE,), other) == ["c"]
        assert found((NODE,), anything) == ["e"]
        assert found((ROOT,), request("a"), other, some, anything) == []


def test_a_request_that_is_made_again_is_found_by_its_new_call(store: Store) -> None:
    counted(store, request("a"))
    again = structs.replace(request("a"), all_args="{}")
    counted(store, again)
    with store.read() as reading:
        assert reading.requests_for([NODE], [request("a").call]) == []
        assert reading.requests_for([NODE], [again.call]) == [again]
    assert counts(store, ROOT, NODE) == [(1, 1), (1, 1)]


def id_of(letter: str) -> bytes:
    return letter.encode() * 16


def test_what_a_token_was_granted_is_found_by_what_kills_it(store: Store) -> None:
    first = GrantRecord(id_of("c"), (id_of("r"), id_of("s")), "k1", NOW, NOW + 20)
    second = GrantRecord(id_of("b"), (id_of("r"), id_of("t")), "k2", NOW + 10, NOW + 30)
    keep(store, first, second)
    with store.read() as reading:
        assert granted_by(reading, id_of("r")) == [id_of("b"), id_of("c")]
        assert granted_by(reading, id_of("t")) == [id_of("b")]
        # What was granted is nobody's strength, and neither a node nor a task is one.
        assert granted_by(reading, id_of("b")) == granted_by(reading, id_of("n")) == granted_by(reading, "task-1") == []
        assert granted_by(reading, of_kid("k1")) == [id_of("c")]
        assert granted_by(reading, of_kid("k3")) == []
        assert granted_by(reading, of_instant(NOW - 1)) == []
        assert granted_by(reading, of_instant(NOW)) == granted_by(reading, of_instant(NOW + 9)) == [id_of("c")]
        assert granted_by(reading, of_instant(NOW + 10)) == [id_of("b"), id_of("c")]
        # What was granted by then the instant kills itself.
        assert granted_by(reading, of_instant(NOW + 20)) == [id_of("b")]
        assert granted_by(reading, of_instant(NOW + 30)) == []


def test_a_capability_is_granted_once(store: Store) -> None:
    keep(store, GrantRecord(id_of("c"), (id_of("r"),), "k1", NOW, NOW))
    with pytest.raises(StoreProblem):
        keep(store, GrantRecord(id_of("c"), (id_of("s"),), "k1", NOW, NOW))
    with store.read() as reading:
        assert granted_by(reading, id_of("s")) == []


def test_old_requests_and_grants_are_forgotten_and_intents_never(store: Store) -> None:
    keep(store, INTENT, UNSEEN)
    counted(store, request("old"), request("again"), request("new", asked=NOW + 9))
    keep(store, request("again", asked=NOW + 9))
    keep(store, GrantRecord(id_of("c"), (id_of("r"), id_of("s")), "k1", NOW - 5, NOW))
    keep(store, GrantRecord(id_of("d"), (id_of("r"), id_of("t")), "k1", NOW - 5, NOW + 5))
    with store.write() as transaction:
        assert transaction.forget(NOW + 5) == Pruned(0, 0, 0, 1)
        assert [one.id for one in transaction.requests()] == ["again", "new"]
        for key in (id_of("r"), of_kid("k1"), of_instant(NOW - 5)):
            assert granted_by(transaction, key) == [id_of("d")]
        assert granted_by(transaction, id_of("s")) == []
        assert transaction.intents() == [INTENT, UNSEEN]
        assert transaction.forget(NOW + 5) == Pruned(0, 0, 0, 0)
        # What was forgotten as a whole may be granted again.
        transaction.keep_grant(GrantRecord(id_of("c"), (id_of("r"), id_of("s")), "k1", NOW, NOW + 9))
    assert counts(store, ROOT) == [(2, 2)]
    keep(store, request("later", asked=NOW + 9))
    with store.read() as reading:
        assert [one.id for one in reading.requests()] == ["again", "new", "later"]


def test_a_block_that_raises_leaves_nothing_of_an_ask(store: Store) -> None:
    keep(store, INTENT)

    def interrupted() -> None:
        with store.write() as transaction:
            transaction.keep_intent(structs.replace(INTENT, opened=2))
            transaction.keep_request(request("a"))
            transaction.keep_grant(GrantRecord(id_of("c"), (id_of("r"),), "k1", NOW, NOW))
            assert transaction.intent("digest-1") != INTENT
            assert transaction.request("a") is not None
            assert granted_by(transaction, id_of("r")) == [id_of("c")]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    with store.read() as reading:
        assert reading.intents() == [INTENT]
        assert reading.requests() == []
        assert granted_by(reading, id_of("r")) == []


@pytest.mark.parametrize(
    "body",
    ["", "{", '{"id":"a"}', "[" * 5_000, "replace(body, '\"pending\"', '\"bored\"')", "replace(body, 'issued', 'x')"],
)
def test_a_request_that_capx_did_not_write_so_is_damage(store: Store, places: Places, body: str) -> None:
    keep(store, request("a"))
    places.tamper(store, f"UPDATE requests SET body = {body if body.startswith('replace') else repr(body)}")
    with store.read() as reading:
        for read in (lambda: reading.request("a"), reading.requests):
            with pytest.raises(Damaged, match="restore it from a backup"):
                read()


def test_a_request_of_nobody_is_damage() -> None:
    nobody = structs.replace(request("a"), path=())
    with pytest.raises(Damaged):
        RequestRecord.parse(nobody.text())


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("of", KINDS)
def test_intents_are_taken_over_and_the_dead_of_an_epoch_are_not(
    of_kind: Callable[[str], Store], of: str, to: str
) -> None:
    old, new = of_kind(of), of_kind(to)
    keep(old, INTENT, UNSEEN, GrantRecord(id_of("c"), (id_of("r"),), "k1", NOW, NOW))
    counted(old, request("a"))
    with old.write() as transaction:
        transaction.open_task(TaskRecord("task-1", "root-1", NOW, NOW + 60, principal="ana", intent="digest-1"))
    with old.read() as reading, new.write() as transaction:
        transaction.adopt(reading)
    with old.read() as was, new.read() as now:
        assert now.intents() == was.intents() == [INTENT, UNSEEN]
        assert now.tasks() == was.tasks()
        assert now.requests() == []
        assert [one.of_all for one in now.request_counts([ROOT], "billing")] == [0]
        assert granted_by(now, id_of("r")) == granted_by(now, of_kid("k1")) == []


def test_a_store_that_knows_an_intent_takes_over_nothing(places: Places) -> None:
    old, new = places.create(), places.create()
    keep(new, UNSEEN)
    with pytest.raises(StoreProblem, match="is not empty"), old.read() as reading, new.write() as transaction:
        transaction.adopt(reading)
