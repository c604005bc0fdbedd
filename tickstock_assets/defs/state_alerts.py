"""What the database says that people are to be told of: requests that failed, gaps given up, and how it is itself.

Elsewhere: what Dagster has recorded (run_alerts.py), the sensors (alert_sensors.py).
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from sqlalchemy import Connection, text

from tickstock_assets.domain.alerts import Condition, Kind, Occurrence
from tickstock_assets.domain.exchanges import DEFAULT_EXCHANGE, calendar_of
from tickstock_assets.domain.lags import Lag, lag
from tickstock_assets.storage import alerts
from tickstock_assets.storage.health import BYTES_PER_GB, SLOW_MS, Health, disk_of
from tickstock_assets.storage.newest_bars import newest_days

LOOKS_BACK = timedelta(days=1)
MOST_AT_ONCE = 200
SYMBOLS_NAMED = 3

# Those of the kind `gaps` are tried again, and alerted when they are given up.
FAILED_REQUESTS = text("""
    SELECT id::text, symbols, timeframe::text AS timeframe, start_date, end_date, requested_by, error, finished_at
    FROM backfill_requests r
    WHERE status = 'failed' AND kind <> 'gaps' AND finished_at > clock_timestamp() - CAST(:age AS interval)
      AND NOT EXISTS (SELECT FROM alert_occurrences o WHERE o.occurrence = 'request/' || r.id)
    ORDER BY finished_at LIMIT :most
""")
# A gap that was tried again by hand can be given up again.
GIVEN_UP = text("""
    SELECT key, symbol, timeframe::text AS timeframe, gap_start, missing_bars, given_up_at, given_up_reason
    FROM (SELECT *, 'gap/' || id || '/' || extract(epoch FROM given_up_at) AS key FROM data_gaps) g
    WHERE given_up_at > clock_timestamp() - CAST(:age AS interval)
      AND NOT EXISTS (SELECT FROM alert_occurrences o WHERE o.occurrence = g.key)
    ORDER BY given_up_at LIMIT :most
""")


def count_failed_requests(connection: Connection) -> int:
    """Enter the requests that have failed, and return how many those were."""
    rows = connection.execute(FAILED_REQUESTS, {"age": LOOKS_BACK, "most": MOST_AT_ONCE}).all()
    return alerts.count(
        connection,
        [
            Occurrence(
                Kind.REQUEST_FAILED,
                row.id[:8],
                f"expected {_names(row.symbols)} {row.timeframe} {row.start_date}..{row.end_date}, asked for by "
                f"{row.requested_by}, to be loaded, found {row.error}; mend that and ask again",
                key=f"request/{row.id}",
                at=row.finished_at,
            )
            for row in rows
        ],
    )


def count_gaps_given_up(connection: Connection) -> int:
    """Enter the gaps that were given up, and return how many those were."""
    rows = connection.execute(GIVEN_UP, {"age": LOOKS_BACK, "most": MOST_AT_ONCE}).all()
    return alerts.count(
        connection,
        [
            Occurrence(
                Kind.GAP_GIVEN_UP,
                f"{row.symbol} {row.timeframe}",
                f"expected {row.missing_bars:,} bars from {row.gap_start:%Y-%m-%d %H:%M} UTC on to be filled, found that it "
                f"was given up: {row.given_up_reason}; load them from another provider, or leave them missing",
                key=row.key,
                at=row.given_up_at,
                severity="warning",
            )
            for row in rows
        ],
    )


def slow_database(found: Health) -> list[Condition]:
    """Return that the database answers slowly, if it does."""
    if found.latency_ms is None or found.latency_ms <= SLOW_MS:
        return []
    said = (
        f"expected an answer within {SLOW_MS:g} ms, found {found.latency_ms:.1f} ms; see what else its machine does, "
        "and `tickstock db status`"
    )
    return [Condition(Kind.DATABASE_SLOW, "database", said)]


def low_disk(home: Path, low_disk_gb: float) -> list[Condition]:
    """Return that the disk of the home folder, and of the embedded database, is nearly full, if it is."""
    disk = disk_of(home, low_disk_gb)
    if not disk.is_low or disk.free_bytes is None:
        return []
    said = (
        f"expected at least {low_disk_gb:g} GB free (TICKSTOCK_LOW_DISK_GB), found "
        f"{disk.free_bytes / BYTES_PER_GB:.1f} GB; make room before loads fail"
    )
    return [Condition(Kind.DISK_LOW, "home folder", said, "error")]


def lags(connection: Connection, horizon: date) -> list[Lag]:
    """Return how far the bars of each timeframe that has any are behind what providers can have."""
    newest = newest_days(connection, str(calendar_of(DEFAULT_EXCHANGE).tz))
    return [lag(DEFAULT_EXCHANGE, timeframe, day, horizon) for timeframe, day in newest.items()]


def lagging(found: Sequence[Lag], most_sessions: int) -> list[Condition]:
    """Return the timeframes that are further behind than so many sessions; none when that is 0, which turns it off."""
    return [
        Condition(
            Kind.LAG,
            f"{one.timeframe} bars",
            f"expected them to be at most {most_sessions} sessions behind {one.horizon} (TICKSTOCK_ALERT_LAG_SESSIONS), found "
            f"{one.sessions}, the newest of {one.newest}; run `tickstock load`, or see why the last one ended early",
        )
        for one in found
        if 0 < most_sessions < one.sessions
    ]


def _names(symbols: Sequence[str]) -> str:
    more = f" and {len(symbols) - SYMBOLS_NAMED} more" if len(symbols) > SYMBOLS_NAMED else ""
    return ", ".join(symbols[:SYMBOLS_NAMED]) + more
