ALTER TABLE backfill_requests
    ADD COLUMN kind TEXT NOT NULL DEFAULT 'history',
    ADD CONSTRAINT chk_backfill_requests_kind CHECK (kind IN ('history', 'gaps', 'trades', 'reference'));
COMMENT ON COLUMN backfill_requests.kind IS 'history: bars that are not there yet; gaps: bars that data_gaps has under the request, asked for again; trades; reference: instruments, splits and dividends.';
COMMENT ON COLUMN backfill_requests.timeframe IS 'Length of the bars: 1m 5m 15m 1h 1d; of trades 1m, which are made of them, of reference 1d.';

ALTER TABLE data_gaps
    ADD COLUMN request_id UUID REFERENCES backfill_requests ON DELETE SET NULL,
    ADD COLUMN last_answer TEXT,
    ADD COLUMN given_up_at TIMESTAMPTZ,
    ADD COLUMN given_up_reason TEXT,
    DROP CONSTRAINT chk_data_gaps_class,
    ADD CONSTRAINT chk_data_gaps_class CHECK (class IN ('holiday', 'half_day', 'halt', 'no_trade', 'provider_hole', 'not_yet_published', 'removed')),
    ADD CONSTRAINT chk_data_gaps_given_up_has_reason CHECK ((given_up_at IS NULL) = (given_up_reason IS NULL));
CREATE INDEX idx_data_gaps_request_id ON data_gaps (request_id);
CREATE INDEX idx_data_gaps_given_up_at ON data_gaps (given_up_at) WHERE given_up_at IS NOT NULL;
COMMENT ON COLUMN data_gaps.class IS 'holiday, half_day, halt, no_trade, provider_hole, not_yet_published or removed; NULL while unknown.';
COMMENT ON COLUMN data_gaps.attempts IS 'Requests that were made to have them fetched again.';
COMMENT ON COLUMN data_gaps.attempted_at IS 'When the last of these requests was made, UTC.';
COMMENT ON COLUMN data_gaps.request_id IS 'The last of these requests.';
COMMENT ON COLUMN data_gaps.last_answer IS 'What came of it.';
COMMENT ON COLUMN data_gaps.given_up_at IS 'When it was decided to ask no more, UTC; NULL while it is tried, or was not necessary.';
COMMENT ON COLUMN data_gaps.given_up_reason IS 'Why.';

-- What a person took away is not to come back by itself.
CREATE TABLE removed_minutes (
    symbol          VARCHAR(32) NOT NULL REFERENCES symbols,
    removed_from    TIMESTAMPTZ NOT NULL,
    removed_to      TIMESTAMPTZ NOT NULL,
    reason          TEXT NOT NULL,
    removed_by      TEXT NOT NULL DEFAULT coalesce(nullif(current_setting('tickstock.actor', true), ''), current_user),
    created_at      TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (symbol, removed_from, removed_to),
    CONSTRAINT chk_removed_minutes_stretch CHECK (removed_from < removed_to)
);
COMMENT ON TABLE removed_minutes IS 'Stretches whose minute bars a person removed: no load by itself stores a bar of them again.';
COMMENT ON COLUMN removed_minutes.symbol IS 'Instrument.';
COMMENT ON COLUMN removed_minutes.removed_from IS 'First minute, UTC.';
COMMENT ON COLUMN removed_minutes.removed_to IS 'First minute after it that is not meant any more, UTC.';
COMMENT ON COLUMN removed_minutes.reason IS 'Why they were wrong.';
COMMENT ON COLUMN removed_minutes.removed_by IS 'Who removed them: the session setting tickstock.actor, else the role of the database.';
COMMENT ON COLUMN removed_minutes.created_at IS 'When that was, UTC.';
INSERT INTO removed_minutes (symbol, removed_from, removed_to, reason, removed_by, created_at)
SELECT DISTINCT ON (1, 2, 3) a.entity_id, (a.metadata ->> 'start')::TIMESTAMPTZ, (a.metadata ->> 'end')::TIMESTAMPTZ,
       a.metadata ->> 'reason', a.actor, a.timestamp
FROM audit_trail a JOIN symbols i ON i.symbol = a.entity_id
WHERE a.event_type = 'removal' AND a.entity_type = 'ohlcv_1min' ORDER BY 1, 2, 3, a.timestamp DESC;

