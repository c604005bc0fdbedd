"""Whether rollups say what their minutes say: computed a second time, in Arrow's decimals instead of SQL, and compared.

Nothing of how rollups are made is used here but which hours were touched and which sessions they overlap. All is read in one
snapshot, so that what is written meanwhile does not look like a difference.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.sessions import CLOSED_BY_OVERRIDE
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import touched_buckets
from tickstock_assets.storage.copying import read
from tickstock_assets.storage.daily_rollups import sessions_of
from tickstock_assets.storage.database import driver
from tickstock_assets.storage.minutes_dropped import dropped_before
from tickstock_assets.storage.stored_rows import StoredRows
from tickstock_assets.storage.table_columns import Column
from tickstock_assets.storage.touched_buckets import Stamp

type Cursor = psycopg.Cursor[Any]

COLUMNS = ["symbol", "timeframe", "timestamp", "column", "expected", "found"]
MINUTES_OF = {"5m": ("ohlcv_5min", 5), "15m": ("ohlcv_15min", 15), "1h": ("ohlcv_1h", 60)}
# Hours checked at a time: 60,000 minutes.
HOURS_TOGETHER = 1_000
# Digits before and after the point in which sums are held; what a table can hold fits a thousand times.
SIZE, SUM, PRICE, PRODUCT = pa.decimal256(26, 8), pa.decimal256(38, 8), pa.decimal256(20, 8), pa.decimal256(59, 16)
# Twice as far as a rounded quotient of 8 decimals may be from the exact one; the server divides to 16 decimals first.
TWICE_HALF_A_UNIT = pa.scalar(Decimal("0.0000000100000001"), pa.decimal256(20, 16))
RANKED, BY_NAME = sql.SQL("source_rank(name), name"), sql.SQL("name")
_EXACT = ("open", "high", "low", "close", "volume", "quote_volume", "trades_count", "exchange", "source")
_TYPES: dict[str, tuple[str, int | None, pa.DataType]] = {
    "symbol": ("varchar", None, pa.string()),
    "timestamp": ("timestamptz", None, pa.timestamp("us", "UTC")),
    **{name: ("numeric", 8, pa.decimal128(18, 8)) for name in ("open", "high", "low", "close", "vwap")},
    **{name: ("numeric", 8, pa.decimal128(24, 8)) for name in ("volume", "quote_volume")},
    "trades_count": ("int8", None, pa.int64()),
    "exchange": ("text", None, pa.string()),
    "source": ("text", None, pa.string()),
    "recorded_at": ("timestamptz", None, pa.timestamp("us", "UTC")),
}


def verify(engine: Engine, windows: Sequence[Window] | None = None, *, only_touched: bool = True) -> pd.DataFrame:
    """Compute from the minutes what rollups should say, and return every value that is otherwise.

    Hours that are stale, and those whose minutes may have been dropped, are left out. Daily bars are compared where the stored
    one is rolled up: a provider's is its own truth.

    Args:
        engine: of the database; nothing is written.
        windows: only what may have minutes of these sessions; None for everything.
        only_touched: only the hours that the last run of the rollup job made anew; else all there are.

    Returns:
        symbol, timeframe (5m, 15m, 1h, 1d), timestamp (start of the bar, UTC; of a daily bar its session's open), column,
        expected and found (texts, None where there is no value). Where one side has no bar at all, the column is `bar` and
        the sides say present or absent. In order of symbol, timeframe and time; empty when all is well.
    """
    found: list[pd.DataFrame] = []
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        kept_from, cursor = dropped_before(connection), driver(connection).cursor()
        for stamp, check in CHECKS.items():
            hours = (touched_buckets.touched_hours if only_touched else _all_hours)(cursor, stamp, windows)
            for start in range(0, len(hours), HOURS_TOGETHER):
                found += check(connection, hours.iloc[start : start + HOURS_TOGETHER], kept_from)
    empty = pd.DataFrame(columns=COLUMNS).astype({"timestamp": "datetime64[us, UTC]"})
    differences = pd.concat([empty, *found], ignore_index=True) if found else empty
    # A session that lies in two batches was looked at twice.
    return differences.drop_duplicates().sort_values(["symbol", "timeframe", "timestamp"], ignore_index=True)


def _all_hours(cursor: Cursor, stamp: Stamp, windows: Sequence[Window] | None) -> pd.DataFrame:
    """Return the hours that have minutes or rollups and are not stale: symbol and timestamp (UTC), in order."""
    minutes, *rollups = ["ohlcv_1min", *(table for table, _ in MINUTES_OF.values())]
    parts = [
        sql.SQL("SELECT symbol, date_trunc('hour', timestamp, 'UTC') AS timestamp FROM {} t WHERE {}").format(
            sql.Identifier(table), touched_buckets.inside(windows)
        )
        for table in ([minutes, *rollups] if stamp == "intraday_at" else [minutes])
    ]
    if stamp == "daily_at":
        parts.append(
            sql.SQL(
                "SELECT * FROM (SELECT d.symbol, date_trunc('hour', s.open, 'UTC') AS timestamp FROM ohlcv_daily d "
                "JOIN symbols y USING (symbol) JOIN sessions s ON s.exchange = y.exchange AND s.session = d.date "
                "WHERE starts_with(d.source, 'rollup:')) AS t WHERE {}"
            ).format(touched_buckets.inside(windows))
        )
    cursor.execute(
        sql.SQL(
            "SELECT symbol::text, timestamp FROM ({parts}) AS t WHERE NOT EXISTS ("
            "SELECT FROM touched_buckets b WHERE b.symbol = t.symbol AND b.timestamp = t.timestamp AND b.{stamp} IS NULL) "
            "ORDER BY 1, 2"
        ).format(parts=sql.SQL(" UNION ").join(parts), stamp=sql.Identifier(stamp))
    )
    frame = pd.DataFrame(cursor.fetchall(), columns=["symbol", "timestamp"])
    return frame.astype({"symbol": "str", "timestamp": "datetime64[us, UTC]"})


def _check_intraday(connection: Connection, hours: pd.DataFrame, kept_from: datetime | None) -> Iterator[pd.DataFrame]:
    kept = hours if kept_from is None else hours[hours["timestamp"] >= kept_from]
    if kept.empty:
        return
    cursor = driver(connection).cursor()
    symbols, lows, highs = zip(*touched_buckets.stretches(kept), strict=True)
    stretches = _Stretches([*symbols], [*map(str, lows)], [*map(str, highs)])
    minutes = _with_products(_read(cursor, "ohlcv_1min", stretches))
    for timeframe, (table, length) in MINUTES_OF.items():
        starts = pc.floor_temporal(minutes["timestamp"], multiple=length, unit="minute")
        expected = _aggregated(cursor, minutes.set_column(minutes.column_names.index("timestamp"), "timestamp", starts))
        yield _differences(timeframe, expected, _read(cursor, table, stretches), (*_EXACT, "recorded_at"))


def _check_days(connection: Connection, hours: pd.DataFrame, kept_from: datetime | None) -> Iterator[pd.DataFrame]:
    cursor = driver(connection).cursor()
    sessions = sessions_of(cursor, hours).dropna(subset=["session"]).drop_duplicates(["symbol", "session"])
    sessions = sessions[sessions["is_under_way"] == False]  # noqa: E712 an object column
    if kept_from is not None:
        sessions = sessions[sessions["open"] >= kept_from]
    sessions = sessions[~_is_stale(cursor, sessions)]
    if sessions.empty:
        return
    stored = _stored_days(cursor, sessions)
    rolled_up = pc.starts_with(stored["source"], "rollup:")
    of_providers = stored.filter(pc.invert(rolled_up)).select(["symbol", "timestamp"])
    is_open = sessions[sessions["kind"] != CLOSED_BY_OVERRIDE]
    stretches = _Stretches(*(is_open[name].astype(str).tolist() for name in ("symbol", "open", "close")))
    minutes = _with_products(_read(cursor, "ohlcv_1min", stretches, start_of_stretch=True))
    expected = _aggregated(cursor, minutes)
    source = pc.binary_join_element_wise("rollup:", expected["source"], "")
    expected = expected.set_column(expected.column_names.index("source"), "source", source)
    if of_providers.num_rows:
        expected = expected.join(of_providers, ["symbol", "timestamp"], join_type="left anti")
    yield _differences("1d", expected, stored.filter(rolled_up), _EXACT)


def _is_stale(cursor: Cursor, sessions: pd.DataFrame) -> "pd.Series[bool]":
    """Return which sessions have an hour, also beside those looked at, that is still to be rolled up."""
    cursor.execute(
        "SELECT DISTINCT w.symbol, w.open "
        "FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS w (symbol, open, close) "
        "JOIN touched_buckets b ON b.symbol = w.symbol AND b.daily_at IS NULL "
        "AND b.timestamp > w.open - INTERVAL '1 hour' AND b.timestamp < w.close",
        [sessions[name].astype(str).tolist() for name in ("symbol", "open", "close")],
    )
    stale = pd.MultiIndex.from_tuples(cursor.fetchall(), names=["symbol", "open"])
    of_sessions = pd.MultiIndex.from_frame(sessions[["symbol", "open"]])
    return pd.Series(of_sessions.isin(stale), sessions.index)


CHECKS: dict[Stamp, Callable[[Connection, pd.DataFrame, datetime | None], Iterator[pd.DataFrame]]] = {
    "intraday_at": _check_intraday,
    "daily_at": _check_days,
}


@dataclass(frozen=True)
class _Stretches:
    """Of symbols' time: symbol, from, to before, as texts."""

    symbols: list[str]
    lows: list[str]
    highs: list[str]


def _read(cursor: Cursor, table: str, stretches: _Stretches, *, start_of_stretch: bool = False) -> pa.Table:
    """Return the bars of a table in these stretches, in order; on request with the stretch's start as theirs."""
    start = sql.SQL("w.low" if start_of_stretch else "t.timestamp")
    query = sql.SQL(
        "SELECT t.symbol, {start} AS timestamp, {values} FROM {table} t WHERE t.symbol = w.symbol AND t.timestamp >= w.low "
        "AND t.timestamp < w.high ORDER BY t.timestamp"
    ).format(
        start=start,
        values=sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(name)) for name in [*_TYPES][2:]),
        table=sql.Identifier(table),
    )
    of_stretches = sql.SQL("unnest({}::text[], {}::timestamptz[], {}::timestamptz[]) AS w (symbol, low, high)").format(
        sql.Literal(stretches.symbols), sql.Literal(stretches.lows), sql.Literal(stretches.highs)
    )
    return _rows(cursor, StoredRows(query, of_stretches))


