-- Before a downgrade, after sql/tiers/rollups_to_tables.sql: what a tier added goes. Hypertables stay, as DROP TABLE
-- removes them like any table.
DO $$
DECLARE
    rollup    TEXT;
BEGIN
    FOREACH rollup IN ARRAY ARRAY['ohlcv_5min', 'ohlcv_15min', 'ohlcv_1h']
    LOOP
        CONTINUE WHEN to_regclass(format('tier.%I', rollup)) IS NULL;
        EXECUTE format('DROP VIEW tier.%I', rollup || '_view');
        EXECUTE format('DROP MATERIALIZED VIEW tier.%I', rollup);
    END LOOP;
END
$$;
DROP FUNCTION IF EXISTS tier.drop_chunks_before(REGCLASS, TIMESTAMPTZ);
DROP SCHEMA IF EXISTS tier;
