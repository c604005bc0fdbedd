"""Small markets for the backtest's tests: a few bars written out, or many drawn by hypothesis."""

from datetime import UTC, date, datetime, timedelta

import pandas as pd
from hypothesis import strategies as st

from tickstock_assets.domain.backtest.inputs import BAR_COLUMNS, DETECTION_COLUMNS, DIVIDEND_COLUMNS

FIRST_DAY = date(2024, 1, 2)


def session_open(day):
    """14:30 UTC on the given day, counted from FIRST_DAY."""
    return datetime(2024, 1, 2, 14, 30, tzinfo=UTC) + timedelta(days=day)


def session_close(day):
    """21:00 UTC on the given day, counted from FIRST_DAY."""
    return datetime(2024, 1, 2, 21, tzinfo=UTC) + timedelta(days=day)


def make_bars(prices, *, factors=None, symbol="AAA", days=None):
    """Return a symbol's bars from its (open, high, low, close) as traded, one a day."""
    factors = factors or [1.0] * len(prices)
    rows = [
        (
            symbol,
            FIRST_DAY + timedelta(days=day),
            session_open(day),
            session_close(day),
            *(price * factor for price in bar),
            factor,
        )
        for day, bar, factor in zip(days or range(len(prices)), prices, factors, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(BAR_COLUMNS)).astype({"date": "datetime64[us]"})


def detect(day, direction="bullish", *, stop=float("nan"), symbol="AAA", pattern="hammer", known_at=None):
    """Return a detection on the day's bar, known at its close unless told otherwise."""
    known_at = known_at or session_close(day)
    return dict(
        zip(DETECTION_COLUMNS, (symbol, session_open(day), pattern, "", direction, known_at, stop), strict=True)
    )


def make_detections(*rows):
    """Return detections as a frame, with its types even when there are none."""
    frame = pd.DataFrame(list(rows), columns=list(DETECTION_COLUMNS))
    for name in ("timestamp", "known_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame.astype({"stop_loss": "float64"})


def make_dividends(*rows):
    """Return dividends as a frame from (symbol, day, cash) rows."""
    named = [(symbol, FIRST_DAY + timedelta(days=day), cash) for symbol, day, cash in rows]
    return pd.DataFrame(named, columns=list(DIVIDEND_COLUMNS))


def in_sydney(frame):
    """Return bars or detections as of an exchange that opens at 23:00 UTC on the day before its session."""
    moments = [name for name in ("timestamp", "session_close", "known_at") if name in frame]
    return frame.assign(**{name: frame[name] - timedelta(hours=15, minutes=30) for name in moments})


# Prices in sixteenths, and factors made of 2 and 3, keep every comparison with a stop exact in both implementations.
PRICES = st.integers(4 * 16, 12 * 16).map(lambda sixteenths: sixteenths / 16)
STOPS = st.one_of(st.just(float("nan")), st.integers(2 * 16, 16 * 16).map(lambda sixteenths: sixteenths / 16))
SPLIT_RATIOS = st.sampled_from([1.0] * 8 + [2.0, 3.0, 1.5, 0.5])
TERMS = st.fixed_dictionaries(
    {
        "capital": st.sampled_from([100_000.0, 1_000.0]),
        "holding_bars": st.integers(1, 6),
        # Never both free: a trade that comes out at exactly nothing would be won or lost by rounding.
        "commission_bps": st.sampled_from([1.0, 13.0]),
        "slippage_bps": st.sampled_from([0.0, 2.0, 150.0]),
    }
)


@st.composite
def markets(draw):
    """Draw bars, detections and dividends of up to three symbols, some listed late, halted or delisted early."""
    n_days = draw(st.integers(1, 14))
    bars, detections, dividends = [], [], []
    for symbol in ["AAA", "BBB", "CCC"][: draw(st.integers(1, 3))]:
        halted = draw(st.sets(st.integers(0, n_days - 1), max_size=n_days - 1))
        days = [day for day in range(n_days) if day not in halted]
        bars.append(draw(_bars_of(symbol, days)))
        detections += draw(_detections_of(symbol, days))
        dividends += draw(
            st.lists(
                st.tuples(st.just(symbol), st.integers(-2, n_days + 1), st.sampled_from([0.25, 0.5, 1.0])), max_size=4
            )
        )
    return pd.concat(bars, ignore_index=True), make_detections(*detections), make_dividends(*dividends)


@st.composite
def _bars_of(draw, symbol, days):
    prices, factors, factor = [], [], 1.0
    for _ in days:
        opened, close, one, other = (draw(PRICES) for _ in range(4))
        prices.append((opened, max(opened, close, one, other), min(opened, close, one, other), close))
        factor *= draw(SPLIT_RATIOS)
        factors.append(factor)
    return make_bars(prices, factors=factors, symbol=symbol, days=days)


@st.composite
def _detections_of(draw, symbol, days):
    keys = draw(st.sets(st.tuples(st.sampled_from(days), st.sampled_from(["hammer", "engulfing"])), max_size=12))
    rows = []
    for day, pattern in sorted(keys):
        delay = draw(st.sampled_from([0, 0, 0, 1, 3]))
        known_at = draw(st.sampled_from([session_close(day + delay), session_open(day + delay)]))
        direction = draw(st.sampled_from(["bullish", "bearish"]))
        rows.append(detect(day, direction, stop=draw(STOPS), symbol=symbol, pattern=pattern, known_at=known_at))
    return rows
