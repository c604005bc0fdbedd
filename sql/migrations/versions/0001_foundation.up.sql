-- Which source wins where two have a bar for the same key: the lowest rank.
CREATE FUNCTION source_rank(source TEXT) RETURNS SMALLINT
    LANGUAGE SQL IMMUTABLE PARALLEL SAFE
    RETURN CASE source
        WHEN 'polygon' THEN 10
        WHEN 'alpha_vantage' THEN 20
        WHEN 'sample' THEN 30
        WHEN 'synthetic' THEN 90
        ELSE 50
    END;
COMMENT ON FUNCTION source_rank(TEXT) IS 'Precedence of a source of bars; the lowest rank wins.';

CREATE DOMAIN timeframe AS TEXT CHECK (VALUE IN ('1m', '5m', '15m', '1h', '1d'));
COMMENT ON DOMAIN timeframe IS 'Length of a bar.';


-- Reference -----------------------------------------------------------------------------------------------------------

CREATE TABLE symbols (
    symbol                         VARCHAR(32) PRIMARY KEY,
    name                           TEXT,
    exchange                       TEXT NOT NULL DEFAULT 'XNYS',
    market                         TEXT,
    locale                         TEXT,
    currency_name                  TEXT,
    currency_symbol                TEXT,
    type                           TEXT,
    active                         BOOLEAN,
    cik                            TEXT,
    composite_figi                 TEXT,
    share_class_figi               TEXT,
    market_cap                     NUMERIC(24, 8),
    weighted_shares_outstanding    NUMERIC(24, 8),
    list_date                      DATE,
    delisted_utc                   TIMESTAMPTZ,
    last_updated_utc               TIMESTAMPTZ,
    last_updated                   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT chk_symbols_symbol_is_a_partition_key CHECK (symbol ~ '^[A-Za-z0-9.:/_-]{1,32}$')
);
COMMENT ON TABLE symbols IS 'One row per instrument on one venue or on the consolidated tape.';
COMMENT ON COLUMN symbols.symbol IS 'Ticker, with a prefix where one is needed to be unique: AAPL, O:AAPL240119C00150000, BINANCE:BTCUSDT.';
COMMENT ON COLUMN symbols.name IS 'Name of the issuer or of the instrument.';
COMMENT ON COLUMN symbols.exchange IS 'ISO 10383 code of the calendar that the instrument trades on.';
COMMENT ON COLUMN symbols.market IS 'Kind of market: stocks, crypto, fx, options.';
COMMENT ON COLUMN symbols.locale IS 'Country or region of the market.';
COMMENT ON COLUMN symbols.currency_name IS 'Currency in which prices are quoted.';
COMMENT ON COLUMN symbols.currency_symbol IS 'ISO 4217 code of that currency.';
COMMENT ON COLUMN symbols.type IS 'Kind of instrument in the vendor''s code: CS common stock, ETF.';
COMMENT ON COLUMN symbols.active IS 'Whether it trades today; unknown where a source does not say.';
COMMENT ON COLUMN symbols.cik IS 'Central Index Key of the SEC.';
COMMENT ON COLUMN symbols.composite_figi IS 'Financial Instrument Global Identifier, composite.';
COMMENT ON COLUMN symbols.share_class_figi IS 'Financial Instrument Global Identifier of the share class.';
COMMENT ON COLUMN symbols.market_cap IS 'Market capitalisation, in the quote currency.';
COMMENT ON COLUMN symbols.weighted_shares_outstanding IS 'Shares outstanding over all classes, in shares.';
COMMENT ON COLUMN symbols.list_date IS 'First session it traded; no bar is expected before.';
COMMENT ON COLUMN symbols.delisted_utc IS 'When it stopped trading, UTC.';
COMMENT ON COLUMN symbols.last_updated_utc IS 'When the vendor last changed its record, UTC.';
COMMENT ON COLUMN symbols.last_updated IS 'When this row last changed here, UTC.';

