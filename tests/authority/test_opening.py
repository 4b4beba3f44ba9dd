"""A task opens with one capability for each audience, and with nothing that cannot be meant."""

import re

import pytest

from capx.authority.authority import Authority
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.keys import RootKey
from capx.errors import InvalidRequest
from capx.store.events import TaskOpened
from capx.tokens.bundle import Bundle
from capx.tokens.chain import root_node
from capx_caveats import (
    Allow,
    Entry,
    Expires,
    MaxHops,
    Root,
    Task,
    Tenant,
    UntilCompleted,
    action,
    budget,
    expires,
    max_hops,
    not_before,
    prefix,
)
from tests.labs.timed_authority import NOW, Clock, kinds, only, refused


def test_a_task_opens_with_one_capability_for_each_audience(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read", "crm.list", "slides.*", "accounts.read@crm"], tenant="Acme")
    assert opened.bundle.audiences == ("crm", "slides", "authority")
    assert opened.bundle.task == opened.id
    assert opened.bundle.node == root_node(opened.root)
    crm = only(opened.bundle.candidates("crm"))
    assert crm.issued_at == NOW
    assert crm.caveats == (
        (
            Task(opened.id),
            Root(opened.root),
            UntilCompleted(opened.id),
            Tenant("Acme"),
            Allow((Entry("crm.read"), Entry("crm.list"), Entry("accounts.read"))),
            Expires(NOW + 3600),
        ),
    )


def test_an_entry_may_say_more_and_stand_beside_another_audience(authority: Authority) -> None:
    entry = action("query.run", table=prefix("acme."))
    opened = authority.open(allow=[(entry, "warehouse")], caveats=[max_hops(2), not_before("1m")])
    block = only(opened.bundle.candidates("warehouse")).caveats[0]
    assert opened.bundle.audiences == ("warehouse", "authority")
    assert Allow((entry,)) in block
    assert MaxHops(2) in block
    assert not any(isinstance(caveat, Tenant) for caveat in block)


def test_the_log_says_what_was_opened(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"], tenant="Acme", purpose="qbr")
    event = next(event for event in authority.log() if event.kind == "task_opened")
    assert event.read(TaskOpened) == TaskOpened(
        task=opened.id,
        root=opened.root,
        node=b64u(root_node(opened.root)),
        tenant="Acme",
        purpose="qbr",
        expires=opened.expires,
    )
    assert (opened.tenant, opened.purpose, opened.position) == ("Acme", "qbr", event.position)
    assert {len(unb64u(id_)) for id_ in (opened.id, opened.root)} == {16}


def test_opening_ends_tasks_whose_time_is_up(authority: Authority, clock: Clock) -> None:
    first = authority.open(allow=["crm.read"], expires="1m")
    clock.now += 61
    authority.open(allow=["crm.read"])
    ends = [event.facts()["task"] for event in authority.log() if event.kind == "task_expired"]
    assert ends == [first.id]


def test_a_revoked_key_mints_nothing_more(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    kid = authority.keyring.active.kid
    authority.revoke(kid=kid)
    for mint in (lambda: authority.open(allow=["crm.read"]), lambda: authority.mint(opened.id, allow=["crm.read"])):
        with pytest.raises(InvalidRequest, match=f"the active root key {kid} was revoked: run capx keys add, then"):
            mint()


def test_live_tasks_are_counted_under_each_key_that_they_hold(authority: Authority, clock: Clock) -> None:
    first, other = authority.keyring.active, RootKey.generate()
    both, ended, revoked = (authority.open(allow=["crm.read", "a.b"]) for _ in range(3))
    authority.open(allow=["crm.read"], expires="1m")
    authority.complete(ended.id)
    authority.revoke(revoked.id)
    authority.rekey(authority.keyring.added(other).activated(other.kid))
    authority.mint(both.id, allow=["slides.write"])
    authority.open(allow=["crm.read"])
    assert authority.kids() == {first.kid: 2, other.kid: 2}
    clock.now += 61
    assert authority.kids() == {first.kid: 1, other.kid: 2}
    authority.rekey(authority.keyring.retired(first.kid))
    assert authority.kids() == {other.kid: 2}


def test_ids_are_fresh_and_never_reused(authority: Authority) -> None:
    opened = [authority.open(allow=["a.b"]) for _ in range(20)]
    assert len({id_ for task in opened for id_ in (task.id, task.root)}) == 40


@pytest.mark.parametrize(
    ("allow", "says"),
    [
        ([], "name at least one action"),
        (["*"], "not an action"),
        (["crm.read@"], "no audience"),
        (["crm.read@Not An Audience"], "not an audience"),
        (["CRM.read"], "ACTION@AUDIENCE"),
        (["task.complete@authority"], "reserved"),
        (["authority.x"], "reserved"),
        ([(action("grant.request"), "authority")], "reserved"),
        (['crm.read"],["tenant","Beta'], "not an action"),
        (["crm.read\n"], "not an action"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_leaves_nothing(authority: Authority, allow: list[str], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        authority.open(allow=allow)
    assert list(authority.log()) == []
    assert authority.tasks() == []


def test_an_action_that_stands_alone_is_no_list(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    with pytest.raises(InvalidRequest, match=re.escape("write ['crm.read']")):
        authority.open(allow="crm.read")
    with pytest.raises(InvalidRequest, match=re.escape("write ['crm.read']")):
        authority.mint(opened.id, allow="crm.read")
    assert kinds(authority) == ["task_opened", "capability_minted", "capability_minted"]


@pytest.mark.parametrize("text", ["", "Ac\nme", "\x1b[31mAcme", "Ac\u202eme", "\ud800", "x" * 129])
@pytest.mark.parametrize("field", ["tenant", "purpose"])
def test_a_name_that_hides_something_is_refused(authority: Authority, field: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        authority.open(allow=["crm.read"], **{field: text})  # type: ignore[arg-type] # one of two names
    assert authority.tasks() == []


@pytest.mark.parametrize("tenant", ['"', '"],["tenant","Beta"],["x","', "Ac,me", "a]", "{}", "\\", "it's"])
def test_a_name_with_delimiters_stays_one_name(authority: Authority, tenant: str) -> None:
    opened = authority.open(allow=["crm.read"], tenant=tenant, purpose=tenant)
    capability, _ = Bundle.parse(opened.bundle.text)
    assert [caveat for caveat in capability.caveats[0] if isinstance(caveat, Tenant)] == [Tenant(tenant)]
    assert authority.task(opened.id).purpose == tenant


def test_nothing_lives_longer_than_the_authority_lets_it(authority: Authority) -> None:
    for ends in ("2d", NOW + 86_401, "2100-01-01T00:00:00Z"):
        with pytest.raises(InvalidRequest, match="too far ahead"):
            authority.open(allow=["a.b"], expires=ends)
    for ends in (NOW, NOW - 1, "0s", 0, -5):
        with pytest.raises(InvalidRequest, match="has passed"):
            authority.open(allow=["a.b"], expires=ends)
    assert authority.open(allow=["a.b"], expires="1d").expires == NOW + 86_400


@pytest.mark.parametrize("caveat", [Task("other"), Root("other")])
def test_no_caveat_can_claim_another_task_or_root(authority: Authority, caveat: Task | Root) -> None:
    with pytest.raises(InvalidRequest, match="only the authority writes"):
        authority.open(allow=["a.b"], caveats=[caveat])


def test_more_is_minted_for_an_active_task_and_ends_with_it(authority: Authority, clock: Clock) -> None:
    opened = authority.open(allow=["crm.read"], tenant="Acme", expires="1h")
    clock.now += 600
    more = authority.mint(opened.id, allow=["slides.write"], expires="10m", caveats=[expires("5m")])
    assert more.task == opened.id
    assert more.node == opened.bundle.node
    assert [caveat for caveat in only(list(more)).caveats[0] if isinstance(caveat, Expires | Tenant)] == [
        Tenant("Acme"),
        Expires(NOW + 1200),
        Expires(NOW + 900),
    ]
    assert Expires(opened.expires) in only(list(authority.mint(opened.id, allow=["a.b"]))).caveats[0]
    with pytest.raises(InvalidRequest, match="a capability cannot expire later"):
        authority.mint(opened.id, allow=["a.b"], expires="51m")


def test_nothing_more_is_minted_for_a_task_that_ended(authority: Authority, clock: Clock) -> None:
    completed, revoked, overdue = (authority.open(allow=["a.b"]) for _ in range(3))
    authority.complete(completed.id)
    authority.revoke(revoked.root)
    for task, says in ((completed, "is completed"), (revoked, "is revoked")):
        with pytest.raises(InvalidRequest, match=says):
            authority.mint(task.id, allow=["a.b"])
    clock.now = overdue.expires
    with pytest.raises(InvalidRequest, match="is expired"):
        authority.mint(overdue.id, allow=["a.b"])
    with pytest.raises(InvalidRequest, match="capx task list"):
        authority.mint("no-such-task", allow=["a.b"])


def test_a_budget_of_a_task_is_one_for_audiences_and_children(lab: Authority) -> None:
    opened = lab.open(allow=["crm.read", "crm.read@mail"], caveats=[budget("calls", 3)])
    child = opened.bundle.delegate(to="child")
    assert [refused(lab, opened.bundle), refused(lab, opened.bundle, "mail"), refused(lab, child)] == [[], [], []]
    assert refused(lab, child) == refused(lab, opened.bundle, "mail") == ["budget_exhausted"]
    assert [(one.counter, one.unit, str(one.spent)) for one in lab.counters()] == [(opened.id, "calls", "3")]
