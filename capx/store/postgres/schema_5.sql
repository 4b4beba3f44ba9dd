-- The fifth step to the schema of a PostgreSQL store: ids and times of decisions.
--
-- Laws:
--
-- * The id of a decision begins with `d.`. No node, capability or task has such an id. Ids without `d.` are those of
--   older versions.
-- * A role records no decision of the future: what it writes must not keep a backup from being restored.
--
-- This step was released: its statements never change.

-- Gives back all that a presentation has paid, and writes this to the log; see `GivenBack` in capx/store/events.py.
-- The head is locked before the counters, as all writers of the log do, and the counters in the order of their keys, as
-- `capx.spend` does. What was paid is read under these locks. Called again, it returns the same and changes nothing.
CREATE OR REPLACE FUNCTION capx.give_back(
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
    -- Read before the head is held, which nobody is to wait for longer than it takes to write.
    FOR n IN 1 .. cardinality(bodies) LOOP
        facts := capx.facts(bodies[n]);
        IF its IS NOT NULL AND facts.audience = ANY (its) IS NOT TRUE THEN
            RAISE 'role "%" does not record for audience "%"', session_user, facts.audience
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        IF (ats[n] BETWEEN 0 AND latest) IS NOT TRUE THEN
            RAISE 'a decision was made at a time that has come: is a clock wrong?'
                USING ERRCODE = 'invalid_parameter_value';
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

UPDATE capx.version SET version = 5;
