"""Rejected rows, as they came: set aside with rule and reason, looked at, and let pass by a person who knows better."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date

import pandas as pd
import pyarrow as pa
from sqlalchemy import Connection, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage import audit
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.findings import content_ids
from tickstock_assets.storage.ledger import Source

# What the table of bars itself refuses no person can let pass. Of two rows that contradict each other one may be right.
RELEASABLE = {"duplicate_key"}


@dataclass(frozen=True)
class Reject:
    """A row in quarantine, to be shown."""

    id: str
    symbol: str | None
    date: date | None
    rule: str
    reason: str
    source: str
    row: dict[str, object]
    released_by: str | None


def set_aside(connection: Connection, source: Source, rejects: pd.DataFrame, raw: pa.Table) -> pd.Index:
    """Set rejected rows aside, as they came.

    Args:
        connection: open.
        source: what they came as, and from whom.
        rejects: offending rows with symbol, rule, reason and, where they have one, date.
        raw: the same rows in the same order as the provider sent them.

    Returns:
        The index of those that a person has let pass since they were first set aside.
    """
    rows = pd.DataFrame(
        {
            "symbol": rejects["symbol"].where((rejects["rule"] != "invalid_symbol") & (source.dataset != "symbols")),
            "timeframe": "1d" if source.dataset == "daily_bars" else None,
            "date": rejects.get("date", pd.NaT),
            "rule": rejects["rule"],
            "reason": rejects["reason"],
            "source": source.provider,
            "dataset": source.dataset,
            "source_version": source.version,
            "row": [json.dumps(row, sort_keys=True, default=str) for row in raw.to_pylist()],
        }
    )
    # Equal rows are told apart by their place among themselves, so that a repeat is not lost.
    rows["occurrence"] = rows.groupby(["row"]).cumcount()
    rows["id"] = content_ids("quarantine", rows, ["source", "dataset", "row", "occurrence"])
    counts = merge(connection, "quarantined_bars", rows.drop(columns="occurrence"))
    if counts.inserted:
        particulars = {**asdict(source), "rows": counts.inserted, "rules": sorted(set(rejects["rule"]))}
        audit.record(connection, "quarantine", ("quarantined_bars", "quarantined_bars"), "set aside", particulars)
    released = connection.execute(
        text("SELECT id::text FROM quarantined_bars WHERE id = ANY (CAST(:ids AS uuid[])) AND released_at IS NOT NULL"),
        {"ids": rows["id"].tolist()},
    ).scalars()
    return rejects.index[rows["id"].isin(list(released)).to_numpy()]


def rejects(connection: Connection, symbols: Sequence[str] | None = None) -> list[Reject]:
    """Return what is in quarantine, by symbol and date; of all symbols where none is named."""
    found = connection.execute(
        text("""
            SELECT id::text, symbol, date, rule, reason, source, row, released_by FROM quarantined_bars
            WHERE CAST(:symbols AS text[]) IS NULL OR symbol = ANY (:symbols) ORDER BY symbol, date, rule, id
        """),
        {"symbols": None if symbols is None else list(symbols)},
    )
    return [Reject(**row) for row in found.mappings()]


def release(connection: Connection, reject_id: str, author: str, reason: str) -> Reject:
    """Let a row pass: the next load of its day stores it. The row itself stays in quarantine, with who and why.

    Raises:
        ConfigError: there is no such row, it has been released, or it cannot be.
    """
    chosen = next((reject for reject in rejects(connection) if reject.id == reject_id), None)
    if chosen is None:
        raise ConfigError(
            f"Quarantine: expected the id of a rejected row, found {reject_id!r}; `tickstock quarantine list` shows them"
        )
    if chosen.rule not in RELEASABLE:
        raise ConfigError(
            f"Quarantine: {chosen.symbol} {chosen.date} cannot be released, since {chosen.reason}; "
            "have the provider correct it and load it again"
        )
    twins = [
        other for other in rejects(connection, [str(chosen.symbol)]) if (other.date, other.source) == (chosen.date, chosen.source)
    ]  # fmt: skip
    if already := next((twin for twin in twins if twin.released_by), None):
        raise ConfigError(
            f"Quarantine: expected no row of {chosen.symbol} {chosen.date} to have been released, "
            f"found one that {already.released_by} let pass; only one row of a day can be right"
        )
    stored = connection.execute(
        text("SELECT 1 FROM ohlcv_daily WHERE symbol = :symbol AND date = :date AND source = :source"),
        {"symbol": chosen.symbol, "date": chosen.date, "source": chosen.source},
    ).scalar()
    if stored:
        raise ConfigError(
            f"Quarantine: expected no bar of {chosen.symbol} {chosen.date}, found one stored from the same source; "
            "this row only repeats it"
        )
    connection.execute(
        text("""
            UPDATE quarantined_bars SET released_at = clock_timestamp(), released_by = :author, release_reason = :reason
            WHERE id = CAST(:id AS uuid)
        """),
        {"id": reject_id, "author": author, "reason": reason},
    )
    details = {"symbol": chosen.symbol, "date": chosen.date, "rule": chosen.rule, "reason": reason}
    audit.record(connection, "quarantine_release", ("quarantined_bars", reject_id), "release", details)
    return chosen
