"""Stored bars that look odd: bars in, findings out. Every threshold was chosen on real and on generated bars, then frozen.

    price_spike        a price far from the bars before and after it, that the other symbols do not share
    stale_run          bars that stand still, or repeat, for longer than chance lets this symbol's bars
    volume_outlier     far more or fewer shares than is usual for this symbol, this time of the day
    zero_volume        a price that changed without a share, or a session without any
    unrecorded_split   an overnight jump that looks like a split nobody has recorded

Bars are a frame sorted by symbol and timestamp, with a fresh index:

    symbol, session (datetime64, no zone), session_open (UTC), timestamp (UTC; of a day, session_open), open, high, low,
    close, volume (split-adjusted by `adjustments.to_continuous`, which also gives split_factor), is_half_day and
    is_extended (bool; the latter for minutes outside regular hours); the rules are given sigma besides, of `local_sigma`

Findings are symbol, timestamp, rule, severity (info, warning, error), reason and evidence (dict, for JSON); where one
is of several bars, its evidence has `last`, the last bar's timestamp. Prices and volumes in them are as traded.

Elsewhere: rows that no table would take (quality.py), two providers compared (reconciliation/), reading and storing
(loading/quality_findings.py), what findings are worth (scores.py).
"""

from tickstock_assets.domain.anomalies.findings import COLUMNS
from tickstock_assets.domain.anomalies.rules import RULES, Timeframe, find

__all__ = ["COLUMNS", "RULES", "Timeframe", "find"]
