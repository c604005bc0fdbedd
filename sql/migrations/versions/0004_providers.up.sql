-- A folder of files that a person filled comes after the vendors and before the sample.
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

ALTER TABLE symbols ADD COLUMN ticker_since DATE;
COMMENT ON COLUMN symbols.ticker_since IS 'First day on which the ticker stood for this instrument: earlier bars under it are another''s; NULL where no other is known.';

-- The index on (provider, dataset, symbol, window_start) finds rows without a symbol too.
ALTER TABLE load_ledger
    ALTER COLUMN symbol DROP NOT NULL,
    ADD COLUMN route TEXT NOT NULL DEFAULT 'by_symbol',
    ADD COLUMN etag TEXT,
    ADD COLUMN calls INTEGER NOT NULL DEFAULT 1,
    ADD CONSTRAINT chk_load_ledger_calls CHECK (calls >= 0);
COMMENT ON COLUMN load_ledger.symbol IS 'Instrument; NULL for one answer for the whole market.';
COMMENT ON COLUMN load_ledger.route IS 'How it was fetched: by_symbol, grouped_daily, flat_files.';
COMMENT ON COLUMN load_ledger.etag IS 'ETag of the file it was read from: another one there makes the window due again; NULL for what is no file.';
COMMENT ON COLUMN load_ledger.calls IS 'Requests that the last try took, pages and retries included.';

CREATE TABLE stored_windows (
    provider          TEXT NOT NULL,
    dataset           TEXT NOT NULL,
    symbol            VARCHAR(32) NOT NULL REFERENCES symbols,
    window_start      DATE NOT NULL,
    window_end        DATE NOT NULL,
    source_version    TEXT NOT NULL,
    stored_at         TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (provider, dataset, symbol, window_start, window_end),
    CONSTRAINT chk_stored_windows_window CHECK (window_start <= window_end)
);
COMMENT ON TABLE stored_windows IS 'Windows whose landed rows are in their table, and in quarantine what broke a rule: only what was landed since is read again.';
COMMENT ON COLUMN stored_windows.provider IS 'Who delivered.';
COMMENT ON COLUMN stored_windows.dataset IS 'What was delivered: daily_bars, minute_bars.';
COMMENT ON COLUMN stored_windows.symbol IS 'Instrument.';
COMMENT ON COLUMN stored_windows.window_start IS 'First day.';
COMMENT ON COLUMN stored_windows.window_end IS 'Last day.';
COMMENT ON COLUMN stored_windows.source_version IS 'What the provider''s data stood at.';
COMMENT ON COLUMN stored_windows.stored_at IS 'Payloads landed before this moment are in, UTC.';

ALTER TABLE quarantined_bars ADD COLUMN superseded_at TIMESTAMPTZ;
COMMENT ON COLUMN quarantined_bars.superseded_at IS 'When the provider''s newest answer no longer had the row, UTC; NULL while it is still sent and rejected.';

ALTER TABLE backfill_requests
    ADD COLUMN not_before TIMESTAMPTZ,
    ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0,
    ADD CONSTRAINT chk_backfill_requests_attempts CHECK (attempts >= 0);
COMMENT ON COLUMN backfill_requests.not_before IS 'When a provider''s budget lets it go on, UTC; NULL where nothing holds it back.';
COMMENT ON COLUMN backfill_requests.attempts IS 'How often runs were started for it; they carry the tags tickstock/request and tickstock/attempt.';

ALTER TABLE provider_quota
    ADD COLUMN ends_at TIMESTAMPTZ,
    DROP CONSTRAINT chk_provider_quota_period;
UPDATE provider_quota SET ends_at = period_start + CASE period WHEN 'minute' THEN interval '1 minute' ELSE interval '1 day' END;
ALTER TABLE provider_quota
    ALTER COLUMN ends_at SET NOT NULL,
    ADD CONSTRAINT chk_provider_quota_period CHECK (period IN ('minute', 'day', 'retry_after')),
    ADD CONSTRAINT chk_provider_quota_ends_after_start CHECK (ends_at > period_start);
COMMENT ON TABLE provider_quota IS 'What counts against each provider''s budgets; all processes share it and a restart does not forget it.';
COMMENT ON COLUMN provider_quota.period IS 'minute: one call; day: all calls of the vendor''s day; retry_after: no call at all.';
COMMENT ON COLUMN provider_quota.period_start IS 'When the call was let through, the vendor''s day began, or the vendor asked us to wait; UTC.';
COMMENT ON COLUMN provider_quota.ends_at IS 'When it stops counting, UTC: a minute after the call''s end (while under way, after the longest it may take), the vendor''s midnight, or the moment it named.';
