"""A request is asked, answered, fetched, and ends by itself."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec import structs

from capx.authority.requests import granting
from capx.authority.requests.quotas import MOST_WAITING
from capx.authority.requests.request_state import overdue, waiting
from capx.errors import InvalidRequest
from capx.store.events import RequestExpired
from capx.verify.ask import Granted, Refused
from capx_caveats import (
    action,
    expires,
)
from tests.labs.granting_asks import lab, own
from tests.labs.granting_lab import GrantingLab, people, policy, rule
from tests.labs.lab import NOW

__all__ = ["lab"]


READ, QUERY = "crm.read", "warehouse.query"


def test_a_consent_is_fetched_by_asking_again_a_denial_stays(lab: GrantingLab) -> None:
    opened = lab.open()
    for yes in (True, False):
        args = {"to": "ann" if yes else "ben"}
        pending = lab.pending(opened.bundle, "mail.send", args)
        assert lab.pending(opened.bundle, "mail.send", args).request == pending.request
        assert lab.decide(pending.request, yes=yes).state == ("approved" if yes else "denied")
        if yes:
            granted = lab.granted(opened.bundle, "mail.send", args)
            assert lab.codes(granted, "mail.send", args) == ()
            assert lab.granted(opened.bundle, "mail.send", args).text == granted.text
        else:
            assert lab.refused(opened.bundle, "mail.send", args) == ("request_denied",)
    assert [one.state for one in lab.authority.requests()] == ["granted", "denied"]
    assert lab.authority.requests(pending=True) == []


def test_what_nobody_answers_expires_and_waits_anew(lab: GrantingLab) -> None:
    opened = lab.open()
    first = lab.pending(opened.bundle, "mail.send")
    assert first.until == NOW + 1800
    lab.clock.now += 1800
    assert [one.state for one in lab.authority.requests()] == ["expired"]
    assert lab.authority.requests(pending=True) == []
    again = lab.pending(opened.bundle, "mail.send")
    assert (again.request, again.until) == (first.request, NOW + 3600)
    assert lab.kinds()[-3:] == ["request_made", "request_expired", "request_made"]


def test_requests_end_when_time_is_up_or_their_task_has_ended(lab: GrantingLab) -> None:
    one, other = lab.open(), lab.open()
    lab.pending(one.bundle, "mail.send")
    lab.pending(other.bundle, "mail.send")
    lab.authority.complete(one.id)
    lab.authority.end_overdue()
    assert [request.state for request in lab.authority.requests()] == ["expired", "pending"]
    lab.clock.now += 1800
    lab.authority.end_overdue()
    assert lab.kinds().count("request_expired") == 2


def test_why_nobody_has_to_answer_is_told_and_logged(lab: GrantingLab) -> None:
    task, other, third = lab.open(), lab.open(), lab.open()
    child = own(other.bundle).delegate(to="sub", may_ask=["mail.send"])
    asked = {
        "task_ended": lab.pending(task.bundle, "mail.send"),
        "agent_revoked": lab.pending(child, "mail.send"),
        "replaced": lab.pending(other.bundle, "mail.send"),
        "unanswered": lab.pending(third.bundle, "mail.send"),
    }
    lab.authority.complete(task.id)
    assert child.node is not None
    lab.authority.revoke(child.node)
    lab.authority.end_overdue()
    lab.policy = policy(rule("ask", "mail.*"))
    lab.pending(other.bundle, "mail.send")
    lab.clock.now += 1800
    assert lab.authority.request(asked["unanswered"].request).lapse == "unanswered"
    lab.authority.end_overdue()
    logged = {one.request: one.because for one in lapses(lab)}
    for why, pending in asked.items():
        assert (logged[pending.request], lab.authority.request(pending.request).lapse) == (why, why)
    lab.authority.check()


def test_an_answer_that_comes_too_late_is_told_why(lab: GrantingLab) -> None:
    opened = lab.open()
    pending = lab.pending(opened.bundle, "mail.send")
    verdict = lab.verdict(pending.request)
    lab.authority.complete(opened.id)
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="its task has ended"):
            lab.authority.answer(verdict)


def lapses(lab: GrantingLab) -> list[RequestExpired]:
    return [event.read(RequestExpired) for event in lab.authority.log() if event.kind == RequestExpired.kind]


def test_what_was_agreed_to_is_ended_with_its_task_or_grant(lab: GrantingLab) -> None:
    opened = lab.open()
    asked = [lab.pending(opened.bundle, "mail.send", {"to": to}).request for to in ("ann", "ben", "eve")]
    for request in asked[:2]:
        lab.decide(request)
    granted = lab.granted(opened.bundle, "mail.send", {"to": "ann"})
    lab.clock.now += 5
    lab.authority.revoke(granted.id)
    shown = {one.id: (one.state, one.ended) for one in lab.authority.requests()}
    assert [shown[one] for one in asked] == [("ended", NOW + 5), ("approved", None), ("pending", None)]
    lab.clock.now += 5
    lab.authority.withdraw(opened.id)
    lab.clock.now += 9_000
    shown = {one.id: (one.state, one.ended) for one in lab.authority.requests()}
    assert [shown[one] for one in asked] == [("ended", NOW + 5), ("ended", NOW + 10), ("expired", NOW + 10)]
    lab.authority.end_overdue()
    assert lab.authority.request(asked[2]).ended == NOW + 10


def test_no_request_waits_longer_than_its_asker_lives(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=["mail.send"], caveats=[expires(NOW + 60)])
    assert lab.pending(child, "mail.send").until == NOW + 60


@pytest.mark.parametrize("when", ["pending", "approved"])
def test_a_policy_narrowed_meanwhile_grants_what_it_says_now(lab: GrantingLab, when: str) -> None:
    opened = lab.open()
    pending = lab.pending(opened.bundle, "mail.send")
    if when == "approved":
        lab.decide(pending.request)
    lab.policy = policy(rule("ask", action("mail.send", to="ann")))
    again = lab.pending(opened.bundle, "mail.send")
    assert again.request != pending.request
    assert lab.authority.request(pending.request).state == ("expired" if when == "pending" else when)
    lab.decide(again.request)
    assert lab.codes(lab.granted(opened.bundle, "mail.send"), "mail.send", {"to": "ben"}) == ("argument_refused",)


def test_what_needs_no_person_by_now_is_given_to_those_who_wait(lab: GrantingLab) -> None:
    opened = lab.open()
    lab.pending(opened.bundle, "mail.send")
    lab.policy = policy(rule("on_request", "mail.send"))
    assert isinstance(lab.ask(opened.bundle, "mail.send"), Granted)
    assert lab.authority.requests(pending=True) == []


# Bounds.


def test_only_so_many_requests_wait_for_people(lab: GrantingLab) -> None:
    opened = lab.open()
    for number in range(MOST_WAITING // 2):
        lab.pending(opened.bundle, "mail.send", {"n": number})
    assert lab.refused(opened.bundle, "mail.send", {"n": MOST_WAITING}) == ("too_many",)
    assert isinstance(lab.ask(opened.bundle, QUERY), Granted)
    lab.pending(opened.bundle, "mail.send", {"n": 0})
    lab.decide(lab.authority.requests(pending=True)[0].id)
    lab.pending(opened.bundle, "mail.send", {"n": MOST_WAITING})
    assert lab.refused(opened.bundle, "mail.send", {"n": MOST_WAITING + 1}) == ("too_many",)
    lab.clock.now += 1800
    lab.pending(opened.bundle, "mail.send", {"n": MOST_WAITING + 1})


def test_requests_of_one_principal_wait_in_bounded_number(lab: GrantingLab) -> None:
    ana = structs.replace(people()["ana"], max_waiting=3)
    lab.policy = policy(rule("ask", "mail.send"), principals=people(ana=ana))
    tasks = [lab.open() for _ in range(4)]
    for opened in tasks[:3]:
        lab.pending(opened.bundle, "mail.send")
    refused = lab.ask(tasks[3].bundle, "mail.send")
    assert isinstance(refused, Refused)
    assert "at most 3 of one principal wait for people (max_waiting in the policy)" in str(refused)
    # What waits already keeps its place.
    lab.policy = policy(rule("ask", "mail.send", within=60), principals=people(ana=ana))
    lab.pending(tasks[0].bundle, "mail.send")
    lab.authority.complete(tasks[0].id)
    assert lab.refused(tasks[3].bundle, "mail.send") == ("too_many",)
    lab.authority.end_overdue()
    lab.pending(tasks[3].bundle, "mail.send")


def test_asks_of_many_tasks_at_once_keep_the_bound(lab: GrantingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    ana = structs.replace(people()["ana"], max_waiting=2)
    lab.policy = policy(rule("ask", "mail.send"), principals=people(ana=ana))
    tasks = [lab.open() for _ in range(5)]
    decide, all_have_decided, has_decided = granting.decide, threading.Barrier(5), threading.local()

    def together(*args: Any, **named: Any) -> Any:
        found = decide(*args, **named)
        if not hasattr(has_decided, "once"):
            has_decided.once = True
            all_have_decided.wait(20)
        return found

    monkeypatch.setattr(granting, "decide", together)
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda opened: lab.ask(opened.bundle, "mail.send"), tasks))
    assert sorted(type(answer).__name__ for answer in answers) == ["Pending"] * 2 + ["Refused"] * 3
    assert len(lab.authority.requests(pending=True)) == 2


def test_asks_that_are_refused_at_once_take_no_room(lab: GrantingLab) -> None:
    opened = lab.open()
    for number in range(30):
        assert lab.refused(opened.bundle, "crm.export", {"n": number}) == ("not_offered",)
    assert lab.authority.requests() == []


def test_requests_wait_until_nobody_can_answer_them_any_more(lab: GrantingLab) -> None:
    opened = lab.open()
    child = own(opened.bundle).delegate(to="sub", may_ask=["mail.send"])
    first = lab.pending(opened.bundle, "mail.send").request
    second = lab.pending(child, "mail.send").request
    lab.granted(opened.bundle, QUERY)

    def found(at: int = NOW) -> tuple[list[str], list[str]]:
        with lab.authority.store.read() as reading:
            over = overdue(reading, reading.requests(), at)
            return [one.id for one in waiting(reading, opened.id, at)], [one.id for one in over]

    assert found() == ([first, second], [])
    assert found(NOW + 1800) == ([], [first, second])
    lab.authority.revoke(child)
    assert found() == ([first], [second])
    lab.authority.complete(opened.id)
    assert found() == ([], [first, second])
