import io
import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console

from capx import AgentKey, ApprovalRequest, Bundle, Discharge, MalformedToken, PrincipalKey, SignedIntent
from capx.authority.authority import Authority
from capx.authority.graph.graph import Node, Tree
from capx.crypto.keys import AudienceKeys
from capx_cli.demo import ending, gains, rows
from capx_cli.demo.attack import Try
from capx_cli.demo.data import SERVICES, written_credits
from capx_cli.demo.row import Row
from capx_cli.demo.screen import Screen
from capx_cli.demo.story import Outcome
from tests.labs.commands import plain_environment, warm_capx, warm_python
from tests.labs.counts import nightly
from tests.labs.processes import ended_with_test

DEMO = [sys.executable, "-m", "capx_cli.main", "demo"]

SABOTAGED = """
import functools, sys
from capx_cli.demo import charter, story
story.run = functools.partial(story.run, completes=False)
for given, more in {
    "calls = 6": "calls = 7",
    '["warehouse.revenue.read"]': '["warehouse.revenue.read", "crm.export"]',
    'approval = { by = ["leads"] }\\n': "",
    'how = "ask"\\napprovers = ["leads"]\\nwithin = "10m"': 'how = "on_request"',
}.items():
    assert given in charter.POLICY
    charter.POLICY = charter.POLICY.replace(given, more)
from capx_cli.main import run
sys.exit(run(["demo", "--json"]))
"""

WITH_FORKED_CHILDREN = """
import sys
sys.executable, sys.argv[1:] = sys.argv[1], ["demo"]
from capx_cli.main import main
main()
"""
OF_MCP = """
import sys
from capx_cli.demo import mcp_story
from capx_cli.main import run
run_story, outcomes = mcp_story.run, []
def run_once(folder):
    if not outcomes:
        outcomes.append(run_story(folder))
    return outcomes[0]
mcp_story.run = run_once
code = run(["demo", "--mcp", "--json"])
print("=== as text ===")
sys.exit(code or run(["demo", "--mcp"]))
"""
"""One run, told twice."""
NOT_COMPLETED = {"services refuse the completed task", "all agents, after the completion", "the graph"}
"""The rows that differ because nobody completes the task."""


class Kept(NamedTuple):
    """What a demo answered, its home, and the arguments of its processes as `ps` shows them."""

    answer: dict[str, Any]
    home: Path
    shown: set[bytes]


def result(arguments: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    variables = {**plain_environment(), "NO_COLOR": "1", **env}
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, env=variables, check=False)


def warm(*arguments: str) -> list[str]:
    """A demo whose processes are forked from one that has imported what they need."""
    return [*warm_capx(), "demo", *arguments]


def row(rows: list[dict[str, Any]], side: str, what: str) -> dict[str, Any]:
    return next(row for row in rows if row["side"] == side and row["what"].startswith(what))


@pytest.fixture(scope="module")
def differing() -> dict[str, str]:
    """What happened in the rows that are not as expected, where the policy is wider and the task is not completed."""
    sabotaged = result([warm_python(), "-c", SABOTAGED])
    assert sabotaged.returncode == 1, sabotaged.stderr
    return {row["what"]: row["happened"] for row in json.loads(sabotaged.stdout)["rows"] if not row["ok"]}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """One run that leaves its home."""
    folder = tmp_path_factory.mktemp("demo")
    demo = ended_with_test(
        subprocess.Popen(
            [*DEMO, "--json", "--keep", str(folder / "home")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**plain_environment(), "DEMO_TEST": str(folder)},
        )
    )
    shown: set[bytes] = set()
    while demo.poll() is None:
        for process in _processes(f"DEMO_TEST={folder}"):
            with suppress(OSError):
                shown.add(Path(f"/proc/{process}/cmdline").read_bytes())
        time.sleep(0.1)
    out, err = demo.communicate()
    assert (demo.returncode, err) == (0, "")
    return Kept(json.loads(out), folder / "home", shown)


def test_every_row_happens_as_expected(kept: Kept) -> None:
    answer = kept.answer
    assert answer["ok"]
    assert [row for row in answer["rows"] if not row["ok"]] == []
    assert len(answer["rows"]) == 41
    assert answer["seconds"] < 30


def test_the_session_loses_every_record_and_the_execution_none(kept: Kept) -> None:
    rows = kept.answer["rows"]
    assert row(rows, "session", "records at the attacker's sink")["happened"] == "40 of 40; 1 request came"
    assert row(rows, "execution", "records at the attacker's sink")["happened"] == "0 of 40; 1 request came"
    for side in ("session", "execution"):
        assert row(rows, side, "the review is finished")["happened"] == "6 of 6 slides, published"


