-- The first step to the schema of a PostgreSQL store: its tables, and the functions through which resources use it.
--
-- Laws:
--
-- * Roles other than the owner may call only some functions (FOR_RESOURCES in schema.py). Each of these runs with the
--   rights of the owner, has a fixed search path, and names every table with its schema.
-- * The caller is `session_user`, which no caller can change. A role in `capx.resources` records only for its
--   audiences, and acknowledges deaths only for its own followers. The owner, and every member of its role, may do all
--   of this.
-- * The time that a resource gives is bounded to a few seconds around the server's own time, because all audiences
--   share the memory of presentations: a false time would clear away those of others.
-- * Amounts never shrink.
-- * A decision is recorded only if its size, its depth and the types of its values are right, so that every reader of
--   the log can read it.
--
-- This step was released: its statements never change.

-- The body of an event is text, because exactly its bytes are hashed. The fields that queries look for have columns of
-- their own beside it. Positions come from one row, `head`, and not from an identity column: a writer locks this row,
-- so it is the only one that writes the log, and no reader sees a position before a lower one.

CREATE SCHEMA capx;
CREATE TABLE capx.version (only_row int PRIMARY KEY CHECK (only_row = 1), version int NOT NULL);
INSERT INTO capx.version VALUES (1, 1);
CREATE TABLE capx.head (
    only_row int PRIMARY KEY CHECK (only_row = 1),
    epoch text NOT NULL, position bigint NOT NULL, hash bytea NOT NULL,
    deaths bigint NOT NULL, forgotten bigint NOT NULL
);
CREATE TABLE capx.events (
    position bigint PRIMARY KEY, at bigint NOT NULL, kind text NOT NULL, body text NOT NULL, hash bytea NOT NULL,
    decision text, audience text, task text
);
CREATE INDEX decisions ON capx.events (decision) WHERE kind = 'decision';
CREATE INDEX of_task ON capx.events (task, position) WHERE task IS NOT NULL;
CREATE INDEX of_kind ON capx.events (kind, position) WHERE kind <> 'decision';
-- `nth` numbers the rows in the order of their insertion, as the rowid does in SQLite.
CREATE TABLE capx.tasks (
    nth bigint PRIMARY KEY,
    id text NOT NULL UNIQUE, root text NOT NULL UNIQUE, opened bigint NOT NULL, expires bigint NOT NULL,
    tenant text, purpose text, state text NOT NULL, ended bigint, position bigint, principal text, intent text,
    node bytea NOT NULL UNIQUE, revocations bigint NOT NULL DEFAULT 0
);
CREATE INDEX overdue ON capx.tasks (expires) WHERE state = 'active';
CREATE TABLE capx.intents (
    nth bigint PRIMARY KEY,
    digest text NOT NULL UNIQUE, principal text, document text, proof text, opened bigint NOT NULL, withdrawn bigint
);
CREATE TABLE capx.requests (
    nth bigint PRIMARY KEY,
    id text NOT NULL UNIQUE, task text NOT NULL, node text NOT NULL, state text NOT NULL, asked bigint NOT NULL,
    body text NOT NULL
);
CREATE INDEX requests_of_task ON capx.requests (task, node, state);
CREATE INDEX requests_pending ON capx.requests (nth) WHERE state = 'pending';
CREATE TABLE capx.grants (
    capability bytea PRIMARY KEY, kid text NOT NULL, issued bigint NOT NULL, at bigint NOT NULL
);
CREATE INDEX grants_of_kid ON capx.grants (kid);
CREATE INDEX grants_at ON capx.grants (at, issued);
CREATE TABLE capx.strengths (id bytea NOT NULL, capability bytea NOT NULL, PRIMARY KEY (id, capability));
-- A key is an id (16 bytes) or a name: exactly one of the two columns is set.
CREATE TABLE capx.deaths (
    seq bigint PRIMARY KEY, id bytea UNIQUE, name text COLLATE "C" UNIQUE, reason text NOT NULL,
    at bigint NOT NULL, position bigint NOT NULL,
    CHECK ((id IS NULL) <> (name IS NULL))
);
CREATE TABLE capx.burnt (presentation bytea PRIMARY KEY, until bigint NOT NULL);
CREATE INDEX burnt_until ON capx.burnt (until);
CREATE TABLE capx.forgotten (only_row int PRIMARY KEY CHECK (only_row = 1), until bigint NOT NULL);
INSERT INTO capx.forgotten VALUES (1, 0);
-- "C": keys are compared byte by byte. The order in which counters are locked must be the same in every session.
CREATE TABLE capx.counters (
    counter text COLLATE "C" NOT NULL, unit text COLLATE "C" NOT NULL, spent numeric NOT NULL, last bigint NOT NULL,
    PRIMARY KEY (counter, unit)
);
CREATE TABLE capx.sightings (
    follower text COLLATE "C" PRIMARY KEY, deaths bigint NOT NULL, at bigint NOT NULL, role text NOT NULL
);
CREATE TABLE capx.resources (role text, audience text, PRIMARY KEY (role, audience));

