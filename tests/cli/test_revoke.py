"""`capx revoke`: by key, by instant, by selection; and waiting until followers know."""

import json
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from capx.authority.authority import Authority
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.store.records import DecisionRecord
from capx.tokens.bundle import Bundle
from capx.verify.ask import Granted
from capx_caveats import Tenant
from tests.cli.conftest import Shell
from tests.labs.hostile_reports import LABEL, decided, nonce, recordable
from tests.labs.office import Office
from tests.labs.spent_tokens import flat

if TYPE_CHECKING:
    import subprocess


def opened(home: Shell, *options: str) -> Bundle:
    return Bundle.parse(home("task", "open", "--allow", "crm.read", *options).token)


def is_dead(home: Shell, bundle: Bundle) -> bool:
    return "revoked" in [one.code for one in home.decide(bundle.text, "crm.read", bundle_tenant(bundle)).refusals]


def bundle_tenant(bundle: Bundle) -> str | None:
    return next((caveat.name for caveat in next(iter(bundle)).caveats[0] if isinstance(caveat, Tenant)), None)


def test_a_decision_named_as_a_node_keeps_it_revocable(home: Shell) -> None:
    held = opened(home)
    assert held.node is not None
    node = b64u(held.node)
    facts = {"id": node, "at": 1, "outcome": "denied", "audience": "crm", "path": ["A" * 22], "reasons": []}
    with Authority.open_home(home.home) as authority:
        authority.store.record([DecisionRecord(node, 1, json.dumps(facts).encode())])
    assert "revoked" in home("revoke", node).out
    assert is_dead(home, held)


def test_all_minted_under_a_key_dies_and_it_mints_no_more(home: Shell) -> None:
    held = opened(home)
    kid = next(iter(held)).kid
    dry = home("revoke", "--kid", kid, "--dry-run").out
    assert f"all that was minted under key {kid} would be revoked" in dry
    assert not is_dead(home, held)
    said = home("revoke", "--kid", kid)
    assert said.out == f"all that was minted under key {kid} is revoked, at position 5 of the log\n"
    assert "This key mints here: capx keys add" in said.err
    assert is_dead(home, held)
    assert "was revoked" in home("task", "open", "--allow", "crm.read", code=2).err
    assert "this authority has no root key with this id" in home("revoke", "--kid", "AAAAAAAAAAA").out
    assert "is not a key id" in home("revoke", "--kid", "nonsense", code=2).err
    assert f"revoked            all that was minted under key {kid}\n" in home("log").out


def test_it_is_said_that_a_revoked_key_mints_here_too(home: Shell, tmp_path: Path) -> None:
    office = Office(tmp_path / "office")
    with Authority.open_home(office.home) as authority:
        held = authority.open(office.signed(authority)).bundle
        granted = authority.ask(held, "warehouse.pick")
    assert isinstance(granted, Granted)
    said = home("revoke", "--kid", next(iter(held)).kid, CAPX_HOME=str(office.home))
    assert len(said.out.splitlines()) == 2
    assert "This key mints here: capx keys add" in said.err


def test_all_issued_up_to_an_instant_dies_what_comes_after_lives(home: Shell) -> None:
    before = opened(home)
    said = home("revoke", "--issued-before", "now")
    assert said.out.startswith("all that was issued up to 20")
    after = opened(home)
    assert is_dead(home, before)
    assert not is_dead(home, after)
    home("revoke", "--issued-before", "1h", "--dry-run")
    assert "is in the future" in home("revoke", "--issued-before", "2099-01-01T00:00:00Z", code=2).err
    assert "revoked            all that was issued up to 20" in home("log").out


def test_now_reaches_what_a_clock_that_was_ahead_issued(home: Shell) -> None:
    with Authority.open_home(home.home, clock=lambda: time.time() + 86_400) as quick:
        ahead = quick.open(allow=["crm.read"]).bundle
    said = home("revoke", "--issued-before", "now", code=2)
    assert "a clock was ahead: the log has live tokens that were issued up to 20" in said.err
    assert not is_dead(home, ahead)
    said = home("revoke", "--issued-before", "now", "--dry-run")
    assert ", all that is issued here would be dead too: no new task works before that" in said.err
    said = home("revoke", "--issued-before", "now", "--force")
    assert said.out.startswith("all that was issued up to 20")
    assert said.err.startswith("Until 20")
    assert said.err.endswith("Z, all that is issued here is dead too: no new task works before that\n")
    assert is_dead(home, ahead)
    assert is_dead(home, opened(home))
    assert "works only with --issued-before" in home("revoke", "last", "--force", code=2).err


