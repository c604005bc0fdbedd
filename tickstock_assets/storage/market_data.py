"""Bars for those who compute with them: many symbols, any timeframe, as known at any moment, adjusted or as traded.

    with MarketReader(url) as reader:
        table = reader.bars(["AAPL", "IBM"], "daily", date(2012, 1, 1), date(2013, 1, 1))

Prices and sizes are float64, which keeps eight decimals below 1e8. For SQL there is the view `ohlcv_bars`. Elsewhere:
what may be asked (bar_requests.py), connections (arrow.py), readers inside an open transaction (bars.py).
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlalchemy import URL

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage.adjusted_bars import Adjustment, adjusted_bars, adjustment
from tickstock_assets.storage.arrow import ArrowPool
from tickstock_assets.storage.bar_requests import PRICES, BarRequest, bar_request
from tickstock_assets.storage.database import DEFAULT_LIMITS
from tickstock_assets.storage.knowledge import require_settled
from tickstock_assets.storage.pool import Limits, PoolUse

if TYPE_CHECKING:
    import pandas as pd

NAMED_IN_AN_ERROR = 20


class MarketReader:
    """Reads bars of one database; for any number of threads, to be closed."""

    def __init__(self, url: URL, application_name: str = "tickstock", limits: Limits = DEFAULT_LIMITS) -> None:
        """Connect when first asked; `url` is the database's, as an engine's."""
        self.pool = ArrowPool(url, application_name, limits)

    def bars(
        self,
        symbols: str | Sequence[str] | None,
        timeframe: str = "1d",
        start: date | datetime | None = None,
        end: date | datetime | None = None,
        *,
        as_of: datetime | None = None,
        adjusted: Adjustment | str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Return bars in the order of symbol and time.

        Args:
            symbols: one, several, or None for all.
            timeframe: `1m 5m 15m 1h 1d`, or what people type for them.
            start: bars from this on. A date means, of daily bars, that session, and of others midnight UTC; a datetime,
                which must have a time zone, is compared with the start of the bar, of a daily one its session's open.
            end: bars before this, of the same kinds; so start and end of a year are two firsts of January.
            as_of: what was known at this moment: corrections that came later do not show, nor do bars. The same
                question gets the same answer for ever; where that cannot be promised yet, it is refused.
            adjusted: "splits" for prices and volume in the share unit of the symbol's last bar; "all" for dividends
                besides; "none" or None as traded. An `Adjustment` says up to which day, and in which convention. With
                `as_of`, by the splits, dividends and last bar known then.
            columns: besides symbol and date (intraday: timestamp), any of open, high, low, close, volume, vwap,
                quote_volume, trades_count, exchange, source, recorded_at; of daily bars also timestamp (the session's
                open; midnight UTC where the calendar has none) and session_close. None for open to volume, vwap, source.

        Returns:
            symbol, date (date32) or timestamp (UTC), and the columns in the order asked for.

        Raises:
            ConfigError: a parameter is not what is expected, or a symbol is not known.
            DatabaseError: see `ArrowPool.read`.
            ContractError: splits or dividends do not fit the bars.
        """
        request = bar_request(symbols, timeframe, start=start, end=end, as_of=as_of, columns=columns)
        wanted = adjustment(adjusted)
        if request.as_of is not None:
            require_settled(self.pool, request)
        if wanted is None or not {*PRICES, "volume"} & {*request.columns}:
            table = request.in_order(self.pool.read(*request.statement()))
        else:
            table = adjusted_bars(self.pool, request, wanted)
        self._require_known(request, table)
        return table

    def bars_frame(
        self,
        symbols: str | Sequence[str] | None,
        timeframe: str = "1d",
        start: date | datetime | None = None,
        end: date | datetime | None = None,
        *,
        as_of: datetime | None = None,
        adjusted: Adjustment | str | None = None,
        columns: Sequence[str] | None = None,
    ) -> "pd.DataFrame":
        """Return the same as `bars` for pandas: `date` as naive datetime64, timestamps in UTC, text as str."""
        table = self.bars(symbols, timeframe, start, end, as_of=as_of, adjusted=adjusted, columns=columns)
        frame: pd.DataFrame = table.to_pandas(date_as_object=False)
        return frame

    def symbols(self) -> list[str]:
        """Return all symbols that are known, with bars or without, in alphabetical order."""
        names: list[str] = self.pool.read("SELECT symbol::text FROM symbols ORDER BY symbol")["symbol"].to_pylist()
        return names

    def use(self) -> PoolUse:
        """Return how many of the connections are in use, and the bounds."""
        return self.pool.use()

    def close(self) -> None:
        """Close the connections."""
        self.pool.close()

    def __enter__(self) -> "MarketReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_known(self, request: BarRequest, table: pa.Table) -> None:
        """Raise ConfigError for a symbol that is not listed; asked only where a symbol had no bars."""
        if request.symbols is None or (len(request.symbols) == 1 and table.num_rows):
            return
        without_bars = {*request.symbols} - {*table["symbol"].unique().to_pylist()}
        if not without_bars:
            return
        listed = self.pool.read(
            "SELECT symbol::text FROM symbols WHERE symbol = ANY ($1::text[])", [sorted(without_bars)]
        )
        if unknown := sorted(without_bars - {*listed["symbol"].to_pylist()}):
            names = ", ".join(self.symbols()[:NAMED_IN_AN_ERROR])
            raise ConfigError(
                f"{unknown[0]}: expected a known symbol, found none of that name; "
                + (f"known are {names}" if names else "`tickstock demo` loads the sample data")
            )
