"""Minute bars from stored trades, for minutes that no provider has a bar of; a session of a symbol at a time."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.trade_conditions import RULES, Rules
from tickstock_assets.domain.trades import minute_bars
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.removed_minutes import without_removed
from tickstock_assets.loading.storing import Stored
from tickstock_assets.storage import audit, minutes
from tickstock_assets.storage.bulk import MergeCounts, lock_symbols, merge
from tickstock_assets.storage.database import driver
from tickstock_assets.storage.minutes import TradedSession
from tickstock_assets.storage.removal import remove_untraded
from tickstock_assets.storage.retry import in_transaction

# Before the provider's name in the source of a bar that is made from its trades.
MADE_OF_TRADES = "ticks:"


def store_trade_bars(engine: Engine, windows: Sequence[Window], run: audit.Run | None = None) -> Stored:
    """Make minute bars of the trades in windows and merge them; where there is a provider's own bar, that stays.

    Args:
        engine: of the database.
        windows: whose trades, and which days.
        run: under whose name it stands in the audit trail.
    """
    result = Stored()
    with engine.connect() as connection:
        sessions = minutes.traded_sessions(connection, windows)
    for session in sessions:
        n_trades, n_bars, counts = in_transaction(engine, partial(_bring, session=session), run)
        result.rows_in += n_trades
        result.counts += counts
        day = pd.Timestamp(session.session)
        result.partitions.append(
            pd.DataFrame({"symbol": session.symbol, "period": [day], "rows": n_bars, "first": [day], "last": [day]})
        )
    return result


def _bring(connection: Connection, session: TradedSession) -> tuple[int, int, MergeCounts]:
    """Return how many trades made how many bars, and what the merge did with these."""
    with driver(connection).cursor() as cursor:
        # Before the trades are read, so that no bar of others' which is made of later ones is taken for one without any.
        lock_symbols(cursor, ["ohlcv_1min"], [session.symbol])
    trades = minutes.trades(connection, session)
    n_bars, counts = 0, MergeCounts()
    for source, of_source in trades.groupby("source"):
        bars = minute_bars(of_source, RULES.get(str(source), Rules()))
        bars = without_removed(connection, bars.assign(source=f"{MADE_OF_TRADES}{source}", exchange=session.exchange))
        n_bars += len(bars)
        counts += merge(connection, "ohlcv_1min", bars)
        # Before the first of them trades may have been dropped for their age.
        first = max(session.begins, of_source["timestamp"].min().floor("min").to_pydatetime())
        traded = [moment.to_pydatetime() for moment in bars["timestamp"]]
        hours, made_of_them = (first, session.ends), f"{MADE_OF_TRADES}{source}"
        removed = remove_untraded(connection, session.symbol, hours, source=made_of_them, traded=traded)
        counts += MergeCounts(removed=removed)
    if counts.written or counts.removed:
        day = session.session
        particulars = {**vars(counts), "source": "ticks", "symbols": [session.symbol], "first": day, "last": day}
        audit.record(connection, "load", ("ohlcv_1min", "ohlcv_1min"), "merge", particulars)
    return len(trades), n_bars, counts