CREATE TABLE sessions (
    exchange           TEXT NOT NULL,
    session            DATE NOT NULL,
    open               TIMESTAMPTZ NOT NULL,
    close              TIMESTAMPTZ NOT NULL,
    kind               TEXT NOT NULL DEFAULT 'regular',
    override_reason    TEXT,
    override_author    TEXT,
    PRIMARY KEY (exchange, session),
    CONSTRAINT chk_sessions_open_before_close CHECK (open < close),
    CONSTRAINT chk_sessions_kind CHECK (kind IN ('regular', 'half_day', 'closed_by_override')),
    CONSTRAINT chk_sessions_override_has_reason CHECK (kind <> 'closed_by_override' OR (override_reason IS NOT NULL AND override_author IS NOT NULL))
);
COMMENT ON TABLE sessions IS 'The trading days of each exchange: the only calendar that queries read.';
COMMENT ON COLUMN sessions.exchange IS 'ISO 10383 code.';
COMMENT ON COLUMN sessions.session IS 'Trading day, in the exchange''s own time zone.';
COMMENT ON COLUMN sessions.open IS 'First moment of regular trading, UTC.';
COMMENT ON COLUMN sessions.close IS 'Last moment of regular trading, UTC.';
COMMENT ON COLUMN sessions.kind IS 'regular, half_day, or closed_by_override.';
COMMENT ON COLUMN sessions.override_reason IS 'Why a person changed this session.';
COMMENT ON COLUMN sessions.override_author IS 'Who changed it.';

CREATE TABLE splits (
    symbol            VARCHAR(32) NOT NULL REFERENCES symbols,
    execution_date    DATE NOT NULL,
    source            TEXT NOT NULL,
    split_from        NUMERIC(18, 8) NOT NULL,
    split_to          NUMERIC(18, 8) NOT NULL,
    recorded_at       TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (symbol, execution_date, source),
    CONSTRAINT chk_splits_positive CHECK (split_from > 0 AND split_to > 0)
);
COMMENT ON TABLE splits IS 'Share splits: split_from old shares become split_to new ones.';
COMMENT ON COLUMN splits.symbol IS 'Instrument.';
COMMENT ON COLUMN splits.execution_date IS 'First session that trades in new shares.';
COMMENT ON COLUMN splits.source IS 'Provider that reported it.';
COMMENT ON COLUMN splits.split_from IS 'Old shares.';
COMMENT ON COLUMN splits.split_to IS 'New shares.';
COMMENT ON COLUMN splits.recorded_at IS 'When it became known here, UTC.';

CREATE TABLE dividends (
    symbol               VARCHAR(32) NOT NULL REFERENCES symbols,
    ex_dividend_date     DATE NOT NULL,
    source               TEXT NOT NULL,
    distribution_type    TEXT NOT NULL DEFAULT 'unknown',
    cash_amount          NUMERIC(18, 8) NOT NULL,
    currency             TEXT,
    declaration_date     DATE,
    record_date          DATE,
    pay_date             DATE,
    frequency            INTEGER,
    recorded_at          TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (symbol, ex_dividend_date, source, distribution_type),
    CONSTRAINT chk_dividends_positive CHECK (cash_amount > 0)
);
COMMENT ON TABLE dividends IS 'Cash dividends.';
COMMENT ON COLUMN dividends.symbol IS 'Instrument.';
COMMENT ON COLUMN dividends.ex_dividend_date IS 'First session that trades without the dividend.';
COMMENT ON COLUMN dividends.source IS 'Provider that reported it.';
COMMENT ON COLUMN dividends.distribution_type IS 'recurring, special, or unknown where the source does not say.';
COMMENT ON COLUMN dividends.cash_amount IS 'Currency units per share as counted on the ex-dividend date.';
COMMENT ON COLUMN dividends.currency IS 'ISO 4217 code; unknown where the source does not say.';
COMMENT ON COLUMN dividends.declaration_date IS 'Day it was announced.';
COMMENT ON COLUMN dividends.record_date IS 'Day on which holders of record are fixed.';
COMMENT ON COLUMN dividends.pay_date IS 'Day it is paid.';
COMMENT ON COLUMN dividends.frequency IS 'Payments a year; 0 for a one-time payment.';
COMMENT ON COLUMN dividends.recorded_at IS 'When it became known here, UTC.';


-- Market data ---------------------------------------------------------------------------------------------------------

