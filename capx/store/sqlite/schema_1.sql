-- The schema of a SQLite store, version 1.
--
-- Times are in Unix seconds. Tasks are numbered by their rowid, in the order of their insertion. The comments are
-- outside of the statements, because SQLite keeps the text of each statement in the file.

-- The log: one row, `head`, counts positions and deaths.
CREATE TABLE head (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    epoch TEXT NOT NULL, position INTEGER NOT NULL, hash BLOB NOT NULL, deaths INTEGER NOT NULL,
    forgotten INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE events (
    position INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX decisions ON events (json_extract(body, '$.id')) WHERE kind = 'decision';
CREATE INDEX of_task ON events (json_extract(body, '$.task')) WHERE json_extract(body, '$.task') IS NOT NULL;
-- Without the decisions, which are most of the log, so that these indexes stay small.
CREATE INDEX of_kind ON events (kind, position) WHERE kind <> 'decision';
CREATE INDEX of_request ON events (json_extract(body, '$.request'), position)
    WHERE kind <> 'decision' AND json_extract(body, '$.request') IS NOT NULL;
CREATE INDEX withdrawals ON events (json_extract(body, '$.intent')) WHERE kind = 'intent_withdrawn';
CREATE INDEX minted ON events (json_extract(body, '$.ids[1]')) WHERE kind = 'capability_minted';
CREATE INDEX minted_in_task ON events (json_extract(body, '$.task')) WHERE kind = 'capability_minted';

-- The index of decisions (capx/store/decision_index.py), which the authority makes from the log: the values that are in
-- a block of the log, and the latest time of a decision there.
CREATE TABLE found_in (value TEXT NOT NULL, block INTEGER NOT NULL, PRIMARY KEY (value, block)) STRICT, WITHOUT ROWID;
CREATE TABLE blocks (block INTEGER PRIMARY KEY, latest INTEGER NOT NULL) STRICT;

-- Hashes of the Merkle tree beside the log, and its checkpoints (capx/ledger/stored_tree.py).
CREATE TABLE tree (
    level INTEGER NOT NULL, nth INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, nth)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, at INTEGER NOT NULL, note TEXT NOT NULL) STRICT;

-- A row that says nothing: it is written to learn whether the store can be written.
CREATE TABLE probe (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), times INTEGER NOT NULL) STRICT;

-- Tasks. `position` is that of the end in the log, `holder` the key of the first agent. What a `mark` is:
-- capx/store/row_marks.py.
CREATE TABLE tasks (
    id TEXT PRIMARY KEY, root TEXT NOT NULL UNIQUE, opened INTEGER NOT NULL, expires INTEGER NOT NULL,
    tenant TEXT, purpose TEXT, state TEXT NOT NULL, ended INTEGER, position INTEGER, node BLOB NOT NULL UNIQUE,
    revocations INTEGER NOT NULL DEFAULT 0, principal TEXT, intent TEXT, mark BLOB, holder TEXT
) STRICT;
CREATE INDEX overdue ON tasks (expires) WHERE state = 'active';
-- In these two, the tasks are in the order of their opening: SQLite puts the rowid last in each index.
CREATE INDEX tasks_of_intent ON tasks (intent) WHERE intent IS NOT NULL;
CREATE INDEX tasks_of_principal ON tasks (principal) WHERE principal IS NOT NULL;
CREATE TABLE intents (
    nth INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, principal TEXT, document TEXT, proof TEXT,
    opened INTEGER NOT NULL, withdrawn INTEGER, mark BLOB
) STRICT;

