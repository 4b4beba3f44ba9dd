"""The authority: opening, minting, and every way in which authority ends."""

import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capx.agent.actor import acting
from capx.api.messages.outcomes import Killed
from capx.authority.authority import Authority
from capx.authority.home import PLACE, create_home, store_place
from capx.authority.revoking import MAX_OF_NODE, MAX_OF_TASK
from capx.crypto.base64url import b64u
from capx.errors import BrokenLog, ConfigurationProblem, InvalidRequest, KeyProblem, StoreProblem
from capx.store.records import Pruned
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.chain import root_node
from capx.tokens.interop import from_text, to_text
from capx.verify.decision import Denied
from capx_caveats import (
    Allow,
    Call,
    Entry,
    Expires,
    MaxHops,
    NotUnderstood,
    Root,
    Task,
    Tenant,
    UntilCompleted,
    Where,
    action,
    budget,
    expires,
    max_hops,
    not_before,
    prefix,
    where,
)

NOW = 1_800_000_000


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now + 0.7


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(clock: Clock) -> Iterator[Authority]:
    with Authority.temporary(clock=clock) as made:
        yield made


@pytest.fixture
def lab() -> Iterator[Authority]:
    """An authority by the real clock, for what is presented."""
    with Authority.temporary() as made:
        yield made


def kinds(authority: Authority) -> list[str]:
    return [event.kind for event in authority.log()]


def only(capabilities: list[Capability]) -> Capability:
    (capability,) = capabilities
    return capability


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
    with pytest.raises(InvalidRequest, match="for the authority to write"):
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
    with pytest.raises(InvalidRequest, match="no capability outlives it"):
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


def test_a_root_is_revoked_by_its_id_its_task_or_its_node(authority: Authority) -> None:
    tasks = [authority.open(allow=["a.b"]) for _ in range(3)]
    for task, target in zip(tasks, [tasks[0].root, tasks[1].id, b64u(root_node(tasks[2].root))], strict=True):
        revoked = authority.revoke(target)
        assert revoked.killed == (Killed(b64u(root_node(task.root)), revoked.position, is_root=True),)
        with authority.store.read() as reading:
            death = reading.death(root_node(task.root))
        assert death is not None
        assert (death.reason, death.position) == ("revoked", revoked.position)


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
def test_a_target_that_is_no_id_is_an_error_that_says_what_is_accepted(authority: Authority, target: str) -> None:
    authority.open(allow=["a.b"])
    for dry_run in (True, False):
        with pytest.raises(InvalidRequest, match="node or capability id"):
            authority.revoke(target, dry_run=dry_run)
    assert "revoked" not in kinds(authority)


def test_a_dry_run_changes_nothing_and_tells_what_is_known_to_die(authority: Authority) -> None:
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


def test_neither_tokens_nor_keys_are_ever_in_the_store(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"], tenant="Acme")
    more = authority.mint(opened.id, allow=["crm.write"])
    authority.complete(opened.id)
    secrets = [opened.bundle.text, more.text, authority.export_keys("crm").dump().split()[-1]]
    for file in Path(authority.store.place).parent.iterdir():
        content = file.read_bytes()
        assert b"task_completed" in content or file.suffix != ".db-wal"
        assert not any(secret.encode() in content for secret in secrets)
        assert b"capx1_" not in content
    for shown in (repr(authority), repr(opened), repr(authority.export_keys("crm"))):
        assert not any(secret in shown for secret in secrets)


def test_the_log_of_all_this_verifies(authority: Authority) -> None:
    opened = authority.open(allow=["a.b", "b.c"])
    authority.complete(opened.id)
    assert kinds(authority) == ["task_opened", *["capability_minted"] * 3, "task_completed"]
    assert [event.position for event in authority.log(since=2, limit=1)] == [3]
    assert authority.check().position == 5


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        ("DELETE FROM deaths WHERE seq = 1", 4),
        ("UPDATE deaths SET key = 'another' WHERE seq = 1", 4),
        ("UPDATE deaths SET reason = 'revoked' WHERE seq = 1", 4),
        ("UPDATE deaths SET position = 1 WHERE seq = 2", 1),
        ("UPDATE deaths SET at = 1 WHERE seq = 1", 4),
        ("UPDATE deaths SET seq = 9 WHERE seq = 2", 5),
        ("INSERT INTO deaths VALUES (3, 'another', 'task_completed', 1, 9)", 9),
        ("DELETE FROM events WHERE position = 2", 2),
        ("UPDATE events SET body = replace(body, 'id', 'by') WHERE kind = 'revoked'", 5),
        ("UPDATE head SET position = 4", 4),
    ],
)
def test_a_death_or_event_that_was_edited_is_found(authority: Authority, statement: str, position: int) -> None:
    opened = authority.open(allow=["a.b"])
    authority.complete(opened.id)
    authority.revoke("A" * 22)
    assert authority.check().position == 5
    connection = sqlite3.connect(Path(authority.store.place))
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(BrokenLog) as broken:
        authority.check()
    assert broken.value.position == position


