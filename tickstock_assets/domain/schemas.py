"""The contract of each stage, in pandera: what a frame must be before the next stage may read it.

A check's `error` is the rule that quarantine, asset checks and reports speak of; `quality.REASONS` puts it into words.
"""

import pandas as pd
import pandera.pandas as pa

from tickstock_assets.domain.exchanges import has_calendar

TIMEFRAMES = ("1m", "5m", "15m", "1h", "1d")
DIRECTIONS = ("bullish", "bearish")
FAMILIES = ("candlestick", "chart", "wyckoff")
SYMBOL_PATTERN = r"^[A-Za-z0-9.:/_-]{1,32}\Z"

# Beyond these a value does not fit NUMERIC(18,8) or NUMERIC(24,8), or is rounded to nothing there.
MIN_PRICE = 1e-8
MAX_PRICE = 1e10
MAX_VOLUME = 1e16


def _fits_a_price(prices: pd.Series) -> pd.Series:
    return (prices <= 0) | prices.between(MIN_PRICE, MAX_PRICE, inclusive="left")


def _price(*, nullable: bool = False) -> pa.Column:
    return pa.Column(
        float,
        [pa.Check.gt(0, error="non_positive_price"), pa.Check(_fits_a_price, error="out_of_range")],
        nullable=nullable,
    )


def _not_negative(*, nullable: bool = False) -> pa.Column:
    return pa.Column(float, pa.Check.ge(0, error="negative_value"), nullable=nullable)


def _utc() -> pa.Column:
    return pa.Column(pd.DatetimeTZDtype("us", "UTC"))


def _no_later_than(early: str, late: str, name: str) -> pa.Check:
    return pa.Check(lambda frame: ~(frame[early] > frame[late]), error=name)


def _unique_key(*columns: str) -> pa.Check:
    return pa.Check(lambda frame: ~frame.duplicated(list(columns), keep=False), error="duplicate_key")


def _first_of_equals(*key: str) -> pa.Check:
    """Return a check of which rows may stay where a key stands more than once.

    An exact repeat costs nothing but itself. Where the repeats disagree none can be trusted, so none stays.
    """
    names = list(key)

    def may_stay(frame: pd.DataFrame) -> pd.Series:
        repeats_key = frame.duplicated(names, keep=False) & frame[names].notna().all(axis=1)
        if not repeats_key.any():
            return ~repeats_key
        is_repeat = frame.duplicated(keep="first")
        disagreeing = frame[~is_repeat].duplicated(names, keep=False)
        conflicted = set(map(tuple, frame.loc[disagreeing[disagreeing].index, names].to_numpy()))
        in_conflict = pd.Series([tuple(row) in conflicted for row in frame[names].to_numpy()], frame.index)
        return ~(repeats_key & (is_repeat | in_conflict))

    return pa.Check(may_stay, error="duplicate_key")


def _session_day(sessions: pd.Series) -> pa.Column:
    is_session = pa.Check(lambda dates: dates.isna() | dates.isin(sessions), error="not_a_session")
    return pa.Column("datetime64[us]", is_session)


def _shares(when_negative: str) -> pa.Column:
    return pa.Column(float, [pa.Check.ge(0, error=when_negative), pa.Check.lt(MAX_VOLUME, error="out_of_range")])


_OHLC = {
    "symbol": pa.Column(str, pa.Check.str_matches(SYMBOL_PATTERN, error="invalid_symbol")),
    **{name: _price() for name in ("open", "high", "low", "close")},
    "volume": _shares("negative_volume"),
}
_OHLC_ORDER = [
    _no_later_than("low", "high", "high_below_low"),
    *(_no_later_than(price, "high", "price_above_high") for price in ("open", "close")),
    *(_no_later_than("low", price, "price_below_low") for price in ("open", "close")),
]
# What is known of a delivery besides its rows: whose bars were asked for, and since when the ticker is theirs.
_ASKED = {"asked_for": pa.Column(str), "ticker_since": pa.Column("datetime64[us]", nullable=True)}
_DELIVERED = {
    **_ASKED,
    "vwap": _price(nullable=True),
    "trades_count": _not_negative(nullable=True),
}
_AS_ASKED = [
    pa.Check(lambda frame: frame["symbol"].isna() | (frame["symbol"] == frame["asked_for"]), error="wrong_symbol"),
    pa.Check(lambda frame: ~(frame["date"] < frame["ticker_since"]), error="before_ticker"),
]


