"""Which splits and dividends count where several sources have recorded them: SQL on rows of theirs.

Of one event that two sources date differently the one of the better rank counts, or prices would be adjusted for it twice.
"""

from datetime import date, datetime

from sqlalchemy import Connection, text

# Two sources that differ by more than this speak of two events.
SAME_EVENT_DAYS = 7


def counted_splits(rows: str) -> str:
    """Return the query of symbol, execution_date, split_from, split_to, by symbol and day.

    Args:
        rows: a query or table of these columns and source.
    """
    return f"""
        WITH known AS (SELECT * FROM ({rows}) AS r)
        SELECT DISTINCT ON (symbol, execution_date) symbol::text, execution_date, split_from::float8, split_to::float8
        FROM known s WHERE NOT EXISTS (
            SELECT FROM known b WHERE b.symbol = s.symbol AND b.source <> s.source
              AND (source_rank(b.source), b.source) < (source_rank(s.source), s.source)
              AND abs(b.execution_date - s.execution_date) <= {SAME_EVENT_DAYS}
              AND b.split_from * s.split_to = b.split_to * s.split_from)
        ORDER BY symbol, execution_date, source_rank(source), source
    """  # noqa: S608 our own fragments


def counted_dividends(rows: str) -> str:
    """Return the query of symbol, ex_dividend_date, cash_amount, by symbol and day; what is paid on one day is added up.

    Args:
        rows: a query or table of these columns and source.
    """
    return f"""
        WITH known AS (SELECT * FROM ({rows}) AS r)
        SELECT symbol::text, ex_dividend_date, sum(cash_amount)::float8 AS cash_amount FROM (
            SELECT *, rank() OVER (PARTITION BY symbol, ex_dividend_date ORDER BY source_rank(source), source) AS place
            FROM known s WHERE NOT EXISTS (
                SELECT FROM known b WHERE b.symbol = s.symbol AND b.source <> s.source
                  AND (source_rank(b.source), b.source) < (source_rank(s.source), s.source)
                  AND abs(b.ex_dividend_date - s.ex_dividend_date) <= {SAME_EVENT_DAYS}
                  AND b.ex_dividend_date <> s.ex_dividend_date AND b.cash_amount = s.cash_amount)) AS ranked
        WHERE place = 1 GROUP BY symbol, ex_dividend_date ORDER BY symbol, ex_dividend_date
    """  # noqa: S608 our own fragments


def splits_changed_since(connection: Connection, since: datetime) -> list[tuple[str, date, datetime]]:
    """Return symbol, execution date and moment (UTC) of each split that was recorded, corrected or withdrawn since a moment."""
    rows = connection.execute(
        text("""
            SELECT symbol, execution_date, max(at) FROM (
                SELECT symbol, execution_date, recorded_at AS at FROM splits
                UNION ALL SELECT symbol, execution_date, superseded_at FROM split_revisions) AS changes
            WHERE at >= :since GROUP BY symbol, execution_date ORDER BY symbol, execution_date
        """),
        {"since": since},
    )
    return [tuple(row) for row in rows]