def test_a_count_of_deaths_that_was_edited_is_found(authority: Authority) -> None:
    authority.complete(authority.open(allow=["a.b"]).id)
    connection = sqlite3.connect(Path(authority.store.place))
    connection.execute("UPDATE head SET deaths = 0")
    connection.commit()
    connection.close()
    with pytest.raises(StoreProblem, match="counts 0 deaths and holds 1"):
        authority.check()


@pytest.mark.parametrize("body", [b"{}", b'{"id":5}', b'{"id":"no id"}', b"[]"])
def test_an_ending_that_was_made_up_with_its_hash_is_found(authority: Authority, body: bytes) -> None:
    with authority.store.write() as transaction:
        transaction.append("revoked", body, at=NOW)
        transaction.kill("another", "revoked", at=NOW, position=1)
    with pytest.raises(BrokenLog) as broken:
        authority.check()
    assert broken.value.position == 1


def test_the_key_of_the_authority_itself_is_not_exported(authority: Authority) -> None:
    for make in (authority.export_keys, authority.verifier):
        with pytest.raises(InvalidRequest, match="reserved"):
            make("authority")


def test_a_home_is_its_owners_alone_and_opens_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "deep" / "home"
    with Authority.create_home(home) as authority:
        opened = authority.open(allow=["a.b"])
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()} == {0o600}
    monkeypatch.setenv("CAPX_HOME", str(home))
    with Authority.open_home() as again:
        assert again.task(opened.id).state == "active"
    with pytest.raises(ConfigurationProblem, match="already"):
        create_home(home)


def test_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreProblem, match="capx init"):
        Authority.open_home(tmp_path)


def test_keys_whose_store_is_gone_do_not_get_a_new_one(tmp_path: Path) -> None:
    create_home(tmp_path / "home")
    (tmp_path / "home" / "capx.db").unlink()
    with pytest.raises(ConfigurationProblem, match="forgotten what was revoked"):
        create_home(tmp_path / "home")


def test_a_home_that_was_made_half_is_finished(tmp_path: Path) -> None:
    home = create_home(tmp_path / "home")
    (home / "root.keys").unlink()
    with pytest.raises(KeyProblem, match="not there"):
        Authority.open_home(home)
    create_home(home)
    Authority.open_home(home).close()
    (home / "root.keys").write_bytes(b"")
    with pytest.raises(KeyProblem, match="holds no key"):
        Authority.open_home(home)
    create_home(home)
    Authority.open_home(home).close()


def test_root_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    home = create_home(tmp_path / "home")
    (home / "root.keys").chmod(0o640)
    with pytest.raises(KeyProblem, match="chmod 600"):
        Authority.open_home(home)


def test_a_pipe_as_the_name_of_a_store_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / PLACE, 0o600)
    with pytest.raises(ConfigurationProblem, match="is no regular file"):
        store_place(tmp_path)


PASSING = """
import sys
from pathlib import Path
from capx.agent.actor import acting
from capx.authority.authority import Authority
authority = Authority.temporary()
authority.open(allow=["a.b"])
folder = Path(authority.store.place).parent
assert folder.stat().st_mode & 0o777 == 0o700
if sys.argv[1] == "close":
    authority.close()
    assert not folder.exists()
print(folder)
"""


@pytest.mark.parametrize("how", ["close", "exit"])
def test_a_temporary_authority_leaves_nothing_behind(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PASSING, how], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stderr == ""
    assert not Path(done.stdout.strip()).exists()


def test_the_example_of_ten_lines_is_refused_where_it_says(lab: Authority) -> None:
    task = lab.open(tenant="Acme", allow=["slides.write", "crm.export"])
    sub = task.bundle.delegate(to="slides-agent", allow=["slides.write"])
    exported: list[str] = []

    @lab.tool("crm.export")
    def export() -> None:
        exported.append("everything")

    with acting(sub), pytest.raises(Denied, match=r"hop 1 \(slides-agent\) allows only slides.write"):
        export()
    assert exported == []
    *_, last = lab.log()
    assert last.kind == "decision"
    assert lab.decision(last.facts()["id"]) == last
    for unknown in ("unknown", "", "\ud800"):
        assert lab.decision(unknown) is None


