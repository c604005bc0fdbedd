"""From landed payloads to tables: parse, judge, merge; a batch is one transaction."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pandas as pd
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.calendar import exchanges
from tickstock_assets.loading.deliveries import Delivery, deliveries
from tickstock_assets.loading.lineup import Lineup, source_of
from tickstock_assets.loading.observer import Observer
from tickstock_assets.loading.removed_minutes import without_removed
from tickstock_assets.loading.validating import keep_valid_rows
from tickstock_assets.providers.base import Dataset, Provider
from tickstock_assets.storage import audit, bars, ledger, removal
from tickstock_assets.storage.bulk import MergeCounts, merge
from tickstock_assets.storage.retry import in_transaction
from tickstock_assets.storage.streamed_twins import remove_streamed_twins

TABLES = {Dataset.DAILY_BARS: "ohlcv_daily", Dataset.MINUTE_BARS: "ohlcv_1min", Dataset.TRADES: "ticks"}
# Of a partition of each.
PERIODS = {Dataset.DAILY_BARS: "Y", Dataset.MINUTE_BARS: "M", Dataset.TRADES: "D"}


@dataclass
class Stored:
    """What became of landed rows.

    Attributes:
        rows_in: read.
        rejected: set aside.
        counts: what the merge did with the others.
        partitions: symbol, period (datetime64, first day of the year, of minutes of the month, of trades the day), rows,
            first and last (datetime64, days).
    """

    rows_in: int = 0
    rejected: int = 0
    counts: MergeCounts = field(default_factory=MergeCounts)
    partitions: list[pd.DataFrame] = field(default_factory=list)


def store(
    lineup: Lineup,
    engine: Engine,
    folder: Path,
    windows: Sequence[Window],
    dataset: Dataset = Dataset.DAILY_BARS,
    *,
    new: bool = False,
    removed_too: bool = False,
    observer: Observer | None = None,
    run: audit.Run | None = None,
) -> Stored:
    """Bring the landed rows of `windows` into their table, and into quarantine what breaks the contract.

    Args:
        lineup: whose rows; where several have a bar, the source that ranks first counts.
        engine: of the database.
        folder: where payloads are landed.
        windows: whose bars, and which days.
        dataset: bars of which kind.
        new: only rows that have not been brought there yet.
        removed_too: also minutes that a person removed, of which a person now wants the newest answer.
        observer: hears of every batch.
        run: under whose name it stands in the audit trail.
    """
    result, table = Stored(), TABLES[dataset]
    for provider in lineup:
        if not provider.routes(dataset):
            continue
        for delivery in deliveries(provider, dataset, engine, folder, windows, new=new):

            def bring(
                connection: Connection, provider: Provider = provider, delivery: Delivery = delivery
            ) -> tuple[MergeCounts, Counter[str], pd.DataFrame]:
                valid, rejected = keep_valid_rows(
                    connection, provider, dataset, delivery, _sessions(connection, delivery)
                )
                if dataset is Dataset.MINUTE_BARS:
                    if removed_too:
                        removal.allow_again(connection, delivery.windows)
                    valid = without_removed(connection, valid)
                counts = merge(connection, table, valid if table == "ohlcv_daily" else valid.drop(columns="date"))
                if dataset is Dataset.TRADES and len(valid):
                    first, last = valid["timestamp"].min(), valid["timestamp"].max()
                    remove_streamed_twins(connection, sorted(valid["symbol"].unique()), first.floor("ms"), last)
                if counts.written:
                    symbols = sorted({window.symbol for window in delivery.windows})
                    particulars = {**vars(counts), "source": provider.source(dataset), "symbols": symbols}
                    audit.record(connection, "load", (table, table), "merge", particulars)
                ledger.mark_stored(connection, source_of(provider, dataset), delivery.landed)
                return counts, rejected, _partitions(valid, dataset)

            counts, rejected, partitions = in_transaction(engine, bring, run)
            result.rows_in += len(delivery.frame)
            result.rejected += rejected.total()
            result.counts += counts
            result.partitions.append(partitions)
            if observer is not None:
                valid = {str(symbol): int(rows) for symbol, rows in partitions.groupby("symbol")["rows"].sum().items()}
                observer.stored(delivery.windows, counts, valid, rejected)
    return result


def _sessions(connection: Connection, delivery: Delivery) -> pd.DataFrame:
    """Return the sessions of a delivery's days, of every exchange that a symbol of it has."""
    frame = delivery.frame
    dates = frame["date"].dropna()
    first, last = (dates.min().date(), dates.max().date()) if len(dates) else (date.max, date.min)
    found = [
        bars.sessions(connection, exchange, first, last).assign(exchange=exchange)
        for exchange in exchanges(connection, frame["asked_for"].unique()) or [DEFAULT_EXCHANGE]
    ]
    return pd.concat(found)


def _partitions(valid: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Return rows, first and last day of each symbol's period."""
    days = valid["date"]
    period = days.dt.to_period(PERIODS[dataset])
    grouped = days.groupby([valid["symbol"], period.dt.start_time]).agg(["size", "min", "max"]).reset_index()
    return grouped.set_axis(["symbol", "period", "rows", "first", "last"], axis="columns")