def test_every_way_to_the_crm_is_refused_and_says_why(kept: Kept) -> None:
    rows = kept.answer["rows"]
    for way, why in {
        "has its client ask for that": "the policy offers this to no task of the purpose: crm.export at crm",
        "asks for crm.export": "the policy offers this to no task of the purpose: crm.export at crm",
        "asks for it, arguments pinned": "crm.export at crm, without arguments",
        "asks for crm.*": "'crm.*' is not an action",
        "asks for it at the authority": '("presentation-agent") allows grant.request only where audience is "crm"',
        "opens a task by itself": "there is nothing at '/tasks'",
        "signs an intent by itself": "this intent has no signature by ana@our.example that the policy accepts",
        "hands in Ana's intent again": "this intent was opened once",
        "approves its own request": "the signature of bo@our.example does not fit what request",
        "uses a stolen token without its key": "was presented without the signature of its holder's key",
        "uses a stolen token with its own key": "is not signed by the key that the chain named last",
    }.items():
        refused = row(rows, "execution", f"sub-agent {way}")
        assert refused["ok"]
        assert why in refused["note"]


@pytest.mark.parametrize("came", ["granted", "taken", "done", "served"])
def test_one_way_that_is_open_makes_one_row_differ(kept: Kept, came: str) -> None:
    refused = [
        Try(row["what"].removeprefix("sub-agent "), row["happened"])
        for row in kept.answer["rows"]
        if row["note"] and row["what"].startswith("sub-agent ")
    ]
    assert len(refused) == 11
    assert all(row.ok for row in gains.of_tries("execution", refused))
    for at, one in enumerate(refused):
        tried = [*refused[:at], Try(one.way, came), *refused[at + 1 :]]
        assert [row.what for row in gains.of_tries("execution", tried) if not row.ok] == [f"sub-agent {one.way}"]
        untried = gains.of_tries("execution", refused[:at] + refused[at + 1 :])
        assert [row.happened for row in untried if not row.ok] == ["not tried"]


@nightly
def test_a_demo_with_a_wider_policy_shows_other_rows_and_fails(differing: dict[str, str]) -> None:
    assert {what: happened for what, happened in differing.items() if what not in NOT_COMPLETED} == {
        "sub-agent exports the CRM": "403 wrong_tenant at no hop",
        "sub-agent has its client ask for that": "refused again",
        "sub-agent asks for crm.export": "granted",
        "sub-agent asks for it, arguments pinned": "granted",
        "sub-agent approves its own request": "not tried",
        "sub-agent asks to publish it": "granted",
        "orchestrator publishes the deck": "granted",
        "a seventh slide, of six": "200",
        "orchestrator credits $40": "not asked",
        "the approval of $40, with $400": "200",
        "the approval of $40, a second time": "200",
        "credits in the CRM": "$40, $400, $40",
    }


def test_a_kept_home_holds_what_was_asked_for_and_who_agreed(kept: Kept) -> None:
    answer, home, _ = kept
    with Authority.open_home(home) as authority:
        (intent,) = authority.intents()
        assert (intent.principal, intent.opened) == ("ana@our.example", 1)
        assert authority.task(answer["task"]).intent == intent.digest
        asked = {(one.labels, one.action): (one.state, one.approver) for one in authority.requests(task=answer["task"])}
    assert asked == {
        ((), "warehouse.revenue.read"): ("ended", None),
        ((), "slides.write"): ("ended", None),
        ((), "slides.publish"): ("ended", "bo@our.example"),
        ((), "crm.credit"): ("ended", "bo@our.example"),
        (("presentation-agent",), "slides.publish"): ("denied", "bo@our.example"),
    }


def test_a_kept_home_holds_the_task_its_end_and_the_denial(kept: Kept) -> None:
    answer, home, _ = kept
    with Authority.open_home(home) as authority:
        assert authority.task(answer["task"]).state == "completed"
        event = authority.decision(answer["denial"])
        assert event is not None
        assert event.facts()["action"] == "crm.export"


def test_an_approval_serves_one_credit_of_its_amount(kept: Kept) -> None:
    answer, home, _ = kept
    inflated = row(answer["rows"], "execution", "the approval of $40, with $400")
    assert inflated["happened"] == "403 argument_refused"
    assert inflated["note"] == 'an approval allows crm.credit only where amount is 40; "amount" is 400'
    again = row(answer["rows"], "execution", "the approval of $40, a second time")
    assert again["happened"] == "403 budget_exhausted"
    assert "an approval allows at most 1 call" in again["note"]
    assert written_credits(home / "demo" / "execution" / "crm.db") == [40]
    assert written_credits(home / "demo" / "session" / "crm.db") == [40, 400, 40]
    assert row(answer["rows"], "execution", "credits in the CRM")["happened"] == "$40"
    assert row(answer["rows"], "session", "credits in the CRM")["happened"] == "$40, $400, $40"


