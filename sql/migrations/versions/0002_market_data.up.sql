-- Stamps --------------------------------------------------------------------------------------------------------------

-- One moment for all that a statement writes. It is taken when the statement starts, hence after the lock that the
-- statement before it took; and what a correction writes carries the moment at which the revision says it was superseded.
ALTER TABLE ohlcv_daily ALTER COLUMN recorded_at SET DEFAULT statement_timestamp();
ALTER TABLE splits ALTER COLUMN recorded_at SET DEFAULT statement_timestamp();
ALTER TABLE dividends ALTER COLUMN recorded_at SET DEFAULT statement_timestamp();

-- From a moment to the session that opens at it: the way `ohlcv_bars` reaches daily bars by timestamp.
CREATE INDEX idx_sessions_open_exchange ON sessions (open DESC, exchange);


-- Bars ----------------------------------------------------------------------------------------------------------------

CREATE TABLE ohlcv_1min (
    symbol          VARCHAR(32) NOT NULL REFERENCES symbols,
    timestamp       TIMESTAMPTZ NOT NULL,
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
    recorded_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (symbol, timestamp),
    CONSTRAINT chk_ohlcv_1min_prices_positive CHECK (open > 0 AND high > 0 AND low > 0 AND close > 0),
    CONSTRAINT chk_ohlcv_1min_high_is_highest CHECK (high >= low AND high >= open AND high >= close),
    CONSTRAINT chk_ohlcv_1min_low_is_lowest CHECK (low <= open AND low <= close),
    CONSTRAINT chk_ohlcv_1min_volume_not_negative CHECK (volume >= 0 AND quote_volume >= 0 AND trades_count >= 0)
);
CREATE INDEX idx_ohlcv_1min_timestamp_symbol ON ohlcv_1min (timestamp DESC, symbol);
COMMENT ON TABLE ohlcv_1min IS 'Minute bars, unadjusted for splits and dividends.';
COMMENT ON COLUMN ohlcv_1min.symbol IS 'Instrument.';
COMMENT ON COLUMN ohlcv_1min.timestamp IS 'Start of the bar, UTC.';
COMMENT ON COLUMN ohlcv_1min.open IS 'First price, quote currency per share.';
COMMENT ON COLUMN ohlcv_1min.high IS 'Highest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_1min.low IS 'Lowest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_1min.close IS 'Last price, quote currency per share.';
COMMENT ON COLUMN ohlcv_1min.volume IS 'Shares traded; may be fractional.';
COMMENT ON COLUMN ohlcv_1min.quote_volume IS 'Value traded, in the quote currency.';
COMMENT ON COLUMN ohlcv_1min.vwap IS 'Volume-weighted average price, quote currency per share.';
COMMENT ON COLUMN ohlcv_1min.trades_count IS 'Number of trades.';
COMMENT ON COLUMN ohlcv_1min.exchange IS 'ISO 10383 code of the calendar whose sessions the bar belongs to.';
COMMENT ON COLUMN ohlcv_1min.source IS 'Provider of the bar.';
COMMENT ON COLUMN ohlcv_1min.recorded_at IS 'When these values became known here, UTC.';

