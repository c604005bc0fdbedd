"""Real daily bars that ship with the package: five US stocks from 2000-03-01 to 2013-03-01.

Unadjusted prices of the Quandl WIKI set, see `sample_data/NOTICE.md`. Splits and dividends are not listed in the file;
they follow exactly from the steps of its Adj Close / Close. Its minute bars are invented, so that each session's add up to
the real daily bar (`domain/minute_walk.py`), and they say so: their source is `synthetic`.
"""

import functools
import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tickstock_assets.domain import minute_walk
from tickstock_assets.domain.errors import ConfigError, PermanentProviderError, UnknownSymbolError
from tickstock_assets.domain.quality import violations
from tickstock_assets.domain.schemas import daily_bars
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import BAR_COLUMNS, BY_SYMBOL, MINUTE_COLUMNS, Dataset, Provider, Request, Route
from tickstock_assets.providers.synthetic import SyntheticProvider

VENDORED_FILE = Path(__file__).parent.parent / "sample_data" / "stocks.csv.gz"
COLUMNS = ["Ticker", "Date", "Open", "High", "Low", "Close", "Volume", "Adj Close"]
PRICES_AND_VOLUME = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Volume": "volume"}
DATE_FORMAT = "%Y-%m-%d"
# Another one makes all invented minutes due again.
WALK_VERSION = "1"


