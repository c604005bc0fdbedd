CREATE FUNCTION stamp_updated_at() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := statement_timestamp();
    RETURN NEW;
END $$;
COMMENT ON FUNCTION stamp_updated_at() IS 'Keeps updated_at of a row that changes.';


-- Findings ------------------------------------------------------------------------------------------------------------

CREATE TABLE trading_ranges (
    id                   UUID NOT NULL,
    version              INTEGER NOT NULL DEFAULT 1,
    symbol               VARCHAR(32) NOT NULL REFERENCES symbols,
    timeframe            timeframe NOT NULL,
    start_time           TIMESTAMPTZ NOT NULL,
    end_time             TIMESTAMPTZ NOT NULL,
    known_at             TIMESTAMPTZ NOT NULL,
    duration_bars        INTEGER NOT NULL,
    creek_level          NUMERIC(18, 8) NOT NULL,
    ice_level            NUMERIC(18, 8) NOT NULL,
    jump_target          NUMERIC(18, 8),
    cause_factor         NUMERIC(12, 6),
    range_width          NUMERIC(18, 8) NOT NULL,
    phase                TEXT,
    strength_score       NUMERIC(5, 2) NOT NULL,
    touch_count_creek    INTEGER NOT NULL DEFAULT 0,
    touch_count_ice      INTEGER NOT NULL DEFAULT 0,
    deleted_at           TIMESTAMPTZ,
    created_at           TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at           TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (id, version),
    CONSTRAINT chk_trading_ranges_version CHECK (version >= 1),
    CONSTRAINT chk_trading_ranges_end_after_start CHECK (end_time > start_time),
    CONSTRAINT chk_trading_ranges_known_after_end CHECK (known_at >= end_time),
    CONSTRAINT chk_trading_ranges_duration_bars CHECK (duration_bars BETWEEN 15 AND 100),
    CONSTRAINT chk_trading_ranges_creek_above_ice CHECK (ice_level > 0 AND creek_level > ice_level),
    CONSTRAINT chk_trading_ranges_jump_target CHECK (jump_target > 0),
    CONSTRAINT chk_trading_ranges_cause_factor CHECK (cause_factor BETWEEN 2.0 AND 3.0),
    CONSTRAINT chk_trading_ranges_range_width CHECK (range_width > 0),
    CONSTRAINT chk_trading_ranges_phase CHECK (phase IN ('A', 'B', 'C', 'D', 'E')),
    CONSTRAINT chk_trading_ranges_strength_score CHECK (strength_score BETWEEN 60 AND 100),
    CONSTRAINT chk_trading_ranges_touch_counts CHECK (touch_count_creek >= 0 AND touch_count_ice >= 0)
);
CREATE INDEX idx_trading_ranges_symbol_timeframe_start_time ON trading_ranges (symbol, timeframe, start_time DESC);
CREATE INDEX idx_trading_ranges_known_at_symbol ON trading_ranges (known_at DESC, symbol);
CREATE TRIGGER trg_trading_ranges_updated_at BEFORE UPDATE ON trading_ranges FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE trading_ranges IS 'Wyckoff trading ranges; of each id the newest version is the current one, older ones stay readable.';
COMMENT ON COLUMN trading_ranges.id IS 'The range, the same in all its versions.';
COMMENT ON COLUMN trading_ranges.version IS 'Counted from 1; a range that is measured anew gets the next.';
COMMENT ON COLUMN trading_ranges.symbol IS 'Instrument.';
COMMENT ON COLUMN trading_ranges.timeframe IS 'Length of the bars: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN trading_ranges.start_time IS 'Start of the first bar of the range, UTC.';
COMMENT ON COLUMN trading_ranges.end_time IS 'Start of the last bar that this version counts to the range, UTC.';
COMMENT ON COLUMN trading_ranges.known_at IS 'First moment this version could be known, UTC; nothing may act on it before.';
COMMENT ON COLUMN trading_ranges.duration_bars IS 'Bars from the first to the last, 15 to 100.';
COMMENT ON COLUMN trading_ranges.creek_level IS 'Upper edge, resistance in accumulation; quote currency per share.';
COMMENT ON COLUMN trading_ranges.ice_level IS 'Lower edge, support; quote currency per share.';
COMMENT ON COLUMN trading_ranges.jump_target IS 'Measured objective of the move out of the range, quote currency per share.';
COMMENT ON COLUMN trading_ranges.cause_factor IS 'Multiple of the width that the move is expected to cover, 2 to 3.';
COMMENT ON COLUMN trading_ranges.range_width IS 'creek_level - ice_level, quote currency per share.';
COMMENT ON COLUMN trading_ranges.phase IS 'Wyckoff phase, A to E.';
COMMENT ON COLUMN trading_ranges.strength_score IS 'Quality of the range, 60 to 100.';
COMMENT ON COLUMN trading_ranges.touch_count_creek IS 'Bars that touched the creek.';
COMMENT ON COLUMN trading_ranges.touch_count_ice IS 'Bars that touched the ice.';
COMMENT ON COLUMN trading_ranges.deleted_at IS 'When the range was withdrawn, UTC; it stays readable.';
COMMENT ON COLUMN trading_ranges.created_at IS 'When the row was written, UTC.';
COMMENT ON COLUMN trading_ranges.updated_at IS 'When the row last changed, UTC.';

