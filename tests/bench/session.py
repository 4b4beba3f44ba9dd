"""One run: every length, growth, and start-up, each interleaved in itself."""

import argparse
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from capx import RootKey, StoreLiveness
from capx.store.sqlite.store import SQLiteStore
from capx.tokens import wire
from tests.bench import approvals, growth, ours, startup, workload
from tests.bench.asgi_requests import REQUEST
from tests.bench.authority.part import file_system, measure_authority, measure_growth
from tests.bench.authority.places import Places
from tests.bench.earlier import Earlier, measure_earlier
from tests.bench.findings import Findings
from tests.bench.guarding import requests, routes
from tests.bench.guarding.serving import measure_served
from tests.bench.link import Peers
from tests.bench.mcp import gate as mcp_gate
from tests.bench.mcp.http import HTTP, measure_http
from tests.bench.mcp.stdio import STDIO, measure_stdio
from tests.bench.mcp.way import WARM
from tests.bench.measuring import Unmeasurable, cores, on_cores, pinned
from tests.bench.report import Report, Size, machine

_TURNS: Final = 31
"""The least turns in which verification is compared with others, however few rounds all else has."""
_BASES: Final = (ours.FLOOR, ours.CAPX, ours.COLD, ours.WARM, ours.SIGNED_WARM, ours.CHECK)
"""What is compared with all that do the same."""


class Session:
    """The parts of a run that capx does in this process, on one core."""

    def __init__(self, found: Findings, folder: Path) -> None:
        self._found = found
        self._options = found.options
        self._folder = folder
        self._store = SQLiteStore.create(folder / "capx.db")
        self._view = StoreLiveness(folder / "capx.db")
        self.sizes: list[Size] = []
        self.earlier: list[Earlier] = []

    def verify(self, peers: Peers | None) -> None:
        """Tokens and their verification, how it grows, and how processes start."""
        for hops in self._options.hops:
            self._hops(hops, peers)
        self._found.in_turn("caveats", growth.by_caveats(self._view))
        with growth.by_deaths(self._folder, self._options.dead) as contenders:
            self._found.in_turn("dead ids", contenders)
        self._found.in_turn(startup.OP, startup.contenders())

    def _hops(self, asked: int, peers: Peers | None) -> None:
        """Everything about a chain of one length."""
        root, now = RootKey.generate(), int(time.time())
        bench = ours.Bench(workload.chain_of(asked, root, now), root, self._view)
        at, missing = bench.hops, self._found.missing
        if at < asked:
            missing[f"capx at {asked} hops"] = (
                f"only {at} fit into {wire.MAX_TEXT} characters, which is the length measured instead"
            )
        contenders, sizes = ours.contenders(bench, self._store), ours.sizes(bench)
        try:
            contenders += ours.signed_contenders(at, root, self._view)
        except Unmeasurable as reason:
            missing[f"capx, signed, at {at} hops"] = str(reason)
        if peers is not None:
            theirs, their_sizes, unable = peers.contenders(ours.for_peers(bench), bench.texts)
            contenders, sizes = contenders + theirs, sizes | their_sizes
            missing |= {f"{who} at {at} hops": why for who, why in unable.items()}
        self.sizes += [Size(at, who, characters) for who, characters in sizes.items()]
        is_minted = any(row.op == "mint" for row in self._found.rows)
        compared = [
            replace(one, to={who: (one.op, at, who) for who in _BASES})
            for one in contenders
            if not (is_minted and one.op == "mint")
        ]
        self._found.in_turn(f"{at} hops", compared, self._turns)

    def approvals(self) -> None:
        """The same calls with approvals and without."""
        for hops in approvals.LENGTHS:
            contenders = approvals.contenders(hops, RootKey.generate(), self._view)
            self._found.in_turn(f"approvals, {hops} hops", contenders, self._turns)

    def guard(self, peers: Peers | None) -> None:
        """Routes behind a guard."""
        with requests.guarded_requests(self._folder / "requests") as all_of_them:
            if peers is not None:
                theirs, unable = peers.routes()
                all_of_them.extend(theirs)
                self._found.missing |= {f"{who}: {REQUEST}": why for who, why in unable.items()}
            self._found.in_turn("a request", all_of_them)
        made = routes.Routes(self._store, self._view)
        for contenders in routes.holding(made):
            self._found.in_turn(contenders[0].who, contenders)
        with routes.large_bodies(made) as contenders:
            self._found.in_turn(routes.LARGE, contenders)

    def mcp_gate(self) -> None:
        """Tool calls of MCP, without any transport."""
        with mcp_gate.gate_contenders(self._folder / "mcp gate") as contenders:
            self._found.in_turn(mcp_gate.GATE, contenders)

    def mcp_served(self) -> None:
        """Tool calls of MCP, over both transports."""
        calls = 40 if self._options.quick else 400
        for what, measured in ((STDIO, measure_stdio), (HTTP, measure_http)):
            told = self._found.told(what, WARM + calls)
            self._found.figures += measured(self._folder / what, calls, told)

    def beside(self, asked: str) -> None:
        """The same in an earlier commit."""
        try:
            self.earlier.append(measure_earlier(self._found, self._folder, asked, self._turns))
        except Unmeasurable as reason:
            self._found.missing[f"beside {asked.partition(':')[0]}"] = str(reason)

    def close(self) -> None:
        """Let go of the store."""
        self._view.close()
        self._store.close()

    @property
    def _turns(self) -> int:
        """The rounds of a comparison of verifications."""
        rounds: int = self._options.rounds
        return rounds if self._options.quick else max(rounds, _TURNS)