def test_a_tool_of_this_authority_runs_until_its_task_ends(lab: Authority) -> None:
    task = lab.open(allow=["notes.add"])
    notes: list[str] = []

    @lab.tool("notes.add")
    def add(text: str) -> None:
        notes.append(text)

    with acting(task.bundle):
        add("one")
        lab.complete(task.id)
        with pytest.raises(Denied) as denied:
            add("two")
    assert denied.value.code == "task_completed"
    assert notes == ["one"]


SECOND_CAVEATS = [
    'x"]]]]]],["allow",[["admin.*"]]],["tenant","Evil',
    '"]],["root","R2"]],[["hop","',
    'x"\\',
    "one\ntwo\r\n\x00three",
    "\x00",
    "capx1_AAAA,capx1_BBBB",
    "crm.read@authority",
    "\U0001f600\u2028\u202e\x7f",
    "\\u0022]]",
]


@pytest.mark.parametrize("text", SECOND_CAVEATS, ids=ascii)
def test_a_value_that_holds_a_second_caveat_stays_one_value_through_every_minting_path(
    authority: Authority, text: str
) -> None:
    entry, demand = action("crm.read", note=text), where("args.note", text)
    opened = authority.open(allow=[entry], caveats=[demand])
    first, _ = opened.bundle
    (again,) = authority.mint(opened.id, allow=[(entry, "crm")], caveats=[demand])
    told = only(opened.bundle.delegate(to="a", allow=[entry], caveats=[demand]).candidates("crm"))
    narrowed = only(opened.bundle.attenuate(allow := Allow((entry,)), demand).candidates("crm"))
    made = [first, again, told, narrowed, told.attenuate(allow, demand), told.delegate(to="b", allow=[entry])]
    made += [from_text(to_text(told, form)) for form in ("v1", "v2", "v2json")]
    whole, _ = Bundle.parse(opened.bundle.text)
    for capability in (*made, whole):
        assert Capability.parse(capability.text).text == capability.text
        caveats = [caveat for block in capability.caveats for caveat in block]
        assert not any(isinstance(caveat, NotUnderstood | Tenant) for caveat in caveats)
        assert {caveat for caveat in caveats if isinstance(caveat, Allow)} == {allow}
        assert {caveat for caveat in caveats if isinstance(caveat, Where)} == {demand}
        assert sum(isinstance(caveat, Root | Task) for caveat in caveats) == 2
        for args, allowed in (({"note": text}, True), ({"note": f"{text} "}, False)):
            sent = ToolCall("crm.read", args)
            token = capability.present(sent, now=NOW).text
            assert authority.verifier("crm").decide(token, sent, Call("crm.read", args)).allowed == allowed


def test_a_node_is_revoked_by_its_bytes_as_by_its_text() -> None:
    with Authority.temporary() as lab:
        sub = lab.open(allow=["crm.read"]).bundle.delegate(to="sub", allow=["crm.read"])
        assert sub.node is not None
        assert lab.revoke(sub.node).position is not None
        assert lab.revoke(b64u(sub.node)).killed[0].again
        with pytest.raises(InvalidRequest):
            lab.revoke(sub.node[:-1])


def refused(authority: Authority, bundle: Bundle, at: str = "crm") -> list[str]:
    """The reasons why a call of `crm.read` is refused now."""
    received = ToolCall("crm.read")
    token = bundle.present(at, received, now=int(authority._clock())).text  # pyright: ignore[reportPrivateUsage]
    return [refusal.code for refusal in authority.verifier(at).decide(token, received, Call("crm.read")).refusals]


def test_a_kid_that_is_revoked_kills_all_that_it_minted_and_mints_no_more(authority: Authority) -> None:
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


def test_an_instant_kills_what_was_issued_up_to_it_and_nothing_later(clock: Clock, authority: Authority) -> None:
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
        with pytest.raises(InvalidRequest, match="lies ahead"):
            authority.revoke(issued=issued)
    authority.check()


def test_what_was_delegated_after_an_instant_from_what_was_issued_before_is_dead_too(
    clock: Clock, authority: Authority
) -> None:
    opened = authority.open(allow=["crm.read"])
    authority.revoke(issued=clock.now)
    clock.now += 100
    assert refused(authority, opened.bundle.delegate(to="late")) == ["revoked"]