CREATE TABLE ohlcv_5min (
    symbol          VARCHAR(32) NOT NULL REFERENCES symbols,
    timestamp       TIMESTAMPTZ NOT NULL,
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
    recorded_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (symbol, timestamp),
    CONSTRAINT chk_ohlcv_5min_prices_positive CHECK (open > 0 AND high > 0 AND low > 0 AND close > 0),
    CONSTRAINT chk_ohlcv_5min_high_is_highest CHECK (high >= low AND high >= open AND high >= close),
    CONSTRAINT chk_ohlcv_5min_low_is_lowest CHECK (low <= open AND low <= close),
    CONSTRAINT chk_ohlcv_5min_volume_not_negative CHECK (volume >= 0 AND quote_volume >= 0 AND trades_count >= 0)
);
CREATE INDEX idx_ohlcv_5min_timestamp_symbol ON ohlcv_5min (timestamp DESC, symbol);
COMMENT ON TABLE ohlcv_5min IS 'Bars of 5 minutes rolled up from minutes, unadjusted; they outlive the minutes they came from.';
COMMENT ON COLUMN ohlcv_5min.symbol IS 'Instrument.';
COMMENT ON COLUMN ohlcv_5min.timestamp IS 'Start of the bar, UTC.';
COMMENT ON COLUMN ohlcv_5min.open IS 'First price, quote currency per share.';
COMMENT ON COLUMN ohlcv_5min.high IS 'Highest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_5min.low IS 'Lowest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_5min.close IS 'Last price, quote currency per share.';
COMMENT ON COLUMN ohlcv_5min.volume IS 'Shares traded; may be fractional.';
COMMENT ON COLUMN ohlcv_5min.quote_volume IS 'Value traded, in the quote currency.';
COMMENT ON COLUMN ohlcv_5min.vwap IS 'Volume-weighted average price, quote currency per share.';
COMMENT ON COLUMN ohlcv_5min.trades_count IS 'Number of trades.';
COMMENT ON COLUMN ohlcv_5min.exchange IS 'ISO 10383 code of the calendar whose sessions the bar belongs to.';
COMMENT ON COLUMN ohlcv_5min.source IS 'Provider of the minutes it was made from; where they came from several, the one that ranks last.';
COMMENT ON COLUMN ohlcv_5min.recorded_at IS 'When these values became known here, UTC.';

CREATE TABLE ohlcv_15min (
    symbol          VARCHAR(32) NOT NULL REFERENCES symbols,
    timestamp       TIMESTAMPTZ NOT NULL,
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
    recorded_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (symbol, timestamp),
    CONSTRAINT chk_ohlcv_15min_prices_positive CHECK (open > 0 AND high > 0 AND low > 0 AND close > 0),
    CONSTRAINT chk_ohlcv_15min_high_is_highest CHECK (high >= low AND high >= open AND high >= close),
    CONSTRAINT chk_ohlcv_15min_low_is_lowest CHECK (low <= open AND low <= close),
    CONSTRAINT chk_ohlcv_15min_volume_not_negative CHECK (volume >= 0 AND quote_volume >= 0 AND trades_count >= 0)
);
CREATE INDEX idx_ohlcv_15min_timestamp_symbol ON ohlcv_15min (timestamp DESC, symbol);
COMMENT ON TABLE ohlcv_15min IS 'Bars of 15 minutes rolled up from minutes, unadjusted; they outlive the minutes they came from.';
COMMENT ON COLUMN ohlcv_15min.symbol IS 'Instrument.';
COMMENT ON COLUMN ohlcv_15min.timestamp IS 'Start of the bar, UTC.';
COMMENT ON COLUMN ohlcv_15min.open IS 'First price, quote currency per share.';
COMMENT ON COLUMN ohlcv_15min.high IS 'Highest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_15min.low IS 'Lowest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_15min.close IS 'Last price, quote currency per share.';
COMMENT ON COLUMN ohlcv_15min.volume IS 'Shares traded; may be fractional.';
COMMENT ON COLUMN ohlcv_15min.quote_volume IS 'Value traded, in the quote currency.';
COMMENT ON COLUMN ohlcv_15min.vwap IS 'Volume-weighted average price, quote currency per share.';
COMMENT ON COLUMN ohlcv_15min.trades_count IS 'Number of trades.';
COMMENT ON COLUMN ohlcv_15min.exchange IS 'ISO 10383 code of the calendar whose sessions the bar belongs to.';
COMMENT ON COLUMN ohlcv_15min.source IS 'Provider of the minutes it was made from; where they came from several, the one that ranks last.';
COMMENT ON COLUMN ohlcv_15min.recorded_at IS 'When these values became known here, UTC.';

