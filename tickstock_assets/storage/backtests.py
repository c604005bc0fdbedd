"""Backtests in the database: what identifies one, and writing it."""

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata

import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.domain.backtest.engine import BacktestReport
from tickstock_assets.domain.backtest.inputs import BacktestConfig
from tickstock_assets.storage import audit
from tickstock_assets.storage.bulk import MergeCounts, Scope, merge
from tickstock_assets.storage.ledger import NAMESPACE


@dataclass(frozen=True)
class BacktestInputs:
    """What a backtest read: its configuration and every frame, by name."""

    config: BacktestConfig
    bars: pd.DataFrame
    frames: dict[str, pd.DataFrame]

    @property
    def header(self) -> dict[str, str | datetime]:
        """Everything of `backtest_runs` that the inputs decide, the id among it."""
        config = json.dumps(asdict(self.config), sort_keys=True)
        config_hash = hashlib.sha256(config.encode()).hexdigest()
        code_version = metadata.version("tickstock-assets")
        data_hash = _data_hash({"bars": self.bars, **self.frames})
        return {
            "id": str(uuid.uuid5(NAMESPACE, "|".join(["backtest", config_hash, code_version, data_hash]))),
            "config": config,
            "config_hash": config_hash,
            "code_version": code_version,
            "data_hash": data_hash,
            "data_as_of": self.bars["session_close"].max().to_pydatetime(),
            "data_source": ",".join(sorted(self.bars["source"].unique())),
        }


def save_backtest(
    connection: Connection, inputs: BacktestInputs, report: BacktestReport, started_at: datetime
) -> tuple[str, MergeCounts]:
    """Store a backtest under the id that its configuration, code and data give it, and return id and counts.

    Computing the same backtest again changes nothing: the moments of the first time stay.
    """
    header = inputs.header
    run = str(header["id"])
    known = connection.execute(text("SELECT 1 FROM backtest_runs WHERE id = :id"), {"id": run}).scalar()
    moments = {} if known else {"started_at": started_at, "finished_at": datetime.now(UTC)}
    counts = merge(connection, "backtest_runs", pd.DataFrame([{**header, **moments}]))
    for table, frame in {"backtest_results": _result_rows(report), "backtest_trades": _trade_rows(report)}.items():
        counts += merge(connection, table, frame.assign(run=run), Scope(where={"run": [run]}))
    if counts.written or counts.removed:
        audit.record(connection, "backtest", ("backtest_runs", run), "save", asdict(counts))
    return run, counts


def _data_hash(frames: dict[str, pd.DataFrame]) -> str:
    digest = hashlib.sha256()
    for name, frame in sorted(frames.items()):
        digest.update(name.encode())
        digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _strategy_names(frame: pd.DataFrame) -> pd.Series:
    return frame["pattern"] + frame["variant"].where(frame["variant"] == "", " " + frame["variant"])


def _result_rows(report: BacktestReport) -> pd.DataFrame:
    rows = report.results.assign(strategy_name=_strategy_names(report.results), timeframe="1d")
    for column, session in (("start_date", "start"), ("end_date", "end")):
        rows[column] = rows.pop(session)
    return rows.drop(columns="variant")


def _trade_rows(report: BacktestReport) -> pd.DataFrame:
    return report.trades.rename(columns={"detection_timestamp": "detected_at"})
