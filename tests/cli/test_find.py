"""Looking back at three in the morning: what was denied, to whom, why, and its end."""

import json
import os
import re
import signal
import subprocess
from typing import Any

import msgspec
import pytest

from capx.authority.authority import Authority
from capx.tokens.binding import HttpRequest, ToolCall
from capx.verify.decision import Denied
from capx_caveats import Call, allow
from tests.cli.conftest import Shell, first
from tests.labs.commands import COMMAND
from tests.labs.processes import ended_with_test
from tests.server.conftest import serving

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  (allowed|denied )  d\.[\w-]{22}  .+")


def fill(home: Any, count: int) -> None:
    """Many more allowed calls, in the log of a home."""
    with Authority.open_home(home.home) as authority:
        *_, last = authority.find()
        facts = last.facts()
        with authority.store.write() as transaction:
            for number in range(count):
                own = {"id": f"d.{number:022}", "args_digest": f"{number:016}"}
                body: dict[str, Any] = {**facts, **own, "outcome": "allowed", "reasons": []}
                transaction.append("decision", msgspec.json.encode(body), at=last.at)


def test_from_a_denial_to_the_end_of_whoever_caused_it(busy: Any) -> None:
    found = busy("find", "--denied", "--since", "1h").out.splitlines()
    assert len(found) == 2
    assert all(LINE.fullmatch(line) for line in found)
    _, outcome, id_, action, *_ = found[-1].split()
    assert (outcome, action) == ("denied", "crm.notes.add")
    shown = re.fullmatch(r".* at crm, action_not_allowed, node ([\w-]{22}), by task > reader > helper", found[-1])
    assert shown is not None

    why = busy("why", id_).out
    assert busy("why", "last").out == why
    facts = busy("why", "last", "--json").json
    assert facts["id"] == id_
    assert facts["node"] == facts["path"][-1] == shown[1]
    assert facts["node"] in why
    assert facts["task"] in why
    assert facts["path"][-1] in busy("graph", facts["task"]).out
    busy("revoke", facts["path"][-1])
    assert f"helper  {facts['path'][-1]}  0 allowed, 1 denied  DEAD: revoked" in busy("graph", facts["task"]).out
    assert busy("log", "--limit", "1").out.endswith(f"  revoked            node or capability {facts['path'][-1]}\n")


def test_a_decision_is_no_node_that_could_be_revoked(busy: Any) -> None:
    facts = busy("find", "--denied", "--limit", "1", "--json").json[0]
    for options in ((), ("--dry-run",)):
        said = busy("revoke", facts["id"], *options, code=2)
        assert f"is the id of a decision, not of a node: capx why {facts['id']} names its node" in said.err
        assert said.out == ""
    assert "revoked" not in busy("log").out
    busy("revoke", facts["node"])


def test_a_refusal_before_the_action_was_known_says_so(home: Any) -> None:
    opened = first(home("task", "open", "--allow", "crm.read").token)
    home("task", "complete", "last")
    request = HttpRequest(method="GET", target="/accounts")
    with Authority.open_home(home.home) as authority, pytest.raises(Denied):
        authority.verifier("crm").admit(opened.present(request).text, request)
    assert home("why", "last").out.startswith("DENIED  (refused before an action was known) at crm\n")
    assert "  (refused before an action was known) at crm, task_completed, node " in home("find").out


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ((), 4),
        (("--denied",), 2),
        (("--agent", "reader"), 4),
        (("--agent", "helper"), 2),
        (("--agent", "nobody"), 0),
        (("--tenant", "Acme"), 2),
        (("--action", "crm.*"), 4),
        (("--action", "crm.notes.*"), 2),
        (("--task", "last"), 2),
        (("--since", "1h", "--limit", "3"), 3),
        (("--since", "2099-01-01T00:00:00Z"), 0),
        (("--agent", "reader", "--denied", "--tenant", "Globex", "--task", "last"), 1),
        (("--reason", "action_not_allowed"), 2),
        (("--reason", "expired", "--reason", "action_not_allowed", "--limit", "1"), 1),
        (("--reason", "revoked"), 0),
    ],
)
def test_what_is_found_is_what_was_asked_for(busy: Any, asked: tuple[str, ...], count: int) -> None:
    said = busy("find", *asked, code=0 if count else 1)
    assert len(said.out.splitlines()) == count
    assert ("no such decision was recorded" in said.err) == (count == 0)
    found = busy("find", *asked, "--json", code=0 if count else 1).json
    assert len(found) == count
    positions = [each["position"] for each in found]
    assert positions == sorted(positions)
    assert [line.split()[2] for line in said.out.splitlines()] == [each["id"] for each in found]