CREATE TABLE ohlcv_1h (
    symbol          VARCHAR(32) NOT NULL REFERENCES symbols,
    timestamp       TIMESTAMPTZ NOT NULL,
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
    recorded_at     TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (symbol, timestamp),
    CONSTRAINT chk_ohlcv_1h_prices_positive CHECK (open > 0 AND high > 0 AND low > 0 AND close > 0),
    CONSTRAINT chk_ohlcv_1h_high_is_highest CHECK (high >= low AND high >= open AND high >= close),
    CONSTRAINT chk_ohlcv_1h_low_is_lowest CHECK (low <= open AND low <= close),
    CONSTRAINT chk_ohlcv_1h_volume_not_negative CHECK (volume >= 0 AND quote_volume >= 0 AND trades_count >= 0)
);
CREATE INDEX idx_ohlcv_1h_timestamp_symbol ON ohlcv_1h (timestamp DESC, symbol);
COMMENT ON TABLE ohlcv_1h IS 'Bars of an hour rolled up from minutes, unadjusted; they outlive the minutes they came from.';
COMMENT ON COLUMN ohlcv_1h.symbol IS 'Instrument.';
COMMENT ON COLUMN ohlcv_1h.timestamp IS 'Start of the bar, UTC.';
COMMENT ON COLUMN ohlcv_1h.open IS 'First price, quote currency per share.';
COMMENT ON COLUMN ohlcv_1h.high IS 'Highest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_1h.low IS 'Lowest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_1h.close IS 'Last price, quote currency per share.';
COMMENT ON COLUMN ohlcv_1h.volume IS 'Shares traded; may be fractional.';
COMMENT ON COLUMN ohlcv_1h.quote_volume IS 'Value traded, in the quote currency.';
COMMENT ON COLUMN ohlcv_1h.vwap IS 'Volume-weighted average price, quote currency per share.';
COMMENT ON COLUMN ohlcv_1h.trades_count IS 'Number of trades.';
COMMENT ON COLUMN ohlcv_1h.exchange IS 'ISO 10383 code of the calendar whose sessions the bar belongs to.';
COMMENT ON COLUMN ohlcv_1h.source IS 'Provider of the minutes it was made from; where they came from several, the one that ranks last.';
COMMENT ON COLUMN ohlcv_1h.recorded_at IS 'When these values became known here, UTC.';


-- Trades --------------------------------------------------------------------------------------------------------------

CREATE TABLE ticks (
    symbol            VARCHAR(32) NOT NULL REFERENCES symbols,
    timestamp         TIMESTAMPTZ NOT NULL,
    exchange          TEXT NOT NULL DEFAULT '',
    trade_id          TEXT NOT NULL DEFAULT '0',
    price             NUMERIC(18, 8) NOT NULL,
    quantity          NUMERIC(24, 8) NOT NULL,
    quote_quantity    NUMERIC(24, 8) GENERATED ALWAYS AS (price * quantity) STORED,
    side              TEXT,
    is_buyer_maker    BOOLEAN,
    conditions        TEXT[],
    source            TEXT NOT NULL,
    recorded_at       TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (symbol, timestamp, exchange, trade_id),
    CONSTRAINT chk_ticks_price_positive CHECK (price > 0),
    CONSTRAINT chk_ticks_quantity_not_negative CHECK (quantity >= 0),
    CONSTRAINT chk_ticks_side CHECK (side IN ('buy', 'sell'))
);
CREATE INDEX idx_ticks_timestamp_symbol ON ticks (timestamp DESC, symbol);
COMMENT ON TABLE ticks IS 'Single trades, unadjusted for splits and dividends.';
COMMENT ON COLUMN ticks.symbol IS 'Instrument.';
COMMENT ON COLUMN ticks.timestamp IS 'Moment of the trade, UTC, in microseconds.';
COMMENT ON COLUMN ticks.exchange IS 'Venue of the trade, ISO 10383 code; empty where the feed names none.';
COMMENT ON COLUMN ticks.trade_id IS 'The feed''s id of the trade; where it gives none, a sequence number within the timestamp, from 0.';
COMMENT ON COLUMN ticks.price IS 'Quote currency per share.';
COMMENT ON COLUMN ticks.quantity IS 'Shares traded; may be fractional.';
COMMENT ON COLUMN ticks.quote_quantity IS 'price * quantity, in the quote currency.';
COMMENT ON COLUMN ticks.side IS 'Side of the aggressor, buy or sell; NULL where the feed does not say.';
COMMENT ON COLUMN ticks.is_buyer_maker IS 'Whether the buyer''s order was the resting one; NULL where the feed does not say.';
COMMENT ON COLUMN ticks.conditions IS 'The feed''s condition codes, as it gives them.';
COMMENT ON COLUMN ticks.source IS 'Provider of the trade.';
COMMENT ON COLUMN ticks.recorded_at IS 'When these values became known here, UTC.';


