"""Bars adjusted for splits and dividends when they are read, by what was known at the moment that is asked for.

Elsewhere: the arithmetic (domain/adjustments.py), reading bars as traded (market_data.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.adjustments import CONVENTIONS, Convention, adjust
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage import table_columns
from tickstock_assets.storage.arrow import ArrowPool
from tickstock_assets.storage.bar_requests import PRICES, REVISIONS, TABLES, BarRequest
from tickstock_assets.storage.counted_actions import counted_dividends, counted_splits
from tickstock_assets.storage.session_times import sessions_between

type Floats = npt.NDArray[np.float64]
type Kind = Literal["none", "splits", "all"]

KINDS: tuple[Kind, ...] = get_args(Kind.__value__)
# An exchange is closed for less than this, also around the longest holidays.
LONGEST_CLOSURE = timedelta(days=15)
# A dividend is measured by a close next to it; one that is further away is of a time whose bars are missing.
MEASURED_WITHIN = timedelta(days=31)


@dataclass(frozen=True)
class Adjustment:
    """What bars are adjusted for.

    Attributes:
        kind: "none"; "splits", for prices and volume; "all", for cash dividends besides, in prices only.
        up_to: the day in whose share unit the prices are; later splits and dividends are ignored. By default each
            symbol's last stored bar, whatever part of the history is read.
        convention: which close measures a dividend, "crsp" or "wiki"; see `domain.adjustments.dividend_factors`.
    """

    kind: Kind
    up_to: date | None = None
    convention: Convention = "crsp"


def adjustment(asked: Adjustment | str | None) -> Adjustment | None:
    """Return the adjustment asked for, None for none.

    Raises:
        ConfigError: there is no such.
    """
    if asked is None:
        return None
    wanted = asked if isinstance(asked, Adjustment) else Adjustment(asked)  # type: ignore[arg-type] # checked below
    if wanted.kind not in KINDS:
        raise ConfigError(f"adjusted: expected one of {', '.join(KINDS)} or an Adjustment, found {wanted.kind!r}")
    if wanted.convention not in CONVENTIONS:
        raise ConfigError(f"convention: expected one of {', '.join(CONVENTIONS)}, found {wanted.convention!r}")
    if wanted.up_to is not None and type(wanted.up_to) is not date:
        raise ConfigError(f"up_to: expected a date, found {wanted.up_to!r}")
    return None if wanted.kind == "none" else wanted


def is_adjusting(wanted: Adjustment | None, columns: Iterable[str]) -> bool:
    """Return whether an adjustment changes any of these columns."""
    return wanted is not None and bool({*PRICES, "volume"} & {*columns})


def adjusted_bars(pool: ArrowPool, request: BarRequest, wanted: Adjustment) -> pa.Table:
    """Return the bars of a request, adjusted."""
    more = () if request.timeframe == "1d" or "exchange" in request.columns else ("exchange",)
    table = request.in_order(pool.read(*replace(request, columns=(*request.columns, *more)).statement()))
    return adjusted(pool, request, wanted, table).drop_columns(list(more))


def adjusted(pool: ArrowPool, request: BarRequest, wanted: Adjustment, table: pa.Table) -> pa.Table:
    """Return bars with prices and volume adjusted.

    Args:
        pool: where splits and dividends are read.
        request: that the bars answer.
        wanted: for what.
        table: symbol, date or timestamp and exchange, and the columns of the request; maybe also bars that are not stored.
    """
    if not table.num_rows:
        return table
    day = (
        table["date"].to_pandas(date_as_object=False).to_numpy()
        if request.timeframe == "1d"
        else _sessions_of(pool, table)
    )
    price, volume = _factors(pool, request, wanted, table["symbol"].to_pandas(), day)
    for name in {*request.columns} & {*PRICES, "volume"}:
        factor = volume if name == "volume" else price
        values = table[name].to_numpy(zero_copy_only=False) * factor
        table = table.set_column(table.column_names.index(name), name, pa.array(values, from_pandas=True))
    return table


def _factors(
    pool: ArrowPool, request: BarRequest, wanted: Adjustment, symbols: "pd.Series[Any]", day: npt.NDArray[np.datetime64]
) -> tuple[Floats, Floats]:
    """Return what prices and what volume of each bar are to be multiplied by."""
    names = symbols.unique().tolist()
    first = day.min().astype("datetime64[D]").item()
    last_days = (
        pd.Series(pd.Timestamp(wanted.up_to), names) if wanted.up_to else _last_bars(pool, request, names, symbols, day)
    )
    basis = wanted.up_to or last_days.max().date()
    splits = _up_to(_splits(pool, request, names), "execution_date", last_days)
    dividends = closes = None
    if wanted.kind == "all":
        dividends = _up_to(_dividends(pool, request, names, first), "ex_dividend_date", last_days)
        # The close before the first ex-date may be one that is not asked for.
        payers = tuple(sorted(dividends["symbol"].unique()))
        daily = BarRequest(payers, "1d", first - MEASURED_WITHIN, None, request.as_of, ("close",))
        closes = pool.read(*daily.statement()).to_pandas(date_as_object=False)
        _require_closes(dividends, closes, symbols, day, wanted.convention)
    # The factors of a bar are what becomes of a price and a volume of 1.
    ones = pd.DataFrame({"symbol": symbols.to_numpy(), "date": day, "close": 1.0, "volume": 1.0})
    found = adjust(ones, splits, dividends, basis, wanted.convention, closes=closes)
    return found["close"].to_numpy(np.float64), found["volume"].to_numpy(np.float64)


def _require_closes(
    dividends: pd.DataFrame,
    closes: pd.DataFrame,
    symbols: "pd.Series[Any]",
    day: npt.NDArray[np.datetime64],
    convention: Convention,
) -> None:
    """Refuse to adjust a bar for a dividend that no close measures: without one it would count for nothing.

    Raises:
        ConfigError: a bar that is read is before an ex-date which has no daily bar next to it, on the side of its measure.
    """
    first_bar = pd.Series(day, dtype="datetime64[us]").groupby(symbols.to_numpy()).min()
    dated = dividends.assign(ex_day=dividends["ex_dividend_date"].astype("datetime64[us]"))
    dated = dated[(dated["ex_day"] > dated["symbol"].map(first_bar)).to_numpy()].sort_values("ex_day")
    if dated.empty:
        return
    have = closes.assign(close_day=closes["date"].astype("datetime64[us]"))[["symbol", "close_day"]].sort_values(
        "close_day"
    )
    without = dated[~(_measured_before if convention == "crsp" else _measured_from)(dated, have)]
    if len(without):
        one = without.iloc[0]
        place = "before" if convention == "crsp" else "from"
        raise ConfigError(
            f"{one['symbol']}: expected a daily bar in the month {place} the dividend of {one['ex_day']:%Y-%m-%d}, which is "
            "measured by its close, found none; load or roll up its daily bars, or adjust for splits only"
        )


def _measured_before(dated: pd.DataFrame, have: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return whether there is a close in the month before each ex-date; that of the ex-date has paid already."""
    return _has_close(dated, have, "backward", on_the_day=False)


