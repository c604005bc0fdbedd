"""Sessions without a bar, within what was asked for.

Elsewhere: why they have none (domain/gaps, gap_finding.py).
"""

from collections.abc import Sequence
from datetime import date

from sqlalchemy import Engine, text

from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.coverage import up_to
from tickstock_assets.providers.base import Dataset

# A listing late in the window is no gap, nor are days before a ticker's first bar or after its delisting.
EXPECTED = """
    WITH expected AS (
        SELECT w.symbol, s.session, s.open, s.close
        FROM unnest(CAST(:symbols AS text[]), CAST(:starts AS date[]), CAST(:ends AS date[])) AS w (symbol, first_day, last_day)
        JOIN symbols i USING (symbol)
        JOIN sessions s ON s.exchange = i.exchange AND s.kind <> 'closed_by_override'
            AND s.session >= greatest(w.first_day, i.list_date, i.ticker_since)
            AND s.session <= least(w.last_day, (i.delisted_utc AT TIME ZONE 'UTC')::date))
    SELECT e.symbol, e.session FROM expected e
"""
LACKING = {
    Dataset.DAILY_BARS: "NOT EXISTS (SELECT FROM ohlcv_daily b WHERE b.symbol = e.symbol AND b.date = e.session)",
    Dataset.MINUTE_BARS: """
        (SELECT count(*) FROM ohlcv_1min b WHERE b.symbol = e.symbol AND b.timestamp >= e.open AND b.timestamp < e.close)
        < extract(epoch FROM e.close - e.open) / 60
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
            text(f"{EXPECTED} WHERE {LACKING[dataset]} ORDER BY e.symbol, e.session"),
            {
                "symbols": [window.symbol for window in wanted],
                "starts": [window.start for window in wanted],
                "ends": [window.end for window in wanted],
            },
        )
        for symbol, session in rows:
            found.setdefault(symbol, []).append(session)
    return found