-- Corrections ---------------------------------------------------------------------------------------------------------

CREATE TABLE bar_revisions (
    symbol           VARCHAR(32) NOT NULL REFERENCES symbols,
    timeframe        timeframe NOT NULL,
    timestamp        TIMESTAMPTZ NOT NULL,
    superseded_at    TIMESTAMPTZ NOT NULL,
    session          DATE,
    open             NUMERIC(18, 8) NOT NULL,
    high             NUMERIC(18, 8) NOT NULL,
    low              NUMERIC(18, 8) NOT NULL,
    close            NUMERIC(18, 8) NOT NULL,
    volume           NUMERIC(24, 8) NOT NULL,
    quote_volume     NUMERIC(24, 8),
    vwap             NUMERIC(18, 8),
    trades_count     BIGINT,
    exchange         TEXT NOT NULL,
    source           TEXT NOT NULL,
    recorded_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (symbol, timeframe, timestamp, superseded_at),
    CONSTRAINT chk_bar_revisions_daily_bars_have_a_session CHECK ((timeframe = '1d') = (session IS NOT NULL))
);
CREATE INDEX idx_bar_revisions_symbol_session ON bar_revisions (symbol, session DESC);
CREATE INDEX idx_bar_revisions_superseded_at_symbol ON bar_revisions (superseded_at DESC, symbol);
COMMENT ON TABLE bar_revisions IS 'What a bar said before a correction: with it, bars can be read as they were known at any moment.';
COMMENT ON COLUMN bar_revisions.symbol IS 'Instrument.';
COMMENT ON COLUMN bar_revisions.timeframe IS 'Length of the bar: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN bar_revisions.timestamp IS 'Start of the bar, UTC; of a daily bar, the session''s open, or midnight where no session is known.';
COMMENT ON COLUMN bar_revisions.superseded_at IS 'When other values replaced these, UTC: the recorded_at of what came next.';
COMMENT ON COLUMN bar_revisions.session IS 'Date of a daily bar; NULL for any other.';
COMMENT ON COLUMN bar_revisions.open IS 'First price, quote currency per share.';
COMMENT ON COLUMN bar_revisions.high IS 'Highest price, quote currency per share.';
COMMENT ON COLUMN bar_revisions.low IS 'Lowest price, quote currency per share.';
COMMENT ON COLUMN bar_revisions.close IS 'Last price, quote currency per share.';
COMMENT ON COLUMN bar_revisions.volume IS 'Shares traded; may be fractional.';
COMMENT ON COLUMN bar_revisions.quote_volume IS 'Value traded, in the quote currency.';
COMMENT ON COLUMN bar_revisions.vwap IS 'Volume-weighted average price, quote currency per share.';
COMMENT ON COLUMN bar_revisions.trades_count IS 'Number of trades.';
COMMENT ON COLUMN bar_revisions.exchange IS 'ISO 10383 code of the calendar the bar belonged to.';
COMMENT ON COLUMN bar_revisions.source IS 'Provider of these values.';
COMMENT ON COLUMN bar_revisions.recorded_at IS 'When these values had become known here, UTC.';

