"""Stale runs: bars that stand still, or that repeat the bar before them, for longer than chance allows this symbol.

An illiquid share stands still by itself. How often its bars begin to do so says how likely one more is; a run is found
where so long a one would not be expected once in a hundred histories of this length.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.anomalies.findings import Flags, Floats, findings, plain
from tickstock_assets.domain.anomalies.neighbourhood import shifted

RULE = "stale_run"
# Runs by chance that are expected in the bars looked at.
EXPECTED_BY_CHANCE = 0.01
# Shares are traded by the hundred: the same volume again has a chance of a hundred in the volume at the most.
ROUND_LOT = 100.0


def stale_runs(bars: pd.DataFrame, timeframe: str) -> pd.DataFrame:
    """Return the findings of this rule, one a run, stamped with the first bar that repeats; as the package says."""
    stands_still, repeats = _stands_still(bars)
    chance = np.log(_chance_of_one_more(bars, stands_still, timeframe))
    traded = (bars["volume"] * bars["split_factor"]).to_numpy(np.float64)
    chance += np.where(repeats, np.log(ROUND_LOT / np.maximum(traded, ROUND_LOT)), 0.0)
    places = np.flatnonzero(stands_still)
    # A run ends where the next place is not the next bar.
    run = np.cumsum(np.diff(places, prepend=-2) != 1) - 1
    if not len(places):
        return _told(bars, places, places, repeats, np.empty(0))
    of_run = np.bincount(run, chance[places])
    firsts, lasts = (
        np.flatnonzero(edge) for edge in (np.diff(run, prepend=-1) > 0, np.diff(run, append=run[-1] + 1) > 0)
    )
    n_bars = bars.groupby("symbol")["symbol"].transform("size").to_numpy(np.float64)[places[firsts]]
    expected = n_bars * np.exp(of_run)
    found = expected < EXPECTED_BY_CHANCE
    return _told(bars, places[firsts[found]], places[lasts[found]], repeats, expected[found])


def _stands_still(bars: pd.DataFrame) -> tuple[Flags, Flags]:
    """Return which bars have one price only, that of the close before, or repeat the bar before; and which repeat it."""
    symbols = bars["symbol"]
    same = {
        name: bars[name].to_numpy(np.float64) == shifted(bars[name].to_numpy(np.float64), symbols, 1)
        for name in ("open", "high", "low", "close", "volume")
    }
    has_no_range = (bars["high"] == bars["low"]).to_numpy()
    repeats = np.logical_and.reduce(list(same.values())) & (bars["volume"] > 0).to_numpy()
    return (has_no_range & same["close"]) | repeats, repeats


def _chance_of_one_more(bars: pd.DataFrame, stands_still: Flags, timeframe: str) -> Floats:
    """Return the chance of each bar to stand still: how often bars that follow a moving one did.

    Those within runs are left out, or one long run would make itself likely. Of minutes it is the larger of the chance at
    that hour and in that session, as quiet hours and quiet days have longer runs.
    """
    hour = (bars["timestamp"] - bars["session_open"]).dt.total_seconds().to_numpy() // 3600
    by = (
        [["symbol"]] if timeframe == "1d" else [["symbol", "is_extended", "hour"], ["symbol", "is_extended", "session"]]
    )
    follows_moving = ~(shifted(stands_still.astype(np.float64), bars["symbol"], 1) == 1.0)
    counted = bars[["symbol", "is_extended", "session"]].assign(
        hour=hour, begins=(stands_still & follows_moving).astype(np.float64), moving=follows_moving.astype(np.float64)
    )
    chances = [
        (of_group["begins"].transform("sum") + 1.0) / (of_group["moving"].transform("sum") + 2.0)
        for of_group in (counted.groupby(keys, sort=False) for keys in by)
    ]
    largest: Floats = np.maximum.reduce([chance.to_numpy(np.float64) for chance in chances])
    return largest


def _told(
    bars: pd.DataFrame,
    firsts: npt.NDArray[np.intp],
    lasts: npt.NDArray[np.intp],
    repeats: Flags,
    expected: Floats,
) -> pd.DataFrame:
    # The bar that is repeated is one of the run.
    n_bars = lasts - firsts + 2
    factor = bars["split_factor"].to_numpy(np.float64)[firsts]
    closes = bars["close"].to_numpy(np.float64)[firsts] / factor
    cumulated = np.concatenate([[0.0], np.cumsum(bars["volume"].to_numpy(np.float64))])
    volumes = (cumulated[lasts + 1] - cumulated[firsts]) * factor
    same_rows = repeats[firsts]
    return findings(
        bars,
        firsts,
        RULE,
        # Without volume it may be a halt, with bars where there was no trade.
        severity=np.where(volumes > 0, "warning", "info"),
        reasons=[
            f"{count} bars in a row {'are the same row' if same else 'have one price'}, close {close:.6g}, while "
            + (f"{volume:.10g} shares are reported" if volume > 0 else "no volume is reported")
            for count, same, close, volume in zip(n_bars, same_rows, closes, volumes, strict=True)
        ],
        evidence={
            "bars": n_bars.tolist(),
            "last": [moment.isoformat() for moment in bars["timestamp"].iloc[lasts]],
            "close": plain(closes, 8),
            "volume": plain(volumes, 10),
            "repeats_rows": same_rows.tolist(),
            "expected_by_chance": plain(expected),
        },
    )