CREATE TABLE ohlcv_daily (
    symbol          VARCHAR(32) NOT NULL REFERENCES symbols,
    date            DATE NOT NULL,
    open            NUMERIC(18, 8) NOT NULL,
    high            NUMERIC(18, 8) NOT NULL,
    low             NUMERIC(18, 8) NOT NULL,
    close           NUMERIC(18, 8) NOT NULL,
    volume          NUMERIC(24, 8) NOT NULL,
    quote_volume    NUMERIC(24, 8),
    vwap            NUMERIC(18, 8),
    trades_count    BIGINT,
    exchange        TEXT NOT NULL DEFAULT 'XNYS',
    source          TEXT NOT NULL,
    recorded_at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (symbol, date),
    CONSTRAINT chk_ohlcv_daily_prices_positive CHECK (open > 0 AND high > 0 AND low > 0 AND close > 0),
    CONSTRAINT chk_ohlcv_daily_high_is_highest CHECK (high >= low AND high >= open AND high >= close),
    CONSTRAINT chk_ohlcv_daily_low_is_lowest CHECK (low <= open AND low <= close),
    CONSTRAINT chk_ohlcv_daily_volume_not_negative CHECK (volume >= 0 AND quote_volume >= 0 AND trades_count >= 0)
);
CREATE INDEX idx_ohlcv_daily_date ON ohlcv_daily (date DESC, symbol);
COMMENT ON TABLE ohlcv_daily IS 'Daily bars of regular trading, unadjusted for splits and dividends.';
COMMENT ON COLUMN ohlcv_daily.symbol IS 'Instrument.';
COMMENT ON COLUMN ohlcv_daily.date IS 'Session; as a timestamp, its open.';
COMMENT ON COLUMN ohlcv_daily.open IS 'First price, quote currency per share.';
COMMENT ON COLUMN ohlcv_daily.high IS 'Highest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_daily.low IS 'Lowest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_daily.close IS 'Last price, quote currency per share.';
COMMENT ON COLUMN ohlcv_daily.volume IS 'Shares traded; may be fractional.';
COMMENT ON COLUMN ohlcv_daily.quote_volume IS 'Value traded, in the quote currency.';
COMMENT ON COLUMN ohlcv_daily.vwap IS 'Volume-weighted average price, quote currency per share.';
COMMENT ON COLUMN ohlcv_daily.trades_count IS 'Number of trades.';
COMMENT ON COLUMN ohlcv_daily.exchange IS 'ISO 10383 code of the calendar the session belongs to.';
COMMENT ON COLUMN ohlcv_daily.source IS 'Provider of the bar.';
COMMENT ON COLUMN ohlcv_daily.recorded_at IS 'When these values became known here, UTC.';

CREATE TABLE bar_features (
    symbol          VARCHAR(32) NOT NULL REFERENCES symbols,
    timeframe       timeframe NOT NULL,
    timestamp       TIMESTAMPTZ NOT NULL,
    spread          NUMERIC(18, 8) NOT NULL,
    spread_ratio    NUMERIC(12, 6),
    volume_ratio    NUMERIC(12, 6),
    true_range      NUMERIC(18, 8) NOT NULL,
    atr_14          NUMERIC(18, 8),
    log_return      NUMERIC(18, 12),
    PRIMARY KEY (symbol, timeframe, timestamp),
    CONSTRAINT chk_bar_features_not_negative CHECK (spread >= 0 AND spread_ratio >= 0 AND volume_ratio >= 0 AND true_range >= 0 AND atr_14 >= 0)
);
CREATE INDEX idx_bar_features_timestamp ON bar_features (timestamp DESC, symbol);
COMMENT ON TABLE bar_features IS 'Measures of each bar over split-adjusted history; currency values in the share unit of the bar itself.';
COMMENT ON COLUMN bar_features.symbol IS 'Instrument.';
COMMENT ON COLUMN bar_features.timeframe IS 'Length of the bar: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN bar_features.timestamp IS 'Start of the bar, UTC; of a daily bar, the session''s open.';
COMMENT ON COLUMN bar_features.spread IS 'high - low, quote currency per share.';
COMMENT ON COLUMN bar_features.spread_ratio IS 'spread to the mean of the 20 bars before, at most 999999.999999; NULL during warm-up.';
COMMENT ON COLUMN bar_features.volume_ratio IS 'volume to the mean of the 20 bars before, at most 999999.999999; NULL during warm-up.';
COMMENT ON COLUMN bar_features.true_range IS 'Wilder''s true range, quote currency per share.';
COMMENT ON COLUMN bar_features.atr_14 IS 'Wilder''s average true range over 14 bars, quote currency per share; NULL during warm-up.';
COMMENT ON COLUMN bar_features.log_return IS 'ln(close / previous close); NULL for the first bar.';


