"""Writing what is found out about bars: rejected rows and detections."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
import pyarrow as pa
from sqlalchemy import Connection

from tickstock_assets.storage import audit
from tickstock_assets.storage.bulk import MergeCounts, merge
from tickstock_assets.storage.ledger import NAMESPACE, Source


def content_ids(kind: str, frame: pd.DataFrame, key: Sequence[str]) -> list[str]:
    """Return one uuid5 a row, made from the row's key, so that the same finding has the same id everywhere."""
    columns = [frame[name].astype(str) for name in key]
    return [str(uuid.uuid5(NAMESPACE, "|".join([kind, *values]))) for values in zip(*columns, strict=True)]


def quarantine(connection: Connection, source: Source, rejects: pd.DataFrame, raw: pa.Table) -> MergeCounts:
    """Set rejected rows aside, as they came.

    Args:
        connection: open.
        source: what they came as, and from whom.
        rejects: offending rows with symbol, rule, reason and, where they have one, date.
        raw: the same rows in the same order as the provider sent them.

    Returns:
        The counts; a row that is in quarantine already is unchanged.
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
    return counts


def as_pattern_rows(detections: pd.DataFrame, features: pd.DataFrame, timeframe: str) -> pd.DataFrame:
    """Return detections as rows of `patterns`: with id, timeframe and the ratios of the bar that completes each."""
    ratios = features[["symbol", "timestamp", "volume_ratio", "spread_ratio"]]
    rows = detections.assign(timeframe=timeframe).merge(ratios, how="left", on=["symbol", "timestamp"])
    rows["metadata"] = [json.dumps(details, sort_keys=True) for details in rows["metadata"]]
    rows["id"] = content_ids("pattern", rows, ["symbol", "timeframe", "timestamp", "pattern", "variant"])
    return rows