def _stored_days(cursor: Cursor, sessions: pd.DataFrame) -> pa.Table:
    """Return the daily bars of these sessions, each at the open of its session."""
    query = sql.SQL(
        "SELECT w.start AS timestamp, t.* FROM ohlcv_daily t WHERE t.symbol = w.symbol AND t.date = w.session"
    )
    of_sessions = sql.SQL("unnest({}::text[], {}::date[], {}::timestamptz[]) AS w (symbol, session, start)").format(
        *(sql.Literal(sessions[name].astype(str).tolist()) for name in ("symbol", "session", "open"))
    )
    return _rows(cursor, StoredRows(query, of_sessions))


def _rows(cursor: Cursor, stored: StoredRows) -> pa.Table:
    columns = [Column(name, kind, scale, is_key=False) for name, (kind, scale, _) in _TYPES.items()]
    schema = pa.schema([(name, kind) for name, (*_, kind) in _TYPES.items()])
    return read(cursor, columns, stored, schema)


def _with_products(minutes: pa.Table) -> pa.Table:
    """Add what the volume-weighted price is made of: price times volume, and the volume of those that have one."""
    has_vwap = minutes["vwap"].is_valid()
    volume = minutes["volume"].cast(SUM)
    product = pc.multiply(minutes["vwap"].cast(PRICE), minutes["volume"].cast(SIZE))
    return (
        minutes.set_column(minutes.column_names.index("volume"), "volume", volume)
        .append_column("product", product.cast(PRODUCT))
        .append_column("weight", pc.if_else(has_vwap, volume, pa.scalar(None, SUM)))
    )


