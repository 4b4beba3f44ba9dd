"""What a hook is told of the events of a real authority, and what it is never told."""

import json
from typing import Any

import pytest
from msgspec import structs

from capx.authority.opening import OpenedTask
from capx.server.notify import denials, notices
from capx.server.notify.hook import KINDS, Hook
from capx.server.notify.notices import KEPT, Notice, Notices, is_over
from capx.store.events import Fact
from capx.tokens.binding import ToolCall
from capx_caveats import Call, shown_instant
from tests.labs.granting_lab import GrantingLab, rule
from tests.labs.lab import NOW

LURE = '<a href="https://evil.example/approve">approve here</a> https://evil.example'
STATEMENT = "Do the work: https://evil.example/statement"
RULES = (rule("at_open", "crm.read"), rule("ask", "mail.send"))


class Told:
    """A hook and the log of a lab."""

    def __init__(self, lab: GrantingLab, **hook: Any) -> None:
        self.lab = lab
        self.hook = Hook(name="pager", command=("/bin/true",), **hook)
        self.notices = self._new()
        self.position = 0

    def _new(self) -> Notices:
        return Notices(self.hook, self.lab.authority.epoch(), lambda: self.lab.policy, self.lab.clock)

    def again(self) -> None:
        """Go on from here after a restart."""
        self.notices = self._new()
        with self.lab.authority.store.read() as reading:
            self.notices.learn(reading, self.position)

    def next(self) -> list[Notice]:
        """What the events since the last time make."""
        self.lab.authority.flush()
        found: list[Notice] = []
        with self.lab.authority.store.read() as reading:
            for event in reading.events(after=self.position):
                found += self.notices.of(reading, event)
                self.position = event.position
        return found

    def one(self) -> dict[str, Any]:
        """The only notice, as it is sent."""
        (only,) = self.next()
        return dict(json.loads(only.body))


@pytest.fixture
def lab() -> GrantingLab:
    return GrantingLab(*RULES)


def asked(lab: GrantingLab, opened: OpenedTask, label: str = LURE) -> str:
    child = opened.bundle.delegate(to=label, may_ask=["mail.send"], now=int(lab.clock.now))
    return lab.pending(child, "mail.send", {"to": LURE}).request


def test_a_request_that_waits_is_told_with_names_of_the_policy(lab: GrantingLab) -> None:
    told = Told(lab)
    opened = lab.open(statement=STATEMENT)
    request = asked(lab, opened)
    record = lab.authority.request(request)
    said = told.one()
    assert said == {
        "id": said["id"],
        "kind": "request_waits",
        "at": NOW,
        "text": f"A request waits for a person until {shown_instant(NOW + 1800)}: capx requests show {request}",
        "task": opened.id,
        "request": request,
        "node": record.node,
        "purpose": "work",
        "audience": "mail",
        "action": "mail.send",
        "approvers": list(record.approvers),
        "until": NOW + 1800,
    }


def test_nothing_that_an_agent_or_a_person_wrote_is_told(lab: GrantingLab) -> None:
    told = Told(lab)
    request = asked(lab, lab.open(statement=STATEMENT, tenant="Globex"))
    lab.decide(request)
    body = b"".join(one.body for one in told.next())
    for word in (b"evil", b"http", b"<a", b"approve here", b"Globex", b"Do the work"):
        assert word not in body


def test_with_values_it_is_told(lab: GrantingLab) -> None:
    told = Told(lab, values=True)
    asked(lab, lab.open(statement=STATEMENT))
    said = told.one()
    assert (said["labels"][-1], said["tenant"], said["statement"]) == (LURE, "Acme", STATEMENT)
    assert "evil" not in said["text"]


def test_a_damaged_document_holds_up_nothing(lab: GrantingLab) -> None:
    told = Told(lab, values=True)
    opened = lab.open()
    asked(lab, opened)
    with lab.authority.store.write() as transaction:
        (row,) = transaction.intents()
        transaction.keep_intent(structs.replace(row, document="{"))
    assert "statement" not in told.one()


def test_answers_and_lapses_are_told(lab: GrantingLab) -> None:
    told = Told(lab, kinds=frozenset({"request_answered", "request_lapses"}))
    opened = lab.open()
    yes, no, late = (asked(lab, opened, label) for label in ("a", "b", "c"))
    lab.decide(yes)
    lab.decide(no, yes=False)
    lab.clock.now += 1801
    lab.authority.end_overdue()
    said = {one.request: one for one in told.next()}
    assert {id_: (one.kind, one.answer, one.approver) for id_, one in said.items()} == {
        yes: ("request_answered", "approved", "bob"),
        no: ("request_answered", "denied", "bob"),
        late: ("request_lapses", None, None),
    }
    assert said[yes].text == f"A request was approved: capx requests show {yes}"
    assert said[late].text == f"A request has lapsed, because nobody answered in time: capx requests show {late}"
    assert all((one.action, one.purpose) == ("mail.send", "work") for one in said.values())


def denied(lab: GrantingLab, opened: OpenedTask, times: int) -> None:
    verifier = lab.authority.verifier("crm")
    for _ in range(times):
        shown = opened.bundle.present("crm", ToolCall("crm.write"), now=int(lab.clock.now)).text
        assert not verifier.decide(shown, ToolCall("crm.write"), Call("crm.write", tenant="Acme")).allowed
    lab.authority.flush()


def test_many_denials_of_a_task_are_told_once(lab: GrantingLab) -> None:
    told = Told(lab, denials=4)
    opened, other = lab.open(), lab.open()
    denied(lab, opened, 3)
    denied(lab, other, 3)
    assert told.next() == []
    denied(lab, opened, 5)
    said = told.one()
    assert (said["kind"], said["task"], said["denials"]) == ("task_denied", opened.id, 4)
    assert (said["audience"], said["action"], said["purpose"]) == ("crm", "crm.write", "work")
    assert said["text"] == f"4 calls of a task were denied within a minute: capx task show {opened.id}"