@pytest.fixture
def retried(kept: Shell) -> tuple[Shell, list[str]]:
    """A home, and its decisions: a call that is denied twice and then allowed, the same call again, and a denial."""
    token = kept("task", "open", "--tenant", "Acme", "--allow", "crm.read").token
    narrow = first(token).attenuate(allow("crm.notes.read")).text
    made = [kept.decide(each, "crm.read", "Acme", id=7).id for each in (narrow, narrow, token, token)]
    made.append(kept.decide(narrow, "crm.read", "Acme", id=8).id)
    return kept, made


def found(home: Shell, *options: str, code: int = 0) -> list[str]:
    facts = home("find", *options, "--json", code=code).json
    said = [line.split()[2] for line in home("find", *options, code=code).out.splitlines()]
    assert said == [each["id"] for each in facts]
    return said


def test_a_call_that_passed_in_the_end_did_not_stay_denied(retried: tuple[Shell, list[str]]) -> None:
    home, (one, two, passed, again, stayed) = retried
    assert found(home) == found(home, "--limit", "9") == [passed, again, stayed]
    assert found(home, "--limit", "2") == [again, stayed]
    assert found(home, "--denied") == found(home, "--reason", "action_not_allowed") == [stayed]
    assert found(home, "--denied", "--limit", "5") == [stayed]
    assert found(home, "--denied", "--each") == found(home, "--each", "--reason", "action_not_allowed")
    assert found(home, "--denied", "--each") == [one, two, stayed]
    assert found(home, "--each") == [one, two, passed, again, stayed]
    assert found(home, "--decision", one) == [one]
    (line, *_) = home("find").out.splitlines()
    assert f"allowed  {passed}  crm.read at crm, after 2 denials, node " in line
    groups = [each["same_call"] for each in home("find", "--json").json]
    assert groups == [[one, two, passed], [again], [stayed]]
    assert all("same_call" not in each for each in home("find", "--each", "--json").json)


def test_each_decision_of_a_call_shows_the_others(retried: tuple[Shell, list[str]]) -> None:
    home, (one, two, passed, again, stayed) = retried
    said = home("why", one).out
    assert f"  same call: denied   {two}  crm.read at crm, action_not_allowed" in said
    assert f"  same call: allowed  {passed}  crm.read at crm" in said
    assert again not in said
    facts = home("why", two, "--json").json
    assert facts["same_call"] == [one, two, passed]
    assert [each["id"] for each in facts["beside"]["same_call"]] == [one, passed]
    assert home("why", "last", "--json").json["id"] == stayed
    assert "same call" not in home("why", stayed).out


def test_the_graph_counts_calls_that_stayed_denied(retried: tuple[Shell, list[str]]) -> None:
    home, _ = retried
    assert "2 allowed, 1 denied" in home("graph").out
    assert home("store", "check").out


def test_an_authority_elsewhere_shows_the_same_calls(home: Shell) -> None:
    token = home("task", "open", "--allow", "crm.read").token
    narrow = first(token).attenuate(allow("crm.notes.read")).text
    one, passed, stayed = (
        home.decide(each, "crm.read", id=nth).id for each, nth in ((narrow, 7), (token, 7), (narrow, 8))
    )
    with serving(home.home) as served:
        for options, ids in (
            ((), [passed, stayed]),
            (("--limit", "1"), [stayed]),
            (("--denied",), [stayed]),
            (("--denied", "--limit", "9"), [stayed]),
            (("--reason", "action_not_allowed", "--each"), [one, stayed]),
            (("--reason", "revoked"), []),
        ):
            assert found(home, *options, "--authority", served.place, code=0 if ids else 1) == ids
        assert home("why", "last", "--authority", served.place).out.startswith("DENIED")
        assert home("why", one, "--json", "--authority", served.place).json["same_call"] == [one, passed]


def test_a_search_that_finds_nothing_exits_as_grep_does(home: Shell) -> None:
    assert home("find", "--denied", code=1).out == ""
    assert home("find", "--denied", "--json", code=1).out == "[]\n"
    # A list of everything is no search, so an empty one is no failure.
    assert home("log").out == ""


def test_a_code_that_looks_like_another_one_is_questioned(busy: Any) -> None:
    said = busy("find", "--reason", "action_not_alowed", "--reason", "quota", code=1)
    assert said.err == (
        "no such decision was recorded: reason action_not_alowed or quota; did you mean action_not_allowed?\n"
    )
    assert busy("find", "--reason", "revoked", code=1).err == "no such decision was recorded: reason revoked\n"


