-- The second step to the schema of a PostgreSQL store: what each presentation has paid into each counter.
--
-- Laws:
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
--
-- This step was released: its statements never change.

CREATE TABLE capx.paid (
    presentation bytea NOT NULL, counter text COLLATE "C" NOT NULL, unit text COLLATE "C" NOT NULL,
    admission bytea NOT NULL, audience text NOT NULL, cost numeric NOT NULL, at bigint NOT NULL,
    PRIMARY KEY (presentation, counter, unit)
);

-- The body of an event as JSON. The character that PostgreSQL holds in no text is read as another one.
CREATE FUNCTION capx.readable(body text) RETURNS json LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(body, E'(?<!\\\\)((?:\\\\\\\\)*)\\\\u0000', E'\\1\\\\ufffd', 'g')::json
$$;

-- The id of a minted capability that covers the whole block of the authority. (The first of its ids covers the
-- identifier only: a resource could append another block to it.)
ALTER TABLE capx.events ADD COLUMN capability text;
UPDATE capx.events SET capability = capx.readable(body) #>> '{ids,1}' WHERE kind = 'capability_minted';
CREATE INDEX minted ON capx.events (capability) WHERE capability IS NOT NULL;

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

-- Spends everything or nothing. Counters are locked in the order of their keys, so that two calls cannot deadlock. What
-- the presentation has paid is read under the lock of the counter. If one counter exceeds its limit, the
-- exception undoes all of the inner block, and the totals are those of the others.
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
    others numeric[];
BEGIN
    IF (octet_length(what) = 16 AND octet_length(its_admission) = 16) IS NOT TRUE THEN
        RAISE 'the ids of a presentation and its admission have 16 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM capx.demand_spendable(its_capability, its_audience, ids, units, now);
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
            SELECT p.cost, p.admission INTO before, admitted FROM capx.paid p
            WHERE p.presentation = what AND p.counter = one.counter AND p.unit = one.unit;
            IF admitted <> its_admission THEN
                RAISE 'this presentation was paid for before, by another process of the service'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            others[one.nth::int] := total - coalesce(before, 0);
            totals[one.nth::int] := others[one.nth::int] + greatest(one.cost, before);
            IF totals[one.nth::int] > one.most AND (before IS NULL OR one.cost > before) THEN
                exhausted := exhausted || one.nth::int;
            END IF;
            UPDATE capx.counters c SET spent = totals[one.nth::int] WHERE c.counter = one.counter AND c.unit = one.unit;
            INSERT INTO capx.paid AS held VALUES (what, one.counter, one.unit, its_admission, its_audience, one.cost, now)
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

-- Roles that could spend can go on spending. Skip roles that were dropped, and those that lost the right.
DO $$
DECLARE
    one text;
BEGIN
    FOR one IN
        SELECT DISTINCT r.role FROM capx.resources r JOIN pg_roles p ON p.rolname = r.role
        WHERE has_function_privilege(p.oid, 'capx.spend(text[], text[], numeric[], numeric[], bigint)', 'EXECUTE')
    LOOP
        EXECUTE format(
            'GRANT EXECUTE ON FUNCTION '
            'capx.spend(bytea, bytea, text, text, text[], text[], numeric[], numeric[], bigint) TO %I', one
        );
    END LOOP;
END $$;
DROP FUNCTION capx.spend(text[], text[], numeric[], numeric[], bigint);

UPDATE capx.version SET version = 2;
