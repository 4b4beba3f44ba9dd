"""What outlives the process: tasks, the log, revocations, counters and burnt presentations.

    import tempfile

    from capx.store import create_store

    with tempfile.TemporaryDirectory() as folder:
        store = create_store(f"{folder}/capx.db")          # or postgresql://USER@HOST/DATABASE
        with store.write() as transaction:
            assert transaction.head().position == 0
        store.close()

Modules:

    protocols, records       what a store can do, and what it gives
    log, events, lifecycle   the hash-chained log, its entries, and the states of a task
    decision_query           which decisions to find
    continuity, check        whether a log goes on from what was known, and whether it is whole
    backup, replace, restore_checks, atomic_file    copies of a store
    factory                  a store by its path or URL
    sql/                     the statements that both stores say alike
    sqlite/, postgres/       the two stores
"""

from capx.store.factory import create_store, open_store
from capx.store.protocols import Store

__all__ = ["Store", "create_store", "open_store"]