def test_bo_signed_one_credit_of_40_for_the_orchestrator(kept: Kept) -> None:
    answer, home, _ = kept
    bo = PrincipalKey.load(home / "demo" / "people" / "bo.key")
    with Authority.open_home(home) as authority:
        (asked,) = [one for one in authority.requests(task=answer["task"]) if one.to_approve is not None]
    assert asked.to_approve is not None
    assert asked.discharge is not None
    request = ApprovalRequest.parse(asked.to_approve)
    assert request.caveat.approvers == (bo.public,)
    assert (request.action, dict(request.args), asked.labels) == ("crm.credit", {"id": 1, "amount": 40}, ())
    said = [one.sentence() for block in Discharge.parse(asked.discharge).caveats for one in block]
    assert "allows only crm.credit where amount is 40 and id is 1" in said


def test_each_service_was_given_a_key_for_itself_alone(kept: Kept) -> None:
    home = kept.home
    for service in SERVICES:
        path = home / "demo" / "execution" / f"{service}.keys"
        assert AudienceKeys.load(path).audience == service
        assert [line.split()[0] for line in path.read_text().splitlines()] == ["authority", "audience", "feed"]


def test_a_stolen_token_serves_its_thief_in_a_session_only(kept: Kept) -> None:
    stolen = {
        (row["side"], row["what"]): row["happened"]
        for row in kept.answer["rows"]
        if "uses a stolen token" in row["what"]
    }
    assert stolen == {
        ("session", "sub-agent uses a stolen token"): "served",
        ("execution", "sub-agent uses a stolen token without its key"): "403 hop_unsigned",
        ("execution", "sub-agent uses a stolen token with its own key"): "403 hop_signature",
    }


def test_what_is_handed_over_opens_for_its_agent_alone(kept: Kept) -> None:
    answer, home, _ = kept
    names = ("presentation-agent", "notes-agent")
    files = {name: home / "demo" / "execution" / f"{name}.handed" for name in names}
    keys = {name: AgentKey.load(home / "demo" / "execution" / f"{name}.key") for name in names}
    for name, file in files.items():
        assert file.stat().st_mode & 0o777 == 0o644
        assert Bundle.unseal(file.read_text(), keys[name], task=answer["task"]).hops == (name,)
        for other in [*keys.values(), AgentKey.load(home / "demo" / "orchestrator.key")]:
            if other is not keys[name]:
                with pytest.raises(MalformedToken):
                    Bundle.unseal(file.read_text(), other)


def test_a_hand_over_that_is_not_sealed_shows_a_token() -> None:
    key = AgentKey.generate("notes-agent")
    with Authority.temporary() as lab:
        bundle = lab.open(allow=["crm.read"], agent_key=key.public).bundle
    assert not rows.shows_a_token(bundle.sealed())
    assert rows.shows_a_token(bundle.text)
    assert rows.shows_a_token("the token of a service account")


def test_the_intent_names_the_key_of_the_orchestrator(kept: Kept) -> None:
    answer, home, _ = kept
    public = AgentKey.load(home / "demo" / "orchestrator.key").public
    assert SignedIntent.parse((home / "demo" / "people" / "ana.intent").read_bytes()).intent.agent_key == public
    with Authority.open_home(home) as authority:
        assert authority.task(answer["task"]).holder == public


def test_no_bundle_of_an_agent_is_left_in_a_kept_home(kept: Kept) -> None:
    files = [file for file in kept.home.rglob("*") if file.is_file()]
    assert len(files) > len(SERVICES)
    assert not [file for file in files if b"capx1_" in file.read_bytes()]


def test_the_commands_that_are_printed_explore_a_kept_home(kept: Kept) -> None:
    answer, home, _ = kept
    capx = warm_capx()
    graph = result([*capx, "graph", answer["task"]], CAPX_HOME=str(home))
    assert graph.returncode == 0, graph.stderr
    assert "proofreader" in graph.stdout
    found = result([*capx, "find", "--denied"], CAPX_HOME=str(home))
    assert answer["denial"] in found.stdout, found.stderr
    why = result([*capx, "why", answer["denial"]], CAPX_HOME=str(home))
    assert "presentation-agent" in why.stdout, why.stderr
    policy = result([*capx, "policy", "explain"], CAPX_HOME=str(home))
    assert "On request: warehouse.revenue.read" in policy.stdout, policy.stderr
    intents = result([*capx, "intent", "list"], CAPX_HOME=str(home))
    assert "1 of 1" in intents.stdout, intents.stderr
    requests = result([*capx, "requests", "list", "--all"], CAPX_HOME=str(home))
    assert "slides.publish@slides" in requests.stdout, requests.stderr
    assert "crm.credit@crm" in requests.stdout


