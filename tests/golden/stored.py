"""What the SQLite store holds: its schema, or the body of each event, by the argument `schema` or `events`."""

import sqlite3
import sys

QUERIES = {
    "schema": "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name",
    "events": "SELECT body FROM events ORDER BY position",
}
store = sqlite3.connect("file:home/capx.db?mode=ro", uri=True)
for (text,) in store.execute(QUERIES[sys.argv[1]]):
    print(text)