-- Requests of agents. `call` says which calls a request is for, and `asks` whom it asks (`RequestRecord.call` and
-- `RequestRecord.asks` of capx/store/records.py).
CREATE TABLE requests (
    nth INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, task TEXT NOT NULL, node TEXT NOT NULL, state TEXT NOT NULL,
    asked INTEGER NOT NULL, body TEXT NOT NULL, mark BLOB, call TEXT, until INTEGER NOT NULL,
    principal TEXT NOT NULL, asks TEXT NOT NULL
) STRICT;
CREATE INDEX requests_of_task ON requests (task, node, state);
CREATE INDEX requests_pending ON requests (nth) WHERE state = 'pending';
CREATE INDEX requests_of_call ON requests (node, call);
-- Those that wait: by their end, and in groups (`WaitingGroup` of capx/store/records.py), by which inboxes find theirs.
CREATE INDEX requests_due ON requests (until, nth) WHERE state = 'pending';
CREATE INDEX requests_waiting ON requests (principal, asks, nth) WHERE state = 'pending';
-- How many of each group wait, and how often that has changed.
CREATE TABLE waiting (
    principal TEXT NOT NULL, asks TEXT NOT NULL, count INTEGER NOT NULL, changes INTEGER NOT NULL,
    PRIMARY KEY (principal, asks)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER request_waits AFTER INSERT ON requests WHEN new.state = 'pending' BEGIN
    INSERT INTO waiting VALUES (new.principal, new.asks, 1, 1)
    ON CONFLICT DO UPDATE SET count = count + 1, changes = changes + 1; END;
CREATE TRIGGER request_waits_again AFTER UPDATE OF state, asks, until ON requests WHEN new.state = 'pending' BEGIN
    INSERT INTO waiting VALUES (new.principal, new.asks, 1, 1)
    ON CONFLICT DO UPDATE SET count = count + 1, changes = changes + 1; END;
CREATE TRIGGER request_waited AFTER UPDATE OF state, asks, until ON requests WHEN old.state = 'pending' BEGIN
    UPDATE waiting SET count = count - 1, changes = changes + 1 WHERE principal = old.principal AND asks = old.asks; END;
CREATE TRIGGER request_is_forgotten AFTER DELETE ON requests WHEN old.state = 'pending' BEGIN
    UPDATE waiting SET count = count - 1, changes = changes + 1 WHERE principal = old.principal AND asks = old.asks; END;
-- At which nodes a request counts: those of its path, but for the ones above a node that an operator revoked. The root
-- has depth 0.
CREATE TABLE request_nodes (
    node TEXT NOT NULL, audience TEXT NOT NULL, request TEXT NOT NULL, depth INTEGER NOT NULL, call TEXT,
    PRIMARY KEY (node, audience, request)
) STRICT, WITHOUT ROWID;
CREATE INDEX request_nodes_of_request ON request_nodes (request, depth);
CREATE INDEX request_nodes_of_call ON request_nodes (node, call);
-- What people have signed, by the position of its event; never changed, and never forgotten.
CREATE TABLE answers (
    position INTEGER PRIMARY KEY, task TEXT NOT NULL, body TEXT NOT NULL, mark BLOB
) STRICT;
CREATE INDEX answers_of_task ON answers (task, position);
-- What agents have asked for, by the position of the event that commits to it; never changed, and never forgotten.
CREATE TABLE asks (position INTEGER PRIMARY KEY, task TEXT NOT NULL, salt BLOB NOT NULL, args TEXT NOT NULL) STRICT;
CREATE INDEX asks_of_task ON asks (task, position);
-- What was granted at run time, and because of which token: `strengths` has the ids of that token.
CREATE TABLE grants (
    capability BLOB PRIMARY KEY, kid TEXT NOT NULL, issued INTEGER NOT NULL, at INTEGER NOT NULL, mark BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_of_kid ON grants (kid);
CREATE INDEX grants_at ON grants (at, issued);
CREATE TABLE strengths (
    id BLOB NOT NULL, capability BLOB NOT NULL, PRIMARY KEY (id, capability)
) STRICT, WITHOUT ROWID;

-- Deaths. A `key` is an id (BLOB) or a name (TEXT), hence ANY.
CREATE TABLE deaths (
    seq INTEGER PRIMARY KEY, key ANY NOT NULL UNIQUE, reason TEXT NOT NULL,
    at INTEGER NOT NULL, position INTEGER NOT NULL
) STRICT;
-- How many deaths each follower knows.
CREATE TABLE sightings (follower TEXT PRIMARY KEY, deaths INTEGER NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Presentations that were used, until their windows have passed; what passed before `forgotten` may be cleared away.
CREATE TABLE burnt (presentation BLOB PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX burnt_until ON burnt (until);
CREATE TABLE forgotten (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), until INTEGER NOT NULL) STRICT;
INSERT INTO forgotten VALUES (1, 0);

-- Budgets: what is spent, what each presentation has paid into each counter, and when it gave that back.
CREATE TABLE counters (
    counter TEXT NOT NULL, unit TEXT NOT NULL, spent TEXT NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (counter, unit)
) STRICT, WITHOUT ROWID;
CREATE TABLE paid (
    presentation BLOB NOT NULL, counter TEXT NOT NULL, unit TEXT NOT NULL, admission BLOB NOT NULL,
    audience TEXT NOT NULL, cost TEXT NOT NULL, at INTEGER NOT NULL, given INTEGER,
    PRIMARY KEY (presentation, counter, unit)
) STRICT, WITHOUT ROWID;

-- Up to which event each hook was told.
CREATE TABLE hooks (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, position INTEGER NOT NULL) STRICT, WITHOUT ROWID;