ALTER TABLE patterns
    ADD COLUMN trading_range_version INTEGER,
    ADD COLUMN updated_at TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp();
UPDATE patterns SET updated_at = greatest(created_at, detected_at);
ALTER TABLE patterns
    ADD CONSTRAINT chk_patterns_phase CHECK (phase IN ('A', 'B', 'C', 'D', 'E')),
    ADD CONSTRAINT chk_patterns_trading_range_has_version CHECK ((trading_range_id IS NULL) = (trading_range_version IS NULL)),
    ADD CONSTRAINT fk_patterns_trading_ranges FOREIGN KEY (trading_range_id, trading_range_version)
        REFERENCES trading_ranges (id, version) ON DELETE RESTRICT;
CREATE INDEX idx_patterns_trading_range_id_trading_range_version ON patterns (trading_range_id, trading_range_version);
CREATE TRIGGER trg_patterns_updated_at BEFORE UPDATE ON patterns FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON COLUMN patterns.trading_range_version IS 'Version of that range in which the pattern was found.';
COMMENT ON COLUMN patterns.updated_at IS 'When the row last changed, UTC.';

CREATE TABLE campaigns (
    id                       UUID PRIMARY KEY,
    symbol                   VARCHAR(32) NOT NULL REFERENCES symbols,
    timeframe                timeframe NOT NULL,
    trading_range_id         UUID,
    trading_range_version    INTEGER,
    status                   TEXT NOT NULL DEFAULT 'ACTIVE',
    total_allocation         NUMERIC(12, 6) NOT NULL DEFAULT 0,
    current_risk             NUMERIC(18, 8) NOT NULL DEFAULT 0,
    entries                  JSONB NOT NULL DEFAULT '[]',
    average_entry            NUMERIC(18, 8),
    version                  INTEGER NOT NULL DEFAULT 1,
    started_at               TIMESTAMPTZ NOT NULL,
    completed_at             TIMESTAMPTZ,
    created_at               TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at               TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT fk_campaigns_trading_ranges FOREIGN KEY (trading_range_id, trading_range_version)
        REFERENCES trading_ranges (id, version) ON DELETE RESTRICT,
    CONSTRAINT chk_campaigns_trading_range_has_version CHECK ((trading_range_id IS NULL) = (trading_range_version IS NULL)),
    CONSTRAINT chk_campaigns_status CHECK (status IN ('ACTIVE', 'MARKUP', 'COMPLETED', 'INVALIDATED')),
    CONSTRAINT chk_campaigns_total_allocation CHECK (total_allocation BETWEEN 0 AND 5.0),
    CONSTRAINT chk_campaigns_current_risk CHECK (current_risk >= 0),
    CONSTRAINT chk_campaigns_entries_are_a_list CHECK (jsonb_typeof(entries) = 'array'),
    CONSTRAINT chk_campaigns_average_entry CHECK (average_entry > 0),
    CONSTRAINT chk_campaigns_version CHECK (version >= 1),
    CONSTRAINT chk_campaigns_completed_after_started CHECK (completed_at >= started_at),
    CONSTRAINT chk_campaigns_completed_has_moment CHECK (status <> 'COMPLETED' OR completed_at IS NOT NULL)
);
CREATE INDEX idx_campaigns_symbol_timeframe_started_at ON campaigns (symbol, timeframe, started_at DESC);
CREATE INDEX idx_campaigns_status_started_at ON campaigns (status, started_at DESC);
CREATE INDEX idx_campaigns_trading_range_id_trading_range_version ON campaigns (trading_range_id, trading_range_version);
CREATE TRIGGER trg_campaigns_updated_at BEFORE UPDATE ON campaigns FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE campaigns IS 'Positions built in several entries over one trading range.';
COMMENT ON COLUMN campaigns.id IS 'The campaign.';
COMMENT ON COLUMN campaigns.symbol IS 'Instrument.';
COMMENT ON COLUMN campaigns.timeframe IS 'Length of the bars: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN campaigns.trading_range_id IS 'Trading range it is built on, which cannot be removed under it.';
COMMENT ON COLUMN campaigns.trading_range_version IS 'Version of that range when the campaign began.';
COMMENT ON COLUMN campaigns.status IS 'ACTIVE, MARKUP, COMPLETED or INVALIDATED.';
COMMENT ON COLUMN campaigns.total_allocation IS 'Percent of the portfolio, at most 5.';
COMMENT ON COLUMN campaigns.current_risk IS 'What would be lost at the stops, in the account currency.';
COMMENT ON COLUMN campaigns.entries IS 'The entries, oldest first: signal, price, quantity, time.';
COMMENT ON COLUMN campaigns.average_entry IS 'Mean entry price weighted by quantity, quote currency per share.';
COMMENT ON COLUMN campaigns.version IS 'Counted up by each change: a writer that read an older one must read again.';
COMMENT ON COLUMN campaigns.started_at IS 'First entry, UTC.';
COMMENT ON COLUMN campaigns.completed_at IS 'When the last position was closed, UTC.';
COMMENT ON COLUMN campaigns.created_at IS 'When the row was written, UTC.';
COMMENT ON COLUMN campaigns.updated_at IS 'When the row last changed, UTC.';

