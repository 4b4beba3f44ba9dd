-- The eighth step to the schema of a PostgreSQL store: the marks of rows (capx/store/row_marks.py), the keys of first
-- holders, and by what an older row is found: the tasks of an intent, and the events about a request or the withdrawal of
-- an intent. A request is found by the calls that it is for. And no role fills what everybody needs: an amount has at most
-- 6 digits after the point, so that every store can hold it, and the followers of a role are counted under a lock, so that
-- transactions at once add no more than one does. Many decisions are read by one statement.

ALTER TABLE capx.tasks ADD COLUMN mark bytea;
ALTER TABLE capx.tasks ADD COLUMN holder text;
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

-- What was minted in a task: a resource can report very many decisions about one.
CREATE INDEX minted_in_task ON capx.events (task, position) WHERE kind = 'capability_minted';

-- The index of decisions (capx/store/decision_index.py), which the authority makes from the log: the values that are in a
-- block of the log, and the latest time of a decision there.
CREATE TABLE capx.found_in (value text COLLATE "C", block bigint, PRIMARY KEY (value, block));
CREATE TABLE capx.blocks (block bigint PRIMARY KEY, latest bigint NOT NULL);

-- Hashes of the Merkle tree beside the log, and its checkpoints (capx/ledger/stored_tree.py).
CREATE TABLE capx.tree (level int, nth bigint, hash bytea NOT NULL, PRIMARY KEY (level, nth));
CREATE TABLE capx.checkpoints (size bigint PRIMARY KEY, at bigint NOT NULL, note text NOT NULL);

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

-- As before, and the nonces of hops: at most 255, of 11 characters each, because every reader computes the path from them.
CREATE OR REPLACE FUNCTION capx.fits(name text, value json) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    kind text := json_typeof(value);
BEGIN
    IF name IN ('id', 'outcome') THEN
        RETURN kind = 'string';
    ELSIF name IN ('audience', 'action', 'task', 'tenant', 'intent', 'root', 'presentation') THEN
        RETURN kind IN ('string', 'null');
    ELSIF name = 'at' THEN
        RETURN value::text ~ '^[0-9]{1,18}$';
    ELSIF name = 'nonces' THEN
        RETURN kind = 'array' AND capx.are_nonces(value);
    ELSIF name IN ('path', 'hops', 'ids', 'spent', 'reasons') THEN
        RETURN CASE WHEN kind = 'array' THEN NOT EXISTS (
            SELECT FROM json_array_elements(value) AS one (value)
            WHERE json_typeof(one.value) <> CASE WHEN name IN ('spent', 'reasons') THEN 'object' ELSE 'string' END
        ) ELSE false END;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION capx.are_nonces(value json) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    -- Not `{0,254}` in the pattern: that takes PostgreSQL ten times as long.
    SELECT json_array_length(value) <= 255 AND value::text ~ E'^\\[\\s*("[A-Za-z0-9_-]{11}"\\s*(,\\s*"[A-Za-z0-9_-]{11}"\\s*)*)?\\]$'
$$;

