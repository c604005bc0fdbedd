UPDATE data_gaps SET class = CASE class WHEN 'half_day' THEN 'holiday' ELSE 'no_trade' END WHERE class IN ('half_day', 'halt');
ALTER TABLE data_gaps
    DROP CONSTRAINT chk_data_gaps_class,
    ADD CONSTRAINT chk_data_gaps_class CHECK (class IN ('holiday', 'no_trade', 'provider_hole', 'not_yet_published'));
COMMENT ON COLUMN data_gaps.class IS 'holiday, no_trade, provider_hole or not_yet_published; NULL while unknown.';

DROP TABLE minutes_dropped;

DROP TABLE touched_buckets;
CREATE TABLE touched_buckets (
    symbol        VARCHAR(32) NOT NULL REFERENCES symbols,
    timeframe     timeframe NOT NULL,
    timestamp     TIMESTAMPTZ NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at    TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (symbol, timeframe, timestamp),
    CONSTRAINT chk_touched_buckets_timeframe_is_rolled_up CHECK (timeframe <> '1m')
);
CREATE INDEX idx_touched_buckets_created_at ON touched_buckets (created_at);
CREATE TRIGGER trg_touched_buckets_updated_at BEFORE UPDATE ON touched_buckets FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE touched_buckets IS 'Rolled-up bars that a write to the minutes has made stale; written with it, gone once rolled up anew.';
COMMENT ON COLUMN touched_buckets.symbol IS 'Instrument.';
COMMENT ON COLUMN touched_buckets.timeframe IS 'Length of the rolled-up bar: 5m 15m 1h 1d.';
COMMENT ON COLUMN touched_buckets.timestamp IS 'Start of the rolled-up bar, UTC.';
COMMENT ON COLUMN touched_buckets.created_at IS 'When it became stale, UTC.';
COMMENT ON COLUMN touched_buckets.updated_at IS 'When a write last touched it, UTC.';

ALTER TABLE sessions
    DROP CONSTRAINT chk_sessions_extended_hours_surround,
    DROP COLUMN extended_close,
    DROP COLUMN extended_open;

CREATE OR REPLACE FUNCTION source_rank(source TEXT) RETURNS SMALLINT
    LANGUAGE SQL IMMUTABLE PARALLEL SAFE
    RETURN CASE source
        WHEN 'polygon' THEN 10
        WHEN 'alpha_vantage' THEN 20
        WHEN 'csv_folder' THEN 25
        WHEN 'sample' THEN 30
        WHEN 'synthetic' THEN 90
        ELSE 50
    END;
