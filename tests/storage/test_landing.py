"""The landing folder and the ledger: durable, content-addressed, never overwritten."""

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import Engine, text

from tickstock_assets.domain.errors import LandingError
from tickstock_assets.domain.windows import WHOLE_MARKET, Window
from tickstock_assets.storage import landing, ledger
from tickstock_assets.storage.ledger import Fetched, Source

WINDOW = Window("AAPL", date(2024, 1, 1), date(2024, 12, 31))
PAYLOAD = pa.table({"Date": ["2024-01-02", ""], "Close": ["185.64", "not a number"]})
NOW = datetime(2024, 1, 3, tzinfo=UTC)


def test_what_is_landed_is_read_back_as_it_was(tmp_path: Path) -> None:
    file = landing.land(tmp_path, "sample", "daily_bars", WINDOW, PAYLOAD)
    assert landing.read(tmp_path, file.path, file.sha256).equals(PAYLOAD)
    assert file.rows == 2


def test_landing_the_same_payload_again_is_the_same_file_untouched(tmp_path: Path) -> None:
    first = landing.land(tmp_path, "sample", "daily_bars", WINDOW, PAYLOAD)
    written = (tmp_path / first.path).stat().st_mtime_ns
    assert landing.land(tmp_path, "sample", "daily_bars", WINDOW, PAYLOAD) == first
    assert (tmp_path / first.path).stat().st_mtime_ns == written


def test_another_payload_of_the_same_window_is_another_file(tmp_path: Path) -> None:
    first = landing.land(tmp_path, "sample", "daily_bars", WINDOW, PAYLOAD)
    second = landing.land(tmp_path, "sample", "daily_bars", WINDOW, PAYLOAD.slice(1))
    assert {path.name for path in tmp_path.rglob("*.parquet")} == {Path(first.path).name, Path(second.path).name}


def test_only_whole_files_are_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        landing.land(tmp_path, "sample", "daily_bars", WINDOW, PAYLOAD)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_symbol_with_a_slash_or_a_colon_stays_inside_the_folder(tmp_path: Path) -> None:
    window = Window("X:BTC/USD", WINDOW.start, WINDOW.end)
    file = landing.land(tmp_path, "sample", "daily_bars", window, PAYLOAD)
    assert file.path.split("/")[:3] == ["sample", "daily_bars", "X%3ABTC%2FUSD"]


def test_a_file_that_was_changed_is_one_sentence(tmp_path: Path) -> None:
    file = landing.land(tmp_path, "sample", "daily_bars", WINDOW, PAYLOAD)
    with (tmp_path / file.path).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(LandingError, match=f"expected sha256 {file.sha256}, found"):
        landing.read(tmp_path, file.path, file.sha256)


def test_a_file_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LandingError, match="found no file; restore it from a backup"):
        landing.read(tmp_path, "nowhere.parquet", "0")


def test_the_ledger_gives_back_what_is_landed_at_this_version_only(database: Engine, tmp_path: Path) -> None:
    file = landing.land(tmp_path, "sample", "daily_bars", WINDOW, PAYLOAD)
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL')"))
        ledger.record_landed(connection, Source("sample", "daily_bars", "v1"), WINDOW, file, Fetched(NOW))
        (entry,) = ledger.landed(connection, Source("sample", "daily_bars", "v1"), ["AAPL"])
        assert (entry.window, entry.file, entry.route, entry.etag) == (WINDOW, file, "by_symbol", None)
        assert NOW < entry.landed_at <= datetime.now(UTC)
        assert ledger.landed(connection, Source("sample", "daily_bars", "v2"), ["AAPL"]) == []
        assert ledger.landed(connection, Source("sample", "daily_bars", "v1"), ["MSFT"]) == []


def test_a_window_that_failed_keeps_its_reason_and_counts_its_attempts(database: Engine, tmp_path: Path) -> None:
    source = Source("sample", "daily_bars", "v1")
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL')"))
        ledger.record_failed(connection, source, WINDOW, "rate limit", Fetched(NOW))
        assert ledger.landed(connection, source, ["AAPL"]) == []
        file = landing.land(tmp_path, "sample", "daily_bars", WINDOW, PAYLOAD)
        ledger.record_landed(connection, source, WINDOW, file, Fetched(NOW))
        rows = connection.execute(text("SELECT status, attempts, error, rows FROM load_ledger")).all()
    assert rows == [("landed", 2, None, 2)]


def test_an_answer_for_the_whole_market_is_found_for_every_symbol(database: Engine, tmp_path: Path) -> None:
    source, day = Source("polygon", "daily_bars", "1"), Window(WHOLE_MARKET, date(2024, 7, 5), date(2024, 7, 7))
    file = landing.land(tmp_path, "polygon", "daily_bars", day, PAYLOAD)
    assert (tmp_path / file.path).exists()
    with database.begin() as connection:
        ledger.record_landed(connection, source, day, file, Fetched(NOW, "flat_files", '"abc"', calls=3))
        (entry,) = ledger.landed(connection, source, ["AAPL"])
        assert connection.execute(text("SELECT symbol, calls FROM load_ledger")).all() == [(None, 3)]
    assert (entry.window, entry.route, entry.etag) == (day, "flat_files", '"abc"')


def test_what_is_stored_is_entered_once_and_again_only_for_what_was_landed_since(database: Engine) -> None:
    source = Source("sample", "daily_bars", "v1")
    year, july = WINDOW, Window("AAPL", date(2024, 7, 1), date(2024, 7, 31))
    later = datetime(2024, 2, 1, tzinfo=UTC)
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL')"))
        ledger.mark_stored(connection, source, {NOW: [year]})
        ledger.mark_stored(connection, source, {NOW: [july]})
        assert ledger.stored(connection, source, ["AAPL"]) == [(year, NOW)]
        ledger.mark_stored(connection, source, {later: [july]})
        assert set(ledger.stored(connection, source, ["AAPL"])) == {(year, NOW), (july, later)}
        assert ledger.stored(connection, source, ["AAPL"], first=date(2024, 8, 1)) == [(year, NOW)]
        assert ledger.stored(connection, source, ["AAPL"], last=date(2023, 12, 31)) == []
        assert ledger.stored(connection, Source("sample", "daily_bars", "v2"), ["AAPL"]) == []
