-- What tickstock_app and tickstock_reader may do with what stands in this schema, in `tier` beside it, and with what will.
-- Idempotent.
DO $$
DECLARE
    object RECORD;
    jobs REGCLASS;
    spaces CONSTANT REGNAMESPACE[] := array_remove(ARRAY[current_schema()::regnamespace, to_regnamespace('tier')], NULL);
    space REGNAMESPACE;
BEGIN
    FOREACH space IN ARRAY spaces LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA %s FROM PUBLIC', space);
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO tickstock_app, tickstock_reader', space);
        EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %s TO tickstock_app', space);
        EXECUTE format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA %s TO tickstock_reader', space);
    END LOOP;

    FOR object IN
        SELECT c.oid::regclass AS name, c.relname, c.relkind,
               EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgtype & 64 <> 0) AS answers_writes
        FROM pg_class c
        WHERE c.relnamespace = ANY (spaces) AND c.relkind IN ('r', 'p', 'v', 'm')
          AND NOT EXISTS (SELECT FROM pg_depend d
                          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, tickstock_app, tickstock_reader', object.name);
        EXECUTE format('GRANT SELECT ON %s TO tickstock_app, tickstock_reader', object.name);
        IF object.relname = 'audit_trail' THEN
            -- Append-only. Its triggers say so too; of the owner's own rights this takes the thoughtless use.
            EXECUTE format('GRANT INSERT ON %s TO tickstock_app', object.name);
            EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %s FROM tickstock_owner', object.name);
        ELSIF (object.relkind IN ('r', 'p') AND object.relname <> 'schema_revision') OR object.answers_writes THEN
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %s TO tickstock_app', object.name);
        END IF;
    END LOOP;

    FOR object IN
        SELECT p.oid::regprocedure AS name FROM pg_proc p
        WHERE p.pronamespace = ANY (spaces)
          AND NOT EXISTS (SELECT FROM pg_depend d
                          WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', object.name);
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO tickstock_app, tickstock_reader', object.name);
    END LOOP;

    -- A policy's job works with the rights of who made it, and only its owner may change it.
    jobs := coalesce(to_regclass('_timescaledb_config.bgw_job'), to_regclass('_timescaledb_catalog.bgw_job'));
    IF jobs IS NOT NULL AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('UPDATE %s SET owner = ''tickstock_owner'' WHERE id >= 1000 AND owner <> ''tickstock_owner''::regrole', jobs);
    END IF;
END
$$;

-- The same for what the owner makes from now on.
ALTER DEFAULT PRIVILEGES FOR ROLE tickstock_owner REVOKE EXECUTE ON ROUTINES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE tickstock_owner GRANT EXECUTE ON ROUTINES TO tickstock_app, tickstock_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE tickstock_owner GRANT SELECT ON TABLES TO tickstock_app, tickstock_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE tickstock_owner GRANT INSERT, UPDATE, DELETE ON TABLES TO tickstock_app;
ALTER DEFAULT PRIVILEGES FOR ROLE tickstock_owner GRANT USAGE, SELECT ON SEQUENCES TO tickstock_app;
ALTER DEFAULT PRIVILEGES FOR ROLE tickstock_owner GRANT SELECT ON SEQUENCES TO tickstock_reader;
