"""What a week did to the quality of the stored bars, counted by the database.

Elsewhere: how it is written down for people (domain/quality_report.py).
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

import pandas as pd
from sqlalchemy import Connection, text

# Rows are few, whatever is stored: a line a rule, a class, a source.
QUERIES: Mapping[str, str] = MappingProxyType(
    {
        "findings": """
            SELECT rule, severity,
                   count(*) FILTER (WHERE created_at >= :since) AS new,
                   count(*) FILTER (WHERE resolved_at >= :since) AS resolved,
                   count(*) FILTER (WHERE resolved_at IS NULL) AS open
            FROM quality_findings GROUP BY rule, severity
            ORDER BY array_position(ARRAY['error', 'warning', 'info'], severity), rule
        """,
        "new_findings": """
            SELECT symbol, timeframe::text, timestamp::text, rule, severity, reason FROM quality_findings
            WHERE created_at >= :since AND resolved_at IS NULL
            ORDER BY array_position(ARRAY['error', 'warning', 'info'], severity), symbol, timestamp LIMIT :most
        """,
        "scores": """
            SELECT timeframe::text, count(*) AS sessions, round(avg(score), 2)::float8 AS mean_score,
                   count(*) FILTER (WHERE score < 100) AS below_100, min(score)::float8 AS lowest
            FROM (SELECT DISTINCT ON (symbol, timeframe, session) timeframe, score FROM quality_scores
                  WHERE session >= (SELECT max(session) FROM quality_scores) - 7
                  ORDER BY symbol, timeframe, session, scored_at DESC) AS newest
            GROUP BY timeframe ORDER BY timeframe
        """,
        "gaps": """
            SELECT coalesce(class, 'unknown') AS class, timeframe::text,
                   count(*) FILTER (WHERE created_at >= :since) AS new,
                   count(*) FILTER (WHERE healed_at >= :since) AS healed,
                   count(*) FILTER (WHERE healed_at IS NULL AND given_up_at IS NULL) AS open,
                   count(*) FILTER (WHERE healed_at IS NULL AND given_up_at IS NOT NULL) AS given_up
            FROM data_gaps GROUP BY 1, 2 ORDER BY 1, 2
        """,
        "quarantined": """
            SELECT source, dataset, rule, count(*) AS rows FROM quarantined_bars
            WHERE quarantined_at >= :since AND superseded_at IS NULL GROUP BY source, dataset, rule ORDER BY 1, 2, 3
        """,
        "requests": """
            SELECT status, count(*) AS requests, max(error) AS one_reason FROM backfill_requests
            WHERE updated_at >= :since GROUP BY status ORDER BY status
        """,
    }
)
FINDINGS_NAMED = 20


def quality_of_week(connection: Connection, since: datetime) -> dict[str, pd.DataFrame]:
    """Return tables of what has changed since a moment (with a time zone), and of how things stand.

    Returns:
        findings, new_findings (the first of them), scores (of the last seven days that are scored), gaps, quarantined and
        requests; the columns are those to be shown.
    """
    values = {"since": since, "most": FINDINGS_NAMED}
    found = {}
    for name, query in QUERIES.items():
        rows = connection.execute(text(query), values)
        found[name] = pd.DataFrame(rows.mappings().all(), columns=pd.Index(rows.keys()))
    return found