-- The foreign key to patterns is made by sql/tiers/: a table that another refers to cannot become a hypertable.
CREATE TABLE signals (
    id                     UUID PRIMARY KEY,
    symbol                 VARCHAR(32) NOT NULL REFERENCES symbols,
    timeframe              timeframe NOT NULL,
    pattern_timestamp      TIMESTAMPTZ,
    pattern                TEXT,
    variant                TEXT,
    signal_type            TEXT NOT NULL,
    strategy_name          TEXT NOT NULL,
    generated_at           TIMESTAMPTZ NOT NULL,
    entry_price            NUMERIC(18, 8) NOT NULL,
    stop_loss              NUMERIC(18, 8),
    target_1               NUMERIC(18, 8),
    target_2               NUMERIC(18, 8),
    position_size          NUMERIC(24, 8),
    risk_amount            NUMERIC(18, 8),
    r_multiple             NUMERIC(18, 6),
    strength               NUMERIC(5, 2),
    confidence_score       NUMERIC(5, 2),
    expected_return        NUMERIC(12, 6),
    campaign_id            UUID REFERENCES campaigns ON DELETE SET NULL,
    campaign_allocation    NUMERIC(12, 6),
    status                 TEXT NOT NULL DEFAULT 'PENDING',
    rejection_reason       TEXT,
    executed               BOOLEAN NOT NULL DEFAULT false,
    execution_price        NUMERIC(18, 8),
    exit_price             NUMERIC(18, 8),
    realized_pnl           NUMERIC(18, 8),
    notification_sent      BOOLEAN NOT NULL DEFAULT false,
    approval_chain         JSONB NOT NULL DEFAULT '[]',
    indicators             JSONB NOT NULL DEFAULT '{}',
    created_at             TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at             TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT chk_signals_pattern_is_whole_or_absent CHECK (num_nulls(pattern_timestamp, pattern, variant) IN (0, 3)),
    CONSTRAINT chk_signals_signal_type CHECK (signal_type IN ('LONG', 'SHORT')),
    CONSTRAINT chk_signals_known_before_generated CHECK (generated_at > pattern_timestamp),
    CONSTRAINT chk_signals_prices_positive CHECK (entry_price > 0 AND stop_loss > 0 AND target_1 > 0 AND target_2 > 0 AND execution_price > 0 AND exit_price > 0),
    CONSTRAINT chk_signals_sizes_not_negative CHECK (position_size >= 0 AND risk_amount >= 0),
    -- A missing multiple is not one of at least 2.
    CONSTRAINT chk_signals_r_multiple CHECK (status = 'REJECTED' OR coalesce(r_multiple >= 2.0, false)),
    CONSTRAINT chk_signals_strength CHECK (strength BETWEEN 0 AND 100),
    CONSTRAINT chk_signals_confidence_score CHECK (confidence_score BETWEEN 70 AND 95),
    CONSTRAINT chk_signals_campaign_allocation CHECK (campaign_allocation BETWEEN 0 AND 5.0),
    CONSTRAINT chk_signals_status CHECK (status IN ('PENDING', 'APPROVED', 'REJECTED', 'EXECUTED', 'CLOSED', 'EXPIRED', 'CANCELLED')),
    CONSTRAINT chk_signals_rejected_has_reason CHECK (status <> 'REJECTED' OR rejection_reason IS NOT NULL),
    CONSTRAINT chk_signals_executed_has_price CHECK (NOT executed OR execution_price IS NOT NULL),
    CONSTRAINT chk_signals_approval_chain_is_a_list CHECK (jsonb_typeof(approval_chain) = 'array')
);
CREATE INDEX idx_signals_status_generated_at ON signals (status, generated_at DESC);
CREATE INDEX idx_signals_symbol_generated_at ON signals (symbol, generated_at DESC);
CREATE INDEX idx_signals_strategy_name_generated_at ON signals (strategy_name, generated_at DESC);
CREATE INDEX idx_signals_campaign_id ON signals (campaign_id);
CREATE INDEX idx_signals_symbol_timeframe_pattern_timestamp_pattern_variant ON signals (symbol, timeframe, pattern_timestamp, pattern, variant);
CREATE TRIGGER trg_signals_updated_at BEFORE UPDATE ON signals FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE signals IS 'Proposals to trade, and what became of them. Prices are in the share unit of the bar that gave the signal.';
COMMENT ON COLUMN signals.id IS 'The signal.';
COMMENT ON COLUMN signals.symbol IS 'Instrument.';
COMMENT ON COLUMN signals.timeframe IS 'Length of the bars: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN signals.pattern_timestamp IS 'Timestamp of the detection it follows from, UTC; NULL where it follows from none.';
COMMENT ON COLUMN signals.pattern IS 'Pattern of that detection.';
COMMENT ON COLUMN signals.variant IS 'Variant of that detection.';
COMMENT ON COLUMN signals.signal_type IS 'LONG or SHORT.';
COMMENT ON COLUMN signals.strategy_name IS 'Strategy that gave it.';
COMMENT ON COLUMN signals.generated_at IS 'Moment of the market at which it was given, UTC.';
COMMENT ON COLUMN signals.entry_price IS 'Proposed entry, quote currency per share.';
COMMENT ON COLUMN signals.stop_loss IS 'Price at which the idea is given up, quote currency per share.';
COMMENT ON COLUMN signals.target_1 IS 'First objective, quote currency per share.';
COMMENT ON COLUMN signals.target_2 IS 'Second objective, quote currency per share.';
COMMENT ON COLUMN signals.position_size IS 'Shares; fractions allowed.';
COMMENT ON COLUMN signals.risk_amount IS 'What would be lost at the stop, in the account currency.';
COMMENT ON COLUMN signals.r_multiple IS 'Expected profit in units of the risk; at least 2 unless the signal is rejected.';
COMMENT ON COLUMN signals.strength IS 'Strength of the signal, 0 to 100.';
COMMENT ON COLUMN signals.confidence_score IS '70 to 95; NULL where there is no honest one.';
COMMENT ON COLUMN signals.expected_return IS 'Expected profit as a fraction of the position''s value at entry.';
COMMENT ON COLUMN signals.campaign_id IS 'Campaign it belongs to; NULL when that is removed.';
COMMENT ON COLUMN signals.campaign_allocation IS 'Percent of the portfolio that it takes of the campaign''s allocation.';
COMMENT ON COLUMN signals.status IS 'PENDING, APPROVED, REJECTED, EXECUTED, CLOSED, EXPIRED or CANCELLED.';
COMMENT ON COLUMN signals.rejection_reason IS 'Why it was rejected.';
COMMENT ON COLUMN signals.executed IS 'Whether a position was taken.';
COMMENT ON COLUMN signals.execution_price IS 'Fill of the entry, quote currency per share.';
COMMENT ON COLUMN signals.exit_price IS 'Fill of the exit, quote currency per share.';
COMMENT ON COLUMN signals.realized_pnl IS 'Profit after costs, in the account currency.';
COMMENT ON COLUMN signals.notification_sent IS 'Whether a person was told.';
COMMENT ON COLUMN signals.approval_chain IS 'Who or what passed it, in order: validator, verdict, time.';
COMMENT ON COLUMN signals.indicators IS 'Values of the indicators at the time.';
COMMENT ON COLUMN signals.created_at IS 'When the row was written, UTC.';
COMMENT ON COLUMN signals.updated_at IS 'When the row last changed, UTC.';


