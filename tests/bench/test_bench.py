"""The benchmark works, tells what it could not measure, and its page says what its numbers say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import ours
from tests.bench.measuring import Contender, Row, Unmeasurable, measure
from tests.bench.page import page
from tests.bench.report import DEMANDS, Report, Size, bars, load, save

QUICK = ["--quick", "--rounds", "2", "--turn", "0.0005", "--dead", "50", "--hops", "1,64"]


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


@pytest.fixture(scope="module")
def ran(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, str]:
    out = tmp_path_factory.mktemp("bench") / "build" / "bench.json"
    # The tests' own Python stands for an environment in which some peers could not be installed.
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *QUICK, "--peers", sys.executable, "--out", str(out)],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return load(out), done.stdout


def test_a_run_measures_every_operation_and_gives_each_its_ratios(ran: tuple[Report, str]) -> None:
    found, _ = ran
    operations = {"mint", "attenuate", "delegate", "present", "decode", "verify", "deny", "caveats", "deaths", "start"}
    assert {row.op for row in found.rows} == operations
    for bar in bars(found):
        wanted = bar.demand.who not in {"tenuo", "biscuit"} and bar.demand.at is None
        assert bool(bar.values) == wanted, bar.demand.what
    assert {size.who for size in found.sizes} == {"capx, held", "capx, presented", "pymacaroons"}


def test_a_peer_that_is_not_there_is_told(ran: tuple[Report, str]) -> None:
    found, shown = ran
    for peer in ("tenuo", "biscuit-python"):
        assert found.missing[peer] == "not installed"
        assert f"not measured: {peer}: not installed" in shown
        assert f"- {peer}: not installed" in page(found)
    assert set(found.versions) == {"pymacaroons"}


def test_the_longest_chain_that_fits_is_measured_where_the_one_asked_for_does_not_and_that_is_told(
    ran: tuple[Report, str],
) -> None:
    found, _ = ran
    (reason,) = (why for what, why in found.missing.items() if what == "capx at 64 hops")
    longest = max(found.ats("verify"))
    assert reason.startswith(f"only {longest} fit into ")


def test_a_ratio_is_the_median_within_rounds_so_that_drift_does_not_show() -> None:
    # Two turns that do not count, and then a machine that is twice as slow from round to round.
    machine = iter([1, 1, 1, 1, 1, 1, 2, 2, 4, 4, 8, 8])

    def taking(who: str, seconds: int) -> Contender:
        return Contender("op", 0, who, lambda count: next(machine) * seconds * count)

    slow, quick = taking("slow", 3), taking("quick", 1)
    rows, _ = measure([slow, quick], lambda one: {"quick": quick} if one is slow else {}, rounds=4, seconds=0)
    assert [row.ratios for row in rows] == [{"quick": 3.0}, {}]
    assert rows[0].us == 9e6


def test_what_a_contender_refuses_to_do_is_told_and_the_others_go_on() -> None:
    def refuses(_: int) -> float:
        raise Unmeasurable("too long")

    rows, missing = measure(
        [Contender("op", 3, "peer", refuses), Contender("op", 3, "capx", lambda count: count * 1e-6)],
        lambda _: {},
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
    for plot in ("verify", "size", "caveats"):
        assert f"plots/{plot}.svg" in text
        assert (docs / "plots" / f"{plot}.svg").read_text(encoding="utf-8").startswith("<?xml")
