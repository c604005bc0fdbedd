"""All rules over the same bars."""

from typing import Literal

import numpy as np
import pandas as pd

from tickstock_assets.domain.adjustments import to_continuous
from tickstock_assets.domain.anomalies import price_spikes, stale_runs, unrecorded_splits, volume_outliers, zero_volume
from tickstock_assets.domain.anomalies.findings import COLUMNS
from tickstock_assets.domain.anomalies.neighbourhood import local_sigma

type Timeframe = Literal["1d", "1m"]

RULES = (price_spikes.RULE, stale_runs.RULE, volume_outliers.RULE, zero_volume.RULE, unrecorded_splits.RULE)


def find(bars: pd.DataFrame, splits: pd.DataFrame, timeframe: Timeframe) -> pd.DataFrame:
    """Return what is odd about bars, by symbol, timestamp and rule.

    Splits that are found and not recorded are undone too, so that they are found once and not by every rule.

    Args:
        bars: as the package says but unadjusted, in any order.
        splits: symbol, execution_date, split_from, split_to; all that are recorded.
        timeframe: 1d or 1m. Splits are looked for in days.
    """
    if bars.empty:
        return pd.DataFrame(columns=COLUMNS)
    ordered = bars.sort_values(["symbol", "timestamp"], ignore_index=True).assign(date=lambda frame: frame["session"])
    found = []
    if timeframe == "1d":
        suspected = unrecorded_splits.unrecorded_splits(_measured(ordered, splits), splits)
        found.append(suspected)
        splits = pd.concat([splits, _as_splits(suspected)], ignore_index=True)
    continuous = _measured(ordered, splits)
    found += [
        price_spikes.price_spikes(continuous, timeframe),
        stale_runs.stale_runs(continuous, timeframe),
        volume_outliers.volume_outliers(continuous, timeframe),
        zero_volume.zero_volume(continuous),
    ]
    there = [rows for rows in found if len(rows)]
    if not there:
        return found[0]
    return pd.concat(there, ignore_index=True).sort_values(["symbol", "timestamp", "rule"], ignore_index=True)[COLUMNS]


def _measured(bars: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Return the bars without splits, each with the standard deviation of returns around it."""
    continuous = to_continuous(bars, splits)
    return continuous.assign(sigma=local_sigma(continuous))


def _as_splits(suspected: pd.DataFrame) -> pd.DataFrame:
    evidence = pd.DataFrame(suspected["evidence"].tolist(), columns=["execution_date", "split_from", "split_to"])
    return pd.DataFrame(
        {
            "symbol": suspected["symbol"].array,
            "execution_date": pd.to_datetime(evidence["execution_date"]).astype("datetime64[us]"),
            "split_from": evidence["split_from"].astype(np.float64),
            "split_to": evidence["split_to"].astype(np.float64),
        }
    )
