-- The sixth step to the schema of a PostgreSQL store: what a role says of its followers is bounded.
--
-- Laws:
--
-- * A role has 100 followers, whatever names it makes up, and one more for each further report at the same time.
--   Otherwise `--wait` would wait for all of them.
-- * No follower knows more deaths than there are, or fewer than none.
--
-- This step was released: its statements never change.

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

UPDATE capx.version SET version = 6;