def test_a_home_that_holds_something_is_not_written_into(kept: Kept) -> None:
    refused = result(warm("--keep", str(kept.home)))
    assert refused.returncode == 2
    assert "is not empty" in refused.stderr


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/kept"])
def test_what_cannot_be_a_folder_keeps_nothing_and_is_told(place: str) -> None:
    refused = result(warm("--keep", place))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"{place} cannot be a new folder for --keep: " in refused.stderr


def test_without_the_completion_rows_differ_and_the_demo_fails(differing: dict[str, str]) -> None:
    assert differing.keys() >= NOT_COMPLETED


def test_a_narrow_terminal_without_colour_shows_it_all(tmp_path: Path) -> None:
    shown = result(warm("--all", "--keep", str(tmp_path / "home")), COLUMNS="48")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert "\x1b" not in shown.stdout
    assert max(len(line) for line in lines if "CAPX_HOME=" not in line) <= 48
    assert "41 of 41 rows as expected" in shown.stdout
    assert sum(line.startswith("   ok ") for line in lines) == 41
    assert [line for line in lines if "capx why" in line and "CAPX_HOME=" in line]
    assert [line for line in lines if "capx requests list --all" in line and "CAPX_HOME=" in line]


def test_who_has_no_capx_on_the_path_is_told_what_to_type() -> None:
    code = (
        "import sys; sys.argv[0] = '.venv/bin/capx'; from capx_cli.demo.ending import commands; "
        "from capx_cli.demo.story import Outcome; "
        "print(*commands('kept', Outcome([], 0.0, 'T', None, [], {})), sep='\\n')"
    )
    for path, typed in (("/nowhere", ".venv/bin/capx"), (str(Path(sys.executable).parent), "capx")):
        done = result([warm_python(), "-c", code], PATH=path)
        assert done.stdout.splitlines()[0] == f"CAPX_HOME=kept {typed} policy explain", done.stderr


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from capx_cli.main import run; sys.exit(run(['demo']))"
    refused = result([sys.executable, "-c", code])
    assert refused.returncode == 3
    assert "the demo needs uvicorn: pip install 'capx-auth[demo]'" in refused.stderr


def test_what_a_ticket_says_is_shown_and_not_obeyed() -> None:
    written = io.StringIO()
    screen = Screen(Console(file=written, force_terminal=True, width=80, markup=False, emoji=False, highlight=False))
    ticket = {"id": 102, "text": "\x1b[2J[bold]now\u202e\n"}
    screen.show("ticket", {"session": ticket, "execution": ticket})
    assert "\\x1b[2J[bold]now\\u202e\\n" in written.getvalue()
    assert "\x1b[2J" not in written.getvalue()


def test_the_screen_says_who_asked_what_and_the_answer() -> None:
    written = io.StringIO()
    screen = Screen(Console(file=written, width=200, markup=False, emoji=False, highlight=False))
    answered = [
        {"who": "pre\x1b[2Jsentation", "what": "slides.publish at slides", "yes": False},
        {"who": "the orchestrator", "what": "slides.publish at slides", "yes": True},
    ]
    screen.show("publishing", {"session": {}, "execution": {"answered": answered}})
    assert "to pre\\x1b[2Jsentation, who asks for slides.publish at slides: no" in written.getvalue()
    assert "to the orchestrator, who asks for slides.publish at slides: yes" in written.getvalue()


