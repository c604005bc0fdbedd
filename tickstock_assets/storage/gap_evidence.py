"""What gaps are told by, read set by set: what is stored, what the official bars say, what the market did meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import bars

# A window is stamped with when its payload was landed, and stored some time after that.
STORED_LATER = timedelta(days=1)
DATASETS = {"1m": "minute_bars", "1d": "daily_bars"}
# A bar that was rolled up from the minutes says nothing about what they lack.
NOT_ROLLED_UP = "source NOT LIKE 'rollup:%'"


@dataclass(frozen=True)
class Life:
    """Of a symbol: its exchange, and the first and the last day on which it can have bars; no last day while it trades."""

    exchange: str
    first: date
    last: date | None


@dataclass(frozen=True)
class MinuteSpan:
    """Minutes of some symbols of an exchange from a moment to before another."""

    exchange: str
    symbols: Sequence[str]
    begins: datetime
    ends: datetime


def lives(connection: Connection, timeframe: Timeframe, symbols: Sequence[str]) -> dict[str, Life]:
    """Return the lives of symbols; one that nothing is stored of, and whose listing is not known, has none."""
    first_bar = (
        # A session's date, or the day before it: a day too early is a session without a bar before the first, which
        # is asked for only if it was asked of the provider.
        "SELECT timestamp::date FROM ohlcv_1min b WHERE b.symbol = i.symbol ORDER BY timestamp LIMIT 1"
        if timeframe == "1m"
        else "SELECT date FROM ohlcv_daily b WHERE b.symbol = i.symbol ORDER BY date LIMIT 1"
    )
    listing = "NULL" if timeframe == "1m" else "list_date"
    rows = connection.execute(
        text(f"""
            SELECT * FROM (
                SELECT i.symbol, i.exchange, (i.delisted_utc AT TIME ZONE 'UTC')::date AS last,
                       greatest(i.ticker_since, coalesce({listing}, ({first_bar}))) AS first
                FROM symbols i WHERE i.symbol = ANY (CAST(:symbols AS text[]))) AS lives
            WHERE first IS NOT NULL
        """),  # noqa: S608 constants
        {"symbols": list(symbols)},
    )
    return {row.symbol: Life(row.exchange, row.first, row.last) for row in rows}


def changed_windows(connection: Connection, timeframe: Timeframe, since: datetime | None) -> list[Window]:
    """Return the days of symbols of which something was stored after a moment, and the days whose sessions changed.

    What has not been published yet is among them each time.
    """
    rows = connection.execute(
        text("""
            SELECT symbol::text, window_start AS first, window_end AS last FROM stored_windows
            WHERE dataset = :dataset AND (CAST(:landed AS timestamptz) IS NULL OR stored_at >= :landed)
            UNION
            SELECT symbol, (timestamp AT TIME ZONE 'UTC')::date, (timestamp AT TIME ZONE 'UTC')::date FROM touched_buckets
            WHERE :dataset = 'minute_bars' AND updated_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
            UNION
            -- What was removed, streamed or made from trades is no window, and its hours are forgotten once rolled up.
            SELECT a.entity_id, ((a.metadata ->> 'start')::timestamptz AT TIME ZONE 'UTC')::date,
                   ((a.metadata ->> 'end')::timestamptz AT TIME ZONE 'UTC')::date
            FROM audit_trail a
            WHERE :dataset = 'minute_bars' AND a.event_type = 'removal' AND a.entity_type = 'ohlcv_1min'
              AND a.timestamp >= coalesce(CAST(:since AS timestamptz), '-infinity')
            UNION
            SELECT jsonb_array_elements_text(a.metadata -> 'symbols'), (a.metadata ->> 'first')::date,
                   (a.metadata ->> 'last')::date
            FROM audit_trail a
            WHERE :dataset = 'minute_bars' AND a.event_type = 'load' AND a.entity_type = 'ohlcv_1min'
              AND a.metadata ->> 'first' IS NOT NULL
              AND a.timestamp >= coalesce(CAST(:since AS timestamptz), '-infinity')
            UNION
            SELECT symbol, (gap_start AT TIME ZONE 'UTC')::date, (gap_end AT TIME ZONE 'UTC')::date FROM data_gaps
            WHERE class = 'not_yet_published' AND healed_at IS NULL AND timeframe = :timeframe
            UNION
            SELECT i.symbol, split_part(a.entity_id, ' ', 2)::date, split_part(a.entity_id, ' ', 2)::date
            FROM audit_trail a JOIN symbols i ON i.exchange = split_part(a.entity_id, ' ', 1)
            WHERE a.event_type = 'session_override' AND a.timestamp >= CAST(:since AS timestamptz)
        """),
        {
            "dataset": DATASETS[timeframe],
            "timeframe": timeframe,
            "since": since,
            "landed": since - STORED_LATER if since else None,
        },
    )
    return [Window(row.symbol, row.first, row.last) for row in rows]


def minutes(connection: Connection, span: MinuteSpan) -> pd.DataFrame:
    """Return stored minutes: symbol, timestamp (UTC), open, close, volume, trades_count (NaN where not told)."""
    return bars.query(
        connection,
        """
        SELECT symbol, timestamp, open::float8, close::float8, volume::float8, trades_count::float8 FROM ohlcv_1min
        WHERE symbol = ANY (CAST(:symbols AS text[])) AND timestamp >= :begins AND timestamp < :ends
        """,
        {"symbols": list(span.symbols), "begins": span.begins, "ends": span.ends},
        {
            "symbol": "str",
            "timestamp": bars.UTC,
            **dict.fromkeys(["open", "close", "volume", "trades_count"], "float64"),
        },
    )


def symbols_by_minute(connection: Connection, span: MinuteSpan) -> pd.Series:
    """Return under each minute (UTC) how many symbols of the exchange have a bar."""
    found = bars.query(
        connection,
        """
        SELECT timestamp, count(*) AS symbols FROM ohlcv_1min b JOIN symbols i USING (symbol)
        WHERE i.exchange = :exchange AND timestamp >= :begins AND timestamp < :ends GROUP BY timestamp
        """,
        {"exchange": span.exchange, "begins": span.begins, "ends": span.ends},
        {"timestamp": bars.UTC, "symbols": "int64"},
    )
    return found.set_index("timestamp")["symbols"]


def official_bars(connection: Connection, symbols: Sequence[str], first: date, last: date) -> pd.DataFrame:
    """Return daily bars that a provider made: symbol, date, volume, trades_count (NaN where not told)."""
    return bars.query(
        connection,
        f"""
        SELECT symbol, date, volume::float8, trades_count::float8 FROM ohlcv_daily
        WHERE symbol = ANY (CAST(:symbols AS text[])) AND date BETWEEN :first AND :last AND {NOT_ROLLED_UP}
        """,  # noqa: S608 a constant
        {"symbols": list(symbols), "first": first, "last": last},
        {"symbol": "str", "date": "datetime64[us]", "volume": "float64", "trades_count": "float64"},
    )


def days(connection: Connection, symbols: Sequence[str], first: date, last: date) -> pd.DataFrame:
    """Return symbol and date (datetime64) of stored daily bars."""
    return bars.query(
        connection,
        "SELECT symbol, date FROM ohlcv_daily WHERE symbol = ANY (CAST(:symbols AS text[])) AND date BETWEEN :first AND :last",
        {"symbols": list(symbols), "first": first, "last": last},
        {"symbol": "str", "date": "datetime64[us]"},
    )


def minutes_of_days_without_a_bar(
    connection: Connection, symbols: Sequence[str], span: tuple[date, date]
) -> pd.DataFrame:
    """Return of the sessions without a daily bar how many minutes are stored: symbol, date (datetime64), n_minutes."""
    return bars.query(
        connection,
        """
        SELECT i.symbol, s.session AS date, m.n_minutes FROM symbols i
        JOIN sessions s ON s.exchange = i.exchange AND s.session BETWEEN :first AND :last AND s.kind <> 'closed_by_override'
        CROSS JOIN LATERAL (SELECT count(*) AS n_minutes FROM ohlcv_1min b
            WHERE b.symbol = i.symbol AND b.timestamp >= s.open AND b.timestamp < s.close) AS m
        WHERE i.symbol = ANY (CAST(:symbols AS text[])) AND m.n_minutes > 0
          AND NOT EXISTS (SELECT FROM ohlcv_daily d WHERE d.symbol = i.symbol AND d.date = s.session)
        """,
        {"symbols": list(symbols), "first": span[0], "last": span[1]},
        {"symbol": "str", "date": "datetime64[us]", "n_minutes": "int64"},
    )


def symbols_by_day(connection: Connection, exchange: str, sessions: pd.Series) -> pd.DataFrame:
    """Return under each session how many symbols of the exchange have a daily bar, and how many could (listed).

    A symbol can have one from its first stored bar to its last.
    """
    found = bars.query(
        connection,
        """
        WITH spans AS (SELECT b.symbol, min(b.date) AS first, max(b.date) AS last FROM ohlcv_daily b
                       JOIN symbols i USING (symbol) WHERE i.exchange = :exchange GROUP BY b.symbol)
        SELECT d.day AS date, (SELECT count(*) FROM spans p WHERE d.day BETWEEN p.first AND p.last) AS listed,
               (SELECT count(*) FROM ohlcv_daily b JOIN spans p USING (symbol) WHERE b.date = d.day) AS with_a_bar
        FROM unnest(CAST(:days AS date[])) AS d (day)
        """,
        {"exchange": exchange, "days": [day.date() for day in sessions]},
        {"date": "datetime64[us]", "listed": "int64", "with_a_bar": "int64"},
    )
    return found.set_index("date")


def trades_within(connection: Connection, gaps: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return how many trades are stored of each gap, at most 1,000."""
    rows = connection.execute(
        text("""
            SELECT coalesce(n, 0) FROM unnest(CAST(:symbols AS text[]), CAST(:starts AS timestamptz[]),
                CAST(:ends AS timestamptz[])) WITH ORDINALITY AS g (symbol, begins, ends, place)
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM (SELECT FROM ticks t WHERE t.symbol = g.symbol
                AND t.timestamp >= g.begins AND t.timestamp < g.ends + INTERVAL '1 minute' LIMIT 1000) AS few) AS counted
            ORDER BY place
        """),
        {
            "symbols": gaps["symbol"].tolist(),
            "starts": gaps["gap_start"].tolist(),
            "ends": gaps["gap_end"].tolist(),
        },
    )
    return np.array(rows.scalars().all(), np.int64)
