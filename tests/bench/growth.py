"""How verifying grows: with the caveats of a block, and with the dead, in the store that services use."""

import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from capx import RootKey, StoreLiveness
from capx.store.sqlite.store import SQLiteStore
from capx.verify.protocols import Liveness
from tests.bench import ours, workload
from tests.bench.authority.places import bury
from tests.bench.measuring import Contender

CAVEATS: Final = (5, 10, 20, 40)
"""Caveats in each of three hops."""


def by_caveats(liveness: Liveness) -> list[Contender]:
    """Three hops of five caveats each, then of more: each further one a `where` like the first."""
    root, now = RootKey.generate(), int(time.time())
    contenders: list[Contender] = []
    for caveats in CAVEATS:
        more = [workload.WHERE] * (caveats - CAVEATS[0])
        bench = ours.Bench(workload.chain_of(3, root, now, *more), root, liveness)
        contenders += _verifications("caveats", caveats, CAVEATS[0], bench)
    return contenders


@contextmanager
def by_deaths(folder: Path, dead: int) -> Generator[list[Contender]]:
    """Eight hops, with nobody dead and with so many."""
    root, now = RootKey.generate(), int(time.time())
    capability = workload.chain_of(8, root, now)
    contenders: list[Contender] = []
    with ExitStack() as stack:
        for count in (0, dead):
            path = folder / f"{count}-dead.db"
            SQLiteStore.create(path).close()
            bury(path, count, now)
            view = stack.enter_context(closing(StoreLiveness(path)))
            found = _verifications("deaths", count, 0, ours.Bench(capability, root, view))
            contenders += [one for one in found if one.who != ours.FLOOR]
        yield contenders


def _verifications(op: str, at: int, least: int, bench: ours.Bench) -> list[Contender]:
    """Each beside the same where there is least, and beside the floor where there is as much."""
    return [
        Contender(op, at, who, run, {str(least): (op, least, who), ours.FLOOR: (op, at, ours.FLOOR)})
        for who, run in bench.verifications().items()
    ]
