"""Looking while things happen: graphs in every format, budgets, the log followed, and what stands beside a decision."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

from capx.authority.authority import Authority
from capx.authority.restore import restore
from capx.crypto.base64url import b64u
from capx.store.backup import backup
from capx.store.records import DecisionRecord
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx_caveats import Call, Root, budget
from tests.cli.conftest import COMMAND, Shell


@pytest.fixture
def spending(home: Shell) -> Bundle:
    """An agent of a task with a budget of three calls, which has used two and wanted what it may not."""
    with Authority.open_home(home.home) as authority:
        opened = authority.open(allow=["crm.read"], tenant="Acme", purpose="qbr", caveats=[budget("calls", 3)])
        held = opened.bundle.delegate(to="reader")
        for action in ("crm.read", "crm.read", "crm.export"):
            use(authority, held, action)
        assert authority.flush()
    return held


def use(authority: Authority, bundle: Bundle, action: str) -> bool:
    received = ToolCall(action)
    token = bundle.present("crm", received).text
    call = Call(action, tenant="Acme")
    return authority.verifier("crm").decide(token, received, call).allowed


def flat(text: str) -> str:
    """The words of a text, a blank between each two."""
    return " ".join(text.split())


def test_what_was_spent_stands_in_every_view(home: Shell, spending: Bundle) -> None:
    assert "calls: 2 of 3 spent, 1 left" in home("graph", "last").out
    for shape in ("mermaid", "dot"):
        assert "calls: 2 of 3 spent, 1 left" in home("graph", "--format", shape).out
    (tree,) = home("graph", "--json").json["trees"]
    assert [(one["unit"], one["spent"], one["limit"], one["left"]) for one in tree["budgets"]] == [
        ("calls", "2", "3", "1")
    ]
    assert home("graph", "--format", "json").json == home("graph", "--json").json
    _, second, _ = home("find", "--json").json
    assert "  spent   1 of calls, 2 of 3 spent by then" in home("why", second["id"]).out
    seen = flat(home("inspect", "--store", token=spending.text).out)
    assert "spent 2 of 3 calls, 1 left (the task's grant)" in seen
    assert "alive as far as this store knows" in seen
    view = home("inspect", "--store", "--json", token=spending.text).json["tokens"][0]["store"]
    assert (view["budgets"][0]["left"], view["dead"]) == ("1", [])


@pytest.mark.parametrize("end", ["node", "task", "kid", "instant", "capability"])
def test_what_of_a_token_is_dead_is_said_with_its_death(home: Shell, spending: Bundle, end: str) -> None:
    held = next(iter(spending))
    args, says = {
        "node": (("revoke", b64u(spending.node or b"")), "revoked: node of hop 1 (reader) "),
        "task": (("task", "complete", "last"), "task_completed: task "),
        "kid": (("revoke", "--kid", held.kid), f"revoked: all that was minted under key {held.kid}"),
        "instant": (("revoke", "--issued-before", "now"), "revoked: all that was issued up to 20"),
        "capability": (("revoke", b64u(held.ids[0])), f"revoked: capability {b64u(held.ids[0])}"),
    }[end]
    home(*args)
    assert f"DEAD {says}" in flat(home("inspect", "--store", token=held.text).out)
    assert home("inspect", "--store", "--json", token=held.text).json["tokens"][0]["store"]["dead"]
    shown = held.present(ToolCall("crm.read")).text
    assert f"DEAD {says}" in flat(home("inspect", "--store", token=shown).out)


def test_a_token_that_cannot_be_read_is_told_as_such(home: Shell, spending: Bundle) -> None:
    bare = Capability.parse(next(iter(spending)).text)
    assert "the home" not in home("inspect", token=bare.text).out
    assert (
        "create one with capx init"
        in home("inspect", "--store", token=bare.text, code=3, CAPX_HOME=str(home.home / "none")).err
    )


def test_decisions_are_found_by_node_presentation_and_id(home: Shell, spending: Bundle) -> None:
    decided = home("find", "--json").json
    node = b64u(spending.node or b"")
    root = decided[0]["path"][0]
    assert len(home("find", "--node", node, "--json").json) == len(home("find", "--node", root, "--json").json) == 3
    assert home("find", "--node", node, "--denied", "--limit", "1", "--json").json == decided[2:]
    assert home("find", "--node", node, "--limit", "2", "--json").json == decided[1:]
    assert home("find", "--presentation", decided[1]["presentation"], "--json").json == decided[1:2]
    assert home("find", "--decision", decided[0]["id"], "--json").json == decided[:1]
    assert home("find", "--decision", decided[0]["id"], "--denied", "--json").json == []
    assert home("find", "--node", "A" * 22, "--denied").err == (
        f"no such decision was recorded: node {'A' * 22}, denied\n"
    )
    for no_id, says in (("x y", "an id has 22 characters, this has 3"), ("+" * 22, "each a letter, a digit, - or _")):
        for option in ("--node", "--presentation", "--decision"):
            assert says in home("find", option, no_id, code=2).err
    assert "an id has 22 characters, this has 21" in home("why", "A" * 21, code=2).err
    assert "there is no decision" in home("why", "A" * 22, code=2).err
    for options in ((), ("--json",)):
        said = home("find", "--node", decided[0]["id"], *options, code=2)
        assert f"is a decision, not a node; its node is {decided[0]['node']}: capx find --node" in said.err
        assert said.out == ""


def test_what_stands_beside_a_decision_is_shown(home: Shell, spending: Bundle) -> None:
    first, second, third = (each["id"] for each in home("find", "--json").json)
    said = home("why", second).out
    assert re.search(rf"^  before: allowed  {first}  crm.read at crm", said, re.MULTILINE)
    assert re.search(rf"^  after: denied   {third}  crm.export at crm, action_not_allowed", said, re.MULTILINE)
    beside = home("why", third, "--json").json["beside"]
    assert (beside["before"]["id"], beside["after"], beside["same_presentation"]) == (second, None, [])


SQUATS: list[dict[str, object]] = [{}, {"outcome": "allowed"}, {"outcome": "denied", "spent": [{}]}]


@pytest.mark.parametrize("squat", SQUATS)
def test_a_decision_whose_id_another_audience_took_first_is_shown(home: Shell, squat: dict[str, object]) -> None:
    id_ = "A" * 22
    true = {"id": id_, "audience": "slides", "outcome": "denied", "action": "slides.write"}
    bodies = [msgspec.json.encode(body) for body in ({"id": id_, "audience": "crm", **squat}, true)]
    with Authority.open_home(home.home) as authority:
        authority.store.record([DecisionRecord(id_, 1, body) for body in bodies])
    shown = home("why", id_)
    assert "slides.write at slides" in shown.out
    readable = squat == {"outcome": "allowed"}
    assert (f"  same id: denied   {id_}  slides.write at slides" in shown.out) == readable
    same = home("why", id_, "--json").json["beside"]["same_id"]
    assert [one["audience"] for one in same] == (["slides"] if readable else [])


def test_hostile_labels_act_nowhere(home: Shell) -> None:
    opened = home("task", "open", "--tenant", '"]; x', "--purpose", "<b>&#8238;", "--allow", "crm.read").token
    with Authority.open_home(home.home) as authority, authority.store.write() as transaction:
        facts: dict[str, object] = {
            "outcome": "denied",
            "audience": "crm\u202e",
            "task": "",
            "root": "",
            "path": [],
            "hops": [],
        }
        held = next(iter(Bundle.parse(opened)))
        facts |= {"id": "A" * 22, "task": held.task, "root": root_of(held), "ids": [b64u(held.id)]}
        facts |= {"path": [b64u(held.path[0]), "A" * 22], "hops": ['e"vil\n\u202e\x1b[2J']}
        transaction.append("decision", json.dumps(facts).encode(), at=1)
        none = {"id": "B" * 22, "path": [b64u(held.path[0]), "x\x1b[31m"], "hops": ["no node"]}
        transaction.append("decision", json.dumps(facts | none).encode(), at=1)
    for args in (("graph",), ("graph", "--format", "mermaid"), ("graph", "--format", "dot"), ("graph", "--json")):
        said = home(*args).out
        assert all(line.isprintable() for line in said.splitlines()), args
        assert "vil" in said
        assert "no node" not in said


def root_of(held: Capability) -> str:
    return next(caveat.id for caveat in held.caveats[0] if isinstance(caveat, Root))


def test_formats_that_exclude_each_other_are_refused(home: Shell) -> None:
    assert "either --json or --format dot" in home("graph", "--json", "--format", "dot", code=2).err
    assert "--watch draws on a terminal" in home("graph", "--watch", code=2).err
    assert "is not one of" in home("graph", "--format", "png", code=2).err


class Following:
    """A command that goes on, and what it says as it comes."""

    def __init__(self, home: Shell, *args: str, terminal: bool = False) -> None:
        env = {**home.unmeasured, "COLUMNS": "120", "LINES": "40"}
        self.out: IO[bytes] | int
        if terminal:
            self.master, ours = pty.openpty()
            env |= {"TERM": "xterm", "NO_COLOR": "1"}
        else:
            self.master, ours = os.pipe()
        self.err, theirs = os.pipe()
        self.process = subprocess.Popen(
            (*COMMAND, *args), env=env, stdin=subprocess.DEVNULL, stdout=ours, stderr=theirs
        )
        os.close(ours)
        os.close(theirs)
        self.said: dict[int, str] = {self.master: "", self.err: ""}

    def until(self, says: Callable[[str, str], Any], seconds: float = 30) -> None:
        """Read until what was said on both streams is so."""
        ends = time.monotonic() + seconds
        while not says(self.said[self.master], self.said[self.err]):
            assert time.monotonic() < ends, self.said
            for ready in select.select([self.master, self.err], [], [], 0.5)[0]:
                try:
                    self.said[ready] += os.read(ready, 65536).decode(errors="replace")
                except OSError:
                    break

    def end(self) -> int:
        """Type Ctrl-C; gives the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=30)
        os.close(self.master)
        os.close(self.err)
        return code


