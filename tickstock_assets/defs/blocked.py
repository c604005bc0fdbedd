"""Which partitions a hard rule keeps from what is downstream: of that symbol and period only, and for every run the same.

A rule is a function first: a connection and windows in, the partitions that break it out. It judges what is stored and in
quarantine, nothing that Dagster remembers, so a run that starts at an asset is held back like the run that computed what
it reads. Two sorts of callers:

- A partitioned asset that computes from others asks `blocked(connection, names of those, windows)` for each batch and
  leaves these partitions out (batches.py): they stay unmaterialized, a warning in the run's log names them, and a run of
  which all are left out fails.
- The checks of an asset with rules here show what they found: `broken(connection, asset name, windows)` has one row a
  partition and rule. Such a check is ERROR where the frame is not empty, names the partitions in its metadata, and is
  *not* `blocking=True`: that would stop the other symbols and years too.

Quality findings and scores are never held back: they are there to measure what is bad.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from sqlalchemy import Connection

from tickstock_assets.defs.partitions import BY_DAY, BY_MONTH, BY_YEAR, FREQUENCIES, Grid
from tickstock_assets.defs.resources import lineup
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading import stored_rules
from tickstock_assets.loading.stored_rules import Judged
from tickstock_assets.providers.base import Dataset
from tickstock_assets.settings import settings
from tickstock_assets.storage import bars, partition_counts

# One bad row among a year's first few is not yet a share of anything.
ROWS_JUDGED_AT_LEAST = 20
# The rows of so many windows are held at a time where a rule looks at rows.
WINDOWS_AT_A_TIME = 50
COLUMNS = ["partition", "rule", "reason"]
NOTHING_BROKEN = pd.DataFrame(
    {"symbol": pd.Series(dtype="str"), "day": pd.Series(dtype="datetime64[us]"), "reason": pd.Series(dtype="str")}
)


@dataclass(frozen=True)
class Rule:
    """A hard rule of an asset.

    Attributes:
        name: of the rule, which is the end of its check's name.
        grid: the asset's partitions.
        judge: gives the rows or counts that break it: symbol, day (datetime64, of the partition), reason.
    """

    name: str
    grid: Grid
    judge: Callable[[Connection, Sequence[Window]], pd.DataFrame]


def blocked(connection: Connection, assets: Iterable[str], windows: Sequence[Window]) -> dict[str, str]:
    """Return the partitions that some assets must not pass on, each with the first reason.

    Args:
        connection: open.
        assets: names of those that are computed from; the ones without rules pass everything on.
        windows: which days of which symbols.
    """
    found = [broken(connection, asset, windows) for asset in sorted(set(assets) & set(RULES))]
    rows = pd.concat(found) if found else pd.DataFrame(columns=COLUMNS)
    return {str(key): str(why) for key, why in rows.drop_duplicates("partition")[["partition", "reason"]].to_numpy()}


def broken(connection: Connection, asset: str, windows: Sequence[Window]) -> pd.DataFrame:
    """Return partition, rule and reason, a row for each rule that a partition of an asset breaks."""
    return pd.concat([breaking(connection, rule, windows) for rule in RULES[asset]], ignore_index=True)


def breaking(connection: Connection, rule: Rule, windows: Sequence[Window]) -> pd.DataFrame:
    """Return partition, rule and reason of what breaks one rule; of several reasons of a partition the first."""
    judged = rule.judge(connection, windows)
    keys = judged["symbol"] + "|" + judged["day"].dt.strftime(rule.grid.periods.fmt)
    return pd.DataFrame({"partition": keys, "rule": rule.name, "reason": judged["reason"]}).drop_duplicates("partition")


def too_many_rejected(
    dataset: Dataset, grid: Grid, count: Callable[[Connection, Sequence[Window]], pd.DataFrame]
) -> Rule:
    """Return the rule that at most the share TICKSTOCK_QUARANTINE_THRESHOLD of a partition's rows is in quarantine.

    Where fewer than 20 rows came, it is the share of 20.

    Args:
        dataset: rows of which kind.
        grid: their partitions.
        count: gives symbol, day and rows stored of each window.
    """
    frequency = FREQUENCIES[grid.periods.fmt]

    def judge(connection: Connection, windows: Sequence[Window]) -> pd.DataFrame:
        rejected = bars.quarantined(connection, lineup().sources(dataset), windows).dropna(subset=["symbol", "date"])
        if rejected.empty:
            return NOTHING_BROKEN
        first_days = rejected["date"].dt.to_period(frequency).dt.start_time.astype("datetime64[us]")
        counts = rejected.assign(day=first_days).groupby(["symbol", "day"]).size().rename("rejected").reset_index()
        spans = zip(counts["symbol"], counts["day"].dt.to_period(frequency), strict=True)
        touched = [Window(symbol, span.start_time.date(), span.end_time.date()) for symbol, span in spans]
        counts = counts.merge(count(connection, touched), how="left", on=["symbol", "day"]).fillna({"rows": 0})
        came = counts["rejected"] + counts["rows"].astype("int64")
        threshold = settings().quarantine_threshold
        said = counts["rejected"].astype(str) + " of " + came.astype(str) + " rows are in quarantine, expected at most "
        return counts.assign(reason=said + f"{threshold:.2%}")[
            counts["rejected"] / came.clip(lower=ROWS_JUDGED_AT_LEAST) > threshold
        ]

    return Rule("quarantine", grid, judge)


def of_rows(name: str, rule: Callable[[Connection, Sequence[Window]], Judged], reason: str | None = None) -> Rule:
    """Return the rule that no row of a partition by year breaks a rule of stored rows.

    Args:
        name: of the rule.
        rule: finds the rows that break it.
        reason: in words, where the rows do not say it themselves.
    """

    def judge(connection: Connection, windows: Sequence[Window]) -> pd.DataFrame:
        some = (windows[start : start + WINDOWS_AT_A_TIME] for start in range(0, len(windows), WINDOWS_AT_A_TIME))
        found = [rows for rows in (rule(connection, part).offending for part in some) if len(rows)]
        return pd.concat([_with_day(rows, reason) for rows in found]) if found else NOTHING_BROKEN

    return Rule(name, BY_YEAR, judge)


def _with_day(rows: pd.DataFrame, reason: str | None) -> pd.DataFrame:
    day = rows["date"] if "date" in rows else rows["timestamp"].dt.tz_localize(None)
    return pd.DataFrame({"symbol": rows["symbol"], "day": day, "reason": reason or rows["reason"]}).dropna()


# By asset; what has none here passes everything on.
RULES: Mapping[str, Sequence[Rule]] = {
    "ohlcv_daily": [
        too_many_rejected(Dataset.DAILY_BARS, BY_YEAR, partition_counts.daily_bars),
        of_rows("contract", stored_rules.daily_bars_keep_contract),
    ],
    "ohlcv_1min": [too_many_rejected(Dataset.MINUTE_BARS, BY_MONTH, partition_counts.minute_bars)],
    "ticks": [too_many_rejected(Dataset.TRADES, BY_DAY, partition_counts.trades)],
    "bar_features": [
        of_rows("contract", stored_rules.features_keep_contract),
        of_rows(
            "complete", stored_rules.every_bar_has_features, "its bars and its features are not of the same moments"
        ),
    ],
}