def run(options: argparse.Namespace, console: Console) -> Report:
    """Measure everything, or the part that was asked for."""
    on_all_cores = cores()
    columns = (TextColumn("{task.description:>13}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())

    def wants(*parts: str) -> bool:
        return options.only in {None, *parts}

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # No thread draws it: its work would count as that of whoever has a turn.
        progress = stack.enter_context(Progress(*columns, console=console, auto_refresh=False))
        found = Findings(options, progress)
        on = ""
        if wants("authority", "grow"):
            places = Places(folder, stack)
            found.missing |= places.missing
            on = file_system(found, places)
            if wants("authority"):
                measure_authority(found, places)
            if options.grow is not None and wants("grow"):
                measure_growth(found, places)
        on_one_core = pinned()
        session = stack.enter_context(closing(Session(found, folder)))
        peers = _peers(found, stack) if wants("verify", "guard") else None
        if wants("verify"):
            session.verify(peers)
        if wants("approvals"):
            session.approvals()
        if wants("guard"):
            session.guard(peers)
            with on_cores(on_all_cores):
                measure_served(found, folder / "served", options.peers if peers is not None else None)
        if wants("mcp"):
            session.mcp_gate()
            with on_cores(on_all_cores):
                session.mcp_served()
        with on_cores(on_all_cores):
            for asked in options.earlier:
                session.beside(asked)
        if options.only is not None:
            found.missing["everything else"] = f"left out by --only {options.only}"
        python, cpu = machine()
        return Report(
            python=python,
            cpu=cpu,
            pinned=on_one_core,
            rounds=options.rounds,
            quick=options.quick,
            versions={} if peers is None else peers.versions,
            missing=found.missing,
            rows=found.rows,
            sizes=session.sizes,
            figures=found.figures,
            file_system=on,
            cores=len(on_all_cores),
            earlier=session.earlier,
        )


def _peers(found: Findings, stack: ExitStack) -> Peers | None:
    """The other libraries, if they are installed."""
    python: Path = found.options.peers
    if not python.exists():
        found.missing["peers"] = "their environment was not made: `make bench` makes it"
        return None
    peers = stack.enter_context(Peers(python))
    found.missing |= peers.missing
    return peers
