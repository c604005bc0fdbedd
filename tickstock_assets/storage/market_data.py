"""Bars for those who compute with them: many symbols, any timeframe, as known at any moment, adjusted or as traded.

    with MarketReader(url) as reader:
        table = reader.bars(["AAPL", "IBM"], "daily", date(2012, 1, 1), date(2013, 1, 1))

Prices and sizes are float64, which keeps eight decimals below 1e8. For SQL there is the view `ohlcv_bars`. Elsewhere:
what may be asked (readings.py), bars that are not stored as asked (resampled_bars.py), connections (arrow.py), readers
inside an open transaction (bars.py).
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlalchemy import URL

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage.adjusted_bars import Adjustment, adjusted_bars, adjustment, is_adjusting
from tickstock_assets.storage.arrow import ArrowPool
from tickstock_assets.storage.bar_requests import BarRequest, aware
from tickstock_assets.storage.database import DEFAULT_LIMITS
from tickstock_assets.storage.knowledge import require_settled
from tickstock_assets.storage.pool import Limits, PoolUse
from tickstock_assets.storage.readings import reading
from tickstock_assets.storage.resampled_bars import resampled_bars

if TYPE_CHECKING:
    import pandas as pd

NAMED_IN_AN_ERROR = 20


class MarketReader:
    """Reads bars of one database; for any number of threads, to be closed."""

    def __init__(
        self,
        url: URL,
        application_name: str = "tickstock",
        limits: Limits = DEFAULT_LIMITS,
        *,
        spill: Path | None = None,
    ) -> None:
        """Connect when first asked.

        Args:
            url: the database's, as an engine's.
            application_name: what the server lists the connections as.
            limits: of the connections.
            spill: the folder in which the live feed keeps the trades that it has not stored yet; without it, bars that
                are forming are made of what is stored.
        """
        self.pool = ArrowPool(url, application_name, limits)
        self._spill = spill

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
        align: str = "utc",
        fill: str | None = None,
        include_forming: bool = False,
        now: datetime | None = None,
    ) -> pa.Table:
        """Return bars in the order of symbol and time.

        Args:
            symbols: one, several, or None for all.
            timeframe: `1m 5m 15m 1h 1d`, which are stored, or any other, which is made of them: minutes and hours that
                divide a day such as `2m 30m 4h`; `1w`, by ISO week; `1M 3M 1y`, by the calendar. Or what people type.
            start: bars from this on. A date means, of daily and longer bars, that session, and of others midnight UTC; a
                datetime, which must have a time zone, is compared with the start of the bar, of a daily one its session's
                open. A bar belongs where its start does, and is always made of all that is in it.
            end: bars before this, of the same kinds; so start and end of a year are two firsts of January.
            as_of: what was known at this moment: corrections that came later do not show, nor do bars. The same
                question gets the same answer for ever; where that cannot be promised yet, it is refused. Bars of several
                minutes are made of the minutes known then.
            adjusted: "splits" for prices and volume in the share unit of the symbol's last bar; "all" for dividends
                besides; "none" or None as traded. An `Adjustment` says up to which day, and in which convention. With
                `as_of`, by the splits, dividends and last bar known then. Before bars are put together.
            columns: besides symbol and date (intraday: timestamp), any of open, high, low, close, volume, vwap,
                quote_volume, trades_count, exchange, source, recorded_at; of daily and longer bars also timestamp (the
                first session's open; midnight UTC where the calendar has none) and session_close (the last one's); of
                all but 1m and 1d also bars, the minutes (of longer bars: sessions) that each is made of. None for open
                to volume, vwap, source.
            align: of minutes and hours. "utc": from midnight UTC, as stored. "session": from each session's open, the
                last one ending with the session; regular hours only, and any number of minutes.
            fill: "ffill" for bars that are missing within regular hours and over, with the last close of the session (of
                daily bars: of the session before, and no further), no volume, and `filled` in a column of that name.
            include_forming: also the bars behind the stored ones, made of the live feed's trades; a column `forming` says
                which are not over. Not with `as_of`.
            now: the moment by which bars are over, by default the clock's.

        Returns:
            symbol, date (date32) or timestamp (UTC), and the columns in the order asked for, `filled` and `forming`.

        Raises:
            ConfigError: a parameter is not what is expected, or a symbol is not known.
            DatabaseError: see `ArrowPool.read`.
            ContractError: splits or dividends do not fit the bars.
        """
        asked = reading(
            symbols, timeframe, start=start, end=end, as_of=as_of, columns=columns, align=align, fill=fill,
            include_forming=include_forming,
        )  # fmt: skip
        wanted = adjustment(adjusted)
        moment = datetime.now(UTC) if now is None else aware(now, "now")
        if (request := asked.stored) is not None:
            table = self._stored(request, wanted)
        else:
            table = resampled_bars(self.pool, asked, wanted, now=moment, spill=self._spill)
        self._require_known(asked.symbols, table)
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
        align: str = "utc",
        fill: str | None = None,
        include_forming: bool = False,
        now: datetime | None = None,
    ) -> "pd.DataFrame":
        """Return the same as `bars` for pandas: `date` as naive datetime64, timestamps in UTC, text as str."""
        table = self.bars(
            symbols, timeframe, start, end, as_of=as_of, adjusted=adjusted, columns=columns, align=align, fill=fill,
            include_forming=include_forming, now=now,
        )  # fmt: skip
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

    def _stored(self, request: BarRequest, wanted: Adjustment | None) -> pa.Table:
        if request.as_of is not None:
            require_settled(self.pool, request.as_of)
        if wanted is not None and is_adjusting(wanted, request.columns):
            return adjusted_bars(self.pool, request, wanted)
        return request.in_order(self.pool.read(*request.statement()))

    def _require_known(self, symbols: tuple[str, ...] | None, table: pa.Table) -> None:
        """Raise ConfigError for a symbol that is not listed; asked only where a symbol had no bars."""
        if symbols is None or (len(symbols) == 1 and table.num_rows):
            return
        without_bars = {*symbols} - {*table["symbol"].unique().to_pylist()}
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
