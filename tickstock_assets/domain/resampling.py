"""Longer bars made of shorter ones: frames of any number of symbols in and out, whole arrays at a time.

Bars of minutes and hours are either of fixed widths that begin at midnight UTC, as the stored rollups are, or counted
from the session's open. Weeks and longer are made of daily bars. Elsewhere: which bars to make them of
(storage/resampled_bars.py), missing bars filled on request (filling.py).
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.timeframes import BarLength

type Align = Literal["utc", "session"]
type Floats = npt.NDArray[np.float64]
type Integers = npt.NDArray[np.int64]
type Days = npt.NDArray[np.datetime64]

MINUTE = np.timedelta64(60_000_000, "us")
# 1970-01-01 was a Thursday; weeks are counted from the Monday before it.
MONDAY, DAYS_A_WEEK = 3, 7
SUMS = ("volume", "quote_volume", "trades_count")
TEXTS = ("exchange", "source")
COMBINED = {"open", "high", "low", "close", "vwap", "recorded_at", *SUMS, *TEXTS}


def resample(
    bars: pd.DataFrame, length: BarLength, *, align: Align = "utc", sessions: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return bars of a longer timeframe; one exists only where a bar is that it is made of.

    Of prices that are NaN, and sizes, the others count: open is the first, close the last, high the highest, low the
    lowest; volume, quote_volume and trades_count are sums, NaN where all are. vwap is the mean by volume over the bars
    that have one. Of recorded_at the latest is kept, and of source and exchange the last of their categories, or in the alphabet.

    Args:
        bars: symbol; timestamp (datetime64[us, UTC], the bar's start) where the length is intraday, else date
            (datetime64, the session); and any of the columns above. vwap needs volume. Symbol by symbol, oldest first.
        length: as long as the bars or longer; a whole number of them. In UTC it must divide a day.
        align: of intraday bars. "utc": fixed widths that begin at midnight UTC. "session": counted from each session's
            open, the last one shorter; what is not within regular hours is left out.
        sessions: exchange, session, open, close (datetime64[us] in UTC, without a zone), oldest first; the bars then need
            `exchange`. Needed for "session"; where it is given for weeks and longer, these are stamped with their first
            session, traded in or not, and have its open as `timestamp` and the last one's close as `session_close`.

    Returns:
        The same columns, and `bars`, how many each is made of. Weeks and longer are stamped with the first date that has
        a bar where no session is known.

    Raises:
        ValueError: the bars are not in order, or the length cannot be aligned as asked.
    """
    if length.is_intraday:
        moments = _naive(bars["timestamp"])
        if align == "session":
            if sessions is None:
                raise ValueError("bars counted from the open need sessions")
            stamps, is_within = session_buckets(moments, bars["exchange"], length, sessions)
            bars, moments, stamps = bars[is_within], moments[is_within], stamps[is_within]
        else:
            stamps = clock_buckets(moments, length)
        made = _combined(bars, "timestamp", moments, stamps)
        made["timestamp"] = made["timestamp"].dt.tz_localize("UTC")
        return made
    dates = _naive(bars["date"])
    made = _combined(bars, "date", dates, period_starts(dates, length))
    return made if length.unit == "day" or sessions is None else on_sessions(made, length, sessions)


def clock_buckets(moments: Days, length: BarLength) -> Days:
    """Return the start of the bar that each moment (UTC) lies in, of fixed widths from midnight UTC.

    Raises:
        ValueError: the length does not divide a day.
    """
    if not length.divides_a_day:
        raise ValueError(f"expected a length that divides a day, found {length}")
    width = length.count * MINUTE
    return moments - (moments - np.datetime64(0, "us")) % width


def session_buckets(
    moments: Days, exchanges: "pd.Series[Any]", length: BarLength, sessions: pd.DataFrame
) -> tuple[Days, npt.NDArray[np.bool_]]:
    """Return the start of the bar that each moment lies in, counted from its session's open; and whether there is one.

    Args:
        moments: UTC, shape (n,).
        exchanges: shape (n,).
        length: intraday.
        sessions: as for `resample`.
    """
    starts, is_within = moments.copy(), np.zeros(len(moments), np.bool_)
    width = length.count * MINUTE
    for exchange in exchanges.unique():
        of_exchange = (exchanges == exchange).to_numpy()
        days = sessions[(sessions["exchange"] == exchange).to_numpy()]
        opens, closes, at = _naive(days["open"]), _naive(days["close"]), moments[of_exchange]
        place = np.searchsorted(opens, at, side="right") - 1
        opened = opens[place] if len(days) else at
        starts[of_exchange] = opened + (at - opened) // width * width
        is_within[of_exchange] = (place >= 0) & (at < closes[place]) if len(days) else False
    return starts, is_within


def period_starts(dates: Days, length: BarLength) -> npt.NDArray[np.datetime64]:
    """Return the first calendar day of the week, month or year that each date lies in; of a day, itself.

    Several weeks are counted from Monday 1969-12-29, several months and years from 1970-01-01.
    """
    return _period_day(_period_number(dates, length), length)


def next_period_starts(dates: Days, length: BarLength) -> npt.NDArray[np.datetime64]:
    """Return the first calendar day after the period that each date lies in."""
    return _period_day(_period_number(dates, length) + 1, length)