def test_what_is_selected_dies_and_nothing_else(home: Shell) -> None:
    acme, globex = opened(home, "--tenant", "Acme", "--purpose", "qbr"), opened(home, "--tenant", "Globex")
    children = [bundle.delegate(to=name) for bundle in (acme, globex) for name in ("reader", "writer")]
    for child in children:
        home.decide(child.text, "crm.read", bundle_tenant(child))
    dry = home("revoke", "--where", "agent=reader", "--where", "tenant=Acme", "--dry-run", "--json").json
    assert [each["key"] for each in dry["killed"]] == [b64u(children[0].node or b"")]
    home("revoke", "--where", "agent=reader")
    assert [is_dead(home, child) for child in children] == [True, False, True, False]
    said = home("revoke", "--where", "tenant=Acme", "--where", "purpose=qbr").out
    assert said.startswith("root of a task ")
    assert [is_dead(home, each) for each in (acme, children[1], globex)] == [True, True, False]


def test_a_selection_that_fits_nothing_alive_has_its_exit_code(home: Shell) -> None:
    opened(home, "--tenant", "Acme")
    for args in (("tenant=Acme ",), ("tenant=Acne", "--wait"), ("agent=nobody",), ("tenant=Acne", "--dry-run")):
        said = home("revoke", "--where", *args, code=1)
        assert (
            said.out
            == "nothing alive matches, so nothing was revoked; an agent is found by name only after it has acted\n"
        )
    assert home("revoke", "--where", "tenant=Acne", "--wait", "--json", code=1).json["killed"] == []
    home("revoke", "--where", "tenant=Acme")
    home("revoke", "--where", "tenant=Acme", code=1)
    home("revoke", "last")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "give either TARGET"),
        (("last", "--kid", "AAAAAAAAAAA"), "give either TARGET"),
        (("--kid", "AAAAAAAAAAA", "--where", "tenant=x"), "give either TARGET"),
        (("--where", "tenant"), "write tenant=Acme"),
        (("--where", "tenant=a", "--where", "tenant=b"), "each once"),
        (("--where", "intent=x"), "cannot select by intent"),
        (("--where", "tenant="), "is not a valid tenant"),
        (("--where", "agent=\x1b[31m"), "is not a valid agent"),
        (("--wait", "last"), "put --wait after TARGET"),
        (("last", "--wait=99999"), "is not a number of seconds"),
        (("last", "--wait=nan"), "is not a number of seconds"),
        (("last", "--wait", "--dry-run"), "there is nothing to wait for"),
        (("--issued-before", "soon"), "is not a time"),
    ],
)
def test_what_cannot_be_meant_revokes_nothing(home: Shell, args: tuple[str, ...], says: str) -> None:
    opened(home)
    said = home("revoke", *args, code=2)
    assert says in said.err
    assert said.err.count("\n") == 1
    assert said.err[:-1].isprintable()
    assert "revoked" not in home("log").out


def sight(home: Shell, follower: str, deaths: int) -> None:
    with Authority.open_home(home.home) as authority:
        authority.store.sighted(follower, deaths, now=int(time.time()))


def test_waiting_ends_when_every_follower_has_seen_it(home: Shell) -> None:
    opened(home)
    assert "every follower has seen it" in home("revoke", "last", "--wait").out
    opened(home)
    sight(home, "crm-1", 1)
    process = home.start("revoke", "last", "--wait", "30")
    assert process.stdout is not None
    assert "is revoked, at position" in process.stdout.readline()
    assert process.poll() is None
    sight(home, "crm-1", 2)
    assert "every follower has seen it" in process.stdout.read()
    process.stdout.close()
    assert process.wait(timeout=30) == 0


