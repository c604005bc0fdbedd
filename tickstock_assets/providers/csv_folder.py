"""A folder of CSV files: daily bars in SYMBOL.csv, minute bars in minute/SYMBOL.csv; the example of the guide to providers.

Beside them may lie splits.csv, dividends.csv and symbols.csv. Bars are unadjusted; columns stand in any order, and those
that are not known are landed and not read. A file's name is the symbol, with %2F for a slash and %3A for a colon. A
minute is of the day that it was at the exchange which symbols.csv gives the symbol.
"""

import difflib
import functools
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.errors import ConfigError, PermanentProviderError, UnknownSymbolError
from tickstock_assets.domain.exchanges import DEFAULT_EXCHANGE, calendar_of
from tickstock_assets.providers.base import BAR_COLUMNS, BY_SYMBOL, Dataset, Provider, Request, Route
from tickstock_assets.providers.csv_files import read_csv
from tickstock_assets.providers.moments import of_clock, possible

MINUTE_FOLDER = "minute"
NOT_BARS = {"splits", "dividends", "symbols"}
BARS = ("open", "high", "low", "close", "volume")
TIME_COLUMN = {Dataset.DAILY_BARS: "date", Dataset.MINUTE_BARS: "timestamp"}

# Columns of the files beside the bars, those that must be there first, and their types.
DAY, MOMENT, NUMBER, TEXT = "datetime64[us]", "datetime64[us, UTC]", "float64", "str"
SPLITS = {"symbol": TEXT, "execution_date": DAY, "split_from": NUMBER, "split_to": NUMBER}
DIVIDENDS = {"symbol": TEXT, "ex_dividend_date": DAY, "cash_amount": NUMBER}
MORE_OF_DIVIDENDS = {"declaration_date": DAY, "record_date": DAY, "pay_date": DAY, "currency": TEXT}
SYMBOLS = {"symbol": TEXT}
MORE_OF_SYMBOLS = {"exchange": TEXT, "list_date": DAY, "name": TEXT, "type": TEXT, "delisted_utc": MOMENT}

HAS_OFFSET = r"(?:Z|[+-]\d\d:?\d\d)$"
# Of symbols whose exchange is not said, or has no calendar.
NEW_YORK = "America/New_York"
LONGEST_MONTH = 31


class File(NamedTuple):
    """A file as it stood when looked at; another size or time of change makes it another one."""

    path: Path
    size: int
    changed_ns: int


