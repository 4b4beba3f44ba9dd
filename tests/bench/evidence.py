"""Time what makes the log evidence: ledgers, the tree beside the log, archives, and proofs.

python -m tests.bench.evidence                 a log of a million decisions, in a minute or two; the bars beside it
python -m tests.bench.evidence --events 20000  a short one, for whoever changes it
"""

import argparse
import json
import random
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from capx.authority.authority import Authority
from capx.crypto.keys import KeyRing, RootKey
from capx.ledger.ledger_check import check_ledger
from capx.ledger.ledger_file import LedgerFile, ledger_files
from capx.ledger.stored_tree import StoredTree
from capx.proof import export
from capx.store.factory import create_store
from capx.store.records import DecisionRecord
from tests.labs.lab import Clock
from tests.labs.proving import ProofLab, read

EVENTS: Final = 1_000_000
_BATCH: Final = 1_000
_CALLS: Final = 1_000


class Figure(Struct, frozen=True):
    """One measurement, and what it must reach: at least the bar, if more is better."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    more_is_better: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the bar is reached; None if there is none."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.more_is_better else self.value <= self.bar


def seconds(act: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def of_ledgers(folder: Path, entries: int) -> list[Figure]:
    """A ledger of decisions with arguments and evidence, written in the batches of a busy recorder, and verified."""
    with_evidence = ProofLab(folder)
    _, body = with_evidence.short()
    data = msgspec.json.encode({name: value for name, value in body.items() if name != "chain"})
    with_evidence.close()
    batch = [DecisionRecord(body["id"], body["at"], data)] * 256
    ledger = LedgerFile(folder / "crm.jsonl", with_evidence.ledger_key)

    def write() -> None:
        for _ in range(max(1, entries // len(batch))):
            ledger.record(batch)
        ledger.close()

    written = seconds(write)
    count = max(1, entries // len(batch)) * len(batch)
    files = ledger_files(folder / "crm.jsonl")
    verified = seconds(lambda: check_ledger(files, [with_evidence.ledger_key.note_key]))
    return [
        Figure("entries of a ledger written", count / written, "/s", 20_000, more_is_better=True),
        Figure("entries of a ledger verified", count / verified, "/s"),
    ]


def of_proofs(folder: Path) -> list[Figure]:
    """The proof of a task with a thousand calls that an agent's key has signed."""
    lab = ProofLab(folder)
    task, planner = lab.started()
    verifier = lab.authority.verifier("crm")
    for nth in range(_CALLS):
        lab.call(planner, "crm.read", {"id": nth}, verifier=verifier)
    lab.authority.flush()
    exported = seconds(lambda: export(lab.authority, task.id, now=int(lab.clock.now)))
    made = export(lab.authority, task.id, now=int(lab.clock.now))
    trust = lab.trust()
    verified = median(seconds(lambda: read(made, trust)) for _ in range(5))
    lab.close()
    return [
        Figure(f"proof of {_CALLS} calls, exported", exported, "s"),
        Figure(f"proof of {_CALLS} calls, verified", verified, "s", 1),
    ]


def of_log(folder: Path, events: int) -> list[Figure]:
    """The tree beside a long log, and its archive."""
    clock = Clock()
    authority = Authority(create_store(str(folder / "capx.db")), KeyRing(RootKey.generate()), clock=clock)
    task = authority.open(allow=["crm.read"])
    authority.complete(task.id)
    body = b'{"id":"d.%%022d","at":1,"outcome":"allowed","audience":"crm","action":"crm.read","task":"%b","args":"%b"}'
    body %= task.id.encode(), b"A" * 600
    for first in range(0, events, _BATCH):
        with authority.store.write() as transaction:
            bodies = [body % nth for nth in range(first, min(first + _BATCH, events))]
            transaction.append_all("decision", bodies, at=int(clock.now))
    anew = seconds(authority.checkpoints.make)
    going_on: list[float] = []
    for nth in range(20):
        with authority.store.write() as transaction:
            transaction.append_all("decision", [body % (events + nth)], at=int(clock.now))
        going_on.append(seconds(authority.checkpoints.make))
    with authority.store.read() as reading:
        size = reading.head().position
        paths = [seconds(lambda: StoredTree(reading).inclusion_path(random.randint(1, size), size)) for _ in range(50)]
    clock.now += 40 * 86_400
    figures = [
        Figure(f"checkpoint of {events:,} events, anew", anew, "s", 5),
        Figure("checkpoint, going on", median(going_on) * 1_000, "ms", 20),
        Figure(f"path in {events:,} events", median(paths) * 1_000, "ms", 2),
        *of_archive(authority, folder),
    ]
    authority.close()
    return figures


def of_archive(authority: Authority, folder: Path) -> list[Figure]:
    """Archiving the whole log, while another thread opens and completes tasks."""
    archive = folder / "archive"
    archive.mkdir()
    waits: list[float] = []
    ended = threading.Event()

    def use() -> None:
        while not ended.wait(0.02):
            waits.append(seconds(lambda: authority.complete(authority.open(allow=["crm.read"]).id)))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    user = threading.Thread(target=use)
    user.start()
    try:
        took = seconds(lambda: authority.archive(archive))
    finally:
        ended.set()
        user.join()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return [
        Figure("archiving it", took, "s"),
        Figure("memory more, while archiving", grown / 1_024, "MiB"),
        Figure("open and complete a task meanwhile, median", median(waits or [0.0]) * 1_000, "ms"),
        Figure("open and complete a task meanwhile, longest", max(waits, default=0.0) * 1_000, "ms"),
    ]


def measured(events: int) -> list[Figure]:
    """All of it, one after the other."""
    with tempfile.TemporaryDirectory(prefix="capx-bench-") as folder:
        ledgers, proofs, log = (Path(folder, name) for name in ("ledgers", "proofs", "log"))
        for one in (ledgers, proofs, log):
            one.mkdir()
        return [*of_ledgers(ledgers, events // 5), *of_proofs(proofs), *of_log(log, events)]


def main(arguments: list[str] | None = None) -> None:
    """Measure, and show a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=EVENTS, help="the events of the long log")
    parser.add_argument("--json", action="store_true", help="write JSON")
    options = parser.parse_args(arguments)
    figures = measured(options.events)
    if options.json:
        facts: list[Any] = [{**msgspec.to_builtins(one), "reached": one.reached} for one in figures]
        print(json.dumps(facts, indent=2))
        return
    table = Table("what", "measured", "bar", title="Evidence", title_justify="left")
    for one in figures:
        sign = ">=" if one.more_is_better else "<="
        bar = "-" if one.bar is None else f"{sign} {one.bar:g} {one.unit}, {'reached' if one.reached else 'MISSED'}"
        table.add_row(
            one.what, f"{one.value:,.3g} {one.unit}" if one.value < 1_000 else f"{one.value:,.0f} {one.unit}", bar
        )
    Console().print(table)


if __name__ == "__main__":
    main()
