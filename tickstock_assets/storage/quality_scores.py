"""Scores of quality: what they are counted from, their history, and the newest of each session.

Elsewhere: the formula (domain/anomalies/scores.py).
"""

import json
from collections.abc import Sequence
from datetime import date
from itertools import batched

import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.domain.anomalies.scores import COMPONENTS, COUNTS
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import audit, bars
from tickstock_assets.storage.bars import UTC
from tickstock_assets.storage.minutes_dropped import dropped_before

# So many go to the server in a statement.
ROWS_AT_A_TIME = 20_000
# Classes of gaps in which nobody could have had a bar, or nobody can yet.
EXCUSED = ("holiday", "half_day", "halt", "no_trade", "not_yet_published")

# The sessions of each window in which a bar can be expected: from a symbol's first bar to its last, in the months (of
# daily bars, years) of which there are bars at all, and not where retention has dropped them.
SESSIONS = {
    "1d": """
        SELECT w.symbol, s.exchange, s.session, s.open, s.close, s.open AS first_moment, s.close AS last_moment,
               1 AS expected, (b.date IS NOT NULL)::integer AS present, date_trunc('year', s.session) AS period
        FROM windows w JOIN symbols y USING (symbol)
        CROSS JOIN LATERAL (SELECT min(date) AS first, max(date) AS last FROM ohlcv_daily d WHERE d.symbol = w.symbol) held
        JOIN sessions s ON s.exchange = y.exchange AND s.kind <> 'closed_by_override'
            AND s.session BETWEEN greatest(w.first_day, held.first) AND least(w.last_day, held.last)
        LEFT JOIN ohlcv_daily b ON b.symbol = w.symbol AND b.date = s.session
    """,
    "1m": """
        SELECT w.symbol, s.exchange, s.session, s.open, s.close, coalesce(s.extended_open, s.open) AS first_moment,
               coalesce(s.extended_close, s.close) AS last_moment,
               (extract(epoch FROM s.close - s.open) / 60)::integer AS expected, held.present::integer,
               date_trunc('month', s.session) AS period
        FROM windows w JOIN symbols y USING (symbol)
        CROSS JOIN LATERAL (SELECT min(timestamp) AS first, max(timestamp) AS last FROM ohlcv_1min m
                            WHERE m.symbol = w.symbol) span
        JOIN sessions s ON s.exchange = y.exchange AND s.kind <> 'closed_by_override'
            AND s.session BETWEEN w.first_day AND w.last_day AND s.close > span.first AND s.open <= span.last
        CROSS JOIN LATERAL (SELECT count(*) AS present FROM ohlcv_1min m
                            WHERE m.symbol = w.symbol AND m.timestamp >= s.open AND m.timestamp < s.close) held
    """,
}
COUNTED = """
    WITH windows AS (
        SELECT * FROM unnest(CAST(:symbols AS text[]), CAST(:starts AS date[]), CAST(:ends AS date[]))
            AS w (symbol, first_day, last_day)),
    possible AS (SELECT *, sum(present) OVER (PARTITION BY symbol, period) AS in_period FROM ({sessions}) AS found),
    wanted AS (
        SELECT * FROM possible WHERE in_period > 0
          AND (:timeframe = '1d' OR open >= coalesce(CAST(:dropped AS timestamptz), '-infinity'))),
    excused AS (
        SELECT w.symbol, w.session, sum(g.missing_bars) AS bars FROM wanted w
        JOIN data_gaps g ON g.symbol = w.symbol AND g.timeframe = :timeframe AND g.healed_at IS NULL
            AND g.class = ANY (CAST(:classes AS text[])) AND g.gap_start >= w.open AND g.gap_start < w.close
        GROUP BY w.symbol, w.session),
    found AS (
        SELECT w.symbol, w.session,
               count(*) FILTER (WHERE f.severity = 'error') AS errors,
               count(*) FILTER (WHERE f.severity = 'warning' AND f.rule <> :disagreement) AS warnings,
               count(*) FILTER (WHERE f.severity = 'info') AS infos,
               count(*) FILTER (WHERE f.severity = 'warning' AND f.rule = :disagreement) AS disagreements
        FROM wanted w
        JOIN quality_findings f ON f.symbol = w.symbol AND f.timeframe = :timeframe AND f.resolved_at IS NULL
            AND f.timestamp < w.last_moment
            AND coalesce(CAST(f.evidence ->> 'last' AS timestamptz), f.timestamp) >= w.first_moment
        GROUP BY w.symbol, w.session)
    SELECT w.symbol, w.session, w.expected, w.present, least(coalesce(e.bars, 0), w.expected - w.present) AS excused,
           coalesce(f.errors, 0) AS errors, coalesce(f.warnings, 0) AS warnings, coalesce(f.infos, 0) AS infos,
           coalesce(f.disagreements, 0) AS disagreements
    FROM wanted w LEFT JOIN excused e USING (symbol, session) LEFT JOIN found f USING (symbol, session)
    ORDER BY w.symbol, w.session
"""