def test_a_code_of_a_service_is_found(home: Any) -> None:
    body = {"id": "A" * 22, "audience": "crm", "outcome": "denied", "reasons": [{"code": "expired_card"}]}
    with Authority.open_home(home.home) as authority, authority.store.write() as transaction:
        transaction.append("decision", msgspec.json.encode(body), at=1)
    said = home("find", "--reason", "expired_card")
    assert (said.out.split()[2], said.err) == ("A" * 22, "")


def test_json_is_one_array_an_element_a_line(busy: Any) -> None:
    first, *elements, last = busy("find", "--json").out.splitlines()
    assert (first, last) == ("[", "]")
    assert [json.loads(element.rstrip(","))["outcome"] for element in elements] == ["allowed", "denied"] * 2
    assert busy("find", "--agent", "x", "--json", code=1).out == "[]\n"
    explained = busy("why", "last", "--json").json
    assert explained.pop("beside")["before"]["outcome"] == "allowed"
    assert explained.pop("late") is False
    assert busy("find", "--json", "--limit", "1").json[0] == explained


def test_what_cannot_be_meant_and_what_is_not_there_is_one_line(home: Any, tmp_path: Any) -> None:
    for args, code, says in (
        (("find", "--since", "yesterday"), 2, "is not a time"),
        (("log", "--since", "-3"), 2, "is not a time"),
        (("find", "--action", "*"), 2, "no decision can match it"),
        (("find", "--agent", "\x1b[31m\u202e"), 2, "no decision can match it"),
        (("find", "--limit", "-1"), 2, "-1 is not in the range"),
        (("find", "--before", "5", "--after", "2"), 2, "give only one of --before and --after"),
        (("log", "--before", "x"), 2, "--before x is neither a position of the log nor the id of a decision in it"),
        (("log", "--follow", "--after", "2"), 2, "leave out --before and --after"),
        (("task", "list", "--after", "nobody"), 2, "there is no task"),
        (("find", "--limit", "9" * 23), 2, "is not in the range"),
        (("log", "--limit", str(2**63)), 2, "is not in the range"),
        (("log", "--limit", "9" * 5000), 2, "is not a valid integer range"),
        (("find", "--task", "last"), 2, "no task was opened yet"),
        (("find", "--task", "nobody"), 2, "there is no task"),
        (("why", "last"), 2, "no recorded call stayed denied yet; services record, capx verify does not"),
        (("find", "--reason", ""), 2, "no decision can match it"),
    ):
        said = home(*args, code=code)
        assert says in said.err, said.err
        assert said.err.count("\n") == 1
        assert said.err[:-1].isprintable()
        assert said.out == ""
    assert home("find", code=1).err == "no such decision was recorded\n"
    assert home("log").err == "nothing has happened yet\n"
    for command in ("find", "log"):
        assert "create one with capx init" in home(command, code=3, CAPX_HOME=str(tmp_path / "nowhere")).err


def test_decisions_made_meanwhile_do_not_break_the_list(busy: Any) -> None:
    fill(busy, 1_500)
    finding = busy.start("find", "--limit", "9999")
    assert finding.stdout is not None
    assert LINE.fullmatch(finding.stdout.readline().rstrip("\n"))
    token = busy("task", "open", "--allow", "crm.read").token
    assert busy.decide(token, "crm.read").allowed
    rest = finding.stdout.read().splitlines()
    finding.stdout.close()
    assert finding.wait(timeout=60) == 0
    assert len(rest) in {1_503, 1_504}
    assert all(LINE.fullmatch(line) for line in rest)


def test_a_reader_that_leaves_is_no_failure_ctrl_c_ends_at_once(busy: Any) -> None:
    fill(busy, 1_500)
    for args in (("find", "--limit", "all"), ("log", "--json", "--limit", "all")):
        finding = busy.start(*args)
        assert finding.stdout is not None
        assert finding.stderr is not None
        finding.stdout.readline()
        finding.stdout.close()
        assert finding.stderr.read() == ""
        finding.stderr.close()
        assert finding.wait(timeout=60) == 141
    reading, writing = os.pipe()
    finding = ended_with_test(
        subprocess.Popen(
            (*COMMAND, "find", "--limit", "9999"), env=busy.unmeasured, stdout=writing, stderr=subprocess.PIPE
        )
    )
    os.close(writing)
    os.read(reading, 1)
    # It waits for a reader by now: more is to come than a pipe holds.
    finding.send_signal(signal.SIGINT)
    _, said = finding.communicate(timeout=60)
    os.close(reading)
    assert finding.returncode == 130
    assert said.strip() == b"capx: interrupted"