def _aggregated(cursor: Cursor, minutes: pa.Table) -> pa.Table:
    """Return the bars that minutes make whose timestamps are the bar's; minutes are in order."""
    source, exchange = _ranking(cursor, minutes["source"], RANKED), _ranking(cursor, minutes["exchange"], BY_NAME)
    numbered = minutes.append_column("place", pa.array(np.arange(minutes.num_rows)))
    for name, ranking in (("source", source), ("exchange", exchange)):
        numbered = numbered.set_column(numbered.column_names.index(name), name, ranking.numbers)
    how = [("place", "min"), ("place", "max"), ("low", "min")]
    how += [(name, "max") for name in ("high", "source", "exchange", "recorded_at")]
    how += [(name, "sum") for name in ("volume", "quote_volume", "trades_count", "product", "weight")]
    bars = numbered.group_by(["symbol", "timestamp"]).aggregate(how)
    first, last = bars["place_min"], bars["place_max"]
    bars = bars.drop_columns(["place_min", "place_max"])
    bars = bars.rename_columns(
        [name.removesuffix("_min").removesuffix("_max").removesuffix("_sum") for name in bars.column_names]
    )
    bars = bars.append_column("open", minutes["open"].take(first)).append_column("close", minutes["close"].take(last))
    for name, ranking in (("source", source), ("exchange", exchange)):
        bars = bars.set_column(bars.column_names.index(name), name, ranking.names.take(bars[name]))
    return bars


