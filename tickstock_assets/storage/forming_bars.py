"""Bars that are still forming: trades that the live feed has brought, made into bars behind the last stored one.

A trade is first in the feed's own files, then in `ticks`; a minute of trades is at last one bar of `ohlcv_1min`. At every
moment it is in at least one of these. They are read in that order, so that what moves on meanwhile is met again where it
went: read in the other order, a trade that is stored between the two looks would be in neither. What is met twice is the
same by its key.

Elsewhere: the feed's files (tick_spill.py), bars of trades (domain/trades.py), longer bars (resampled_bars.py).
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.resampling import resample, session_buckets
from tickstock_assets.domain.timeframes import BarLength
from tickstock_assets.domain.trade_conditions import RULES, Rules
from tickstock_assets.domain.trades import minute_bars
from tickstock_assets.storage.arrow import ArrowPool
from tickstock_assets.storage.arrow_columns import arrow_column
from tickstock_assets.storage.bar_requests import TABLES, VALUES, BarRequest, as_moment
from tickstock_assets.storage.session_times import sessions_between
from tickstock_assets.storage.source_ranks import in_rank_order
from tickstock_assets.storage.tick_spill import unflushed

LIVE, ROLLED_UP = "ticks:", "rollup:"
KEY = ["symbol", "timestamp", "exchange", "trade_id"]
COLUMNS = [*KEY, "price", "quantity", "conditions", "source"]
EVER, MINUTE, ONE_DAY = datetime(1900, 1, 1, tzinfo=UTC), timedelta(minutes=1), timedelta(days=1)
WHOLE_SESSION = BarLength(24 * 60, "minute")
EVERY_VALUE = ("open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades_count", "exchange", "source",
               "recorded_at")  # fmt: skip


@dataclass(frozen=True)
class Seams:
    """Where what is stored ends, and what the feed had that was not stored yet; as it was before the bars were read.

    Attributes:
        spilled: trades.
        of_symbols: symbol; exchange; last_minute, of its minute bars; last_bar, of the bars that are read, rolled up from
            minutes maybe before the last of these came, so that it is made anew; last_day and is_made_day of the daily
            bars, which is made anew where it was rolled up itself. Moments in UTC, NaT where there is none.
    """

    spilled: pd.DataFrame
    of_symbols: pd.DataFrame

    @classmethod
    def find(cls, pool: ArrowPool, request: BarRequest, spill: Path | None) -> "Seams":
        """Look where the bars of a request end."""
        trades = unflushed(spill) if spill is not None else None
        found = pool.read(
            f"""
            SELECT s.symbol::text, s.exchange, m.timestamp AS last_minute, b.timestamp AS last_bar, d.date AS last_day,
                   d.source LIKE '%:%' AS is_made_day
            FROM symbols s
            LEFT JOIN LATERAL (SELECT timestamp FROM ohlcv_1min WHERE symbol = s.symbol
                               ORDER BY timestamp DESC LIMIT 1) AS m ON TRUE
            LEFT JOIN LATERAL (SELECT timestamp FROM {TABLES[request.timeframe if request.timeframe != "1d" else "1m"]}
                               WHERE symbol = s.symbol ORDER BY timestamp DESC LIMIT 1) AS b ON TRUE
            LEFT JOIN LATERAL (SELECT date, source FROM ohlcv_daily WHERE symbol = s.symbol
                               ORDER BY date DESC LIMIT 1) AS d ON TRUE
            WHERE $1::text[] IS NULL OR s.symbol = ANY ($1::text[]) ORDER BY s.symbol
            """,  # noqa: S608 of a closed list
            [None if request.symbols is None else list(request.symbols)],
        ).to_pandas(date_as_object=False)
        return cls(pd.DataFrame(columns=COLUMNS) if trades is None else trades.to_pandas(), found)


def live_bars(pool: ArrowPool, request: BarRequest, seams: Seams, table: pa.Table, now: datetime) -> pa.Table:
    """Return the bars of a request joined with those that trades make, and with those of minutes not rolled up yet.

    Args:
        pool: where minutes and trades are read.
        request: that `table` answers: with exchange and source.
        seams: found before the table was read.
        table: bars as stored.
        now: sessions that open later have no bars.
    """
    if not len(seams.of_symbols):
        return table
    of_symbols = seams.of_symbols.set_index("symbol")
    if request.timeframe == "1d":
        return _with_days(pool, request, seams, table, now)
    # What begins before is not asked for, however far back what is stored ends.
    start = _start(request)
    if request.timeframe == "1m":
        minutes, rest = table.to_pandas(), None
    else:
        # The last rolled-up bar may lack minutes that came after it, and there may be minutes after it.
        rest = table.to_pandas()
        since = _not_before(of_symbols["last_bar"].fillna(pd.Timestamp(EVER)), start)
        rest = rest[rest["timestamp"] < rest["symbol"].map(since)]
        minutes = _minutes(pool, request, since)
    live = _from_trades(pool, seams, minutes, (start, request.end))
    # Of the minute that the start cuts only a part was read.
    live = live[live["timestamp"] >= start]
    return _joined(table, [rest, minutes, live], ["symbol", "timestamp"])


def _with_days(pool: ArrowPool, request: BarRequest, seams: Seams, table: pa.Table, now: datetime) -> pa.Table:
    """Return daily bars joined with those of sessions that no provider has sent a bar of yet."""
    of_symbols = seams.of_symbols.set_index("symbol")
    is_kept = of_symbols["last_day"].notna() & ~of_symbols["is_made_day"].fillna(value=False).astype(bool)
    first = of_symbols["last_day"].fillna(pd.Timestamp(EVER.date())) + pd.to_timedelta(is_kept.astype(int), unit="D")
    # Sessions open within a day of their date's midnight; a day before is looked at as well, for them to be whole.
    start = _start(request) - ONE_DAY
    since = _not_before(first.dt.tz_localize("UTC") - ONE_DAY, start - ONE_DAY).rename("since")
    minutes = _minutes(pool, replace(request, timeframe="1m", end=None), since)
    minutes = pd.concat(
        [frame for frame in (minutes, _from_trades(pool, seams, minutes, (since.min(), None))) if len(frame)]
        or [minutes]
    )
    minutes = minutes.sort_values(["symbol", "timestamp"], ignore_index=True)
    if not len(minutes):
        return table
    sessions = sessions_between(
        pool,
        minutes["exchange"].unique(),
        minutes["timestamp"].min().date() - ONE_DAY,
        min(minutes["timestamp"].max(), pd.Timestamp(now)).date() + ONE_DAY,
    )
    ranked = minutes.assign(source=in_rank_order(pool, minutes["source"]))
    made = resample(ranked, WHOLE_SESSION, align="session", sessions=sessions).drop(columns="bars")
    opened = sessions.assign(timestamp=sessions["open"].dt.tz_localize("UTC"))[["exchange", "timestamp", "session"]]
    made = made.astype({"exchange": object, "source": object}).merge(opened, on=["exchange", "timestamp"])
    made = made[(made["session"] >= made["symbol"].map(first)) & (made["timestamp"] >= start)]
    made = made.assign(date=made["session"], source=ROLLED_UP + made["source"])
    stored = table.to_pandas(date_as_object=False)
    # A provider's own bar may have come since.
    theirs = stored[~stored["source"].str.contains(":", regex=False)][["symbol", "date"]]
    is_sent = pd.MultiIndex.from_frame(made[["symbol", "date"]]).isin(pd.MultiIndex.from_frame(theirs))
    return _joined(table, [made[~is_sent], stored], ["symbol", "date"])


def _start(request: BarRequest) -> datetime:
    """Return the moment from which on bars are asked for."""
    return max(as_moment(request.start), EVER) if request.start else EVER


def _not_before(moments: "pd.Series[Any]", start: datetime) -> "pd.Series[Any]":
    return moments.where(moments >= pd.Timestamp(start), pd.Timestamp(start))


def _minutes(pool: ArrowPool, request: BarRequest, since: "pd.Series[Any]") -> pd.DataFrame:
    """Return the stored minute bars of each symbol from a moment on, with all values."""
    listed = ", ".join(f"{VALUES[name]} AS {name}" for name in EVERY_VALUE)
    frame: pd.DataFrame = pool.read(
        f"""
        SELECT b.symbol::text, b.timestamp, {listed}
        FROM unnest($1::text[], $2::text[]) AS s (symbol, since)
        JOIN ohlcv_1min b ON b.symbol = s.symbol AND b.timestamp >= s.since::timestamptz
        WHERE b.timestamp < coalesce($3::timestamptz, 'infinity') ORDER BY b.symbol, b.timestamp
        """,  # noqa: S608 of a closed list
        [since.index.tolist(), [moment.isoformat() for moment in since], request.end and as_moment(request.end)],
    ).to_pandas()
    return frame


def _from_trades(
    pool: ArrowPool, seams: Seams, minutes: pd.DataFrame, span: tuple[datetime, date | datetime | None]
) -> pd.DataFrame:
    """Return the minute bars that trades make behind each symbol's last stored minute, with all values.

    `span` says from when and to before when trades are looked at.
    """
    start, end = span
    of_symbols = seams.of_symbols.set_index("symbol")
    # A minute that was stored since the look at the seams is the later word, and what is before it is done.
    last = pd.concat([of_symbols["last_minute"], minutes.groupby("symbol")["timestamp"].max()], axis=1).max(axis=1)
    since = _not_before((last + MINUTE).fillna(pd.Timestamp(EVER)), start)
    stored = pool.read(
        """
        SELECT t.symbol::text, t.timestamp, t.exchange, t.trade_id, t.price::float8, t.quantity::float8, t.conditions, t.source
        FROM unnest($1::text[], $2::text[]) AS s (symbol, since)
        JOIN ticks t ON t.symbol = s.symbol AND t.timestamp >= s.since::timestamptz
        WHERE t.timestamp < coalesce($3::timestamptz, 'infinity')
        """,
        [since.index.tolist(), [moment.isoformat() for moment in since], end and as_moment(end)],
    ).to_pandas()
    spilled = seams.spilled[seams.spilled["symbol"].isin(since.index)]
    spilled = spilled[spilled["timestamp"] >= spilled["symbol"].map(since)] if len(spilled) else spilled
    spilled = spilled[spilled["timestamp"] < pd.Timestamp(as_moment(end))] if end and len(spilled) else spilled
    found = [frame for frame in (stored, spilled[COLUMNS]) if len(frame)]
    if not found:
        return minutes.iloc[:0]
    trades = pd.concat(found, ignore_index=True).drop_duplicates(KEY)
    # Ids that count up do so as numbers; a longer number is a larger one.
    trades = trades.assign(digits=trades["trade_id"].str.len()).sort_values(
        ["symbol", "timestamp", "digits", "trade_id"], ignore_index=True
    )
    return _bars_of(pool, trades, of_symbols["exchange"])


def _bars_of(pool: ArrowPool, trades: pd.DataFrame, exchanges: "pd.Series[Any]") -> pd.DataFrame:
    of_calendar = trades["symbol"].map(exchanges)
    sessions = sessions_between(
        pool,
        of_calendar.unique(),
        trades["timestamp"].min().date() - ONE_DAY,
        trades["timestamp"].max().date() + ONE_DAY,
    )
    moments = trades["timestamp"].to_numpy("datetime64[us]")
    _, is_regular = session_buckets(moments, of_calendar, WHOLE_SESSION, sessions)
    trades = trades.assign(in_regular_hours=is_regular)
    made = [
        minute_bars(trades[trades["source"] == source], RULES.get(source, Rules())).assign(source=LIVE + source)
        for source in trades["source"].unique().tolist()
    ]
    bars = pd.concat(made, ignore_index=True)
    # Of two feeds' bars of one minute the one that ranks first counts, as if they were stored.
    bars = bars.assign(source=in_rank_order(pool, bars["source"])).sort_values(["symbol", "timestamp", "source"])
    bars = bars.drop_duplicates(["symbol", "timestamp"], ignore_index=True).astype({"source": object})
    return bars.assign(
        exchange=bars["symbol"].map(exchanges), recorded_at=pd.Series(pd.NaT, dtype="datetime64[us, UTC]")
    )


def _joined(table: pa.Table, parts: list[pd.DataFrame | None], key: list[str]) -> pa.Table:
    """Return bars in the shape of a table; of those with the same key the one of the first part that has it."""
    pieces = [
        pa.table([arrow_column(part[field.name], field.type) for field in table.schema], schema=table.schema)
        for part in parts
        if part is not None and len(part)
    ]
    both = pa.concat_tables(pieces) if pieces else table.slice(0, 0)
    first = both.append_column("place", pa.array(np.arange(both.num_rows))).group_by(key).aggregate([("place", "min")])
    return both.take(first["place_min"]).sort_by([(name, "ascending") for name in key])
