"""What keeps the contract goes on; what breaks it is set aside with rule and reason."""

from collections import Counter
from collections.abc import Callable, Mapping

import pandas as pd
import pyarrow as pa
from pandera.pandas import DataFrameSchema
from sqlalchemy import Connection

from tickstock_assets.domain import schemas
from tickstock_assets.domain.quality import violations
from tickstock_assets.loading.deliveries import Delivery
from tickstock_assets.loading.lineup import source_of
from tickstock_assets.providers.base import Dataset, Provider
from tickstock_assets.storage import bars, quarantine
from tickstock_assets.storage.ledger import Source

CONTRACTS: Mapping[Dataset, Callable[..., DataFrameSchema]] = {
    Dataset.DAILY_BARS: schemas.daily_bars,
    Dataset.MINUTE_BARS: schemas.minute_bars,
}


def keep_valid_bars(
    connection: Connection, provider: Provider, dataset: Dataset, delivery: Delivery, sessions: pd.Series
) -> tuple[pd.DataFrame, Counter[str]]:
    """Return the bars that can be stored, as columns of their table, and how many rows of each symbol were set aside.

    What was set aside of these days before and is not in this delivery counts no more: the provider has corrected it.
    `sessions` are the exchange's (datetime64, midnight without a zone).
    """
    frame = delivery.frame
    since = bars.tickers_since(connection)
    contract = CONTRACTS[dataset](sessions, delivered=True)
    judged = frame.assign(ticker_since=frame["asked_for"].map(since).astype("datetime64[us]"))
    rejects = violations(judged, contract)
    named = rejects.assign(symbol=rejects["asked_for"].where(rejects["rule"] != "invalid_symbol", rejects["symbol"]))
    sent = delivery.as_sent(rejects.index.tolist())
    released = quarantine.set_aside(connection, source_of(provider, dataset), named, sent, delivery.windows)
    kept_out = rejects.index.difference(released)
    valid = frame.drop(index=kept_out).drop(columns="asked_for")
    if dataset is Dataset.MINUTE_BARS:
        valid = valid.drop(columns="date")
    return valid.assign(source=provider.name), Counter(frame.loc[kept_out, "asked_for"])


def keep_valid(
    connection: Connection, source: Source, frame: pd.DataFrame, contract: DataFrameSchema
) -> tuple[pd.DataFrame, int]:
    """Return the rows that keep a contract, and how many others were set aside.

    Args:
        connection: open.
        source: what the rows came as, and from whom.
        frame: with a unique index from 0.
        contract: what to hold the rows against.
    """
    rejects = violations(frame, contract)
    if rejects.empty:
        return frame, 0
    as_sent = pa.Table.from_pandas(frame.loc[rejects.index], preserve_index=False)
    released = quarantine.set_aside(connection, source, rejects, as_sent.to_pylist())
    kept_out = rejects.index.difference(released)
    return frame.drop(index=kept_out), len(kept_out)
