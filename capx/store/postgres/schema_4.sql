-- The fourth step to the schema of a PostgreSQL store: the memory of presentations allows for clocks that differ.
--
-- Law: the clock of each process that burns is within 5 seconds of the true time, so two differ by 10 at most. A
-- presentation is remembered until its window has passed by all of these clocks.
--
-- This step was released: its statements never change.

-- Marks a presentation as used, as before. `passed` is the second that has passed for all processes: what ends before
-- it may be cleared away. A process takes what was made 5 seconds ahead of its own clock, and that is good for 60
-- seconds. So by the clock that is furthest behind, every window that is open now ends within 76 seconds.
CREATE OR REPLACE FUNCTION capx.burn(
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

UPDATE capx.version SET version = 4;
