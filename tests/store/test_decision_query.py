"""Finding recorded decisions: what fits, all that fits, and nothing else."""

import contextlib
import sqlite3
import tracemalloc
from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec
import pytest

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest
from capx.store.decision_index import ANY, indexed, sought
from capx.store.decision_query import Query, QueryFields, Recorded, WholeRecorded
from capx.store.log import Event
from capx.tokens.chain import nodes

BODY = {
    "outcome": "denied",
    "action": "crm.accounts.read",
    "task": "T",
    "tenant": "Acme",
    "hops": ["planner", "reader"],
    "path": ["root", "N1", "N2"],
    "presentation": "P",
    "reasons": [{"code": "expired"}, {"code": "wrong_tenant", "given": [1]}],
}


def event(kind: str = "decision", at: int = 1_000, **facts: object) -> Event:
    return Event(1, at, kind, msgspec.json.encode({**BODY, **facts}), bytes(32))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"agent": "reader"},
        {"agent": "planner"},
        {"tenant": "Acme"},
        {"action": "crm.accounts.read"},
        {"action": "crm.accounts.*"},
        {"action": "crm.*"},
        {"task": "T"},
        {"node": "N2"},
        {"node": "N1"},
        {"presentation": "P"},
        {"denied": True},
        {"reasons": ("expired",)},
        {"reasons": ("too_big", "wrong_tenant")},
        {"since": 1_000},
        {"agent": "reader", "tenant": "Acme", "action": "crm.*", "task": "T", "denied": True, "since": 999},
    ],
)
def test_a_decision_that_fits_is_found(asked: dict[str, Any]) -> None:
    assert Query(**asked).matches(event())


@pytest.mark.parametrize(
    "asked",
    [
        {"agent": "read"},
        {"agent": "Reader"},
        {"tenant": "acme"},
        {"action": "crm"},
        {"action": "crm.accounts"},
        {"action": "crm.accounts.read.*"},
        {"action": "cr.*"},
        {"task": "U"},
        {"node": "N"},
        {"node": "N3"},
        {"presentation": "Q"},
        {"reasons": ("expire",)},
        {"reasons": ("revoked", "too_big")},
        {"since": 1_001},
        {"agent": "reader", "tenant": "Globex"},
    ],
)
def test_one_that_does_not_fit_in_one_respect_is_not(asked: dict[str, Any]) -> None:
    assert not Query(**asked).matches(event())


@pytest.mark.parametrize("path", [[], ["root", "N1"]])
def test_a_node_follows_from_root_and_nonces(path: list[str]) -> None:
    acted = event(root="R", nonces=["AAAAAAAAAAA", "BBBBBBBBBBA"], path=path)
    top, first, last = map(b64u, nodes("R", ["AAAAAAAAAAA", "BBBBBBBBBBA"]))
    assert all(Query(node=node).matches(acted) for node in (top, first, last))
    # A path beside nonces means nothing.
    assert not Query(node="N1").matches(acted)
    alone = event(root="R", hops=[], path=[])
    assert Query(node=top).matches(alone)
    assert not Query(node=first).matches(alone)


@pytest.mark.parametrize("nonces", [[""] * 3, ["A" * 10_000], ["A" * 11] * 256, "A" * 11, [5], {}])
def test_nonces_that_no_token_has_cannot_be_read(nonces: object) -> None:
    odd = event(root="R", nonces=nonces, path=[])
    assert odd.read_if(Recorded) is None
    # So a resource hides nothing by them.
    assert Query(node="N1").matches(odd)


def test_an_unknown_outcome_fits_nothing_that_is_asked_for() -> None:
    assert not Query(denied=True).matches(event(outcome="allowed"))
    assert Query().matches(event(action=None, task=None, tenant=None))
    for asked in (Query(action="crm.*"), Query(task="T"), Query(tenant="Acme"), Query(presentation="P")):
        assert not asked.matches(event(action=None, task=None, tenant=None, presentation=None))
    assert not Query().matches(event(kind="task_opened"))