class SampleProvider(Provider):
    """A file of daily bars, by default the vendored one."""

    name = "sample"
    history_start = date(2000, 1, 1)

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or VENDORED_FILE

    def routes(self, dataset: Dataset) -> Sequence[Route]:
        """Return the file, for daily bars, and what is made up from it, for minute bars."""
        match dataset:
            case Dataset.DAILY_BARS:
                return [Route(BY_SYMBOL, self.history_start, seconds_per_call=0.01)]
            case Dataset.MINUTE_BARS:
                return [Route(BY_SYMBOL, self.history_start, days_per_call=31, seconds_per_call=0.02)]
            case _:
                return []

    def source(self, dataset: Dataset) -> str:
        """Return `synthetic` for minute bars, which nobody has traded."""
        return SyntheticProvider.name if dataset is Dataset.MINUTE_BARS else self.name

    def horizon(self) -> date:
        """Return the last day in the file that is not in the future; a row dated later is a mistake."""
        dates = self._bars["date"]
        last: pd.Timestamp = dates[dates <= _today()].max()
        return last.date()

    def settled_until(self, fetched_at: datetime) -> date:
        """Return the horizon: a file that changes has another version."""
        return self.horizon()

    def version(self, dataset: Dataset) -> str:
        """Return the file's SHA-256, and for minute bars the version of how they are made up."""
        file = hashlib.sha256(self._content).hexdigest()
        return f"{file}/{WALK_VERSION}" if dataset is Dataset.MINUTE_BARS else file

    def symbols(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return one row a ticker; a listing later than the file's first day is taken for the listing date."""
        first = self._bars.groupby("symbol", as_index=False, sort=True)["date"].min()
        listed_later = first["date"] > first["date"].min()
        return _of(
            wanted,
            pd.DataFrame(
                {
                    "symbol": first["symbol"],
                    "exchange": DEFAULT_EXCHANGE,
                    "list_date": first["date"].where(listed_later),
                }
            ),
        )

    def splits(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the splits that the file's adjustment holds."""
        steps = _of(wanted, self._adjustment_steps)
        splits = steps[steps["split"] != 1]
        return pd.DataFrame(
            {
                "symbol": splits["symbol"],
                "execution_date": splits["date"],
                "split_from": [float(ratio.denominator) for ratio in splits["split"]],
                "split_to": [float(ratio.numerator) for ratio in splits["split"]],
            }
        ).reset_index(drop=True)

    def dividends(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the cash dividends that the file's adjustment holds."""
        steps = _of(wanted, self._adjustment_steps)
        # WIKI's convention: the factor steps by 1 + dividend / close of the ex-dividend date.
        cash = (steps["step"] / steps["split"].astype(float) - 1) * steps["close"]
        dividends = steps.assign(cash_amount=cash.round(6))[cash.abs() > 1e-6]
        return (
            dividends[["symbol", "date", "cash_amount"]]
            .rename(columns={"date": "ex_dividend_date"})
            .reset_index(drop=True)
        )

    def fetch(self, request: Request) -> pa.Table:
        """Return the file's rows of a window, as text, or the minutes made up for it.

        A row whose date cannot be belongs to every window of daily bars. Days whose row breaks the contract have no minutes.
        """
        window = request.window
        if not self.routes(request.dataset):
            raise PermanentProviderError(f"{self.name} has daily and minute bars only, not {request.dataset}")
        if window.symbol not in pc.unique(self._table["Ticker"]).to_pylist():
            raise UnknownSymbolError(f"{window.symbol}: not in {self.file.name}; `tickstock coverage` lists what is")
        return self._minutes(window) if request.dataset is Dataset.MINUTE_BARS else self._rows(window)

    def _rows(self, window: Window) -> pa.Table:
        dates = self._bars["date"]
        stray = ~dates.between(pd.Timestamp(self.history_start), pd.Timestamp(self.horizon()))
        inside = dates.between(pd.Timestamp(window.start), pd.Timestamp(window.end)) | stray
        return self._table.filter(pa.array((inside & (self._bars["symbol"] == window.symbol)).to_numpy(dtype=bool)))

    def _minutes(self, window: Window) -> pa.Table:
        bars = self._sound_bars
        inside = bars["date"].between(pd.Timestamp(window.start), pd.Timestamp(window.end))
        daily = bars[inside & (bars["symbol"] == window.symbol)]
        minutes = minute_walk.minute_bars(window.symbol, daily, self._sessions)
        minutes.insert(0, "symbol", window.symbol)
        return pa.Table.from_pandas(minutes, preserve_index=False)

    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        """Return a payload's bars, row for row."""
        if dataset is Dataset.MINUTE_BARS:
            return _minutes(payload.to_pandas())
        text = payload.to_pandas(types_mapper=None)
        numbers = {
            name: pd.to_numeric(text[column], errors="coerce").astype("float64")
            for column, name in PRICES_AND_VOLUME.items()
        }
        dates = pd.to_datetime(text["Date"], format=DATE_FORMAT, errors="coerce").astype("datetime64[us]")
        bars = pd.DataFrame({"symbol": text["Ticker"], "date": dates, **numbers})
        return bars.reindex(columns=list(BAR_COLUMNS)).astype(BAR_COLUMNS)

    def check(self) -> str:
        """Read the file."""
        return f"{self.file.name}: {len(self._bars):,} daily bars up to {self.horizon()}"

    @functools.cached_property
    def _content(self) -> bytes:
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"TICKSTOCK_SAMPLE_FILE: expected a readable CSV file, found {self.file} ({error.strerror}); correct or unset it"
            ) from None

    @functools.cached_property
    def _table(self) -> pa.Table:
        stream = pa.BufferReader(self._content)
        try:
            return pa.csv.read_csv(
                pa.CompressedInputStream(stream, "gzip") if self.file.suffix == ".gz" else stream,
                convert_options=pa.csv.ConvertOptions(
                    include_columns=COLUMNS,
                    column_types=dict.fromkeys(COLUMNS, pa.string()),
                    strings_can_be_null=False,
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
            raise ConfigError(
                f"{self.file}: expected a CSV file with the columns {','.join(COLUMNS)}, found: {str(error).splitlines()[0]}"
            ) from None

    @functools.cached_property
    def _bars(self) -> pd.DataFrame:
        bars = self.parse(Dataset.DAILY_BARS, self._table)
        if not (bars["date"] <= _today()).any():
            raise ConfigError(f"{self.file}: expected at least one row with a date such as 2000-03-01, found none")
        return bars

    @functools.cached_property
    def _sessions(self) -> pd.DataFrame:
        return trading_sessions(DEFAULT_EXCHANGE, self.history_start, self.horizon())

    @functools.cached_property
    def _sound_bars(self) -> pd.DataFrame:
        """Return the bars that keep the contract, each under its index in the file."""
        broken = violations(self._bars, daily_bars(self._sessions["session"])).index
        return self._bars.drop(index=broken)

    @functools.cached_property
    def _adjustment_steps(self) -> pd.DataFrame:
        """Return the days on which Adj Close / Close steps: symbol, date, close, step, and the split within the step.

        Rows that break the contract of bars say nothing of splits: a wrong close would look like one, there and back.
        """
        adjusted = pd.to_numeric(self._table["Adj Close"].to_pandas(), errors="coerce")
        sound = self._sound_bars
        bars = sound.assign(factor=adjusted / sound["close"])
        bars = bars[adjusted[sound.index] > 0].sort_values(["symbol", "date"])
        bars["step"] = bars["factor"] / bars.groupby("symbol")["factor"].shift()
        steps: pd.DataFrame = bars[(bars["step"] - 1).abs() > 1e-6].copy()
        steps["split"] = pd.Series([_split_within(step) for step in steps["step"]], steps.index, dtype=object)
        return steps[["symbol", "date", "close", "step", "split"]]


def _minutes(sent: pd.DataFrame) -> pd.DataFrame:
    times = {
        "date": pd.to_datetime(sent["date"], errors="coerce").astype("datetime64[us]"),
        "timestamp": pd.to_datetime(sent["timestamp"], errors="coerce", utc=True).astype("datetime64[us, UTC]"),
    }
    numbers = sent.drop(columns=["symbol", *times]).apply(pd.to_numeric, errors="coerce")
    columns = BAR_COLUMNS | MINUTE_COLUMNS
    return pd.DataFrame({"symbol": sent["symbol"], **times}).join(numbers)[list(columns)].astype(columns)


def _of(wanted: Sequence[str] | None, rows: pd.DataFrame) -> pd.DataFrame:
    return rows if wanted is None else rows[rows["symbol"].isin(list(wanted))].reset_index(drop=True)


def _today() -> pd.Timestamp:
    return pd.Timestamp(datetime.now(UTC).date())


def _split_within(step: float) -> Fraction:
    """Return the split ratio that a step of the factor is, or 1 when it is a dividend's.

    No dividend in a real market is a fifth of the price and a ratio of small whole numbers to six digits at once.
    """
    ratio = Fraction(step).limit_denominator(20)
    is_split = not 0.8 < step < 1.25 and np.isclose(float(ratio), step, rtol=1e-6, atol=0)
    return ratio if is_split else Fraction(1)