def daily_bars(sessions: pd.Series, *, delivered: bool = False) -> pa.DataFrameSchema:
    """Return the contract of daily bars, unadjusted.

    Args:
        sessions: the exchange's sessions (datetime64, midnight without a zone).
        delivered: for rows as a provider delivered them, which also say whose were asked for (asked_for) and since
            when the ticker is that instrument's (ticker_since).
    """
    return pa.DataFrameSchema(
        {**_OHLC, "date": _session_day(sessions), **(_DELIVERED if delivered else {})},
        checks=[*_OHLC_ORDER, *(_AS_ASKED if delivered else []), _first_of_equals("symbol", "date")],
    )


def _within_hours(sessions: pd.DataFrame) -> pa.Check:
    """Return a check that a moment lies in its session, extended hours included; other days are left to their own rule."""
    hours = sessions.set_index("session")
    begins = hours["extended_open"].fillna(hours["open"])
    ends = hours["extended_close"].fillna(hours["close"])

    def within(frame: pd.DataFrame) -> pd.Series:
        begin, end = frame["date"].map(begins), frame["date"].map(ends)
        return ~((frame["timestamp"] < begin) | (frame["timestamp"] >= end))

    return pa.Check(within, error="outside_hours")


def minute_bars(sessions: pd.DataFrame, *, delivered: bool = False) -> pa.DataFrameSchema:
    """Return the contract of minute bars, unadjusted: as `daily_bars`, with `timestamp`, the bar's start in UTC.

    Args:
        sessions: the exchange's, as `trading_sessions` gives them.
        delivered: see `daily_bars`.
    """
    on_the_minute = pa.Check(
        lambda stamps: stamps.isna() | (stamps.dt.floor("min") == stamps), error="not_on_the_minute"
    )
    stamps = pa.Column(pd.DatetimeTZDtype("us", "UTC"), on_the_minute)
    return pa.DataFrameSchema(
        {**_OHLC, "date": _session_day(sessions["session"]), "timestamp": stamps, **(_DELIVERED if delivered else {})},
        checks=[
            _within_hours(sessions),
            *_OHLC_ORDER,
            *(_AS_ASKED if delivered else []),
            _first_of_equals("symbol", "timestamp"),
        ],
    )


def trades(sessions: pd.DataFrame) -> pa.DataFrameSchema:
    """Return the contract of trades as a provider delivered them, conditions as one text each.

    A trade that the feed gives no id is no repeat of another.

    Args:
        sessions: the exchange's, as `trading_sessions` gives them.
    """
    return pa.DataFrameSchema(
        {
            "symbol": _OHLC["symbol"],
            "date": _session_day(sessions["session"]),
            "timestamp": _utc(),
            "price": _price(),
            "quantity": _shares("negative_quantity"),
            "exchange": pa.Column(str, nullable=True),
            "trade_id": pa.Column(str, nullable=True),
            "conditions": pa.Column(str, nullable=True),
            **_ASKED,
        },
        checks=[
            _within_hours(sessions),
            *_AS_ASKED,
            _first_of_equals("symbol", "timestamp", "exchange", "trade_id"),
        ],
    )


SYMBOLS = pa.DataFrameSchema(
    {
        "symbol": pa.Column(str, pa.Check.str_matches(SYMBOL_PATTERN, error="invalid_symbol")),
        "exchange": pa.Column(str, pa.Check(lambda codes: codes.map(has_calendar), error="unknown_exchange")),
        "list_date": pa.Column("datetime64[us]", nullable=True),
    },
    checks=_unique_key("symbol"),
)

