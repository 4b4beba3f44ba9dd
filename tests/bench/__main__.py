"""Time capx beside its floor and its peers: one run, interleaved, as ratios.

make bench                           measure everything, in twenty minutes: build/bench.json, tables on the terminal
make bench BENCH='--only authority'  one part: authority, verify, approvals, guard, mcp, or grow
make bench GROW=1                    in addition, what a log of a million decisions costs; GROW=0.01 is quick
make bench EARLIER=COMMIT            in addition, what has become slower or quicker since; three minutes a pair
python -m tests.bench --quick        the same program within a minute and a half, for whoever changes it
python -m tests.bench --write-docs   docs/benchmarks.md and its plots, from the run in build/bench.json
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table as Drawn

from tests.bench import approvals
from tests.bench.asgi_requests import REQUEST
from tests.bench.authority.figures import TASK
from tests.bench.page import page
from tests.bench.report import Report, load, save
from tests.bench.session import run
from tests.bench.tables import tables
from tests.labs.commits import CHECKOUT

DOCS: Final = CHECKOUT / "docs"


def draw(report: Report, console: Console) -> None:
    """All tables on a terminal."""
    for table in tables(report):
        drawn = Drawn(*table.head, title=table.title, title_justify="left")
        for row in table.rows:
            drawn.add_row(*(cell.replace("**", "") for cell in row))
        console.print(drawn)
    for what, why in report.missing.items():
        console.print(f"not measured: {what}: {why}", style="yellow", markup=False)


def write_docs(report: Report, peers: Path) -> None:
    """The page, the numbers it was made of, and its plots."""
    if report.quick or not {"start", approvals.OP, TASK, REQUEST} <= {row.op for row in report.rows}:
        sys.exit("a quick run, or one of a part, is no ground for a page: run `make bench` first")
    save(report, DOCS / "benchmarks.json")
    (DOCS / "benchmarks.md").write_text(page(report), encoding="utf-8")
    plots = [str(peers), "-m", "tests.bench.plots", str(DOCS / "benchmarks.json"), str(DOCS / "plots")]
    subprocess.run(plots, check=True, cwd=CHECKOUT)


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


_SIZES: Final[dict[str, tuple[Any, Any, str]]] = {
    "rounds": (31, 5, "rounds that count"),
    "turn": (0.03, 0.005, "seconds that a contender has in a round"),
    "dead": (1_000_000, 10_000, "dead ids"),
    "followers": ([1, 4, 16], [1, 4, 16], "processes that follow at once"),
    "revocations": (200, 10, "revocations that each of them must see"),
    "spends": (1_000, 100, "what racing processes spend"),
    "agents": (200, 5, "agents that are refused, ask, and try again"),
}
"""How much is measured, usually and quickly."""


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few short rounds and 10 000 dead")
    parser.add_argument(
        "--only", choices=["authority", "verify", "approvals", "guard", "mcp", "grow"], help="measure one part"
    )
    parser.add_argument("--grow", type=float, help="measure a log of this share of 1 000 000 decisions, too")
    parser.add_argument(
        "--earlier",
        metavar="COMMIT[:PART]",
        action="append",
        default=[],
        help="run the same in this commit, in turn, or only `authority`, `verify`, `guard` or `mcp` of it",
    )
    parser.add_argument(
        "--pairs", type=int, default=5, help="quick runs of the authority in an earlier commit (default 5)"
    )
    parser.add_argument("--hops", type=_numbers, default=[1, 3, 8, 32])
    for name, (usual, _, what) in _SIZES.items():
        kind = _numbers if isinstance(usual, list) else type(usual)
        parser.add_argument(f"--{name}", type=kind, help=f"{what} (default {usual})")
    parser.add_argument(
        "--peers",
        type=Path,
        default=CHECKOUT / ".venv-peers" / "bin" / "python",
        help="the Python of the peers' environment",
    )
    parser.add_argument("--out", type=Path, default=CHECKOUT / "build" / "bench.json", help="where the rows go")
    parser.add_argument("--write-docs", action="store_true", help="measure nothing; make the page from --out")
    options = parser.parse_args(arguments)
    for name, (usual, quick, _) in _SIZES.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else usual)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure and tell, or write the page."""
    options = _options(arguments)
    if options.write_docs:
        write_docs(load(options.out), options.peers)
        return
    report = run(options, Console(stderr=True))
    save(report, options.out)
    draw(report, Console())


if __name__ == "__main__":
    main()
