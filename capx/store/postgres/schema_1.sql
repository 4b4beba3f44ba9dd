-- The schema of a PostgreSQL store, version 1: its tables, and the functions through which resources use it.
--
-- Laws:
--
-- * Roles other than the owner may call only some functions (FOR_RESOURCES in schema.py). Each of these runs with the
--   rights of the owner, has a fixed search path, and names every table with its schema.
-- * The caller is `session_user`, which no caller can change. A role in `capx.resources` records, spends and gives back
--   only for its audiences, and acknowledges deaths only for its own followers. The owner, and every member of its
--   role, may do all of this.
-- * The time that a resource gives is bounded to a few seconds around the server's own time, because all audiences
--   share the memory of presentations: a false time would clear away those of others.
-- * A decision is recorded only if its size, its depth and the types of its values are right, so that every reader of
--   the log can read it. A role records no decision of the future: what it writes must not keep a backup from being
--   restored.
-- * No role fills what everybody needs: its followers are counted, and an amount has at most 6 digits after the point,
--   so that every store can hold it.

CREATE SCHEMA capx;
CREATE TABLE capx.version (only_row int PRIMARY KEY CHECK (only_row = 1), version int NOT NULL);
INSERT INTO capx.version VALUES (1, 1);

-- The log. The body of an event is text, because exactly its bytes are hashed. The fields that queries look for have
-- columns of their own beside it. Positions come from one row, `head`, and not from an identity column: a writer locks
-- this row, so it is the only one that writes the log, and no reader sees a position before a lower one.
CREATE TABLE capx.head (
    only_row int PRIMARY KEY CHECK (only_row = 1),
    epoch text NOT NULL, position bigint NOT NULL, hash bytea NOT NULL,
    deaths bigint NOT NULL, forgotten bigint NOT NULL
);
-- `capability` is the id of a minted capability that covers the whole block of the authority. (The first of its ids
-- covers the identifier only: a resource could append another block to it.) `subject` is the request that an event is
-- about, or the intent that it withdraws.
CREATE TABLE capx.events (
    position bigint PRIMARY KEY, at bigint NOT NULL, kind text NOT NULL, body text NOT NULL, hash bytea NOT NULL,
    decision text, audience text, task text, capability text, subject text
);
CREATE INDEX decisions ON capx.events (decision) WHERE kind = 'decision';
CREATE INDEX of_task ON capx.events (task, position) WHERE task IS NOT NULL;
-- Without the decisions, which are most of the log, so that the index stays small.
CREATE INDEX of_kind ON capx.events (kind, position) WHERE kind <> 'decision';
CREATE INDEX of_subject ON capx.events (subject, position) WHERE subject IS NOT NULL;
CREATE INDEX minted ON capx.events (capability) WHERE capability IS NOT NULL;
-- What was minted in a task: a resource can report very many decisions about one.
CREATE INDEX minted_in_task ON capx.events (task, position) WHERE kind = 'capability_minted';

-- The index of decisions (capx/store/decision_index.py), which the authority makes from the log: the values that are in
-- a block of the log, and the latest time of a decision there.
CREATE TABLE capx.found_in (value text COLLATE "C", block bigint, PRIMARY KEY (value, block));
CREATE TABLE capx.blocks (block bigint PRIMARY KEY, latest bigint NOT NULL);

-- Hashes of the Merkle tree beside the log, and its checkpoints (capx/ledger/stored_tree.py).
CREATE TABLE capx.tree (level int, nth bigint, hash bytea NOT NULL, PRIMARY KEY (level, nth));
CREATE TABLE capx.checkpoints (size bigint PRIMARY KEY, at bigint NOT NULL, note text NOT NULL);

-- A row that says nothing: it is written to learn whether the store can be written.
CREATE TABLE capx.probe (only_row int PRIMARY KEY CHECK (only_row = 1), times bigint NOT NULL);

