"""What keeps the contract goes on; what breaks it is set aside with rule and reason."""

from collections import Counter
from collections.abc import Callable, Mapping

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandera.pandas import DataFrameSchema
from sqlalchemy import Connection

from tickstock_assets.domain import schemas
from tickstock_assets.domain.quality import violations
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE
from tickstock_assets.loading.deliveries import Delivery
from tickstock_assets.loading.lineup import source_of
from tickstock_assets.providers.base import Dataset, Provider
from tickstock_assets.storage import bars, quarantine
from tickstock_assets.storage.ledger import Source

# Of delivered rows, from the sessions of their exchange as `trading_sessions` gives them.
CONTRACTS: Mapping[Dataset, Callable[[pd.DataFrame], DataFrameSchema]] = {
    Dataset.DAILY_BARS: lambda sessions: schemas.daily_bars(sessions["session"], delivered=True),
    Dataset.MINUTE_BARS: lambda sessions: schemas.minute_bars(sessions, delivered=True),
    Dataset.TRADES: schemas.trades,
}


def keep_valid_rows(
    connection: Connection, provider: Provider, dataset: Dataset, delivery: Delivery, sessions: pd.DataFrame
) -> tuple[pd.DataFrame, Counter[str]]:
    """Return the bars or trades that can be stored, with `date`, and how many rows of each symbol were set aside.

    What was set aside of these days before and is not in this delivery counts no more: the provider has corrected it.

    Args:
        connection: open.
        provider: whose.
        dataset: rows of which kind.
        delivery: they.
        sessions: of every exchange that a symbol among them has, as `trading_sessions` gives them.
    """
    frame = delivery.frame
    exchange = frame["asked_for"].map(bars.exchanges(connection, frame["asked_for"].unique())).fillna(DEFAULT_EXCHANGE)
    since = bars.tickers_since(connection)
    rejects = pd.concat(
        broken_rules(frame[exchange == name], dataset, sessions[sessions["exchange"] == name], since)
        for name in (exchange.unique() if len(frame) else [DEFAULT_EXCHANGE])
    )
    named = rejects.assign(symbol=rejects["asked_for"].where(rejects["rule"] != "invalid_symbol", rejects["symbol"]))
    sent = delivery.as_sent(rejects.index.tolist())
    released = quarantine.set_aside(connection, source_of(provider, dataset), named, sent, delivery.windows)
    kept_out = rejects.index.difference(released)
    valid = frame.drop(index=kept_out).drop(columns="asked_for").assign(source=provider.source(dataset))
    if dataset is Dataset.TRADES:
        valid = _with_keys(valid).drop(columns="sequence")
    else:
        valid = valid.assign(exchange=exchange[valid.index])
    return valid, Counter(frame.loc[kept_out, "asked_for"])


def _with_keys(trades: pd.DataFrame) -> pd.DataFrame:
    """Return trades with a venue and an id, which are part of their key, also where the feed gives none.

    The id is then a number within the moment, in the order of the tape.
    """
    ordered = trades.sort_values("sequence", kind="stable").assign(exchange=lambda frame: frame["exchange"].fillna(""))
    unnamed = ordered["trade_id"].isna()
    numbers = ordered[unnamed].groupby(["symbol", "timestamp", "exchange"]).cumcount().astype("str")
    return ordered.assign(trade_id=ordered["trade_id"].fillna(numbers))


def broken_rules(
    delivered: pd.DataFrame, dataset: Dataset, sessions: pd.DataFrame, since: Mapping[str, pd.Timestamp]
) -> pd.DataFrame:
    """Return what delivered rows of one exchange break of the contract of their stage, as `violations` does.

    Args:
        delivered: parsed rows with `asked_for`.
        dataset: rows of which kind.
        sessions: of the exchange, as `trading_sessions` gives them.
        since: by symbol, the day from which on its ticker is its own.
    """
    judged = delivered.assign(ticker_since=delivered["asked_for"].map(since).astype("datetime64[us]"))
    if dataset is Dataset.TRADES:
        # Lists cannot be compared, and a repeat has to be found.
        joined = pc.binary_join(pa.array(judged["conditions"], pa.list_(pa.string())), ",")
        judged["conditions"] = pd.Series(joined.to_pandas(), judged.index, dtype="str")
    return violations(judged, CONTRACTS[dataset](sessions))


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
