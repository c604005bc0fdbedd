"""Findings of quality: what looks odd is entered once, and stays with the moment at which it no longer held.

Elsewhere: finding it (domain, loading).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC as ZONE
from datetime import date, datetime

import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.storage import audit, bars
from tickstock_assets.storage.bars import UTC
from tickstock_assets.storage.bulk import MergeCounts, merge
from tickstock_assets.storage.findings import content_ids

KEY = ["symbol", "timeframe", "timestamp", "rule", "source"]


@dataclass(frozen=True)
class FindingCounts:
    """What entering findings did: new ones, those that changed or came back, those unchanged, those now resolved."""

    inserted: int = 0
    changed: int = 0
    unchanged: int = 0
    resolved: int = 0

    def __add__(self, other: "FindingCounts") -> "FindingCounts":
        return FindingCounts(
            self.inserted + other.inserted,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.resolved + other.resolved,
        )


# What no bar lies outside of.
ALWAYS = (datetime(1, 1, 1, tzinfo=ZONE), datetime(9999, 12, 31, tzinfo=ZONE))


def enter(
    connection: Connection,
    found: pd.DataFrame,
    *,
    rules: Sequence[str],
    timeframe: str,
    symbols: Sequence[str],
    between: tuple[datetime, datetime] = ALWAYS,
) -> FindingCounts:
    """Make the open findings of some rules, symbols and times those of a frame; the others of them are resolved by it.

    Args:
        connection: open.
        found: symbol, timestamp (UTC, start of the bar), rule, severity, source (text or None), reason, evidence
            (dict); one row a key of symbol, timestamp, rule and source.
        rules: that were looked for.
        timeframe: of the bars.
        symbols: that were looked at.
        between: from when until before when bars were looked at; every finding of the frame lies there.
    """
    counts, ids = MergeCounts(), []
    if not found.empty:
        rows = found.assign(
            timeframe=timeframe,
            evidence=[json.dumps(evidence, sort_keys=True) for evidence in found["evidence"]],
            resolved_at=pd.Series(pd.NaT, found.index, dtype=UTC),
        )
        # A missing source counts as an empty one, so that its finding keeps its id.
        ids = content_ids("quality", rows.assign(source=rows["source"].fillna("")), KEY)
        counts = merge(connection, "quality_findings", rows.assign(id=ids))
    resolved = connection.execute(
        text("""
            UPDATE quality_findings SET resolved_at = clock_timestamp()
            WHERE rule = ANY (:rules) AND timeframe = :timeframe AND symbol = ANY (:symbols) AND resolved_at IS NULL
              AND timestamp >= :start AND timestamp < :end AND id <> ALL (CAST(:ids AS uuid[]))
        """),
        {
            "rules": list(rules),
            "timeframe": timeframe,
            "symbols": list(symbols),
            "start": between[0],
            "end": between[1],
            "ids": ids,
        },
    ).rowcount
    entered = FindingCounts(counts.inserted, counts.corrected, counts.unchanged, resolved)
    if counts.written or resolved:
        particulars = {**vars(entered), "rules": list(rules), "symbols": list(symbols)}
        audit.record(connection, "quality", ("quality_findings", "quality_findings"), "enter", particulars)
    return entered


def still_open(connection: Connection, rules: Sequence[str]) -> pd.DataFrame:
    """Return the findings of some rules that still hold: symbol, timeframe, timestamp (UTC), rule, severity, reason."""
    found = stored(connection, rules=rules, only_open=True)
    return found[["symbol", "timeframe", "timestamp", "rule", "severity", "reason"]]


def stored(
    connection: Connection,
    *,
    rules: Sequence[str] | None = None,
    symbols: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
    only_open: bool = False,
) -> pd.DataFrame:
    """Return findings, by symbol and time: symbol, timeframe, timestamp, rule, severity, source, reason, resolved_at.

    Args:
        connection: open.
        rules: of these; None for all.
        symbols: of these; None for all.
        first: on this day (UTC) or after it.
        last: on this day or before it.
        only_open: without those that no longer hold.
    """
    texts = ["symbol", "timeframe", "rule", "severity", "source", "reason"]
    return bars.query(
        connection,
        """
        SELECT symbol, timeframe, timestamp, rule, severity, source, reason, resolved_at FROM quality_findings
        WHERE (CAST(:rules AS text[]) IS NULL OR rule = ANY (CAST(:rules AS text[])))
          AND (CAST(:symbols AS text[]) IS NULL OR symbol = ANY (CAST(:symbols AS text[])))
          AND timestamp >= coalesce(CAST(:first AS date)::timestamp AT TIME ZONE 'UTC', '-infinity')
          AND timestamp < coalesce((CAST(:last AS date) + 1)::timestamp AT TIME ZONE 'UTC', 'infinity')
          AND NOT (CAST(:only_open AS boolean) AND resolved_at IS NOT NULL)
        ORDER BY symbol, timestamp, timeframe, rule, source
        """,
        {
            "rules": None if rules is None else list(rules),
            "symbols": None if symbols is None else list(symbols),
            "first": first,
            "last": last,
            "only_open": only_open,
        },
        {"timestamp": UTC, "resolved_at": UTC, **dict.fromkeys(texts, "str")},
    )
