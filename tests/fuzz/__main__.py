"""Fuzz every target for a while, two at a time: `python -m tests.fuzz [--seconds N] [--jobs N] [TARGET …]`.

Everything goes below `build/fuzz/TARGET/`: the log, what was grown, and each input that failed, ready to be given to
`tests.fuzz.one`. Ends with 1 if any target failed.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from tests.fuzz.one import TARGETS

BUILD = Path("build", "fuzz")
_STATISTIC = re.compile(r"^stat::(\w+): +(\d+)$", re.MULTILINE)


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", default=TARGETS, metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=600, help="for each target (600)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (2)")
    asked = parser.parse_args()
    targets: list[str] = list(asked.targets)
    with ThreadPoolExecutor(asked.jobs) as pool:
        failed = list(pool.map(fuzz, targets, repeat(f"-max_total_time={asked.seconds}")))
    return int(any(failed))


def fuzz(target: str, *options: str) -> bool:
    """Fuzz one target, tell how it went, and whether it failed."""
    folder = BUILD / target
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "tests.fuzz.one", target, str(folder), *options]
        ended = subprocess.run(command, stdout=log, stderr=log, env=plain_environment(), check=False)
    said = (folder / "log").read_text(errors="replace")
    known = dict(_STATISTIC.findall(said))
    covered = re.findall(r" cov: (\d+) ", said) or ["0"]
    verdict = "held" if ended.returncode == 0 else "FAILED: " + _how(said)
    runs, seconds = known.get("number_of_executed_units", "0"), known.get("average_exec_per_sec", "0")
    print(f"{target:13} {runs:>10} runs {seconds:>6}/s {covered[-1]:>5} edges  {verdict}", flush=True)
    return ended.returncode != 0


def plain_environment() -> dict[str, str]:
    """The environment without what would have coverage measured, many times slower."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}


def _how(said: str) -> str:
    uncaught = re.search(r"Uncaught Python exception: ===\s*(.*)", said)
    kept = re.search(r"Test unit written to (\S+)", said)
    return f"{uncaught[1] if uncaught else 'see the log'} ({kept[1] if kept else 'nothing kept'})"


if __name__ == "__main__":
    raise SystemExit(main())
