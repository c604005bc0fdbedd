"""Gaps that a provider is asked for again: which are due, under which request they are tried, and when they are given up.

An attempt is a request of the kind `gaps` (backfill_requests.py). A gap has the id of its last one, and waits longer after
each. One that is filled is stamped by whoever looks at the bars (data_gaps.py), never here.

Elsewhere: asking and looking (loading/gap_healing.py), who makes the requests (defs/gap_sensor.py).
"""

from collections.abc import Sequence
from datetime import date, datetime

import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.storage import audit, bars

# What a provider may yet have: the rest is explained, or was taken away on purpose.
HEALABLE = ("provider_hole", "not_yet_published")
# Seconds after the first attempt, each time so much longer, and no longer than this.
FIRST_WAIT_SECONDS, WAIT_FACTOR, LONGEST_WAIT_SECONDS = 15 * 60, 4, 24 * 60 * 60

# A gap begins within a session; the days beside are for exchanges whose session is on another day in UTC.
SESSION = """
    JOIN symbols i ON i.symbol = g.symbol
    JOIN sessions s ON s.exchange = i.exchange AND g.gap_start >= s.open AND g.gap_start < s.close
        AND s.session BETWEEN (g.gap_start AT TIME ZONE 'UTC')::date - 1 AND (g.gap_start AT TIME ZONE 'UTC')::date + 1
"""
COLUMNS: bars.Dtypes = {
    **dict.fromkeys(["id", "symbol", "timeframe", "class"], "str"),
    "day": "datetime64[us]",
    "gap_start": bars.UTC,
    **dict.fromkeys(["missing_bars", "attempts"], "int64"),
}
SELECT = """
    SELECT g.id::text, g.symbol, g.timeframe::text AS timeframe, g.class, s.session AS day, g.gap_start, g.missing_bars,
           g.attempts
    FROM data_gaps g
"""


def due(connection: Connection, settled: date, most_attempts: int, most: int) -> pd.DataFrame:
    """Return gaps that are to be asked for again now, newest first.

    A symbol with an open request of this kind waits for its end, so that no two ask for the same.

    Args:
        connection: open.
        settled: last session of which a provider changes nothing any more; what is younger is not missing yet.
        most_attempts: so many are made.
        most: at most so many gaps.

    Returns:
        id, symbol, timeframe, class, day (datetime64, the session), gap_start (UTC), missing_bars, attempts.
    """
    return bars.query(
        connection,
        f"""
        {SELECT} {SESSION} LEFT JOIN backfill_requests r ON r.id = g.request_id
        WHERE g.healed_at IS NULL AND g.given_up_at IS NULL AND g.class = ANY (CAST(:healable AS text[]))
          AND (g.class = 'provider_hole' OR s.session <= :settled) AND g.attempts < :most_attempts
          AND (g.attempts = 0 OR clock_timestamp() >= greatest(g.attempted_at, r.finished_at) + INTERVAL '1 second'
               * least(:first_wait * power(:factor, g.attempts - 1), :longest_wait))
          AND NOT EXISTS (SELECT FROM backfill_requests o
                          WHERE o.kind = 'gaps' AND o.status IN ('requested', 'running') AND o.timeframe = g.timeframe
                            AND g.symbol = ANY (o.symbols))
        ORDER BY g.gap_start DESC, g.symbol LIMIT :most
        """,
        {
            "healable": list(HEALABLE),
            "settled": settled,
            "most_attempts": most_attempts,
            "first_wait": FIRST_WAIT_SECONDS,
            "factor": WAIT_FACTOR,
            "longest_wait": LONGEST_WAIT_SECONDS,
            "most": most,
        },
        COLUMNS,
    )


def try_under(connection: Connection, request_id: str, ids: Sequence[str]) -> None:
    """Count an attempt of some gaps, under the request that was entered for them."""
    connection.execute(
        text("""
            UPDATE data_gaps SET request_id = CAST(:request AS uuid), attempts = attempts + 1,
                                 attempted_at = clock_timestamp(), last_answer = NULL
            WHERE id = ANY (CAST(:ids AS uuid[]))
        """),
        {"request": request_id, "ids": list(ids)},
    )


def of_request(connection: Connection, request_id: str, *, only_open: bool = True) -> pd.DataFrame:
    """Return the gaps that are tried under a request, those that are filled left out; columns as of `due`."""
    return bars.query(
        connection,
        f"""
        {SELECT} {SESSION} WHERE g.request_id = CAST(:request AS uuid) AND (g.healed_at IS NULL OR NOT :only_open)
        ORDER BY g.gap_start, g.symbol
        """,
        {"request": request_id, "only_open": only_open},
        COLUMNS,
    )


