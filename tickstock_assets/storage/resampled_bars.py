"""Bars that are not stored as they are asked for: made of stored ones, filled, and with those that are still forming.

They are made of the coarsest stored bars that they are a whole number of. Minutes are read instead where rolled-up bars
cannot tell: what was known at a past moment, how many minutes there are, and the volume-weighted price, since of a
rolled-up bar it is not stored how much of its volume had one.

Elsewhere: the arithmetic (domain/resampling.py, domain/filling.py), what may be asked (readings.py).
"""

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.filling import forward_filled
from tickstock_assets.domain.resampling import MINUTE, next_period_starts, on_sessions, period_starts, resample
from tickstock_assets.domain.timeframes import LENGTHS, BarLength, Timeframe
from tickstock_assets.storage.adjusted_bars import LONGEST_CLOSURE, Adjustment, adjusted, is_adjusting
from tickstock_assets.storage.arrow import ArrowPool
from tickstock_assets.storage.arrow_columns import arrow_column
from tickstock_assets.storage.bar_requests import VALUES, BarRequest, as_moment
from tickstock_assets.storage.forming_bars import LIVE, Seams, live_bars
from tickstock_assets.storage.knowledge import require_settled
from tickstock_assets.storage.readings import Reading
from tickstock_assets.storage.session_times import require_sessions, sessions_between
from tickstock_assets.storage.source_ranks import in_rank_order

type Moments = npt.NDArray[np.datetime64]

INTRADAY: tuple[Timeframe, ...] = ("1h", "15m", "5m", "1m")
ONE_DAY = timedelta(days=1)
# A trade may be reported up to ten seconds after it was made (FINRA rules 6282 and 6380), so a bar of trades is not done
# with its last second.
LATEST_REPORT = np.timedelta64(10, "s")
# Beyond this a float64 has no eighth decimal.
EXACT_BELOW = 2**53 / 1e8
TYPES = {
    "date": pa.date32(),
    **dict.fromkeys(("timestamp", "session_close", "recorded_at"), pa.timestamp("us", "UTC")),
    **dict.fromkeys(("trades_count", "bars"), pa.int64()),
    **dict.fromkeys(("symbol", "exchange", "source"), pa.string()),
    **dict.fromkeys(("filled", "forming"), pa.bool_()),
}
# Hours that have a bar and no minute although they are of the time from which minutes may have been dropped.
DROPPED = """
    SELECT h.symbol::text, h.timestamp FROM ohlcv_1h h
    WHERE h.timestamp < (SELECT dropped_before FROM minutes_dropped)
      AND ($1::text[] IS NULL OR h.symbol = ANY ($1::text[]))
      AND h.timestamp >= coalesce($2::timestamptz, '-infinity') AND h.timestamp < coalesce($3::timestamptz, 'infinity')
      AND NOT EXISTS (SELECT FROM ohlcv_1min m WHERE m.symbol = h.symbol AND m.timestamp >= h.timestamp
                      AND m.timestamp < h.timestamp + INTERVAL '1 hour')
    LIMIT 1
"""


def resampled_bars(
    pool: ArrowPool, asked: Reading, wanted: Adjustment | None, *, now: datetime, spill: Path | None = None
) -> pa.Table:
    """Return the bars of a reading, made of stored ones.

    Args:
        pool: where to ask.
        asked: for which bars.
        wanted: the adjustment, made before bars are put together, so that a split within one does no harm.
        now: bars that end later are not filled, and are forming.
        spill: where the live feed keeps the trades that it has not stored yet.
    """
    if asked.as_of is not None:
        require_settled(pool, asked.as_of)
    request = _source(pool, asked, is_adjusted=is_adjusting(wanted, asked.columns))
    # What is live is looked for first: it may only move from there into the tables that are read after it.
    seams = Seams.find(pool, request, spill) if asked.has_forming else None
    table = request.in_order(pool.read(*request.statement()))
    if seams is not None:
        table = live_bars(pool, request, seams, table, now)
    if wanted is not None and is_adjusting(wanted, asked.columns):
        table = adjusted(pool, request, wanted, table)
        return _made(pool, asked, table, now)
    return _rounded(_made(pool, asked, table, now))


