"""The same benchmark in an earlier commit and in this one, in turn: how many times as long each thing takes now.

Laws:

- Each side runs as its own commit has it, in processes that import nothing of the other side.
- The sides take turns, and each goes first in every second pair. A ratio is the median of the ratios within the pairs,
  so that a drift of the machine does not show in it.
- What belongs to neither side, such as the commit of one row, is compared too: it says how much is noise.
"""

import io
import os
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from tests.bench import ours
from tests.bench.authority.figures import ASKING, KEEPING, LAG, P99, REQUESTS, SERVE, TASK, Figure
from tests.bench.link import CHECKOUT
from tests.bench.measuring import Row, Unmeasurable, rounded

PARTS: Final = ("authority", "verify")
"""What can be compared."""
_ROWS: Final = {TASK, *KEEPING, *ASKING}
_VERIFIERS: Final = {ours.FLOOR, ours.COLD, ours.WARM}


class Change(Struct, frozen=True):
    """How many times as long `who` takes for `op` now: the median of the pairs, and the least and most of them."""

    op: str
    who: str
    at: int
    times: float
    least: float
    most: float


class Earlier(Struct, frozen=True):
    """The commit that was run in turn with this one, and what has changed since."""

    commit: str
    pairs: int
    changes: list[Change]


class _Run(Struct):
    """What is read of a report, which an earlier commit may have written."""

    rows: list[Row]
    figures: list[Figure]


Key = tuple[str, str, int]


def measure_earlier(
    commit: str, pairs: int, parts: Sequence[str], options: list[str], folder: Path, *, told: Callable[[], None]
) -> Earlier:
    """Run these parts in both commits, so many times in turn; Unmeasurable if one cannot run.

    `told` is called after each run of a part."""
    found: list[tuple[dict[Key, float], dict[Key, float]]] = []
    earlier = _unpacked(commit, folder / "earlier")
    for pair in range(pairs):
        sides: dict[Path, dict[Key, float]] = {earlier: {}, CHECKOUT: {}}
        for part in parts:
            for side in (earlier, CHECKOUT) if pair % 2 == 0 else (CHECKOUT, earlier):
                sides[side] |= _run(side, folder / "run.json", ["--only", part, *options])
                told()
        found.append((sides[earlier], sides[CHECKOUT]))
    return Earlier(commit, pairs, changes(found))


def changes(pairs: list[tuple[dict[Key, float], dict[Key, float]]]) -> list[Change]:
    """The changes of all that every run has measured: each pair is what was taken earlier and what is taken now."""
    shared = [key for key in pairs[0][1] if all(key in side for pair in pairs for side in pair)]
    found: list[Change] = []
    for key in shared:
        ratios = [now[key] / before[key] for before, now in pairs]
        told = (rounded(one) for one in (statistics.median(ratios), min(ratios), max(ratios)))
        found.append(Change(*key, *told))
    return found


def _unpacked(commit: str, folder: Path) -> Path:
    archive = subprocess.run(
        ["git", "-C", str(CHECKOUT), "archive", "--format=tar", commit], check=False, capture_output=True
    )
    if archive.returncode:
        raise Unmeasurable(archive.stderr.decode().strip())
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _run(side: Path, out: Path, options: list[str]) -> dict[Key, float]:
    """What each thing took, in any unit of time."""
    packages = os.pathsep.join(map(str, (side, side / "caveats", side / "cli")))
    program = [
        sys.executable,
        "-m",
        "tests.bench",
        "--quick",
        "--peers",
        f"{out}.no-peers",
        "--out",
        str(out),
        *options,
    ]
    environment = {**os.environ, "PYTHONPATH": packages}
    ran = subprocess.run(program, cwd=side, env=environment, check=False, capture_output=True, text=True)
    if ran.returncode:
        raise Unmeasurable(f"{' '.join(options)} in {side.name}: {ran.stderr[-500:]}")
    run = msgspec.json.decode(out.read_bytes(), type=_Run)
    taken = {
        (row.op, row.who, row.at): row.us
        for row in run.rows
        if row.op in _ROWS or (row.op == "verify" and row.who in _VERIFIERS)
    }
    for one in run.figures:
        if one.of == LAG:
            taken[one.of, one.who, one.at] = one.values[P99]
        elif one.of == SERVE:
            taken[one.of, one.who, one.at] = 1 / one.values[REQUESTS]
    return taken
