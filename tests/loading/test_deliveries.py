"""What of landed payloads goes on to their table: the newest answer for each day, and whatever was landed since."""

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import Engine, text

from tests.storage import tiers
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.lineup import Lineup, source_of
from tickstock_assets.loading.storing import store
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.csv_folder import CsvFolder
from tickstock_assets.storage import landing, ledger
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.ledger import Fetched

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