def test_followers_that_have_not_seen_it_are_named(home: Shell) -> None:
    opened(home)
    sight(home, "crm-\x1b[31m1", 0)
    said = home("revoke", "last", "--wait=0.2", code=3)
    assert "is revoked, at position" in said.out
    assert "not seen yet by crm-\\x1b[31m1, which knew 0 deaths at 20" in said.out
    assert "denies everything when its knowledge is too old" in said.err
    again = home("revoke", "last", "--wait=0", "--json", code=3).json
    assert again["killed"][0]["again"]
    assert [one["deaths"] for one in again["unaware"]] == [0]


def test_ctrl_c_while_waiting_leaves_what_was_said(home: Shell) -> None:
    opened(home)
    sight(home, "crm-1", 0)
    process = home.start("revoke", "last", "--wait")
    assert process.stdout is not None
    assert "is revoked, at position" in process.stdout.readline()
    process.send_signal(2)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.strip() == "capx: interrupted"


def waiting(home: Shell, *args: str) -> "subprocess.Popen[str]":
    """`capx revoke --wait --json` that has revoked, and waits for a follower that says nothing any more."""
    opened(home)
    sight(home, "crm-1", 0)
    process = home.start("revoke", "last", "--wait", "--json", *args)
    with Authority.open_home(home.home) as authority:
        while next(authority.newest_first()).kind != "revoked":
            assert process.poll() is None
            time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("signum", "code", "says"), [(signal.SIGINT, 130, "capx: interrupted"), (signal.SIGTERM, 143, "")]
)
def test_a_program_gets_what_was_revoked_if_waiting_is_cut(home: Shell, signum: int, code: int, says: str) -> None:
    process = waiting(home)
    process.send_signal(signum)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (code, says)
    said = json.loads(out)
    assert [one["position"] for one in said["killed"]] == [said["position"]] == [4]
    assert said["unaware"] is None


def test_a_program_gets_what_was_revoked_when_none_can_be_asked(home: Shell) -> None:
    with serving(home) as place:
        process = waiting(home, "--authority", place)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert json.loads(out)["unaware"] is None
    assert err.startswith("capx: ")


def test_an_agent_that_revoked_is_named_in_the_log(home: Shell) -> None:
    held = opened(home)
    child = held.delegate(to="child", nonce="AAAAAAAAAAA")
    with Authority.open_home(home.home) as authority:
        authority.revoke_below(str(held.task), [held.node or b""], ["AAAAAAAAAAA"])
    line = home("log", "--limit", "1").out
    assert f"node or capability {b64u(child.node or b'')}, by the agent at node {b64u(held.node or b'')}" in line


def test_the_log_says_how_many_nodes_one_command_revoked(home: Shell) -> None:
    with Authority.open_home(home.home) as authority:
        task = authority.open(allow=["crm.*"])
        authority.store.record([recordable(decided(task, [hop]), at=1) for hop in (nonce(), nonce(), nonce())])
    killed = [one["key"] for one in json.loads(home("revoke", "--where", f"agent={LABEL}", "--json").out)["killed"]]
    assert f"node or capability {killed[0]} and 2 more of this task" in home("log", "--limit", "1").out
    (event,) = json.loads(home("log", "--limit", "1", "--json").out)
    assert event["facts"] == {"id": killed[0], "task": task.id, "others": killed[1:]}


