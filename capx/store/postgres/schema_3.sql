-- The third step to the schema of a PostgreSQL store: a call that had no effect gives back what it has paid.
--
-- Laws:
--
-- * What gives back is a presentation and its admission. The amounts are those that it has paid. So a counter never
--   holds less than what others have spent.
-- * It gives back once. After that it pays nothing more.
-- * A role in `capx.resources` gives back for its own audiences only, and only while the capability that it named when
--   it paid lives.
-- * The counters and the log change together.
--
-- This step was released: its statements never change.

-- `given` is the time at which it gave back. `capability` is the id that was named at the first payment, base64url;
-- older payments have none.
ALTER TABLE capx.paid ADD COLUMN given bigint, ADD COLUMN capability text;

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

-- Spends everything or nothing, as before. Besides, it keeps the capability, and refuses a presentation that gave back.
CREATE OR REPLACE FUNCTION capx.spend(
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

-- Gives back all that a presentation has paid, and writes this to the log; see `GivenBack` in capx/store/events.py.
-- The head is locked before the counters, as all writers of the log do, and the counters in the order of their keys, as
-- `capx.spend` does. What was paid is read under these locks. Called again, it returns the same and changes nothing.
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
    IF (its_decision ~ '^[A-Za-z0-9_-]{1,64}$') IS NOT TRUE THEN
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

-- Roles that can spend can give back. Skip roles that were dropped, and those that lost the right. (If the second step
-- made `capx.spend` in this very transaction, PUBLIC can still execute it, and so everybody would seem to have the
-- right.)
REVOKE ALL ON FUNCTION capx.spend(bytea, bytea, text, text, text[], text[], numeric[], numeric[], bigint) FROM PUBLIC;
DO $$
DECLARE
    one text;
BEGIN
    FOR one IN
        SELECT DISTINCT r.role FROM capx.resources r JOIN pg_roles p ON p.rolname = r.role
        WHERE has_function_privilege(
            p.oid, 'capx.spend(bytea, bytea, text, text, text[], text[], numeric[], numeric[], bigint)', 'EXECUTE'
        )
    LOOP
        EXECUTE format(
            'GRANT EXECUTE ON FUNCTION capx.give_back(bytea, bytea, text, text, text, bigint) TO %I', one
        );
    END LOOP;
END $$;

UPDATE capx.version SET version = 3;