def counts(connection: Connection, timeframe: str, windows: Sequence[Window], disagreement: str) -> pd.DataFrame:
    """Return what the scores of the sessions in some windows are made of, but for rejected rows.

    Args:
        connection: open.
        timeframe: 1d or 1m. Of minutes those in regular hours are expected.
        windows: which sessions of which symbols.
        disagreement: the rule of findings that two providers' bars differ by.

    Returns:
        symbol, session (datetime64) and, but for `rejected`, the columns of `scores.COUNTS`, whole numbers.
    """
    numbers = [name for name in COUNTS if name != "rejected"]
    return bars.query(
        connection,
        COUNTED.format(sessions=SESSIONS[timeframe]),
        {
            "symbols": [window.symbol for window in windows],
            "starts": [window.start for window in windows],
            "ends": [window.end for window in windows],
            "timeframe": timeframe,
            "dropped": dropped_before(connection),
            "classes": list(EXCUSED),
            "disagreement": disagreement,
        },
        {"symbol": "str", "session": "datetime64[us]", **dict.fromkeys(numbers, "int64")},
    )


def enter(connection: Connection, timeframe: str, scores: pd.DataFrame) -> int:
    """Enter scores that are not what their session's newest one is; return how many those were.

    Args:
        connection: open.
        timeframe: 1d or 1m.
        scores: symbol, session, score, and the columns of `scores.COUNTS` and `scores.COMPONENTS`.
    """
    components = [json.dumps(row) for row in scores[[*COMPONENTS, *COUNTS]].to_dict("records")]
    rows = zip(scores["symbol"], scores["session"].dt.date, scores["score"], components, strict=True)
    n_entered = 0
    for batch in batched(rows, ROWS_AT_A_TIME):
        symbols, sessions, values, texts = map(list, zip(*batch, strict=True))
        n_entered += connection.execute(
            text("""
                INSERT INTO quality_scores (symbol, timeframe, session, score, components)
                SELECT n.symbol, :timeframe, n.session, n.score, n.components FROM (
                    SELECT symbol, session, score::numeric(5, 2), components::jsonb
                    FROM unnest(CAST(:symbols AS text[]), CAST(:sessions AS date[]), CAST(:scores AS numeric[]),
                                CAST(:components AS text[])) AS u (symbol, session, score, components)) AS n
                LEFT JOIN LATERAL (
                    SELECT q.score, q.components FROM quality_scores q
                    WHERE q.symbol = n.symbol AND q.timeframe = :timeframe AND q.session = n.session
                    ORDER BY q.scored_at DESC LIMIT 1) AS newest ON true
                WHERE newest.score IS DISTINCT FROM n.score OR newest.components IS DISTINCT FROM n.components
            """),
            {"timeframe": timeframe, "symbols": symbols, "sessions": sessions, "scores": values, "components": texts},
        ).rowcount
    if n_entered:
        particulars = {"timeframe": timeframe, "rows": n_entered}
        audit.record(connection, "quality", ("quality_scores", "quality_scores"), "score", particulars)
    return n_entered


def newest(
    connection: Connection,
    *,
    symbols: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
) -> pd.DataFrame:
    """Return the newest score of each session: symbol, timeframe, session (datetime64), score, scored_at and components.

    Args:
        connection: open.
        symbols: of these; None for all.
        first: of this session or after it.
        last: of this session or before it.
    """
    selected = ", ".join(f"(components ->> '{name}')::float8 AS {name}" for name in COMPONENTS)
    return bars.query(
        connection,
        f"""
        SELECT DISTINCT ON (symbol, timeframe, session)
               symbol, timeframe, session, score::float8 AS score, scored_at, {selected}
        FROM quality_scores
        WHERE (CAST(:symbols AS text[]) IS NULL OR symbol = ANY (CAST(:symbols AS text[])))
          AND session BETWEEN coalesce(CAST(:first AS date), '-infinity') AND coalesce(CAST(:last AS date), 'infinity')
        ORDER BY symbol, timeframe, session, scored_at DESC
        """,  # noqa: S608 names from the list above
        {"symbols": None if symbols is None else list(symbols), "first": first, "last": last},
        {
            **dict.fromkeys(["symbol", "timeframe"], "str"),
            "session": "datetime64[us]",
            "scored_at": UTC,
            **dict.fromkeys(["score", *COMPONENTS], "float64"),
        },
    )
