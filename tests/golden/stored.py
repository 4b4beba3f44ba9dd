"""The schema of the SQLite store, and each event as it is written."""

import sqlite3

store = sqlite3.connect("file:home/capx.db?mode=ro", uri=True)
for (statement,) in store.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"):
    print(statement)
for row in store.execute("SELECT body FROM events ORDER BY position"):
    print(row[0] if isinstance(row[0], str) else row[0].decode())