@contextmanager
def serving(home: Shell) -> Generator[str]:
    """The place at which the authority of this home serves."""
    process = home.start("serve", "--listen", "127.0.0.1:0", "--json")
    try:
        assert process.stdout is not None
        yield f"unix:{json.loads(process.stdout.readline())['socket']}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_an_authority_that_serves_does_it_as_the_home_would(home: Shell) -> None:
    with serving(home) as place:
        there: Any = {"CAPX_AUTHORITY": place, "CAPX_HOME": os.devnull}
        token = home("task", "open", "--tenant", "Acme", "--allow", "crm.read", **there).token
        home.decide(token, "crm.write", "Acme")
        assert home("why", "last", **there).out.startswith("DENIED  crm.write at crm")
        assert len(home("find", "--denied", "--json", **there).json) == 1
        assert "0 allowed, 1 denied" in home("graph", "last", **there).out
        more = home("mint", "last", "--allow", "crm.list", **there).token
        node = b64u(Bundle.parse(more).node or b"")
        assert node in home("find", "--node", node, **there).out
        assert "root of a task" in home("revoke", "last", "--wait", **there).out
        assert home("graph", "last", "--json", **there).json["trees"][0]["node"]["dead"] == "revoked"
        assert home("store", "check", "--json", **there).json["whole"]
        assert home("keys", "list", "--json", **there).json[0]["live_tasks"] == 0
        assert home("log", "--json", "--authority", place).json[-1]["kind"] == "revoked"
        for args in (("keys", "export", "crm"), ("verify", "--action", "crm.read"), ("revoke", "--held")):
            said = home(*args, token=token, code=2, **there)
            assert "needs the root keys, which stay with their authority" in said.err
        for args in (("store", "backup", "x.db"), ("store", "stats"), ("store", "migrate")):
            assert "works on the store itself" in home(*args, code=2, **there).err
        assert home("revoke", "--where", "tenant=Acne", code=1, **there).out.startswith("nothing alive matches")
        for since in ("9" * 5_000, str(2**53)):
            assert home("log", "--since", since, code=2, **there).err == home("log", "--since", since, code=2).err
        assert home("log", "--since", str(2**53 - 1), **there).err == "nothing happened since\n"
        assert home("find", "--since", "999999999d", **there).out
        home("task", "complete", "last", **there)
    assert "no authority answers at" in home("task", "list", code=3, **there).err
    assert "unix:PATH" in home("task", "list", code=3, CAPX_AUTHORITY="nowhere").err


def test_a_revoked_key_is_dead_in_every_view(home: Shell) -> None:
    key = AgentKey.generate("planner").public
    token = home("task", "open", "--allow", "crm.read", "--agent-key", key).token
    foreseen = home("revoke", "--key", key, "--dry-run")
    assert f"all that the agent's key {key} holds or has delegated would be revoked" in foreseen.out
    said = home("revoke", "--key", key)
    assert f"all that the agent's key {key} holds or has delegated is revoked, at position" in said.out
    assert f"revoked: the agent's key {key}" in flat(home("inspect", "--store", token=token).out)
    assert "revoked" in home("verify", "--action", "crm.read", token=token, code=1).out
    assert home("revoke", "--key", key, "--json").json["killed"][0]["again"]
    refused = home("task", "open", "--allow", "crm.read", "--agent-key", key, code=2)
    assert (refused.out, "revoked" in refused.err) == ("", True)
    assert "give either TARGET" in home("revoke", "last", "--key", key, code=2).err
    assert "is not a public key" in home("revoke", "--key", "planner", code=2).err
    assert f"a public key is not an id: give it with --key {key}" in home("revoke", key, code=2).err


def test_a_file_is_not_taken_for_an_id(home: Shell, tmp_path: Path) -> None:
    file = tmp_path / "slides.key"
    file.touch()
    said = home("revoke", str(file), code=2).err
    assert f'{file} is a file, and not an id: for a key in it, give --key "$(capx agent-key show {file})"' in said
    assert f"for a token in it, --held --token-file {file}" in said


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize("how", ["root", "tenant", "instant"])
def test_a_task_whose_root_is_revoked_does_not_read_active(home: Shell, how: str) -> None:
    shown = home("task", "show", "last", "--json").json
    targets = {"root": (shown["root"],), "tenant": ("--where", "tenant=Acme"), "instant": ("--issued-before", "now")}
    home("revoke", *targets[how])
    assert home("task", "list", "--json").json[0]["state"] == "revoked"
    assert "  state    revoked\n" in home("task", "show", "last").out


def test_task_show_marks_a_dead_capability(home: Shell, task: str) -> None:
    crm, slides = (one.id for one in Bundle.parse(task) if one.audience in {"crm", "slides"})
    home("revoke", b64u(slides))
    (dead, *others) = sorted(home("task", "show", "last").out.splitlines(), key=lambda line: "DEAD" not in line)
    assert b64u(slides) in dead
    assert dead.endswith("  DEAD: revoked")
    assert not any("DEAD" in line for line in others)
    told = {one["ids"][-1]: one["dead"] for one in home("task", "show", "last", "--json").json["minted"]}
    assert (told[b64u(slides)], told[b64u(crm)]) == ("revoked", None)