-- Backtests -----------------------------------------------------------------------------------------------------------

CREATE TABLE backtest_equity (
    run           UUID NOT NULL REFERENCES backtest_runs ON DELETE CASCADE,
    timestamp     TIMESTAMPTZ NOT NULL,
    equity        NUMERIC(18, 8) NOT NULL,
    cash          NUMERIC(18, 8) NOT NULL,
    exposure      NUMERIC(18, 8) NOT NULL,
    drawdown      NUMERIC(12, 6) NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (run, timestamp),
    CONSTRAINT chk_backtest_equity_exposure CHECK (exposure >= 0),
    CONSTRAINT chk_backtest_equity_drawdown CHECK (drawdown >= 0)
);
CREATE INDEX idx_backtest_equity_timestamp_run ON backtest_equity (timestamp DESC, run);
COMMENT ON TABLE backtest_equity IS 'Value of a backtest''s account over time.';
COMMENT ON COLUMN backtest_equity.run IS 'Backtest.';
COMMENT ON COLUMN backtest_equity.timestamp IS 'Moment of valuation, UTC.';
COMMENT ON COLUMN backtest_equity.equity IS 'Cash and the value of open positions, in the account currency.';
COMMENT ON COLUMN backtest_equity.cash IS 'Cash, in the account currency.';
COMMENT ON COLUMN backtest_equity.exposure IS 'Sum of the sizes of open positions, long and short both positive, in the account currency.';
COMMENT ON COLUMN backtest_equity.drawdown IS 'Fall from the highest equity so far, as a positive fraction.';
COMMENT ON COLUMN backtest_equity.created_at IS 'When the row was written, UTC.';