-- Findings ------------------------------------------------------------------------------------------------------------

CREATE TABLE patterns (
    symbol                VARCHAR(32) NOT NULL REFERENCES symbols,
    timeframe             timeframe NOT NULL,
    timestamp             TIMESTAMPTZ NOT NULL,
    pattern               TEXT NOT NULL,
    variant               TEXT NOT NULL DEFAULT '',
    id                    UUID NOT NULL,
    family                TEXT NOT NULL,
    direction             TEXT NOT NULL,
    confidence_score      NUMERIC(5, 2),
    known_at              TIMESTAMPTZ NOT NULL,
    entry_price           NUMERIC(18, 8),
    stop_loss             NUMERIC(18, 8),
    invalidation_level    NUMERIC(18, 8),
    target_price          NUMERIC(18, 8),
    volume_ratio          NUMERIC(12, 6),
    spread_ratio          NUMERIC(12, 6),
    phase                 TEXT,
    trading_range_id      UUID,
    test_confirmed        BOOLEAN,
    test_bar_timestamp    TIMESTAMPTZ,
    rejection_reason      TEXT,
    metadata              JSONB NOT NULL DEFAULT '{}',
    metadata_version      SMALLINT NOT NULL DEFAULT 1,
    detected_at           TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    created_at            TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (symbol, timeframe, timestamp, pattern, variant),
    CONSTRAINT chk_patterns_family CHECK (family IN ('candlestick', 'chart', 'wyckoff')),
    CONSTRAINT chk_patterns_direction CHECK (direction IN ('bullish', 'bearish')),
    CONSTRAINT chk_patterns_confidence_score CHECK (confidence_score BETWEEN 70 AND 95),
    CONSTRAINT chk_patterns_known_after_bar_starts CHECK (known_at > timestamp)
);
CREATE INDEX idx_patterns_known_at ON patterns (known_at DESC, symbol);
CREATE INDEX idx_patterns_pattern_timestamp ON patterns (pattern, timestamp DESC);
COMMENT ON TABLE patterns IS 'Detections; each says when it became knowable. Prices are in the share unit of the detection bar.';
COMMENT ON COLUMN patterns.symbol IS 'Instrument.';
COMMENT ON COLUMN patterns.timeframe IS 'Length of the bars: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN patterns.timestamp IS 'Start of the bar that completes the pattern, UTC.';
COMMENT ON COLUMN patterns.pattern IS 'Name; of candlesticks, the TA-Lib function.';
COMMENT ON COLUMN patterns.variant IS 'Parameters such as 5/20; empty where there are none.';
COMMENT ON COLUMN patterns.id IS 'uuid5 of the key: the same detection has the same id everywhere.';
COMMENT ON COLUMN patterns.family IS 'candlestick, chart or wyckoff.';
COMMENT ON COLUMN patterns.direction IS 'bullish or bearish.';
COMMENT ON COLUMN patterns.confidence_score IS '70 to 95; NULL for families that cannot give an honest one.';
COMMENT ON COLUMN patterns.known_at IS 'First moment the pattern could be known, UTC; nothing may act on it before.';
COMMENT ON COLUMN patterns.entry_price IS 'Close of the completing bar, quote currency per share.';
COMMENT ON COLUMN patterns.stop_loss IS 'Price at which the idea is given up, quote currency per share.';
COMMENT ON COLUMN patterns.invalidation_level IS 'Price past which the pattern itself no longer holds, quote currency per share.';
COMMENT ON COLUMN patterns.target_price IS 'Measured objective, quote currency per share.';
COMMENT ON COLUMN patterns.volume_ratio IS 'volume_ratio of the completing bar.';
COMMENT ON COLUMN patterns.spread_ratio IS 'spread_ratio of the completing bar.';
COMMENT ON COLUMN patterns.phase IS 'Wyckoff phase, A to E.';
COMMENT ON COLUMN patterns.trading_range_id IS 'Trading range it belongs to.';
COMMENT ON COLUMN patterns.test_confirmed IS 'Whether a later test confirmed it.';
COMMENT ON COLUMN patterns.test_bar_timestamp IS 'Start of that test''s bar, UTC.';
COMMENT ON COLUMN patterns.rejection_reason IS 'Why a validator rejected it.';
COMMENT ON COLUMN patterns.metadata IS 'What only this pattern has.';
COMMENT ON COLUMN patterns.metadata_version IS 'Version of the shape of metadata.';
COMMENT ON COLUMN patterns.detected_at IS 'When the detector found it, UTC.';
COMMENT ON COLUMN patterns.created_at IS 'When the row was written, UTC.';

