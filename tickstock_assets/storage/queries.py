"""Named questions about bars and strategies, computed by the database; money is Decimal, as stored.

They take an open connection, so they see what its transaction wrote. Elsewhere: bars, signals and trades as Arrow
(market_data.py, trade_queries.py), sizes of tables (table_sizes.py).
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection, Row, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.timeframes import Timeframe, timeframe
from tickstock_assets.storage.bar_requests import TABLES, aware, symbol_list

MOST_DAYS = 100_000
MOST_LEVELS = 1_000


@dataclass(frozen=True)
class LatestBar:
    """The newest bar. `date` is a daily bar's session; `timestamp` its start, UTC, as in `ohlcv_bars`."""

    symbol: str
    timeframe: Timeframe
    timestamp: datetime
    date: date | None
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    source: str
    recorded_at: datetime


@dataclass(frozen=True)
class PriceStatistics:
    """Closes of the last days, as traded, in the quote currency per share, to eight decimals.

    `std` is the sample's and NULL of a single bar; `current` is the last close; `z_score` is (current - mean) / std,
    None where that is undefined.
    """

    symbol: str
    timeframe: Timeframe
    days: int
    first: datetime | date
    last: datetime | date
    count: int
    mean: Decimal
    std: Decimal | None
    min: Decimal
    max: Decimal
    current: Decimal
    z_score: float | None


@dataclass(frozen=True)
class PriceLevel:
    """What was traded from `low` to below `high` (of the highest level, up to it), in shares, and in how many bars."""

    low: Decimal
    high: Decimal
    volume: Decimal
    bars: int


@dataclass(frozen=True)
class StrategyPerformance:
    """What became of a strategy's signals, in the account's currency; None where none is closed.

    `win_rate` is the share, 0 to 1, of the closed ones with a profit.
    """

    strategy_name: str
    total_signals: int
    closed: int
    win_rate: Decimal | None
    avg_pnl: Decimal | None
    total_pnl: Decimal
    best_trade: Decimal | None
    worst_trade: Decimal | None


def latest_bar(connection: Connection, symbol: str, timeframe_text: str = "1d") -> LatestBar | None:
    """Return the newest bar of a symbol, None where it has none.

    Raises:
        ConfigError: no such timeframe, or a text that no symbol can be.
    """
    name, chosen = _one_symbol(symbol), timeframe(timeframe_text)
    day, calendar, start = "NULL::date", "", "b.timestamp"
    if chosen == "1d":
        day, start = "b.date", "coalesce(s.open, b.date::timestamp AT TIME ZONE 'UTC')"
        calendar = "LEFT JOIN sessions s ON s.exchange = b.exchange AND s.session = b.date"
    row = connection.execute(
        text(f"""
            SELECT b.symbol, '{chosen}' AS timeframe, {start} AS timestamp, {day} AS date,
                   b.open, b.high, b.low, b.close, b.volume, b.source, b.recorded_at
            FROM {TABLES[chosen]} b {calendar} WHERE b.symbol = :symbol ORDER BY b.{_time(chosen)} DESC LIMIT 1
        """),  # noqa: S608 of closed lists
        {"symbol": name},
    ).one_or_none()
    return None if row is None else LatestBar(**row._asdict())


def price_statistics(
    connection: Connection, symbol: str, days: int = 30, timeframe_text: str = "1d"
) -> PriceStatistics | None:
    """Return statistics of the closes of the last calendar days before, and with, the symbol's last bar.

    Args:
        connection: open.
        symbol: one.
        days: 1 to 100,000, counted back from where the symbol's data end and not from today.
        timeframe_text: of the bars.

    Returns:
        None where it has no bars.

    Raises:
        ConfigError: a parameter is not what is expected.
    """
    name, chosen = _one_symbol(symbol), timeframe(timeframe_text)
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MOST_DAYS:
        raise ConfigError(f"days: expected a whole number from 1 to {MOST_DAYS:,}, found {days!r}")
    time, table = _time(chosen), TABLES[chosen]
    span = ":days" if chosen == "1d" else "make_interval(days => :days)"
    row = connection.execute(
        text(f"""
            WITH recent AS MATERIALIZED (
                SELECT {time} AS time, close FROM {table}
                WHERE symbol = :symbol
                  AND {time} > (SELECT {time} FROM {table} WHERE symbol = :symbol ORDER BY {time} DESC LIMIT 1) - {span}),
            measured AS (
                SELECT min(time) AS first, max(time) AS last, count(*) AS count, avg(close) AS mean,
                       stddev_samp(close) AS std, min(close) AS min, max(close) AS max,
                       (SELECT close FROM recent ORDER BY time DESC LIMIT 1) AS current
                FROM recent)
            SELECT first, last, count, round(mean, 8) AS mean, round(std, 8) AS std, min, max, current,
                   ((current - mean) / nullif(std, 0))::float8 AS z_score
            FROM measured WHERE count > 0
        """),  # noqa: S608 of closed lists
        {"symbol": name, "days": days},
    ).one_or_none()
    return None if row is None else PriceStatistics(symbol=name, timeframe=chosen, days=days, **row._asdict())