def test_denials_are_counted_on_after_a_restart(lab: GrantingLab) -> None:
    told = Told(lab, denials=4)
    opened = lab.open()
    denied(lab, opened, 3)
    assert told.next() == []
    told.again()
    denied(lab, opened, 1)
    assert told.one()["task"] == opened.id
    told.again()
    denied(lab, opened, 1)
    assert told.next() == []


def test_old_denials_are_told_neither_late_nor_as_new(lab: GrantingLab) -> None:
    told = Told(lab, denials=4)
    denied(lab, lab.open(), 4)
    lab.clock.now += 60
    assert told.next() == []


class Claim(Fact, frozen=True):
    """What a hostile service writes as its decision."""

    kind = "decision"
    task: str
    action: str
    id: str
    audience: str = "<b>crm</b>"
    outcome: str = "denied"


def test_what_a_hostile_service_writes_is_not_passed_on(lab: GrantingLab) -> None:
    told = Told(lab, denials=2)
    opened = lab.open()
    with lab.authority.store.write() as transaction:
        for task in (LURE, opened.id):
            for nth in range(3):
                Claim(task, LURE, f"d.{nth}{len(task)}").write(transaction, at=NOW)
    said = told.one()
    assert set(said) == {"id", "kind", "at", "text", "task", "purpose", "denials"}
    assert (said["task"], "evil" in json.dumps(said)) == (opened.id, False)


def test_made_up_tasks_drive_no_real_one_out(lab: GrantingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "MOST_TASKS", 5)
    told = Told(lab, denials=2)
    opened = lab.open()
    denied(lab, opened, 1)
    with lab.authority.store.write() as transaction:
        for nth in range(6):
            Claim(f"t.{nth}", "crm.write", f"d.{nth}", "mail").write(transaction, at=NOW)
    denied(lab, opened, 1)
    assert told.one()["task"] == opened.id


@pytest.mark.parametrize("lie", [-3_600, 3_600])
def test_a_hostile_service_hides_no_denial(lab: GrantingLab, lie: int) -> None:
    told = Told(lab, denials=3)
    opened = lab.open()
    for nth in range(3):
        denied(lab, opened, 1)
        with lab.authority.store.write() as transaction:
            Claim(opened.id, "crm.write", f"d.{nth}", "crm").write(transaction, at=NOW + lie)
    assert told.one()["audience"] == "crm"


def test_a_hostile_service_makes_one_notice_a_minute(lab: GrantingLab) -> None:
    told = Told(lab, denials=2)
    opened = lab.open()
    with lab.authority.store.write() as transaction:
        for nth in range(200):
            Claim(opened.id, "crm.write", f"d.{nth}", "crm").write(transaction, at=NOW + 61 * (nth // 2))
    assert told.one()["task"] == opened.id


def test_events_that_cannot_be_read_are_left_out(lab: GrantingLab) -> None:
    told = Told(lab)
    with lab.authority.store.write() as transaction:
        for kind in ("request_made", "request_expired", "request_approved", "decision", "task_opened", "of_tomorrow"):
            transaction.append(kind, b'{"task":7}', at=NOW)
    assert told.next() == []


def test_an_event_has_the_same_id_each_time_for_one_hook(lab: GrantingLab) -> None:
    told = Told(lab)
    asked(lab, lab.open())
    (first,) = told.next()
    told.position = 0
    told.again()
    (again,) = told.next()
    assert (again, again.body) == (first, first.body)
    other = Hook(name="chat", command=("/bin/true",))
    with lab.authority.store.read() as reading:
        event = next(iter(reading.events(kind="request_made")))
        epochs = lab.authority.epoch(), "another.1"
        ids = {next(Notices(hook, epoch, lambda: lab.policy).of(reading, event)).id
               for hook in (told.hook, other) for epoch in epochs}  # fmt: skip
    assert len(ids) == 4
    assert first.id in ids


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_is_told_of_its_kinds_alone(lab: GrantingLab, kind: str) -> None:
    told = Told(lab, kinds=frozenset({kind}), denials=1)
    opened = lab.open()
    lab.decide(asked(lab, opened))
    asked(lab, opened, "b")
    denied(lab, opened, 1)
    found = {one.kind for one in told.next()}
    lab.clock.now += 1801
    lab.authority.end_overdue()
    found |= {one.kind for one in told.next()}
    assert found == ({kind} if kind != "key_changed" else set())


def over(lab: GrantingLab, notice: Notice, now: int = NOW, epoch: str | None = None) -> bool:
    with lab.authority.store.read() as reading:
        return is_over(reading, notice, epoch=epoch or lab.authority.epoch(), now=now)


def test_what_is_too_late_is_over(lab: GrantingLab) -> None:
    told = Told(lab)
    request = asked(lab, lab.open())
    (waits,) = told.next()
    assert not over(lab, waits)
    assert not over(lab, waits, NOW + 1799)
    assert over(lab, waits, NOW + 1800)
    assert over(lab, waits, epoch="another.1")
    lab.decide(request)
    (answered,) = told.next()
    assert over(lab, waits)
    assert not over(lab, answered, NOW + KEPT - 1)
    assert over(lab, answered, NOW + KEPT)


def test_a_test_says_that_nothing_happened() -> None:
    one, other = notices.test_notice(NOW), notices.test_notice(NOW)
    assert one.id != other.id
    assert json.loads(one.body) == {
        "id": one.id, "kind": "test", "at": NOW, "text": "This is a test of a hook of capx: nothing happened.",
    }  # fmt: skip