CREATE TABLE split_revisions (
    symbol            VARCHAR(32) NOT NULL REFERENCES symbols,
    execution_date    DATE NOT NULL,
    source            TEXT NOT NULL,
    superseded_at     TIMESTAMPTZ NOT NULL,
    split_from        NUMERIC(18, 8) NOT NULL,
    split_to          NUMERIC(18, 8) NOT NULL,
    recorded_at       TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (symbol, execution_date, source, superseded_at)
);
CREATE INDEX idx_split_revisions_superseded_at_symbol ON split_revisions (superseded_at DESC, symbol);
COMMENT ON TABLE split_revisions IS 'What a split said before it was corrected or withdrawn: with it, bars can be adjusted as of any moment.';
COMMENT ON COLUMN split_revisions.symbol IS 'Instrument.';
COMMENT ON COLUMN split_revisions.execution_date IS 'First session that trades in new shares.';
COMMENT ON COLUMN split_revisions.source IS 'Provider that reported it.';
COMMENT ON COLUMN split_revisions.superseded_at IS 'From when on this no longer was what is known, UTC: the recorded_at of what came next, or the moment it was withdrawn.';
COMMENT ON COLUMN split_revisions.split_from IS 'Old shares.';
COMMENT ON COLUMN split_revisions.split_to IS 'New shares.';
COMMENT ON COLUMN split_revisions.recorded_at IS 'When these values had become known here, UTC.';

CREATE TABLE dividend_revisions (
    symbol               VARCHAR(32) NOT NULL REFERENCES symbols,
    ex_dividend_date     DATE NOT NULL,
    source               TEXT NOT NULL,
    distribution_type    TEXT NOT NULL,
    superseded_at        TIMESTAMPTZ NOT NULL,
    cash_amount          NUMERIC(18, 8) NOT NULL,
    currency             TEXT,
    declaration_date     DATE,
    record_date          DATE,
    pay_date             DATE,
    frequency            INTEGER,
    recorded_at          TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (symbol, ex_dividend_date, source, distribution_type, superseded_at)
);
CREATE INDEX idx_dividend_revisions_superseded_at_symbol ON dividend_revisions (superseded_at DESC, symbol);
COMMENT ON TABLE dividend_revisions IS 'What a dividend said before it was corrected or withdrawn: with it, bars can be adjusted as of any moment.';
COMMENT ON COLUMN dividend_revisions.symbol IS 'Instrument.';
COMMENT ON COLUMN dividend_revisions.ex_dividend_date IS 'First session that trades without the dividend.';
COMMENT ON COLUMN dividend_revisions.source IS 'Provider that reported it.';
COMMENT ON COLUMN dividend_revisions.distribution_type IS 'recurring, special, or unknown where the source does not say.';
COMMENT ON COLUMN dividend_revisions.superseded_at IS 'From when on this no longer was what is known, UTC: the recorded_at of what came next, or the moment it was withdrawn.';
COMMENT ON COLUMN dividend_revisions.cash_amount IS 'Currency units per share as counted on the ex-dividend date.';
COMMENT ON COLUMN dividend_revisions.currency IS 'ISO 4217 code; unknown where the source does not say.';
COMMENT ON COLUMN dividend_revisions.declaration_date IS 'Day it was announced.';
COMMENT ON COLUMN dividend_revisions.record_date IS 'Day on which holders of record are fixed.';
COMMENT ON COLUMN dividend_revisions.pay_date IS 'Day it is paid.';
COMMENT ON COLUMN dividend_revisions.frequency IS 'Payments a year; 0 for a one-time payment.';
COMMENT ON COLUMN dividend_revisions.recorded_at IS 'When these values had become known here, UTC.';
