"""One call of a SQLite store is one transaction, which locks before it reads."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from capx.store.records import DecisionRecord
from capx.store.sqlite.store import SQLiteStore
from capx.verify.meter import Spend
from tests.labs.payers import payer

NOW = 1_800_000_000
ONE = payer()
SPENDS = [Spend(counter, "calls", Decimal(1), Decimal(9)) for counter in "ab"]
CALLS: dict[str, Callable[[SQLiteStore], Any]] = {
    "burn": lambda store: store.burn(bytes(16), until=NOW + 60, now=NOW),
    "burn all": lambda store: store.burn_all([(bytes([n] * 16), NOW + 60) for n in (1, 2)], now=NOW),
    "spend": lambda store: store.spend(ONE, SPENDS, now=NOW),
    "record": lambda store: store.record([DecisionRecord(id_, NOW, b'{"id":"%s"}' % id_.encode()) for id_ in "de"]),
    "sighted": lambda store: store.sighted("crm", 0, now=NOW),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_a_call_is_one_transaction_that_locks_first(call: Callable[[SQLiteStore], Any], tmp_path: Path) -> None:
    store, said = SQLiteStore.create(tmp_path / "capx.db"), list[str]()
    with store._pool.connection() as connection:
        connection.set_trace_callback(said.append)
    call(store)
    store.close()
    done = [one for one in said if not one.startswith("PRAGMA")]
    assert (done[0], done[-1], done.count("COMMIT")) == ("BEGIN IMMEDIATE", "COMMIT", 1)
