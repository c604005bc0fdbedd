"""Polygon's landed tables read: REST bars, flat-file bars and trades become frames under the project's names.

Pure. A row is never dropped: what cannot be read becomes missing and is left for the quality stage.
"""

from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.trade_conditions import CORRECTION
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.moments import stamps_between

EXCHANGE_ZONE = "America/New_York"
# Crypto-currencies, whose days are those of UTC.
CRYPTO = "X:"
NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
# Of 64 bits; a few of nineteen digits that would just fit are not worth a longer pattern.
WHOLE_NUMBER = r"^-?([0-9]{1,18}|[1-8][0-9]{18}|9[01][0-9]{17})$"
VALUES = {
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "vwap": "vwap",
    "trades_count": "transactions",
}


def parse(dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
    """Return a payload's rows, row for row: bars as `Provider.parse` says, trades as `trades` does.

    Raises:
        ContractError: the payload is neither Polygon's REST bars, nor its flat file, nor its trades.
    """
    if dataset is Dataset.TRADES and "sip_timestamp" in payload.column_names:
        return trades(payload)
    if dataset in (Dataset.DAILY_BARS, Dataset.MINUTE_BARS):
        if "window_start" in payload.column_names:
            return _bars(dataset, payload, "window_start", "ns")
        if "ticker" in payload.column_names:
            return _bars(dataset, payload, "timestamp", "ms")
    raise ContractError(
        f"polygon {dataset}: expected a payload with ticker and timestamp, window_start or sip_timestamp, "
        f"found the columns {', '.join(payload.column_names) or 'none'}"
    )


def trades(payload: pa.Table) -> pd.DataFrame:
    """Return trades in the order they came.

    Returns:
        symbol, date (datetime64, the day at the exchange), timestamp (UTC, whole microseconds; the order within one is
        that of `sequence`), price (currency per share), quantity (shares), trade_id, exchange (the vendor's number of
        the venue, as text), conditions (list of text; a correction indicator among them as `e8`, which is a cancelled
        trade's), sequence (Int64).
    """
    moments = _moments(payload, "sip_timestamp", "ns")
    symbols = _text(payload, "ticker")
    return pd.DataFrame(
        {
            "symbol": symbols,
            "date": _days(moments, symbols),
            "timestamp": moments,
            "price": _numbers(payload, "price"),
            "quantity": _numbers(payload, "size"),
            "trade_id": _text(payload, "id"),
            "exchange": _text(payload, "exchange"),
            "conditions": _conditions(payload),
            "sequence": _whole_numbers(payload, "sequence_number").to_pandas(
                types_mapper={pa.int64(): pd.Int64Dtype()}.get
            ),
        }
    )


def _bars(dataset: Dataset, payload: pa.Table, time_column: str, unit: Literal["ms", "ns"]) -> pd.DataFrame:
    moments = _moments(payload, time_column, unit)
    symbols = _text(payload, "ticker")
    columns: dict[str, pd.Series] = {"symbol": symbols, "date": _days(moments, symbols)}
    if dataset is Dataset.MINUTE_BARS:
        columns["timestamp"] = moments
    return pd.DataFrame(columns | {name: _numbers(payload, column) for name, column in VALUES.items()})


def _days(moments: pd.Series, symbols: pd.Series) -> pd.Series:
    """Return the day at the exchange of each moment, midnight without a zone."""
    local = moments.dt.tz_convert(EXCHANGE_ZONE).dt.tz_localize(None)
    is_crypto = symbols.str.startswith(CRYPTO).fillna(value=False).astype(bool)
    days: pd.Series = local.where(~is_crypto, moments.dt.tz_localize(None)).dt.normalize()
    return days.astype("datetime64[us]")


def _moments(payload: pa.Table, name: str, unit: Literal["ms", "ns"]) -> pd.Series:
    """Return Unix times in a unit as UTC, cut to microseconds."""
    whole = _whole_numbers(payload, name)
    first, after = stamps_between(unit)
    possible = pc.and_(pc.greater_equal(whole, first), pc.less(whole, after))
    known = pc.if_else(pc.fill_null(possible, fill_value=False), whole, pa.scalar(None, pa.int64()))
    moments = known.cast(pa.timestamp(unit, "UTC")).cast(pa.timestamp("us", "UTC"), safe=False)
    series: pd.Series = moments.to_pandas()
    return series.astype("datetime64[us, UTC]")


def _plain(payload: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a column; text without the quotes and spaces around it, and of no known type as missing."""
    if name not in payload.column_names:
        return pa.chunked_array([pa.nulls(payload.num_rows, pa.string())])
    column = payload[name]
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    if pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        return pc.utf8_trim(column, characters=' "')
    return column


def _numbers(payload: pa.Table, name: str) -> pd.Series:
    column = _plain(payload, name)
    if pa.types.is_string(column.type):
        column = _where_matching(column, NUMBER).cast(pa.float64())
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        column = column.cast(pa.float64(), safe=False)
    else:
        column = pa.chunked_array([pa.nulls(len(column), pa.float64())])
    series: pd.Series = column.to_pandas()
    return series.astype("float64")


def _whole_numbers(payload: pa.Table, name: str) -> pa.ChunkedArray:
    column = _plain(payload, name)
    if pa.types.is_string(column.type):
        return _where_matching(column, WHOLE_NUMBER).cast(pa.int64())
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64(), safe=False)
    if pa.types.is_floating(column.type):
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 9e18))
        return pc.if_else(pc.fill_null(whole, fill_value=False), column, pa.scalar(None, column.type)).cast(pa.int64())
    return pa.chunked_array([pa.nulls(len(column), pa.int64())])


def _where_matching(text: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    return pc.if_else(pc.match_substring_regex(text, pattern), text, pa.scalar(None, pa.string()))


def _text(payload: pa.Table, name: str) -> pd.Series:
    column = _plain(payload, name)
    if pa.types.is_nested(column.type):
        column = pa.chunked_array([pa.nulls(len(column), pa.string())])
    series: pd.Series = column.cast(pa.string()).to_pandas()
    return series.astype("str")


def _conditions(payload: pa.Table) -> pd.Series:
    """Return the conditions of each trade, and with them the correction indicator where there is one."""
    conditions = _lists_of_text(payload, "conditions")
    corrections = _whole_numbers(payload, "correction").to_pandas()
    for row in corrections.index[corrections.fillna(0) != 0]:  # rare
        conditions[row] = [*(conditions[row] or []), f"{CORRECTION}{corrections[row]:.0f}"]
    return conditions


def _lists_of_text(payload: pa.Table, name: str) -> pd.Series:
    column = _plain(payload, name)
    if not pa.types.is_list(column.type) or pa.types.is_nested(column.type.value_type):
        return pd.Series([None] * len(column), dtype=object)
    return pd.Series(column.cast(pa.list_(pa.string())).to_pylist(), dtype=object)
