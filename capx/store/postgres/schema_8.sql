-- The eighth step to the schema of a PostgreSQL store: the marks of rows (capx/store/row_marks.py), and by what an older
-- row is found: the tasks of an intent, and the events about a request or the withdrawal of an intent. A request is found
-- by the calls that it is for. And no role fills what everybody needs: an amount has at most 6 digits after the point, so that every store can hold it, and the
-- followers of a role are counted under a lock, so that transactions at once add no more than one does.

ALTER TABLE capx.tasks ADD COLUMN mark bytea;
ALTER TABLE capx.intents ADD COLUMN mark bytea;
ALTER TABLE capx.requests ADD COLUMN mark bytea;
ALTER TABLE capx.grants ADD COLUMN mark bytea;
ALTER TABLE capx.requests ADD COLUMN call text;
ALTER TABLE capx.request_nodes ADD COLUMN call text;
CREATE INDEX requests_of_call ON capx.requests (node, call);
CREATE INDEX request_nodes_of_call ON capx.request_nodes (node, call);
CREATE INDEX tasks_of_intent ON capx.tasks (intent) WHERE intent IS NOT NULL;
-- The request that an event is about, or the intent that it withdraws. Within a value a quote has a backslash before it,
-- so these names are found nowhere else.
ALTER TABLE capx.events ADD COLUMN subject text;
UPDATE capx.events SET subject = substring(body FROM '"intent":"([^"]*)"') WHERE kind = 'intent_withdrawn';
UPDATE capx.events SET subject = substring(body FROM '"request":"([^"]*)"')
WHERE kind IN ('request_made', 'request_approved', 'request_denied', 'request_expired', 'capability_minted')
    AND strpos(body, '"request":"') > 0;
CREATE INDEX of_subject ON capx.events (subject, position) WHERE subject IS NOT NULL;

-- What the authority itself logged about a task: a resource can report very many decisions about one.
CREATE INDEX facts_of_task ON capx.events (task, kind, position) WHERE kind <> 'decision';

-- The decisions that did not allow anything, in order: most of a log is what was allowed. The outcome is compared as it is
-- written in the body: a text with escapes that nobody needs is no `allowed`, and no text here can be one that PostgreSQL
-- does not hold.
CREATE INDEX denials ON capx.events (position)
    WHERE kind = 'decision' AND (body::json -> 'outcome')::text IS DISTINCT FROM '"allowed"';

CREATE OR REPLACE FUNCTION capx.amount(what numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT (what >= 0 AND what < 1e15 AND scale(what) <= 6) IS TRUE
$$;
UPDATE capx.counters SET spent = round(spent, 6) WHERE scale(spent) > 6;

CREATE OR REPLACE FUNCTION capx.sighted(its_name text, known bigint, said bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now bigint := capx.clock(said);
    its text[] := capx.audiences();
    free boolean := its IS NULL;
BEGIN
    IF NOT free AND (split_part(its_name, '/', 1) = ANY (its)) IS NOT TRUE THEN
        RAISE 'role "%" speaks for no follower "%"', session_user, its_name USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT free THEN
        IF (length(its_name) <= 128 AND its_name !~ '[[:cntrl:]]') IS NOT TRUE THEN
            RAISE 'a follower has a name of up to 128 characters, and none that controls a terminal'
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        PERFORM pg_advisory_xact_lock(hashtextextended('capx.sightings ' || session_user, 0));
        -- Nobody knows of a death before it happens.
        SELECT greatest(0, least(known, h.deaths)) INTO STRICT known FROM capx.head h;
        DELETE FROM capx.sightings s WHERE s.follower IN (
            SELECT o.follower FROM capx.sightings o WHERE o.role = session_user AND o.follower <> its_name
            ORDER BY o.at DESC, o.follower OFFSET 99
        );
    END IF;
    INSERT INTO capx.sightings AS held VALUES (its_name, known, now, session_user)
    ON CONFLICT (follower) DO UPDATE SET deaths = excluded.deaths, at = excluded.at, role = excluded.role
    WHERE free OR held.role = session_user;
    IF NOT FOUND THEN
        RAISE 'follower "%" is of another role', its_name USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

UPDATE capx.version SET version = 8;