CREATE TABLE backtest_runs (
    id              UUID PRIMARY KEY,
    config          JSONB NOT NULL,
    config_hash     TEXT NOT NULL,
    code_version    TEXT NOT NULL,
    data_as_of      TIMESTAMPTZ NOT NULL,
    data_hash       TEXT NOT NULL,
    data_source     TEXT NOT NULL,
    started_at      TIMESTAMPTZ NOT NULL,
    finished_at     TIMESTAMPTZ NOT NULL,
    CONSTRAINT chk_backtest_runs_finished_after_started CHECK (finished_at >= started_at)
);
COMMENT ON TABLE backtest_runs IS 'One row per distinct backtest: configuration, code and data together give the id.';
COMMENT ON COLUMN backtest_runs.id IS 'uuid5 of config_hash, code_version and data_hash.';
COMMENT ON COLUMN backtest_runs.config IS 'Capital, costs, holding period.';
COMMENT ON COLUMN backtest_runs.config_hash IS 'SHA-256 of config.';
COMMENT ON COLUMN backtest_runs.code_version IS 'Version of this package.';
COMMENT ON COLUMN backtest_runs.data_as_of IS 'Close of the last bar that was read, UTC.';
COMMENT ON COLUMN backtest_runs.data_hash IS 'SHA-256 of the bars, detections, splits and dividends that were read.';
COMMENT ON COLUMN backtest_runs.data_source IS 'Sources of the bars, in alphabetical order, separated by commas.';
COMMENT ON COLUMN backtest_runs.started_at IS 'When it was first computed, UTC.';
COMMENT ON COLUMN backtest_runs.finished_at IS 'When that computation ended, UTC.';