class CsvFolder(Provider):
    """The files of one folder.

    Args:
        folder: where they are.
        zone: time zone of timestamps without an offset, such as America/New_York. Without it they are refused: a guess
            would be wrong by hours and not be noticed.
    """

    name = "csv_folder"

    def __init__(self, folder: Path, zone: str | None = None) -> None:
        self.folder = folder
        self.zone = zone

    def routes(self, dataset: Dataset) -> Sequence[Route]:
        """Return the files, for what there are files of; a month of minutes at a time keeps the landed files small."""
        if not self._files(dataset):
            return []
        per_call = LONGEST_MONTH if dataset is Dataset.MINUTE_BARS else None
        return [Route(BY_SYMBOL, self._span(dataset)[0], days_per_call=per_call, seconds_per_call=0.01)]

    def horizon(self) -> date:
        """Return the last day in the files that is not in the future; a row dated later is a mistake."""
        spans = [self._span(dataset) for dataset in TIME_COLUMN if self._files(dataset)]
        if not spans:
            raise PermanentProviderError(f"{self.folder}: expected files such as AAPL.csv, found none")
        return max(last for _, last in spans)

    def settled_until(self, fetched_at: datetime) -> date:
        """Return the horizon: a folder in which a file changed has another version."""
        return self.horizon()

    def version(self, dataset: Dataset) -> str:
        """Return the SHA-256 over symbols, contents of the files, the zone they are read with and exchanges of minutes."""
        digest = hashlib.sha256(str(self.zone).encode())
        exchanges = _exchanges(self._listing(dataset))
        for symbol, file in self._files(dataset).items():
            digest.update(f"\0{symbol}\0{_sha256(file)}\0{exchanges.get(symbol, '')}".encode())
        return digest.hexdigest()

    def fetch(self, request: Request) -> pa.Table:
        """Return the rows of a window, as text; a row whose day cannot be belongs to every window."""
        if request.dataset not in TIME_COLUMN:
            raise PermanentProviderError(f"{self.name} has bars only, not {request.dataset}")
        window, files = request.window, self._files(request.dataset)
        if window.symbol not in files:
            near = difflib.get_close_matches(window.symbol, files, 1)
            raise UnknownSymbolError(
                f"{window.symbol}: expected a file {window.symbol}.csv in {self._place(request.dataset)}, "
                f"found {len(files)} others{f', the nearest {near[0]}.csv' if near else ''}"
            )
        file = files[window.symbol]
        table, days = _bars_file(file, request.dataset, self.zone, self._listing(request.dataset))
        inside = days.between(pd.Timestamp(window.start), pd.Timestamp(window.end)) | days.isna() | (days > _today())
        return table.filter(pa.array(inside.to_numpy(dtype=bool)))

    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        """Return a payload's bars, row for row."""
        text = {name: payload.column(name).to_pandas() for name in payload.column_names}
        text = {name.strip().lower(): column for name, column in text.items()}
        zones = _zones(text["symbol"], self._listing(dataset))
        time, moments = _times(dataset, text[TIME_COLUMN[dataset]], self.zone, zones)
        numbers = {name: pd.to_numeric(text[name], errors="coerce") for name in BAR_COLUMNS if name in text}
        bars = pd.DataFrame(numbers | {"symbol": text["symbol"], "date": time})
        bars = bars.reindex(columns=list(BAR_COLUMNS)).astype(BAR_COLUMNS)
        return bars if moments is None else bars.assign(timestamp=moments)

    def symbols(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the symbols that there are bars of, with what symbols.csv says of them."""
        names = {symbol for dataset in TIME_COLUMN for symbol in self._files(dataset)}
        there_are = pd.DataFrame({"symbol": pd.Series(sorted(names), dtype=TEXT)})
        symbols = there_are.merge(self._beside("symbols", SYMBOLS, MORE_OF_SYMBOLS), how="left", on="symbol")
        return _of(wanted, symbols.assign(exchange=symbols["exchange"].fillna(DEFAULT_EXCHANGE)))

    def splits(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows of splits.csv."""
        return _of(wanted, self._beside("splits", SPLITS, {}))

    def dividends(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows of dividends.csv."""
        return _of(wanted, self._beside("dividends", DIVIDENDS, MORE_OF_DIVIDENDS))

    def check(self) -> str:
        """Read every file of bars."""
        counts = [f"{len(self._files(dataset))} files of {dataset.replace('_', ' ')}" for dataset in TIME_COLUMN]
        return f"{self.folder}: {' and '.join(counts)}, up to {self.horizon()}"

    def _place(self, dataset: Dataset) -> Path:
        return self.folder / MINUTE_FOLDER if dataset is Dataset.MINUTE_BARS else self.folder

    def _files(self, dataset: Dataset) -> dict[str, File]:
        """Return the file of each symbol, in the order of symbols."""
        if not self.folder.is_dir():
            raise ConfigError(
                f"{self.folder}: expected a folder of files such as AAPL.csv, found no folder; correct its name"
            )
        files: dict[str, File] = {}
        for path in sorted(self._place(dataset).glob("*.csv")) if dataset in TIME_COLUMN else []:
            symbol = unquote(path.stem)
            if symbol in files:
                raise ConfigError(
                    f"{path}: expected one file of {symbol}, found {files[symbol].path.name} too; remove one"
                )
            if symbol not in NOT_BARS:
                files[symbol] = _file(path)
        return dict(sorted(files.items()))

    def _span(self, dataset: Dataset) -> tuple[date, date]:
        """Return the first and the last day of all files, none in the future; the first fault when none can be read."""
        spans, faults = [], []
        for file in self._files(dataset).values():
            try:
                spans.append(_span(file, dataset, self.zone, self._listing(dataset), _today()))
            except PermanentProviderError as error:
                # Who asks for this file is told; the others can be had.
                faults.append(error)
        if not spans:
            raise faults[0]
        return min(first for first, _ in spans), max(last for _, last in spans)

    def _beside(self, name: str, needed: Mapping[str, str], more: Mapping[str, str]) -> pd.DataFrame:
        """Return a file that may lie beside the bars, with all of its columns; without rows when it does not."""
        path = self.folder / f"{name}.csv"
        if not path.exists():
            return pd.DataFrame({column: pd.Series(dtype=dtype) for column, dtype in {**needed, **more}.items()})
        return _typed(path, needed, more)

    def _listing(self, dataset: Dataset) -> File | None:
        """Return symbols.csv where the day of a dataset's rows depends on it and it is there."""
        path = self.folder / "symbols.csv"
        return _file(path) if dataset is Dataset.MINUTE_BARS and path.exists() else None


# --- files; what was read is kept for as long as the file does not change


def _file(path: Path) -> File:
    status = path.stat()
    return File(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _sha256(file: File) -> str:
    with file.path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@functools.lru_cache(maxsize=4096)
def _span(
    file: File, dataset: Dataset, zone: str | None, listing: File | None, today: pd.Timestamp
) -> tuple[date, date]:
    """Return the first and the last day of a file of bars that are not in the future."""
    _, days = _bars_file(file, dataset, zone, listing)
    past = days[days <= today]
    if not len(past):
        raise PermanentProviderError(
            f"{file.path}: expected at least one row with a time such as 2024-07-03, found none"
        )
    return past.min().date(), past.max().date()


@functools.lru_cache(maxsize=4)
def _bars_file(file: File, dataset: Dataset, zone: str | None, listing: File | None) -> tuple[pa.Table, pd.Series]:
    """Return a file of bars as text, every row with its symbol, and the day of each row."""
    table = _with_symbol(read_csv(file.path, (TIME_COLUMN[dataset], *BARS)), unquote(file.path.stem))
    named = {name.strip().lower(): name for name in table.column_names}
    text = table.column(named[TIME_COLUMN[dataset]]).to_pandas()
    if dataset is Dataset.MINUTE_BARS and zone is None:
        can_be_read = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce").notna()
        without = np.flatnonzero(can_be_read & ~text.str.contains(HAS_OFFSET))
        if len(without):
            raise PermanentProviderError(
                f"{file.path}: expected timestamps with an offset, such as 2024-07-03T13:30:00Z, "
                f"found {text[without[0]]!r}; add the offset"
            )
    return table, _times(dataset, text, zone, _zones(table.column(named["symbol"]).to_pandas(), listing))[0]


@functools.lru_cache(maxsize=4)
def _exchanges(listing: File | None) -> Mapping[str, str]:
    """Return the exchange of each symbol that symbols.csv gives one."""
    if listing is None:
        return {}
    said = _typed(listing.path, SYMBOLS, MORE_OF_SYMBOLS).dropna(subset=["symbol", "exchange"])
    return dict(zip(said["symbol"], said["exchange"], strict=True))


def _typed(path: Path, needed: Mapping[str, str], more: Mapping[str, str]) -> pd.DataFrame:
    """Return a file that lies beside the bars, with all of its columns."""
    table = read_csv(path, list(needed), list(more))
    text = {name.strip().lower(): table.column(name).to_pandas() for name in table.column_names}
    missing = pd.Series([None] * table.num_rows, dtype="object")
    return pd.DataFrame({name: _as_type(text.get(name, missing), dtype) for name, dtype in {**needed, **more}.items()})


# --- columns


def _times(dataset: Dataset, text: pd.Series, zone: str | None, zones: pd.Series) -> tuple[pd.Series, pd.Series | None]:
    """Return the day at the exchange of each row, and of minutes the moment they begin at.

    Args:
        dataset: rows of which kind.
        text: as written.
        zone: of moments without an offset; None where there are none.
        zones: of the exchange of each row.
    """
    if dataset is Dataset.DAILY_BARS:
        return _as_type(text, DAY), None
    has_offset = text.str.contains(HAS_OFFSET)
    moments = _as_type(text.where(has_offset), MOMENT)
    if zone is not None:
        local = pd.to_datetime(text.where(~has_offset), format="ISO8601", errors="coerce").astype("datetime64[us]")
        moments = moments.fillna(of_clock(local, zone))
    moments = possible(moments)
    days = pd.Series(pd.NaT, moments.index, dtype=DAY)
    for of_exchange in zones.unique():
        rows = zones == of_exchange
        days[rows] = moments[rows].dt.tz_convert(of_exchange).dt.tz_localize(None).dt.normalize()
    return days, moments


def _zones(symbols: pd.Series, listing: File | None) -> pd.Series:
    """Return the time zone of the exchange of each row's symbol."""
    exchanges = _exchanges(listing)
    return symbols.map({one: _zone(exchanges.get(one)) for one in symbols.unique()})


def _zone(exchange: str | None) -> str:
    if exchange is None:
        return NEW_YORK
    try:
        return str(calendar_of(exchange).tz)
    except ConfigError:
        # It is told where the exchange is entered or its sessions are looked for.
        return NEW_YORK


def _as_type(text: pd.Series, dtype: str) -> pd.Series:
    """Return a column of text as numbers, days, moments or text; what cannot be read is missing."""
    if dtype == TEXT:
        return text.where(text != "", None).astype("str")
    if dtype == NUMBER:
        return pd.to_numeric(text, errors="coerce").astype("float64")
    if dtype == MOMENT:
        return pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce").astype("datetime64[us, UTC]")
    return pd.to_datetime(text, format="%Y-%m-%d", errors="coerce").astype("datetime64[us]")


def _with_symbol(table: pa.Table, symbol: str) -> pa.Table:
    """Return rows with the symbol asked for, unless they say themselves whose they are."""
    if any(name.strip().lower() == "symbol" for name in table.column_names):
        return table
    return table.append_column("symbol", pa.array([symbol] * table.num_rows, pa.string()))


def _of(wanted: Sequence[str] | None, frame: pd.DataFrame) -> pd.DataFrame:
    return frame if wanted is None else frame[frame["symbol"].isin(list(wanted))].reset_index(drop=True)


def _today() -> pd.Timestamp:
    return pd.Timestamp(datetime.now(UTC).date())
