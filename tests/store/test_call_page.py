"""Pages of calls, in both stores: what they show, and that no flood makes one slow or hides anything."""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from capx.crypto.base64url import b64u
from capx.store.call_page import CallPage, call_page
from capx.store.decision_groups import Group, grouped
from capx.store.decision_index import BLOCK
from capx.store.decision_query import Query
from capx.store.log import Event
from capx.store.protocols import Reading, Store

TASK = "T" * 22
OTHER = "O" * 22
NODE = b64u(bytes(16))
ALLOWED: dict[str, Any] = {"outcome": "allowed", "reasons": []}


def body(nth: int, **facts: Any) -> bytes:
    said = {
        "id": f"d.{nth:022}",
        "outcome": "denied",
        "audience": "crm",
        "action": "crm.read",
        "task": TASK,
        "path": [NODE],
        "args_digest": f"{nth:016}",
        "reasons": [{"code": "expired"}],
    }
    return msgspec.json.encode(said | facts)


def write(store: Store, bodies: Iterable[bytes], at: int = 1_000) -> None:
    with store.write(durable=False) as transaction:
        transaction.append_all("decision", bodies, at=at)


def pages(store: Store, query: Query, limit: int = 3, *, each: bool = False, before: int = 2**53) -> Iterator[CallPage]:
    while before:
        with store.read() as reading:
            page = call_page(reading, query, before=before, limit=limit, each=each)
        yield page
        assert page.reached < before
        before = page.reached


def positions(groups: Iterable[Group]) -> list[list[int]]:
    return [[event.position for event in group.events] for group in groups]


def all_of(store: Store, query: Query, limit: int = 3, *, each: bool = False) -> list[list[int]]:
    return positions(group for page in pages(store, query, limit, each=each) for group in page.groups)


def first(store: Store, query: Query, limit: int = 1) -> CallPage:
    return next(pages(store, query, limit))


@pytest.mark.parametrize("query", [Query(), Query(denied=True), Query(reasons=("expired",)), Query(task=TASK)], ids=str)
def test_pages_together_hold_each_call_once(store: Store, query: Query) -> None:
    chance, at = random.Random(7), 1_000
    for nth in range(1, 120):
        at += chance.choice((0, 5, 70))
        outcome = ALLOWED if chance.random() < 0.4 else {}
        task = chance.choice((TASK, OTHER))
        write(store, [body(nth, task=task, path=[task], args_digest=f"{nth // 4:016}", **outcome)], at)
    with store.read() as reading:
        log = list(reading.events())
    # A group is not complete before the log went on; in order of their last decisions, as pages have them.
    every = sorted(
        (group for group in grouped(log) if query.matches(group.last)), key=lambda group: -group.last.position
    )
    assert all_of(store, query) == positions(every)
    each = [[event.position] for event in reversed(log) if query.matches(event)]
    assert all_of(store, query, 7, each=True) == each


class _Counting:
    """A reading that counts the events that it gives."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reading, name)

    def newest(self, **asked: Any) -> Sequence[Event]:
        found = self._reading.newest(**asked)
        self.read += len(found)
        return found

    def events(self, **asked: Any) -> Iterator[Event]:
        for event in self._reading.events(**asked):
            self.read += 1
            yield event


def read_for(store: Store, query: Query) -> tuple[list[list[int]], int]:
    with store.read() as reading:
        counting: Any = _Counting(reading)
        page = call_page(counting, query, before=2**53, limit=1)
    return positions(page.groups), counting.read


def test_of_the_allowed_decisions_few_are_read(store: Store) -> None:
    write(store, [body(1)])
    write(store, (body(nth, task=OTHER, **ALLOWED) for nth in range(2, 3_000)))
    found, read = read_for(store, Query(denied=True))
    assert found == [[1]]
    assert read < 2 * BLOCK


def test_a_flood_in_another_task_cuts_no_group(store: Store) -> None:
    write(store, [body(1)])
    write(store, (body(nth, task=OTHER) for nth in range(2, 3_000)))
    write(store, [body(3_000, args_digest=f"{1:016}", **ALLOWED)])
    assert positions(first(store, Query()).groups) == [[1, 3_000]]
    # Where a search comes to the first decision. To come so far costs each decision of the flood a search of its own.
    assert [page.groups for page in pages(store, Query(denied=True), before=2)] == [()]


def test_a_flood_of_followed_denials_is_searched_page_by_page(store: Store) -> None:
    write(store, [body(1)])
    pairs = ((nth, outcome) for nth in range(2, 600) for outcome in ({}, ALLOWED))
    flood = (body(nth, id=f"d.{at:022}", **outcome) for at, (nth, outcome) in enumerate(pairs, 2))
    write(store, flood)
    read = [page.groups for page in pages(store, Query(denied=True), 1)]
    assert len(read) > 3
    assert positions(group for groups in read for group in groups) == [[1]]


def test_a_page_of_a_search_in_vain_is_bounded(store: Store) -> None:
    write(store, (body(nth, **ALLOWED) for nth in range(1, 25_001)))
    found = list(pages(store, Query(node=OTHER)))
    assert [page.groups for page in found] == [(), ()]
    assert 0 < found[0].reached < 6_000


def test_a_page_of_long_decisions_is_shorter(store: Store) -> None:
    write(store, (body(nth, filler="x" * 60_000) for nth in range(1, 201)))
    page = first(store, Query(denied=True), 200)
    assert len(page.groups) < 100
    assert page.reached == page.groups[-1].last.position


@pytest.mark.parametrize(
    ("facts", "is_denial"),
    [
        ({}, True),
        ({"outcome": "refused"}, True),
        ({"tenant": 7}, True),
        ({"outcome": 7}, True),
        ({"outcome": None}, True),
        ({"reasons": "none"}, True),
        (ALLOWED, False),
        ({"outcome": "allowed", "tenant": 7}, False),
    ],
    ids=str,
)
def test_what_does_not_say_that_it_is_allowed_is_a_denial(store: Store, facts: dict[str, Any], is_denial: bool) -> None:
    write(store, [body(1, **facts)])
    assert all_of(store, Query(denied=True), each=True) == ([[1]] if is_denial else [])
    with store.read() as reading:
        (event,) = reading.events()
    assert Query(denied=True).matches(event) == is_denial


def test_a_decision_of_no_task_is_a_call_of_its_own(store: Store) -> None:
    write(store, [body(1, task=None), body(2, task=None, args_digest=f"{1:016}")])
    assert all_of(store, Query()) == [[2], [1]]
