-- TimescaleDB Community: compression, and the retention of daily bars and ticks, by policies that follow the settings.
-- The retention of minutes is in sql/tiers/minute_retention.sql, as rollups have to be made first.
--
-- `patterns` is never compressed: a chunk that a foreign key points into cannot be, and the key from `signals` is worth
-- more than the space. `backtest_equity` is not: it is small, and is removed with its run.
DO $$
DECLARE
    wanted    RECORD;
    found     RECORD;
BEGIN
    FOR wanted IN
        SELECT name, to_regclass('public.' || name) AS relation, segment_by, order_by,
               nullif(compress_after, '')::INTERVAL AS compress_after
        FROM (VALUES
            ('ohlcv_1min',    'symbol',            'timestamp DESC',     current_setting('tickstock.minute_compress_after')),
            ('ohlcv_daily',   'symbol',            'date DESC',          current_setting('tickstock.daily_compress_after')),
            ('ticks',         'symbol',            'timestamp DESC',     current_setting('tickstock.tick_compress_after')),
            ('bar_revisions', 'symbol, timeframe', 'timestamp DESC, superseded_at DESC',
                                                                         current_setting('tickstock.minute_compress_after')),
            ('bar_features',  'symbol, timeframe', 'timestamp DESC',     current_setting('tickstock.daily_compress_after'))
        ) AS tables (name, segment_by, order_by, compress_after)
    LOOP
        CONTINUE WHEN wanted.relation IS NULL;
        IF NOT (SELECT compression_enabled FROM timescaledb_information.hypertables
                WHERE hypertable_schema = 'public' AND hypertable_name = wanted.name) THEN
            EXECUTE format(
                'ALTER TABLE %s SET (timescaledb.compress, timescaledb.compress_segmentby = %L, timescaledb.compress_orderby = %L)',
                wanted.relation, wanted.segment_by, wanted.order_by
            );
        END IF;
        SELECT (config ->> 'compress_after')::INTERVAL AS compress_after INTO found FROM timescaledb_information.jobs
        WHERE proc_name = 'policy_compression' AND hypertable_schema = 'public' AND hypertable_name = wanted.name;
        CONTINUE WHEN found.compress_after IS NOT DISTINCT FROM wanted.compress_after;
        PERFORM remove_compression_policy(wanted.relation, if_exists => TRUE);
        IF wanted.compress_after IS NOT NULL THEN
            PERFORM add_compression_policy(wanted.relation, compress_after => wanted.compress_after);
        END IF;
    END LOOP;
END
$$;

DO $$
DECLARE
    wanted    RECORD;
    found     RECORD;
BEGIN
    FOR wanted IN
        SELECT name, to_regclass('public.' || name) AS relation, nullif(retention, '')::INTERVAL AS retention
        FROM (VALUES
            ('ohlcv_daily', current_setting('tickstock.daily_retention')),
            ('ticks',       current_setting('tickstock.tick_retention'))
        ) AS tables (name, retention)
    LOOP
        CONTINUE WHEN wanted.relation IS NULL;
        SELECT (config ->> 'drop_after')::INTERVAL AS retention INTO found FROM timescaledb_information.jobs
        WHERE proc_name = 'policy_retention' AND hypertable_schema = 'public' AND hypertable_name = wanted.name;
        CONTINUE WHEN found.retention IS NOT DISTINCT FROM wanted.retention;
        PERFORM remove_retention_policy(wanted.relation, if_exists => TRUE);
        IF wanted.retention IS NOT NULL THEN
            -- Not at once, as is the default: a day to see what a new retention is about to drop, and to change it.
            PERFORM add_retention_policy(
                wanted.relation, drop_after => wanted.retention, initial_start => now() + INTERVAL '1 day'
            );
        END IF;
    END LOOP;
END
$$;
