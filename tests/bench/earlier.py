"""The same benchmark in an earlier commit and in this one, in turn: how many times as long each thing takes now.

Laws:

- Each side runs as its own commit has it, in processes that import nothing of the other side.
- The sides take turns, and each goes first in every second turn. A ratio is the median of the ratios within the turns,
  so that a drift of the machine does not show in it.
- A turn of the authority is a whole quick run. A turn of verification is a short one of a process that stays, on the
  same core, so there are many.
- What belongs to neither side, such as the commit of one row, is compared too: it says how much is noise.
"""

import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from tests.bench.authority.figures import ASKING, KEEPING, LAG, P99, REQUESTS, SERVE, TASK, Figure
from tests.bench.link import CHECKOUT
from tests.bench.measuring import Row, Unmeasurable, cores, on_cores, rounded

PARTS: Final = ("authority", "verify")
"""What can be compared."""
_ROWS: Final = {TASK, *KEEPING, *ASKING}
_WARMING: Final = 300


class Change(Struct, frozen=True):
    """How many times as long `who` takes for `op` now: the median of all turns, and their quartiles."""

    op: str
    who: str
    at: int
    times: float
    quartiles: tuple[float, float]


class Earlier(Struct, frozen=True):
    """The commit that was run in turn with this one, and what has changed since.

    `pairs` are the turns of the authority, `rounds` those of verification.
    """

    commit: str
    pairs: int
    rounds: int
    changes: list[Change]


def parts_of(asked: str) -> tuple[str, tuple[str, ...]]:
    """The commit and the parts that COMMIT or COMMIT:PART asks for."""
    commit, _, part = asked.partition(":")
    return commit, (part,) if part else PARTS


class _Run(Struct):
    """What is read of a report, which an earlier commit may have written."""

    rows: list[Row]
    figures: list[Figure]


Key = tuple[str, str, int]


def measure_earlier(
    commit: str,
    parts: Sequence[str],
    options: list[str],
    folder: Path,
    *,
    pairs: int,
    rounds: int,
    seconds: float,
    lengths: Sequence[int],
    told: Callable[[], None],
) -> Earlier:
    """Run these parts in both commits in turn; Unmeasurable if one cannot run.

    `told` is called after each turn of both. A turn of verification takes about `seconds` for each length and verifier.
    """
    earlier = _unpacked(commit, folder / f"earlier-{commit}")
    found: list[Change] = []
    if "authority" in parts:
        turns: list[Turn] = []
        for turn in range(pairs):
            run = partial(_run, out=folder / "run.json", options=["--only", "authority", *options])
            turns.append(_in_turn(turn, partial(run, earlier), partial(run, CHECKOUT)))
            told()
        found += changes(turns)
    if "verify" in parts:
        with on_cores({min(cores())}), _Side(earlier, lengths) as before, _Side(CHECKOUT, lengths) as now:
            counts = {key: now.count(key, seconds) for key in now.able if key in before.able}
            turns = []
            for turn in range(rounds):
                turns.append(_in_turn(turn, partial(before.taken, counts), partial(now.taken, counts)))
                told()
        found += changes(turns)
    return Earlier(commit, pairs if "authority" in parts else 0, rounds if "verify" in parts else 0, found)


Taken = dict[Key, float]
"""What each thing took, in any unit of time."""
Turn = tuple[Taken, Taken]
"""What was taken earlier, and what is taken now."""


def _in_turn(turn: int, before: Callable[[], Taken], now: Callable[[], Taken]) -> Turn:
    if turn % 2 == 0:
        return before(), now()
    taken = now()
    return before(), taken


def changes(turns: Sequence[Turn]) -> list[Change]:
    """The changes of all that every turn has measured."""
    found: list[Change] = []
    for key in turns[0][1] if turns else ():
        if all(key in side for turn in turns for side in turn):
            ratios = [now[key] / before[key] for before, now in turns]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(turns) > 1 else ratios * 3
            found.append(Change(*key, rounded(middle), (rounded(low), rounded(high))))
    return found


class _Side:
    """A process that verifies as one of the commits does."""

    def __init__(self, side: Path, lengths: Sequence[int]) -> None:
        self._process = subprocess.Popen(
            # -P: else the folder of the program would be found before the packages of the side.
            [sys.executable, "-P", str(Path(__file__).with_name("side.py")), *map(str, lengths)],
            cwd=side,
            env=_environment(side),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.able = [("verify", who, at) for who, at in self._answer()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def count(self, key: Key, seconds: float) -> int:
        """How many times it verifies within these seconds."""
        self._run(key, _WARMING)
        return max(1, int(seconds * _WARMING / self._run(key, _WARMING)))

    def taken(self, counts: Mapping[Key, int]) -> Taken:
        """The time that each takes, so many times."""
        return {key: self._run(key, count) for key, count in counts.items()}

    def _run(self, key: Key, count: int) -> float:
        _, who, at = key
        asking = self._process.stdin
        assert asking is not None
        asking.write(json.dumps([who, at, count]) + "\n")
        asking.flush()
        return float(self._answer())

    def _answer(self) -> Any:
        answering = self._process.stdout
        assert answering is not None
        line = answering.readline()
        if not line:
            raise Unmeasurable(f"verification ended: {self._process.communicate()[1][-500:]}")
        return json.loads(line)


def _unpacked(commit: str, folder: Path) -> Path:
    archive = subprocess.run(
        ["git", "-C", str(CHECKOUT), "archive", "--format=tar", commit], check=False, capture_output=True
    )
    if archive.returncode:
        raise Unmeasurable(archive.stderr.decode().strip())
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _environment(side: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (side, side / "caveats", side / "cli")))}


def _run(side: Path, out: Path, options: list[str]) -> Taken:
    """What each thing takes in one run."""
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
    ran = subprocess.run(program, cwd=side, env=_environment(side), check=False, capture_output=True, text=True)
    if ran.returncode:
        raise Unmeasurable(f"{' '.join(options)} in {side.name}: {ran.stderr[-500:]}")
    run = msgspec.json.decode(out.read_bytes(), type=_Run)
    taken = {(row.op, row.who, row.at): row.us for row in run.rows if row.op in _ROWS}
    for one in run.figures:
        if one.of == LAG:
            taken[one.of, one.who, one.at] = one.values[P99]
        elif one.of == SERVE:
            taken[one.of, one.who, one.at] = 1 / one.values[REQUESTS]
    return taken