-- Tasks. `nth` numbers the rows in the order of their insertion, as the rowid does in SQLite. `position` is that of the
-- end in the log, `holder` the key of the first agent. What a `mark` is: capx/store/row_marks.py.
CREATE TABLE capx.tasks (
    nth bigint PRIMARY KEY,
    id text NOT NULL UNIQUE, root text NOT NULL UNIQUE, opened bigint NOT NULL, expires bigint NOT NULL,
    tenant text, purpose text, state text NOT NULL, ended bigint, position bigint, principal text, intent text,
    node bytea NOT NULL UNIQUE, revocations bigint NOT NULL DEFAULT 0, mark bytea, holder text
);
CREATE INDEX overdue ON capx.tasks (expires) WHERE state = 'active';
-- Without the number, PostgreSQL may look through all tasks, the newest first, for the newest ones of an intent.
CREATE INDEX tasks_of_intent ON capx.tasks (intent, nth) WHERE intent IS NOT NULL;
CREATE INDEX tasks_of_principal ON capx.tasks (principal, nth) WHERE principal IS NOT NULL;
CREATE TABLE capx.intents (
    nth bigint PRIMARY KEY,
    digest text NOT NULL UNIQUE, principal text, document text, proof text, opened bigint NOT NULL, withdrawn bigint,
    mark bytea
);

-- Requests of agents. `call` says which calls a request is for, and `asks` whom it asks (`RequestRecord.call` and
-- `RequestRecord.asks` of capx/store/records.py).
CREATE TABLE capx.requests (
    nth bigint PRIMARY KEY,
    id text NOT NULL UNIQUE, task text NOT NULL, node text NOT NULL, state text NOT NULL, asked bigint NOT NULL,
    body text NOT NULL, mark bytea, call text, until bigint NOT NULL, principal text NOT NULL, asks text NOT NULL
);
CREATE INDEX requests_of_task ON capx.requests (task, node, state);
CREATE INDEX requests_pending ON capx.requests (nth) WHERE state = 'pending';
CREATE INDEX requests_of_call ON capx.requests (node, call);
-- Those that wait: by their end, and in groups (`WaitingGroup` of capx/store/records.py), by which inboxes find theirs.
CREATE INDEX requests_due ON capx.requests (until, nth) WHERE state = 'pending';
CREATE INDEX requests_waiting ON capx.requests (principal, asks, nth) WHERE state = 'pending';
-- How many of each group wait, and how often that has changed.
CREATE TABLE capx.waiting (
    principal text NOT NULL, asks text NOT NULL, count bigint NOT NULL, changes bigint NOT NULL,
    PRIMARY KEY (principal, asks)
);
CREATE FUNCTION capx.count_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND old.state = 'pending' THEN
        UPDATE capx.waiting w SET count = w.count - 1, changes = w.changes + 1
            WHERE w.principal = old.principal AND w.asks = old.asks;
    END IF;
    IF TG_OP <> 'DELETE' AND new.state = 'pending' THEN
        INSERT INTO capx.waiting AS w VALUES (new.principal, new.asks, 1, 1)
            ON CONFLICT (principal, asks) DO UPDATE SET count = w.count + 1, changes = w.changes + 1;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER request_waits AFTER INSERT OR UPDATE OF state, asks, until OR DELETE ON capx.requests
    FOR EACH ROW EXECUTE FUNCTION capx.count_waiting();
-- At which nodes a request counts: those of its path, until an operator revokes one of them. Then it counts no more at
-- the nodes above that one. The root has depth 0.
CREATE TABLE capx.request_nodes (
    node text NOT NULL, audience text NOT NULL, request text NOT NULL, depth int NOT NULL, call text,
    PRIMARY KEY (node, audience, request)
);
CREATE INDEX request_nodes_of_request ON capx.request_nodes (request, depth);
CREATE INDEX request_nodes_of_call ON capx.request_nodes (node, call);
-- What people have signed, by the position of its event; never changed, and never forgotten.
CREATE TABLE capx.answers (
    position bigint PRIMARY KEY, task text NOT NULL, body text NOT NULL, mark bytea
);
CREATE INDEX answers_of_task ON capx.answers (task, position);
-- What agents have asked for, by the position of the event that commits to it; never changed, and never forgotten.
CREATE TABLE capx.asks (position bigint PRIMARY KEY, task text NOT NULL, salt bytea NOT NULL, args text NOT NULL);
CREATE INDEX asks_of_task ON capx.asks (task, position);
-- What was granted at run time, and because of which token: `strengths` has the ids of that token.
CREATE TABLE capx.grants (
    capability bytea PRIMARY KEY, kid text NOT NULL, issued bigint NOT NULL, at bigint NOT NULL, mark bytea
);
CREATE INDEX grants_of_kid ON capx.grants (kid);
CREATE INDEX grants_at ON capx.grants (at, issued);
CREATE TABLE capx.strengths (id bytea NOT NULL, capability bytea NOT NULL, PRIMARY KEY (id, capability));

