"""Signals, trades of backtests and ticks as Arrow, by filter; prices and sizes as float64, times in UTC.

Every name in a statement is ours; what a caller gives is bound. Elsewhere: bars (market_data.py), sums of strategies
(queries.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

import pyarrow as pa

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.timeframes import timeframe
from tickstock_assets.storage.arrow import ArrowPool
from tickstock_assets.storage.bar_requests import aware, symbol_list

type SignalStatus = Literal["PENDING", "APPROVED", "REJECTED", "EXECUTED", "CLOSED", "EXPIRED", "CANCELLED"]

STATUSES: tuple[str, ...] = get_args(SignalStatus.__value__)
DIRECTIONS = ("LONG", "SHORT")
MOST_ROWS = 1_000_000

SIGNALS = """
    SELECT t.id::text, t.symbol::text, t.timeframe::text, t.generated_at, t.strategy_name, t.signal_type,
           t.pattern, t.variant, t.pattern_timestamp, t.entry_price::float8, t.stop_loss::float8, t.target_1::float8,
           t.target_2::float8, t.position_size::float8, t.risk_amount::float8, t.r_multiple::float8,
           t.confidence_score::float8, t.status, t.rejection_reason, t.executed, t.execution_price::float8,
           t.exit_price::float8, t.realized_pnl::float8, t.campaign_id::text
    FROM signals t
"""
TRADES = """
    SELECT t.run::text, t.trade_number, t.symbol::text, t.pattern, t.variant, t.direction, t.detected_at, t.entry_time,
           t.entry_price::float8, t.exit_time, t.exit_price::float8, t.quantity::float8, t.costs::float8,
           t.dividends::float8, t.pnl::float8, t.r_multiple::float8, t.exit_reason
    FROM backtest_trades t
