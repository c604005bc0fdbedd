"""Zero volume: a price that changed without a share, and sessions without any where the symbol trades."""

import numpy as np
import pandas as pd

from tickstock_assets.domain.anomalies.findings import findings, plain
from tickstock_assets.domain.anomalies.neighbourhood import shifted

RULE = "zero_volume"
# A symbol trades where at most this share of its sessions had no volume; an index has none ever, and is not judged.
MOST_IDLE_SESSIONS = 0.1


def zero_volume(bars: pd.DataFrame) -> pd.DataFrame:
    """Return the findings of this rule; bars and findings as the package says.

    One a bar whose price changed, and one a session (stamped with its first bar) in which nothing was traded.
    """
    no_volume = (bars["volume"] == 0).to_numpy()
    of_session = bars.groupby(["symbol", "session"], sort=False)["volume"].transform("sum").to_numpy()
    is_first = ~bars.duplicated(["symbol", "session"]).to_numpy()
    idle = pd.Series(np.where(is_first, (of_session == 0).astype(np.float64), np.nan))
    trades = (idle.groupby(bars["symbol"].array).transform("mean") <= MOST_IDLE_SESSIONS).to_numpy()
    closes = bars["close"].to_numpy(np.float64)
    before = shifted(closes, bars["symbol"], 1)
    moved = (bars["high"] > bars["low"]).to_numpy() | (~np.isnan(before) & (closes != before))
    without_session = trades & is_first & (of_session == 0)
    found = trades & no_volume & moved & (of_session > 0)
    places = np.flatnonzero(found | without_session)
    factor = bars["split_factor"].to_numpy(np.float64)[places]
    whole, last, previous = without_session[places], closes[places] / factor, before[places] / factor
    return findings(
        bars,
        places,
        RULE,
        severity=np.full(len(places), "warning"),
        reasons=[
            "no share was traded in the whole session, on which the symbol trades otherwise"
            if idle_session
            else f"the price changed (close {close:.6g}, before {prior:.6g}) without a share being traded"
            for idle_session, close, prior in zip(whole, last, previous, strict=True)
        ],
        evidence={"whole_session": whole.tolist(), "close": plain(last, 8), "close_before": plain(previous, 8)},
    )
