"""Stored bars examined: days and minutes of the periods asked for, each once, whatever is examined with them."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, text

from tests.storage import tiers
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.quality_findings import examine, periods
from tickstock_assets.storage import quality_findings
from tickstock_assets.storage.bulk import merge

SPAN = (date(2012, 5, 1), date(2012, 7, 31))
SPIKE = pd.Timestamp("2012-07-10 14:30", tz="UTC")


def minutes_of(symbol: str, seed: int) -> pd.DataFrame:
    """Return a walk of minutes, 90 a session, each stamped within regular hours, and ten after the close."""
    draw = np.random.default_rng(seed)
    sessions = trading_sessions("XNYS", *SPAN)
    frames = []
    for row in sessions.itertuples():
        stamps = [row.open + timedelta(minutes=n) for n in range(90)] + [
            row.close + timedelta(minutes=n) for n in range(10)
        ]
        frames.append(pd.DataFrame({"timestamp": stamps}))
    frame = pd.concat(frames, ignore_index=True)
    closes = 50 * np.exp(np.cumsum(draw.normal(0, 0.0005, len(frame))))
    opens = np.concatenate([[50.0], closes[:-1]])
    return frame.assign(
        symbol=symbol,
        open=opens,
        close=closes,
        high=np.maximum(opens, closes) * 1.0001,
        low=np.minimum(opens, closes) * 0.9999,
        volume=np.round(np.exp(draw.normal(8, 0.4, len(frame)))),
        source="polygon",
    )


@pytest.fixture
def market(database: Engine) -> Engine:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')"))
        merge(connection, "sessions", trading_sessions("XNYS", *SPAN))
        for seed, symbol in enumerate(("AAPL", "MSFT")):
            bars = minutes_of(symbol, seed)
            if symbol == "AAPL":
                spike = bars["timestamp"] == SPIKE
                assert spike.sum() == 1
                bars.loc[spike, ["close", "high"]] *= 1.03
            bars["timestamp"] = bars["timestamp"].astype("datetime64[us, UTC]")
            merge(connection, "ohlcv_1min", bars)
    return database


@pytest.mark.tiers(tiers.EMBEDDED)
def test_a_spike_of_a_minute_is_found_once_with_its_source_and_resolved_when_it_is_corrected(market: Engine) -> None:
    whole_year = [Window("AAPL", date(2012, 1, 1), date(2012, 12, 31))]
    assert examine(market, whole_year).inserted == 1
    with market.begin() as connection:
        [found] = quality_findings.stored(connection).to_dict("records")
        assert (found["symbol"], found["timeframe"], found["timestamp"], found["rule"], found["source"]) == (
            "AAPL", "1m", SPIKE, "price_spike", "polygon",
        )  # fmt: skip
        connection.execute(
            text(
                "UPDATE ohlcv_1min SET close = open, high = greatest(open, low) WHERE symbol = 'AAPL' AND timestamp = :at"
            ),
            {"at": SPIKE},
        )
    # The month alone, and with another symbol: the same.
    assert examine(market, [Window("MSFT", *SPAN)]).resolved == 0
    assert examine(market, [Window("AAPL", date(2012, 7, 1), date(2012, 7, 31))]).resolved == 1


def test_windows_become_years_of_days_and_months_of_minutes() -> None:
    windows = [Window("B", date(2011, 12, 1), date(2012, 1, 31)), Window("A", date(2012, 1, 1), date(2012, 1, 31))]
    found = [(one.timeframe, one.symbols, str(one.first), str(one.last)) for one in periods(windows)]
    assert found == [
        ("1d", ("B",), "2011-01-01", "2011-12-31"),
        ("1d", ("A", "B"), "2012-01-01", "2012-12-31"),
        ("1m", ("B",), "2011-12-01", "2011-12-31"),
        ("1m", ("A", "B"), "2012-01-01", "2012-01-31"),
    ]