@pytest.mark.parametrize(
    "asked",
    [
        {"agent": ""},
        {"agent": "a\u202eb"},
        {"tenant": "x\n"},
        {"action": "*"},
        {"task": "/"},
        {"node": ""},
        {"presentation": "a b"},
        {"reasons": ("expired", "")},
        {"reasons": ("a\u202eb",)},
    ],
)
def test_what_no_decision_can_be_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="no decision can match it"):
        Query(**asked)


@pytest.mark.parametrize("since", [-1, 1.5, True, "yesterday"])
def test_a_time_that_is_none_is_refused_by_its_name(since: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^`since` must be"):
        Query(since=since)


def test_a_decision_that_cannot_be_read_is_told_and_not_missed() -> None:
    broken = Event(7, 1, "decision", b'{"outcome": 3}', bytes(32))
    assert Query(denied=True).matches(broken)
    assert not Query(since=2).matches(broken)


@pytest.mark.parametrize("reasons", [5, ["expired"], None])
def test_reasons_that_cannot_be_read_count_only_if_asked_for(reasons: object) -> None:
    assert not Query(task="U").matches(event(reasons=reasons))
    assert Query(task="U", reasons=("expired",)).matches(event(reasons=reasons))


@pytest.mark.parametrize("reasons", [[], [{}], [{"code": ["expired"]}], [{"sentence": "expired"}]])
def test_reasons_without_that_code_do_not_match(reasons: object) -> None:
    assert not Query(reasons=("expired",)).matches(event(reasons=reasons))


@pytest.fixture
def long() -> Iterator[Authority]:
    """An authority whose log has more events than are read at once; each third decision is a denial."""
    with Authority.temporary() as authority:
        with authority.store.write() as transaction:
            for number in range(2_500):
                outcome = "denied" if number % 3 == 0 else "allowed"
                body = msgspec.json.encode({**BODY, "id": f"d{number}", "outcome": outcome})
                transaction.append("decision", body, at=number)
        yield authority


def ids(events: Iterator[Event]) -> list[str]:
    return [event.facts()["id"] for event in events]


def test_all_are_found_in_order_across_all_pieces(long: Authority) -> None:
    assert ids(long.find(denied=True)) == [f"d{number}" for number in range(0, 2_500, 3)]
    assert ids(long.find(denied=True, since=2_490)) == ["d2490", "d2493", "d2496", "d2499"]
    assert ids(long.find(denied=True, limit=2)) == ["d2496", "d2499"]
    assert ids(long.find(denied=True, limit=5_000)) == [f"d{number}" for number in range(0, 2_500, 3)]
    assert ids(long.find(agent="nobody")) == []
    assert ids(long.find(denied=True, after=2_490, until=2_497)) == ["d2490", "d2493", "d2496"]
    assert ids(long.find(denied=True, after=1, until=2_497, limit=2)) == ["d2493", "d2496"]
    with pytest.raises(InvalidRequest, match="there is no task"):
        long.find(task="U")


def test_a_query_and_its_fields_find_the_same(long: Authority) -> None:
    denied = Query(denied=True, since=2_490)
    assert ids(long.find(denied)) == ids(long.find(denied=True, since=2_490))
    assert ids(long.find(denied, since=2_497)) == ["d2499"]
    with pytest.raises(InvalidRequest, match="is not a tenant"):
        long.find(denied, tenant="\n")
    with pytest.raises(TypeError, match="colour"):
        long.find(colour="red")  # type: ignore[call-arg]


def test_each_field_of_a_query_can_be_a_keyword() -> None:
    assert get_type_hints(QueryFields) == get_type_hints(Query)


def test_times_that_step_back_hide_nothing(long: Authority) -> None:
    with long.store.write() as transaction:
        transaction.append("decision", msgspec.json.encode({**BODY, "id": "late"}), at=3)
    assert ids(long.find(denied=True, since=2_497)) == ["d2499"]
    assert "late" in ids(long.find(denied=True, since=3))


def test_a_log_is_read_forward_backward_and_from_a_position(long: Authority) -> None:
    forward = list(long.log())
    assert [event.position for event in forward] == list(range(1, 2_501))
    assert list(long.newest_first()) == forward[::-1]
    assert [event.position for event in long.log(since=1_998, limit=4)] == [1_999, 2_000, 2_001, 2_002]
    assert list(long.log(since=2_500)) == []
    assert list(long.log(since=10**30)) == []


def test_reading_ends_where_the_log_ended_and_holds_no_writer_up(long: Authority) -> None:
    reading = long.log()
    next(reading)
    with long.store.write() as transaction:
        transaction.append("noted", b"{}", at=1)
    with contextlib.closing(sqlite3.connect(long.store.place)) as other:
        blocked, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert not blocked
    assert sum(1 for _ in reading) == 2_499


def test_memory_does_not_grow_with_the_log(long: Authority) -> None:
    with long.store.write() as transaction:
        for number in range(15_000):
            body = msgspec.json.encode({**BODY, "id": f"e{number}", "tenant": "x" * 1_000})
            transaction.append("decision", body, at=number)
    tracemalloc.start()
    try:
        assert sum(1 for _ in long.find(denied=True)) > 15_000
        assert len(list(long.find(denied=True, limit=3))) == 3
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000  # a third of what was read


def test_kids_are_told_with_the_live_tasks_of_their_tokens() -> None:
    with Authority.temporary() as authority:
        (kid,) = authority.kids()
        one, two, three = (authority.open(allow=["crm.read", "slides.write"]) for _ in "123")
        authority.mint(one.id, allow=["tickets.read"])
        assert authority.kids() == {kid: 3}
        authority.complete(one.id)
        authority.revoke(two.root)
        assert authority.kids() == {kid: 1}
        authority.complete(three.id)
        assert authority.kids() == {kid: 0}


def shown(args: Any, **facts: Any) -> Event:
    body = {"outcome": "allowed", "shown_args": args, **facts}
    return Event(1, 5, "decision", msgspec.json.encode(body), bytes(32))


@pytest.mark.parametrize(
    ("args", "finds"),
    [
        (('ticket="T-1"',), True),
        (('ticket="T-1"', "amount=40"), True),
        (("amount=40",), True),
        (("amount=40.5",), False),
        (('amount="40"',), False),
        (("amount=true",), False),
        (('ticket="T-2"',), False),
        (('ticket="T-1"', "amount=41"), False),
        (('other="T-1"',), False),
    ],
)
def test_arguments_in_the_clear_are_found(args: tuple[str, ...], finds: bool) -> None:
    event = shown({"ticket": "T-1", "amount": 40})
    assert Query(args=args).matches(event) == finds
    # The index leads to it, and never past it.
    assert not finds or set(sought(Query(args=args))) <= indexed(0, [event]).values
    assert not Query(args=args).matches(shown({}))


@pytest.mark.parametrize("args", [[1], {"ticket": ["T-1"]}, {"ticket": {}}, 7])
def test_nonsense_in_the_clear_hides_nothing(args: Any) -> None:
    assert Query(args=('ticket="T-1"',)).matches(shown(args))
    assert ANY in indexed(0, [shown(args)]).values


def test_very_many_arguments_in_the_clear_take_one_row() -> None:
    event = shown({f"a{nth}": nth for nth in range(60)})
    assert ANY in indexed(0, [event]).values
    assert not any(value.startswith("arg:") for value in indexed(0, [event]).values)
    long = 'x="' + "y" * 400 + '"'
    assert sought(Query(args=(long,))) == []


@pytest.mark.parametrize(
    "args", ["ticket", "ticket=", "ticket=T-1", 'ticket= "T-1"', "ticket=[1]", "=1", "a=1.0", "a=NaN"]
)
def test_what_is_no_argument_is_refused(args: str) -> None:
    with pytest.raises(InvalidRequest, match="is not an argument and its value"):
        Query(args=(args,))


@pytest.mark.parametrize("value", [b"9007199254740993", b"1e30", b"1e999999", b'"\\ud800"'])
def test_an_argument_that_no_query_can_name_hurts_nobody(value: bytes) -> None:
    body = b'{"id":"d.1","outcome":"allowed","shown_args":{"x":%b,"ticket":"T-1"}}' % value
    event = Event(1, 1, "decision", body, bytes(32))
    block = indexed(0, [event])
    read = event.read_if(WholeRecorded)
    if read is None:
        assert ANY in block.values
    else:
        assert read.args == {'ticket="T-1"'}
        assert Query(args=('ticket="T-1"',)).matches(event)
        assert 'arg:ticket="T-1"' in block.values
