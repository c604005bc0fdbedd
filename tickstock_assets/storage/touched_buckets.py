"""Hours whose minutes a write has changed: written with it, read by the rollup job, marked when their bars are made anew.

An hour stands for every bar that has minutes of it: its own, those of 5 and 15 minutes in it, and that of the session which
it overlaps. What was rolled up stays marked until the next run, so that a check can look at just that.

Elsewhere: what is computed (rollups.py), up to when minutes may be gone (minutes_dropped.py).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from tickstock_assets.domain.windows import Window

type Cursor = psycopg.Cursor[Any]
type Stamp = Literal["intraday_at", "daily_at"]
# A stretch of a symbol's time: symbol, from, to before.
type Stretch = tuple[str, datetime, datetime]

TABLE = "ohlcv_1min"
ONE_HOUR = timedelta(hours=1)
# A session's minutes lie within so much of its day in UTC, wherever on earth the exchange is.
BEFORE_ITS_DAY, AFTER_ITS_DAY = timedelta(hours=12), timedelta(hours=36)


def touch(cursor: Cursor, minutes: pa.Table) -> int:
    """Note that these minutes were inserted, corrected or removed, and return in how many hours.

    Args:
        cursor: in the transaction that writes them, which holds the locks of their symbols.
        minutes: symbol and timestamp (UTC).
    """
    hours = (
        pa.table({"symbol": minutes["symbol"], "timestamp": pc.floor_temporal(minutes["timestamp"], unit="hour")})
        .group_by(["symbol", "timestamp"])
        .aggregate([])
        .sort_by([("symbol", "ascending"), ("timestamp", "ascending")])
    )
    cursor.execute(
        # Also where it is stale already: a refresh under way must see that there was another write.
        "INSERT INTO touched_buckets (symbol, timestamp) SELECT * FROM unnest(%s::text[], %s::timestamptz[]) "
        "ON CONFLICT (symbol, timestamp) DO UPDATE SET intraday_at = NULL, daily_at = NULL",
        [hours["symbol"].to_pylist(), hours["timestamp"].cast(pa.string()).to_pylist()],
    )
    return len(hours)


def stale_symbols(cursor: Cursor, stamp: Stamp, windows: Sequence[Window] | None) -> list[tuple[str, int]]:
    """Return the symbols that have stale hours, in order, with how many."""
    cursor.execute(
        sql.SQL(
            "SELECT symbol::text, count(*) FROM touched_buckets t WHERE {stamp} IS NULL AND {inside} GROUP BY 1 ORDER BY 1"
        ).format(stamp=sql.Identifier(stamp), inside=inside(windows))
    )
    return cursor.fetchall()


def stale_hours(
    cursor: Cursor,
    stamp: Stamp,
    symbols: Sequence[str],
    windows: Sequence[Window] | None,
    *,
    most: int,
    after: tuple[str, datetime] | None = None,
) -> pd.DataFrame:
    """Return the first stale hours of symbols: symbol, timestamp and updated_at (UTC), in that order.

    Args:
        cursor: in the transaction that computes their bars.
        stamp: intraday_at or daily_at, whichever is to be set.
        symbols: of which.
        windows: within which, or None for all there are.
        most: how many.
        after: symbol and timestamp of the last one that was dealt with, or None.
    """
    symbol, moment = after or ("", "-infinity")
    cursor.execute(
        sql.SQL(
            "SELECT symbol::text, timestamp, updated_at FROM touched_buckets t WHERE {stamp} IS NULL AND {inside} "
            "AND symbol = ANY ({symbols}) AND (symbol, timestamp) > ({symbol}, {moment}::timestamptz) "
            "ORDER BY symbol, timestamp LIMIT {most}"
        ).format(
            stamp=sql.Identifier(stamp),
            inside=inside(windows),
            symbols=sql.Literal(list(symbols)),
            symbol=sql.Literal(symbol),
            moment=sql.Literal(str(moment)),
            most=sql.Literal(most),
        )
    )
    return _frame(cursor, "updated_at")


def stale_hours_between(
    cursor: Cursor, windows: Sequence[Window] | None, low: datetime, high: datetime
) -> pd.DataFrame:
    """Return the hours from `low` to before `high` whose intraday bars are stale, of all symbols; see `stale_hours`."""
    cursor.execute(
        sql.SQL(
            "SELECT symbol::text, timestamp, updated_at FROM touched_buckets t WHERE intraday_at IS NULL AND {inside} "
            "AND timestamp >= {low} AND timestamp < {high} ORDER BY symbol, timestamp"
        ).format(inside=inside(windows), low=sql.Literal(low), high=sql.Literal(high))
    )
    return _frame(cursor, "updated_at")


def touched_hours(cursor: Cursor, stamp: Stamp, windows: Sequence[Window] | None) -> pd.DataFrame:
    """Return the hours whose bars are made anew: symbol and timestamp (UTC), in order."""
    cursor.execute(
        sql.SQL(
            "SELECT symbol::text, timestamp FROM touched_buckets t WHERE {stamp} IS NOT NULL AND {inside} "
            "ORDER BY symbol, timestamp"
        ).format(stamp=sql.Identifier(stamp), inside=inside(windows))
    )
    return _frame(cursor)


def mark(cursor: Cursor, stamp: Stamp, hours: pd.DataFrame) -> None:
    """Note that the bars of these stale hours are made anew, but of those that were written to since they were read."""
    cursor.execute(
        sql.SQL(
            "UPDATE touched_buckets t SET {stamp} = statement_timestamp() "
            "FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS h (symbol, timestamp, updated_at) "
            "WHERE t.symbol = h.symbol AND t.timestamp = h.timestamp AND t.updated_at = h.updated_at"
        ).format(stamp=sql.Identifier(stamp)),
        [hours[name].astype(str).tolist() for name in ("symbol", "timestamp", "updated_at")],
    )


def forget(cursor: Cursor, windows: Sequence[Window] | None) -> int:
    """Remove the hours of which all is made anew, as by an earlier run, and return how many."""
    cursor.execute(
        sql.SQL("DELETE FROM touched_buckets t WHERE intraday_at IS NOT NULL AND daily_at IS NOT NULL AND {}").format(
            inside(windows)
        )
    )
    return cursor.rowcount


def stretches(hours: pd.DataFrame) -> list[Stretch]:
    """Return the fewest stretches of time that are made of these hours, which are in order; each within a day of UTC."""
    if hours.empty:
        return []
    symbol, moment = hours["symbol"].to_numpy(), hours["timestamp"].to_numpy("datetime64[us]")
    is_apart = (symbol[1:] != symbol[:-1]) | (np.diff(moment) != np.timedelta64(1, "h"))
    # What is long is cut, so that the server has little to sort at a time.
    breaks = np.flatnonzero(is_apart | (np.diff(moment.astype("datetime64[D]")) != np.timedelta64(0, "D"))) + 1
    first, last = np.concatenate([[0], breaks]), np.concatenate([breaks, [len(hours)]]) - 1
    begins, ends = hours["timestamp"].iloc[first], hours["timestamp"].iloc[last] + ONE_HOUR
    return list(zip(symbol[first].tolist(), begins.dt.to_pydatetime(), ends.dt.to_pydatetime(), strict=True))


def inside(windows: Sequence[Window] | None) -> sql.Composable:
    """Return the condition on an hour `t` that it may have minutes of the sessions of these windows."""
    if windows is None:
        return sql.SQL("true")
    return sql.SQL(
        "EXISTS (SELECT FROM unnest({}::text[], {}::date[], {}::date[]) AS w (symbol, first_day, last_day) "
        "WHERE t.symbol = w.symbol AND t.timestamp >= w.first_day - {} AND t.timestamp < w.last_day + {})"
    ).format(
        sql.Literal([window.symbol for window in windows]),
        sql.Literal([window.start for window in windows]),
        sql.Literal([window.end for window in windows]),
        sql.Literal(BEFORE_ITS_DAY),
        sql.Literal(AFTER_ITS_DAY),
    )


def _frame(cursor: Cursor, *more: str) -> pd.DataFrame:
    names = ["symbol", "timestamp", *more]
    frame = pd.DataFrame(cursor.fetchall(), columns=names)
    return frame.astype({"symbol": "str", **dict.fromkeys(names[1:], "datetime64[us, UTC]")})
