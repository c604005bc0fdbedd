"""Sessions without a bar, within what was asked for."""

from collections.abc import Sequence
from datetime import date

from sqlalchemy import Engine, text

from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.coverage import up_to
from tickstock_assets.providers.base import Dataset

WANTED = """
    WITH wanted AS (SELECT * FROM unnest(CAST(:symbols AS text[]), CAST(:starts AS date[]), CAST(:ends AS date[]))
                        AS w (symbol, first_day, last_day))
"""
# A listing late in the window is no gap, nor are days before a ticker's first bar or after its delisting.
STATEMENTS = {
    Dataset.DAILY_BARS: """
        -- Counting is cheap; days are looked at one by one for symbols that lack some.
        , incomplete AS MATERIALIZED (
            SELECT * FROM wanted w WHERE
                (SELECT count(*) FROM ohlcv_daily b WHERE b.symbol = w.symbol AND b.date BETWEEN w.first_day AND w.last_day)
                < (SELECT count(*) FROM sessions s JOIN symbols i ON i.symbol = w.symbol AND s.exchange = i.exchange
                   WHERE s.session BETWEEN w.first_day AND w.last_day AND s.kind <> 'closed_by_override'))
        SELECT w.symbol, s.session FROM incomplete w
        JOIN symbols i USING (symbol)
        JOIN sessions s ON s.exchange = i.exchange AND s.session BETWEEN w.first_day AND w.last_day
        WHERE s.kind <> 'closed_by_override' AND s.session >= coalesce(greatest(i.list_date, i.ticker_since), '-infinity')
          AND s.session <= coalesce(i.delisted_utc::date, 'infinity')
          AND NOT EXISTS (SELECT FROM ohlcv_daily b WHERE b.symbol = w.symbol AND b.date = s.session)
        ORDER BY w.symbol, s.session
    """,
    Dataset.MINUTE_BARS: """
        SELECT w.symbol, s.session FROM wanted w
        JOIN symbols i USING (symbol)
        JOIN sessions s ON s.exchange = i.exchange AND s.session BETWEEN w.first_day AND w.last_day
        WHERE s.kind <> 'closed_by_override' AND s.session >= coalesce(greatest(i.list_date, i.ticker_since), '-infinity')
          AND s.session <= coalesce(i.delisted_utc::date, 'infinity')
          AND (SELECT count(*) FROM ohlcv_1min b WHERE b.symbol = w.symbol AND b.timestamp >= s.open AND b.timestamp < s.close)
              < extract(epoch FROM s.close - s.open) / 60
        ORDER BY w.symbol, s.session
    """,
}


def missing_sessions(
    engine: Engine, dataset: Dataset, windows: Sequence[Window], horizon: date
) -> dict[str, list[date]]:
    """Return, by symbol, the sessions in `windows` that have no bar; of minutes, those that lack any minute.

    A minute without a trade has no bar, so with minutes this is what to look at and not what is wrong.
    """
    wanted = up_to(windows, horizon)
    found: dict[str, list[date]] = {}
    with engine.connect() as connection:
        rows = connection.execute(
            text(WANTED + STATEMENTS[dataset]),
            {
                "symbols": [window.symbol for window in wanted],
                "starts": [window.start for window in wanted],
                "ends": [window.end for window in wanted],
            },
        )
        for symbol, session in rows:
            found.setdefault(symbol, []).append(session)
    return found