def filled_since(connection: Connection, request_id: str, since: datetime) -> pd.DataFrame:
    """Return the gaps of a request that were filled since a moment: symbol, day (datetime64, the session), healed_at (UTC)."""
    return bars.query(
        connection,
        f"""
        SELECT g.symbol, s.session AS day, g.healed_at FROM data_gaps g {SESSION}
        WHERE g.request_id = CAST(:request AS uuid) AND g.healed_at >= :since ORDER BY g.gap_start, g.symbol
        """,  # noqa: S608 a constant
        {"request": request_id, "since": since},
        {"symbol": "str", "day": "datetime64[us]", "healed_at": bars.UTC},
    )


def note_answers(connection: Connection, ids: Sequence[str], answers: Sequence[str]) -> None:
    """Say of gaps that are still open what came of the attempt."""
    connection.execute(
        text("""
            UPDATE data_gaps g SET last_answer = a.answer
            FROM unnest(CAST(:ids AS uuid[]), CAST(:answers AS text[])) AS a (id, answer)
            WHERE g.id = a.id AND g.healed_at IS NULL
        """),
        {"ids": list(ids), "answers": list(answers)},
    )


def give_up(connection: Connection, most_attempts: int) -> list[str]:
    """Give up the open gaps of which the last attempt is over, or was cancelled by a person.

    Returns:
        A sentence for each: which, how often it was tried, and what came of it the last time.
    """
    rows = connection.execute(
        text("""
            UPDATE data_gaps g SET given_up_at = clock_timestamp(), given_up_reason = o.reason
            FROM (SELECT f.id, f.attempts || CASE f.attempts WHEN 1 THEN ' attempt' ELSE ' attempts' END || ', the last on '
                         || to_char(f.attempted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC: '
                         || CASE WHEN r.status = 'cancelled' THEN 'a person cancelled the request'
                            ELSE coalesce(f.last_answer, r.error, 'its request left no answer') END AS reason
                  FROM data_gaps f LEFT JOIN backfill_requests r ON r.id = f.request_id
                  WHERE f.healed_at IS NULL AND f.given_up_at IS NULL AND f.attempts > 0
                    AND f.class = ANY (CAST(:healable AS text[]))
                    AND (r.id IS NULL OR r.status NOT IN ('requested', 'running'))
                    AND (f.attempts >= :most_attempts OR r.status = 'cancelled')) AS o
            WHERE g.id = o.id
            RETURNING g.symbol, g.timeframe::text AS timeframe, g.gap_start, g.missing_bars, g.given_up_reason
        """),
        {"healable": list(HEALABLE), "most_attempts": most_attempts},
    ).all()
    told = [
        f"{row.symbol} {row.timeframe} {row.gap_start:%Y-%m-%d %H:%M} UTC, {row.missing_bars} missing: {row.given_up_reason}"
        for row in sorted(rows)
    ]
    if told:
        audit.record(
            connection, "quality", ("data_gaps", "data_gaps"), "give_up", {"gaps": len(told), "first": told[0]}
        )
    return told


def still_open(connection: Connection) -> int:
    """Return how many gaps are open that a provider may fill, those given up included."""
    found: int = connection.execute(
        text("SELECT count(*) FROM data_gaps WHERE healed_at IS NULL AND class = ANY (CAST(:healable AS text[]))"),
        {"healable": list(HEALABLE)},
    ).scalar_one()
    return found


def given_up(connection: Connection, symbols: Sequence[str] | None = None) -> int:
    """Return how many gaps are given up and still open."""
    found: int = connection.execute(
        text("""
            SELECT count(*) FROM data_gaps WHERE given_up_at IS NOT NULL AND healed_at IS NULL
              AND class = ANY (CAST(:healable AS text[]))
              AND (CAST(:symbols AS text[]) IS NULL OR symbol = ANY (CAST(:symbols AS text[])))
        """),
        {"healable": list(HEALABLE), "symbols": None if symbols is None else list(symbols)},
    ).scalar_one()
    return found


def try_again(
    connection: Connection,
    symbols: Sequence[str] | None = None,
    timeframe: Timeframe | None = None,
    classes: Sequence[str] | None = None,
) -> int:
    """Let gaps that were given up be tried anew, from the first attempt on; return how many there were."""
    n_gaps = connection.execute(
        text("""
            UPDATE data_gaps SET given_up_at = NULL, given_up_reason = NULL, attempts = 0, attempted_at = NULL,
                                 request_id = NULL, last_answer = NULL
            WHERE given_up_at IS NOT NULL AND healed_at IS NULL
              AND (CAST(:symbols AS text[]) IS NULL OR symbol = ANY (CAST(:symbols AS text[])))
              AND (CAST(:timeframe AS text) IS NULL OR timeframe = CAST(:timeframe AS timeframe))
              AND (CAST(:classes AS text[]) IS NULL OR class = ANY (CAST(:classes AS text[])))
        """),
        {
            "symbols": None if symbols is None else list(symbols),
            "timeframe": timeframe,
            "classes": None if classes is None else list(classes),
        },
    ).rowcount
    if n_gaps:
        audit.record(connection, "quality", ("data_gaps", "data_gaps"), "try_again", {"gaps": n_gaps})
    return n_gaps
