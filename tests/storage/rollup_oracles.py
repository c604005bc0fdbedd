"""What minutes roll up to, told by pandas and by DuckDB: whole numbers of 1e-8, so that nothing is rounded on the way.

A bar is a tuple: open, high, low, close, volume, quote_volume, vwap, trades_count (numbers or None), exchange, source. Nothing
of the package is used here.
"""

from collections.abc import Callable
from typing import Any

import duckdb
import exchange_calendars
import pandas as pd
from sqlalchemy import Engine, text

type Bar = tuple[Any, ...]
type Bars = dict[tuple[str, pd.Timestamp], Bar]

NUMBERS = ("open", "high", "low", "close", "volume", "quote_volume", "vwap")
ROLLUPS = {"ohlcv_5min": 5, "ohlcv_15min": 15, "ohlcv_1h": 60}
# As the project's documents rank sources: what is made of finer bars behind what providers send.
RANKS = {"polygon": 10, "alpha_vantage": 20, "sample": 30, "synthetic": 90, "ticks:polygon": 110}
WHOLE = ", ".join(f"({name} * 100000000)::text AS {name}" for name in NUMBERS)


def stored(engine: Engine, table: str, symbol: str | None = None) -> pd.DataFrame:
    """Return bars as they are stored, numbers as Python's integers of 1e-8, in order of symbol and time."""
    moment = "date" if table == "ohlcv_daily" else "timestamp"
    with engine.connect() as connection:
        result = connection.execute(
            text(
                f"SELECT symbol, {moment} AS moment, {WHOLE}, trades_count, exchange, source FROM {table} "
                "WHERE CAST(:symbol AS text) IS NULL OR symbol = :symbol ORDER BY symbol, moment"
            ),
            {"symbol": symbol},
        )
        frame = pd.DataFrame(result.all(), columns=list(result.keys()), dtype=object)
    for name in NUMBERS:
        # As objects: a missing value must not make floats of the others.
        frame[name] = pd.Series(
            [None if said is None else int(said.split(".")[0]) for said in frame[name]], dtype=object
        )
    return frame


def as_bars(frame: pd.DataFrame) -> Bars:
    """Return a frame of `stored` as bars."""
    keys = zip(frame["symbol"], map(pd.Timestamp, frame["moment"]), strict=True)
    columns = (frame[name] for name in (*NUMBERS, "trades_count", "exchange", "source"))
    return dict(zip(keys, zip(*columns, strict=True), strict=True))


def by_pandas(minutes: pd.DataFrame, starts: Callable[[pd.Series], pd.Series]) -> Bars:
    """Return the bars of minutes by pandas; `starts` gives the bar's start of each minute, or NaT."""
    if minutes.empty:
        return {}
    moments = pd.to_datetime(minutes["moment"], utc=True)
    frame = minutes.assign(start=starts(moments), moment=moments).dropna(subset=["start"])
    return {
        (str(symbol), start): _one_bar(group.sort_values("moment"))  # type: ignore[misc]
        for (symbol, start), group in frame.groupby(["symbol", "start"])
    }


def _one_bar(minutes: pd.DataFrame) -> Bar:
    def total(name: str) -> int | None:
        told = [value for value in minutes[name] if value is not None]
        return sum(told) if told else None

    priced = [(v, w) for v, w in zip(minutes["volume"], minutes["vwap"], strict=True) if w is not None]
    weight = sum(volume for volume, _ in priced)
    product = sum(volume * vwap for volume, vwap in priced)
    # Halves are rounded up.
    vwap = (2 * product + weight) // (2 * weight) if weight else None
    source = max(minutes["source"], key=lambda name: (RANKS[name], name))
    return (
        minutes["open"].iloc[0], max(minutes["high"]), min(minutes["low"]), minutes["close"].iloc[-1],
        total("volume"), total("quote_volume"), vwap, total("trades_count"), max(minutes["exchange"]), source,
    )  # fmt: skip


def by_the_clock(minutes: int) -> Callable[[pd.Series], pd.Series]:
    """Return the start of the bar of so many minutes that a moment lies in."""
    return lambda moments: moments.dt.floor(f"{minutes}min")


def by_session(exchange: str, first: str, last: str) -> Callable[[pd.Series], pd.Series]:
    """Return the session, as its day, in whose regular hours a moment lies."""
    schedule = exchange_calendars.get_calendar(exchange, start=first, end=last).schedule
    hours = pd.IntervalIndex.from_arrays(schedule["open"], schedule["close"], closed="left")

    def sessions(moments: pd.Series) -> pd.Series:
        places = hours.get_indexer(pd.DatetimeIndex(moments))
        days = pd.Series(schedule.index[places], index=moments.index)
        return days.where(places >= 0)

    return sessions


def by_duckdb(minutes: pd.DataFrame, length: int) -> Bars:
    """Return the bars of so many minutes by DuckDB, in whole numbers of up to 128 bits."""
    frame = minutes.assign(moment=pd.to_datetime(minutes["moment"], utc=True).dt.tz_localize(None))
    frame = frame.assign(rank=[RANKS[name] for name in frame["source"]]).astype({"trades_count": "Int64"})
    for name in NUMBERS:
        frame[name] = [None if value is None else str(value) for value in frame[name]]
    numbers = ", ".join(f"{name}::HUGEINT AS {name}" for name in NUMBERS)
    with duckdb.connect() as connection:
        connection.register("texts", frame)
        rows = connection.execute(f"""
            WITH minutes AS (SELECT symbol, moment, {numbers}, trades_count, exchange, source, rank FROM texts),
            bars AS (
                SELECT symbol, time_bucket(INTERVAL '{length} minutes', moment) AS start,
                       arg_min(open, moment) AS open, max(high) AS high, min(low) AS low, arg_max(close, moment) AS close,
                       sum(volume)::HUGEINT AS volume, sum(quote_volume)::HUGEINT AS quote_volume,
                       sum(volume * vwap)::HUGEINT AS product, (sum(volume) FILTER (WHERE vwap IS NOT NULL))::HUGEINT AS weight,
                       sum(trades_count)::BIGINT AS trades_count, max(exchange) AS exchange,
                       arg_max(source, (rank, source)) AS source
                FROM minutes GROUP BY ALL)
            SELECT symbol, start, open, high, low, close, volume, quote_volume,
                   CASE WHEN weight > 0 THEN (2 * product + weight) // (2 * weight) END, trades_count, exchange, source
            FROM bars
        """).fetchall()
    return {(symbol, pd.Timestamp(start, tz="UTC")): tuple(values) for symbol, start, *values in rows}
