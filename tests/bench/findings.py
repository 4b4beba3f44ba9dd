"""What a run has found so far, and how it goes on: what cannot be measured is told, and the rest is measured."""

import argparse
from collections.abc import Callable, Iterable
from functools import partial

from rich.progress import Progress

from tests.bench.authority.figures import Figure
from tests.bench.measuring import Contender, Row, Unmeasurable, cores, measure, on_cores


class Findings:
    """Rows, figures, and what is missing with its reason."""

    def __init__(self, options: argparse.Namespace, progress: Progress) -> None:
        self.options = options
        self.rows: list[Row] = []
        self.figures: list[Figure] = []
        self.missing: dict[str, str] = {}
        self._progress = progress

    def told(self, what: str, total: int) -> Callable[[], None]:
        """What is to be called after each of so many steps."""
        task = self._progress.add_task(what, total=total)
        return partial(self._progress.update, task, advance=1, refresh=True)

    def in_turn(self, what: str, contenders: list[Contender], rounds: int = 0) -> None:
        """Time contenders on one core, in so many rounds or as many as were asked for."""
        rounds = rounds or self.options.rounds
        told = self.told(what, rounds)
        with on_cores({max(cores())}):
            rows, missing = measure(contenders, rounds=rounds, seconds=self.options.turn, told=told)
        self.rows += rows
        self.missing |= missing

    def attempt(self, what: str, measured: Callable[[], Iterable[Figure]]) -> None:
        """Keep figures; what was measured before a problem stays."""
        try:
            for one in measured():
                self.figures.append(one)
        except Unmeasurable as reason:
            self.missing[what] = str(reason)
