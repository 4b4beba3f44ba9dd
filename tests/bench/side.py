"""One side of a comparison of two commits: a process that does a part of the benchmark as often as it is asked to.

It is run by its path, in an environment where `capx` and `tests.bench` are those of one commit. It writes a line of
JSON with what it can do, as (op, who, at). Then each line that it reads asks for (op, who, at, count), and it answers
with the seconds that they took.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from capx import RootKey, StoreLiveness
from capx.store.sqlite.store import SQLiteStore
from tests.bench import ours, workload
from tests.bench.authority import asking, keeping
from tests.bench.authority.places import Places
from tests.bench.guarding.requests import guarded_requests
from tests.bench.mcp.gate import gate_contenders
from tests.bench.measuring import cores, on_cores

if TYPE_CHECKING:
    from tests.bench.measuring import Contender


def verification(stack: ExitStack, folder: Path, lengths: Sequence[int]) -> Iterable["Contender"]:
    """Verification of bearer tokens of these lengths."""
    root, now, path = RootKey.generate(), int(time.time()), folder / "capx.db"
    store = stack.enter_context(closing(SQLiteStore.create(path)))
    liveness = stack.enter_context(closing(StoreLiveness(path)))
    for hops in lengths:
        bench = ours.Bench(workload.chain_of(hops, root, now), root, liveness)
        for one in ours.contenders(bench, store):
            if one.op == "verify" and one.who in {ours.FLOOR, ours.COLD, ours.WARM}:
                yield one


def authority(stack: ExitStack, folder: Path, _: Sequence[int]) -> Iterable["Contender"]:
    """Tasks, asks, and what a resource burns, records and spends, at each store."""
    places = Places(folder, stack)
    for contenders in (keeping.tasks, asking.asks, keeping.resources):
        yield from stack.enter_context(contenders(places))


def guard(stack: ExitStack, folder: Path, _: Sequence[int]) -> Iterable["Contender"]:
    """Requests to a route, guarded and bare."""
    return stack.enter_context(guarded_requests(folder / "requests"))


def mcp(stack: ExitStack, folder: Path, _: Sequence[int]) -> Iterable["Contender"]:
    """Tool calls at the gate of MCP."""
    return stack.enter_context(gate_contenders(folder / "gate"))


PARTS = {"authority": authority, "verify": verification, "guard": guard, "mcp": mcp}


def main(part: str, lengths: list[int]) -> None:
    """Answer until nobody asks any more."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs = {(one.op, one.who, one.at): one.run for one in PARTS[part](stack, folder, lengths)}
        # A server of a store, which was started above, may have every core.
        stack.enter_context(on_cores({min(cores())}))
        print(json.dumps(list(runs)), flush=True)
        for line in sys.stdin:
            op, who, at, count = json.loads(line)
            print(runs[op, who, at](count), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], [int(one) for one in sys.argv[2:]])
