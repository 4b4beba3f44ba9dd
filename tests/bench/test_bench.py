"""The benchmark works, tells what it could not measure, and its page says what its numbers say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from capx import RootKey
from capx.tokens.lineage import unverified_lineage
from capx_caveats import Call
from capx_caveats.work_bound import MAX_CALL_WORK, _exact
from tests.bench import __main__ as program
from tests.bench import approvals, ours
from tests.bench.asgi_requests import BARE, REQUEST
from tests.bench.authority import figures
from tests.bench.authority.child import Child
from tests.bench.authority.figures import AIMS, COMMITS, FEED, POSTGRES, SQLITE, Figure, percentile
from tests.bench.authority.load import drive
from tests.bench.earlier import Change, changes
from tests.bench.guarding import routes
from tests.bench.guarding.requests import CROWD, MEMORY, RECORDED
from tests.bench.guarding.serving import SERVED, TIMES
from tests.bench.guarding.worst import ACTION, HOPS, WORST, Worst
from tests.bench.mcp.gate import GATE, PRESENTING
from tests.bench.mcp.http import HTTP, MOST_TIMES, PRESENTED
from tests.bench.mcp.http import TIMES as TIMES_UNGUARDED
from tests.bench.mcp.stdio import ADDED, BOTH, DIRECT, GUARD_FEED, GUARD_STORE, MOST_ADDED, PRESENT, STDIO
from tests.bench.measuring import Contender, Row, Unmeasurable, measure
from tests.bench.page import page
from tests.bench.peers.routes import BARE_THERE
from tests.bench.report import DEMANDS, Report, Size, bars, load, save
from tests.bench.tables import tables
from tests.labs.counts import nightly
from tests.labs.serving import served

QUICK = ["--quick", "--rounds", "2", "--turn", "0.0005", "--dead", "50"]
VERIFY = [*QUICK, "--only", "verify", "--hops", "1,64"]
APPROVALS = [*QUICK, "--only", "approvals", "--hops", "1"]
GUARD = [*QUICK, "--only", "guard"]
MCP = [*QUICK, "--only", "mcp"]
AUTHORITY = [*QUICK, "--only", "authority", "--followers", "2", "--revocations", "3", "--spends", "40", "--agents", "2"]


def report(*rows: Row, sizes: list[Size] | None = None) -> Report:
    return Report(
        python="CPython",
        cpu="any",
        pinned=True,
        rounds=2,
        quick=False,
        versions={},
        missing={},
        rows=list(rows),
        sizes=sizes or [],
    )


def run(checkout: Path, out: Path, *options: str) -> tuple[Report, str]:
    # The tests' own Python stands for an environment in which some peers could not be installed.
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *options, "--peers", sys.executable, "--out", str(out)],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return load(out), done.stdout


@pytest.fixture(scope="module")
def ran(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, str]:
    return run(checkout, tmp_path_factory.mktemp("bench") / "build" / "bench.json", *VERIFY)


@pytest.fixture(scope="module")
def guard(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, str]:
    return run(checkout, tmp_path_factory.mktemp("guard") / "bench.json", *GUARD, "--earlier", "HEAD:guard")


@pytest.fixture(scope="module")
def authority(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, str]:
    beside = ("--earlier", "HEAD:authority", "--pairs", "0")
    return run(checkout, tmp_path_factory.mktemp("authority") / "bench.json", *AUTHORITY, *beside)


@nightly
def test_a_run_measures_every_operation_and_gives_its_ratios(ran: tuple[Report, str]) -> None:
    found, _ = ran
    operations = {"mint", "attenuate", "delegate", "present", "decode", "verify", "deny", "caveats", "deaths", "start"}
    assert {row.op for row in found.rows} == operations
    for bar in bars(found):
        wanted = bar.demand.who not in {"tenuo", "biscuit"} and bar.demand.at is None
        assert bool(bar.values) == wanted, bar.demand.what
    assert {size.who for size in found.sizes} == {"capx, held", "capx, presented", "PyJWT", "pymacaroons"}


@nightly
def test_a_long_log_is_measured_beside_an_empty_store(checkout: Path, tmp_path: Path) -> None:
    found, shown = run(checkout, tmp_path / "bench.json", *QUICK, "--only", "grow", "--grow", "0.001")
    assert {row.op for row in found.rows} == {f"{figures.LONG_LOG}{op}" for op in figures.LONG_BARS}
    assert {row.at for row in found.rows if figures.LONG in row.ratios} == {10, 100, 1_000}
    (table,) = tables(found)
    assert (table.title, len(table.rows)) == ("A long log", 2 * len(figures.LONG_BARS))
    assert "≤ 50 ms" in shown


@nightly
def test_an_earlier_commit_has_its_turn_beside_this_one(checkout: Path, tmp_path: Path) -> None:
    demand_a_clone(checkout)
    found, shown = run(checkout, tmp_path / "bench.json", *VERIFY, "--earlier", "HEAD:verify", "--earlier", "HEAD~1")
    assert [one.commit for one in found.earlier] == ["HEAD", "HEAD~1"]
    for one in found.earlier:
        assert {(change.op, change.at) for change in one.changes} == {("verify", at) for at in found.ats("verify")}
        assert all(0.05 < change.times < 20 for change in one.changes)
        assert f"Beside the earlier commit {one.commit}" in shown


@nightly
def test_the_authority_of_both_commits_has_short_turns(checkout: Path, authority: tuple[Report, str]) -> None:
    demand_a_clone(checkout)
    (one,) = authority[0].earlier
    assert {figures.TASK, figures.COMMIT, *figures.KEEPING, *figures.ASKING} == {change.op for change in one.changes}
    assert (one.pairs, one.rounds) == (0, 2)


@nightly
def test_guarded_requests_of_both_commits_have_short_turns(checkout: Path, guard: tuple[Report, str]) -> None:
    demand_a_clone(checkout)
    (one,) = guard[0].earlier
    assert {REQUEST} == {change.op for change in one.changes}
    assert (one.pairs, one.rounds) == (0, 2)


@nightly
@pytest.mark.timeout(300)
def test_what_takes_several_processes_has_whole_runs(checkout: Path, tmp_path: Path) -> None:
    demand_a_clone(checkout)
    beside = ("--earlier", "HEAD:authority", "--pairs", "1")
    (one,) = run(checkout, tmp_path / "bench.json", *AUTHORITY, *beside)[0].earlier
    assert {figures.TASK, figures.LAG, figures.SERVE} <= {change.op for change in one.changes}
    assert (one.pairs, one.rounds) == (1, 2)


@nightly
def test_a_run_measures_approvals_beside_the_same_chain_without(checkout: Path, tmp_path: Path) -> None:
    demand_a_clone(checkout)
    found, shown = run(checkout, tmp_path / "bench.json", *APPROVALS, "--earlier", "HEAD:verify")
    whole = {(who, at) for who in (ours.CHECK, *approvals.BASES, *approvals.BASES.values()) for at in approvals.LENGTHS}
    assert {(row.who, row.at) for row in found.rows if row.op == approvals.OP} == whole
    for row in found.rows:
        assert row.ratios.keys() == {approvals.BASES[row.who]} if row.who in approvals.BASES else not row.ratios
    assert "Approvals" in shown
    (one,) = found.earlier
    assert {(change.op, change.at) for change in one.changes} == {("verify", 1)}
    assert len(tables(found)) == 2


def test_an_approval_beyond_its_bar_is_bold() -> None:
    def row(who: str, us: float) -> Row:
        return Row(approvals.OP, 8, who, us, (us, us), 10, {})

    def told(us: float) -> str:
        rows = [row(ours.CHECK, 60.0), row(approvals.WITHOUT, 50.0), row(approvals.MET, us)]
        (only,) = tables(report(*rows))
        return only.rows[-1][-1]

    assert told(90.0) == "40.0 µs, 0.67 checks"
    assert told(90.1) == "**40.1 µs, 0.67 checks**"


def demand_a_clone(checkout: Path) -> None:
    if not (checkout / ".git").exists():
        pytest.skip("this is no clone, so it has no earlier commit")


@nightly
def test_a_commit_that_is_not_there_is_told_the_rest_measured(checkout: Path, tmp_path: Path) -> None:
    found, _ = run(checkout, tmp_path / "bench.json", *VERIFY, "--earlier", "no-such-commit")
    assert found.rows
    assert found.earlier == []
    assert "no-such-commit" in found.missing["beside no-such-commit"]


def test_a_change_is_the_median_of_what_all_turns_have() -> None:
    new, old, gone = ("verify", "new", 1), ("verify", "old", 1), ("verify", "gone", 1)
    turns = [{old: (2.0, float(now)), gone if now == 1 else new: (1.0, 1.0)} for now in (1, 2, 8)]
    assert changes(turns) == [Change(*old, 1.0, (0.75, 2.5))]


def test_a_peer_that_is_not_there_is_told(ran: tuple[Report, str]) -> None:
    found, shown = ran
    for peer in ("tenuo", "biscuit-python"):
        assert found.missing[peer] == "not installed"
        assert f"not measured: {peer}: not installed" in shown
        assert f"- {peer}: not installed" in page(found)
    assert set(found.versions) == {"PyJWT", "pymacaroons"}


def test_the_longest_chain_that_fits_is_measured_and_told(
    ran: tuple[Report, str],
) -> None:
    found, _ = ran
    (reason,) = (why for what, why in found.missing.items() if what == "capx at 64 hops")
    longest = max(found.ats("verify"))
    assert reason.startswith(f"only {longest} fit into ")


def test_a_ratio_is_the_median_within_rounds_despite_drift() -> None:
    # Two turns that do not count, and then a machine that is twice as slow from round to round.
    machine = iter([1, 1, 1, 1, 1, 1, 2, 2, 4, 4, 8, 8])

    def taking(who: str, seconds: int) -> Contender:
        return Contender("op", 0, who, lambda count: next(machine) * seconds * count)

    slow, quick = taking("slow", 3), taking("quick", 1)
    rows, _ = measure([replace(slow, to={"quick": quick.key}), quick], rounds=4, seconds=0)
    assert [row.ratios for row in rows] == [{"quick": 3.0}, {}]
    assert rows[0].us == 9e6


def test_what_a_contender_refuses_is_told_and_the_others_go_on() -> None:
    def refuses(_: int) -> float:
        raise Unmeasurable("too long")

    rows, missing = measure(
        [Contender("op", 3, "peer", refuses), Contender("op", 3, "capx", lambda count: count * 1e-6)],
        rounds=2,
        seconds=0,
    )
    assert [row.who for row in rows] == ["capx"]
    assert missing == {"peer: op at 3": "too long"}


def test_a_bar_is_reached_only_where_every_length_reaches_it() -> None:
    def tenuo(at: int, ratio: float) -> Row:
        return Row("verify", at, "tenuo", 100.0, (99.0, 101.0), 10, {ours.COLD: ratio})

    def verdict(*rows: Row) -> bool | None:
        return next(bar.reached for bar in bars(report(*rows)) if bar.demand is DEMANDS[2])

    assert verdict() is None
    assert verdict(tenuo(1, 3.5), tenuo(3, 9)) is True
    assert verdict(tenuo(1, 3.4), tenuo(3, 9)) is False


@nightly
def test_a_run_measures_each_guarded_route_beside_a_bare_one(guard: tuple[Report, str]) -> None:
    found, shown = guard
    guarded = [row for row in found.rows if not row.who.endswith(BARE) and row.who != BARE_THERE]
    requests = [row for row in guarded if row.op == REQUEST]
    assert {row.who for row in requests} >= {MEMORY, RECORDED, SQLITE, FEED}
    assert {row.at for row in requests} == {1, CROWD}
    assert {row.who for row in guarded if row.op == routes.HOLD} == {worst.name for worst in WORST}
    assert len([row for row in guarded if row.op == routes.LARGE]) == 6
    assert all(row.ratios[BARE] > 1 for row in guarded)
    others = [row for row in found.rows if row.op != REQUEST]
    assert len(others) == 2 * len([row for row in guarded if row.op != REQUEST])
    assert "What one request may hold up" in shown
    assert "A large body" in page(found)
    assert "Figures of the authority" not in page(found)


@nightly
def test_a_run_measures_the_guarded_route_over_http(guard: tuple[Report, str]) -> None:
    found, shown = guard
    served = {(one.who, one.at): one.values for one in found.figures if one.of == SERVED}
    contenders = {BARE, MEMORY, RECORDED, SQLITE, POSTGRES, FEED}
    assert served.keys() >= {(who, at) for who in contenders for at in (1, CROWD)}
    for (who, _), values in served.items():
        assert values[figures.REQUESTS] > 0
        assert values[figures.P50] <= values[figures.P99]
        assert (TIMES in values) == (who not in {BARE, BARE_THERE})
    assert "A guarded request over HTTP" in shown


@pytest.mark.parametrize("worst", WORST, ids=lambda worst: worst.name)
def test_the_worst_calls_use_the_whole_budget(worst: Worst) -> None:
    capability = worst.capability(RootKey.generate())
    assert len(capability.hops) == HOPS
    args = worst.largest(capability)
    lineage = unverified_lineage(capability)
    assert not lineage.is_too_much_work(Call(ACTION, args))
    assert _exact(Call(ACTION, args), lineage.caveats) > 0.9 * MAX_CALL_WORK


@nightly
def test_a_run_measures_every_figure_of_the_authority(authority: tuple[Report, str]) -> None:
    found, _ = authority
    for aim in AIMS:
        assert figures.values(aim, found.rows, found.figures), aim.what
    assert {(one.of, one.who, one.at) for one in found.figures if one.of in {figures.LAG, figures.VIEW}} == {
        (of, who, at) for of, at in ((figures.LAG, 2), (figures.VIEW, 50)) for who in (SQLITE, POSTGRES, FEED)
    }
    assert {one.at for one in found.figures if one.of == figures.RACE} == {1, 16}
    assert {one.who for one in found.figures if one.of == figures.SERVE} == {
        "bare framework, GET",
        "bare framework, POST over a Unix socket",
        "GET /healthz",
        "GET /feed, nobody new",
        "GET /feed, 50 dead",
        "GET /agent/status, presented",
        "POST /tasks over its Unix socket",
        "bare framework, POST of the size of an ask",
        "POST /agent/ask, something new",
        "POST /agent/ask, the same again",
    }
    assert [(one.who, one.at) for one in found.figures if one.of == figures.RETRY] == [
        ("a call that is allowed", 2),
        ("refused, granted on request, made again", 2),
        ("from a person's consent to success", 2),
    ]
    assert found.missing == {"everything else": "left out by --only authority"}
    assert found.file_system
    assert not bars(found)[0].values


@nightly
def test_what_a_service_and_its_authority_take_is_compared(
    authority: tuple[Report, str],
) -> None:
    found, _ = authority
    for one in found.figures:
        if one.who.startswith("POST /agent/ask"):
            assert one.values[figures.TIMES_FRAMEWORK] > 0
        elif one.of == figures.RETRY:
            assert (figures.TIMES_ALLOWED in one.values) == (one.who != "a call that is allowed")


@nightly
def test_exactly_the_limit_is_spent_while_processes_race(authority: tuple[Report, str]) -> None:
    found, _ = authority
    assert [one.values[figures.OFF] for one in found.figures if one.of == figures.RACE] == [0, 0, 0, 0]


@nightly
def test_what_keeps_things_is_compared_with_bare_commits(authority: tuple[Report, str]) -> None:
    found, _ = authority
    for who in (SQLITE, POSTGRES):
        kept = [(op, 1) for op in ("burn", "record", "spend", figures.NEW, figures.AGAIN)]
        for op, at in ((figures.TASK, COMMITS), ("record", 100), *kept):
            row = found.row(op, at, who)
            assert row is not None
            assert row.ratios[figures.BARE] > 0
            assert (SQLITE in row.ratios) == (who == POSTGRES)


@nightly
def test_mcp_is_measured_without_transport_and_over_both(checkout: Path, tmp_path: Path) -> None:
    found, shown = run(checkout, tmp_path / "bench.json", *MCP)
    assert {row.who for row in found.rows if row.op == GATE} == {PRESENTING, MEMORY, SQLITE}
    ways = {of: [one.who for one in found.figures if one.of == of] for of in (STDIO, HTTP)}
    assert ways[STDIO] == [DIRECT, PRESENT, GUARD_FEED, GUARD_STORE, BOTH]
    assert ways[HTTP] == [DIRECT, MEMORY, SQLITE, PRESENTED]
    assert all(0 < one.values[figures.P50] <= one.values[figures.P99] for one in found.figures)
    assert "MCP over HTTP" in shown


@pytest.mark.parametrize(
    ("figure", "told"),
    [
        (Figure(STDIO, BOTH, 1, {figures.P50: 3, figures.P99: 4, ADDED: MOST_ADDED}), "2.00 | ≤ 2"),
        (Figure(STDIO, BOTH, 1, {figures.P50: 3, figures.P99: 4, ADDED: 2.1}), "**2.10** | ≤ 2"),
        (Figure(STDIO, PRESENT, 1, {figures.P50: 3, figures.P99: 4, ADDED: 2.1}), "2.10 | -"),
        (Figure(HTTP, SQLITE, 1, {figures.P50: 3, figures.P99: 4, TIMES_UNGUARDED: MOST_TIMES}), "1.30 | ≤ 1.3"),
        (Figure(HTTP, SQLITE, 1, {figures.P50: 3, figures.P99: 4, TIMES_UNGUARDED: 1.31}), "**1.31** | ≤ 1.3"),
        (Figure(HTTP, PRESENTED, 1, {figures.P50: 3, figures.P99: 4, TIMES_UNGUARDED: 1.4}), "1.40 | -"),
    ],
)
def test_more_than_the_bar_of_mcp_is_bold(figure: Figure, told: str) -> None:
    assert f"| 3.00 | 4.00 | {told} |" in page(replace(report(), figures=[figure]))


@nightly
def test_the_page_of_the_authority_holds_its_figures_and_bars(authority: tuple[Report, str]) -> None:
    found, _ = authority
    text = page(found)
    assert "# The authority" in text
    assert text.count("| reached |") + text.count("| **not reached** |") == len(AIMS)
    assert "not measured |" not in text
    for title in (
        "Tasks",
        "What agents ask of an authority",
        "Until everybody refuses",
        "One budget",
        "The dead in memory",
        "capx serve under load",
        "From refusal to success",
    ):
        assert f"## {title}\n" in text


def test_the_page_has_nothing_of_an_authority_not_measured(ran: tuple[Report, str]) -> None:
    text = page(ran[0])
    assert "# The authority" not in text
    assert "## Figures of the authority" not in text


@nightly
def test_a_page_is_made_of_a_whole_run_alone(authority: tuple[Report, str], tmp_path: Path) -> None:
    save(replace(authority[0], quick=False), tmp_path / "bench.json")
    with pytest.raises(SystemExit, match="one of a part"):
        program.main(["--write-docs", "--out", str(tmp_path / "bench.json")])


def test_a_figure_reaches_its_bar_wherever_it_was_measured() -> None:
    (aim,) = (one for one in AIMS if (one.of, one.who) == (figures.LAG, SQLITE))

    def verdict(*lags: float) -> bool | None:
        found = [Figure(figures.LAG, SQLITE, at, {figures.P99: lag}) for at, lag in enumerate(lags)]
        return aim.reached(figures.values(aim, [], found))

    assert verdict() is None
    assert verdict(50, 20) is True
    assert verdict(20, 50.1) is False
    (rate,) = (one for one in AIMS if one.of == figures.TASK)
    for us, reached in ((1e6 / 150, True), (1e6 / 149, False)):
        row = Row(figures.TASK, COMMITS, SQLITE, us, (us, us), 1, {})
        assert rate.reached(figures.values(rate, [row], [])) is reached


def test_a_database_that_cannot_be_had_is_told_the_rest_measured(checkout: Path, tmp_path: Path) -> None:
    # A Python that has no psycopg.
    program = """if True:
        import contextlib, json, pathlib, sys
        sys.modules["psycopg"] = None
        from tests.bench.authority.places import Places
        with contextlib.ExitStack() as stack:
            places = Places(pathlib.Path(sys.argv[1]), stack)
            print(json.dumps([places.stores, places.missing]))
    """
    told = subprocess.check_output([sys.executable, "-c", program, str(tmp_path)], cwd=checkout, text=True)
    stores, missing = json.loads(told)
    assert stores == [SQLITE]
    assert "psycopg" in missing[POSTGRES]
    lag = Figure(figures.LAG, SQLITE, 16, {figures.P99: 21.5})
    text = page(replace(report(), figures=[lag], missing=missing))
    assert f"- {POSTGRES}: {missing[POSTGRES]}" in text
    assert "| from revoked to refused, SQLite: p99 in ms | ≤ 50 | 16 following: 21.5 | reached |" in text
    assert "| from revoked to refused, PostgreSQL: p99 in ms | ≤ 50 | - | not measured |" in text


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(1, 201)]
    assert [percentile(values, of) for of in (50, 99, 100)] == [100, 198, 200]
    assert percentile([7.0], 99) == 7.0


def test_a_server_that_does_not_answer_well_is_no_number() -> None:
    async def unwell(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    with served(unwell, lifespan="off") as url:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        with pytest.raises(Unmeasurable, match="503"):
            drive(
                (parts.hostname, parts.port), lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", connections=2, seconds=0.1
            )


def test_a_process_that_has_a_problem_or_ends_is_no_number() -> None:
    settings = {"who": SQLITE, "address": "/nowhere/capx.db", "keys": "/nowhere/crm.keys"}
    with (
        Child("tests.bench.authority.follower", **settings) as child,
        pytest.raises(Unmeasurable, match="ended with 1"),
    ):
        child.hear()
    with Child("tests.bench.authority.view", **settings) as child, pytest.raises(Unmeasurable, match="no store"):
        child.hear()


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    row = Row("verify", 8, ours.COLD, 92.5, (90.0, 95.0), 300, {ours.FLOOR: 5.75})
    one = report(row, sizes=[Size(8, ours.COLD, 2317)])
    save(one, tmp_path / "a" / "bench.json")
    assert load(tmp_path / "a" / "bench.json") == one
    json.loads((tmp_path / "a" / "bench.json").read_text(encoding="utf-8"))


def test_the_page_is_what_its_numbers_say(checkout: Path) -> None:
    docs = checkout / "docs"
    found = load(docs / "benchmarks.json")
    assert not found.quick
    text = (docs / "benchmarks.md").read_text(encoding="utf-8")
    assert text == page(found), "write it anew: make bench-docs"
    for plot in ("verify", "size", "caveats", "long_log"):
        assert f"plots/{plot}.svg" in text
        assert (docs / "plots" / f"{plot}.svg").read_text(encoding="utf-8").startswith("<?xml")