CREATE TABLE requested_history (
    symbol        VARCHAR(32) NOT NULL REFERENCES symbols,
    timeframe     timeframe NOT NULL,
    start_date    DATE,
    seen_exchange TEXT,
    seen_trading  BOOLEAN,
    asked_by      TEXT NOT NULL DEFAULT coalesce(nullif(current_setting('tickstock.actor', true), ''), current_user),
    created_at    TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at    TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (symbol, timeframe),
    CONSTRAINT chk_requested_history_timeframe_is_loaded CHECK (timeframe IN ('1m', '1d'))
);
CREATE TRIGGER trg_requested_history_updated_at BEFORE UPDATE ON requested_history FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE requested_history IS 'Symbols whose history was asked for, so that it is asked for once: by a load, by a watch list, or since they were new.';
COMMENT ON COLUMN requested_history.symbol IS 'Instrument.';
COMMENT ON COLUMN requested_history.timeframe IS 'Length of the bars: 1m or 1d.';
COMMENT ON COLUMN requested_history.start_date IS 'Earliest first day that was asked for; NULL for as far back as there is.';
COMMENT ON COLUMN requested_history.seen_exchange IS 'Exchange when it was last looked at: of another the history is asked for again; NULL before the first look.';
COMMENT ON COLUMN requested_history.seen_trading IS 'Whether it traded when it was last looked at: once it does again its history is asked for again; NULL before the first look.';
COMMENT ON COLUMN requested_history.asked_by IS 'Who asked first: the session setting tickstock.actor, else the role of the database.';
COMMENT ON COLUMN requested_history.created_at IS 'When it was first asked for, UTC.';
COMMENT ON COLUMN requested_history.updated_at IS 'When the row last changed, UTC.';
-- What there is was asked for by somebody.
INSERT INTO requested_history (symbol, timeframe) SELECT symbol, '1d' FROM symbols;

-- Alerts: what is wrong or has happened, and what each receiver was told of it.
CREATE TABLE alerts (
    id             UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    kind           TEXT NOT NULL,
    subject        TEXT NOT NULL,
    severity       TEXT NOT NULL,
    message        TEXT NOT NULL,
    run_id         TEXT,
    times          INTEGER NOT NULL DEFAULT 1,
    first_at       TIMESTAMPTZ NOT NULL,
    last_at        TIMESTAMPTZ NOT NULL,
    resolved_at    TIMESTAMPTZ,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT chk_alerts_severity CHECK (severity IN ('warning', 'error')),
    CONSTRAINT chk_alerts_times CHECK (times >= 1),
    CONSTRAINT chk_alerts_last_not_before_first CHECK (last_at >= first_at)
);
CREATE UNIQUE INDEX idx_alerts_kind_subject ON alerts (kind, subject);
CREATE INDEX idx_alerts_last_at ON alerts (last_at DESC);
CREATE TRIGGER trg_alerts_updated_at BEFORE UPDATE ON alerts FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE alerts IS 'What people are to be told of: one row for a kind and a subject, such as a failed check and which one.';
COMMENT ON COLUMN alerts.id IS 'The alert.';
COMMENT ON COLUMN alerts.kind IS 'run_failed, check_failed, request_failed, gap_given_up, tick_failed, database_slow, disk_low or lag.';
COMMENT ON COLUMN alerts.subject IS 'Which of its kind: a job, a check, a sensor, a symbol.';
COMMENT ON COLUMN alerts.severity IS 'warning or error, of the newest time.';
COMMENT ON COLUMN alerts.message IS 'What, expected, found, what to do; of the newest time.';
COMMENT ON COLUMN alerts.run_id IS 'Dagster''s run of the newest time; NULL without one.';
COMMENT ON COLUMN alerts.times IS 'How often it was seen, ever.';
COMMENT ON COLUMN alerts.first_at IS 'Since when it holds, or when it first happened, UTC.';
COMMENT ON COLUMN alerts.last_at IS 'When it was last seen, UTC.';
COMMENT ON COLUMN alerts.resolved_at IS 'When it was well again, UTC; NULL while it is not, and of what only happens.';
COMMENT ON COLUMN alerts.created_at IS 'When the row was written, UTC.';
COMMENT ON COLUMN alerts.updated_at IS 'When the row last changed, UTC.';