@dataclass(frozen=True)
class _Ranking:
    """Texts as numbers that sort as the texts are ranked."""

    names: pa.Array
    numbers: pa.Array


def _ranking(cursor: Cursor, texts: pa.ChunkedArray, order: sql.SQL) -> _Ranking:
    """Rank texts as the server does, which knows the ranks of sources and its own alphabet."""
    query = sql.SQL("SELECT name FROM unnest(%s::text[]) AS name ORDER BY {}").format(order)
    cursor.execute(query, [texts.unique().to_pylist()])
    names = pa.array([name for (name,) in cursor.fetchall()], pa.string())
    return _Ranking(names, pc.index_in(texts, names))


def _differences(timeframe: str, expected: pa.Table, stored: pa.Table, exact: Sequence[str]) -> pd.DataFrame:
    """Return where two tables of bars differ, one row a value."""
    keys = ["symbol", "timestamp"]
    ours = expected.append_column("ours", pa.array(np.ones(expected.num_rows, np.bool_)))
    theirs = stored.append_column("theirs", pa.array(np.ones(stored.num_rows, np.bool_)))
    pairs = ours.join(theirs, keys, join_type="full outer", left_suffix="_expected", right_suffix="_found")
    only = pairs.filter(pc.or_(pairs["ours"].is_null(), pairs["theirs"].is_null()))
    sides = [pc.if_else(only[side].is_valid(), "present", "absent").to_pylist() for side in ("ours", "theirs")]
    parts = [_told(only, timeframe, "bar", sides[0], sides[1])]
    both = pairs.filter(pc.and_(pairs["ours"].is_valid(), pairs["theirs"].is_valid()))
    for name in exact:
        a, b = both[f"{name}_expected"], both[f"{name}_found"]
        b = b.cast(a.type) if pa.types.is_decimal(a.type) else b
        wrong = both.filter(_differ(a, b))
        parts.append(_told(wrong, timeframe, name, _texts(wrong[f"{name}_expected"]), _texts(wrong[f"{name}_found"])))
    wrong = both.filter(_is_vwap_wrong(both))
    quotients = [
        _quotient(*pair) for pair in zip(wrong["product"].to_pylist(), wrong["weight"].to_pylist(), strict=True)
    ]
    parts.append(_told(wrong, timeframe, "vwap", quotients, _texts(wrong["vwap"])))
    return pd.concat(parts, ignore_index=True)


def _differ(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> pa.ChunkedArray:
    one_missing = pc.not_equal(ours.is_null(), theirs.is_null())
    return pc.or_(pc.fill_null(pc.not_equal(ours, theirs), fill_value=False), one_missing)


def _is_vwap_wrong(both: pa.Table) -> pa.ChunkedArray:
    """Whether the stored price is not the nearest to product / weight; told without dividing, hence exactly."""
    found, weight, product = both["vwap"].cast(PRICE), both["weight"].cast(SUM), both["product"].cast(PRODUCT)
    has_one = pc.fill_null(pc.greater(weight, pa.scalar(Decimal(0), SUM)), fill_value=False)
    off = pc.abs(pc.subtract(pc.multiply(found, weight).cast(PRODUCT), product))
    is_off = pc.greater(pc.add(off, off), pc.multiply(weight, TWICE_HALF_A_UNIT))
    one_missing = pc.not_equal(found.is_valid(), has_one)
    return pc.or_(pc.fill_null(is_off, fill_value=False), one_missing)


def _quotient(product: Decimal | None, weight: Decimal | None) -> str | None:
    if product is None or not weight:
        return None
    with localcontext(prec=60):
        return str((product / weight).quantize(Decimal("1e-8"), ROUND_HALF_UP))


def _texts(values: pa.ChunkedArray) -> list[str | None]:
    return [None if value is None else str(value) for value in values.to_pylist()]


def _told(bars: pa.Table, timeframe: str, column: str, expected: Sequence[Any], found: Sequence[Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "symbol": pd.Series(bars["symbol"].to_pylist(), dtype="str"),
            "timeframe": timeframe,
            "timestamp": pd.Series(bars["timestamp"].to_pandas(), dtype="datetime64[us, UTC]"),
            "column": column,
            "expected": pd.Series([*expected], dtype=object),
            "found": pd.Series([*found], dtype=object),
        }
    )
