ALTER TABLE quarantined_bars DROP COLUMN timestamp;
DROP TABLE alert_notices;
DROP TABLE alert_receivers;
DROP TABLE alert_occurrences;
DROP TABLE alerts;

DROP TABLE requested_history;

DROP TABLE removed_minutes;

UPDATE data_gaps SET class = 'no_trade' WHERE class = 'removed';
ALTER TABLE data_gaps
    DROP CONSTRAINT chk_data_gaps_given_up_has_reason,
    DROP CONSTRAINT chk_data_gaps_class,
    ADD CONSTRAINT chk_data_gaps_class CHECK (class IN ('holiday', 'half_day', 'halt', 'no_trade', 'provider_hole', 'not_yet_published')),
    DROP COLUMN given_up_reason,
    DROP COLUMN given_up_at,
    DROP COLUMN last_answer,
    DROP COLUMN request_id;
COMMENT ON COLUMN data_gaps.class IS 'holiday, half_day, halt, no_trade, provider_hole or not_yet_published; NULL while unknown.';
COMMENT ON COLUMN data_gaps.attempts IS 'Times it was tried to fetch them.';
COMMENT ON COLUMN data_gaps.attempted_at IS 'When that was last tried, UTC.';

-- The older form would load bars for them.
UPDATE backfill_requests SET status = 'cancelled', finished_at = clock_timestamp(), error = 'of a kind that this revision does not know'
WHERE kind <> 'history' AND status IN ('requested', 'running');
ALTER TABLE backfill_requests DROP CONSTRAINT chk_backfill_requests_kind, DROP COLUMN kind;
COMMENT ON COLUMN backfill_requests.timeframe IS 'Length of the bars: 1m 5m 15m 1h 1d.';