CREATE TABLE alert_occurrences (
    occurrence     TEXT PRIMARY KEY,
    alert          UUID NOT NULL REFERENCES alerts ON DELETE CASCADE,
    scope          JSONB,
    occurred_at    TIMESTAMPTZ NOT NULL,
    resolved_at    TIMESTAMPTZ,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp()
);
CREATE INDEX idx_alert_occurrences_alert_resolved_at ON alert_occurrences (alert, resolved_at);
CREATE INDEX idx_alert_occurrences_created_at ON alert_occurrences (created_at);
COMMENT ON TABLE alert_occurrences IS 'What has been counted as an alert, so that nothing counts twice however often it is found; older rows that are settled go.';
COMMENT ON COLUMN alert_occurrences.occurrence IS 'By what it is known when it is found again: a run, an evaluation of a check, a request, a gap.';
COMMENT ON COLUMN alert_occurrences.alert IS 'What it counted towards.';
COMMENT ON COLUMN alert_occurrences.scope IS 'Windows on which a check has not passed since: symbol, first and last day of each; NULL for all of its asset.';
COMMENT ON COLUMN alert_occurrences.occurred_at IS 'When it happened, UTC.';
COMMENT ON COLUMN alert_occurrences.resolved_at IS 'When the check passed on all of that, UTC; NULL while it has not.';
COMMENT ON COLUMN alert_occurrences.created_at IS 'When the row was written, UTC.';

CREATE TABLE alert_receivers (
    receiver        TEXT PRIMARY KEY,
    not_before      TIMESTAMPTZ,
    failures        INTEGER NOT NULL DEFAULT 0,
    error           TEXT,
    is_refusing     BOOLEAN NOT NULL DEFAULT false,
    delivered_at    TIMESTAMPTZ,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT chk_alert_receivers_failures CHECK (failures >= 0)
);
CREATE TRIGGER trg_alert_receivers_updated_at BEFORE UPDATE ON alert_receivers FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE alert_receivers IS 'Who alerts are sent to, and how that goes; addresses that are secrets do not stand here.';
COMMENT ON COLUMN alert_receivers.receiver IS 'Its name: mail and the address, or webhook, the host and a fingerprint of the address.';
COMMENT ON COLUMN alert_receivers.not_before IS 'When it is tried next, UTC: after a failure, or while somebody is sending; NULL for at once.';
COMMENT ON COLUMN alert_receivers.failures IS 'Tries that failed since the last that did not.';
COMMENT ON COLUMN alert_receivers.error IS 'Why the last try failed; NULL when it did not.';
COMMENT ON COLUMN alert_receivers.is_refusing IS 'Whether it takes nothing until something is changed, such as its address.';
COMMENT ON COLUMN alert_receivers.delivered_at IS 'When it last took a message, UTC.';
COMMENT ON COLUMN alert_receivers.created_at IS 'When it was first seen in the settings, UTC.';
COMMENT ON COLUMN alert_receivers.updated_at IS 'When the row last changed, UTC.';

CREATE TABLE alert_notices (
    alert          UUID NOT NULL REFERENCES alerts ON DELETE CASCADE,
    receiver       TEXT NOT NULL REFERENCES alert_receivers ON DELETE CASCADE,
    told_at        TIMESTAMPTZ NOT NULL,
    told_times     INTEGER NOT NULL,
    as_resolved    BOOLEAN NOT NULL DEFAULT FALSE,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (alert, receiver),
    CONSTRAINT chk_alert_notices_told_times CHECK (told_times >= 1)
);
CREATE INDEX idx_alert_notices_receiver ON alert_notices (receiver);
CREATE TRIGGER trg_alert_notices_updated_at BEFORE UPDATE ON alert_notices FOR EACH ROW EXECUTE FUNCTION stamp_updated_at();
COMMENT ON TABLE alert_notices IS 'What each receiver was last told of an alert: what it was not told yet is still to be sent.';
COMMENT ON COLUMN alert_notices.alert IS 'The alert.';
COMMENT ON COLUMN alert_notices.receiver IS 'Who was told.';
COMMENT ON COLUMN alert_notices.told_at IS 'When it was last told that something is wrong, UTC; the quiet period begins there.';
COMMENT ON COLUMN alert_notices.told_times IS 'How often the alert had been seen then.';
COMMENT ON COLUMN alert_notices.as_resolved IS 'Whether it was told since that all is well again.';
COMMENT ON COLUMN alert_notices.created_at IS 'When the row was written, UTC.';
COMMENT ON COLUMN alert_notices.updated_at IS 'When the row last changed, UTC.';

-- Of two minutes that contradict each other a person lets one pass: which is told by its moment.
ALTER TABLE quarantined_bars ADD COLUMN timestamp TIMESTAMPTZ;
COMMENT ON COLUMN quarantined_bars.timestamp IS 'Moment of a minute or trade, UTC; NULL where the row has none.';