SESSIONS = pa.DataFrameSchema(
    {
        "session": pa.Column("datetime64[us]"),
        "open": _utc(),
        "close": _utc(),
        "kind": pa.Column(str, pa.Check.isin(("regular", "half_day"), error="unknown_kind")),
    },
    checks=[
        pa.Check(lambda frame: frame["open"] < frame["close"], error="closes_before_it_opens"),
        pa.Check(lambda frame: frame["close"] - frame["open"] <= pd.Timedelta(hours=24), error="longer_than_a_day"),
        _unique_key("session"),
    ],
)

SPLITS = pa.DataFrameSchema(
    {
        "symbol": pa.Column(str),
        "execution_date": pa.Column("datetime64[us]"),
        "split_from": pa.Column(float, pa.Check.gt(0, error="non_positive_ratio")),
        "split_to": pa.Column(float, pa.Check.gt(0, error="non_positive_ratio")),
    },
    checks=_unique_key("symbol", "execution_date"),
)


def _named_once(dividends: pd.DataFrame) -> pd.Series:
    # A company may pay several on one day, each of another kind.
    names = [name for name in ("symbol", "ex_dividend_date", "distribution_type") if name in dividends]
    return ~dividends.duplicated(names, keep=False)


DIVIDENDS = pa.DataFrameSchema(
    {
        "symbol": pa.Column(str),
        "ex_dividend_date": pa.Column("datetime64[us]"),
        "cash_amount": pa.Column(float, pa.Check.gt(0, error="non_positive_amount")),
        "distribution_type": pa.Column(str, required=False),
    },
    checks=pa.Check(_named_once, error="duplicate_key"),
)

BAR_FEATURES = pa.DataFrameSchema(
    {
        "symbol": pa.Column(str),
        "timeframe": pa.Column(str, pa.Check.isin(TIMEFRAMES, error="unknown_timeframe")),
        "timestamp": _utc(),
        "spread": _not_negative(),
        "true_range": _not_negative(),
        "spread_ratio": _not_negative(nullable=True),
        "volume_ratio": _not_negative(nullable=True),
        "atr_14": _not_negative(nullable=True),
        "log_return": pa.Column(float, nullable=True),
    },
    checks=[
        _no_later_than("spread", "true_range", "true_range_below_spread"),
        _unique_key("symbol", "timeframe", "timestamp"),
    ],
)

PATTERNS = pa.DataFrameSchema(
    {
        "symbol": pa.Column(str),
        "timeframe": pa.Column(str, pa.Check.isin(TIMEFRAMES, error="unknown_timeframe")),
        "timestamp": _utc(),
        "pattern": pa.Column(str),
        "variant": pa.Column(str),
        "family": pa.Column(str, pa.Check.isin(FAMILIES, error="unknown_family")),
        "direction": pa.Column(str, pa.Check.isin(DIRECTIONS, error="unknown_direction")),
        "known_at": _utc(),
        "entry_price": _price(),
        "stop_loss": _price(),
    },
    checks=[
        pa.Check(lambda frame: frame["known_at"] > frame["timestamp"], error="known_too_early"),
        pa.Check(
            lambda frame: (frame["stop_loss"] <= frame["entry_price"]) | (frame["direction"] == "bearish"),
            error="stop_on_wrong_side",
        ),
        pa.Check(
            lambda frame: (frame["stop_loss"] >= frame["entry_price"]) | (frame["direction"] == "bullish"),
            error="stop_on_wrong_side",
        ),
        _unique_key("symbol", "timeframe", "timestamp", "pattern", "variant"),
    ],
)

BACKTEST_RESULTS = pa.DataFrameSchema(
    {
        "scope": pa.Column(str),
        "strategy_name": pa.Column(str),
        "patterns_detected": pa.Column(int, pa.Check.ge(0, error="negative_value")),
        "signals": pa.Column(int, pa.Check.ge(0, error="negative_value")),
        "win_rate": pa.Column(float, pa.Check.in_range(0, 1, error="not_a_share"), nullable=True),
        "roi": pa.Column(float, nullable=False),
        "max_drawdown": _not_negative(),
        "look_ahead_bias_check": pa.Column(bool, pa.Check.eq(True, error="looked_ahead")),
    },
    checks=[
        pa.Check(lambda frame: frame["signals"] <= frame["patterns_detected"], error="more_trades_than_detections"),
        _unique_key("scope", "strategy_name"),
    ],
)