def volume_profile(
    connection: Connection,
    symbol: str,
    timeframe_text: str = "1d",
    *,
    start: date | datetime | None = None,
    end: date | datetime | None = None,
    levels: int = 24,
) -> list[PriceLevel]:
    """Return the volume by price level, lowest first, levels without volume included.

    The range from the lowest low to the highest high is cut into levels of the same width. A bar does not say where
    within it its shares were traded: all of them are counted at its typical price, (high + low + close) / 3.

    Args:
        connection: open.
        symbol: one.
        timeframe_text: of the bars; the finer, the truer.
        start: bars from this day (its midnight UTC, of daily bars that session) or moment on.
        end: bars before this.
        levels: 1 to 1,000. One level where all prices are the same.

    Returns:
        Nothing where there are no bars.

    Raises:
        ConfigError: a parameter is not what is expected.
    """
    name, chosen = _one_symbol(symbol), timeframe(timeframe_text)
    if isinstance(levels, bool) or not isinstance(levels, int) or not 1 <= levels <= MOST_LEVELS:
        raise ConfigError(f"levels: expected a whole number from 1 to {MOST_LEVELS:,}, found {levels!r}")
    conditions, parameters = _between(chosen, start, end)
    rows = connection.execute(
        text(f"""
            WITH bars AS MATERIALIZED (
                SELECT high, low, (high + low + close) / 3 AS typical, volume FROM {TABLES[chosen]}
                WHERE symbol = :symbol {conditions}),
            span AS (
                SELECT lowest, highest, CASE WHEN highest > lowest THEN CAST(:levels AS integer) ELSE 1 END AS levels
                FROM (SELECT min(low) AS lowest, max(high) AS highest FROM bars) AS extremes WHERE lowest IS NOT NULL),
            placed AS (
                SELECT CASE WHEN highest > lowest THEN least(width_bucket(typical, lowest, highest, levels), levels)
                       ELSE 1 END AS level, volume
                FROM bars, span)
            SELECT round(lowest + (highest - lowest) * (level - 1) / levels, 8) AS low,
                   round(lowest + (highest - lowest) * level / levels, 8) AS high,
                   coalesce(sum(volume), 0) AS volume, count(volume) AS bars
            FROM span CROSS JOIN generate_series(1, levels) AS level LEFT JOIN placed USING (level)
            GROUP BY level, lowest, highest, levels ORDER BY level
        """),  # noqa: S608 of closed lists
        {"symbol": name, "levels": levels, **parameters},
    )
    return [PriceLevel(**row._asdict()) for row in rows]


def strategy_performance(
    connection: Connection,
    strategy_name: str | None = None,
    *,
    symbol: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    run: UUID | None = None,
) -> list[StrategyPerformance]:
    """Return what became of each strategy's signals, in the order of their names.

    Args:
        connection: open.
        strategy_name: only this one.
        symbol: only signals for this one.
        start: only signals generated (trades entered) from this moment on.
        end: only those before this.
        run: a backtest, whose trades are looked at instead of the signals; its strategies are pattern and variant.

    Raises:
        ConfigError: a moment without a time zone, or a text that no symbol can be.
    """
    signals = "SELECT strategy_name, symbol, generated_at AS time, realized_pnl AS pnl FROM signals"
    trades = """
        SELECT concat_ws(' ', pattern, nullif(variant, '')) AS strategy_name, symbol, entry_time AS time, pnl
        FROM backtest_trades WHERE run = CAST(:run AS uuid)
    """
    rows = connection.execute(
        text(f"""
            SELECT strategy_name, count(*) AS total_signals, count(pnl) AS closed,
                   round(avg(CASE WHEN pnl > 0 THEN 1 WHEN pnl IS NOT NULL THEN 0 END), 6) AS win_rate,
                   round(avg(pnl), 8) AS avg_pnl, coalesce(sum(pnl), 0) AS total_pnl,
                   max(pnl) AS best_trade, min(pnl) AS worst_trade
            FROM ({signals if run is None else trades}) AS trades
            WHERE (CAST(:strategy_name AS text) IS NULL OR strategy_name = :strategy_name)
              AND (CAST(:symbol AS text) IS NULL OR symbol = :symbol)
              AND (CAST(:start AS timestamptz) IS NULL OR time >= :start)
              AND (CAST(:end AS timestamptz) IS NULL OR time < :end)
            GROUP BY strategy_name ORDER BY strategy_name
        """),  # noqa: S608 one of two of ours
        {
            "strategy_name": _text(strategy_name, "strategy_name"),
            "symbol": None if symbol is None else _one_symbol(symbol),
            "start": None if start is None else aware(start, "start"),
            "end": None if end is None else aware(end, "end"),
            **({} if run is None else {"run": str(run)}),
        },
    )
    return [_performance(row) for row in rows]


def _performance(row: Row[tuple[object, ...]]) -> StrategyPerformance:
    return StrategyPerformance(**row._asdict())


def _one_symbol(symbol: str) -> str:
    if not isinstance(symbol, str):
        raise ConfigError(f"symbol: expected one text such as 'AAPL', found {symbol!r}")
    [name] = symbol_list(symbol) or ("",)
    return name


def _text(value: str | None, name: str) -> str | None:
    # PostgreSQL has no text with a NUL in it.
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise ConfigError(f"{name}: expected a text, found {value!r}")
    return value


def _time(chosen: Timeframe) -> str:
    return "date" if chosen == "1d" else "timestamp"


def _between(
    chosen: Timeframe, start: date | datetime | None, end: date | datetime | None
) -> tuple[str, dict[str, object]]:
    """Return conditions on a bar's time and their parameters."""
    conditions = ""
    parameters: dict[str, object] = {}
    for name, bound, comparison in (("start", start, ">="), ("end", end, "<")):
        if bound is None:
            continue
        if not isinstance(bound, date):
            raise ConfigError(f"{name}: expected a date or a datetime with a time zone, found {bound!r}")
        moment = aware(bound, name) if isinstance(bound, datetime) else bound
        if chosen == "1d" and isinstance(moment, datetime):
            raise ConfigError(f"{name}: expected a date, as the bars are daily, found {bound!r}")
        if chosen != "1d" and not isinstance(moment, datetime):
            moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
        conditions += f" AND {_time(chosen)} {comparison} :{name}"
        parameters[name] = moment
    return conditions, parameters