def pages(home: Shell, *command: str, option: str, key: str) -> tuple[list[str], int]:
    """What all pages show together, in the order in which they were read, and how many there are."""
    more: tuple[str, ...] = ()
    found, count = list[str](), 0
    while True:
        said = home(*command, *more, "--json")
        page = [str(one[key]) for one in said.json]
        found = [*found, *page] if option == "--after" else [*page, *found]
        count += 1
        if option not in said.err:
            return found, count
        more = (option, page[-1] if option == "--after" else page[0])


@pytest.mark.parametrize("command", ["find", "log"])
def test_pages_together_are_the_whole_log(busy: Any, command: str) -> None:
    fill(busy, 120)
    everything = [str(one["position"]) for one in busy(command, "--json", "--limit", "0").json]
    assert len(everything) >= 120
    said = busy(command)
    assert len(said.out.splitlines()) == 50
    assert said.err == (f"there are older ones: --before {everything[-50]} shows the next 50, --limit all all\n")
    assert [str(one["position"]) for one in busy(command, "--json").json] == everything[-50:]
    assert pages(busy, command, option="--before", key="position") == (everything, 3)
    assert pages(busy, command, "--after", "0", "--limit", "45", option="--after", key="position") == (everything, 3)
    assert len(busy(command, "--limit", "all").out.splitlines()) == len(everything)
    with serving(busy.home) as served:
        there = (command, "--authority", served.place)
        assert pages(busy, *there, option="--before", key="position") == (everything, 3)
        assert pages(busy, *there, "--after", "0", "--limit", "45", option="--after", key="position") == (everything, 3)


def test_pages_of_tasks_together_are_all_tasks(home: Shell) -> None:
    with Authority.open_home(home.home) as authority:
        opened = [authority.open(allow=["crm.read"]).id for _ in range(7)]
        authority.complete(opened[3])
    list_ = ("task", "list", "--limit", "3")
    alive = opened[:3] + opened[4:]
    with serving(home.home) as served:
        for there in ((), ("--authority", served.place)):
            assert pages(home, *list_, *there, option="--before", key="id") == (opened, 3)
            after = (*list_, *there, "--after", opened[0])
            assert pages(home, *after, option="--after", key="id") == (opened[1:], 2)
            assert pages(home, *list_, *there, "--active", option="--before", key="id") == (alive, 2)
            everything = home("task", "list", "--limit", "all", *there, "--json").json
            assert [one["id"] for one in everything] == opened


def test_the_next_page_is_found_by_the_id_of_a_decision(busy: Any) -> None:
    ids = [one["id"] for one in busy("find", "--json").json]
    assert [one["id"] for one in busy("find", "--before", ids[2], "--json").json] == ids[:2]
    assert [one["id"] for one in busy("find", "--after", ids[2], "--json").json] == ids[3:]
    assert [one["id"] for one in busy("find", "--before", ids[2], "--limit", "all", "--json").json] == ids[:2]
    older = [one["position"] for one in busy("log", "--before", "4", "--json", "--limit", "all").json]
    assert older == [one["position"] for one in busy("log", "--before", "4", "--json").json] == [1, 2, 3]


def test_a_decision_is_found_by_an_argument_in_the_clear(home: Shell) -> None:
    with Authority.open_home(home.home) as authority:
        task = authority.open(allow=["support.read"])
        verifier = authority.verifier("support", record=["ticket"])
        for ticket in ("T-1", "T-2"):
            received = ToolCall("support.read", {"ticket": ticket, "secret": "hush"})
            call = Call("support.read", {"ticket": ticket, "secret": "hush"})
            assert verifier.decide(task.bundle.present("support", received).text, received, call).allowed
    found = home("find", "--arg", "ticket=T-1", "--json").json
    assert [one["shown_args"] for one in found] == [{"ticket": "T-1"}]
    assert home("find", "--arg", "ticket:=1", "--json", code=1).json == []
    said = home("find", "--arg", "ticket=T-3", code=1).err
    assert "no such decision was recorded: arg ticket=T-3" in said
    assert "hush" not in home("log", "--json").out
    assert "is not an argument" in home("find", "--arg", "ticket:=[1]", code=2).err