-- Rows that are there already get the moment at which they are known to have been written.
ALTER TABLE backtest_runs ADD COLUMN created_at TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp();
UPDATE backtest_runs SET created_at = finished_at;
CREATE INDEX idx_backtest_runs_finished_at ON backtest_runs (finished_at DESC);
COMMENT ON COLUMN backtest_runs.created_at IS 'When the row was written, UTC.';

ALTER TABLE backtest_results ADD COLUMN created_at TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp();
UPDATE backtest_results r SET created_at = b.finished_at FROM backtest_runs b WHERE b.id = r.run;
COMMENT ON COLUMN backtest_results.created_at IS 'When the row was written, UTC.';

ALTER TABLE backtest_trades ADD COLUMN created_at TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp();
UPDATE backtest_trades t SET created_at = b.finished_at FROM backtest_runs b WHERE b.id = t.run;
COMMENT ON COLUMN backtest_trades.created_at IS 'When the row was written, UTC.';


-- Audit ---------------------------------------------------------------------------------------------------------------

CREATE TABLE audit_trail (
    id                UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    event_type        TEXT NOT NULL,
    entity_type       TEXT NOT NULL,
    entity_id         TEXT NOT NULL,
    timestamp         TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    actor             TEXT NOT NULL DEFAULT coalesce(nullif(current_setting('tickstock.actor', true), ''), current_user),
    action            TEXT NOT NULL,
    metadata          JSONB NOT NULL DEFAULT '{}',
    correlation_id    UUID DEFAULT nullif(current_setting('tickstock.correlation_id', true), '')::uuid,
    created_at        TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT chk_audit_trail_says_what_and_who CHECK (event_type <> '' AND entity_type <> '' AND action <> '' AND actor <> '')
);
CREATE INDEX idx_audit_trail_timestamp ON audit_trail (timestamp DESC);
CREATE INDEX idx_audit_trail_correlation_id_timestamp ON audit_trail (correlation_id, timestamp DESC);
CREATE INDEX idx_audit_trail_entity_type_entity_id_timestamp ON audit_trail (entity_type, entity_id, timestamp DESC);
COMMENT ON TABLE audit_trail IS 'Who changed what, when: loads, corrections, releases, detection runs, backtests. Rows are only ever added.';
COMMENT ON COLUMN audit_trail.id IS 'The entry.';
COMMENT ON COLUMN audit_trail.event_type IS 'Kind of event: load, correction, quarantine_release, detection, backtest.';
COMMENT ON COLUMN audit_trail.entity_type IS 'Table that changed.';
COMMENT ON COLUMN audit_trail.entity_id IS 'What of it changed: an id, or a symbol.';
COMMENT ON COLUMN audit_trail.timestamp IS 'When it happened, UTC.';
COMMENT ON COLUMN audit_trail.actor IS 'Who did it: the session setting tickstock.actor, else the role of the database.';
COMMENT ON COLUMN audit_trail.action IS 'What was done, as a verb: merge, release, save.';
COMMENT ON COLUMN audit_trail.metadata IS 'Particulars, such as the counts of rows.';
COMMENT ON COLUMN audit_trail.correlation_id IS 'The run that all its entries have in common: the session setting tickstock.correlation_id.';
COMMENT ON COLUMN audit_trail.created_at IS 'When the entry was written, UTC.';

