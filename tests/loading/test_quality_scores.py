"""Scores that follow what became known of the gaps after they were made."""

from datetime import date, datetime

import pytest
from sqlalchemy import Engine, text

from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.quality_scores import score, score_gaps
from tickstock_assets.providers.sample import SampleProvider
from tickstock_assets.storage import data_gaps
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.database import server_time

pytestmark = pytest.mark.tiers("embedded")

NEWEST = """
    SELECT DISTINCT ON (symbol, session) symbol, session::text, round(score, 2)::float8 FROM quality_scores
    WHERE timeframe = '1m' ORDER BY symbol, session, created_at DESC
"""


def test_a_session_whose_missing_minutes_turn_out_to_be_without_a_trade_is_scored_anew(database: Engine) -> None:
    lineup = Lineup([SampleProvider()])
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('QUIET'), ('OTHER')"))
        merge(connection, "sessions", trading_sessions("XNYS", date(2012, 1, 1), date(2012, 12, 31)))
        # Of 390 minutes the first 150, on two days.
        connection.execute(
            text("""
                INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source)
                SELECT symbol, day + n * interval '1 minute', 5, 5, 5, 5, 10, 'synthetic'
                FROM unnest('{QUIET,OTHER}'::text[]) AS symbol, generate_series(0, 149) AS n,
                     unnest('{2012-05-15 13:30Z,2012-05-16 13:30Z}'::timestamptz[]) AS day
            """)
        )
        score(
            connection, lineup, [Window(symbol, date(2012, 5, 1), date(2012, 5, 31)) for symbol in ("QUIET", "OTHER")]
        )

    def newest() -> dict[tuple[str, str], float]:
        with database.connect() as connection:
            return {(symbol, day): value for symbol, day, value in connection.execute(text(NEWEST)) if value}

    def now() -> datetime:
        with database.connect() as connection:
            return server_time(connection)

    share = round(100 * 150 / 390, 2)
    days = [(symbol, f"2012-05-{day}") for symbol in ("OTHER", "QUIET") for day in (15, 16)]
    assert newest() == dict.fromkeys(days, share)
    began = now()
    assert score_gaps(database, lineup, began) == 0
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO data_gaps (id, symbol, timeframe, gap_start, gap_end, missing_bars, class, evidence)
                VALUES (gen_random_uuid(), 'QUIET', '1m', '2012-05-15 16:00Z', '2012-05-15 19:59Z', 240, 'no_trade', '{}'),
                       (gen_random_uuid(), 'OTHER', '1m', '2012-05-15 16:00Z', '2012-05-15 19:59Z', 240, 'provider_hole', '{}')
            """)
        )
    assert score_gaps(database, lineup, began) >= 1
    assert newest() == dict.fromkeys(days, share) | {("QUIET", "2012-05-15"): 100}
    assert score_gaps(database, lineup, now()) == 0


def test_what_the_calendar_explains_scores_no_year_anew_unless_it_was_a_hole_before(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('NEW'), ('OLD')"))
        connection.execute(
            text("""
                INSERT INTO data_gaps (id, symbol, timeframe, gap_start, gap_end, missing_bars, class, evidence)
                VALUES (gen_random_uuid(), 'OLD', '1m', '2012-07-03 17:00Z', '2012-07-03 19:59Z', 180, 'provider_hole', '{}')
            """)
        )
    with database.begin() as connection:
        began = server_time(connection)
        connection.execute(
            text("""
                INSERT INTO data_gaps (id, symbol, timeframe, gap_start, gap_end, missing_bars, class, evidence)
                VALUES (gen_random_uuid(), 'NEW', '1d', '2012-07-04 13:30Z', '2012-07-04 13:30Z', 1, 'holiday', '{}')
            """)
        )
        assert data_gaps.years_changed_since(connection, began) == []
        connection.execute(text("UPDATE data_gaps SET class = 'half_day' WHERE symbol = 'OLD'"))
        assert data_gaps.years_changed_since(connection, began) == [("OLD", 2012)]
