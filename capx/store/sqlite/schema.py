"""The tables of a SQLite store, as a list of migration steps.

Laws: a released step never changes, because a restoration compares the schema of a file with this text. A new store
runs all steps, an older one the steps that it lacks, in one transaction.
"""

from typing import Final

# The comments are outside of the statements, because SQLite keeps the text of each statement in the file.
MIGRATIONS: Final = (
    # 1: one row, `head`, counts positions and deaths. A `key` is an id (BLOB) or a name (TEXT), hence ANY.
    """
CREATE TABLE head (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    epoch TEXT NOT NULL, position INTEGER NOT NULL, hash BLOB NOT NULL, deaths INTEGER NOT NULL
) STRICT;
CREATE TABLE events (
    position INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX decisions ON events (json_extract(body, '$.id')) WHERE kind = 'decision';
CREATE TABLE tasks (
    id TEXT PRIMARY KEY, root TEXT NOT NULL UNIQUE, opened INTEGER NOT NULL, expires INTEGER NOT NULL,
    tenant TEXT, purpose TEXT, state TEXT NOT NULL, ended INTEGER, position INTEGER, node BLOB NOT NULL UNIQUE
) STRICT;
CREATE TABLE deaths (
    seq INTEGER PRIMARY KEY, key ANY NOT NULL UNIQUE, reason TEXT NOT NULL,
    at INTEGER NOT NULL, position INTEGER NOT NULL
) STRICT;
CREATE TABLE burnt (presentation BLOB PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX burnt_until ON burnt (until);
CREATE TABLE forgotten (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), until INTEGER NOT NULL) STRICT;
INSERT INTO forgotten VALUES (1, 0);
""",
    # 2: forgotten deaths, epochs with seconds, budgets and followers. `of_kind` leaves out the decisions, which are
    # most of the log, so that the index stays small.
    """
ALTER TABLE head ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
UPDATE head SET epoch = epoch || '.0';
CREATE INDEX of_task ON events (json_extract(body, '$.task')) WHERE json_extract(body, '$.task') IS NOT NULL;
CREATE INDEX of_kind ON events (kind, position) WHERE kind <> 'decision';
ALTER TABLE tasks ADD COLUMN revocations INTEGER NOT NULL DEFAULT 0;
CREATE INDEX overdue ON tasks (expires) WHERE state = 'active';
CREATE TABLE counters (
    counter TEXT NOT NULL, unit TEXT NOT NULL, spent TEXT NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (counter, unit)
) STRICT, WITHOUT ROWID;
CREATE TABLE sightings (follower TEXT PRIMARY KEY, deaths INTEGER NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
""",
    # 3: intents, requests, and because of which token a capability was granted (`strengths` has the ids of the token).
    """
ALTER TABLE tasks ADD COLUMN principal TEXT;
ALTER TABLE tasks ADD COLUMN intent TEXT;
CREATE TABLE intents (
    nth INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, principal TEXT, document TEXT, proof TEXT,
    opened INTEGER NOT NULL, withdrawn INTEGER
) STRICT;
CREATE TABLE requests (
    nth INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, task TEXT NOT NULL, node TEXT NOT NULL, state TEXT NOT NULL,
    asked INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX requests_of_task ON requests (task, node, state);
CREATE INDEX requests_pending ON requests (nth) WHERE state = 'pending';
CREATE TABLE grants (
    capability BLOB PRIMARY KEY, kid TEXT NOT NULL, issued INTEGER NOT NULL, at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_of_kid ON grants (kid);
CREATE INDEX grants_at ON grants (at, issued);
CREATE TABLE strengths (
    id BLOB NOT NULL, capability BLOB NOT NULL, PRIMARY KEY (id, capability)
) STRICT, WITHOUT ROWID;
""",
    # 4: what each presentation has paid into each counter, and which capabilities were minted.
    """
CREATE INDEX minted ON events (json_extract(body, '$.ids[1]')) WHERE kind = 'capability_minted';
CREATE TABLE paid (
    presentation BLOB NOT NULL, counter TEXT NOT NULL, unit TEXT NOT NULL, admission BLOB NOT NULL,
    audience TEXT NOT NULL, cost TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (presentation, counter, unit)
) STRICT, WITHOUT ROWID;
""",
    # 5: when a presentation gave back what it had paid.
    """
ALTER TABLE paid ADD COLUMN given INTEGER;
""",
    # 6: at which nodes a request counts: those of its path, but for the ones above a node that an operator revoked. The
    # root has depth 0. A row that capx did not write must not keep a store from being migrated.
    """
CREATE TABLE request_nodes (
    node TEXT NOT NULL, audience TEXT NOT NULL, request TEXT NOT NULL, depth INTEGER NOT NULL,
    PRIMARY KEY (node, audience, request)
) STRICT, WITHOUT ROWID;
CREATE INDEX request_nodes_of_request ON request_nodes (request, depth);
INSERT OR IGNORE INTO request_nodes
    SELECT one.value, json_extract(made.body, '$.audience'), made.id, one.key
    FROM (SELECT id, CASE WHEN json_valid(body) THEN body ELSE '{}' END AS body FROM requests) AS made,
        json_each(made.body, '$.path') AS one
    WHERE one.type = 'text' AND json_type(made.body, '$.audience') = 'text';
""",
    # 7: the marks of rows, and the keys of first holders. Indexes of the tasks of an intent, of the events about a
    # request, of withdrawals, of requests by call, and of what was minted in a task. And the index of decisions
    # (capx/store/decision_index.py), which the migration makes from the log. And hashes of the Merkle tree beside the
    # log, with its checkpoints (capx/ledger/stored_tree.py).
    """
ALTER TABLE tasks ADD COLUMN mark BLOB;
ALTER TABLE tasks ADD COLUMN holder TEXT;
ALTER TABLE intents ADD COLUMN mark BLOB;
ALTER TABLE requests ADD COLUMN mark BLOB;
ALTER TABLE grants ADD COLUMN mark BLOB;
CREATE INDEX tasks_of_intent ON tasks (intent) WHERE intent IS NOT NULL;
CREATE INDEX of_request ON events (json_extract(body, '$.request'), position)
    WHERE kind <> 'decision' AND json_extract(body, '$.request') IS NOT NULL;
ALTER TABLE requests ADD COLUMN call TEXT;
ALTER TABLE request_nodes ADD COLUMN call TEXT;
CREATE INDEX requests_of_call ON requests (node, call);
CREATE INDEX request_nodes_of_call ON request_nodes (node, call);
CREATE INDEX withdrawals ON events (json_extract(body, '$.intent')) WHERE kind = 'intent_withdrawn';
CREATE INDEX minted_in_task ON events (json_extract(body, '$.task')) WHERE kind = 'capability_minted';
CREATE TABLE found_in (value TEXT NOT NULL, block INTEGER NOT NULL, PRIMARY KEY (value, block)) STRICT, WITHOUT ROWID;
CREATE TABLE blocks (block INTEGER PRIMARY KEY, latest INTEGER NOT NULL) STRICT;
CREATE TABLE tree (
    level INTEGER NOT NULL, nth INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, nth)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, at INTEGER NOT NULL, note TEXT NOT NULL) STRICT;
""",
    # 8: up to where hooks were told.
    """
CREATE TABLE hooks (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, position INTEGER NOT NULL) STRICT, WITHOUT ROWID;
""",
)
"""The SQL statements of each step."""

VERSION: Final = len(MIGRATIONS)
"""The version of the schema that this code reads and writes."""
