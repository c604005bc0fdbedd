"""Minutes of a folder whose symbols trade on exchanges of other zones: each is of the day that its own exchange had."""

from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.storage import tiers
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.load import Loader, Order, Outcome
from tickstock_assets.loading.reference import store_symbols
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.csv_folder import CsvFolder

pytestmark = pytest.mark.tiers(tiers.EMBEDDED)

FIRST, LAST = date(2024, 7, 2), date(2024, 7, 3)
MINUTES = {
    # All hours of two days of UTC; the first four of each are of the day before in New York.
    "BTC": [f"2024-07-0{day}T{hour:02}:00:00Z" for day in (2, 3) for hour in range(24)],
    # Tokyo trades from 9:00 to 15:00; in New York that is the evening before.
    "TOKYO": ["2024-07-03T09:00:00+09:00", "2024-07-03T14:59:00+09:00"],
    # 19:59 in New York is the day after in UTC and in Tokyo.
    "US": ["2024-07-02T09:30:00-04:00", "2024-07-02T19:59:00-04:00"],
}


def write(folder: Path, symbols: str) -> None:
    (folder / "minute").mkdir(parents=True, exist_ok=True)
    (folder / "symbols.csv").write_text(symbols)
    for symbol, stamps in MINUTES.items():
        rows = "".join(f"{stamp},1,2,1,2,10\n" for stamp in stamps)
        (folder / "minute" / f"{symbol}.csv").write_text("timestamp,open,high,low,close,volume\n" + rows)


def load(engine: Engine, home: Path) -> Outcome:
    order = Order(list(MINUTES), FIRST, LAST, Dataset.MINUTE_BARS, actions=False)
    return Loader(Lineup([CsvFolder(home / "bars")]), engine, home / "landing").load(order)


def stored(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT symbol, count(*) AS minutes FROM ohlcv_1min GROUP BY symbol"))
        return {row.symbol: row.minutes for row in found}


def rejected(engine: Engine) -> int:
    query = "SELECT count(*) FROM quarantined_bars WHERE superseded_at IS NULL"
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def test_minutes_of_every_exchange_are_stored(database: Engine, tmp_path: Path) -> None:
    write(tmp_path / "bars", "symbol,exchange\nBTC,24/7\nTOKYO,XTKS\n")
    assert load(database, tmp_path).problems == []
    assert stored(database) == {symbol: len(stamps) for symbol, stamps in MINUTES.items()}
    assert rejected(database) == 0


def test_minutes_are_filed_anew_when_the_folder_gives_a_symbol_another_exchange(
    database: Engine, tmp_path: Path
) -> None:
    write(tmp_path / "bars", "symbol,exchange\nTOKYO,XTKS\n")
    load(database, tmp_path)
    # In New York 16 hours, and before a holiday 13; the others are of no day's hours.
    assert stored(database)["BTC"] == 29
    write(tmp_path / "bars", "symbol,exchange\nBTC,24/7\nTOKYO,XTKS\n")
    with database.begin() as connection:
        provider = CsvFolder(tmp_path / "bars")
        store_symbols(connection, provider, provider.symbols())
    assert load(database, tmp_path).problems == []
    assert stored(database) == {symbol: len(stamps) for symbol, stamps in MINUTES.items()}
    assert rejected(database) == 0
