-- Makes a role the owner of what stands in this schema, and in `tier`, which TimescaleDB adds to it. Idempotent; extensions keep what is theirs.
-- The role is the session's setting `tickstock.new_owner`.
DO $$
DECLARE
    new_owner CONSTANT REGROLE := current_setting('tickstock.new_owner')::regrole;
    spaces CONSTANT REGNAMESPACE[] := array_remove(ARRAY[current_schema()::regnamespace, to_regnamespace('tier')], NULL);
    statement TEXT;
BEGIN
    FOR statement IN
        WITH aggregates AS (
            -- A continuous aggregate looks like a view and wants to be altered as a materialized one.
            SELECT to_regclass(format('%I.%I', v.table_schema, v.table_name)) AS oid
            FROM information_schema.views v
            WHERE v.table_schema::regnamespace = ANY (spaces) AND v.view_definition ~ '_timescaledb_internal._materialized_hypertable'
        )
        SELECT format(
            'ALTER %s %s OWNER TO %s',
            CASE
                WHEN c.relkind = 'S' THEN 'SEQUENCE'
                WHEN c.relkind = 'm' OR c.oid IN (SELECT oid FROM aggregates) THEN 'MATERIALIZED VIEW'
                WHEN c.relkind = 'v' THEN 'VIEW'
                ELSE 'TABLE'
            END,
            c.oid::regclass, new_owner
        )
        FROM pg_class c
        WHERE c.relnamespace = ANY (spaces) AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
          AND c.relowner <> new_owner
          -- A sequence of a column goes with its table.
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                          AND (d.deptype = 'e' OR c.relkind = 'S' AND d.deptype IN ('a', 'i')))
        UNION ALL
        SELECT format('ALTER SCHEMA %s OWNER TO %s', n.oid::regnamespace, new_owner)
        FROM pg_namespace n WHERE n.nspname = 'tier' AND n.nspowner <> new_owner
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO %s', p.oid::regprocedure, new_owner)
        FROM pg_proc p
        WHERE p.pronamespace = ANY (spaces) AND p.proowner <> new_owner
          AND NOT EXISTS (SELECT FROM pg_depend d
                          WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
        UNION ALL
        SELECT format('ALTER TYPE %s OWNER TO %s', t.oid::regtype, new_owner)
        FROM pg_type t
        WHERE t.typnamespace = ANY (spaces) AND t.typtype IN ('d', 'e') AND t.typowner <> new_owner
          AND NOT EXISTS (SELECT FROM pg_depend d
                          WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
