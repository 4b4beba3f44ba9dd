"""A task ends once, or by the clock; what protects nothing any more is forgotten."""

import sqlite3

import pytest

from capx.authority.authority import Authority
from capx.errors import BrokenLog, InvalidRequest
from capx.store.records import Pruned
from capx_caveats import (
    budget,
)
from tests.labs.timed_authority import NOW, Clock, kinds, refused


def test_a_task_ends_once_and_is_told_how(authority: Authority) -> None:
    opened = authority.open(allow=["a.b"])
    first = authority.complete(opened.id)
    assert (first.end, first.again) == ("completed", False)
    assert first.position == list(authority.log())[-1].position
    for again in (authority.complete(opened.id), authority.withdraw(opened.id)):
        assert (again.end, again.again, again.position) == ("completed", True, first.position)
    assert kinds(authority).count("task_completed") == 1
    assert authority.task(opened.id).state == "completed"
    with authority.store.read() as reading:
        assert [(death.key, death.reason) for death in reading.deaths()] == [(opened.id, "task_completed")]


def test_a_withdrawn_task_says_so(authority: Authority) -> None:
    opened = authority.open(allow=["a.b"])
    assert authority.withdraw(opened.id).end == "withdrawn"
    with authority.store.read() as reading:
        death = reading.death(opened.id)
    assert death is not None
    assert death.reason == "task_withdrawn"


@pytest.mark.parametrize("late", [0, 5])
def test_a_task_whose_time_ran_out_is_not_completed_any_more(authority: Authority, clock: Clock, late: int) -> None:
    opened = authority.open(allow=["a.b"])
    clock.now = opened.expires - 1
    assert authority.task(opened.id).state == "active"
    clock.now = opened.expires + late
    assert authority.task(opened.id).state == "expired"
    assert [task.state for task in authority.tasks()] == ["expired"]
    assert authority.complete(opened.id).end == "expired"
    assert kinds(authority)[-1] == "task_expired"


@pytest.mark.parametrize("id_", ["", "nothing", "\ud800", "x" * 65, "a b"])
def test_an_unknown_task_is_an_error_that_helps(authority: Authority, id_: str) -> None:
    for act in (authority.complete, authority.withdraw, authority.task, authority.graph):
        with pytest.raises(InvalidRequest, match="capx task list"):
            act(id_)


def test_time_ends_tasks_by_itself_in_the_log(clock: Clock, authority: Authority) -> None:
    opened = [authority.open(allow=["crm.read"], expires="10s") for _ in range(3)]
    living = authority.open(allow=["crm.read"], expires="1h")
    clock.now += 10
    assert [one.task for one in authority.end_overdue(limit=2)] == [task.id for task in opened[:2]]
    assert [one.end for one in authority.end_overdue()] == ["expired"]
    assert authority.end_overdue() == []
    assert authority.task(living.id).state == "active"
    assert kinds(authority)[-3:] == ["task_expired"] * 3
    authority.check()


def test_opening_ends_what_is_overdue(clock: Clock, authority: Authority) -> None:
    for _ in range(25):
        authority.open(allow=["crm.read"], expires="10s")
    clock.now += 10
    authority.open(allow=["crm.read"])
    assert kinds(authority).count("task_expired") == 20
    authority.open(allow=["crm.read"])
    assert kinds(authority).count("task_expired") == 25


def test_what_protects_nothing_is_forgotten_and_stays_in_the_log(clock: Clock, authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"], caveats=[budget("calls", 5)])
    assert refused(authority, opened.bundle) == []
    authority.flush()
    authority.revoke(kid="AAAAAAAAAAA")
    authority.complete(opened.id)
    assert [counter.spent for counter in authority.counters()] == [1]
    clock.now += 86_400 + 3_600 + 1
    later = authority.open(allow=["crm.read"])
    clock.now += 86_400 - 1
    assert authority.prune() == Pruned(0, 0, 0)
    clock.now += 1
    before = list(authority.log())
    assert authority.prune() == Pruned(2, 1, 0)
    assert list(authority.log()) == before
    with authority.store.read() as reading:
        assert [death.key for death in reading.deaths()] == ["kid:AAAAAAAAAAA", later.id]
    authority.check()
    late = authority.open(allow=["crm.read"])
    authority.complete(late.id)
    assert refused(authority, late.bundle) == ["task_completed"]
    authority.check()


def test_a_named_counter_is_never_taken_for_one_of_a_task(clock: Clock, authority: Authority) -> None:
    with pytest.raises(InvalidRequest, match="give it a longer or a shorter name"):
        authority.open(allow=["crm.read"], caveats=[budget("calls", 5, counter="eu-customers-refunds-u")])
    opened = authority.open(allow=["crm.read"], caveats=[budget("calls", 5, counter="eu-customer-refunds-u")])
    assert refused(authority, opened.bundle) == []
    # The counter of a task that there is may be named.
    shared = authority.mint(opened.id, allow=["crm.read"], caveats=[budget("calls", 5, counter=opened.id)])
    assert refused(authority, shared) == []
    authority.flush()
    clock.now += 86_400 + 3_601
    authority.open(allow=["crm.read"])
    clock.now += 86_400
    assert authority.prune().counters == 1
    assert [counter.counter for counter in authority.counters()] == ["eu-customer-refunds-u"]


@pytest.mark.parametrize("tasks", [1, 1_001])
@pytest.mark.parametrize("hours", [0, 23])
def test_a_clock_ahead_forgets_nothing_that_is_needed_later(
    clock: Clock, authority: Authority, tasks: int, hours: int
) -> None:
    opened = [authority.open(allow=["crm.read"], expires="1d") for _ in range(tasks)][-1]
    child = opened.bundle.delegate(to="child")
    assert child.node is not None
    authority.revoke(child.node)
    clock.now += 26 * 3_600
    assert authority.prune().deaths == 0
    authority.open(allow=["crm.read"])
    clock.now += hours * 3_600
    assert authority.prune().deaths == 0
    clock.now = NOW
    assert "revoked" in refused(authority, child)


def test_what_is_overdue_is_ended_before_anything_is_forgotten(clock: Clock, authority: Authority) -> None:
    for _ in range(1_001):
        authority.open(allow=["crm.read"], expires="10s")
    clock.now += 10
    authority.prune()
    assert authority.end_overdue() == []


def test_a_lasting_death_taken_away_once_forgotten_is_found(clock: Clock, authority: Authority) -> None:
    authority.revoke(kid="AAAAAAAAAAA")
    authority.complete(authority.open(allow=["a.b"]).id)
    clock.now += 100_000
    authority.open(allow=["a.b"])
    clock.now += 86_400
    assert authority.prune().deaths == 2
    authority.check()
    connection = sqlite3.connect(authority.store.place)
    connection.execute("DELETE FROM deaths WHERE key = 'kid:AAAAAAAAAAA'")
    connection.commit()
    connection.close()
    with pytest.raises(BrokenLog) as broken:
        authority.check()
    assert broken.value.position == 1
