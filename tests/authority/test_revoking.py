"""Roots, nodes, ids, kids, instants and selections are revoked; agents revoke below their own node."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from capx.api.messages.outcomes import Killed
from capx.authority.authority import Authority
from capx.authority.ending import NOTICED_WITHIN
from capx.authority.opening import OpenedTask
from capx.authority.revoking import MAX_OF_NODE, MAX_OF_TASK
from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest
from capx.tokens.chain import root_node
from capx_caveats import (
    budget,
)
from tests.labs.timed_authority import NOW, Clock, kinds, only, refused


def test_a_root_is_revoked_by_its_id_its_task_or_its_node(authority: Authority) -> None:
    tasks = [authority.open(allow=["a.b"]) for _ in range(3)]
    for task, target in zip(tasks, [tasks[0].root, tasks[1].id, b64u(root_node(tasks[2].root))], strict=True):
        revoked = authority.revoke(target)
        assert revoked.killed == (Killed(b64u(root_node(task.root)), revoked.position, is_root=True),)
        with authority.store.read() as reading:
            death = reading.death(root_node(task.root))
        assert death is not None
        assert (death.reason, death.position) == ("revoked", revoked.position)


@pytest.mark.parametrize("statement", ["DELETE FROM tasks", "UPDATE tasks SET root = 'A' || root, node = x'00'"])
def test_a_task_is_revoked_whatever_its_row_says(authority: Authority, statement: str) -> None:
    opened = authority.open(allow=["a.b"])
    with closing(sqlite3.connect(authority.store.place)) as file, file:
        file.execute(statement)
    revoked = authority.revoke(opened.id)
    assert revoked.killed == (Killed(b64u(root_node(opened.root)), revoked.position, is_root=True),)


def test_an_id_never_seen_before_can_be_revoked_and_dies_once(authority: Authority) -> None:
    child = authority.open(allow=["a.b"]).bundle.delegate(to="helper")
    assert child.node is not None
    first = authority.revoke(b64u(child.node))
    assert first.killed == (Killed(b64u(child.node), first.position),)
    again = authority.revoke(b64u(child.node))
    assert again.killed == (Killed(b64u(child.node), first.position, again=True),)
    assert kinds(authority).count("revoked") == 1


@pytest.mark.parametrize(
    "target", ["", "crm", "A" * 21, "A" * 23, "A" * 21 + "B", "A" * 43, "é" * 22, "\ud800", "../x"]
)
def test_a_target_that_is_no_id_is_refused_with_what_would_do(authority: Authority, target: str) -> None:
    authority.open(allow=["a.b"])
    for dry_run in (True, False):
        with pytest.raises(InvalidRequest, match="node or capability id"):
            authority.revoke(target, dry_run=dry_run)
    assert "revoked" not in kinds(authority)


def test_a_dry_run_changes_nothing_and_tells_what_would_die(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read", "slides.write"])
    authority.open(allow=["crm.read"])
    before = list(authority.log())
    ids = {b64u(capability.id) for capability in opened.bundle}
    for dying in (
        authority.complete(opened.id, dry_run=True),
        authority.withdraw(opened.id, dry_run=True),
        authority.revoke(opened.root, dry_run=True),
    ):
        assert dying.position is None
        assert dying.dying is not None
        assert dying.dying.nodes == (b64u(root_node(opened.root)),)
        assert set(dying.dying.capabilities) == ids
    one = b64u(next(iter(opened.bundle)).ids[0])
    assert authority.revoke(one, dry_run=True).dying is not None
    assert list(authority.log()) == before
    assert authority.task(opened.id).state == "active"


def test_a_node_is_revoked_by_its_bytes_as_by_its_text() -> None:
    with Authority.temporary() as lab:
        sub = lab.open(allow=["crm.read"]).bundle.delegate(to="sub", allow=["crm.read"])
        assert sub.node is not None
        assert lab.revoke(sub.node).position is not None
        assert lab.revoke(b64u(sub.node)).killed[0].again
        with pytest.raises(InvalidRequest):
            lab.revoke(sub.node[:-1])


def test_a_revoked_kid_kills_what_it_minted_and_mints_no_more(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    kid = only(opened.bundle.candidates("crm")).kid
    assert refused(authority, opened.bundle) == []
    revoked = authority.revoke(kid=kid)
    assert revoked.killed == (Killed(f"kid:{kid}", revoked.position),)
    assert "revoked" in refused(authority, opened.bundle)
    for act in (lambda: authority.open(allow=["crm.read"]), lambda: authority.mint(opened.id, allow=["crm.read"])):
        with pytest.raises(InvalidRequest, match="capx keys add"):
            act()
    assert authority.revoke(kid=kid).killed[0].again
    assert [event.kind for event in authority.log()].count("revoked") == 1
    authority.check()


def test_an_instant_kills_what_was_issued_until_it_and_no_later(clock: Clock, authority: Authority) -> None:
    before = authority.open(allow=["crm.read"])
    clock.now += 10
    within = authority.open(allow=["crm.read"])
    # The clock stands still, so that to wait for the end of the second ends by itself.
    revoked = authority.revoke(issued=clock.now)
    clock.now += 1
    after = authority.open(allow=["crm.read"])
    assert [one.key for one in revoked.killed] == [f"issued:{NOW + 10}"]
    assert [refused(authority, task.bundle) for task in (before, within)] == [["revoked"], ["revoked"]]
    assert refused(authority, after.bundle) == []
    for issued in (clock.now + 1, "1h"):
        with pytest.raises(InvalidRequest, match="is in the future"):
            authority.revoke(issued=issued)
    authority.check()


def test_what_was_delegated_later_of_what_died_is_dead_too(clock: Clock, authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    authority.revoke(issued=clock.now)
    clock.now += 100
    assert refused(authority, opened.bundle.delegate(to="late")) == ["revoked"]


def test_selection_kills_live_tasks_of_one_tenant_and_purpose(authority: Authority) -> None:
    def opened(tenant: str, purpose: str) -> str:
        return b64u(root_node(authority.open(allow=["crm.read"], tenant=tenant, purpose=purpose).root))

    wanted, other, third = opened("Acme", "qbr"), opened("Acme", "refund"), opened("Globex", "qbr")
    ended = authority.open(allow=["crm.read"], tenant="Acme", purpose="qbr")
    authority.complete(ended.id)
    dry = authority.revoke(where={"tenant": "Acme", "purpose": "qbr"}, dry_run=True)
    assert [one.key for one in dry.killed] == [wanted]
    assert dry.dying is not None
    assert dry.dying.nodes == (wanted,)
    assert [one.key for one in authority.revoke(where={"tenant": "Acme", "purpose": "qbr"}).killed] == [wanted]
    assert [one.key for one in authority.revoke(where={"purpose": "qbr"}).killed] == [third]
    assert [one.key for one in authority.revoke(where={"tenant": "Acme"}).killed] == [other]
    assert authority.revoke(where={"tenant": "Acme"}).killed == ()
    assert authority.revoke(where={"tenant": "Acme"}).position is None
    authority.check()


@pytest.mark.parametrize(
    "where", [{}, {"intent": "ana"}, {"tenant": ""}, {"agent": "\x1b[31m"}, {"tenant": "Acme", "root": "x"}]
)
def test_a_selection_that_cannot_be_meant_kills_nothing(authority: Authority, where: dict[str, str]) -> None:
    authority.open(allow=["crm.read"], tenant="Acme")
    with pytest.raises(InvalidRequest):
        authority.revoke(where=where)
    assert "revoked" not in kinds(authority)


def test_exactly_one_thing_is_revoked_at_a_time(authority: Authority) -> None:
    kid = "AAAAAAAAAAA"
    wrong: list[dict[str, Any]] = [{}, {"target": "A" * 22, "kid": kid}, {"issued": NOW, "kid": kid}]
    for named in wrong:
        with pytest.raises(InvalidRequest, match="give exactly one thing"):
            authority.revoke(**named)
    for text in ("", "x", "A" * 12, "kid:AAAAAAAAAAA"):
        with pytest.raises(InvalidRequest, match="is not a key id"):
            authority.revoke(kid=text)


def test_an_agent_revokes_below_its_own_node_and_nothing_else(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    own = opened.bundle.delegate(to="own", nonce="AAAAAAAAAAA")
    child, sibling = own.delegate(to="child", nonce="BBBBBBBBBBA"), opened.bundle.delegate(to="sibling")
    path = next(iter(own)).path
    revoked = authority.revoke_below(opened.id, path, ["BBBBBBBBBBA"])
    assert child.node is not None
    assert [one.key for one in revoked.killed] == [b64u(child.node)]
    assert (refused(authority, child), refused(authority, sibling), refused(authority, own)) == (["revoked"], [], [])
    with authority.store.read() as reading:
        assert reading.death(child.node) is not None
    told = next(event for event in authority.log() if event.kind == "revoked").facts()
    assert (told["by"], told["id"]) == (b64u(path[-1]), b64u(child.node))
    with pytest.raises(InvalidRequest, match="give the nonces of the hops"):
        authority.revoke_below(opened.id, path, [])


def revoked_before(authority: Authority, task: str, node: bytes, times: int) -> None:
    with authority.store.write() as transaction:
        for _ in range(times):
            transaction.count_revocation(task, node, now=NOW)


def test_an_agent_that_revokes_without_end_loses_its_own_node(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    own = opened.bundle.delegate(to="own")
    path = next(iter(own)).path
    revoked_before(authority, opened.id, path[-1], MAX_OF_NODE)
    revoked = authority.revoke_below(opened.id, path, ["BBBBBBBBBBA"])
    assert [one.key for one in revoked.killed] == [b64u(path[-1])]
    assert refused(authority, own) == ["revoked"]
    assert refused(authority, opened.bundle) == []


def test_an_agent_revoking_without_end_costs_its_parent_nothing(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    child, sibling = opened.bundle.delegate(to="child"), opened.bundle.delegate(to="sibling", nonce="CCCCCCCCCCA")
    revoked_before(authority, opened.id, next(iter(child)).path[-1], MAX_OF_NODE + 5)
    authority.revoke_below(opened.id, opened.bundle.path, ["CCCCCCCCCCA"])
    assert (refused(authority, opened.bundle), refused(authority, child)) == ([], [])
    assert refused(authority, sibling) == ["revoked"]


def test_to_revoke_the_dead_again_counts_for_nothing(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    for _ in range(MAX_OF_NODE + 5):
        authority.revoke_below(opened.id, opened.bundle.path, ["BBBBBBBBBBA"])
    assert refused(authority, opened.bundle) == []


def test_agents_revoking_without_end_lose_their_branch_alone(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    branch, other = opened.bundle.delegate(to="branch"), opened.bundle.delegate(to="other")
    leaf = branch.delegate(to="leaf").delegate(to="leaf")
    revoked_before(authority, opened.id, b"somebody of them", MAX_OF_TASK)
    revoked = authority.revoke_below(opened.id, next(iter(leaf)).path, ["BBBBBBBBBBA"])
    assert [one.key for one in revoked.killed] == [b64u(next(iter(branch)).path[-1])]
    assert (refused(authority, leaf), refused(authority, other)) == (["revoked"], [])


def test_a_dead_agent_beyond_its_limit_is_counted_as_logged(authority: Authority) -> None:
    """Its call was let in before its node died. `store check` compares the count with the events."""
    opened = authority.open(allow=["crm.read"])
    path = next(iter(opened.bundle.delegate(to="own"))).path
    revoked_before(authority, opened.id, path[-1], MAX_OF_NODE)
    authority.revoke(path[-1])
    revoked = authority.revoke_below(opened.id, path, ["BBBBBBBBBBA"])
    assert [(one.key == b64u(path[-1]), one.again) for one in revoked.killed] == [(False, False)]


def test_what_died_of_a_long_task_is_known_while_it_lives(clock: Clock, authority: Authority, tmp_path: Path) -> None:
    patient = Authority(authority.store, authority.keyring, clock=clock, max_ttl=7 * 86_400)
    opened = patient.open(allow=["crm.read"], expires="7d")
    child = opened.bundle.delegate(to="child", caveats=[budget("calls", 1)])
    assert child.node is not None
    patient.revoke(child.node)
    clock.now += 3 * 86_400
    assert authority.prune().deaths == 0
    assert refused(authority, child) == ["revoked"]
    clock.now += 4 * 86_400
    assert authority.prune().deaths == 0
    clock.now += 86_400 + 3_600
    authority.open(allow=["crm.read"])
    clock.now += NOTICED_WITHIN
    assert authority.prune().deaths > 0


def test_what_died_while_a_clock_was_behind_is_kept(clock: Clock, authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    child = opened.bundle.delegate(to="child")
    assert child.node is not None
    clock.now -= 2 * 86_400
    authority.revoke(child.node)
    clock.now += 2 * 86_400
    assert authority.prune().deaths == 0
    assert refused(authority, child) == ["revoked"]


DAY = 86_400


@pytest.fixture
def ahead(clock: Clock, authority: Authority) -> OpenedTask:
    """A task that was opened while the clock was ahead by a day."""
    clock.now += DAY
    opened = authority.open(allow=["crm.read"])
    clock.now -= DAY
    return opened


def test_what_a_clock_ahead_issued_survives_no_revocation(authority: Authority, ahead: OpenedTask) -> None:
    before = authority.open(allow=["crm.read"])
    with pytest.raises(InvalidRequest, match="a clock was ahead: the log has live tokens that were issued up to 2027-"):
        authority.revoke(issued="now")
    assert "revoked" not in kinds(authority)
    assert authority.revoke(issued="now", dry_run=True).killed[0].key == f"issued:{NOW + DAY}"
    revoked = authority.revoke(issued="now", force=True)
    assert [one.key for one in revoked.killed] == [f"issued:{NOW + DAY}"]
    for opened in (ahead, before):
        assert refused(authority, opened.bundle) == ["revoked"]
    authority.check()


def test_what_is_issued_before_a_revoked_instant_is_dead(clock: Clock, authority: Authority, ahead: OpenedTask) -> None:
    authority.revoke(issued="now", force=True)
    assert refused(authority, ahead.bundle) == ["revoked"]
    clock.now += DAY
    assert refused(authority, authority.open(allow=["crm.read"]).bundle) == ["revoked"]
    clock.now += 1
    assert refused(authority, authority.open(allow=["crm.read"]).bundle) == []


@pytest.mark.usefixtures("ahead")
def test_no_instant_is_later_than_what_was_issued(clock: Clock, authority: Authority) -> None:
    with pytest.raises(InvalidRequest, match="is in the future"):
        authority.revoke(issued=NOW + DAY + 1, force=True)
    with pytest.raises(InvalidRequest, match="a clock was ahead"):
        authority.revoke(issued=NOW + DAY)
    assert authority.revoke(issued=NOW + DAY - 1, force=True).killed[0].key == f"issued:{NOW + DAY - 1}"
    # What was issued in the last second lives, and only that is ahead still.
    assert authority.revoke(issued="1d", force=True).killed[0].key == f"issued:{NOW + DAY}"
    clock.now += 1
    assert authority.revoke(issued="now").killed[0].key == f"issued:{NOW + 1}"


@pytest.mark.parametrize("end", ["complete", "revoke"])
def test_what_ended_does_not_keep_now_in_the_future(authority: Authority, ahead: OpenedTask, end: str) -> None:
    getattr(authority, end)(ahead.id)
    assert authority.revoke(issued="now").killed[0].key == f"issued:{NOW}"


@pytest.mark.usefixtures("ahead")
def test_what_was_revoked_ahead_stays_dead_after_pruning(clock: Clock, authority: Authority) -> None:
    authority.revoke(issued="now", force=True)
    clock.now += DAY - 1
    late = authority.open(allow=["crm.read"], expires="1d")
    # The death is older than a day and an hour; what was issued last before its instant does not expire yet.
    clock.now += DAY - 100
    authority.prune()
    assert refused(authority, late.bundle) == ["revoked"]
    clock.now += DAY + 3_601
    authority.open(allow=["crm.read"])
    clock.now += NOTICED_WITHIN
    assert authority.prune().deaths > 0


def test_now_waits_for_a_clock_that_is_ahead_by_a_second() -> None:
    with Authority.temporary() as lab:
        quick = Authority(lab.store, lab.keyring, clock=lambda: time.time() + 2)
        opened = quick.open(allow=["crm.read"])
        (killed,) = lab.revoke(issued="now").killed
        assert killed.key == f"issued:{opened.expires - 3600}"
        assert refused(lab, opened.bundle) == ["revoked"]
        assert refused(lab, lab.open(allow=["crm.read"]).bundle) == []