def _measured_from(dated: pd.DataFrame, have: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return whether there is a close in the month from each ex-date on, or may be one once more bars are stored."""
    newest = dated["symbol"].map(have.groupby("symbol")["close_day"].max())
    may_come = (newest < dated["ex_day"]).to_numpy() & _measured_before(dated, have)
    return _has_close(dated, have, "forward", on_the_day=True) | may_come


def _has_close(
    dated: pd.DataFrame, have: pd.DataFrame, direction: Literal["backward", "forward"], *, on_the_day: bool
) -> npt.NDArray[np.bool_]:
    """Return whether there is a close within a month of each ex-date, in one direction; both are in the order of time."""
    found = pd.merge_asof(
        dated,
        have,
        left_on="ex_day",
        right_on="close_day",
        by="symbol",
        tolerance=pd.Timedelta(MEASURED_WITHIN),
        allow_exact_matches=on_the_day,
        direction=direction,
    )
    return found["close_day"].notna().to_numpy()


def _up_to(events: pd.DataFrame, column: str, last_days: "pd.Series[Any]") -> pd.DataFrame:
    """Return the events up to the last day of each symbol that counts."""
    return events[(events[column] <= events["symbol"].map(last_days)).to_numpy()].reset_index(drop=True)


def _last_bars(
    pool: ArrowPool, request: BarRequest, names: list[str], symbols: "pd.Series[Any]", day: npt.NDArray[np.datetime64]
) -> "pd.Series[Any]":
    """Return the day of each symbol's last bar, as known then: daily, of the timeframe that is read, or read."""
    last = _last_of(pool, replace(request, timeframe="1d"), names).to_pandas(date_as_object=False)
    read = pd.DataFrame({"symbol": symbols.to_numpy(), "date": day})
    of_timeframe = pd.DataFrame(columns=read.columns)
    if request.timeframe != "1d":
        newest = _last_of(pool, request, names)
        of_timeframe = pd.DataFrame({"symbol": newest["symbol"].to_pylist(), "date": _sessions_of(pool, newest)})
    found = [frame for frame in (last[["symbol", "date"]], read, of_timeframe) if len(frame)]
    newest_of_all: pd.Series[Any] = pd.concat(found).groupby("symbol")["date"].max()
    return newest_of_all


def _last_of(pool: ArrowPool, request: BarRequest, names: list[str]) -> pa.Table:
    """Return symbol, date or timestamp, and exchange of each symbol's last bar of a timeframe, where it has one."""
    known, parameters = _known(request, names)
    sources = [(TABLES[request.timeframe], known)]
    if request.as_of is not None:
        sources.append((REVISIONS[request.timeframe], f"{known} AND b.superseded_at > $2::timestamptz"))
    newest = " UNION ALL ".join(
        f"(SELECT b.{request.time_column}, b.exchange FROM {table} b WHERE b.symbol = s.symbol {condition} "  # noqa: S608
        f"ORDER BY b.{request.time_column} DESC LIMIT 1)"
        for table, condition in sources
    )
    return pool.read(
        f"SELECT s.symbol, b.* FROM (SELECT unnest($1::text[]) AS symbol) AS s CROSS JOIN LATERAL ({newest}) AS b",  # noqa: S608
        parameters,
    )


def _splits(pool: ArrowPool, request: BarRequest, names: list[str]) -> pd.DataFrame:
    """Return symbol, execution_date, split_from, split_to; of several sources the one that ranks first."""
    events, parameters = _known_events(request, names, "splits", "symbol, execution_date, source, split_from, split_to")
    return _frame(pool, counted_splits(events), parameters)


def _dividends(pool: ArrowPool, request: BarRequest, names: list[str], after: date) -> pd.DataFrame:
    """Return symbol, ex_dividend_date, cash_amount after a day; of several sources the one that ranks first."""
    events, parameters = _known_events(request, names, "dividends", "symbol, ex_dividend_date, source, cash_amount")
    parameters.append(after)
    statement = f"""
        SELECT * FROM ({counted_dividends(events)}) AS counted WHERE ex_dividend_date > ${len(parameters)}::date
        ORDER BY symbol, ex_dividend_date
    """  # noqa: S608 our own fragments
    return _frame(pool, statement, parameters)


def _known_events(request: BarRequest, names: list[str], table: str, columns: str) -> tuple[str, list[object]]:
    """Return the query of what was known of splits or dividends, each with the values it had then; and its parameters."""
    known, parameters = _known(request, names)
    current = f"SELECT {columns} FROM {table} WHERE symbol = ANY ($1::text[]) {known}"  # noqa: S608
    if request.as_of is None:
        return current, parameters
    revised = f"SELECT {columns} FROM {table_columns.REVISIONS[table]} WHERE symbol = ANY ($1::text[]) {known}"  # noqa: S608
    return f"{current} UNION ALL {revised} AND superseded_at > $2::timestamptz", parameters


def _known(request: BarRequest, names: list[str]) -> tuple[str, list[object]]:
    if request.as_of is None:
        return "", [names]
    return "AND recorded_at <= $2::timestamptz", [names, request.as_of]


def _frame(pool: ArrowPool, statement: str, parameters: list[Any]) -> pd.DataFrame:
    frame: pd.DataFrame = pool.read(statement, parameters).to_pandas(date_as_object=False)
    return frame


def _sessions_of(pool: ArrowPool, bars: pa.Table) -> npt.NDArray[np.datetime64]:
    """Return the session of each bar: of its exchange's, the one nearest in time.

    A bar before the open belongs to that day and one after the close to the day that closed; the middle of the night
    between two sessions parts them, in whatever time zone the exchange is.
    """
    moments = bars["timestamp"].to_pandas().dt.tz_convert(None).to_numpy()
    exchanges = bars["exchange"].to_pandas().to_numpy()
    near = np.timedelta64(LONGEST_CLOSURE)
    calendar = sessions_between(
        pool,
        exchanges,
        (moments.min() - near).astype("datetime64[D]").item(),
        (moments.max() + near).astype("datetime64[D]").item(),
    )
    session = np.empty(len(moments), "datetime64[us]")
    for exchange in set(exchanges):
        of_exchange, days = exchanges == exchange, calendar[calendar["exchange"] == exchange]
        opens, closes = days["open"].to_numpy(), days["close"].to_numpy()
        nights = closes[:-1] + (opens[1:] - closes[:-1]) / 2
        place = np.searchsorted(nights, moments[of_exchange], side="right")
        if not len(days) or (np.abs(opens[place] - moments[of_exchange]) > near).any():
            raise ConfigError(
                f"{exchange}: expected the sessions around every bar that is to be adjusted, found none around some; "
                "materialize the asset sessions over their time"
            )
        session[of_exchange] = days["session"].to_numpy()[place]
    return session
