"""Ticks as whoever has them may bring them: one, or a table of them."""

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.trades import TICKS


@dataclass(frozen=True)
class Tick:
    """One trade: price in quote currency per share, quantity in shares, the moment with a time zone.

    Without a `trade_id` it gets its number among those of its symbol, moment and exchange.
    """

    symbol: str
    timestamp: datetime
    price: float
    quantity: float
    source: str
    exchange: str = ""
    trade_id: str | None = None
    conditions: tuple[str, ...] | None = None


def as_batch(tick: Tick) -> pa.RecordBatch:
    """Return one tick as a batch of `TICKS`.

    Raises:
        ContractError: its moment has no time zone.
    """
    if tick.timestamp.tzinfo is None:
        raise ContractError(f"{tick.symbol}: expected a moment with a time zone, found {tick.timestamp.isoformat()}")
    arrays = [pa.array([getattr(tick, field.name)], field.type) for field in TICKS]
    return pa.RecordBatch.from_arrays(arrays, schema=TICKS)


def conformed(ticks: pa.Table | pa.RecordBatch) -> pa.Table:
    """Return ticks with the columns of `TICKS`, in their order and types; a missing exchange is an empty one.

    Raises:
        ContractError: a column is missing, or cannot be what it is to be.
    """
    table = pa.Table.from_batches([ticks]) if isinstance(ticks, pa.RecordBatch) else ticks
    if table.schema == TICKS:
        return _with_venue(table)
    if missing := [name for name in TICKS.names if name not in table.column_names]:
        raise ContractError(f"ticks: expected the columns {', '.join(TICKS.names)}, found none of {', '.join(missing)}")
    moments = table.schema.field("timestamp").type
    if not pa.types.is_timestamp(moments) or moments.tz is None:
        raise ContractError(f"ticks.timestamp: expected moments with a time zone, found {moments}")
    try:
        return _with_venue(table.select(TICKS.names).cast(TICKS))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractError(f"ticks: expected columns of {TICKS.types}, found others ({error})") from None


def _with_venue(ticks: pa.Table) -> pa.Table:
    """Return ticks whose exchange is a text, as it is part of the key."""
    place = ticks.column_names.index("exchange")
    return ticks.set_column(place, TICKS.field("exchange"), pc.fill_null(ticks["exchange"], ""))