-- The facts of decisions that are plainly right: whose fields `capx.facts` would read as the same. For any other, its
-- id is null. One statement reads them all. A bit stands for each known field: their sum tells if one is there twice.
-- Strings with a backslash begin with E, because a session can change what others mean.
CREATE FUNCTION capx.plain_facts(bodies text[], OUT ids text[], OUT tasks text[], OUT audiences text[])
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT
        array_agg(CASE WHEN plain.sound THEN plain.id END ORDER BY given.nth),
        array_agg(plain.task ORDER BY given.nth),
        array_agg(plain.audience ORDER BY given.nth)
    INTO ids, tasks, audiences
    FROM unnest(bodies) WITH ORDINALITY AS given (body, nth)
    CROSS JOIN LATERAL (
        SELECT
            min(fact.value #>> '{}') FILTER (WHERE fact.bit = 1) AS id,
            min(fact.value #>> '{}') FILTER (WHERE fact.bit = 2) AS task,
            min(fact.value #>> '{}') FILTER (WHERE fact.bit = 4) AS audience,
            sum(fact.bit) = bit_or(fact.bit) AND bool_and(CASE
                WHEN fact.bit IS NULL THEN NULL
                WHEN fact.bit IN (1, 8) THEN fact.kind = 'string'
                WHEN fact.bit < 512 THEN fact.kind IN ('string', 'null')
                WHEN fact.bit = 512 THEN fact.value::text ~ '^[0-9]{1,18}$'
                WHEN fact.kind <> 'array' THEN false
                WHEN fact.value::text = '[]' THEN true
                WHEN fact.bit = 32768 THEN capx.are_nonces(fact.value)
                WHEN fact.bit < 8192 THEN fact.value::text ~ E'^\\["[^"\\\\]*"(,"[^"\\\\]*")*\\]$'
                ELSE NOT EXISTS (
                    SELECT FROM json_array_elements(fact.value) AS one (value) WHERE json_typeof(one.value) <> 'object'
                )
            END) AS sound
        FROM (
            SELECT each.value, json_typeof(each.value) AS kind, CASE each.key
                WHEN 'id' THEN 1 WHEN 'task' THEN 2 WHEN 'audience' THEN 4 WHEN 'outcome' THEN 8
                WHEN 'action' THEN 16 WHEN 'tenant' THEN 32 WHEN 'intent' THEN 64 WHEN 'root' THEN 128
                WHEN 'presentation' THEN 256 WHEN 'at' THEN 512 WHEN 'path' THEN 1024 WHEN 'hops' THEN 2048
                WHEN 'ids' THEN 4096 WHEN 'spent' THEN 8192 WHEN 'reasons' THEN 16384 WHEN 'nonces' THEN 32768
            END AS bit
            -- Only what is short and not deep is read here. 64 brackets are no deeper than 64.
            FROM json_each(CASE
                WHEN octet_length(given.body) <= 65536 AND strpos(given.body, E'\\u0000') = 0
                    AND octet_length(replace(replace(given.body, '[', ''), '{', '')) >= octet_length(given.body) - 64
                THEN given.body::json
                ELSE '{}'
            END) AS each (key, value)
            -- So that the bit is computed once for each field.
            OFFSET 0
        ) AS fact
    ) AS plain;
END $$;

-- Writes decisions to the log. A decision is identified by its audience and its id: by the id only, one audience could
-- use up the ids of another one, and so keep its decisions out of the log.
CREATE OR REPLACE FUNCTION capx.record(ats bigint[], bodies text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    its text[] := capx.audiences();
    -- Beyond 2^53 - 1, no backup could be restored. A resource does not know the future either.
    latest bigint := CASE
        WHEN its IS NULL THEN 9007199254740991 ELSE floor(extract(epoch FROM clock_timestamp())) + 300
    END;
    facts record;
    ids text[];
    tasks text[];
    audiences text[];
    pos bigint;
    last bytea;
BEGIN
    -- An array of the caller may have other bounds: then its elements would have other numbers than their facts.
    bodies := ARRAY(SELECT unnest(bodies));
    ats := ARRAY(SELECT unnest(ats) LIMIT cardinality(bodies));
    -- Read before the head is held, which nobody is to wait for longer than it takes to write.
    -- For a few, the statement takes longer than it saves.
    IF cardinality(bodies) > 3 THEN
        SELECT plain.ids, plain.tasks, plain.audiences INTO ids, tasks, audiences FROM capx.plain_facts(bodies) AS plain;
    END IF;
    FOR n IN 1 .. cardinality(bodies) LOOP
        IF ids[n] IS NULL THEN
            facts := capx.facts(bodies[n]);
            ids[n] := facts.id;
            tasks[n] := facts.task;
            audiences[n] := facts.audience;
        END IF;
        IF its IS NOT NULL AND audiences[n] = ANY (its) IS NOT TRUE THEN
            RAISE 'role "%" does not record for audience "%"', session_user, audiences[n]
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        IF (ats[n] BETWEEN 0 AND latest) IS NOT TRUE THEN
            RAISE 'a decision was made at a time that has come: is a clock wrong?'
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
    SELECT h.position, h.hash INTO STRICT pos, last FROM capx.head h FOR UPDATE;
    FOR n IN 1 .. cardinality(bodies) LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM capx.events e
            WHERE e.kind = 'decision' AND e.decision = ids[n] AND e.audience IS NOT DISTINCT FROM audiences[n]
        );
        pos := pos + 1;
        last := capx.digest(last, pos, ats[n], 'decision', bodies[n]);
        INSERT INTO capx.events (position, at, kind, body, hash, decision, audience, task)
        VALUES (pos, ats[n], 'decision', bodies[n], last, ids[n], audiences[n], tasks[n]);
    END LOOP;
    UPDATE capx.head SET position = pos, hash = last;
END $$;

UPDATE capx.version SET version = 8;
