"""Gaps as they are kept: entered when found, changed when more is known, stamped when they are filled, never deleted.

Elsewhere: finding and classing them (domain/gaps, loading/gap_finding.py), asking for them again (gap_attempts.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.domain.gaps import BY_CALENDAR
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.storage import audit, bars
from tickstock_assets.storage.bars import UTC
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.findings import content_ids

KEY = ["symbol", "timeframe", "gap_start"]
# A symbol, and the moments from and to before which it was looked at.
type Stretch = tuple[str, datetime, datetime]


@dataclass(frozen=True)
class GapCounts:
    """What entering gaps did: new ones, those that changed or came back, those unchanged, those now filled."""

    inserted: int = 0
    changed: int = 0
    unchanged: int = 0
    healed: int = 0

    def __add__(self, other: "GapCounts") -> "GapCounts":
        return GapCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def enter(connection: Connection, found: pd.DataFrame, timeframe: Timeframe, looked_at: Sequence[Stretch]) -> GapCounts:
    """Make the open gaps of some stretches of time those of a frame; the others that begin in them are healed by it.

    Args:
        connection: open.
        found: symbol, gap_start, gap_end (UTC), missing_bars, class, evidence (dict); all begin in the stretches.
        timeframe: of the missing bars.
        looked_at: the stretches, of whole sessions.
    """
    inserted = changed = unchanged = 0
    ids: list[str] = []
    if not found.empty:
        rows = found.assign(
            timeframe=timeframe,
            evidence=[json.dumps(evidence, sort_keys=True) for evidence in found["evidence"]],
            healed_at=pd.Series(pd.NaT, found.index, dtype=UTC),
        )
        ids = content_ids("gap", rows, KEY)
        _begin_anew(connection, ids)
        counts = merge(connection, "data_gaps", rows.assign(id=ids))
        inserted, changed, unchanged = counts.inserted, counts.corrected, counts.unchanged
    healed = connection.execute(
        text("""
            UPDATE data_gaps g SET healed_at = clock_timestamp()
            FROM unnest(CAST(:symbols AS text[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
                AS w (symbol, begins, ends)
            WHERE g.symbol = w.symbol AND g.timeframe = :timeframe AND g.healed_at IS NULL
              AND g.gap_start >= w.begins AND g.gap_start < w.ends
              AND NOT EXISTS (SELECT FROM unnest(CAST(:ids AS uuid[])) AS found (id) WHERE found.id = g.id)
        """),
        {
            "symbols": [symbol for symbol, _, _ in looked_at],
            "starts": [first for _, first, _ in looked_at],
            "ends": [end for _, _, end in looked_at],
            "timeframe": timeframe,
            "ids": ids,
        },
    ).rowcount
    entered = GapCounts(inserted, changed, unchanged, healed)
    if inserted or changed or healed:
        symbols = sorted({symbol for symbol, _, _ in looked_at})
        audit.record(
            connection, "quality", ("data_gaps", "data_gaps"), "enter",
            {**vars(entered), "timeframe": timeframe, "symbols": symbols},
        )  # fmt: skip
    return entered


def _begin_anew(connection: Connection, ids: Sequence[str]) -> None:
    """Forget the attempts of gaps that were filled and are missing once more."""
    connection.execute(
        text("""
            UPDATE data_gaps SET attempts = 0, attempted_at = NULL, request_id = NULL, last_answer = NULL,
                                 given_up_at = NULL, given_up_reason = NULL
            WHERE id = ANY (CAST(:ids AS uuid[])) AND healed_at IS NOT NULL AND attempts > 0
        """),
        {"ids": ids},
    )


def gaps(
    connection: Connection,
    *,
    symbols: Sequence[str] | None = None,
    timeframe: Timeframe | None = None,
    classes: Sequence[str] | None = None,
    only_open: bool = False,
    only_given_up: bool = False,
    limit: int | None = None,
) -> pd.DataFrame:
    """Return gaps, newest first.

    Args:
        connection: open.
        symbols: only of these.
        timeframe: only of these bars.
        classes: only these.
        only_open: leave out those that were filled.
        only_given_up: leave out those that are still tried, or were not to be.
        limit: at most so many.

    Returns:
        symbol, timeframe, gap_start, gap_end, healed_at (UTC), missing_bars, class, evidence (JSON text), attempts,
        given_up_at (UTC), given_up_reason.
    """
    return bars.query(
        connection,
        """
        SELECT symbol, timeframe, gap_start, gap_end, healed_at, missing_bars, class, evidence::text AS evidence,
               attempts, given_up_at, given_up_reason
        FROM data_gaps
        WHERE (CAST(:symbols AS text[]) IS NULL OR symbol = ANY (CAST(:symbols AS text[])))
          AND (CAST(:timeframe AS text) IS NULL OR timeframe = CAST(:timeframe AS text))
          AND (CAST(:classes AS text[]) IS NULL OR class = ANY (CAST(:classes AS text[])))
          AND (NOT CAST(:only_open AS boolean) OR healed_at IS NULL)
          AND (NOT CAST(:only_given_up AS boolean) OR (healed_at IS NULL AND given_up_at IS NOT NULL))
        ORDER BY gap_start DESC, symbol, timeframe LIMIT :limit
        """,
        {
            "symbols": None if symbols is None else list(symbols),
            "timeframe": timeframe,
            "classes": None if classes is None else list(classes),
            "only_open": only_open,
            "only_given_up": only_given_up,
            "limit": limit,
        },
        {
            **dict.fromkeys(["symbol", "timeframe", "class", "evidence", "given_up_reason"], "str"),
            **dict.fromkeys(["gap_start", "gap_end", "healed_at", "given_up_at"], UTC),
            **dict.fromkeys(["missing_bars", "attempts"], "int64"),
        },
    )


def counted(connection: Connection, symbols: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the open gaps by class and timeframe: class, timeframe, symbols, gaps, missing_bars."""
    rows = connection.execute(
        text("""
            SELECT class, timeframe, count(DISTINCT symbol) AS symbols, count(*) AS gaps,
                   sum(missing_bars)::bigint AS missing_bars
            FROM data_gaps WHERE healed_at IS NULL
              AND (CAST(:symbols AS text[]) IS NULL OR symbol = ANY (CAST(:symbols AS text[])))
            GROUP BY 1, 2 ORDER BY 1, 2
        """),
        {"symbols": None if symbols is None else list(symbols)},
    )
    return [dict(row) for row in rows.mappings()]


def years_changed_since(connection: Connection, since: datetime | None) -> list[tuple[str, int]]:
    """Return symbol and year (UTC) of the gaps that were found, classed otherwise, tried or filled since a moment, or ever.

    Not of those newly found that the calendar explains: they are of no session.
    """
    rows = connection.execute(
        text("""
            SELECT DISTINCT symbol, extract(year FROM moment AT TIME ZONE 'UTC')::integer
            FROM data_gaps CROSS JOIN LATERAL (VALUES (gap_start), (gap_end)) AS m (moment)
            WHERE updated_at >= :since AND NOT (created_at >= :since AND coalesce(class, '') = ANY (CAST(:by_calendar AS text[])))
            ORDER BY 1, 2
        """),
        {"since": since or "-infinity", "by_calendar": list(BY_CALENDAR)},
    )
    return [tuple(row) for row in rows]


def holes_by_day(connection: Connection) -> pd.DataFrame:
    """Return the open holes of providers: symbol, day (datetime64, UTC), missing_bars of minutes and missing days."""
    return bars.query(
        connection,
        """
        SELECT symbol, (gap_start AT TIME ZONE 'UTC')::date AS day, timeframe, sum(missing_bars)::bigint AS missing_bars
        FROM data_gaps WHERE class = 'provider_hole' AND healed_at IS NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """,
        {},
        {"symbol": "str", "timeframe": "str", "day": "datetime64[us]", "missing_bars": "int64"},
    )
