DROP VIEW events;
DROP FUNCTION refuse_events();
DROP TABLE backfill_requests;
DROP TABLE touched_buckets;
DROP TABLE quality_scores;
DROP TABLE quality_findings;
DROP TABLE data_gaps;
DROP TABLE provider_quota;

DROP TRIGGER trg_quarantined_bars_updated_at ON quarantined_bars;
DROP INDEX idx_quarantined_bars_released_at;
ALTER TABLE quarantined_bars
    DROP CONSTRAINT chk_quarantined_bars_release_is_whole_or_absent,
    DROP COLUMN updated_at,
    DROP COLUMN created_at,
    DROP COLUMN release_reason,
    DROP COLUMN released_by,
    DROP COLUMN released_at;

DROP TRIGGER trg_load_ledger_updated_at ON load_ledger;
DROP INDEX idx_load_ledger_status_started_at;
ALTER TABLE load_ledger DROP COLUMN updated_at, DROP COLUMN created_at;

DROP TABLE audit_trail;
DROP FUNCTION refuse_change_of_audit_trail();

ALTER TABLE backtest_trades DROP COLUMN created_at;
ALTER TABLE backtest_results DROP COLUMN created_at;
DROP INDEX idx_backtest_runs_finished_at;
ALTER TABLE backtest_runs DROP COLUMN created_at;
DROP TABLE backtest_equity;

DROP TABLE signals;
DROP TABLE campaigns;
DROP TRIGGER trg_patterns_updated_at ON patterns;
DROP INDEX idx_patterns_trading_range_id_trading_range_version;
ALTER TABLE patterns
    DROP CONSTRAINT fk_patterns_trading_ranges,
    DROP CONSTRAINT chk_patterns_trading_range_has_version,
    DROP CONSTRAINT chk_patterns_phase,
    DROP COLUMN updated_at,
    DROP COLUMN trading_range_version;
-- The ranges they point to go.
UPDATE patterns SET trading_range_id = NULL WHERE trading_range_id IS NOT NULL;
DROP TABLE trading_ranges;
DROP FUNCTION stamp_updated_at();
