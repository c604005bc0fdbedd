-- One stream of what happened: detections, figures of backtests, loads that failed. Each has its own table to write to.
CREATE OR REPLACE VIEW events AS
    SELECT p.symbol, p.timestamp, p.pattern, p.timeframe::text AS timeframe,
           jsonb_build_object(
               'kind', 'detection', 'id', p.id, 'variant', p.variant, 'family', p.family, 'direction', p.direction,
               'confidence_score', p.confidence_score, 'known_at', p.known_at, 'entry_price', p.entry_price,
               'stop_loss', p.stop_loss, 'target_price', p.target_price, 'rejection_reason', p.rejection_reason,
               'metadata', p.metadata) AS details
    FROM patterns p
    UNION ALL
    SELECT nullif(r.scope, 'portfolio')::varchar(32), b.finished_at, r.pattern, r.timeframe::text,
           jsonb_build_object(
               'kind', 'backtest_result', 'run', r.run, 'scope', r.scope, 'strategy_name', r.strategy_name,
               'start_date', r.start_date, 'end_date', r.end_date, 'patterns_detected', r.patterns_detected,
               'signals', r.signals, 'winning', r.winning, 'losing', r.losing, 'win_rate', r.win_rate, 'roi', r.roi,
               'sharpe', r.sharpe, 'max_drawdown', r.max_drawdown)
    FROM backtest_results r JOIN backtest_runs b ON b.id = r.run
    UNION ALL
    SELECT l.symbol, coalesce(l.finished_at, l.started_at), NULL,
           CASE l.dataset WHEN 'daily_bars' THEN '1d' WHEN 'minute_bars' THEN '1m' END,
           jsonb_build_object(
               'kind', 'load_error', 'id', l.id, 'provider', l.provider, 'dataset', l.dataset,
               'window_start', l.window_start, 'window_end', l.window_end, 'attempts', l.attempts, 'error', l.error)
    FROM load_ledger l WHERE l.status = 'failed';
COMMENT ON VIEW events IS 'Detections, figures of backtests and failed loads as one stream; only for reading.';
COMMENT ON COLUMN events.symbol IS 'Instrument; NULL for a backtest''s portfolio and for a failed load of the whole market.';
COMMENT ON COLUMN events.timestamp IS 'Start of the bar that completes a pattern, end of a backtest, end of a failed load; UTC.';
COMMENT ON COLUMN events.pattern IS 'Pattern detected or traded; NULL for a failed load.';
COMMENT ON COLUMN events.timeframe IS 'Length of the bars: 1m 5m 15m 1h 1d; NULL for a load of anything else.';
COMMENT ON COLUMN events.details IS 'What this kind of event has besides; `kind` is detection, backtest_result or load_error.';

CREATE OR REPLACE FUNCTION refuse_events() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events is a view and takes no rows: write a detection to patterns, the figures of a backtest to backtest_results, a failed load to load_ledger'
        USING ERRCODE = 'feature_not_supported';
END $$;
COMMENT ON FUNCTION refuse_events() IS 'Names the tables to write to instead of the view events.';
CREATE OR REPLACE TRIGGER trg_events_refused INSTEAD OF INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse_events();