-- Deaths. A key is an id (16 bytes) or a name: exactly one of the two columns is set.
CREATE TABLE capx.deaths (
    seq bigint PRIMARY KEY, id bytea UNIQUE, name text COLLATE "C" UNIQUE, reason text NOT NULL,
    at bigint NOT NULL, position bigint NOT NULL,
    CHECK ((id IS NULL) <> (name IS NULL))
);
-- How many deaths each follower knows.
CREATE TABLE capx.sightings (
    follower text COLLATE "C" PRIMARY KEY, deaths bigint NOT NULL, at bigint NOT NULL, role text NOT NULL
);

-- Presentations that were used, until their windows have passed; windows that ended before `forgotten` may be gone.
CREATE TABLE capx.burnt (presentation bytea PRIMARY KEY, until bigint NOT NULL);
CREATE INDEX burnt_until ON capx.burnt (until);
CREATE TABLE capx.forgotten (only_row int PRIMARY KEY CHECK (only_row = 1), until bigint NOT NULL);
INSERT INTO capx.forgotten VALUES (1, 0);

-- Budgets. "C": keys are compared byte by byte. The order in which counters are locked must be the same in every
-- session.
CREATE TABLE capx.counters (
    counter text COLLATE "C" NOT NULL, unit text COLLATE "C" NOT NULL, spent numeric NOT NULL, last bigint NOT NULL,
    PRIMARY KEY (counter, unit)
);
-- What each presentation has paid into each counter. `given` is the time at which it gave back, `capability` the id
-- (base64url) that was named at the first payment.
CREATE TABLE capx.paid (
    presentation bytea NOT NULL, counter text COLLATE "C" NOT NULL, unit text COLLATE "C" NOT NULL,
    admission bytea NOT NULL, audience text NOT NULL, cost numeric NOT NULL, at bigint NOT NULL,
    given bigint, capability text,
    PRIMARY KEY (presentation, counter, unit)
);

-- Up to which event each hook was told.
CREATE TABLE capx.hooks (name text PRIMARY KEY, epoch text NOT NULL, position bigint NOT NULL);

-- The audiences of each role of a resource.
CREATE TABLE capx.resources (role text, audience text, PRIMARY KEY (role, audience));

-- The functions. Helpers have no search path of their own: only functions that have one call them.

-- The audiences of the calling role; null for the owner, who may do everything for all.
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

-- The body of an event as JSON. The character that PostgreSQL holds in no text is read as another one.
CREATE FUNCTION capx.readable(body text) RETURNS json LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(body, E'(?<!\\\\)((?:\\\\\\\\)*)\\\\u0000', E'\\1\\\\ufffd', 'g')::json
$$;

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

-- Keeps how many deaths a follower knows. `revoke --wait` relies on these rows, and waits for each follower. So a
-- resource may write only the rows of its own followers. It cannot claim to know more deaths than there are, or fewer
-- than none. Its role has 100 followers, whatever names it makes up. They are counted under a lock, so that
-- transactions at once add no more than one does.
CREATE FUNCTION capx.sighted(its_name text, known bigint, said bigint) RETURNS void
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

