"""Stored bars to be read, and the statement that answers it.

Every name in a statement comes from the lists below; what a caller gives is bound as a parameter. Elsewhere: what a caller
may ask (readings.py), asking the server (market_data.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.timeframes import Timeframe

TABLES: dict[Timeframe, str] = {
    "1m": "ohlcv_1min", "5m": "ohlcv_5min", "15m": "ohlcv_15min", "1h": "ohlcv_1h", "1d": "ohlcv_daily",
}  # fmt: skip
PRICES = ("open", "high", "low", "close", "vwap")
DEFAULT_COLUMNS = ("open", "high", "low", "close", "volume", "vwap", "source")
# What each column is read as; NUMERIC would arrive as text.
VALUES = {
    **{name: f"b.{name}::float8" for name in (*PRICES, "volume", "quote_volume")},
    "trades_count": "b.trades_count",
    "exchange": "b.exchange",
    "source": "b.source",
    "recorded_at": "b.recorded_at",
}
_OF_THE_SESSION = {
    "timestamp": "coalesce(s.open, b.date::timestamp AT TIME ZONE 'UTC')",
    "session_close": "s.close",
}
_CALENDAR = " LEFT JOIN sessions s ON s.exchange = b.exchange AND s.session = b.date"
# A revision in the shape of its table; `session` is a daily bar's date. Rollups of minutes keep none.
REVISIONS: dict[Timeframe, str] = {
    "1m": "(SELECT r.* FROM bar_revisions r WHERE r.timeframe = '1m')",
    "1d": "(SELECT r.*, r.session AS date FROM bar_revisions r WHERE r.timeframe = '1d')",
}
# A session opens less than a day before or after midnight UTC of its date, anywhere on earth.
_ONE_DAY = timedelta(days=1)

MOST_SYMBOLS = 10_000
LONGEST_SYMBOL = 32


@dataclass(frozen=True)
class BarRequest:
    """Bars to read, checked. `start` is the first moment and `end` the first one past the last; None for no bound."""

    symbols: tuple[str, ...] | None
    timeframe: Timeframe
    start: date | datetime | None
    end: date | datetime | None
    as_of: datetime | None
    columns: tuple[str, ...]

    @property
    def time_column(self) -> str:
        """What places a bar in time: daily bars have a date, the others the moment of their start."""
        return "date" if self.timeframe == "1d" else "timestamp"

    def statement(self) -> tuple[str, list[object]]:
        """Return the SQL and its parameters; rows of one symbol are in the order of time, others in any."""
        parameters = _Parameters()
        conditions = self._conditions(parameters)
        order = f" ORDER BY {self.time_column}" if self.symbols is not None and len(self.symbols) == 1 else ""
        if self.as_of is None:
            return f"{self._select(TABLES[self.timeframe], conditions)}{order}", parameters.bound
        known = f"b.recorded_at <= {parameters.bind(self.as_of, 'timestamptz')}"
        superseded = f"b.superseded_at > {parameters.bind(self.as_of, 'timestamptz')}"
        current = self._select(TABLES[self.timeframe], [*conditions, known])
        revised = self._select(REVISIONS[self.timeframe], [*conditions, known, superseded])
        return f"{current} UNION ALL {revised}{order}", parameters.bound

    def in_order(self, rows: pa.Table) -> pa.Table:
        """Return the rows by symbol and time. They are stored so as a rule, and looking costs a tenth of sorting."""
        symbols, moments = rows["symbol"].combine_chunks(), rows[self.time_column].combine_chunks()
        later = pc.greater(moments[1:], moments[:-1])
        as_stored = pc.or_(pc.greater(symbols[1:], symbols[:-1]), pc.and_(pc.equal(symbols[1:], symbols[:-1]), later))
        if rows.num_rows < 2 or pc.all(as_stored).as_py():
            return rows
        return rows.sort_by([("symbol", "ascending"), (self.time_column, "ascending")])

    def _select(self, table: str, conditions: list[str]) -> str:
        values = {"symbol": "b.symbol::text", self.time_column: f"b.{self.time_column}"}
        available = {**VALUES, **_OF_THE_SESSION} if self.timeframe == "1d" else VALUES
        values |= {name: available[name] for name in self.columns if name not in values}
        listed = ", ".join(f"{value} AS {name}" for name, value in values.items())
        calendar = _CALENDAR if self._needs_calendar else ""
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT {listed} FROM {table} b{calendar}{where}"  # noqa: S608 names from the lists above

    @property
    def _needs_calendar(self) -> bool:
        by_moment = any(isinstance(bound, datetime) for bound in (self.start, self.end))
        return self.timeframe == "1d" and (by_moment or any(name in _OF_THE_SESSION for name in self.columns))

    def _conditions(self, parameters: "_Parameters") -> list[str]:
        conditions = []
        if self.symbols is not None and len(self.symbols) == 1:
            # Equality, besides being the plainest, gives the rows in the order of the key.
            conditions.append(f"b.symbol = {parameters.bind(self.symbols[0], 'text')}")
        elif self.symbols is not None:
            conditions.append(f"b.symbol = ANY ({parameters.bind(list(self.symbols), 'text[]')})")
        for bound, comparison in ((self.start, ">="), (self.end, "<")):
            if bound is not None:
                conditions += self._bounded(bound, comparison, parameters)
        return conditions

    def _bounded(self, bound: date | datetime, comparison: str, parameters: "_Parameters") -> list[str]:
        if self.timeframe != "1d":
            return [f"b.timestamp {comparison} {parameters.bind(as_moment(bound), 'timestamptz')}"]
        if not isinstance(bound, datetime):
            return [f"b.date {comparison} {parameters.bind(bound, 'date')}"]
        # The dates are what the primary key knows of; the session's open is what was asked.
        near = bound.date() - _ONE_DAY if comparison == ">=" else bound.date() + 2 * _ONE_DAY
        return [
            f"b.date {comparison} {parameters.bind(near, 'date')}",
            f"{_OF_THE_SESSION['timestamp']} {comparison} {parameters.bind(bound, 'timestamptz')}",
        ]


def bounds(
    start: date | datetime | None, end: date | datetime | None
) -> tuple[date | datetime | None, date | datetime | None]:
    """Return start and end, moments in UTC.

    Raises:
        ConfigError: one is neither a date nor a moment with a time zone, or the end is not after the start.
    """
    first, past_last = moment_or_day(start, "start"), moment_or_day(end, "end")
    if first is not None and past_last is not None and as_moment(first) >= as_moment(past_last):
        raise ConfigError(f"end: expected a day or moment after start {start}, found {end}; the end is not included")
    return first, past_last


def symbol_list(symbols: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the symbols asked for, each once; None for all.

    Raises:
        ConfigError: none, too many, or one that no symbol can be.
    """
    if symbols is None:
        return None
    listed = [symbols] if isinstance(symbols, str) else list(symbols)
    if not 1 <= len(listed) <= MOST_SYMBOLS:
        raise ConfigError(f"symbols: expected 1 to {MOST_SYMBOLS:,}, found {len(listed):,}; None means all of them")
    for symbol in listed:
        # PostgreSQL has no text with a NUL in it.
        if not isinstance(symbol, str) or not 1 <= len(symbol) <= LONGEST_SYMBOL or "\0" in symbol:
            raise ConfigError(
                f"symbols: expected texts of 1 to {LONGEST_SYMBOL} characters such as 'AAPL', found {symbol!r}"
            )
    return tuple(sorted(set(listed)))