-- Helpers have no search path of their own: only functions that have one call them.

-- The audiences of the calling role; null for the owner, who may record for all.
CREATE FUNCTION capx.audiences() RETURNS text[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    its text[] := (SELECT array_agg(audience) FROM capx.resources WHERE role = session_user);
BEGIN
    -- Null stands for all of them.
    IF its IS NULL AND NOT pg_has_role(session_user, current_user, 'MEMBER') THEN
        RAISE 'role "%" is no resource of this store', session_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN its;
END $$;

-- The time of a call: the owner's is taken as it is, a resource's is moved to within 5 seconds of the server's clock.
CREATE FUNCTION capx.clock(said bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    server bigint := floor(extract(epoch FROM clock_timestamp()));
BEGIN
    RETURN CASE WHEN capx.audiences() IS NULL THEN said ELSE greatest(server - 5, least(server + 5, said)) END;
END $$;

-- The hash of an event, as `digest` in capx/store/log.py. Each part has its length before it, so that no two lists of
-- parts give the same bytes.
CREATE FUNCTION capx.sized(part bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT int4send(length(part)) || part
$$;

CREATE FUNCTION capx.digest(before bytea, pos bigint, at bigint, kind text, body text) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(
        capx.sized('capx/1/event') || capx.sized(before) || capx.sized(int8send(pos)) || capx.sized(int8send(at))
        || capx.sized(convert_to(kind, 'UTF8')) || capx.sized(convert_to(body, 'UTF8'))
    )
$$;

-- IS TRUE, so that null is refused too; the comparison with 1e15 also refuses NaN, which PostgreSQL holds for the
-- largest number.
CREATE FUNCTION capx.amount(what numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT (what >= 0 AND what < 1e15 AND what = round(what, 6)) IS TRUE
$$;

-- Whether lists and objects are nested deeper than `most`. It removes everything except the brackets outside of
-- strings, and then in each pass the innermost pairs.
CREATE FUNCTION capx.deeper(body text, most int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    brackets text := regexp_replace(body, E'"(?:[^"\\\\]|\\\\.)*"|[^]["{}]+', '', 'g');
BEGIN
    FOR pass IN 1 .. most LOOP
        EXIT WHEN brackets = '';
        brackets := regexp_replace(brackets, '[[][]]|[{][}]', '', 'g');
    END LOOP;
    RETURN brackets <> '';
END $$;

-- Whether a field of a decision has the right type; null for an unknown field, because a later capx may write more
-- fields. See `Decision.body` in capx/verify/decision.py.
CREATE FUNCTION capx.fits(name text, value json) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    kind text := json_typeof(value);
BEGIN
    IF name IN ('id', 'outcome') THEN
        RETURN kind = 'string';
    ELSIF name IN ('audience', 'action', 'task', 'tenant', 'intent', 'root', 'presentation') THEN
        RETURN kind IN ('string', 'null');
    ELSIF name = 'at' THEN
        RETURN value::text ~ '^[0-9]{1,18}$';
    ELSIF name IN ('path', 'hops', 'ids', 'spent', 'reasons') THEN
        RETURN CASE WHEN kind = 'array' THEN NOT EXISTS (
            SELECT FROM json_array_elements(value) AS one (value)
            WHERE json_typeof(one.value) <> CASE WHEN name IN ('spent', 'reasons') THEN 'object' ELSE 'string' END
        ) ELSE false END;
    END IF;
    RETURN NULL;
END $$;

-- The fields of a decision that get columns of their own. The size comes first: the other checks take time that grows
-- with it.
CREATE FUNCTION capx.facts(body text, OUT id text, OUT task text, OUT audience text) LANGUAGE plpgsql AS $$
DECLARE
    readable json;
    fact record;
    seen text[] := '{}';
BEGIN
    IF octet_length(body) > 65536 THEN
        RAISE 'a decision is no longer than 64 KiB' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    -- The character that PostgreSQL holds in no text is read as another one; the body itself is kept as it is.
    readable := regexp_replace(body, E'(?<!\\\\)((?:\\\\\\\\)*)\\\\u0000', E'\\1\\\\ufffd', 'g');
    IF capx.deeper(body, 64) THEN
        RAISE 'a decision is no deeper than 64 lists and objects within each other'
            USING ERRCODE = 'program_limit_exceeded';
    END IF;
    FOR fact IN
        SELECT each.key, each.value, capx.fits(each.key, each.value) AS fits FROM json_each(readable) AS each
    LOOP
        CONTINUE WHEN fact.fits IS NULL;
        IF fact.key = ANY (seen) OR NOT fact.fits THEN
            RAISE 'a decision states its % once, as what it is', fact.key USING ERRCODE = 'invalid_parameter_value';
        END IF;
        seen := seen || fact.key;
        CASE fact.key
            WHEN 'id' THEN id := fact.value #>> '{}';
            WHEN 'task' THEN task := fact.value #>> '{}';
            WHEN 'audience' THEN audience := fact.value #>> '{}';
            ELSE
        END CASE;
    END LOOP;
    IF id IS NULL THEN
        RAISE 'a decision states its id' USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $$;

-- What a follower reads: the version, the head, the hash of one event, and the deaths.
CREATE FUNCTION capx.version() RETURNS int
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT version FROM capx.version
$$;

CREATE FUNCTION capx.head(OUT epoch text, OUT pos bigint, OUT hash bytea, OUT deaths bigint, OUT forgotten bigint)
RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.epoch, h.position, h.hash, h.deaths, h.forgotten FROM capx.head h
$$;

CREATE FUNCTION capx.hash_at(pos bigint) RETURNS bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.hash FROM capx.events e WHERE e.position = pos
$$;

CREATE FUNCTION capx.deaths(
    after bigint, most int DEFAULT NULL, OUT seq bigint, OUT id bytea, OUT name text, OUT reason text
)
RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.seq, d.id, d.name, d.reason FROM capx.deaths d WHERE d.seq > after ORDER BY d.seq LIMIT most
$$;

-- How much of each counter is spent, in the order of the arguments.
CREATE FUNCTION capx.spent(ids text[], units text[]) RETURNS numeric[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(coalesce(c.spent, 0) ORDER BY asked.nth)
    FROM unnest(ids, units) WITH ORDINALITY AS asked (counter, unit, nth)
    LEFT JOIN capx.counters c ON c.counter = asked.counter AND c.unit = asked.unit
$$;

-- Marks a presentation as used. `since` is the second before which windows may have been cleared away. It is read again
-- after the insertion: if another call cleared away windows in between, this presentation may have been among them, so
-- it counts as burnt. This needs READ COMMITTED, where each statement sees what others have committed. It needs no lock
-- for which every call would have to wait (SKIP LOCKED: if another call is clearing away, this one goes on). Windows
-- are cleared away every 60 seconds, and every window that is open now ends within 66 seconds.
CREATE FUNCTION capx.burn(
    what bytea, ends bigint, said bigint, earlier bytea, earlier_ends bigint, OUT fresh boolean, OUT kept boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now bigint := capx.clock(said);
    since bigint;
    inserted int;
BEGIN
    IF ends > now + 66 AND capx.audiences() IS NOT NULL THEN
        RAISE 'no presentation ends so late: is a clock wrong?' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE 'presentations are burnt under READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    SELECT f.until INTO STRICT since FROM capx.forgotten f;
    IF now >= since + 60 THEN
        PERFORM FROM capx.forgotten f WHERE f.until = since FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            UPDATE capx.forgotten SET until = now;
            DELETE FROM capx.burnt b WHERE b.until < now;
        END IF;
    ELSIF since > now + 66 THEN
        -- A clock was ahead, and what it cleared away is unknown. All that was presented so far ends before this.
        UPDATE capx.forgotten f SET until = now + 66 WHERE f.until = since;
    END IF;
    kept := earlier IS NULL OR EXISTS (SELECT FROM capx.burnt b WHERE b.presentation = earlier);
    INSERT INTO capx.burnt SELECT what, ends FROM capx.forgotten f WHERE ends >= f.until ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS inserted = ROW_COUNT;
    SELECT f.until INTO STRICT since FROM capx.forgotten f;
    fresh := inserted = 1 AND ends >= since;
    kept := kept OR earlier_ends < since;
END $$;

-- Spends everything or nothing. Counters are locked in the order of their keys, so that two calls never wait for each
-- other. If one counter exceeds its limit, the exception undoes all of the inner block, and the totals are corrected.
CREATE FUNCTION capx.spend(
    ids text[], units text[], costs numeric[], limits numeric[], said bigint, OUT totals numeric[], OUT exhausted int[]
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now bigint := capx.clock(said);
    one record;
    total numeric;
BEGIN
    totals := array_fill(0::numeric, ARRAY[cardinality(ids)]);
    exhausted := '{}';
    BEGIN
        FOR one IN
            SELECT asked.*
            FROM unnest(ids, units, costs, limits) WITH ORDINALITY AS asked (counter, unit, cost, most, nth)
            ORDER BY asked.counter COLLATE "C", asked.unit COLLATE "C"
        LOOP
            IF NOT (capx.amount(one.cost) AND capx.amount(one.most)) THEN
                RAISE 'an amount is not negative and has at most 15 digits before the point and 6 after it'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            INSERT INTO capx.counters AS held VALUES (one.counter, one.unit, one.cost, now)
            ON CONFLICT (counter, unit)
            DO UPDATE SET spent = held.spent + excluded.spent, last = greatest(held.last, excluded.last)
            RETURNING held.spent INTO total;
            totals[one.nth::int] := total;
            IF total > one.most THEN
                exhausted := exhausted || one.nth::int;
            END IF;
        END LOOP;
        IF cardinality(exhausted) > 0 THEN
            RAISE 'no room' USING ERRCODE = 'CX001';
        END IF;
    EXCEPTION WHEN SQLSTATE 'CX001' THEN
        FOR n IN 1 .. cardinality(ids) LOOP
            totals[n] := totals[n] - costs[n];
        END LOOP;
    END;
END $$;

-- Writes decisions to the log. A decision is identified by its audience and its id: by the id only, one audience could
-- use up the ids of another one, and so keep its decisions out of the log.
CREATE FUNCTION capx.record(ats bigint[], bodies text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    its text[] := capx.audiences();
    facts record;
    ids text[];
    tasks text[];
    audiences text[];
    pos bigint;
    last bytea;
BEGIN
    -- Read before the head is held, which nobody is to wait for longer than it takes to write.
    FOR n IN 1 .. cardinality(bodies) LOOP
        facts := capx.facts(bodies[n]);
        IF its IS NOT NULL AND facts.audience = ANY (its) IS NOT TRUE THEN
            RAISE 'role "%" does not record for audience "%"', session_user, facts.audience
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        IF ats[n] >= 0 IS NOT TRUE THEN
            RAISE 'a decision was made at a time' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        ids[n] := facts.id;
        tasks[n] := facts.task;
        audiences[n] := facts.audience;
    END LOOP;
    SELECT h.position, h.hash INTO STRICT pos, last FROM capx.head h FOR UPDATE;
    FOR n IN 1 .. cardinality(bodies) LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM capx.events e
            WHERE e.kind = 'decision' AND e.decision = ids[n] AND e.audience IS NOT DISTINCT FROM audiences[n]
        );
        pos := pos + 1;
        last := capx.digest(last, pos, ats[n], 'decision', bodies[n]);
        INSERT INTO capx.events VALUES (pos, ats[n], 'decision', bodies[n], last, ids[n], audiences[n], tasks[n]);
    END LOOP;
    UPDATE capx.head SET position = pos, hash = last;
END $$;

-- Keeps how many deaths a follower knows. A resource may write only the rows of its own followers, and cannot claim to
-- know more deaths than there are: `revoke --wait` relies on these rows.
CREATE FUNCTION capx.sighted(its_name text, known bigint, said bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now bigint := capx.clock(said);
    its text[] := capx.audiences();
    free boolean := its IS NULL;
BEGIN
    IF NOT free AND split_part(its_name, '/', 1) <> ALL (its) THEN
        RAISE 'role "%" speaks for no follower "%"', session_user, its_name USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Nobody knows of a death before it happens.
    IF NOT free THEN
        SELECT least(known, h.deaths) INTO STRICT known FROM capx.head h;
    END IF;
    INSERT INTO capx.sightings AS held VALUES (its_name, known, now, session_user)
    ON CONFLICT (follower) DO UPDATE SET deaths = excluded.deaths, at = excluded.at, role = excluded.role
    WHERE free OR held.role = session_user;
    IF NOT FOUND THEN
        RAISE 'follower "%" is of another role', its_name USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;