-- Marks a presentation as used. `passed` is the second that has passed for all processes: what ends before it may be
-- cleared away. The clock of each process that burns is within 5 seconds of the true time, so two differ by 10 at most.
-- A process takes what was made 5 seconds ahead of its own clock, and that is good for 60 seconds. So by the clock that
-- is furthest behind, every window that is open now ends within 76 seconds. Windows are cleared away every 60 seconds.
--
-- `since` is the second before which windows may have been cleared away. It is read again after the insertion: if
-- another call cleared away windows in between, this presentation may have been among them, so it counts as burnt. This
-- needs READ COMMITTED, where each statement sees what others have committed. It needs no lock for which every call
-- would have to wait (SKIP LOCKED: if another call is clearing away, this one goes on).
CREATE FUNCTION capx.burn(
    what bytea, ends bigint, said bigint, earlier bytea, earlier_ends bigint, OUT fresh boolean, OUT kept boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now bigint := capx.clock(said);
    passed bigint := now - 10;
    since bigint;
    inserted int;
BEGIN
    IF ends > now + 76 AND capx.audiences() IS NOT NULL THEN
        RAISE 'no presentation ends so late: is a clock wrong?' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE 'presentations are burnt under READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    SELECT f.until INTO STRICT since FROM capx.forgotten f;
    IF passed >= since + 60 THEN
        PERFORM FROM capx.forgotten f WHERE f.until = since FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            UPDATE capx.forgotten SET until = passed;
            DELETE FROM capx.burnt b WHERE b.until < passed;
        END IF;
    ELSIF since > now + 76 THEN
        -- A clock was ahead, and what it cleared away is unknown. All that was presented so far ends before this.
        UPDATE capx.forgotten f SET until = now + 76 WHERE f.until = since;
    END IF;
    kept := earlier IS NULL OR EXISTS (SELECT FROM capx.burnt b WHERE b.presentation = earlier);
    INSERT INTO capx.burnt SELECT what, ends FROM capx.forgotten f WHERE ends >= f.until ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS inserted = ROW_COUNT;
    SELECT f.until INTO STRICT since FROM capx.forgotten f;
    fresh := inserted = 1 AND ends >= since;
    kept := kept OR earlier_ends < since;
END $$;

-- Payments. Laws:
--
-- * One presentation is one call: if it pays again, only what it has not paid yet is spent.
-- * Another admission of the same presentation pays nothing: processes that share no memory of presentations may all
--   accept one, but only the first of them gets it paid.
-- * A role in `capx.resources` spends for its own audiences only, and with a live capability that the authority minted
--   for one of them. The id of the capability depends on a nonce, so only somebody who was shown the token knows it.
-- * From a counter that the authority's block can name, it spends only if the capability has a budget there. The other
--   counters are those of nodes and blocks. Their ids are 16 bytes that nobody can guess who was not shown a token.
-- * A resource spends only in units that a budget can have. The authority counts revocations in another unit, so no
--   resource can use those up.
-- * A call that had no effect gives back what it has paid. What gives back is a presentation and its admission. The
--   amounts are those that it has paid. So a counter never holds less than what others have spent.
-- * It gives back once. After that it pays nothing more.
-- * A role gives back only while the capability that it named when it paid lives.

-- IS TRUE, so that null is refused too; the comparison with 1e15 also refuses NaN, which PostgreSQL holds for the
-- largest number.
CREATE FUNCTION capx.amount(what numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT (what >= 0 AND what < 1e15 AND scale(what) <= 6) IS TRUE
$$;

-- Raises if a role may not spend from these counters with a capability that has this id (base64url).
CREATE FUNCTION capx.demand_spendable(
    its_capability text, its_audience text, ids text[], units text[], now bigint
) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    its text[] := capx.audiences();
    minted json;
    one record;
BEGIN
    IF its IS NULL THEN
        RETURN;
    END IF;
    IF its_audience = ANY (its) IS NOT TRUE THEN
        RAISE 'role "%" does not spend for audience "%"', session_user, its_audience
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT capx.readable(e.body) INTO minted
    FROM capx.events e WHERE e.capability = its_capability AND e.kind = 'capability_minted';
    IF (minted ->> 'audience') = its_audience IS NOT TRUE OR (minted ->> 'expires')::bigint > now IS NOT TRUE THEN
        RAISE 'no capability that lives was minted for audience "%" with this id', its_audience
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (SELECT FROM capx.deaths d WHERE d.name IN (minted ->> 'task', 'kid:' || (minted ->> 'kid'))) THEN
        RAISE 'the task of the capability has ended, or its key was revoked' USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- By unnest, as the payment reads them: an array may count from another number, or have several dimensions.
    FOR one IN SELECT asked.* FROM unnest(ids, units) AS asked (counter, unit) LOOP
        IF one.unit ~ '^[a-z][a-z0-9_]{0,31}$' IS NOT TRUE THEN
            RAISE 'no budget has the unit "%"', one.unit USING ERRCODE = 'insufficient_privilege';
        END IF;
        CONTINUE WHEN one.counter ~ '^[A-Za-z0-9_-]{21}[AQgw]$'
            AND NOT EXISTS (SELECT FROM capx.tasks t WHERE t.id = one.counter);
        IF NOT EXISTS (
            SELECT FROM json_array_elements(minted -> 'budgets') AS named (budget)
            WHERE named.budget ->> 'counter' = one.counter AND named.budget ->> 'unit' = one.unit
        ) THEN
            RAISE 'the capability has no budget in % that counts there', one.unit
                USING ERRCODE = 'insufficient_privilege';
        END IF;
    END LOOP;
END $$;

-- Raises if a presentation pays nothing more: another admission of it has paid, or it gave back.
CREATE FUNCTION capx.demand_payable(admitted bytea, its_admission bytea, returned bigint) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF admitted <> its_admission THEN
        RAISE 'this presentation was paid for before, by another process of the service'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF returned IS NOT NULL THEN
        RAISE 'this presentation gave back what it had paid, so it is used up: make a new one'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $$;

-- Spends everything or nothing. Counters are locked in the order of their keys, so that two calls cannot deadlock. What
-- the presentation has paid is read under the lock of the counter. If one counter exceeds its limit, the exception
-- undoes all of the inner block, and the totals are those of the others.
CREATE FUNCTION capx.spend(
    what bytea, its_admission bytea, its_capability text, its_audience text, ids text[], units text[],
    costs numeric[], limits numeric[], said bigint, OUT totals numeric[], OUT exhausted int[]
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now bigint := capx.clock(said);
    one record;
    total numeric;
    before numeric;
    admitted bytea;
    returned bigint;
    others numeric[];
BEGIN
    IF (octet_length(what) = 16 AND octet_length(its_admission) = 16) IS NOT TRUE THEN
        RAISE 'the ids of a presentation and its admission have 16 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM capx.demand_spendable(its_capability, its_audience, ids, units, now);
    -- Whatever it has paid into: it pays nothing more into any counter.
    PERFORM capx.demand_payable(p.admission, its_admission, p.given) FROM capx.paid p WHERE p.presentation = what;
    totals := array_fill(0::numeric, ARRAY[cardinality(ids)]);
    others := totals;
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
            INSERT INTO capx.counters AS held VALUES (one.counter, one.unit, 0, now)
            ON CONFLICT (counter, unit) DO UPDATE SET last = greatest(held.last, excluded.last)
            RETURNING held.spent INTO total;
            SELECT p.cost, p.admission, p.given INTO before, admitted, returned FROM capx.paid p
            WHERE p.presentation = what AND p.counter = one.counter AND p.unit = one.unit;
            -- Again, under the lock: it may have paid or given back in between.
            PERFORM capx.demand_payable(admitted, its_admission, returned);
            others[one.nth::int] := total - coalesce(before, 0);
            totals[one.nth::int] := others[one.nth::int] + greatest(one.cost, before);
            IF totals[one.nth::int] > one.most AND (before IS NULL OR one.cost > before) THEN
                exhausted := exhausted || one.nth::int;
            END IF;
            UPDATE capx.counters c SET spent = totals[one.nth::int] WHERE c.counter = one.counter AND c.unit = one.unit;
            INSERT INTO capx.paid AS held (presentation, counter, unit, admission, audience, cost, at, capability)
            VALUES (what, one.counter, one.unit, its_admission, its_audience, one.cost, now, its_capability)
            ON CONFLICT (presentation, counter, unit)
            DO UPDATE SET cost = greatest(held.cost, excluded.cost), at = greatest(held.at, excluded.at);
        END LOOP;
        IF cardinality(exhausted) > 0 THEN
            RAISE 'no room' USING ERRCODE = 'CX001';
        END IF;
    EXCEPTION WHEN SQLSTATE 'CX001' THEN
        totals := others;
    END;
END $$;

-- Gives back all that a presentation has paid, and writes this to the log, together; see `GivenBack` in
-- capx/store/events.py. The head is locked before the counters, as all writers of the log do, and the counters in the
-- order of their keys, as `capx.spend` does. What was paid is read under these locks. Called again, it returns the same
-- and changes nothing.
CREATE FUNCTION capx.give_back(
    what bytea, its_admission bytea, its_audience text, its_decision text, its_reason text, said bigint,
    OUT ids text[], OUT units text[], OUT costs numeric[]
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now bigint := capx.clock(said);
    before boolean;
    its_task text;
    body text;
    pos bigint;
    last bytea;
BEGIN
    IF (its_decision ~ '^(d[.])?[A-Za-z0-9_-]{1,64}$') IS NOT TRUE THEN
        RAISE 'a decision has an id of up to 64 characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF (length(its_reason) BETWEEN 1 AND 128 AND its_reason !~ '[[:cntrl:]]') IS NOT TRUE THEN
        RAISE 'a reason has up to 128 characters, and none that controls a terminal'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Before the head is held: nobody is to wait for a caller who may not do this.
    PERFORM capx.demand_spendable(p.capability, its_audience, '{}'::text[], '{}'::text[], now) FROM capx.paid p
    WHERE p.presentation = what AND p.admission = its_admission AND p.audience = its_audience;
    IF NOT FOUND THEN
        RAISE 'this presentation has paid nothing here that it could give back'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT h.position, h.hash INTO STRICT pos, last FROM capx.head h FOR UPDATE;
    PERFORM FROM capx.counters c JOIN capx.paid p ON p.counter = c.counter AND p.unit = c.unit
    WHERE p.presentation = what ORDER BY c.counter, c.unit FOR UPDATE OF c;
    SELECT
        array_agg(p.counter ORDER BY p.counter, p.unit), array_agg(p.unit ORDER BY p.counter, p.unit),
        array_agg(p.cost ORDER BY p.counter, p.unit), bool_or(p.given IS NOT NULL)
    INTO ids, units, costs, before FROM capx.paid p
    WHERE p.presentation = what AND p.admission = its_admission AND p.audience = its_audience;
    IF before THEN
        RETURN;
    END IF;
    UPDATE capx.counters c SET spent = greatest(0, c.spent - p.cost), last = greatest(c.last, now)
    FROM unnest(ids, units, costs) AS p (counter, unit, cost) WHERE c.counter = p.counter AND c.unit = p.unit;
    UPDATE capx.paid p SET given = now, at = greatest(p.at, now)
    WHERE p.presentation = what AND p.admission = its_admission AND p.audience = its_audience;
    SELECT e.task INTO its_task FROM capx.events e JOIN capx.paid p ON p.capability = e.capability
    WHERE p.presentation = what AND p.admission = its_admission AND p.audience = its_audience
        AND e.kind = 'capability_minted' LIMIT 1;
    -- Exactly as SQLite stores write it.
    SELECT format(
        '{"task":%s,"audience":%s,"decision":%s,"presentation":%s,"given":[%s],"reason":%s}',
        coalesce(to_json(its_task)::text, 'null'), to_json(its_audience), to_json(its_decision),
        to_json(rtrim(translate(encode(what, 'base64'), '+/', '-_'), '=')),
        string_agg(
            format('{"counter":%s,"unit":%s,"cost":"%s"}', to_json(p.counter), to_json(p.unit), p.cost),
            ',' ORDER BY p.nth
        ),
        to_json(its_reason)
    ) INTO body FROM unnest(ids, units, costs) WITH ORDINALITY AS p (counter, unit, cost, nth);
    IF octet_length(body) > 65536 THEN
        RAISE 'it has paid into too many counters to give back' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    pos := pos + 1;
    last := capx.digest(last, pos, now, 'given_back', body);
    INSERT INTO capx.events (position, at, kind, body, hash, task)
    VALUES (pos, now, 'given_back', body, last, its_task);
    UPDATE capx.head SET position = pos, hash = last;
END $$;

-- How much of each counter is spent, in the order of the arguments.
CREATE FUNCTION capx.spent(ids text[], units text[]) RETURNS numeric[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(coalesce(c.spent, 0) ORDER BY asked.nth)
    FROM unnest(ids, units) WITH ORDINALITY AS asked (counter, unit, nth)
    LEFT JOIN capx.counters c ON c.counter = asked.counter AND c.unit = asked.unit
$$;

-- Decisions.

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

-- The nonces of hops: at most 255, of 11 characters each, because every reader computes the path from them.
CREATE FUNCTION capx.are_nonces(value json) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    -- Not `{0,254}` in the pattern: that takes PostgreSQL ten times as long.
    SELECT json_array_length(value) <= 255 AND value::text ~ E'^\\[\\s*("[A-Za-z0-9_-]{11}"\\s*(,\\s*"[A-Za-z0-9_-]{11}"\\s*)*)?\\]$'
$$;

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
CREATE FUNCTION capx.record(ats bigint[], bodies text[]) RETURNS void
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