CREATE FUNCTION refuse_change_of_audit_trail() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_trail is append-only: % is refused for every role; add an entry that says what changed instead', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;
COMMENT ON FUNCTION refuse_change_of_audit_trail() IS 'Keeps the audit trail append-only.';
-- By statement, so that it is refused even where no row matches. ALWAYS, so that a session that replays changes as a
-- replica does is held to it too; privileges alone would not hold a superuser, which the embedded server's user is.
CREATE TRIGGER trg_audit_trail_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_trail
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit_trail();
ALTER TABLE audit_trail ENABLE ALWAYS TRIGGER trg_audit_trail_append_only;
REVOKE UPDATE, DELETE, TRUNCATE ON audit_trail FROM PUBLIC;


-- Operations ----------------------------------------------------------------------------------------------------------

ALTER TABLE load_ledger
    ADD COLUMN created_at TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    ADD COLUMN updated_at TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp();
UPDATE load_ledger SET created_at = started_at, updated_at = coalesce(finished_at, started_at);
CREATE INDEX idx_load_ledger_status_started_at ON load_ledger (status, started_at DESC);
CREATE TRIGGER trg_load_ledger_updated_at BEFORE UPDATE ON load_ledger FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON COLUMN load_ledger.created_at IS 'When the row was written, UTC.';
COMMENT ON COLUMN load_ledger.updated_at IS 'When the row last changed, UTC.';

ALTER TABLE quarantined_bars
    ADD COLUMN released_at TIMESTAMPTZ,
    ADD COLUMN released_by TEXT,
    ADD COLUMN release_reason TEXT,
    ADD COLUMN created_at TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    ADD COLUMN updated_at TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    ADD CONSTRAINT chk_quarantined_bars_release_is_whole_or_absent CHECK (num_nulls(released_at, released_by, release_reason) IN (0, 3));
UPDATE quarantined_bars SET created_at = quarantined_at, updated_at = quarantined_at;
CREATE INDEX idx_quarantined_bars_released_at ON quarantined_bars (released_at DESC);
CREATE TRIGGER trg_quarantined_bars_updated_at BEFORE UPDATE ON quarantined_bars FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON COLUMN quarantined_bars.released_at IS 'When a person let the row pass, UTC; the row stays here.';
COMMENT ON COLUMN quarantined_bars.released_by IS 'Who let it pass.';
COMMENT ON COLUMN quarantined_bars.release_reason IS 'Why it may pass.';
COMMENT ON COLUMN quarantined_bars.created_at IS 'When the row was written, UTC.';
COMMENT ON COLUMN quarantined_bars.updated_at IS 'When the row last changed, UTC.';

CREATE TABLE provider_quota (
    provider        TEXT NOT NULL,
    period          TEXT NOT NULL,
    period_start    TIMESTAMPTZ NOT NULL,
    used            INTEGER NOT NULL DEFAULT 0,
    budget          INTEGER,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (provider, period, period_start),
    CONSTRAINT chk_provider_quota_period CHECK (period IN ('minute', 'day')),
    CONSTRAINT chk_provider_quota_not_negative CHECK (used >= 0 AND budget >= 0)
);
CREATE INDEX idx_provider_quota_period_start ON provider_quota (period_start DESC);
CREATE TRIGGER trg_provider_quota_updated_at BEFORE UPDATE ON provider_quota FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE provider_quota IS 'Calls made to each provider per minute and day: a restart does not forget them.';
COMMENT ON COLUMN provider_quota.provider IS 'Provider.';
COMMENT ON COLUMN provider_quota.period IS 'minute or day.';
COMMENT ON COLUMN provider_quota.period_start IS 'Start of that minute or day, UTC.';
COMMENT ON COLUMN provider_quota.used IS 'Calls made.';
COMMENT ON COLUMN provider_quota.budget IS 'Calls allowed; NULL where there is no limit.';
COMMENT ON COLUMN provider_quota.created_at IS 'When the row was written, UTC.';
COMMENT ON COLUMN provider_quota.updated_at IS 'When the row last changed, UTC.';

