-- Before a downgrade: rollups become the tables again that migrations made, with all their bars. The aggregates and the
-- views over them stay in `tier` until the caller has run sql/views/ohlcv_bars.sql over the tables.
DO $$
DECLARE
    rollup    TEXT;
BEGIN
    FOREACH rollup IN ARRAY ARRAY['ohlcv_5min', 'ohlcv_15min', 'ohlcv_1h']
    LOOP
        CONTINUE WHEN to_regclass(format('tier.%I', rollup)) IS NULL;
        EXECUTE format(
            'DELETE FROM tier.%2$I b USING tier.%1$I c WHERE c.symbol = b.symbol AND c.timestamp = b.timestamp',
            rollup, rollup || '_base'
        );
        EXECUTE format(
            $copy$
            INSERT INTO tier.%2$I (symbol, timestamp, open, high, low, close, volume, quote_volume, vwap, trades_count, exchange, source, recorded_at)
            SELECT symbol, timestamp, open, high, low, close, volume, quote_volume, vwap, trades_count, exchange, source, recorded_at
            FROM tier.%1$I
            $copy$, rollup, rollup || '_base'
        );
        EXECUTE format('ALTER VIEW public.%I RENAME TO %I', rollup, rollup || '_view');
        EXECUTE format('ALTER VIEW public.%I SET SCHEMA tier', rollup || '_view');
        EXECUTE format('ALTER TABLE tier.%I SET SCHEMA public', rollup || '_base');
        EXECUTE format('ALTER TABLE public.%I RENAME TO %I', rollup || '_base', rollup);
    END LOOP;
END
$$;
