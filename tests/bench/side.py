"""One side of a comparison of two commits: a process that verifies tokens as often as it is asked to.

It is run by its path, in an environment where `capx` and `tests.bench` are those of one commit. It writes a line of
JSON with what it can verify, as (who, hops). Then each line that it reads asks for (who, hops, count), and it answers
with the seconds that they took.
"""

import json
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from capx import RootKey, StoreLiveness
from capx.store.sqlite.store import SQLiteStore
from tests.bench import ours, workload

if TYPE_CHECKING:
    from tests.bench.measuring import Run


def main(lengths: list[int]) -> None:
    """Answer until nobody asks any more."""
    root, now = RootKey.generate(), int(time.time())
    runs: dict[tuple[str, int], Run] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "capx.db"
        with closing(SQLiteStore.create(path)) as store, closing(StoreLiveness(path)) as liveness:
            for hops in lengths:
                bench = ours.Bench(workload.chain_of(hops, root, now), root, liveness)
                for one in ours.contenders(bench, store):
                    if one.op == "verify" and one.who in {ours.FLOOR, ours.COLD, ours.WARM}:
                        runs[one.who, one.at] = one.run
            print(json.dumps(list(runs)), flush=True)
            for line in sys.stdin:
                who, at, count = json.loads(line)
                print(runs[who, at](count), flush=True)


if __name__ == "__main__":
    main([int(one) for one in sys.argv[1:]])
