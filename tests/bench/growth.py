"""How verifying grows: with the caveats of a block, and with the dead, in the store that services use."""

import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from capx import RootKey, StoreLiveness
from capx.store.sqlite.store import SQLiteStore
from capx.verify.protocols import Liveness
from tests.bench import ours, workload
from tests.bench.measuring import Contender

CAVEATS: Final = (5, 10, 20, 40)
"""Caveats in each of three hops."""
_HOPS: Final = 3


def by_caveats(liveness: Liveness) -> list[Contender]:
    """Three hops of five caveats each, then of more: each further one a `where` like the first."""
    root, now = RootKey.generate(), int(time.time())
    contenders: list[Contender] = []
    for caveats in CAVEATS:
        more = [workload.WHERE] * (caveats - CAVEATS[0])
        bench = ours.Bench(workload.chain_of(_HOPS, root, now, *more), root, liveness)
        contenders += [
            Contender("caveats", caveats, ours.FLOOR, bench.floor),
            Contender("caveats", caveats, ours.COLD, bench.verify(bench.verifier(warm=False))),
            Contender("caveats", caveats, ours.WARM, bench.verify(bench.verifier(warm=True))),
        ]
    return contenders


@contextmanager
def by_deaths(folder: Path, dead: int) -> Generator[list[Contender]]:
    """Eight hops, with nobody dead and with so many."""
    root, now = RootKey.generate(), int(time.time())
    capability = workload.chain_of(8, root, now)
    contenders: list[Contender] = []
    views: list[StoreLiveness] = []
    for count in (0, dead):
        view = StoreLiveness(_cemetery(folder / f"{count}-dead.db", count, now))
        views.append(view)
        bench = ours.Bench(capability, root, view)
        contenders += [
            Contender("deaths", count, ours.COLD, bench.verify(bench.verifier(warm=False))),
            Contender("deaths", count, ours.WARM, bench.verify(bench.verifier(warm=True))),
        ]
    yield contenders
    for view in views:
        view.close()


def _cemetery(path: Path, count: int, now: int) -> Path:
    """A store in which so many have died that nobody here descends from."""
    store = SQLiteStore.create(path)
    with store.write() as writing:
        position = writing.append("note", b"{}", at=now).position
        for _ in range(count):
            writing.kill(secrets.token_bytes(16), "revoked", at=now, position=position)
    store.close()
    return path
