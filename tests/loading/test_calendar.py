"""Sessions of all exchanges that symbols have; what is not known of one of them holds up no other."""

import logging
from datetime import date

import exchange_calendars
import pandas as pd
import pytest
from sqlalchemy import Engine, text

from tickstock_assets.domain.quality import violations
from tickstock_assets.domain.schemas import SYMBOLS
from tickstock_assets.loading.calendar import know_sessions, renew_sessions, session_days

pytestmark = pytest.mark.tiers("embedded")

FIRST, LAST = date(2019, 12, 1), date(2040, 1, 31)


@pytest.fixture
def exchanges(database: Engine) -> Engine:
    # The holidays of Shanghai are known for the near future only, those of Riyadh from 2021 on; XNYZ is a typing mistake.
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO symbols (symbol, exchange)
                VALUES ('AAPL', 'XNYS'), ('600519', 'XSHG'), ('2222', 'XSAU'), ('TYPO', 'XNYZ'), ('TEVA', 'XTAE')
            """)
        )
    return database


def spans(engine: Engine) -> dict[str, tuple[int, int]]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT exchange, min(session) AS first, max(session) AS last FROM sessions GROUP BY 1")
        )
        return {row.exchange: (row.first.year, row.last.year) for row in rows}


def test_each_exchange_has_its_sessions_as_far_as_they_are_known(
    exchanges: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    last_known = exchange_calendars.get_calendar("XSHG").bound_max()
    assert last_known is not None
    known = {"XNYS": (2019, 2040), "XSHG": (2019, last_known.year)}
    with caplog.at_level(logging.WARNING), exchanges.begin() as connection:
        assert know_sessions(connection, FIRST, LAST).inserted
        assert know_sessions(connection, FIRST, LAST).written == 0
    assert {exchange: span for exchange, span in spans(exchanges).items() if exchange in known} == known
    assert spans(exchanges)["XSAU"][0] == 2021
    assert spans(exchanges).keys() == {"XNYS", "XSHG", "XSAU"}
    assert "the symbols of XNYZ have no sessions: Exchange 'XNYZ': expected an ISO 10383 code" in caplog.text
    assert "the symbols of XTAE have no sessions: Exchange 'XTAE': expected a calendar" in caplog.text
    assert "XSHG has no sessions in [" in caplog.text

    before = spans(exchanges)
    with exchanges.begin() as connection:
        renew_sessions(connection, FIRST, LAST)
        assert session_days(connection, date(2040, 1, 1), LAST, ["600519", "TYPO"]) == []
        of_new_york = session_days(connection, date(2040, 1, 1), LAST, ["AAPL", "600519", "TYPO"])
    assert spans(exchanges) == before
    assert of_new_york == [
        day.date() for day in exchange_calendars.get_calendar("XNYS", start="2040-01-01", end="2040-01-31").sessions
    ]


def test_an_instrument_of_an_exchange_without_a_calendar_is_set_aside() -> None:
    listed = pd.DataFrame(
        {"symbol": ["AAPL", "TYPO", "BTC"], "exchange": ["XNYS", "XNYZ", "24/7"], "list_date": pd.NaT}
    ).astype({"symbol": "str", "exchange": "str", "list_date": "datetime64[us]"})
    found = violations(listed, SYMBOLS)
    assert found[["symbol", "rule", "reason"]].to_numpy().tolist() == [
        ["TYPO", "unknown_exchange", "exchange 'XNYZ' has no calendar; XNYS is one that has, or 24/7"]
    ]
