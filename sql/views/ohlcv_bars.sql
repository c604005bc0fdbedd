-- Bars of every timeframe. A query that names a timeframe reads one table only: each branch's timeframe is a constant
-- text (a constant of the domain would be known at execution only), so the planner drops the others.
CREATE OR REPLACE VIEW ohlcv_bars AS
    SELECT b.symbol, '1m'::text AS timeframe, b.timestamp,
           b.open, b.high, b.low, b.close, b.volume, b.quote_volume, b.vwap, b.trades_count,
           b.exchange, b.source, b.recorded_at, f.spread, f.spread_ratio, f.volume_ratio
    FROM ohlcv_1min b
    LEFT JOIN bar_features f ON f.symbol = b.symbol AND f.timeframe = '1m' AND f.timestamp = b.timestamp
    UNION ALL
    SELECT b.symbol, '5m'::text AS timeframe, b.timestamp,
           b.open, b.high, b.low, b.close, b.volume, b.quote_volume, b.vwap, b.trades_count,
           b.exchange, b.source, b.recorded_at, f.spread, f.spread_ratio, f.volume_ratio
    FROM ohlcv_5min b
    LEFT JOIN bar_features f ON f.symbol = b.symbol AND f.timeframe = '5m' AND f.timestamp = b.timestamp
    UNION ALL
    SELECT b.symbol, '15m'::text AS timeframe, b.timestamp,
           b.open, b.high, b.low, b.close, b.volume, b.quote_volume, b.vwap, b.trades_count,
           b.exchange, b.source, b.recorded_at, f.spread, f.spread_ratio, f.volume_ratio
    FROM ohlcv_15min b
    LEFT JOIN bar_features f ON f.symbol = b.symbol AND f.timeframe = '15m' AND f.timestamp = b.timestamp
    UNION ALL
    SELECT b.symbol, '1h'::text AS timeframe, b.timestamp,
           b.open, b.high, b.low, b.close, b.volume, b.quote_volume, b.vwap, b.trades_count,
           b.exchange, b.source, b.recorded_at, f.spread, f.spread_ratio, f.volume_ratio
    FROM ohlcv_1h b
    LEFT JOIN bar_features f ON f.symbol = b.symbol AND f.timeframe = '1h' AND f.timestamp = b.timestamp
    UNION ALL
    -- Joined, not computed, so that a range of timestamps finds its sessions by index and they find their bars by key.
    SELECT b.symbol, '1d'::text, s.open,
           b.open, b.high, b.low, b.close, b.volume, b.quote_volume, b.vwap, b.trades_count,
           b.exchange, b.source, b.recorded_at, f.spread, f.spread_ratio, f.volume_ratio
    FROM sessions s
    JOIN ohlcv_daily b ON b.exchange = s.exchange AND b.date = s.session
    LEFT JOIN bar_features f ON f.symbol = b.symbol AND f.timeframe = '1d' AND f.timestamp = s.open
    UNION ALL
    -- A bar of a day that the calendar does not know is shown all the same. The days are counted out and each looked up,
    -- because no index answers for a timestamp computed from the date: else every query would read the whole table.
    SELECT b.symbol, '1d'::text, day.midnight AT TIME ZONE 'UTC',
           b.open, b.high, b.low, b.close, b.volume, b.quote_volume, b.vwap, b.trades_count,
           b.exchange, b.source, b.recorded_at, f.spread, f.spread_ratio, f.volume_ratio
    FROM generate_series((SELECT min(date)::timestamp FROM ohlcv_daily), (SELECT max(date)::timestamp FROM ohlcv_daily), interval '1 day')
        AS day (midnight)
    JOIN ohlcv_daily b ON b.date = day.midnight::date
    LEFT JOIN bar_features f
           ON f.symbol = b.symbol AND f.timeframe = '1d' AND f.timestamp = day.midnight AT TIME ZONE 'UTC'
    WHERE NOT EXISTS (SELECT FROM sessions s WHERE s.exchange = b.exchange AND s.session = b.date);
COMMENT ON VIEW ohlcv_bars IS 'Bars of every timeframe, unadjusted for splits and dividends, with their features where computed.';
COMMENT ON COLUMN ohlcv_bars.symbol IS 'Instrument.';
COMMENT ON COLUMN ohlcv_bars.timeframe IS 'Length of the bar: 1m 5m 15m 1h 1d.';
COMMENT ON COLUMN ohlcv_bars.timestamp IS 'Start of the bar, UTC; of a daily bar, the session''s open, or midnight where no session is known.';
COMMENT ON COLUMN ohlcv_bars.open IS 'First price, quote currency per share.';
COMMENT ON COLUMN ohlcv_bars.high IS 'Highest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_bars.low IS 'Lowest price, quote currency per share.';
COMMENT ON COLUMN ohlcv_bars.close IS 'Last price, quote currency per share.';
COMMENT ON COLUMN ohlcv_bars.volume IS 'Shares traded; may be fractional.';
COMMENT ON COLUMN ohlcv_bars.quote_volume IS 'Value traded, in the quote currency.';
COMMENT ON COLUMN ohlcv_bars.vwap IS 'Volume-weighted average price, quote currency per share.';
COMMENT ON COLUMN ohlcv_bars.trades_count IS 'Number of trades.';
COMMENT ON COLUMN ohlcv_bars.exchange IS 'ISO 10383 code of the calendar the bar belongs to.';
COMMENT ON COLUMN ohlcv_bars.source IS 'Provider of the bar.';
COMMENT ON COLUMN ohlcv_bars.recorded_at IS 'When these values became known here, UTC.';
COMMENT ON COLUMN ohlcv_bars.spread IS 'high - low, quote currency per share; NULL where no features are computed.';
COMMENT ON COLUMN ohlcv_bars.spread_ratio IS 'spread to the mean of the 20 bars before; NULL during warm-up and where no features are computed.';
COMMENT ON COLUMN ohlcv_bars.volume_ratio IS 'volume to the mean of the 20 bars before; NULL during warm-up and where no features are computed.';