def _made(pool: ArrowPool, asked: Reading, table: pa.Table, now: datetime) -> pa.Table:
    """Return bars as they were asked for, of those that they are made of."""
    bars = table.to_pandas(strings_to_categorical=True, date_as_object=False)
    if "source" in bars:
        bars["source"] = in_rank_order(pool, bars["source"])
    until = now if asked.as_of is None else asked.as_of
    sessions = _sessions(pool, asked, bars, until)
    made = resample(bars, asked.length, align=asked.align, sessions=sessions)
    if asked.is_filled and sessions is not None:
        made = forward_filled(made, sessions, asked.length, until=until, align=asked.align)
    if not asked.length.is_intraday and sessions is not None:
        made = on_sessions(made, asked.length, sessions)
    if asked.has_forming and sessions is not None:
        made["forming"] = _ends(asked, made, sessions) > np.datetime64(now.replace(tzinfo=None), "us")
    made = made[_is_asked(asked, made)]
    marks = [*(["filled"] if asked.is_filled else []), *(["forming"] if asked.has_forming else [])]
    names = dict.fromkeys(["symbol", asked.time_column, *asked.columns, *marks])
    return pa.table({name: arrow_column(made[name], TYPES.get(name, pa.float64())) for name in names})


# --- what they are made of


def _source(pool: ArrowPool, asked: Reading, *, is_adjusted: bool) -> BarRequest:
    """Return the request for the bars that those asked for are made of."""
    start, end = _span(asked)
    columns = [name for name in asked.columns if name in VALUES]
    columns += ["volume"] if "vwap" in columns else []
    columns += ["close"] if asked.is_filled else []
    columns += ["source"] if asked.has_forming else []
    needs_calendar = not asked.length.is_intraday or asked.align == "session" or asked.is_filled or asked.has_forming
    columns += ["exchange"] if needs_calendar or is_adjusted else []
    request = BarRequest(asked.symbols, "1d", start, end, asked.as_of, tuple(dict.fromkeys(columns)))
    if not asked.length.is_intraday:
        return request
    coarsest = _coarsest(pool, asked)
    if asked.as_of is not None or asked.counts_bars:
        if (gone := _dropped(pool, asked, request)) is not None:
            why = "as_of" if asked.as_of is not None else "columns bars"
            raise ConfigError(
                f"{why}: expected the minutes that bars of {asked.length} are made of, found those of {gone} dropped by "
                "retention; ask for bars after that time, or as they are stored"
            )
        return replace(request, timeframe="1m")
    is_told = "vwap" not in asked.columns or coarsest == str(asked.length)
    # What the minutes cannot tell any more the rolled-up bars still do, to the eighth decimal where all have a vwap.
    use_minutes = not is_told and coarsest != "1m" and _dropped(pool, asked, request) is None
    return replace(request, timeframe="1m" if use_minutes else coarsest)


def _span(asked: Reading) -> tuple[date | datetime | None, date | datetime | None]:
    """Return from when to when bars are read, so that every bar asked for is made of all that is in it."""
    start, end, length = asked.start, asked.end, asked.length
    if length.is_intraday:
        width = timedelta(minutes=length.count)
        # What is filled may be so from the beginning of the session on.
        back = ONE_DAY if asked.is_filled else timedelta(0)
        return _moved(start and as_moment(start), -back), _moved(end and as_moment(end), width)
    first, last = (_day(start, -ONE_DAY), _day(end, ONE_DAY))
    if asked.is_filled:
        return _moved(first, -LONGEST_CLOSURE), last
    return _period(first, length, is_end=False), _period(last, length, is_end=True)