CREATE TABLE backtest_results (
    run                           UUID NOT NULL REFERENCES backtest_runs ON DELETE CASCADE,
    scope                         TEXT NOT NULL,
    timeframe                     timeframe NOT NULL,
    strategy_name                 TEXT NOT NULL,
    pattern                       TEXT NOT NULL,
    start_date                    DATE NOT NULL,
    end_date                      DATE NOT NULL,
    patterns_detected             INTEGER NOT NULL,
    true_positives                INTEGER,
    false_positives               INTEGER,
    false_negatives               INTEGER,
    "precision"                   NUMERIC(12, 6),
    recall                        NUMERIC(12, 6),
    signals                       INTEGER NOT NULL,
    winning                       INTEGER NOT NULL,
    losing                        INTEGER NOT NULL,
    win_rate                      NUMERIC(12, 6),
    average_r_multiple            NUMERIC(18, 6),
    roi                           NUMERIC(18, 6) NOT NULL,
    sharpe                        NUMERIC(12, 6),
    sortino                       NUMERIC(12, 6),
    max_drawdown                  NUMERIC(12, 6) NOT NULL,
    profit_factor                 NUMERIC(18, 6),
    expectancy                    NUMERIC(18, 8),
    edge_confidence_low           NUMERIC(18, 8),
    edge_confidence_high          NUMERIC(18, 8),
    edge_p_value                  NUMERIC(12, 6),
    look_ahead_bias_check         BOOLEAN NOT NULL,
    PRIMARY KEY (run, scope, timeframe, strategy_name, pattern),
    CONSTRAINT chk_backtest_results_counts CHECK (patterns_detected >= signals AND signals >= winning + losing AND winning >= 0 AND losing >= 0),
    CONSTRAINT chk_backtest_results_shares CHECK (win_rate BETWEEN 0 AND 1 AND "precision" BETWEEN 0 AND 1 AND recall BETWEEN 0 AND 1),
    CONSTRAINT chk_backtest_results_max_drawdown CHECK (max_drawdown >= 0)
);
COMMENT ON TABLE backtest_results IS 'Figures of each strategy in a backtest, for the portfolio and for each symbol.';
COMMENT ON COLUMN backtest_results.run IS 'Backtest.';
COMMENT ON COLUMN backtest_results.scope IS 'portfolio, or a symbol.';
COMMENT ON COLUMN backtest_results.timeframe IS 'Length of the bars: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN backtest_results.strategy_name IS 'What was traded: the pattern and its variant.';
COMMENT ON COLUMN backtest_results.pattern IS 'Pattern that gave the signals.';
COMMENT ON COLUMN backtest_results.start_date IS 'First session.';
COMMENT ON COLUMN backtest_results.end_date IS 'Last session.';
COMMENT ON COLUMN backtest_results.patterns_detected IS 'Detections within scope.';
COMMENT ON COLUMN backtest_results.true_positives IS 'Detections that were right, against labelled history; NULL where there is none.';
COMMENT ON COLUMN backtest_results.false_positives IS 'Detections that were wrong, against labelled history.';
COMMENT ON COLUMN backtest_results.false_negatives IS 'Labelled occurrences that were not detected.';
COMMENT ON COLUMN backtest_results."precision" IS 'true positives / detections, 0 to 1.';
COMMENT ON COLUMN backtest_results.recall IS 'true positives / labelled occurrences, 0 to 1.';
COMMENT ON COLUMN backtest_results.signals IS 'Detections that became trades.';
COMMENT ON COLUMN backtest_results.winning IS 'Trades with a profit after costs.';
COMMENT ON COLUMN backtest_results.losing IS 'Trades with a loss after costs.';
COMMENT ON COLUMN backtest_results.win_rate IS 'winning / signals, 0 to 1; NULL without trades.';
COMMENT ON COLUMN backtest_results.average_r_multiple IS 'Mean net profit in units of the initial risk.';
COMMENT ON COLUMN backtest_results.roi IS 'Final equity / capital - 1, as a fraction.';
COMMENT ON COLUMN backtest_results.sharpe IS 'Annualised Sharpe ratio of daily returns over the risk-free rate.';
COMMENT ON COLUMN backtest_results.sortino IS 'Annualised Sortino ratio of daily returns over the risk-free rate.';
COMMENT ON COLUMN backtest_results.max_drawdown IS 'Largest fall from a peak of equity, as a positive fraction.';
COMMENT ON COLUMN backtest_results.profit_factor IS 'Gross profit / gross loss; NULL without losses.';
COMMENT ON COLUMN backtest_results.expectancy IS 'Mean net profit of a trade, in the account currency.';
COMMENT ON COLUMN backtest_results.edge_confidence_low IS 'Lower bound of the confidence interval of the edge.';
COMMENT ON COLUMN backtest_results.edge_confidence_high IS 'Upper bound of the confidence interval of the edge.';
COMMENT ON COLUMN backtest_results.edge_p_value IS 'Probability of an edge this large by chance.';
COMMENT ON COLUMN backtest_results.look_ahead_bias_check IS 'True when every entry was checked to be no earlier than its pattern was known.';

