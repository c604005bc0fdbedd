"""Scores of the sessions of some windows, from what is stored, missing, rejected and found; only what changed is entered.

Elsewhere: the formula (domain/anomalies/scores.py), what is counted (storage/quality_scores.py).
"""

from collections.abc import Sequence
from datetime import date, datetime
from functools import partial
from itertools import batched

import pandas as pd
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.anomalies.scores import session_scores
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.reconciling import DISAGREEMENT
from tickstock_assets.providers.base import Dataset
from tickstock_assets.storage import audit, bars, data_gaps, quality_scores
from tickstock_assets.storage.retry import in_transaction

YEARS_A_BATCH = 50
DATASETS = {"1d": Dataset.DAILY_BARS, "1m": Dataset.MINUTE_BARS}


def score(connection: Connection, lineup: Lineup, windows: Sequence[Window]) -> int:
    """Score every session in which bars can be expected, of both timeframes; return how many scores are new or changed."""
    n_entered = 0
    for timeframe, dataset in DATASETS.items():
        counts = quality_scores.counts(connection, timeframe, windows, DISAGREEMENT)
        rejected = bars.quarantined(connection, lineup.sources(dataset), windows)
        scores = session_scores(with_rejected(counts, rejected))
        n_entered += quality_scores.enter(connection, timeframe, scores)
    return n_entered


def score_gaps(engine: Engine, lineup: Lineup, since: datetime | None, run: audit.Run | None = None) -> int:
    """Score the years anew of which gaps changed since a moment, or ever; return how many scores that changed.

    What was a hole when a session was scored may be a halt by now, which is nobody's fault. Whole years, since a session
    without any bar counts where its month or year has some.
    """
    with engine.connect() as connection:
        changed = data_gaps.years_changed_since(connection, since)
    years = [Window(symbol, date(year, 1, 1), date(year, 12, 31)) for symbol, year in changed]
    return sum(
        in_transaction(engine, partial(score, lineup=lineup, windows=group), run)
        for group in batched(years, YEARS_A_BATCH)
    )


def with_rejected(counts: pd.DataFrame, rejected: pd.DataFrame) -> pd.DataFrame:
    """Return the counts with a column `rejected`: the rows in quarantine of each session.

    A row of a day on which the exchange was closed counts to the next session that is scored: something that delivers bars
    of holidays is not to be trusted around them. One that names no day counts nowhere.

    Args:
        counts: symbol and session among its columns.
        rejected: symbol and date, a row each.
    """
    days = rejected.dropna(subset=["symbol", "date"])[["symbol", "date"]].sort_values("date")
    sessions = counts[["symbol", "session"]].sort_values("session")
    if days.empty or sessions.empty:
        return counts.assign(rejected=0)
    at = pd.merge_asof(days, sessions, left_on="date", right_on="session", by="symbol", direction="forward")
    n_rejected = at.groupby(["symbol", "session"]).size().rename("rejected").reset_index()
    joined = counts.merge(n_rejected, how="left", on=["symbol", "session"])
    return joined.assign(rejected=joined["rejected"].fillna(0).astype("int64"))
