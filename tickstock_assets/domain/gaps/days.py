"""Missing daily bars: sessions of which a symbol has none, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from tickstock_assets.domain.gaps.rows import GapClass, gap_rows, number
from tickstock_assets.domain.gaps.silence import Floats, Mask

# A quarter before and after: a symbol that lacks days now and then is traded now and then.
SESSIONS_AROUND = 63
# A share of days without a bar from which on a single one more is a habit: four times a year.
HABIT = 4 / 252
# Stretches up to this long can be habit; a longer one is something that happened.
LONGEST_HABIT = 5


@dataclass(frozen=True)
class DayEvidence:
    """What is known of some symbols of an exchange over its sessions.

    Attributes:
        symbols: whose bars.
        sessions: session and open (UTC), none closed.
        expected: (n_symbols, n_sessions): could have a bar; days before a listing or after a delisting could not.
        wanted: which of these are to be told; the others show what is usual.
        stored: symbol and date of the bars.
        minutes: symbol, date and n_minutes (stored) of the wanted sessions without a bar.
        market: under the session, how many symbols of the exchange have a bar.
        listed: under the session, how many of them could, the symbol itself among them.
        settled: the last session of which a provider changes nothing any more.
    """

    symbols: Sequence[str]
    sessions: pd.DataFrame
    expected: Mask
    wanted: Mask
    stored: pd.DataFrame
    minutes: pd.DataFrame
    market: pd.Series
    listed: pd.Series
    settled: date


def daily_gaps(known: DayEvidence) -> pd.DataFrame:
    """Return the missing sessions, one row each, as `gap_rows` gives them.

    A session of which there are minutes was traded. Without them it is a hole unless the symbol lacks days as a habit,
    which is a share of the sessions around; whether the others have bars of it is told beside.
    """
    has_bar = _places(known, known.stored, np.ones(len(known.stored))) > 0
    missing = known.expected & ~has_bar
    n_minutes = _places(known, known.minutes, known.minutes["n_minutes"].to_numpy(np.float64))
    length = _length_of_stretch(missing)
    habit = _share_missing_around(missing, known.expected, length)
    is_habit = (habit >= HABIT) & (length <= LONGEST_HABIT)
    is_open = known.sessions["session"].to_numpy("datetime64[D]") > np.datetime64(known.settled, "D")
    kinds = np.where(n_minutes > 0, "provider_hole", np.where(is_habit, "no_trade", "provider_hole")).astype(object)
    kinds[np.broadcast_to(is_open, kinds.shape) & (n_minutes == 0)] = "not_yet_published"
    return gap_rows(_rows(known, missing & known.wanted, kinds, (n_minutes, habit)))


def _places(known: DayEvidence, rows: pd.DataFrame, values: Floats) -> Floats:
    found = np.zeros((len(known.symbols), len(known.sessions)))
    symbol = pd.Categorical(rows["symbol"], categories=list(known.symbols)).codes
    place = pd.Index(known.sessions["session"]).get_indexer(pd.Index(rows["date"]))
    there = (symbol >= 0) & (place >= 0)
    found[symbol[there], place[there]] = values[there]
    return found


def _length_of_stretch(missing: Mask) -> Floats:
    """Return to each missing session how many are missing in a row."""
    starts = missing & ~np.pad(missing, ((0, 0), (1, 0)))[:, :-1]
    label = np.cumsum(starts.ravel()).reshape(missing.shape)
    lengths = np.bincount(label[missing], minlength=int(label.max(initial=0)) + 1)
    return np.where(missing, lengths[label], 0).astype(np.float64)


def _share_missing_around(missing: Mask, expected: Mask, length: Floats) -> Floats:
    """Return what share of the sessions around a missing one are missing too, its own stretch left out."""
    short = missing & (length <= LONGEST_HABIT)
    sums = [np.pad(np.cumsum(one, axis=1, dtype=np.float64), ((0, 0), (1, 0))) for one in (short, expected)]
    place = np.arange(missing.shape[1])
    low, high = np.maximum(place - SESSIONS_AROUND, 0), np.minimum(place + SESSIONS_AROUND + 1, missing.shape[1])
    n_missing, n_expected = (one[:, high] - one[:, low] for one in sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (n_missing - np.where(short, length, 0)) / (n_expected - length)
    return np.where(n_expected > length, share, 0.0)


def _rows(
    known: DayEvidence, missing: Mask, kinds: np.ndarray, of_days: tuple[Floats, Floats]
) -> Iterator[dict[str, Any]]:
    n_minutes, habit = of_days
    opens, days = known.sessions["open"].to_numpy("datetime64[us]"), known.sessions["session"]
    market = known.market.reindex(days).fillna(0).to_numpy(np.float64)
    listed = known.listed.reindex(days).fillna(0).to_numpy(np.float64)
    for symbol, place in zip(*np.nonzero(missing), strict=True):
        others = listed[place] - 1
        kind: GapClass = kinds[symbol, place]
        yield {
            "symbol": known.symbols[symbol],
            "gap_start": opens[place],
            "gap_end": opens[place],
            "missing_bars": 1,
            "class": kind,
            "evidence": {
                "session": f"{days.iloc[place]:%Y-%m-%d}",
                "minute_bars_stored": number(n_minutes[symbol, place]),
                "share_of_days_missing_around": number(habit[symbol, place]),
                "other_symbols": number(others),
                "share_of_others_with_a_bar": number(market[place] / others if others > 0 else np.nan),
            },
        }
