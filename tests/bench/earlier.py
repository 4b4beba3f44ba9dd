"""The same benchmark in an earlier commit and in this one, in turn: how many times as long each thing takes now.

Laws:

- Each side runs as its own commit has it, in processes that import nothing of the other side.
- The sides take turns, and each goes first in every second turn. A ratio is the median of the ratios within the turns,
  so that a drift of the machine does not show in it.
- Verifications, guarded calls, and what is done at a store have many short turns, in a process of each side that
  stays, all on one core. In a turn both sides do the same as often, one right after the other. A write that is forced
  to the disk waits for all writes before it, too, and so these are as many on both sides.
- What takes several processes, revocations and requests to `capx serve`, has a whole quick run of each side in a turn.
- What belongs to neither side, such as the commit of one row, is compared too: it says how much is noise.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from tests.bench.authority.child import Child
from tests.bench.authority.figures import LAG, P99, REQUESTS, SERVE, Figure
from tests.bench.findings import Findings
from tests.bench.measuring import Unmeasurable, count_for, rounded
from tests.labs.commits import CHECKOUT, UnknownCommit, environment, unpack

PARTS: Final = ("authority", "verify", "guard", "mcp")
"""What can be compared."""
_ROUNDS_OF_A_RUN: Final = 2
_REVOCATIONS: Final = 100
"""The most in a quick run of both: enough for the p99 of one of them not to be the worst."""


class Change(Struct, frozen=True):
    """How many times as long `who` takes for `op` now: the median of all turns, and their quartiles."""

    op: str
    who: str
    at: int
    times: float
    quartiles: tuple[float, float]


class Earlier(Struct, frozen=True):
    """The commit that was run in turn with this one, and what has changed since.

    `rounds` are the short turns, `pairs` the whole quick runs of each.
    """

    commit: str
    pairs: int
    rounds: int
    changes: list[Change]


class _Run(Struct):
    """What is read of a report, which an earlier commit may have written."""

    figures: list[Figure]


Key = tuple[str, str, int]


def measure_earlier(found: Findings, folder: Path, asked: str, rounds: int) -> Earlier:
    """Run the parts that COMMIT or COMMIT:PART asks for in both commits in turn; Unmeasurable if one cannot run."""
    given = found.options
    commit, _, part = asked.partition(":")
    # An approval is a part of verification, which must not cost more for tokens that demand none.
    only = "verify" if given.only == "approvals" else given.only
    parts = [one for one in ([part] if part else PARTS) if only in {None, one}]
    pairs = given.pairs if "authority" in parts else 0
    told = found.told(f"beside {commit}", pairs + rounds * len(parts))
    try:
        earlier = unpack(commit, folder / f"earlier-{commit}")
    except UnknownCommit as problem:
        raise Unmeasurable(str(problem)) from None
    changed: list[Change] = []
    for one in parts:
        with _Side(earlier, one, given.hops) as before, _Side(CHECKOUT, one, given.hops) as now:
            counts = {key: count_for(partial(now.run, key), given.turn) for key in now.able if key in before.able}
            turns: list[Turn] = []
            for nth in range(rounds):
                runs = {
                    key: (partial(before.run, key, count), partial(now.run, key, count))
                    for key, count in counts.items()
                }
                turns.append({key: _in_turn(nth, *both) for key, both in runs.items()})
                told()
        changed += changes(turns)
    run = partial(_run, out=folder / "run.json", revocations=min(given.revocations, _REVOCATIONS))
    turns = []
    for nth in range(pairs):
        taken, takes = _in_turn(nth, partial(run, earlier), partial(run, CHECKOUT))
        turns.append({key: (taken[key], takes[key]) for key in takes if key in taken})
        told()
    return Earlier(commit, pairs, rounds if parts else 0, changed + changes(turns))


Turn = Mapping[Key, tuple[float, float]]
"""What each thing took earlier, and what it takes now, in any unit of time."""
_Taken = TypeVar("_Taken")


def _in_turn(nth: int, before: Callable[[], _Taken], now: Callable[[], _Taken]) -> tuple[_Taken, _Taken]:
    if nth % 2 == 0:
        return before(), now()
    taken = now()
    return before(), taken


def changes(turns: Sequence[Turn]) -> list[Change]:
    """The changes of all that every turn has measured."""
    found: list[Change] = []
    for key in turns[0] if turns else ():
        if all(key in turn for turn in turns):
            ratios = [now / before for before, now in (turn[key] for turn in turns)]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(turns) > 1 else ratios * 3
            found.append(Change(*key, rounded(middle), (rounded(low), rounded(high))))
    return found


class _Side(Child):
    """A process that does a part of the benchmark as one of the commits does."""

    def __init__(self, side: Path, part: str, lengths: Sequence[int]) -> None:
        # -P: else the folder of the program would be found before the packages of the side.
        program = [sys.executable, "-P", str(Path(__file__).with_name("side.py")), part, *map(str, lengths)]
        self._start("one of both", program, cwd=side, env=environment(side), stderr=subprocess.PIPE)
        self.able: list[Key] = [(op, who, at) for op, who, at in self.hear()]

    def run(self, key: Key, count: int) -> float:
        """The seconds that it takes to do this so often."""
        return float(self.ask([*key, count]))

    def _ended(self) -> Unmeasurable:
        return Unmeasurable(f"one of both ended: {self._process.communicate()[1][-500:]}")


def _run(side: Path, out: Path, revocations: int) -> dict[Key, float]:
    """What a revocation, and a request of each kind, takes in one run."""
    # Only figures count, so what is timed in rounds has few.
    options = ["--only=authority", f"--rounds={_ROUNDS_OF_A_RUN}", f"--revocations={revocations}"]
    program = [sys.executable, "-m", "tests.bench", "--quick", f"--peers={out}.no-peers", f"--out={out}", *options]
    ran = subprocess.run(program, cwd=side, env=environment(side), check=False, capture_output=True, text=True)
    if ran.returncode:
        raise Unmeasurable(f"{' '.join(options)} in {side.name}: {ran.stderr[-500:]}")
    taken: dict[Key, float] = {}
    for one in msgspec.json.decode(out.read_bytes(), type=_Run).figures:
        if one.of == LAG:
            taken[one.of, one.who, one.at] = one.values[P99]
        elif one.of == SERVE:
            taken[one.of, one.who, one.at] = 1 / one.values[REQUESTS]
    return taken
