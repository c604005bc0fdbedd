-- What holds calls back for minutes has no place in the old form; days stay.
DELETE FROM provider_quota WHERE period <> 'day';
ALTER TABLE provider_quota
    DROP CONSTRAINT chk_provider_quota_ends_after_start,
    DROP CONSTRAINT chk_provider_quota_period,
    DROP COLUMN ends_at,
    ADD CONSTRAINT chk_provider_quota_period CHECK (period IN ('minute', 'day'));
COMMENT ON TABLE provider_quota IS 'Calls made to each provider per minute and day: a restart does not forget them.';
COMMENT ON COLUMN provider_quota.period IS 'minute or day.';
COMMENT ON COLUMN provider_quota.period_start IS 'Start of that minute or day, UTC.';

ALTER TABLE backfill_requests
    DROP CONSTRAINT chk_backfill_requests_attempts,
    DROP COLUMN attempts,
    DROP COLUMN not_before;
ALTER TABLE quarantined_bars DROP COLUMN superseded_at;

DROP TABLE stored_windows;

-- Answers for the whole market are fetched again; their files stay in the landing folder.
DELETE FROM load_ledger WHERE symbol IS NULL;
ALTER TABLE load_ledger
    DROP CONSTRAINT chk_load_ledger_calls,
    DROP COLUMN calls,
    DROP COLUMN etag,
    DROP COLUMN route,
    ALTER COLUMN symbol SET NOT NULL;
COMMENT ON COLUMN load_ledger.symbol IS 'Instrument.';

ALTER TABLE symbols DROP COLUMN ticker_since;

CREATE OR REPLACE FUNCTION source_rank(source TEXT) RETURNS SMALLINT
    LANGUAGE SQL IMMUTABLE PARALLEL SAFE
    RETURN CASE source
        WHEN 'polygon' THEN 10
        WHEN 'alpha_vantage' THEN 20
        WHEN 'sample' THEN 30
        WHEN 'synthetic' THEN 90
        ELSE 50
    END;
