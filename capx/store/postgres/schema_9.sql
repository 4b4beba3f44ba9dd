-- The ninth step to the schema of a PostgreSQL store: up to which event each hook was told. And the tasks of a person and of
-- an intent are found in the order of their opening.

CREATE TABLE capx.hooks (name text PRIMARY KEY, epoch text NOT NULL, position bigint NOT NULL);
CREATE INDEX tasks_of_principal ON capx.tasks (principal, nth) WHERE principal IS NOT NULL;
-- Without the number, PostgreSQL may look through all tasks, the newest first, for the newest ones of an intent.
DROP INDEX capx.tasks_of_intent;
CREATE INDEX tasks_of_intent ON capx.tasks (intent, nth) WHERE intent IS NOT NULL;

UPDATE capx.version SET version = 9;