def aware(moment: datetime, name: str) -> datetime:
    """Return a moment in UTC.

    Raises:
        ConfigError: it is no moment, does not say of which time zone, or is in no year from 1 to 9999 in UTC.
    """
    if not isinstance(moment, datetime) or pd.isna(moment):
        raise ConfigError(f"{name}: expected a datetime with a time zone, found {moment!r}")
    if moment.utcoffset() is None:
        raise ConfigError(
            f"{name}: expected a datetime with a time zone, found {moment} without; "
            "add one, as in datetime(..., tzinfo=UTC)"
        )
    try:
        return (moment.to_pydatetime(warn=False) if isinstance(moment, pd.Timestamp) else moment).astimezone(UTC)
    except OverflowError:
        raise ConfigError(f"{name}: expected a moment in the years 1 to 9999 of UTC, found {moment}") from None


def moment_or_day(bound: date | datetime | None, name: str) -> date | datetime | None:
    """Return a date as it is and a moment in UTC.

    Raises:
        ConfigError: it is neither, or a moment without a time zone.
    """
    if bound is None or (isinstance(bound, date) and not isinstance(bound, datetime)):
        return bound
    if not isinstance(bound, datetime):
        raise ConfigError(f"{name}: expected a date or a datetime with a time zone, found {bound!r}")
    return aware(bound, name)


def as_moment(bound: date | datetime) -> datetime:
    """Return a moment as it is and midnight UTC of a date."""
    return bound if isinstance(bound, datetime) else datetime(bound.year, bound.month, bound.day, tzinfo=UTC)


class _Parameters:
    """What is bound to `$1`, `$2`, ... in the order of their first mention."""

    def __init__(self) -> None:
        self.bound: list[Any] = []

    def bind(self, value: object, sql_type: str) -> str:
        self.bound.append(value)
        return f"${len(self.bound)}::{sql_type}"