CREATE TABLE backtest_trades (
    run             UUID NOT NULL REFERENCES backtest_runs ON DELETE CASCADE,
    trade_number    INTEGER NOT NULL,
    symbol          VARCHAR(32) NOT NULL REFERENCES symbols,
    pattern         TEXT NOT NULL,
    variant         TEXT NOT NULL DEFAULT '',
    direction       TEXT NOT NULL,
    detected_at     TIMESTAMPTZ NOT NULL,
    entry_time      TIMESTAMPTZ NOT NULL,
    entry_price     NUMERIC(18, 8) NOT NULL,
    exit_time       TIMESTAMPTZ NOT NULL,
    exit_price      NUMERIC(18, 8) NOT NULL,
    quantity        NUMERIC(24, 8) NOT NULL,
    costs           NUMERIC(18, 8) NOT NULL,
    dividends       NUMERIC(18, 8) NOT NULL,
    pnl             NUMERIC(18, 8) NOT NULL,
    r_multiple      NUMERIC(18, 6),
    exit_reason     TEXT NOT NULL,
    PRIMARY KEY (run, trade_number),
    CONSTRAINT chk_backtest_trades_direction CHECK (direction IN ('LONG', 'SHORT')),
    CONSTRAINT chk_backtest_trades_exit_after_entry CHECK (exit_time > entry_time),
    CONSTRAINT chk_backtest_trades_exit_reason CHECK (exit_reason IN ('time', 'stop', 'end_of_data')),
    CONSTRAINT chk_backtest_trades_positive CHECK (entry_price > 0 AND exit_price > 0 AND quantity > 0 AND costs >= 0)
);
CREATE INDEX idx_backtest_trades_symbol_entry_time ON backtest_trades (symbol, entry_time DESC);
COMMENT ON TABLE backtest_trades IS 'Trades of a backtest at the portfolio''s size; prices and quantity in the share unit of the entry bar.';
COMMENT ON COLUMN backtest_trades.run IS 'Backtest.';
COMMENT ON COLUMN backtest_trades.trade_number IS 'Counted from 1 in the order strategy, symbol, entry.';
COMMENT ON COLUMN backtest_trades.symbol IS 'Instrument.';
COMMENT ON COLUMN backtest_trades.pattern IS 'Pattern that gave the signal.';
COMMENT ON COLUMN backtest_trades.variant IS 'Its variant.';
COMMENT ON COLUMN backtest_trades.direction IS 'LONG or SHORT.';
COMMENT ON COLUMN backtest_trades.detected_at IS 'Start of the bar that completed the pattern, UTC.';
COMMENT ON COLUMN backtest_trades.entry_time IS 'Start of the bar at whose open the position was taken, UTC.';
COMMENT ON COLUMN backtest_trades.entry_price IS 'Fill after slippage, quote currency per share.';
COMMENT ON COLUMN backtest_trades.exit_time IS 'When the exit is known: the close of the bar in which it happened, UTC.';
COMMENT ON COLUMN backtest_trades.exit_price IS 'Fill after slippage, quote currency per share of the entry bar.';
COMMENT ON COLUMN backtest_trades.quantity IS 'Shares, as counted at entry; fractions allowed.';
COMMENT ON COLUMN backtest_trades.costs IS 'Commission and slippage of both fills, in the account currency.';
COMMENT ON COLUMN backtest_trades.dividends IS 'Dividends received (long) or paid (short, negative), in the account currency.';
COMMENT ON COLUMN backtest_trades.pnl IS 'Profit after costs and dividends, in the account currency.';
COMMENT ON COLUMN backtest_trades.r_multiple IS 'pnl in units of the risk at entry; NULL without a stop.';
COMMENT ON COLUMN backtest_trades.exit_reason IS 'time, stop, or end_of_data.';


-- Operations ----------------------------------------------------------------------------------------------------------