CREATE TABLE data_gaps (
    id              UUID PRIMARY KEY,
    symbol          VARCHAR(32) NOT NULL REFERENCES symbols,
    timeframe       timeframe NOT NULL,
    gap_start       TIMESTAMPTZ NOT NULL,
    gap_end         TIMESTAMPTZ NOT NULL,
    missing_bars    INTEGER NOT NULL,
    class           TEXT,
    evidence        JSONB NOT NULL DEFAULT '{}',
    attempts        INTEGER NOT NULL DEFAULT 0,
    attempted_at    TIMESTAMPTZ,
    healed_at       TIMESTAMPTZ,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT chk_data_gaps_end_not_before_start CHECK (gap_end >= gap_start),
    CONSTRAINT chk_data_gaps_missing_bars CHECK (missing_bars >= 1),
    CONSTRAINT chk_data_gaps_class CHECK (class IN ('holiday', 'no_trade', 'provider_hole', 'not_yet_published')),
    CONSTRAINT chk_data_gaps_attempts CHECK (attempts >= 0)
);
CREATE INDEX idx_data_gaps_symbol_timeframe_gap_start ON data_gaps (symbol, timeframe, gap_start DESC);
CREATE INDEX idx_data_gaps_healed_at_class ON data_gaps (healed_at DESC, class);
CREATE TRIGGER trg_data_gaps_updated_at BEFORE UPDATE ON data_gaps FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE data_gaps IS 'Bars that were expected and are not there, and why.';
COMMENT ON COLUMN data_gaps.id IS 'uuid5 of symbol, timeframe and gap_start.';
COMMENT ON COLUMN data_gaps.symbol IS 'Instrument.';
COMMENT ON COLUMN data_gaps.timeframe IS 'Length of the missing bars: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN data_gaps.gap_start IS 'Start of the first missing bar, UTC; of a daily bar, the session''s open.';
COMMENT ON COLUMN data_gaps.gap_end IS 'Start of the last missing bar, UTC.';
COMMENT ON COLUMN data_gaps.missing_bars IS 'Bars missing.';
COMMENT ON COLUMN data_gaps.class IS 'holiday, no_trade, provider_hole or not_yet_published; NULL while unknown.';
COMMENT ON COLUMN data_gaps.evidence IS 'What the class rests on.';
COMMENT ON COLUMN data_gaps.attempts IS 'Times it was tried to fetch them.';
COMMENT ON COLUMN data_gaps.attempted_at IS 'When that was last tried, UTC.';
COMMENT ON COLUMN data_gaps.healed_at IS 'When the last missing bar arrived, UTC.';
COMMENT ON COLUMN data_gaps.created_at IS 'When the gap was found, UTC.';
COMMENT ON COLUMN data_gaps.updated_at IS 'When the row last changed, UTC.';

CREATE TABLE quality_findings (
    id             UUID PRIMARY KEY,
    symbol         VARCHAR(32) NOT NULL REFERENCES symbols,
    timeframe      timeframe NOT NULL,
    timestamp      TIMESTAMPTZ NOT NULL,
    rule           TEXT NOT NULL,
    severity       TEXT NOT NULL,
    source         TEXT,
    reason         TEXT NOT NULL,
    evidence       JSONB NOT NULL DEFAULT '{}',
    resolved_at    TIMESTAMPTZ,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT chk_quality_findings_severity CHECK (severity IN ('info', 'warning', 'error'))
);
CREATE INDEX idx_quality_findings_symbol_timeframe_timestamp ON quality_findings (symbol, timeframe, timestamp DESC);
CREATE INDEX idx_quality_findings_rule_timestamp ON quality_findings (rule, timestamp DESC);
CREATE TRIGGER trg_quality_findings_updated_at BEFORE UPDATE ON quality_findings FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE quality_findings IS 'Stored bars that look odd: outliers, stale prices, volume spikes, disagreement between providers.';
COMMENT ON COLUMN quality_findings.id IS 'uuid5 of symbol, timeframe, timestamp, rule and source.';
COMMENT ON COLUMN quality_findings.symbol IS 'Instrument.';
COMMENT ON COLUMN quality_findings.timeframe IS 'Length of the bar: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN quality_findings.timestamp IS 'Start of the bar, UTC; of a daily bar, the session''s open.';
COMMENT ON COLUMN quality_findings.rule IS 'Rule it falls under.';
COMMENT ON COLUMN quality_findings.severity IS 'info, warning or error.';
COMMENT ON COLUMN quality_findings.source IS 'Provider of the bar; NULL where several are compared.';
COMMENT ON COLUMN quality_findings.reason IS 'What is odd, in words, with the values.';
COMMENT ON COLUMN quality_findings.evidence IS 'The numbers it rests on.';
COMMENT ON COLUMN quality_findings.resolved_at IS 'When the finding no longer held, UTC.';
COMMENT ON COLUMN quality_findings.created_at IS 'When it was found, UTC.';
COMMENT ON COLUMN quality_findings.updated_at IS 'When the row last changed, UTC.';