def test_the_screen_shows_the_approval_and_the_refusals() -> None:
    written = io.StringIO()
    screen = Screen(Console(file=written, width=200, markup=False, emoji=False, highlight=False))
    served: dict[str, Any] = {"dollars": 40, "problem": {}}
    answered = [{"who": "the orchestrator", "what": "crm.credit at crm, only with amount 40 and id 1", "yes": True}]
    screen.show("credited", {"session": served, "execution": {**served, "answered": answered}})
    problem = {"code": "argument_refused", "reasons": [{"sentence": "amount is 40\x1b[2J"}]}
    screen.show("inflated", {"session": {"dollars": 400, "problem": {}}, "execution": {"problem": problem}})
    shown = written.getvalue()
    assert "to the orchestrator, who asks for crm.credit at crm, only with amount 40 and id 1: yes" in shown
    assert shown.count("credited $40\n") + shown.count("credited $40 ") == 2
    assert "credited $400" in shown
    assert "refused: argument_refused" in shown
    assert "amount is 40\\x1b[2J" in shown


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_demo_that_is_interrupted(signum: signal.Signals, tmp_path: Path) -> None:
    mark = f"DEMO_TEST={tmp_path}"
    # Without what measures coverage, which an interrupt may leave waiting for itself.
    inherited = {name: value for name, value in plain_environment().items() if not name.startswith("COVERAGE")}
    variables = {**inherited, "DEMO_TEST": str(tmp_path), "TMPDIR": str(tmp_path)}
    # The children of a demo that is killed end by themselves, so they are interpreters there.
    command = DEMO if signum == signal.SIGKILL else [sys.executable, "-c", WITH_FORKED_CHILDREN, warm_capx()[0]]
    demo = ended_with_test(
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("2. "):
            break
    sinks, services, people, orchestrators = 2, 8, 2, 2
    assert len(_processes(mark)) >= 1 + sinks + services + people + orchestrators
    demo.send_signal(signum)
    _, stderr = demo.communicate(timeout=20)
    assert demo.returncode != 0
    assert "Traceback" not in stderr
    # After SIGKILL nobody waits for the children: they see for themselves that their parent is gone.
    ends = time.monotonic() + 10
    while signum == signal.SIGKILL and _processes(mark) and time.monotonic() < ends:
        time.sleep(0.05)
    assert _processes(mark) == []
    if signum != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []


def _processes(mark: str) -> list[int]:
    """The processes that have this variable, which children inherit."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in environment.split(b"\0"):
            found.append(int(process.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads the arguments of processes in /proc")
def test_no_process_of_a_demo_shows_a_token_or_a_key_in_ps(kept: Kept) -> None:
    home = kept.home
    keys = [line.split()[-1] for file in home.rglob("*.key*") for line in file.read_text().splitlines()]
    assert len(keys) > len(SERVICES)
    assert len(kept.shown) > len(SERVICES), "agents and services have arguments of their own"
    assert not [secret for secret in (*keys, "capx1_") if any(secret.encode() in line for line in kept.shown)]


def ended(rows: list[Row], *, every_row: bool) -> str:
    """What stands on the screen at the end of a demo with these rows."""
    written = io.StringIO()
    tree = Tree("task", "root", None, None, 1, 2, Node("root", "task", (), (), 0, 0, None, None, ()))
    outcome = Outcome(rows, 1.0, "task", tree, [], {})
    ending.show(Console(file=written, width=100), outcome, None, every_row=every_row)
    return written.getvalue()


AS_EXPECTED = Row("execution", "the refused", "9", "9")


def test_rows_of_the_execution_side_wait_for_all() -> None:
    rows = [Row("session", "the stolen", "40", "40"), AS_EXPECTED]
    short = ended(rows, every_row=False)
    assert "the stolen" in short
    assert "the refused" not in short
    assert "execution-scoped: 1 of 1 rows as expected. To see each: " in short
    assert "2 of 2 rows as expected, in 1.0 s." in short
    whole = ended(rows, every_row=True)
    assert "the stolen" in whole
    assert "the refused" in whole
    assert "To see each" not in whole


def test_a_row_that_differs_is_shown_without_all() -> None:
    rows = [AS_EXPECTED, Row("execution", "the broken", "refused", "granted")]
    short = ended(rows, every_row=False)
    assert "the broken" in short
    assert "the refused" not in short
    assert "execution-scoped: 1 of 2 rows as expected" in short


@pytest.fixture(scope="module")
def of_mcp() -> list[str]:
    """What one run of the demo of MCP said as JSON, and as text."""
    ran = result([sys.executable, "-c", OF_MCP])
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.split("=== as text ===\n")


def test_an_injected_export_is_refused_as_a_tool_result(of_mcp: list[str]) -> None:
    told = json.loads(of_mcp[0])
    assert told["ok"] is True
    assert row(told["rows"], "direct", "accounts at the attacker")["happened"] == "40"
    assert row(told["rows"], "guarded", "accounts at the attacker")["happened"] == "0"
    assert "allows only" in row(told["rows"], "guarded", "the export")["happened"]
    assert "--mcp takes neither" in result(warm("--mcp", "--all")).stderr


def test_the_demo_of_mcp_shows_what_the_model_read(of_mcp: list[str]) -> None:
    said = " ".join(of_mcp[1].split())
    assert "Ignore previous instructions" in said
    assert "8 of 8 rows as expected" in said
