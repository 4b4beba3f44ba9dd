"""Requests that nobody can answer any more: found without reading all that wait, also by a process that was away."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from msgspec.structs import replace

from capx.authority.requests import overdue as module
from capx.authority.requests.overdue import OverdueRequests, expire_all
from capx.authority.row_guard import KeyedRowGuard
from capx.errors import Unavailable
from capx.store.row_marks import MARK_BYTES
from capx.store.sql.request_rows import SqlRequestRows
from capx_caveats import Hop
from tests.labs.granting_asks import lab, own
from tests.labs.granting_lab import GrantingLab

__all__ = ["lab"]


class Asked:
    """Three requests: of the first agent of a task, of its sub-agent, and of another task."""

    def __init__(self, lab: GrantingLab) -> None:
        self.authority = lab.authority
        self.clock = lab.clock
        opened, other = lab.open(), lab.open()
        self.task, self.other = opened.id, other.id
        self.bundle = own(opened.bundle)
        self.child = self.bundle.delegate(to="sub", may_ask=["mail.send"])
        asking = (opened.bundle, self.child, other.bundle)
        self.ids = [lab.pending(one, "mail.send").request for one in asking]
        lab.authority.end_overdue()

    @property
    def waits(self) -> list[int]:
        """The numbers of those that the store says wait."""
        with self.authority.store.read() as reading:
            return [self.ids.index(one.id) for one in reading.requests(pending=True)]

    def revoke_below(self) -> None:
        """Have the first agent revoke its sub-agent."""
        (capability,) = self.child
        (hop,) = [one.nonce for block in capability.caveats for one in block if isinstance(one, Hop)]
        self.authority.revoke_below(self.task, capability.path[:1], [hop])

    def revoke_minted(self) -> None:
        """Have an operator revoke the capability with which the first agent asks."""
        (capability,) = self.bundle
        self.authority.revoke(capability.id)


@pytest.fixture
def asked(lab: GrantingLab) -> Asked:
    return Asked(lab)


DEATHS: Final[dict[str, tuple[Callable[[Asked], object], list[int]]]] = {
    "a task completed": (lambda asked: asked.authority.complete(asked.task), [2]),
    "two tasks completed": (lambda asked: [asked.authority.complete(one) for one in (asked.task, asked.other)], []),
    "a task withdrawn": (lambda asked: asked.authority.withdraw(asked.task), [2]),
    "a root revoked": (lambda asked: asked.authority.revoke(asked.task), [2]),
    "a node revoked by its delegator": (Asked.revoke_below, [0, 2]),
    "a node revoked by an operator": (lambda asked: asked.authority.revoke(asked.child), [0, 2]),
    "a capability revoked": (Asked.revoke_minted, [2]),
    "everything up to now": (lambda asked: asked.authority.revoke(issued=int(asked.clock.now)), []),
    "a root key": (lambda asked: asked.authority.revoke(kid=asked.authority.keyring.active.kid), []),
}


@pytest.mark.parametrize("was_away", [False, True])
@pytest.mark.parametrize("death", DEATHS)
def test_a_death_ends_what_waits_below_it(asked: Asked, death: str, *, was_away: bool) -> None:
    act, left = DEATHS[death]
    act(asked)
    assert asked.waits == [0, 1, 2]
    if was_away:
        # As a process that begins.
        asked.authority._overdue = OverdueRequests()
    asked.authority.end_overdue()
    assert asked.waits == left


def test_what_nobody_answers_ends_in_time(asked: Asked) -> None:
    for seconds, left in ((1_799, [0, 1, 2]), (1, [])):
        asked.clock.now += seconds
        asked.authority.end_overdue()
        assert asked.waits == left


def test_a_look_reads_no_more_than_may_have_ended(
    lab: GrantingLab, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    requests = SqlRequestRows.requests

    def noted(self: SqlRequestRows, **which: Any) -> Any:
        read.append(which)
        return requests(self, **which)

    monkeypatch.setattr(SqlRequestRows, "requests", noted)
    steps: list[tuple[list[Callable[[], object]], list[Any]]] = [
        ([], []),
        ([lab.open, asked.revoke_below], [{"task": asked.task, "pending": True}]),
        ([asked.revoke_minted], [{"pending": True}]),
        ([lambda: asked.authority.complete(asked.other)], [{"task": asked.other, "pending": True}]),
    ]
    for acts, reads in steps:
        for act in acts:
            act()
        read.clear()
        for _ in range(2):
            asked.authority.end_overdue()
            assert read == reads


def test_requests_end_a_few_at_a_time_unless_they_changed(
    lab: GrantingLab, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    for task in (asked.task, asked.other):
        asked.authority.complete(task)
    with asked.authority.store.read() as reading:
        found, _ = OverdueRequests().find(reading, int(asked.clock.now))
    with asked.authority.store.write() as transaction:
        (changed,) = [row for row in transaction.marked_rows("requests") if row.id == asked.ids[0]]
        transaction.put_mark(changed, bytes(MARK_BYTES))
    begun: list[None] = []

    def writing() -> Any:
        begun.append(None)
        return asked.authority._writing(KeyedRowGuard(asked.authority.keyring))

    # The second time, all but the first have ended, and one is forgotten.
    for more in ([], [replace(found[0], id="unknown")]):
        expire_all([*found, *more], writing)
        assert asked.waits == [0]
    assert (len(begun), lab.kinds().count("request_expired")) == (4, 2)


def test_what_could_not_be_written_is_found_again(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, guarded = asked.authority._writing, list[Any]()

    @contextmanager
    def busy(*guard: Any) -> Iterator[Any]:
        guarded.extend(guard)
        if guard and len(guarded) == 1:
            raise Unavailable("the store is busy")
        with writing(*guard) as found:
            yield found

    asked.authority.complete(asked.task)
    monkeypatch.setattr(asked.authority, "_writing", busy)
    with pytest.raises(Unavailable):
        asked.authority.end_overdue()
    assert asked.waits == [0, 1, 2]
    asked.authority.end_overdue()
    assert asked.waits == [2]
