"""Writing what is found out about bars: rejected rows and backtests."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
from sqlalchemy import Connection

from tickstock_assets.storage.bulk import MergeCounts, merge
from tickstock_assets.storage.ledger import NAMESPACE


def content_ids(kind: str, frame: pd.DataFrame, key: Sequence[str]) -> list[str]:
    """Return one uuid5 a row, made from the row's key, so that the same finding has the same id everywhere."""
    columns = [frame[name].astype(str) for name in key]
    return [str(uuid.uuid5(NAMESPACE, "|".join([kind, *values]))) for values in zip(*columns, strict=True)]


def quarantine(connection: Connection, source: str, rejects: pd.DataFrame, raw: pa.Table) -> MergeCounts:
    """Set rejected rows aside, as they came.

    Args:
        connection: open.
        source: the provider they came from.
        rejects: offending rows with symbol, rule, reason and, where they have one, date.
        raw: the same rows in the same order as the provider sent them.

    Returns:
        The counts; a row that is in quarantine already is unchanged.
    """
    rows = pd.DataFrame(
        {
            "symbol": rejects["symbol"].where(rejects["rule"] != "invalid_symbol"),
            "timeframe": "1d",
            "date": rejects["date"] if "date" in rejects else pd.NaT,
            "rule": rejects["rule"],
            "reason": rejects["reason"],
            "source": source,
            "row": [json.dumps(row, sort_keys=True, default=str) for row in raw.to_pylist()],
        }
    )
    # Equal rows are told apart by their place among themselves, so that a repeat is not lost.
    rows["occurrence"] = rows.groupby(["row"]).cumcount()
    rows["id"] = content_ids("quarantine", rows, ["source", "row", "occurrence"])
    return merge(connection, "quarantined_bars", rows.drop(columns="occurrence"))


def save_backtest(
    connection: Connection, run: dict[str, Any], results: pd.DataFrame, trades: pd.DataFrame
) -> dict[str, MergeCounts]:
    """Store a backtest under the id that its configuration, code and data give it; computing it again changes nothing.

    Args:
        connection: open.
        run: config (JSON text), config_hash, code_version, data_hash, data_as_of, data_source, started_at, finished_at.
        results: columns of `backtest_results` without `run`.
        trades: columns of `backtest_trades` without `run`.
    """
    run_id = backtest_id(run)
    first_seen = {"started_at", "finished_at"}
    header = pd.DataFrame([{"id": run_id, **run}])
    if _exists(connection, run_id):
        header = header.drop(columns=list(first_seen))
    return {
        "backtest_runs": merge(connection, "backtest_runs", header),
        "backtest_results": merge(connection, "backtest_results", results.assign(run=run_id)),
        "backtest_trades": merge(connection, "backtest_trades", trades.assign(run=run_id)),
    }


def backtest_id(run: dict[str, Any]) -> str:
    """Return the id of a backtest."""
    return str(uuid.uuid5(NAMESPACE, "|".join(["backtest", run["config_hash"], run["code_version"], run["data_hash"]])))


def _exists(connection: Connection, run_id: str) -> bool:
    return (
        connection.exec_driver_sql("SELECT 1 FROM backtest_runs WHERE id = %(id)s", {"id": run_id}).scalar() is not None
    )
