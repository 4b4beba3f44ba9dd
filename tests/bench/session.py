"""One run: every length, growth, and start-up, each interleaved in itself."""

import argparse
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from capx import RootKey, StoreLiveness
from capx.store.sqlite.store import SQLiteStore
from capx.tokens import wire
from tests.bench import approvals, growth, ours, startup, workload
from tests.bench.asgi_requests import REQUEST
from tests.bench.authority.part import AuthorityPart
from tests.bench.earlier import Earlier, measure_earlier, parts_of
from tests.bench.guarding import requests, routes
from tests.bench.guarding.serving import CONNECTIONS, SERVED, measure_served
from tests.bench.link import Peers
from tests.bench.mcp import gate as mcp_gate
from tests.bench.mcp.http import HTTP, measure_http
from tests.bench.mcp.stdio import STDIO, WARM, measure_stdio
from tests.bench.measuring import Against, Contender, Row, Unmeasurable, cores, measure, on_cores, pinned
from tests.bench.report import Report, Size, machine

if TYPE_CHECKING:
    from tests.bench.authority.figures import Figure

_ROUNDS_OF_A_RUN: Final = 2
"""Of a quick run beside another commit, in which only figures count."""
_REVOCATIONS: Final = 100
"""The most in such a run: enough for the p99 of one of them not to be the worst."""
_TURNS: Final = 31
"""The least turns in which verification is compared with others, however few rounds all else has."""
_BASES: Final = (ours.FLOOR, ours.CAPX, ours.COLD, ours.WARM, ours.SIGNED_WARM, ours.CHECK)


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
        self.figures: list[Figure] = []
        self.missing: dict[str, str] = {}
        self.earlier: list[Earlier] = []

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
        try:
            contenders += ours.signed_contenders(bench.hops, root, self._view)
        except Unmeasurable as reason:
            self.missing[f"capx, signed, at {bench.hops} hops"] = str(reason)
        if peers is not None:
            theirs, their_sizes, unable = peers.contenders(ours.for_peers(bench), bench.texts)
            contenders, sizes = contenders + theirs, sizes | their_sizes
            self.missing |= {f"{who} at {bench.hops} hops": why for who, why in unable.items()}
        self.sizes += [Size(bench.hops, who, characters) for who, characters in sizes.items()]
        if any(row.op == "mint" for row in self.rows):
            contenders = [one for one in contenders if one.op != "mint"]
        self.measure(f"{bench.hops} hops", contenders, _to_bases(contenders), self._turns)

    def growth(self) -> None:
        """Caveats and deaths."""
        contenders = growth.by_caveats(self._view)
        self.measure("caveats", contenders, _to_least(contenders))
        with growth.by_deaths(self._folder, self._options.dead) as contenders:
            self.measure("dead ids", contenders, _to_least(contenders))

    def approvals(self) -> None:
        """The same calls with approvals and without."""
        for hops in approvals.LENGTHS:
            contenders = approvals.contenders(hops, RootKey.generate(), self._view)
            self.measure(f"approvals, {hops} hops", contenders, approvals.against(contenders), self._turns)

    def guard(self, peers: Peers | None) -> None:
        """Routes behind a guard."""
        with requests.guarded_requests(self._folder / "requests") as own:
            contenders = own
            if peers is not None:
                theirs, unable = peers.routes()
                contenders = [*own, *theirs]
                self.missing |= {f"{who}: {REQUEST}": why for who, why in unable.items()}
            self.measure("a request", contenders, requests.against(contenders))
        made = routes.Routes(self._store, self._view)
        for contenders in routes.holding(made):
            self.measure(contenders[0].who, contenders, routes.against(contenders))
        with routes.large_bodies(made) as contenders:
            self.measure(routes.LARGE, contenders, routes.against(contenders))

    def mcp_gate(self) -> None:
        """Tool calls of MCP, without any transport."""
        with mcp_gate.gate_contenders(self._folder / "mcp gate") as contenders:
            self.measure(mcp_gate.GATE, contenders, mcp_gate.against(contenders))

    def mcp_served(self) -> None:
        """Tool calls of MCP, over both transports."""
        calls = 40 if self._options.quick else 400
        for what, measured in ((STDIO, measure_stdio), (HTTP, measure_http)):
            task = self._progress.add_task(what, total=WARM + calls)
            told = partial(self._progress.update, task, advance=1, refresh=True)
            self.figures += measured(self._folder / what, calls, told)

    def served(self, peers: Path | None) -> None:
        """The guarded route behind uvicorn."""
        rounds, seconds = (2, 0.1) if self._options.quick else (8, 0.5)
        task = self._progress.add_task(SERVED, total=len(CONNECTIONS) * (1 + rounds))
        told = partial(self._progress.update, task, advance=1, refresh=True)
        figures, missing = measure_served(self._folder / SERVED, peers, rounds, seconds, told)
        self.figures += figures
        self.missing |= missing

    def beside(self, asked: str) -> None:
        """The same in an earlier commit."""
        given = self._options
        commit, wanted = parts_of(asked)
        # An approval is a part of verification, which must not cost more for tokens that demand none.
        only = "verify" if given.only == "approvals" else given.only
        parts = [part for part in wanted if only in {None, part}]
        rounds = self._turns
        turns = (given.pairs if "authority" in parts else 0) + rounds * len(parts)
        task = self._progress.add_task(f"beside {commit}", total=turns)
        try:
            self.earlier.append(
                measure_earlier(
                    commit,
                    parts,
                    [f"--rounds={_ROUNDS_OF_A_RUN}", f"--revocations={min(given.revocations, _REVOCATIONS)}"],
                    self._folder,
                    pairs=given.pairs,
                    rounds=rounds,
                    seconds=given.turn,
                    lengths=given.hops,
                    told=partial(self._progress.update, task, advance=1, refresh=True),
                )
            )
        except Unmeasurable as reason:
            self.missing[f"beside {commit}"] = str(reason)

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

    @property
    def _turns(self) -> int:
        """The rounds of a comparison of verifications."""
        rounds: int = self._options.rounds
        return rounds if self._options.quick else max(rounds, _TURNS)

    def measure(self, what: str, contenders: list[Contender], against: Against, rounds: int = 0) -> None:
        """Time them in so many rounds, or as many as were asked for, and keep what was found."""
        rounds = rounds or self._options.rounds
        task = self._progress.add_task(what, total=rounds)
        rows, missing = measure(
            contenders,
            against,
            rounds=rounds,
            seconds=self._options.turn,
            told=partial(self._progress.update, task, advance=1, refresh=True),
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
    """Measure everything, or the part that was asked for."""
    on_all_cores = cores()
    columns = (TextColumn("{task.description:>13}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # No thread draws it: its work would count as that of whoever has a turn.
        progress = stack.enter_context(Progress(*columns, console=console, auto_refresh=False))
        authority = None
        if options.only in {None, "authority", "grow"}:
            authority = AuthorityPart(options, folder, progress, stack)
            if options.only != "grow":
                authority.run()
            if options.grow is not None and options.only in {None, "grow"}:
                authority.grow()
        on_one_core = pinned()
        session = stack.enter_context(closing(Session(options, folder, progress)))
        peers = _peers(session, options, stack) if options.only in {None, "verify", "guard"} else None
        if options.only in {None, "verify"}:
            _verify(session, options, peers)
        if options.only in {None, "approvals"}:
            session.approvals()
        if options.only in {None, "guard"}:
            session.guard(peers)
            with on_cores(on_all_cores):
                session.served(options.peers if peers is not None else None)
        if options.only in {None, "mcp"}:
            session.mcp_gate()
            with on_cores(on_all_cores):
                session.mcp_served()
        with on_cores(on_all_cores):
            for asked in options.earlier:
                session.beside(asked)
        if options.only is not None:
            session.missing["everything else"] = f"left out by --only {options.only}"
        python, cpu = machine()
        return Report(
            python=python,
            cpu=cpu,
            pinned=on_one_core,
            rounds=options.rounds,
            quick=options.quick,
            versions={} if peers is None else peers.versions,
            missing=session.missing | ({} if authority is None else authority.missing),
            rows=session.rows + ([] if authority is None else authority.rows),
            sizes=session.sizes,
            figures=session.figures + ([] if authority is None else authority.figures),
            file_system="" if authority is None else authority.file_system,
            cores=len(on_all_cores),
            earlier=session.earlier,
        )


def _peers(session: Session, options: argparse.Namespace, stack: ExitStack) -> Peers | None:
    """The other libraries, if they are installed."""
    if not options.peers.exists():
        session.missing["peers"] = "their environment was not made: `make bench` makes it"
        return None
    peers = stack.enter_context(Peers(options.peers))
    session.missing |= peers.missing
    return peers


def _verify(session: Session, options: argparse.Namespace, peers: Peers | None) -> None:
    """Measure tokens and their verification."""
    for hops in options.hops:
        session.hops(hops, peers)
    session.growth()
    session.start()