def _period_number(dates: Days, length: BarLength) -> Integers:
    if length.unit == "month":
        return dates.astype("datetime64[M]").astype(np.int64) // length.count
    days = dates.astype("datetime64[D]").astype(np.int64)
    return (days + MONDAY) // (DAYS_A_WEEK * length.count) if length.unit == "week" else days


def _period_day(number: Integers, length: BarLength) -> npt.NDArray[np.datetime64]:
    if length.unit == "month":
        return (number * length.count).astype("datetime64[M]").astype("datetime64[D]")
    days = number * (DAYS_A_WEEK * length.count) - MONDAY if length.unit == "week" else number
    return days.astype("datetime64[D]")


def _combined(bars: pd.DataFrame, time: str, moments: Days, buckets: Days) -> pd.DataFrame:
    """Return one row for each run of bars of one symbol and bucket, stamped with the bucket or, of days, its first bar."""
    symbols = pd.factorize(bars["symbol"])[0]
    is_new_symbol = symbols[1:] != symbols[:-1]
    if (symbols[1:] < symbols[:-1]).any() or ((moments[1:] <= moments[:-1]) & ~is_new_symbol).any():
        raise ValueError("expected bars symbol by symbol, each moment once and the oldest first")
    is_first = np.concatenate(([True], is_new_symbol | (buckets[1:] != buckets[:-1])))[: len(bars)]
    starts = np.flatnonzero(is_first)
    made = {"symbol": bars["symbol"].array[starts], time: (moments if time == "date" else buckets)[starts]}
    for name in COMBINED & {*bars.columns}:
        made[name] = _column(bars, name, starts)
    ordered = [name for name in bars.columns if name in made]
    return pd.DataFrame(made)[ordered].assign(bars=np.diff(np.append(starts, len(bars))))


def _column(bars: pd.DataFrame, name: str, starts: Integers) -> Any:
    column = bars[name]
    if name in TEXTS:
        column = column.astype(column.dtype if isinstance(column.dtype, pd.CategoricalDtype) else "category")
        codes = _reduced(np.maximum, column.cat.codes.to_numpy(np.int64), starts)
        return pd.Categorical.from_codes(codes, column.cat.categories, ordered=True)
    if name == "recorded_at":
        latest = _reduced(np.maximum, _naive(column).astype(np.int64), starts)
        return pd.Series(latest.astype("datetime64[us]")).dt.tz_localize("UTC")
    values = column.to_numpy(np.float64, na_value=np.nan)
    if name == "vwap":
        weights = np.where(np.isnan(values), 0.0, np.nan_to_num(bars["volume"].to_numpy(np.float64)))
        weight = _reduced(np.add, weights, starts)
        worth = _reduced(np.add, np.nan_to_num(values) * weights, starts)
        return np.divide(worth, weight, out=np.full(len(starts), np.nan), where=weight > 0)
    if name in SUMS:
        total, largest = _reduced(np.add, np.nan_to_num(values), starts), _reduced(np.fmax, values, starts)
        return np.where(np.isnan(largest), np.nan, total)
    if name in {"open", "close"}:
        return _end_price(values, starts, is_open=name == "open")
    return _reduced({"high": np.fmax, "low": np.fmin}[name], values, starts)


def _end_price(values: Floats, starts: Integers, *, is_open: bool) -> Floats:
    """Return the first, or the last, value of each run that is not NaN."""
    places, has_value = np.arange(len(values)), ~np.isnan(values)
    none = len(values)
    if is_open:
        place = _reduced(np.minimum, np.where(has_value, places, none), starts)
    else:
        place = _reduced(np.maximum, np.where(has_value, places, -1), starts)
    return np.where((place >= 0) & (place < none), values[np.clip(place, 0, max(none - 1, 0))], np.nan)


def _reduced(combine: Any, values: npt.NDArray[Any], starts: Integers) -> npt.NDArray[Any]:
    # reduceat takes no empty list of starts.
    reduced: npt.NDArray[Any] = combine.reduceat(values, starts) if len(starts) else values[:0]
    return reduced


def on_sessions(made: pd.DataFrame, length: BarLength, sessions: pd.DataFrame) -> pd.DataFrame:
    """Return days or longer bars, stamped with the first session of their exchange in that time, where one is known.

    Args:
        made: exchange, date and any columns.
        length: of the bars.
        sessions: exchange, session, open, close (datetime64[us] in UTC, without a zone).

    Returns:
        The same with `timestamp`, the first session's open, midnight UTC of the date where none is known; and
        `session_close`, the last one's close (both UTC).
    """
    days = _naive(sessions["session"])
    known = (
        sessions[["exchange", "session", "open", "close"]]
        .assign(period=period_starts(days, length), exchange=sessions["exchange"].astype(object))
        .groupby(["exchange", "period"], sort=False)
        .agg(session=("session", "min"), timestamp=("open", "min"), session_close=("close", "max"))
    )
    periods = pd.MultiIndex.from_arrays([made["exchange"].astype(object), period_starts(_naive(made["date"]), length)])
    found = known.reindex(periods).reset_index(drop=True)
    date = found["session"].fillna(made["date"])
    return made.assign(
        date=date,
        timestamp=found["timestamp"].fillna(date).dt.tz_localize("UTC"),
        session_close=found["session_close"].dt.tz_localize("UTC"),
    )


def _naive(moments: "pd.Series[Any]") -> Days:
    """Return moments in UTC, or days, as datetime64[us]."""
    return moments.to_numpy("datetime64[us]")
