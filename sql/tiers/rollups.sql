-- TimescaleDB Community: `ohlcv_5min`, `ohlcv_15min` and `ohlcv_1h` become continuous aggregates of `ohlcv_1min`.
--
-- The table that was there stays as `tier.<name>_base`; the name in `public` becomes a view over the aggregate and over
-- the base's bars that the aggregate does not have. So bars whose minutes are gone, or that never had any, are kept.
-- Fixed widths in UTC only: days and sessions come from the calendar. Types are the table's to the letter, so that
-- sql/views/ohlcv_bars.sql can be run again over the new views; the caller does that.
DO $$
DECLARE
    wanted      RECORD;
    held        RECORD;
    rollup      TEXT;
    commented   TEXT;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES ('ohlcv_5min', '5 minutes'), ('ohlcv_15min', '15 minutes'), ('ohlcv_1h', '1 hour'))
                  AS rollups (name, width)
    LOOP
        rollup := format('tier.%I', wanted.name);
        CONTINUE WHEN to_regclass(rollup) IS NOT NULL OR to_regclass('public.' || wanted.name) IS NULL;
        EXECUTE format('ALTER TABLE public.%I SET SCHEMA tier', wanted.name);
        EXECUTE format('ALTER TABLE tier.%I RENAME TO %I', wanted.name, wanted.name || '_base');
        EXECUTE format(
            $cagg$
            CREATE MATERIALIZED VIEW %1$s WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
            SELECT symbol,
                   time_bucket(%2$L, timestamp) AS timestamp,
                   first(open, timestamp)::NUMERIC(18, 8) AS open,
                   max(high)::NUMERIC(18, 8) AS high,
                   min(low)::NUMERIC(18, 8) AS low,
                   last(close, timestamp)::NUMERIC(18, 8) AS close,
                   sum(volume)::NUMERIC(24, 8) AS volume,
                   sum(quote_volume)::NUMERIC(24, 8) AS quote_volume,
                   (sum(vwap * volume) FILTER (WHERE vwap IS NOT NULL)
                       / nullif(sum(volume) FILTER (WHERE vwap IS NOT NULL), 0))::NUMERIC(18, 8) AS vwap,
                   sum(trades_count)::BIGINT AS trades_count,
                   max(exchange) AS exchange,
                   -- The one that ranks last; of two that rank the same, the later in the alphabet, so that it is always the same.
                   last(source, lpad(source_rank(source)::TEXT, 5, '0') || source) AS source,
                   max(recorded_at) AS recorded_at
            FROM public.ohlcv_1min GROUP BY symbol, time_bucket(%2$L, timestamp)
            WITH NO DATA
            $cagg$, rollup, wanted.width
        );
        EXECUTE format(
            $view$
            CREATE VIEW public.%1$I AS
            SELECT * FROM tier.%1$I
            UNION ALL
            SELECT symbol, timestamp, open, high, low, close, volume, quote_volume, vwap, trades_count, exchange, source, recorded_at
            FROM tier.%2$I b
            WHERE NOT EXISTS (SELECT FROM tier.%1$I c WHERE c.symbol = b.symbol AND c.timestamp = b.timestamp)
            $view$, wanted.name, wanted.name || '_base'
        );
        -- An empty table without statistics is taken for ten pages, and the bars that are not there would be joined first.
        EXECUTE format('ANALYZE tier.%I', wanted.name || '_base');
        -- Comments and grants are the table's, so that a reader sees no difference.
        FOR held IN
            SELECT a.attnum, a.attname, col_description(a.attrelid, a.attnum) AS said FROM pg_attribute a
            WHERE a.attrelid = format('tier.%I', wanted.name || '_base')::REGCLASS AND a.attnum > 0 AND NOT a.attisdropped
        LOOP
            EXECUTE format('COMMENT ON COLUMN public.%I.%I IS %L', wanted.name, held.attname, held.said);
        END LOOP;
        commented := obj_description(format('tier.%I', wanted.name || '_base')::REGCLASS);
        EXECUTE format('COMMENT ON VIEW public.%I IS %L', wanted.name, commented);
        FOR held IN
            SELECT granted.privilege_type, CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::REGROLE::TEXT END AS grantee
            FROM pg_class c, aclexplode(c.relacl) granted
            WHERE c.oid = format('tier.%I', wanted.name || '_base')::REGCLASS AND granted.privilege_type = 'SELECT'
              AND granted.grantee <> c.relowner
        LOOP
            EXECUTE format('GRANT %s ON public.%I TO %s', held.privilege_type, wanted.name, held.grantee);
        END LOOP;
    END LOOP;
END
$$;