@pytest.mark.parametrize("shape", ["text", "json"])
def test_the_log_is_followed_as_it_grows(home: Shell, shape: str) -> None:
    home("task", "open", "--allow", "crm.read")
    options = ("--json",) if shape == "json" else ()
    following = Following(home, "log", "--follow", "--since", "1", *options)
    following.until(lambda out, _: out.count("\n") == 2)
    home("task", "complete", "last")
    following.until(lambda out, _: out.count("\n") == 3)
    out = following.said[following.master]
    if shape == "json":
        assert [json.loads(line)["position"] for line in out.splitlines()] == [2, 3, 4]
    else:
        assert [line.split()[0] for line in out.splitlines()] == ["2", "3", "4"]
    assert following.end() == 0
    assert following.said[following.err] == ""


def test_without_since_only_what_is_new_is_told(home: Shell, tmp_path: Path) -> None:
    home("task", "open", "--allow", "crm.read")
    following = Following(home, "log", "--follow", "--limit", "1")
    following.until(lambda out, _: out.startswith("3 "))
    home("task", "complete", "last")
    following.until(lambda out, _: "\n4 " in out)
    assert following.end() == 0


def test_who_follows_survives_a_store_that_is_away_and_one_that_is_restored(home: Shell, tmp_path: Path) -> None:
    home("task", "open", "--allow", "crm.read")
    path = home.home / "capx.db"
    with Authority.open_home(home.home) as authority:
        backup(authority.store, tmp_path / "saved.db")
    following = Following(home, "log", "--follow", "--since", "2")
    following.until(lambda out, _: out.startswith("3 "))
    path.rename(home.home / "away.db")
    following.until(lambda _, err: err.count("I go on trying") == 1)
    (home.home / "away.db").rename(path)
    home("task", "complete", "last")
    following.until(lambda out, err: "task_completed" in out and "can be read again" in err)
    restore(tmp_path / "saved.db", str(path))
    following.until(lambda out, err: "restored" in out and "another one than before" in err)
    home("task", "open", "--allow", "crm.read")
    following.until(lambda out, _: out.count("task_opened") == 1)
    assert following.end() == 0
    assert following.said[following.master].count("restored ") == 1


def test_a_graph_that_is_watched_is_drawn_again_when_something_happens(home: Shell) -> None:
    token = home("task", "open", "--tenant", "Acme", "--allow", "crm.read").token
    watching = Following(home, "graph", "last", "--watch", terminal=True)
    watching.until(lambda out, _: "position 3 of the log" in out)
    home.decide(next(iter(Bundle.parse(token))).delegate(to="reader").text, "crm.read", "Acme")
    watching.until(lambda out, _: "reader" in out and "1 allowed, 0 denied" in out)
    home("revoke", "last")
    watching.until(lambda out, _: "DEAD: revoked" in out)
    assert watching.end() == 0
    assert "Traceback" not in watching.said[watching.master] + watching.said[watching.err]