CREATE TABLE quality_scores (
    symbol        VARCHAR(32) NOT NULL REFERENCES symbols,
    timeframe     timeframe NOT NULL,
    session       DATE NOT NULL,
    scored_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    score         NUMERIC(5, 2) NOT NULL,
    components    JSONB NOT NULL DEFAULT '{}',
    created_at    TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (symbol, timeframe, session, scored_at),
    CONSTRAINT chk_quality_scores_score CHECK (score BETWEEN 0 AND 100)
);
CREATE INDEX idx_quality_scores_session_symbol ON quality_scores (session DESC, symbol);
COMMENT ON TABLE quality_scores IS 'How good a session''s bars are; the newest row of a session counts, older ones are its history.';
COMMENT ON COLUMN quality_scores.symbol IS 'Instrument.';
COMMENT ON COLUMN quality_scores.timeframe IS 'Length of the bars: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN quality_scores.session IS 'Session scored.';
COMMENT ON COLUMN quality_scores.scored_at IS 'When it was scored, UTC.';
COMMENT ON COLUMN quality_scores.score IS '0 (useless) to 100 (nothing to object to).';
COMMENT ON COLUMN quality_scores.components IS 'What the score is made of, by name.';
COMMENT ON COLUMN quality_scores.created_at IS 'When the row was written, UTC.';

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

CREATE TABLE backfill_requests (
    id              UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    symbols         TEXT[] NOT NULL,
    timeframe       timeframe NOT NULL,
    start_date      DATE NOT NULL,
    end_date        DATE NOT NULL,
    requested_by    TEXT NOT NULL DEFAULT coalesce(nullif(current_setting('tickstock.actor', true), ''), current_user),
    reason          TEXT,
    status          TEXT NOT NULL DEFAULT 'requested',
    progress        NUMERIC(12, 6) NOT NULL DEFAULT 0,
    error           TEXT,
    started_at      TIMESTAMPTZ,
    finished_at     TIMESTAMPTZ,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT chk_backfill_requests_names_symbols CHECK (cardinality(symbols) >= 1 AND array_position(symbols, NULL) IS NULL),
    CONSTRAINT chk_backfill_requests_range CHECK (start_date <= end_date),
    CONSTRAINT chk_backfill_requests_status CHECK (status IN ('requested', 'running', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT chk_backfill_requests_progress CHECK (progress BETWEEN 0 AND 1),
    CONSTRAINT chk_backfill_requests_failed_has_error CHECK (status <> 'failed' OR error IS NOT NULL),
    CONSTRAINT chk_backfill_requests_finished_after_started CHECK (finished_at >= started_at)
);
CREATE INDEX idx_backfill_requests_status_created_at ON backfill_requests (status, created_at DESC);
CREATE TRIGGER trg_backfill_requests_updated_at BEFORE UPDATE ON backfill_requests FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE backfill_requests IS 'What a person asked to be loaded, and how far it is.';
COMMENT ON COLUMN backfill_requests.id IS 'The request.';
COMMENT ON COLUMN backfill_requests.symbols IS 'Instruments asked for; they need not be known yet.';
COMMENT ON COLUMN backfill_requests.timeframe IS 'Length of the bars: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN backfill_requests.start_date IS 'First day asked for.';
COMMENT ON COLUMN backfill_requests.end_date IS 'Last day asked for.';
COMMENT ON COLUMN backfill_requests.requested_by IS 'Who asked: the session setting tickstock.actor, else the role of the database.';
COMMENT ON COLUMN backfill_requests.reason IS 'What for.';
COMMENT ON COLUMN backfill_requests.status IS 'requested, running, succeeded, failed or cancelled.';
COMMENT ON COLUMN backfill_requests.progress IS 'Share that is loaded, 0 to 1.';
COMMENT ON COLUMN backfill_requests.error IS 'Why it failed.';
COMMENT ON COLUMN backfill_requests.started_at IS 'When work on it began, UTC.';
COMMENT ON COLUMN backfill_requests.finished_at IS 'When work on it ended, UTC.';
COMMENT ON COLUMN backfill_requests.created_at IS 'When it was asked, UTC.';
COMMENT ON COLUMN backfill_requests.updated_at IS 'When the row last changed, UTC.';
