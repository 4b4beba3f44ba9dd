"""The store keeps what outlives the process: tasks, the log, revocations, counters and used presentations.

    import tempfile

    from capx.store import create_store

    with tempfile.TemporaryDirectory() as folder:
        store = create_store(f"{folder}/capx.db")          # or postgresql://USER@HOST/DATABASE
        with store.write() as transaction:
            assert transaction.head().position == 0
        store.close()

Modules:

    protocols, records       the operations of a store, and the rows that it takes and returns
    log, events, lifecycle   the hash-chained log, its entries, and the states of a task
    decision_query           a search for recorded decisions
    decision_index           where in the log decisions with a value are
    decision_groups          the decisions that are about one call
    call_page                a page of the newest calls
    row_marks, row_check     the marks of rows, and a check of rows against the log
    continuity, check        checks: does a store continue what a follower knows, and is its log whole?
    backup, replace, restore_checks, atomic_file    copies of a store
    factory                  opens or creates a store by its path or URL
    sql/                     the SQL statements that both stores share
    sqlite/, postgres/       the two stores
"""

from capx.store.factory import create_store, open_store
from capx.store.protocols import Store

__all__ = ["Store", "create_store", "open_store"]
