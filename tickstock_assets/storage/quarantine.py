"""Rejected rows, as they came: set aside with rule and reason, looked at, and let pass by a person who knows better."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime

import numpy as np
import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import audit
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.findings import content_ids
from tickstock_assets.storage.ledger import Source

# What the table of bars itself refuses no person can let pass. Of two rows that contradict each other one may be right.
RELEASABLE = {"duplicate_key"}
# The tables of the datasets that rows can be let pass to, and by what, besides symbol and source, theirs are told apart.
TABLES = {"daily_bars": ("ohlcv_daily", "date"), "minute_bars": ("ohlcv_1min", "timestamp")}


@dataclass(frozen=True)
class Reject:
    """A row in quarantine, to be shown."""

    id: str
    symbol: str | None
    date: date | None
    timestamp: datetime | None
    rule: str
    reason: str
    source: str
    dataset: str
    row: dict[str, object]
    released_by: str | None

    @property
    def name(self) -> str:
        """Whose row, and of which day or moment."""
        moment = f"{self.timestamp:%Y-%m-%d %H:%M} UTC" if self.timestamp else self.date
        return " ".join(str(part) for part in (self.symbol, moment) if part is not None)


# What the rows of a dataset are bars of; others are no bars.
TIMEFRAMES = {"daily_bars": "1d", "minute_bars": "1m"}
# PostgreSQL has no text with NUL, nor with half of a character that UTF-16 writes in two.
NOT_IN_TEXT = re.compile("[\0\ud800-\udfff]")
# Of Python's dates, by which what is set aside is read.
FIRST_YEAR, LAST_YEAR = date.min.year, date.max.year


def set_aside(
    connection: Connection,
    source: Source,
    rejects: pd.DataFrame,
    rows: Sequence[Mapping[str, object]],
    windows: Sequence[Window] = (),
) -> pd.Index:
    """Set rejected rows aside, as they came.

    Args:
        connection: open.
        source: what they came as, and from whom.
        rejects: offending rows with symbol, rule, reason and, where they have one, date.
        rows: the same ones in the same order as the provider sent them.
        windows: the days that the provider's newest answer is for; what was set aside of them before and is not among
            the rejects counts no more.

    Returns:
        The index of those that a person has let pass since they were first set aside.
    """
    if rejects.empty:
        _supersede(connection, source, [], windows)
        return rejects.index
    source = replace(source, provider=_text(source.provider))
    never = pd.Series(pd.NaT, rejects.index, dtype="datetime64[us, UTC]")
    kept = pd.DataFrame(
        {
            "symbol": rejects["symbol"].where((rejects["rule"] != "invalid_symbol") & (source.dataset != "symbols")),
            "timeframe": TIMEFRAMES.get(source.dataset),
            "date": of_python_years(rejects["date"]) if "date" in rejects else pd.NaT,
            "timestamp": of_python_years(rejects.get("timestamp", never)),
            "rule": rejects["rule"],
            "reason": rejects["reason"].map(_text),
            "source": source.provider,
            "dataset": source.dataset,
            "source_version": source.version,
            "row": [json.dumps(_as_json(row), sort_keys=True, default=str) for row in rows],
            "superseded_at": never,
        }
    )
    # Equal rows are told apart by their place among themselves, so that a repeat is not lost.
    kept["occurrence"] = kept.groupby(["row"]).cumcount()
    kept["id"] = content_ids("quarantine", kept, ["source", "dataset", "row", "occurrence"])
    counts = merge(connection, "quarantined_bars", kept.drop(columns="occurrence"))
    if counts.inserted:
        particulars = {**asdict(source), "rows": counts.inserted, "rules": sorted(set(rejects["rule"]))}
        audit.record(connection, "quarantine", ("quarantined_bars", "quarantined_bars"), "set aside", particulars)
    _supersede(connection, source, kept["id"].tolist(), windows)
    released = connection.execute(
        text("SELECT id::text FROM quarantined_bars WHERE id = ANY (CAST(:ids AS uuid[])) AND released_at IS NOT NULL"),
        {"ids": kept["id"].tolist()},
    ).scalars()
    return rejects.index[kept["id"].isin(list(released)).to_numpy()]


def of_python_years(moments: pd.Series) -> pd.Series:
    """Return days or moments; those before the year 1 or after 9999 are missing."""
    return moments.where(moments.dt.year.between(FIRST_YEAR, LAST_YEAR))


def _as_json(value: object) -> object:
    """Return a value as JSONB takes it, which knows neither NaN nor NUL; what it takes stays as it is."""
    if isinstance(value, Mapping):
        return {_as_json(name): _as_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_as_json(one) for one in value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, pd.Timestamp) and not FIRST_YEAR <= value.year <= LAST_YEAR:
        # Nobody can write its date, so it is the microseconds since 1970.
        return int(value.to_datetime64().astype("datetime64[us]").astype(np.int64))
    if value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    return str(value) if isinstance(value, float) and np.isinf(value) else value


def _text(value: str) -> str:
    return NOT_IN_TEXT.sub("\ufffd", value)


def _supersede(connection: Connection, source: Source, present: Sequence[str], windows: Sequence[Window]) -> None:
    """Enter that what was set aside of some days is not sent any more, but for those that are present."""
    if windows:
        connection.execute(
            text("""
                UPDATE quarantined_bars q SET superseded_at = clock_timestamp()
                FROM unnest(CAST(:symbols AS text[]), CAST(:starts AS date[]), CAST(:ends AS date[]))
                    AS w (symbol, first_day, last_day)
                WHERE q.source = :provider AND q.dataset = :dataset AND q.superseded_at IS NULL
                  AND q.symbol = w.symbol AND q.date BETWEEN w.first_day AND w.last_day
                  AND q.id <> ALL (CAST(:present AS uuid[]))
            """),
            {
                "provider": source.provider,
                "dataset": source.dataset,
                "present": list(present),
                "symbols": [window.symbol for window in windows],
                "starts": [window.start for window in windows],
                "ends": [window.end for window in windows],
            },
        )


def rejects(connection: Connection, symbols: Sequence[str] | None = None) -> list[Reject]:
    """Return what is in quarantine, by symbol and date; of all symbols where none is named."""
    found = connection.execute(
        text("""
            SELECT id::text, symbol, date, timestamp, rule, reason, source, dataset, row, released_by
            FROM quarantined_bars
            WHERE CAST(:symbols AS text[]) IS NULL OR symbol = ANY (:symbols)
            ORDER BY symbol, date, timestamp, rule, id
        """),
        {"symbols": None if symbols is None else list(symbols)},
    )
    return [Reject(**row) for row in found.mappings()]


def _place_of(reject: Reject) -> tuple[object, ...]:
    """Return what only one row of a source can be."""
    return reject.source, reject.dataset, reject.symbol, reject.date, reject.timestamp


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
            f"Quarantine: {chosen.name} cannot be released, since {chosen.reason}; "
            "have the provider correct it and load it again"
        )
    if chosen.dataset not in TABLES:
        raise ConfigError(
            f"Quarantine: expected a daily or minute bar to release, found {chosen.name} of {chosen.dataset}; "
            "have the provider correct it and load it again"
        )
    twins = [other for other in rejects(connection, [str(chosen.symbol)]) if _place_of(other) == _place_of(chosen)]
    if already := next((twin for twin in twins if twin.released_by), None):
        raise ConfigError(
            f"Quarantine: expected no row of {chosen.name} to have been released, "
            f"found one that {already.released_by} let pass; only one of them can be right"
        )
    table, column = TABLES[chosen.dataset]
    stored = connection.execute(
        text(f"SELECT 1 FROM {table} WHERE symbol = :symbol AND {column} = :moment AND source = :source"),  # noqa: S608
        {"symbol": chosen.symbol, "moment": getattr(chosen, column), "source": chosen.source},
    ).scalar()
    if stored:
        raise ConfigError(
            f"Quarantine: expected no bar of {chosen.name}, found one stored from the same source; "
            "this row only repeats it"
        )
    connection.execute(
        text("""
            UPDATE quarantined_bars SET released_at = clock_timestamp(), released_by = :author, release_reason = :reason
            WHERE id = CAST(:id AS uuid)
        """),
        {"id": reject_id, "author": author, "reason": reason},
    )
    # What is landed of that day is to be read again.
    connection.execute(
        text("""
            DELETE FROM stored_windows
            WHERE provider = :source AND dataset = :dataset AND symbol = :symbol
              AND :date BETWEEN window_start AND window_end
        """),
        {"source": chosen.source, "dataset": chosen.dataset, "symbol": chosen.symbol, "date": chosen.date},
    )
    details = {
        "symbol": chosen.symbol,
        "date": chosen.date,
        "timestamp": chosen.timestamp,
        "rule": chosen.rule,
        "reason": reason,
    }
    audit.record(connection, "quarantine_release", ("quarantined_bars", reject_id), "release", details)
    return chosen
