-- The eighth step to the schema of a PostgreSQL store: the marks of rows (capx/store/row_marks.py), and by what an older
-- row is found: the tasks of an intent, and the events about a request or the withdrawal of an intent.

ALTER TABLE capx.tasks ADD COLUMN mark bytea;
ALTER TABLE capx.intents ADD COLUMN mark bytea;
ALTER TABLE capx.requests ADD COLUMN mark bytea;
ALTER TABLE capx.grants ADD COLUMN mark bytea;
CREATE INDEX tasks_of_intent ON capx.tasks (intent) WHERE intent IS NOT NULL;
-- The request that an event is about, or the intent that it withdraws. Within a value a quote has a backslash before it,
-- so these names are found nowhere else.
ALTER TABLE capx.events ADD COLUMN subject text;
UPDATE capx.events SET subject = substring(body FROM '"intent":"([^"]*)"') WHERE kind = 'intent_withdrawn';
UPDATE capx.events SET subject = substring(body FROM '"request":"([^"]*)"')
WHERE kind IN ('request_made', 'request_approved', 'request_denied', 'request_expired', 'capability_minted')
    AND strpos(body, '"request":"') > 0;
CREATE INDEX of_subject ON capx.events (subject, position) WHERE subject IS NOT NULL;

UPDATE capx.version SET version = 8;
