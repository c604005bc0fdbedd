-- A bar made from finer ones ranks behind every bar that a provider sent: `rollup:polygon` is a day made from Polygon's
-- minutes, `ticks:polygon` a minute made from its trades. Among themselves they rank as what they were made from.
CREATE OR REPLACE FUNCTION source_rank(source TEXT) RETURNS SMALLINT
    LANGUAGE SQL IMMUTABLE PARALLEL SAFE
    RETURN (
        100 * (length(source) - length(replace(source, ':', '')))
        + CASE split_part(source, ':', -1)
            WHEN 'polygon' THEN 10
            WHEN 'alpha_vantage' THEN 20
            WHEN 'csv_folder' THEN 25
            WHEN 'sample' THEN 30
            WHEN 'synthetic' THEN 90
            ELSE 50
        END
    )::SMALLINT;

ALTER TABLE sessions
    ADD COLUMN extended_open TIMESTAMPTZ,
    ADD COLUMN extended_close TIMESTAMPTZ,
    ADD CONSTRAINT chk_sessions_extended_hours_surround CHECK (extended_open <= open AND close <= extended_close);
UPDATE sessions SET
    extended_open = (session + TIME '04:00') AT TIME ZONE 'America/New_York',
    extended_close = CASE kind WHEN 'half_day' THEN close + INTERVAL '4 hours' ELSE (session + TIME '20:00') AT TIME ZONE 'America/New_York' END
WHERE exchange = 'XNYS';
COMMENT ON COLUMN sessions.extended_open IS 'First moment of trading before the open, UTC; NULL where there is none.';
COMMENT ON COLUMN sessions.extended_close IS 'Last moment of trading after the close, UTC; NULL where there is none.';

-- An hour stands for every rolled-up bar that has minutes of it: its own, those of 5 and 15 minutes in it, and the day's.
DROP TABLE touched_buckets;
CREATE TABLE touched_buckets (
    symbol         VARCHAR(32) NOT NULL REFERENCES symbols,
    timestamp      TIMESTAMPTZ NOT NULL,
    intraday_at    TIMESTAMPTZ,
    daily_at       TIMESTAMPTZ,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (symbol, timestamp),
    CONSTRAINT chk_touched_buckets_timestamp_is_an_hour CHECK (date_trunc('hour', timestamp, 'UTC') = timestamp)
);
CREATE INDEX idx_touched_buckets_created_at ON touched_buckets (created_at);
CREATE TRIGGER trg_touched_buckets_updated_at BEFORE UPDATE ON touched_buckets FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE touched_buckets IS 'Hours whose minutes a write has changed, written with it: the rolled-up bars made from them are stale until computed anew.';
COMMENT ON COLUMN touched_buckets.symbol IS 'Instrument.';
COMMENT ON COLUMN touched_buckets.timestamp IS 'Start of the hour, UTC.';
COMMENT ON COLUMN touched_buckets.intraday_at IS 'When its bars of 5 and 15 minutes and of the hour were computed anew, UTC; NULL while they are stale.';
COMMENT ON COLUMN touched_buckets.daily_at IS 'When the bar of its session was computed anew, UTC; NULL while it is stale.';
COMMENT ON COLUMN touched_buckets.created_at IS 'When it became stale, UTC.';
COMMENT ON COLUMN touched_buckets.updated_at IS 'When the row last changed, UTC.';

CREATE TABLE minutes_dropped (
    only_row          BOOLEAN PRIMARY KEY DEFAULT TRUE,
    dropped_before    TIMESTAMPTZ NOT NULL,
    created_at        TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at        TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT chk_minutes_dropped_only_row CHECK (only_row)
);
CREATE TRIGGER trg_minutes_dropped_updated_at BEFORE UPDATE ON minutes_dropped FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE minutes_dropped IS 'Up to when minutes may have been dropped; rollups before it are never computed again.';
COMMENT ON COLUMN minutes_dropped.only_row IS 'Always true: there is at most one row, and none while no minutes were dropped.';
COMMENT ON COLUMN minutes_dropped.dropped_before IS 'Minutes before this moment may be missing although their rollups are kept, UTC.';
COMMENT ON COLUMN minutes_dropped.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN minutes_dropped.updated_at IS 'When the row last changed, UTC.';
INSERT INTO minutes_dropped (dropped_before)
SELECT max(date_trunc('hour', (metadata ->> 'before')::TIMESTAMPTZ + INTERVAL '1 hour' - INTERVAL '1 microsecond', 'UTC'))
FROM audit_trail WHERE event_type = 'retention' AND entity_id = 'ohlcv_1min' AND action = 'drop' HAVING count(*) > 0;
-- Where TimescaleDB Community kept it before.
DO $$
BEGIN
    IF to_regclass('tier.minutes_dropped') IS NOT NULL THEN
        INSERT INTO minutes_dropped (dropped_before) SELECT dropped_before FROM tier.minutes_dropped WHERE dropped_before IS NOT NULL
        ON CONFLICT (only_row) DO UPDATE SET dropped_before = greatest(minutes_dropped.dropped_before, excluded.dropped_before);
        DROP TABLE tier.minutes_dropped;
    END IF;
END
$$;

ALTER TABLE data_gaps
    DROP CONSTRAINT chk_data_gaps_class,
    ADD CONSTRAINT chk_data_gaps_class CHECK (class IN ('holiday', 'half_day', 'halt', 'no_trade', 'provider_hole', 'not_yet_published'));
COMMENT ON COLUMN data_gaps.class IS 'holiday, half_day, halt, no_trade, provider_hole or not_yet_published; NULL while unknown.';
