"""Change each room in every small way, one at a time, and see whether its tests notice.

`python -m tests.mutants [ROOM …]`, all rooms unless some are named.

Ends with 1 if a room's tests notice fewer than 95 of 100 changes, or if one that they do not notice has no reason in
survivors.md. README.md says which changes count.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

from msgspec import Struct

from tests.mutants.rooms import ROOMS, Room

WANTED = 0.95
BUILD = Path("build")
REASONS = Path(__file__).with_name("survivors.md")
_REASON = re.compile(r"^- (\w+): ``(.+?)`` → ``(.+?)``\n  \S", re.MULTILINE)
_CAST = re.compile(r"\bcast\((?:\"[^\"]*\"|[^,()]+), (?=[^)])")
_UNNOTICED = {None, 0, 5, 33, 34, 35}
"""mutmut's exit codes of a mutant that no test noticed, or that none ran for."""
_SETUP = """[mutmut]
source_paths =
    capx
    capx_caveats
    capx_cli
only_mutate =
    {file}
also_copy =
    docs
    README.md
    CHANGELOG.md
pytest_add_cli_args =
    -p
    no:cacheprovider
pytest_add_cli_args_test_selection =
    {tests}
"""


_PROFILE = """

import functools
import os
import sys

from hypothesis import Phase, settings

remembered = []
settings.register_profile(
    "mutants", derandomize=True, deadline=None, database=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("mutants")


def pytest_generate_tests(metafunc):
    for mark in metafunc.definition.iter_markers("parametrize"):
        if mark._param_ids_from:
            object.__setattr__(mark._param_ids_from, "_param_ids_generated", None)


def pytest_collection_finish():
    modules = [module for name, module in sys.modules.items() if name.startswith("capx")]
    held = {id(one): one for module in modules for one in vars(module).values()}
    remembered[:] = [one for one in held.values() if isinstance(one, functools._lru_cache_wrapper)]


def pytest_runtest_setup():
    for one in remembered:
        one.cache_clear()


def pytest_sessionfinish(exitstatus):
    if exitstatus == 4:
        os._exit(35)
"""
"""The same examples each time; what fails need not be made small, which takes most of the time.

mutmut runs the tests again and again in copies of one process, so:

- What functions remember is forgotten before each test: an answer from before the change would hide the change.
- The ids of tests are made anew: pytest escapes those that it kept once more, and then finds no test with them.
- mutmut would take tests that are not found for tests that notice the change. It is told that they do not.
"""


class Change(Struct, frozen=True, order=True):
    """One mutant: the function, its lines before and after."""

    function: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.function}: ``{self.before}`` → ``{self.after}``"

    @property
    def rewords(self) -> bool:
        """Whether it changes nothing but a text of several words: what people read, which tests assert loosely."""
        before, after = _tokens(self.before), _tokens(self.after)
        if len(before) != len(after):
            return False
        changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
        return len(changed) == 1 and all(" " in text and text.endswith('"') for text in changed[0])

    @property
    def retypes(self) -> bool:
        """Whether it changes nothing but the type of a cast: only type checkers read that."""
        return _CAST.sub("cast(T, ", self.before) == _CAST.sub("cast(T, ", self.after)


class Outcome(Struct, frozen=True):
    """What became of a room's mutants."""

    mutants: int
    survivors: tuple[Change, ...]
    uncounted: int

    @property
    def share(self) -> float:
        """The part of those that count which was noticed."""
        counting = self.mutants - self.uncounted
        return 1 - len(self.survivors) / counting if counting else 0.0


def main() -> int:
    """Judge the rooms."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=", ".join(ROOMS))
    asked: list[str] = parser.parse_args().rooms or list(ROOMS)
    reasons = {tuple(found) for found in _REASON.findall(REASONS.read_text(encoding="utf-8"))}
    summary = BUILD / "mutants.json"
    told: dict[str, object] = json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {}
    good = True
    for name in asked:
        outcome = judged(name, ROOMS[name])
        unexplained = [one for one in outcome.survivors if (one.function, one.before, one.after) not in reasons]
        good = good and outcome.share >= WANTED and not unexplained
        print(f"{name:12} {outcome.mutants:5} mutants, {outcome.uncounted:3} uncounted, {outcome.share:7.1%} noticed")
        for one in unexplained:
            print(f"  - {one}")
        told[name] = {
            "mutants": outcome.mutants,
            "killed": outcome.mutants - outcome.uncounted - len(outcome.survivors),
            "uncounted": outcome.uncounted,
            "survived": [str(one) for one in outcome.survivors],
        }
        summary.write_text(json.dumps(told, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    return int(not good)


def judged(name: str, room: Room) -> Outcome:
    """Run mutmut over one room, in a copy."""
    copy = _laid_out(BUILD / "mutants" / name, room)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "COVERAGE_"))}
    with (copy / "log").open("wb") as log:
        command = [sys.executable, "-m", "mutmut", "run"]
        ended = subprocess.run(command, cwd=copy, env=environment, stdout=log, stderr=log, check=False)
    found = copy / "mutants" / f"{room.flat}.meta"
    if ended.returncode != 0 or not found.exists():
        raise SystemExit(f"{name}: mutmut could not run: see {copy / 'log'}")
    codes: dict[str, int | None] = json.loads(found.read_text(encoding="utf-8"))["exit_code_by_key"]
    unnoticed = [_change(copy, key) for key, code in codes.items() if code in _UNNOTICED]
    survivors = tuple(sorted(one for one in unnoticed if not one.rewords and not one.retypes))
    return Outcome(len(codes), survivors, len(unnoticed) - len(survivors))


def _laid_out(copy: Path, room: Room) -> Path:
    """A copy of the project in which the three packages stand side by side."""
    shutil.rmtree(copy, ignore_errors=True)
    unwanted = shutil.ignore_patterns("__pycache__", "fuzz", "bench", "mutants")
    for source in ("capx", "caveats/capx_caveats", "cli/capx_cli", "tests", "docs"):
        shutil.copytree(source, copy / Path(source).name, ignore=unwanted)
    for file in ("README.md", "CHANGELOG.md", "pyproject.toml"):
        shutil.copy(file, copy)
    with (copy / "tests" / "conftest.py").open("a", encoding="utf-8") as conftest:
        conftest.write(_PROFILE)
    (copy / "setup.cfg").write_text(_SETUP.format(file=room.flat, tests="\n    ".join(room.tests)), encoding="utf-8")
    return copy


def _change(copy: Path, key: str) -> Change:
    command = [sys.executable, "-m", "mutmut", "show", key]
    shown = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")]
    before = " ".join(line[1:].strip() for line in lines if line[0] == "-")
    after = " ".join(line[1:].strip() for line in lines if line[0] == "+")
    function = key.rpartition(".")[2].partition("__mutmut_")[0].removeprefix("x_").removeprefix("x\u01c1")
    return Change(function.replace("\u01c1", "_"), before, after)


def _tokens(line: str) -> list[str]:
    found: list[str] = []
    with contextlib.suppress(tokenize.TokenError):  # a line may open what the next ones close
        found.extend(token.string for token in tokenize.generate_tokens(io.StringIO(line).readline))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
