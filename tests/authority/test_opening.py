"""A task opens with one capability for each audience, and with nothing that cannot be meant."""

import re

import pytest

from capx.authority.authority import Authority
from capx.errors import InvalidRequest
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
