"""Time capx beside its floor and its peers: one run, interleaved, as ratios.

make bench                           measure everything, in about six minutes: build/bench.json, tables on the terminal
python -m tests.bench --quick        the same program within a minute, for whoever changes it
python -m tests.bench --write-docs   docs/benchmarks.md and its plots, from the run in build/bench.json
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as Drawn

from capx import RootKey, StoreLiveness, wire
from capx.store.sqlite import SQLiteStore
from tests.bench import growth, ours, startup, workload
from tests.bench.link import CHECKOUT, Peers
from tests.bench.measuring import Against, Contender, Row, measure, pinned
from tests.bench.page import page
from tests.bench.report import Report, Size, load, machine, save
from tests.bench.tables import tables

_BASES: Final = (ours.FLOOR, ours.CAPX, ours.COLD, ours.WARM)
DOCS: Final = CHECKOUT / "docs"


class Session:
    """A run as it goes on: what was found so far."""

    def __init__(self, options: argparse.Namespace, folder: Path, progress: Progress) -> None:
        self._options = options
        self._folder = folder
        self._progress = progress
        self._store = SQLiteStore.create(folder / "capx.db")
        self._view = StoreLiveness(folder / "capx.db")
        self.rows: list[Row] = []
        self.sizes: list[Size] = []
        self.missing: dict[str, str] = {}

    def hops(self, asked: int, peers: Peers | None) -> None:
        """Everything about a chain of one length."""
        root, now = RootKey.generate(), int(time.time())
        capability = workload.chain_of(asked, root, now)
        bench = ours.Bench(capability, root, self._view)
        if bench.hops < asked:
            self.missing[f"capx at {asked} hops"] = (
                f"only {bench.hops} fit into {wire.MAX_TEXT} characters, which is the length measured instead"
            )
        contenders, sizes = ours.contenders(bench, self._store), ours.sizes(bench)
        if peers is not None:
            theirs, their_sizes, unable = peers.contenders(ours.for_peers(bench), bench.texts)
            contenders, sizes = contenders + theirs, sizes | their_sizes
            self.missing |= {f"{who} at {bench.hops} hops": why for who, why in unable.items()}
        self.sizes += [Size(bench.hops, who, characters) for who, characters in sizes.items()]
        if any(row.op == "mint" for row in self.rows):
            contenders = [one for one in contenders if one.op != "mint"]
        self.measure(f"{bench.hops} hops", contenders, _to_bases(contenders))

    def growth(self) -> None:
        """Caveats and deaths."""
        contenders = growth.by_caveats(self._view)
        self.measure("caveats", contenders, _to_least(contenders))
        with growth.by_deaths(self._folder, self._options.dead) as contenders:
            self.measure("dead ids", contenders, _to_least(contenders))

    def start(self) -> None:
        """Processes."""
        contenders = startup.contenders()
        bare = contenders[0]
        to_bare = {bare.who: bare}
        nothing: dict[str, Contender] = {}
        self.measure("start", contenders, lambda one: nothing if one is bare else to_bare)

    def close(self) -> None:
        """Let go of the store."""
        self._view.close()
        self._store.close()

    def measure(self, what: str, contenders: list[Contender], against: Against) -> None:
        """Time them, and keep what was found."""
        rounds = self._options.rounds
        task = self._progress.add_task(what, total=rounds)
        rows, missing = measure(
            contenders,
            against,
            rounds=rounds,
            seconds=self._options.turn,
            told=lambda: self._progress.advance(task),
        )
        self.rows += rows
        self.missing |= missing


def _to_bases(contenders: list[Contender]) -> Against:
    """To each of the bases that do the same."""

    def against(one: Contender) -> Mapping[str, Contender]:
        return {
            other.who: other for other in contenders if other.op == one.op and other.who in _BASES and other is not one
        }

    return against


def _to_least(contenders: list[Contender]) -> Against:
    """To the same contender where there is least, and to the floor where there is as much."""
    least = min(one.at for one in contenders)

    def against(one: Contender) -> Mapping[str, Contender]:
        found: dict[str, Contender] = {}
        for other in contenders:
            if other.who == one.who and other.at == least and other is not one:
                found[str(least)] = other
            elif other.who == ours.FLOOR and other.at == one.at and other is not one:
                found[ours.FLOOR] = other
        return found

    return against


def run(options: argparse.Namespace, console: Console) -> Report:
    """Measure everything."""
    on_one_core = pinned()
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        progress = stack.enter_context(Progress(*columns, console=console))
        peers = stack.enter_context(Peers(options.peers)) if options.peers.exists() else None
        session = stack.enter_context(closing(Session(options, folder, progress)))
        if peers is None:
            session.missing["peers"] = "their environment was not made: `make bench` makes it"
        else:
            session.missing |= peers.missing
        for hops in options.hops:
            session.hops(hops, peers)
        session.growth()
        session.start()
        python, cpu = machine()
        return Report(
            python=python,
            cpu=cpu,
            pinned=on_one_core,
            rounds=options.rounds,
            quick=options.quick,
            versions={} if peers is None else peers.versions,
            missing=session.missing,
            rows=session.rows,
            sizes=session.sizes,
        )


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
    if report.quick:
        sys.exit("a quick run is no ground for a page: run `make bench` first")
    save(report, DOCS / "benchmarks.json")
    (DOCS / "benchmarks.md").write_text(page(report), encoding="utf-8")
    plots = [str(peers), "-m", "tests.bench.plots", str(DOCS / "benchmarks.json"), str(DOCS / "plots")]
    subprocess.run(plots, check=True, cwd=CHECKOUT)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few short rounds and 10 000 dead")
    parser.add_argument("--rounds", type=int, help="rounds that count (default 31)")
    parser.add_argument("--turn", type=float, help="seconds that a contender has in a round (default 0.03)")
    parser.add_argument("--dead", type=int, help="dead ids (default 1 000 000)")
    parser.add_argument("--hops", type=lambda text: [int(each) for each in text.split(",")], default=[1, 3, 8, 32])
    parser.add_argument(
        "--peers",
        type=Path,
        default=CHECKOUT / ".venv-peers" / "bin" / "python",
        help="the Python of the peers' environment",
    )
    parser.add_argument("--out", type=Path, default=CHECKOUT / "build" / "bench.json", help="where the rows go")
    parser.add_argument("--write-docs", action="store_true", help="measure nothing; make the page from --out")
    options = parser.parse_args(arguments)
    for name, usual, quick in (("rounds", 31, 5), ("turn", 0.03, 0.005), ("dead", 1_000_000, 10_000)):
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
