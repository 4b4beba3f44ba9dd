"""What a person has signed stays, round by round: a retry, a restoration, an archive and time take none of it away."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capx.authority.requests.answers import GivenAnswer, answers_in
from capx.authority.restore import restore
from capx.authority.row_guard import replace_marks
from capx.crypto.base64url import b64u
from capx.crypto.keys import KeyRing, RootKey
from capx.errors import BrokenLog, UnknownTask
from capx.ledger.archive import Archive
from capx.proof import export
from capx.store.backup import backup
from capx.store.factory import create_store, is_postgres, open_store
from capx.store.row_marks import ChangedRow
from capx.tokens.approval_caveat import approval
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.bundle import Bundle
from capx.verify.ask import Approved, Granted, Pending
from tests.labs.counts import repeated
from tests.labs.granting_lab import BOB, CARA, GrantingLab, policy, rule
from tests.labs.proving import PLANNER, ProofLab, read
from tests.labs.tampering import Behind

PAY, LOOK = "bank.pay", "shop.look"
ARGS = {"amount": 40}
KEYS = KeyRing(RootKey(bytes(range(32))))
RULES = (rule("at_open", "crm.*"), rule("ask", PAY, uses=1), rule("on_request", LOOK, uses=1))


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return str(tmp_path / "capx.db")


@pytest.fixture
def lab(place: str) -> Iterator[GrantingLab]:
    if not is_postgres(place):
        create_store(place).close()
    made = opened(place)
    with made.authority:
        yield made


def opened(place: str) -> GrantingLab:
    """An authority over the store at a place."""
    return GrantingLab(*RULES, store=open_store(place), keyring=KEYS)


def consented(lab: GrantingLab, bundle: Bundle, person: Any = BOB) -> tuple[str, Any]:
    """A grant that a person agreed to, and its request."""
    request = lab.pending(bundle, PAY, ARGS).request
    lab.decide(request, person)
    return request, lab.granted(bundle, PAY, ARGS)


def told(lab: GrantingLab, task: str) -> list[tuple[str | None, bool, int, tuple[str, ...]]]:
    return [(one.approver, one.yes, one.round, one.given) for one in lab.authority.answers(task)]


def ids(capability: Any) -> tuple[str, ...]:
    return tuple(map(b64u, capability.ids))


def test_a_retry_takes_no_consent_away(lab: GrantingLab) -> None:
    task = lab.open()
    request, granted = consented(lab, task.bundle)
    assert lab.codes(granted, PAY, ARGS) == ()
    before = lab.authority.proof_parts(task.id).requests
    assert lab.pending(task.bundle, PAY, ARGS).request == request
    assert lab.authority.request(request).approver is None, "the request waits for its second round"
    (answer,) = lab.authority.answers(task.id)
    assert answer == GivenAnswer(
        request=request,
        round=1,
        node=b64u(task.bundle.node or b""),
        labels=(),
        audience="bank",
        action=PAY,
        approver="bob",
        yes=True,
        at=int(lab.clock.now),
        given=ids(granted),
    )
    assert lab.authority.proof_parts(task.id).requests == before
    assert len(before) == 1


def test_each_round_keeps_who_answered_it(lab: GrantingLab) -> None:
    task = lab.open()
    request, first = consented(lab, task.bundle)
    assert lab.codes(first, PAY, ARGS) == ()
    _, second = consented(lab, task.bundle, CARA)
    assert lab.codes(second, PAY, ARGS) == ()
    lab.pending(task.bundle, PAY, ARGS)
    told_before = [one for one in lab.authority.inquiry(request).sentences() if "granted the same" in one]
    lab.decide(request, yes=False)
    assert told(lab, task.id) == [
        ("bob", True, 1, ids(first)),
        ("cara", True, 2, ids(second)),
        ("bob", False, 3, ()),
    ]
    assert [one.split(" granted")[0] for one in told_before] == ["bob", "cara"]
    signed = lab.authority.proof_parts(task.id).requests
    assert [(one.approver, one.yes) for one in signed] == [("bob", True), ("cara", True), ("bob", False)]


def test_what_the_policy_granted_is_told_of_each_round(lab: GrantingLab) -> None:
    task = lab.open()
    first = lab.granted(task.bundle, LOOK, ARGS)
    assert lab.codes(first, LOOK, ARGS) == ()
    second = lab.granted(task.bundle, LOOK, ARGS)
    assert told(lab, task.id) == [(None, True, 1, ids(first)), (None, True, 2, ids(second))]
    assert [one.action for one in lab.authority.answers(task.id)] == [LOOK, LOOK]


def test_a_consent_that_counts_again_is_told_of_both_grants(lab: GrantingLab) -> None:
    task = lab.open()
    fresh_key = RootKey(bytes(range(7, 39)))
    lab.authority.rekey(KEYS.added(fresh_key).activated(fresh_key.kid))
    _, first = consented(lab, task.bundle)
    lab.authority.rekey(lab.authority.keyring.activated(KEYS.active.kid))
    with lab.authority.store.write() as transaction:
        replace_marks(transaction, lab.authority.keyring, of=fresh_key.kid)
    lab.authority.rekey(lab.authority.keyring.retired(fresh_key.kid))
    second = lab.granted(task.bundle, PAY, ARGS)
    assert second != first
    assert told(lab, task.id) == [("bob", True, 1, (*ids(first), *ids(second)))]


def test_each_signature_below_an_approval_stays(lab: GrantingLab) -> None:
    task = lab.open()
    bundle = task.bundle.delegate(
        to="agent", approval=approval(by=[BOB.public, CARA.public], count=2), now=int(lab.clock.now)
    )
    given = approved(lab, bundle, BOB, CARA)
    (one, two) = lab.authority.answers(task.id)
    assert (one.approver, two.approver, one.approval, two.approval) == ("bob", "cara", given, given)
    assert (one.action, one.audience, one.node) == ("crm.read", "crm", b64u(bundle.node or b""))
    lab.clock.now += 901
    waits = lab.authority.ask(bundle, "crm.read", args=ARGS, demand=next(iter(bundle)).demands[0].decode())
    assert isinstance(waits, Pending), "the approval has ended, and its next round waits"
    assert lab.authority.answers(task.id) == [one, two]
    assert len(lab.authority.proof_parts(task.id).approvals) == 1, "both have signed one document"
    approved(lab, bundle, BOB, CARA)
    assert [answer.round for answer in lab.authority.answers(task.id)] == [1, 1, 2, 2]
    assert len(lab.authority.proof_parts(task.id).approvals) == 2


def approved(lab: GrantingLab, bundle: Bundle, *people: Any) -> str:
    """The id of an approval that these people have signed one after the other."""
    cid = next(iter(bundle)).demands[0].decode()
    waits = lab.authority.ask(bundle, "crm.read", args=ARGS, demand=cid)
    assert isinstance(waits, Pending)
    document = ApprovalRequest.parse(lab.authority.request(waits.request).to_approve or "")
    first, *others = people
    discharge = first.approve(document, now=int(lab.clock.now))
    lab.authority.approve(waits.request, discharge)
    for person in others:
        discharge = person.cosign(document, discharge, now=int(lab.clock.now))
        lab.authority.approve(waits.request, discharge)
    answer = lab.authority.ask(bundle, "crm.read", args=ARGS, demand=cid)
    assert isinstance(answer, Approved)
    return b64u(answer.discharge.id)


def test_what_was_signed_outlives_the_request(lab: GrantingLab) -> None:
    task = lab.open()
    _, granted = consented(lab, task.bundle)
    lab.authority.complete(task.id)
    # What time it is, prune believes an event of the day before.
    lab.clock.now += 40 * 86_400
    lab.authority.complete(lab.open().id)
    lab.clock.now += 2 * 86_400
    assert lab.authority.prune().requests == 1
    assert lab.authority.requests(task=task.id) == []
    assert told(lab, task.id) == [("bob", True, 1, ids(granted))]
    (signed,) = lab.authority.proof_parts(task.id).requests
    assert signed.approver == "bob"
    lab.authority.check()


def test_what_was_signed_is_in_a_backup_and_restored(place: str, lab: GrantingLab, tmp_path: Path) -> None:
    lab.clock.now = time.time()
    task = lab.open()
    _, granted = consented(lab, task.bundle)
    assert lab.codes(granted, PAY, ARGS) == ()
    lab.pending(task.bundle, PAY, ARGS)
    before = lab.authority.answers(task.id), lab.authority.proof_parts(task.id)
    saved = tmp_path / "saved.db"
    backup(lab.authority.store, saved)
    lab.authority.close()
    restore(saved, place, keep=tmp_path / "kept.db")
    later = opened(place)
    with later.authority:
        assert (later.authority.answers(task.id), later.authority.proof_parts(task.id)) == before
        later.authority.check()


def test_what_was_signed_is_told_of_an_archived_task(place: str, lab: GrantingLab, tmp_path: Path) -> None:
    task = lab.open()
    _, granted = consented(lab, task.bundle)
    assert lab.codes(granted, PAY, ARGS) == ()
    lab.pending(task.bundle, PAY, ARGS)
    lab.authority.complete(task.id)
    lab.authority.flush()
    # A part of the log is archived when it is whole, and all in it is old.
    for _ in range(300):
        lab.authority.open(allow=["crm.read"])
    lab.clock.now += 400 * 86_400
    folder = tmp_path / "archive"
    folder.mkdir()
    assert lab.authority.archive(folder).decisions == 4, "three asks and a call"
    assert told(lab, task.id) == [("bob", True, 1, ids(granted))]
    assert len(export(lab.authority, task.id, archive=Archive(folder)).requests) == 1


@pytest.mark.parametrize("how", ["gone", "changed", "made up", "put at another task"])
def test_a_changed_answer_is_found(place: str, lab: GrantingLab, how: str) -> None:
    task, other = lab.open(), lab.open()
    consented(lab, task.bundle)
    lab.authority.check()
    with Behind(place) as behind:
        if how == "gone":
            behind.do("DELETE FROM answers")
        elif how == "changed":
            behind.do("UPDATE answers SET body = replace(body, 'bob', 'eve')")
        elif how == "made up":
            behind.do("INSERT INTO answers SELECT position + 1000, task, body, mark FROM answers")
        else:
            behind.do("UPDATE answers SET task = ?", other.id)
    with pytest.raises((BrokenLog, ChangedRow)):
        lab.authority.check()


def test_an_unknown_task_has_no_answers(lab: GrantingLab) -> None:
    with pytest.raises(UnknownTask):
        lab.authority.answers("A" * 22)


def test_a_grant_of_a_later_round_is_not_an_earlier_ones(lab: GrantingLab) -> None:
    task = lab.open()
    _, first = consented(lab, task.bundle)
    assert lab.codes(first, PAY, ARGS) == ()
    lab.policy = policy(rule("at_open", "crm.*"), rule("on_request", PAY, uses=1))
    second = lab.granted(task.bundle, PAY, ARGS)
    assert told(lab, task.id) == [("bob", True, 1, ids(first)), (None, True, 2, ids(second))]
    with lab.authority.store.read() as reading:
        assert answers_in(reading, task.id) == lab.authority.answers(task.id)


STEPS = st.lists(st.sampled_from(["ask", "use", "yes", "no", "other", "complete"]), max_size=12)


@settings(max_examples=repeated(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_every_yes_in_the_log_has_its_signature_in_the_proof(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lab = ProofLab(tmp_path_factory.mktemp("proof"), uses=1)
    try:
        task, planner = lab.started()
        _live(lab, planner, task.id, steps)
        lab.authority.flush()
        agreed = sum(one.kind == "request_approved" for one in lab.authority.log())
        proof = export(lab.authority, task.id, now=int(lab.clock.now))
        assert sum(one.yes for one in proof.requests) == agreed
        report = read(proof, lab.trust())
        assert report.contradictions == ()
        assert not [one for one in report.gaps if "has signed" in one]
    finally:
        lab.close()


def _live(lab: ProofLab, planner: Bundle, task: str, steps: list[str]) -> None:
    """Ask, answer, use, let end: in any order, as far as it goes."""
    args = {"amount": 40}
    held: Any = None
    for step in steps:
        if step in {"ask", "other"}:
            answer = lab.ask(planner, "billing.refund", args if step == "ask" else {"amount": 41})
            held = answer.capability if isinstance(answer, Granted) else held
        elif step == "use" and held is not None:
            lab.call(planner.holding(held.with_key(PLANNER), now=int(lab.clock.now)), "billing.refund", args)
        elif step in {"yes", "no"}:
            for request in lab.authority.requests(task=task, pending=True):
                lab.decide(request.id, yes=step == "yes")
        elif step == "complete":
            lab.authority.complete(task)
            return