"""
TICK_COLUMNS = {
    "exchange": "t.exchange",
    "trade_id": "t.trade_id",
    "price": "t.price::float8",
    "quantity": "t.quantity::float8",
    "quote_quantity": "t.quote_quantity::float8",
    "side": "t.side",
    "is_buyer_maker": "t.is_buyer_maker",
    "conditions": "t.conditions",
    "source": "t.source",
    "recorded_at": "t.recorded_at",
}
DEFAULT_TICK_COLUMNS = ("exchange", "trade_id", "price", "quantity", "side")


@dataclass(frozen=True)
class SignalFilter:
    """Which signals; what is None does not matter. `executed=False` are those that nobody acted on."""

    symbols: str | Sequence[str] | None = None
    timeframe: str | None = None
    strategy_name: str | None = None
    signal_type: Literal["LONG", "SHORT"] | None = None
    status: SignalStatus | None = None
    executed: bool | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True)
class TradeFilter:
    """Which trades of backtests; what is None does not matter. `profitable=False` are those without a profit."""

    run: UUID | None = None
    symbols: str | Sequence[str] | None = None
    pattern: str | None = None
    direction: Literal["LONG", "SHORT"] | None = None
    exit_reason: Literal["time", "stop", "end_of_data"] | None = None
    profitable: bool | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True)
class TickFilter:
    """Which trades of the market; what is None does not matter."""

    symbols: str | Sequence[str] | None = None
    exchange: str | None = None
    start: datetime | None = None
    end: datetime | None = None


# What each field of a filter asks of a row: the condition and the type of its parameter.
_CONDITIONS: dict[type, dict[str, tuple[str, str]]] = {
    SignalFilter: {
        "symbols": ("t.symbol = ANY ({})", "text[]"),
        "timeframe": ("t.timeframe = {}", "text"),
        "strategy_name": ("t.strategy_name = {}", "text"),
        "signal_type": ("t.signal_type = {}", "text"),
        "status": ("t.status = {}", "text"),
        "executed": ("t.executed = {}", "boolean"),
        "start": ("t.generated_at >= {}", "timestamptz"),
        "end": ("t.generated_at < {}", "timestamptz"),
    },
    TradeFilter: {
        "run": ("t.run = {}", "uuid"),
        "symbols": ("t.symbol = ANY ({})", "text[]"),
        "pattern": ("t.pattern = {}", "text"),
        "direction": ("t.direction = {}", "text"),
        "exit_reason": ("t.exit_reason = {}", "text"),
        "profitable": ("(t.pnl > 0) = {}", "boolean"),
        "start": ("t.entry_time >= {}", "timestamptz"),
        "end": ("t.entry_time < {}", "timestamptz"),
    },
    TickFilter: {
        "symbols": ("t.symbol = ANY ({})", "text[]"),
        "exchange": ("t.exchange = {}", "text"),
        "start": ("t.timestamp >= {}", "timestamptz"),
        "end": ("t.timestamp < {}", "timestamptz"),
    },
}
_ALLOWED: dict[str, tuple[str, ...]] = {
    "status": STATUSES,
    "signal_type": DIRECTIONS,
    "direction": DIRECTIONS,
    "exit_reason": ("time", "stop", "end_of_data"),
}


def signals(pool: ArrowPool, which: SignalFilter | None = None, *, limit: int | None = None) -> pa.Table:
    """Return signals, newest first.

    Raises:
        ConfigError: a filter's value, or the limit, is not what is expected.
        DatabaseError: see `ArrowPool.read`.
    """
    return _read(pool, SIGNALS, which or SignalFilter(), "t.generated_at DESC, t.symbol, t.id", limit)


def trades(pool: ArrowPool, which: TradeFilter | None = None, *, limit: int | None = None) -> pa.Table:
    """Return trades of backtests, in the order of run and number.

    Raises:
        ConfigError, DatabaseError: as `signals`.
    """
    return _read(pool, TRADES, which or TradeFilter(), "t.run, t.trade_number", limit)


def ticks(
    pool: ArrowPool,
    which: TickFilter | None = None,
    *,
    limit: int | None = None,
    columns: Sequence[str] = DEFAULT_TICK_COLUMNS,
) -> pa.Table:
    """Return trades of the market, in the order of symbol and time: symbol, timestamp and the columns asked for.

    Args:
        pool: of a `MarketReader`, or one's own.
        which: filter.
        limit: rows at most.
        columns: any of exchange, trade_id, price, quantity, quote_quantity (price x quantity), side, is_buyer_maker,
            conditions, source, recorded_at.

    Raises:
        ConfigError, DatabaseError: as `signals`.
    """
    if unknown := [name for name in columns if name not in TICK_COLUMNS]:
        raise ConfigError(f"columns: expected some of {', '.join(TICK_COLUMNS)}, found {unknown[0]!r}")
    listed = ", ".join(["t.symbol::text", "t.timestamp", *(TICK_COLUMNS[name] for name in dict.fromkeys(columns))])
    statement = f"SELECT {listed} FROM ticks t"  # noqa: S608 of the list above
    return _read(pool, statement, which or TickFilter(), "t.symbol, t.timestamp, t.exchange, t.trade_id", limit)


def _read(
    pool: ArrowPool, statement: str, which: SignalFilter | TradeFilter | TickFilter, order: str, limit: int | None
) -> pa.Table:
    parameters: list[object] = []
    conditions = []
    for field in fields(which):
        value = getattr(which, field.name)
        if value is None:
            continue
        condition, sql_type = _CONDITIONS[type(which)][field.name]
        parameters.append(_checked(field.name, value, sql_type))
        conditions.append(condition.format(f"${len(parameters)}::{sql_type}"))
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    last = ""
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_ROWS:
            raise ConfigError(f"limit: expected a whole number from 1 to {MOST_ROWS:,}, found {limit!r}")
        parameters.append(limit)
        last = f" LIMIT ${len(parameters)}::bigint"
    return pool.read(f"{statement}{where} ORDER BY {order}{last}", parameters)


def _checked(name: str, value: Any, sql_type: str) -> object:
    """Return a filter's value as it is bound."""
    if name == "symbols":
        return list(symbol_list(value) or ())
    if name == "timeframe":
        return timeframe(value)
    if sql_type == "timestamptz":
        return aware(value, name)
    if name in _ALLOWED and value not in _ALLOWED[name]:
        raise ConfigError(f"{name}: expected one of {', '.join(_ALLOWED[name])}, found {value!r}")
    if sql_type == "uuid":
        return str(_uuid(name, value))
    expected = bool if sql_type == "boolean" else str
    if not isinstance(value, expected) or (isinstance(value, str) and "\0" in value):
        raise ConfigError(f"{name}: expected a {'true or false' if expected is bool else 'text'}, found {value!r}")
    return value


def _uuid(name: str, value: Any) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        raise ConfigError(f"{name}: expected a UUID, found {value!r}") from None
