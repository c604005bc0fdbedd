-- TimescaleDB, both editions: tables that grow with time become hypertables, with their rows; chunks as the settings say.
-- A changed chunk interval or number of partitions counts for new chunks.

-- What a tier adds besides: rollups, and what they need. Migrations own `public`.
-- Looked for first: CREATE SCHEMA IF NOT EXISTS takes the right to create even where the schema exists.
DO $$
BEGIN
    IF to_regnamespace('tier') IS NULL THEN
        CREATE SCHEMA tier;
        GRANT USAGE ON SCHEMA tier TO PUBLIC;
        COMMENT ON SCHEMA tier IS 'What TimescaleDB adds to the schema in public; sql/tiers/ makes and removes it.';
    END IF;
END
$$;

-- A table that a foreign key references cannot be converted; sql/tiers/foreign_keys.sql makes it again.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_constraint WHERE conname = 'fk_signals_patterns' AND conrelid = to_regclass('public.signals'))
       AND NOT EXISTS (SELECT FROM timescaledb_information.hypertables
                       WHERE hypertable_schema = 'public' AND hypertable_name = 'patterns') THEN
        ALTER TABLE public.signals DROP CONSTRAINT fk_signals_patterns;
    END IF;
END
$$;

DO $$
DECLARE
    wanted   RECORD;
    found    RECORD;
BEGIN
    FOR wanted IN
        SELECT name, to_regclass('public.' || name) AS relation, time_column, chunk::INTERVAL
        FROM (VALUES
            ('ohlcv_1min',      'timestamp',     current_setting('tickstock.minute_chunk')),
            ('ohlcv_daily',     'date',          current_setting('tickstock.daily_chunk')),
            ('ticks',           'timestamp',     current_setting('tickstock.tick_chunk')),
            -- By when they were written, not by what they are about: so corrections of old bars fill the newest chunk
            -- only, and chunks before it rest compressed.
            ('bar_revisions',   'superseded_at', '90 days'),
            ('bar_features',    'timestamp',     current_setting('tickstock.daily_chunk')),
            ('patterns',        'timestamp',     current_setting('tickstock.daily_chunk')),
            ('backtest_equity', 'timestamp',     current_setting('tickstock.daily_chunk'))
        ) AS tables (name, time_column, chunk)
    LOOP
        -- A revision on the way up may not have the table yet.
        CONTINUE WHEN wanted.relation IS NULL;
        SELECT time_interval INTO found FROM timescaledb_information.dimensions
        WHERE hypertable_schema = 'public' AND hypertable_name = wanted.name AND dimension_number = 1;
        IF found.time_interval IS NULL THEN
            PERFORM create_hypertable(
                wanted.relation, by_range(wanted.time_column, wanted.chunk),
                create_default_indexes => FALSE, migrate_data => TRUE
            );
        ELSIF found.time_interval <> wanted.chunk THEN
            PERFORM set_chunk_time_interval(wanted.relation, wanted.chunk);
        END IF;
    END LOOP;
END
$$;

DO $$
DECLARE
    wanted   INTEGER := current_setting('tickstock.tick_partitions')::INTEGER;
    found    INTEGER;
BEGIN
    IF to_regclass('public.ticks') IS NULL THEN
        RETURN;
    END IF;
    SELECT num_partitions INTO found FROM timescaledb_information.dimensions
    WHERE hypertable_schema = 'public' AND hypertable_name = 'ticks' AND dimension_type = 'Space';
    IF found IS NULL THEN
        -- Chunks that were there before span all partitions.
        PERFORM add_dimension('public.ticks', by_hash('symbol', wanted));
    ELSIF found <> wanted THEN
        PERFORM set_number_partitions('public.ticks', wanted, 'symbol');
    END IF;
END
$$;

-- Dropping chunks takes the table's owner. Whoever may delete all rows one by one may drop whole chunks as well.
CREATE OR REPLACE FUNCTION tier.drop_chunks_before(hypertable REGCLASS, older_than TIMESTAMPTZ) RETURNS INTEGER
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    is_date    BOOLEAN;
    dropped    INTEGER;
BEGIN
    IF NOT has_table_privilege(session_user, hypertable, 'DELETE') THEN
        RAISE EXCEPTION 'permission denied for table %', hypertable USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT d.column_type = 'date'::REGTYPE INTO STRICT is_date
    FROM timescaledb_information.dimensions d JOIN pg_class c ON c.oid = hypertable
    WHERE d.dimension_number = 1 AND d.hypertable_name = c.relname AND d.hypertable_schema = c.relnamespace::REGNAMESPACE::TEXT;
    IF is_date THEN
        SELECT count(*) INTO dropped FROM drop_chunks(hypertable, older_than => older_than::DATE);
    ELSE
        SELECT count(*) INTO dropped FROM drop_chunks(hypertable, older_than => older_than);
    END IF;
    RETURN dropped;
END
$$;
COMMENT ON FUNCTION tier.drop_chunks_before IS 'Drops the chunks that lie wholly before a moment, for every role that may delete from the table; returns how many.';
