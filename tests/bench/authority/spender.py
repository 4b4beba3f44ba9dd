"""A process that spends from a counter which others spend from too, one at a time, until there is no more.

It is told its settings, says that it is ready, and begins when it is told anything else. It says how many it spent,
when it had spent the last one by the monotonic clock, and how often the store was too busy.
"""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from capx.errors import StoreProblem
from capx.store.factory import open_store
from capx.verify.meter import Spend
from tests.bench.authority.bare import bare
from tests.bench.authority.child import heard, say
from tests.labs.payers import payer

COUNTER: Final = ("counter", "calls")


def main() -> None:
    """Race."""
    told = heard()
    settings = next(told)
    spend = (_bare if settings["bare"] else _of_store)(settings["address"], settings["limit"])
    say("ready")
    next(told)
    done = busy = 0
    last = time.monotonic()
    while True:
        try:
            if not spend():
                break
        except StoreProblem as problem:
            if "busy" not in str(problem):
                say({"problem": str(problem)})
                return
            busy += 1
        else:
            done, last = done + 1, time.monotonic()
    say({"done": done, "last": last, "busy": busy})


def _of_store(address: str, limit: int) -> Callable[[], bool]:
    store, spends = open_store(address), [Spend(*COUNTER, Decimal(1), Decimal(limit))]
    return lambda: not store.spend(payer(), spends, now=int(time.time())).exhausted


def _bare(address: str, limit: int) -> Callable[[], bool]:
    connection: Any = bare(address)
    query = f"UPDATE bare SET spent = spent + 1 WHERE spent < {limit:d}"
    return lambda: connection.execute(query).rowcount == 1


if __name__ == "__main__":
    main()