def test_selection_kills_live_tasks_of_a_tenant_and_purpose_alone(authority: Authority) -> None:
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
        with pytest.raises(InvalidRequest, match="name one thing"):
            authority.revoke(**named)
    for text in ("", "x", "A" * 12, "kid:AAAAAAAAAAA"):
        with pytest.raises(InvalidRequest, match="is not a key id"):
            authority.revoke(kid=text)


def test_an_agent_revokes_below_its_own_node_and_reaches_nothing_else(authority: Authority) -> None:
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
    with pytest.raises(InvalidRequest, match="name the nonces of the hops"):
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


def test_an_agent_that_revokes_without_end_costs_its_parent_nothing(authority: Authority) -> None:
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


def test_many_agents_that_revoke_without_end_lose_their_branch_and_no_other(authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"])
    branch, other = opened.bundle.delegate(to="branch"), opened.bundle.delegate(to="other")
    leaf = branch.delegate(to="leaf").delegate(to="leaf")
    revoked_before(authority, opened.id, b"somebody of them", MAX_OF_TASK)
    revoked = authority.revoke_below(opened.id, next(iter(leaf)).path, ["BBBBBBBBBBA"])
    assert [one.key for one in revoked.killed] == [b64u(next(iter(branch)).path[-1])]
    assert (refused(authority, leaf), refused(authority, other)) == (["revoked"], [])


def test_what_died_of_a_long_task_is_forgotten_by_nobody_while_it_lives(
    clock: Clock, authority: Authority, tmp_path: Path
) -> None:
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


def test_what_protects_nothing_any_more_is_forgotten_and_the_log_keeps_it(clock: Clock, authority: Authority) -> None:
    opened = authority.open(allow=["crm.read"], caveats=[budget("calls", 5)])
    assert refused(authority, opened.bundle) == []
    authority.flush()
    authority.revoke(kid="AAAAAAAAAAA")
    authority.complete(opened.id)
    assert [counter.spent for counter in authority.counters()] == [1]
    clock.now += 86_400 + 3_600
    assert authority.prune() == Pruned(0, 0, 0)
    clock.now += 1
    before = list(authority.log())
    assert authority.prune() == Pruned(2, 1, 0)
    assert list(authority.log()) == before
    with authority.store.read() as reading:
        assert [death.key for death in reading.deaths()] == ["kid:AAAAAAAAAAA"]
    authority.check()
    late = authority.open(allow=["crm.read"])
    authority.complete(late.id)
    assert refused(authority, late.bundle) == ["task_completed"]
    authority.check()


def test_a_death_that_lasts_and_was_taken_away_after_it_was_forgotten_is_found(
    clock: Clock, authority: Authority
) -> None:
    authority.revoke(kid="AAAAAAAAAAA")
    authority.complete(authority.open(allow=["a.b"]).id)
    clock.now += 100_000
    authority.prune()
    authority.check()
    connection = sqlite3.connect(authority.store.place)
    connection.execute("DELETE FROM deaths WHERE key = 'kid:AAAAAAAAAAA'")
    connection.commit()
    connection.close()
    with pytest.raises(BrokenLog) as broken:
        authority.check()
    assert broken.value.position == 1


def test_followers_that_lag_are_told_and_those_that_are_gone_are_not(clock: Clock, authority: Authority) -> None:
    authority.revoke("A" * 22)
    for follower, deaths, at in (("knows", 1, clock.now), ("lags", 0, clock.now), ("gone", 0, clock.now - 31)):
        authority.store.sighted(follower, deaths, now=at)
    assert [one.follower for one in authority.unaware()] == ["lags"]
    assert [one.follower for one in authority.unaware(within=100)] == ["gone", "lags"]
    authority.store.sighted("lags", 1, now=clock.now)
    assert authority.unaware() == []


def test_a_budget_of_a_task_is_one_for_all_its_audiences_and_children(lab: Authority) -> None:
    opened = lab.open(allow=["crm.read", "crm.read@mail"], caveats=[budget("calls", 3)])
    child = opened.bundle.delegate(to="child")
    assert [refused(lab, opened.bundle), refused(lab, opened.bundle, "mail"), refused(lab, child)] == [[], [], []]
    assert refused(lab, child) == refused(lab, opened.bundle, "mail") == ["budget_exhausted"]
    assert [(one.counter, one.unit, str(one.spent)) for one in lab.counters()] == [(opened.id, "calls", "3")]