def _coarsest(pool: ArrowPool, asked: Reading) -> Timeframe:
    """Return the longest stored bars of minutes that those asked for are a whole number of."""
    minutes = {name: LENGTHS[name] // timedelta(minutes=1) for name in INTRADAY}
    fitting = [name for name in INTRADAY if asked.length.count % minutes[name] == 0]
    if asked.align == "utc":
        return fitting[0]
    offsets = pool.read(
        "SELECT DISTINCT date_part('minute', at)::int + 60 * date_part('hour', at)::int AS minute FROM ("
        "SELECT unnest(ARRAY[open, close]) AT TIME ZONE 'UTC' AS at FROM sessions WHERE exchange IN ("
        "SELECT exchange FROM symbols WHERE $1::text[] IS NULL OR symbol = ANY ($1::text[]))) AS ends",
        [None if asked.symbols is None else list(asked.symbols)],
    )["minute"].to_numpy()
    return next(name for name in fitting if not (offsets % minutes[name]).any())


def _dropped(pool: ArrowPool, asked: Reading, request: BarRequest) -> str | None:
    """Return an hour whose minutes were dropped, of those to be read, as text."""
    bounds = [bound and as_moment(bound) for bound in (request.start, request.end)]
    found = pool.read(DROPPED, [None if asked.symbols is None else list(asked.symbols), *bounds]).to_pylist()
    return f"{found[0]['symbol']} at {found[0]['timestamp']:%Y-%m-%d %H:%M} UTC" if found else None


# --- putting them together


def _sessions(pool: ArrowPool, asked: Reading, bars: pd.DataFrame, until: datetime) -> pd.DataFrame | None:
    """Return the sessions that bars are placed in, None where no calendar is needed."""
    if "exchange" not in bars or (
        asked.length.is_intraday and asked.align == "utc" and not (asked.is_filled or asked.has_forming)
    ):
        return None
    exchanges = bars["exchange"].unique().tolist()
    days = bars["timestamp" if asked.length.is_intraday else "date"]
    if not len(bars):
        return sessions_between(pool, [], until.date(), until.date())
    first, last = days.min().date(), days.max().date()
    if asked.is_filled:
        last = max(last, until.date()) if asked.end is None else max(last, min(as_moment(asked.end), until).date())
    # All of the periods that the first and the last bar are in.
    near = LONGEST_CLOSURE + ONE_DAY * {"week": 7, "month": 31}.get(asked.length.unit, 0) * asked.length.count
    sessions = sessions_between(pool, exchanges, first - near, last + near)
    if asked.is_filled or asked.align == "session":
        require_sessions(sessions, exchanges, "fill" if asked.is_filled else "align session")
    return sessions


def _ends(asked: Reading, made: pd.DataFrame, sessions: pd.DataFrame) -> Moments:
    """Return when each bar is done: UTC, datetime64[us]."""
    stamps: Moments = made[asked.time_column].to_numpy("datetime64[us]")
    late = np.where(made["source"].astype(str).str.contains(LIVE, regex=False), LATEST_REPORT, np.timedelta64(0, "s"))
    if asked.length.is_intraday:
        ends: Moments = stamps + asked.length.count * MINUTE
        for exchange in made["exchange"].unique() if asked.align == "session" else []:
            of_exchange = (made["exchange"] == exchange).to_numpy()
            days = sessions[(sessions["exchange"] == exchange).to_numpy()]
            place = np.searchsorted(days["open"].to_numpy(), stamps[of_exchange], side="right") - 1
            ends[of_exchange] = np.minimum(ends[of_exchange], days["close"].to_numpy()[place])
        return np.add(ends, late)
    after = next_period_starts(stamps, asked.length).astype("datetime64[us]")
    # The last close counts only where the calendar is known to the end of the period.
    known_to = made["exchange"].astype(object).map(sessions.groupby("exchange")["session"].max())
    is_known = (known_to.to_numpy("datetime64[us]") >= after) | (asked.length.unit == "day")
    closes = made["session_close"].to_numpy("datetime64[us]")
    ends = after.copy()
    is_known &= ~np.isnat(closes)
    ends[is_known] = closes[is_known]
    return np.add(ends, late)


def _is_asked(asked: Reading, made: pd.DataFrame) -> "pd.Series[bool]":
    """Return which bars begin within what is asked for."""
    found = pd.Series(data=True, index=made.index)
    for bound, is_start in ((asked.start, True), (asked.end, False)):
        if bound is None:
            continue
        by_moment = asked.length.is_intraday or isinstance(bound, datetime)
        column = made["timestamp" if by_moment else "date"]
        limit = pd.Timestamp(as_moment(bound) if by_moment else bound)
        found &= column >= limit if is_start else column < limit
    return found


def _rounded(table: pa.Table) -> pa.Table:
    """Return sums and means to the eight decimals that bars are stored with."""
    for name in {"volume", "quote_volume", "vwap"} & {*table.column_names}:
        values = table[name].to_numpy(zero_copy_only=False)
        exact = np.where(np.abs(values) < EXACT_BELOW, np.round(values, 8), values)
        table = table.set_column(table.column_names.index(name), name, pa.array(exact, from_pandas=True))
    return table


def _moved[Bound: (date, datetime, date | datetime)](bound: Bound | None, by: timedelta) -> Bound | None:
    """Return a bound moved by some time; none where no calendar reaches."""
    try:
        return None if bound is None else bound + by
    except OverflowError:
        return None


def _day(bound: date | datetime | None, by: timedelta) -> date | None:
    """Return a date as it is; a moment, which is of the session that opens within a day of it, as that much away."""
    return _moved(bound.date(), by) if isinstance(bound, datetime) else bound


def _period(bound: date | None, length: BarLength, *, is_end: bool) -> date | None:
    """Return where the period begins that a day is in; of a day that is an end, where the one before it ends."""
    if bound is None:
        return None
    day = np.array([bound - ONE_DAY if is_end and bound > date.min else bound], "datetime64[D]")
    moved = (next_period_starts(day, length) if is_end else period_starts(day, length))[0].item()
    return moved if isinstance(moved, date) else None