CREATE TABLE load_ledger (
    id                UUID PRIMARY KEY,
    provider          TEXT NOT NULL,
    dataset           TEXT NOT NULL,
    symbol            VARCHAR(32) NOT NULL REFERENCES symbols,
    window_start      DATE NOT NULL,
    window_end        DATE NOT NULL,
    source_version    TEXT NOT NULL,
    status            TEXT NOT NULL,
    rows              BIGINT,
    sha256            TEXT,
    path              TEXT,
    attempts          INTEGER NOT NULL DEFAULT 1,
    error             TEXT,
    started_at        TIMESTAMPTZ NOT NULL,
    finished_at       TIMESTAMPTZ,
    CONSTRAINT chk_load_ledger_window CHECK (window_start <= window_end),
    CONSTRAINT chk_load_ledger_status CHECK (status IN ('landed', 'failed')),
    CONSTRAINT chk_load_ledger_landed_is_complete CHECK (status <> 'landed' OR (rows IS NOT NULL AND sha256 IS NOT NULL AND path IS NOT NULL AND finished_at IS NOT NULL)),
    CONSTRAINT chk_load_ledger_failed_has_error CHECK (status <> 'failed' OR error IS NOT NULL)
);
CREATE INDEX idx_load_ledger_provider_dataset_symbol ON load_ledger (provider, dataset, symbol, window_start);
COMMENT ON TABLE load_ledger IS 'One row per fetched window: where a load goes on after a crash.';
COMMENT ON COLUMN load_ledger.id IS 'uuid5 of provider, dataset, symbol, window and source_version.';
COMMENT ON COLUMN load_ledger.provider IS 'Who was asked.';
COMMENT ON COLUMN load_ledger.dataset IS 'What was asked for: daily_bars.';
COMMENT ON COLUMN load_ledger.symbol IS 'Instrument.';
COMMENT ON COLUMN load_ledger.window_start IS 'First day asked for.';
COMMENT ON COLUMN load_ledger.window_end IS 'Last day asked for.';
COMMENT ON COLUMN load_ledger.source_version IS 'What the provider''s data stood at: a checksum or ETag; a new one makes the window due again.';
COMMENT ON COLUMN load_ledger.status IS 'landed or failed.';
COMMENT ON COLUMN load_ledger.rows IS 'Rows in the payload.';
COMMENT ON COLUMN load_ledger.sha256 IS 'Checksum of the landed file.';
COMMENT ON COLUMN load_ledger.path IS 'The landed file, relative to the landing folder.';
COMMENT ON COLUMN load_ledger.attempts IS 'Tries so far.';
COMMENT ON COLUMN load_ledger.error IS 'Why the last try failed.';
COMMENT ON COLUMN load_ledger.started_at IS 'When the last try began, UTC.';
COMMENT ON COLUMN load_ledger.finished_at IS 'When the payload was durable, UTC.';

CREATE TABLE quarantined_bars (
    id                UUID PRIMARY KEY,
    symbol            VARCHAR(32) REFERENCES symbols,
    timeframe         timeframe,
    date              DATE,
    rule              TEXT NOT NULL,
    reason            TEXT NOT NULL,
    source            TEXT NOT NULL,
    dataset           TEXT NOT NULL,
    source_version    TEXT NOT NULL,
    "row"             JSONB NOT NULL,
    quarantined_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX idx_quarantined_bars_symbol_date ON quarantined_bars (symbol, date DESC);
COMMENT ON TABLE quarantined_bars IS 'Rows that broke a contract, as they came; nothing is dropped silently.';
COMMENT ON COLUMN quarantined_bars.id IS 'uuid5 of source, row and its occurrence: the same bad row is kept once.';
COMMENT ON COLUMN quarantined_bars.symbol IS 'Instrument it was delivered for; NULL where it names none that can exist.';
COMMENT ON COLUMN quarantined_bars.timeframe IS 'Length of the bar: 1m 5m 15m 1h 1d; NULL where the row is no bar.';
COMMENT ON COLUMN quarantined_bars.date IS 'Session it claims; NULL where that cannot be read.';
COMMENT ON COLUMN quarantined_bars.rule IS 'First rule it broke.';
COMMENT ON COLUMN quarantined_bars.reason IS 'Every rule it broke, in words, with the values.';
COMMENT ON COLUMN quarantined_bars.source IS 'Provider.';
COMMENT ON COLUMN quarantined_bars.dataset IS 'What it was delivered as: daily_bars, symbols, splits, dividends.';
COMMENT ON COLUMN quarantined_bars.source_version IS 'Newest version of the provider''s data that still has it; an older one than the present means healed.';
COMMENT ON COLUMN quarantined_bars."row" IS 'The row as the provider sent it.';
COMMENT ON COLUMN quarantined_bars.quarantined_at IS 'When it was set aside, UTC.';
