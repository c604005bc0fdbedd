"""What of landed payloads goes on to their table: the newest answer for each day, and whatever was landed since."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from tests.storage import tiers
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import WHOLE_MARKET, Window, not_covered
from tickstock_assets.loading.coverage import of_each_symbol, windows_of_symbols
from tickstock_assets.loading.deliveries import served
from tickstock_assets.loading.lineup import Lineup, source_of
from tickstock_assets.loading.storing import store
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.csv_folder import CsvFolder
from tickstock_assets.storage import landing, ledger
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.landing import LandedFile
from tickstock_assets.storage.ledger import Entry, Fetched

WEDNESDAY = date(2024, 7, 3)


def hour(number: int) -> datetime:
    return datetime(2024, 7, 5, number, tzinfo=UTC)


class Landed:
    """Daily bars of Wednesday, landed one by one as of a moment."""

    def __init__(self, engine: Engine, home: Path) -> None:
        (home / "bars").mkdir()
        for symbol in "AB":
            (home / "bars" / f"{symbol}.csv").write_text("date,open,high,low,close,volume\n2024-07-03,1,9,1,1,10\n")
        self.provider = CsvFolder(home / "bars")
        self.engine, self.folder = engine, home / "landing"
        self.windows = [Window(symbol, WEDNESDAY, WEDNESDAY) for symbol in "AB"]
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO symbols (symbol) VALUES ('A'), ('B')"))
            merge(connection, "sessions", trading_sessions("XNYS", date(2024, 1, 1), date(2024, 12, 31)))

    def land(self, symbol: str, close: int, at: datetime) -> None:
        row = {"date": "2024-07-03", "open": "1", "high": "9", "low": "1", "close": str(close), "volume": "10"}
        payload = pa.Table.from_pylist([row | {"symbol": symbol}])
        source, window = source_of(self.provider), Window(symbol, WEDNESDAY, WEDNESDAY)
        file = landing.land(self.folder, source.provider, source.dataset, window, payload)
        with self.engine.begin() as connection:
            ledger.record_landed(connection, source, window, file, Fetched(at))
            connection.execute(
                text("UPDATE load_ledger SET finished_at = :at WHERE symbol = :symbol"), {"at": at, "symbol": symbol}
            )

    def store(self) -> int:
        """Bring what is new to its table, and return how many rows that were."""
        return store(
            Lineup([self.provider]), self.engine, self.folder, self.windows, Dataset.DAILY_BARS, new=True
        ).rows_in

    def closes(self) -> dict[str, float]:
        with self.engine.connect() as connection:
            return {
                row.symbol: float(row.close)
                for row in connection.execute(text("SELECT symbol, close FROM ohlcv_daily"))
            }


@pytest.mark.tiers(tiers.EMBEDDED)
def test_a_correction_landed_between_payloads_that_were_stored_together_is_stored(
    database: Engine, tmp_path: Path
) -> None:
    landed = Landed(database, tmp_path)
    landed.land("A", close=2, at=hour(1))
    landed.land("B", close=3, at=hour(5))
    assert landed.store() == 2
    # Another load landed it, and it was not to be seen yet when those two were stored.
    landed.land("A", close=4, at=hour(3))
    assert landed.store() == 1
    assert landed.closes() == {"A": 4, "B": 3}
    assert landed.store() == 0


# --- which days an entry serves, against looking at every window and every day


def spans(*symbols: str) -> st.SearchStrategy[Window]:
    """Return windows of up to two weeks within two months."""
    first = date(2024, 1, 1)
    return st.builds(
        lambda symbol, start, length: Window(symbol, first + timedelta(start), first + timedelta(start + length)),
        st.sampled_from(symbols),
        st.integers(0, 45),
        st.integers(0, 14),
    )


def entry(window: Window, number: int = 0) -> Entry:
    return Entry(str(number), window, LandedFile("", "", 0), hour(1))


def days(windows: Sequence[Window]) -> set[tuple[str, date]]:
    return {
        (one.symbol, one.start + timedelta(number))
        for one in windows
        for number in range((one.end - one.start).days + 1)
    }


def looked_at_one_by_one(entries: Sequence[Entry], windows: Sequence[Window]) -> list[tuple[str, list[Window]]]:
    """Return what `served` does, by the identity of the entry, from all that remains for every entry and symbol."""
    remaining = windows_of_symbols(windows)
    parts: list[tuple[str, list[Window]]] = []
    for one in reversed(entries):
        of_entry: list[Window] = []
        for symbol in list(remaining) if one.window.symbol == WHOLE_MARKET else [one.window.symbol]:
            wanted = remaining.get(symbol, [])
            remaining[symbol] = not_covered(wanted, [replace(one.window, symbol=symbol)])
            of_entry += not_covered(wanted, remaining[symbol])
        if of_entry:
            parts.append((one.id, of_entry))
    return parts


@given(st.lists(spans("A", "B", "C", WHOLE_MARKET), max_size=10), st.lists(spans("A", "B"), max_size=5))
def test_each_day_is_served_by_the_newest_entry_that_has_it(landed: list[Window], wanted: list[Window]) -> None:
    entries = [entry(window, number) for number, window in enumerate(landed)]
    found = [(one.id, sorted(windows)) for one, windows in served(entries, wanted)]
    assert found == [(number, sorted(windows)) for number, windows in looked_at_one_by_one(entries, wanted)]


def test_once_all_days_are_served_older_entries_are_not_looked_at() -> None:
    newest, *older = (entry(Window(WHOLE_MARKET, WEDNESDAY, WEDNESDAY), number) for number in range(100))
    looked_at: list[Entry] = []

    class Watched(list[Entry]):
        def __reversed__(self) -> Iterator[Entry]:
            for one in super().__reversed__():
                looked_at.append(one)
                yield one

    wanted = [Window(symbol, WEDNESDAY, WEDNESDAY) for symbol in "AB"]
    assert served(Watched([*older, newest]), wanted) == [(newest, wanted)]
    assert looked_at == [newest]


@given(st.lists(spans("A", "B", WHOLE_MARKET), max_size=10), st.lists(spans("A", "B"), max_size=5))
def test_a_day_of_the_whole_market_is_landed_for_each_symbol(landed: list[Window], wanted: list[Window]) -> None:
    symbols = {window.symbol for window in wanted}
    one_by_one = [
        replace(window, symbol=symbol)
        for window in landed
        for symbol in (symbols if window.symbol == WHOLE_MARKET else [window.symbol])
    ]
    found = days(of_each_symbol(landed, wanted))
    assert found & days(wanted) == days(one_by_one) & days(wanted)
    assert found <= days(one_by_one)


def test_many_days_of_the_whole_market_are_one_window_of_each_symbol_that_is_wanted() -> None:
    first = date(2024, 1, 1)
    nights = [first + timedelta(number) for number in range(100)]
    year = [Window(symbol, first, date(2024, 12, 31)) for symbol in "AB"]
    assert of_each_symbol([Window(WHOLE_MARKET, night, night) for night in nights], year) == [
        Window(symbol, first, nights[-1]) for symbol in "AB"
    ]
    # Of days that are not wanted, none.
    assert (
        of_each_symbol([Window(WHOLE_MARKET, night, night) for night in nights], [Window("A", WEDNESDAY, WEDNESDAY)])
        == []
    )
