"""`tickstock rollups run` and `verify`, and `tickstock remove`, as a person runs them."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import psycopg
import pytest
from sqlalchemy import Connection, Engine

from tests.cli.test_db_tiers import on, refused, said
from tests.defs.simulated import forget_settings
from tests.storage import tiers as servers
from tests.storage.test_tiers import change, rows
from tickstock_assets.cli import rollups as cli_rollups
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.storage import daily_rollups
from tickstock_assets.storage import rollups as stored_rollups
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.daily_rollups import DailyOutcome

OPEN = datetime(2012, 3, 12, 13, 30, tzinfo=UTC)


def add_half_an_hour(engine: Engine, *symbols: str) -> None:
    prices = dict.fromkeys(["open", "high", "low", "close"], 10.0)
    minutes = pd.DataFrame({"timestamp": pd.date_range(OPEN, periods=30, freq="min").as_unit("us"), **prices})
    with engine.begin() as connection:
        merge(connection, "symbols", pd.DataFrame({"symbol": ["AAPL", "MSFT"]}))
        merge(connection, "sessions", trading_sessions("XNYS", date(2012, 1, 1), date(2012, 12, 31)))
        for symbol in symbols or ("AAPL",):
            merge(connection, "ohlcv_1min", minutes.assign(symbol=symbol, volume=100.0, source="polygon"))


@pytest.mark.tiers(servers.EMBEDDED)
def test_what_is_stale_is_made_anew_and_compared(database: Engine, tmp_path: Path) -> None:
    add_half_an_hour(database)
    assert "0 hours made anew" in said(on(database, "rollups", "run", "--symbols", "MSFT", home=tmp_path))
    text = said(on(database, "rollups", "run", "--start", "2012-03-12", "--end", "2012-03-12", home=tmp_path))
    assert "1 hours made anew" in text
    assert "5m: 6 written, 0 unchanged, 0 removed" in text
    assert "1d: 1 written, 0 unchanged, 0 removed" in text
    assert said(on(database, "rollups", "verify", home=tmp_path)) == "Every rolled-up value is what its minutes say.\n"
    change(database, "UPDATE ohlcv_1h SET volume = 7")
    result = on(database, "rollups", "verify", "--touched", home=tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    assert "1 values differ, 1 shown" in result.stdout
    result = on(database, "rollups", "verify", "--json", home=tmp_path)
    assert result.returncode == 1
    (difference,) = json.loads(result.stdout)
    assert (difference["timeframe"], difference["column"]) == ("1h", "volume")
    assert (float(difference["expected"]), float(difference["found"])) == (3000.0, 7.0)
    message = refused(on(database, "rollups", "run", "--symbols", "AAPL,XYZ", home=tmp_path))
    assert "--symbols: expected known symbols, found XYZ" in message


def told(database: Engine) -> list[str]:
    """Return the partitions of daily bars that Dagster was told of, each time."""
    own = database.url.set(drivername="postgresql", database=f"dagster_{database.url.database}")
    with psycopg.connect(own.render_as_string(hide_password=False)) as connection:
        found = connection.execute(
            "SELECT partition FROM event_logs WHERE asset_key = %s ORDER BY id", ['["ohlcv_daily"]']
        )
        return [partition for (partition,) in found]


@pytest.mark.tiers(servers.EMBEDDED)
def test_days_that_the_command_makes_or_takes_away_are_told_to_dagster(database: Engine, tmp_path: Path) -> None:
    add_half_an_hour(database)
    said(on(database, "rollups", "run", home=tmp_path))
    assert told(database) == ["AAPL|2012"]
    said(on(database, "rollups", "run", home=tmp_path))
    assert len(told(database)) == 1
    hours = ("--open", "09:45", "--reason", "a late open")
    said(on(database, "sessions", "shorten", "XNYS", "2012-03-12", *hours, home=tmp_path))
    assert len(told(database)) == 2
    stretch = ("AAPL", "--start", "2012-03-12T13:30", "--end", "2012-03-12T14:30")
    said(on(database, "remove", *stretch, "--reason", "test prints", "--yes", home=tmp_path))
    said(on(database, "rollups", "run", home=tmp_path))
    assert rows(database, "SELECT count(*) FROM ohlcv_daily") == [(0,)]
    assert told(database) == ["AAPL|2012"] * 3


@pytest.mark.tiers(servers.EMBEDDED)
def test_days_that_are_made_before_ctrl_c_are_told_to_dagster(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_half_an_hour(database, "AAPL", "MSFT")
    server = database.url.set(drivername="postgresql")
    variables = {
        "TICKSTOCK_HOME": str(tmp_path),
        "TICKSTOCK_DATABASE_URL": server.render_as_string(hide_password=False),
        "TICKSTOCK_DAGSTER_DATABASE": f"dagster_{server.database}",
        # Dagster's are set by `open_instance`, and so are put back afterwards.
        "DAGSTER_HOME": str(tmp_path),
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    forget_settings()
    work = daily_rollups.recompute

    def press_it(connection: Connection, hours: pd.DataFrame, kept_from: datetime | None) -> DailyOutcome:
        if "MSFT" in set(hours["symbol"]):
            raise KeyboardInterrupt
        return work(connection, hours, kept_from)

    monkeypatch.setattr(cli_rollups, "engine", lambda: database)
    monkeypatch.setattr(stored_rollups, "HOURS_TOGETHER", 1)
    monkeypatch.setattr(daily_rollups, "recompute", press_it)
    try:
        with pytest.raises(KeyboardInterrupt):
            cli_rollups.run()
    finally:
        forget_settings()
    assert rows(database, "SELECT symbol FROM ohlcv_daily") == [("AAPL",)]
    assert told(database) == ["AAPL|2012"]


@pytest.mark.tiers(servers.EMBEDDED)
def test_wrong_minutes_are_removed_with_a_reason_and_only_when_asked_twice(database: Engine, tmp_path: Path) -> None:
    add_half_an_hour(database)
    stretch = ("AAPL", "--start", "2012-03-12T13:30", "--end", "2012-03-12T13:40")
    text = said(on(database, "remove", *stretch, "--reason", "test prints", home=tmp_path))
    assert "To remove: 10 minutes of AAPL from 2012-03-12 13:30 to 2012-03-12 13:39 UTC." in text
    assert rows(database, "SELECT count(*) FROM ohlcv_1min") == [(30,)]
    assert "--reason: expected why" in refused(
        on(database, "remove", *stretch, "--reason", " ", "--yes", home=tmp_path)
    )
    text = said(on(database, "remove", *stretch, "--reason", "test prints", "--by", "ada", "--yes", home=tmp_path))
    assert "Removed 10 minutes of AAPL." in text
    assert rows(database, "SELECT count(*) FROM ohlcv_1min") == [(20,)]
    assert rows(
        database, "SELECT actor, metadata ->> 'reason' FROM audit_trail WHERE event_type = 'removal'"
    ) == [("ada", "test prints")]  # fmt: skip
    text = said(on(database, "remove", *stretch, "--reason", "test prints", "--yes", home=tmp_path))
    assert text == "AAPL: there are no minutes from 2012-03-12 13:30 to 2012-03-12 13:40 UTC.\n"
    message = refused(on(database, "remove", "APPL", *stretch[1:], "--reason", "test prints", home=tmp_path))
    assert "APPL: expected a known symbol, found none of that name" in message
