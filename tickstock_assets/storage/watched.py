"""Which symbols are kept up to date: the active ones that somebody has asked for, of which bars, and how far these go."""

from collections.abc import Iterable, Mapping
from datetime import date
from types import MappingProxyType

from sqlalchemy import Connection, text

from tickstock_assets.domain.timeframes import Timeframe

# Daily bars of all of them; minutes of those whose minutes somebody has loaded.
WATCHED: Mapping[Timeframe, str] = MappingProxyType(
    {
        "1d": "SELECT symbol, exchange FROM symbols WHERE active IS NOT FALSE",
        "1m": """
            SELECT symbol, exchange FROM symbols i WHERE active IS NOT FALSE
              AND EXISTS (SELECT FROM stored_windows w WHERE w.symbol = i.symbol AND w.dataset = 'minute_bars')
        """,
    }
)
DATASETS: Mapping[Timeframe, str] = MappingProxyType({"1d": "daily_bars", "1m": "minute_bars"})


def watched_symbols(connection: Connection, timeframe: Timeframe) -> dict[str, str]:
    """Return the calendar code of the exchange of each symbol whose bars of 1d or 1m are kept up to date."""
    return {row.symbol: row.exchange for row in connection.execute(text(WATCHED[timeframe]))}


def stored_until(connection: Connection, timeframe: Timeframe, symbols: Iterable[str]) -> dict[str, date]:
    """Return the last day up to which bars of each symbol are stored, whoever sent them; symbols without any are left out."""
    rows = connection.execute(
        text("""
            SELECT symbol, max(window_end) AS last FROM stored_windows
            WHERE dataset = :dataset AND symbol = ANY (:symbols) GROUP BY symbol
        """),
        {"dataset": DATASETS[timeframe], "symbols": list(symbols)},
    )
    return {row.symbol: row.last for row in rows}
