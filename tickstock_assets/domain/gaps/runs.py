"""Runs of missing minutes, and what is known of each: its chance, the shares expected, the market, how trading resumed."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from tickstock_assets.domain.gaps.silence import Floats, Grid, Ints, Mask, Silence


@dataclass(frozen=True)
class Bars:
    """Regular minutes as (n_symbols, n_minutes): whether there is a bar, shares, prices (NaN where there is none)."""

    traded: Mask
    volume: Floats
    open: Floats
    close: Floats


@dataclass(frozen=True)
class Runs:
    """Runs of missing minutes, in the order of symbol and time; arrays of (n_runs,).

    Attributes:
        symbol, session: places.
        first, last: places of the first and the last missing minute.
        reaches_close: whether the session's last minute is missing.
        log_chance: natural logarithm of the chance of so long a silence; NaN where no habits are known.
        shares: expected in it.
        bars: expected in it.
        others: how many other symbols usually trade.
        others_trading: of them, the share that does in these minutes; NaN without others.
        jump: from the last price before to the first after, in usual moves over so long a time.
        surge: shares in the first minute after, to those of a usual minute that has a bar.
    """

    symbol: Ints
    session: Ints
    first: Ints
    last: Ints
    reaches_close: Mask
    log_chance: Floats
    shares: Floats
    bars: Floats
    others: Floats
    others_trading: Floats
    jump: Floats
    surge: Floats

    @cached_property
    def n_minutes(self) -> Ints:
        """Return how long each is."""
        return self.last - self.first + 1

    def among(self, market: tuple[Floats, Floats], bars: Bars, grid: Grid) -> Self:
        """Return the runs with what the market did meanwhile.

        Args:
            market: of each minute, how many symbols have a bar, and how many usually do.
            bars: of the symbols.
            grid: of the minutes.
        """
        counts, usual = market
        # Of the symbols that usually trade it is one itself if it has a bar in most of the session's minutes.
        own = grid.by_session(bars.traded) / np.maximum(grid.by_session(np.ones_like(bars.traded)), 1)
        others = np.maximum(usual[self.first] - np.round(own[self.symbol, self.session]), 0)
        total = np.concatenate([[0.0], np.cumsum(counts)])
        mean = (total[self.last + 1] - total[self.first]) / self.n_minutes
        with np.errstate(divide="ignore", invalid="ignore"):
            trading = np.where(others >= 0.5, mean / others, np.nan)
        return replace(self, others=others, others_trading=trading)


def find_runs(grid: Grid, bars: Bars, wanted: Mask, silence: Silence) -> Runs:
    """Return the runs of missing minutes in wanted sessions.

    Args:
        grid: of the minutes.
        bars: of the symbols.
        wanted: (n_symbols, n_sessions).
        silence: what is usual around each minute.
    """
    missing = ~bars.traded & wanted[:, grid.session]
    opens = grid.minute == 0
    closes = np.roll(opens, -1)
    is_first = missing & (opens | ~np.roll(missing, 1, axis=1))
    is_last = missing & (closes | ~np.roll(missing, -1, axis=1))
    symbol, first = np.nonzero(is_first)
    last = np.nonzero(is_last)[1]
    session = grid.session[first]
    log_chance = silence.log_first[symbol, first] + _sums(silence.log_next, symbol, first + 1, last)
    shares = _sums(silence.shares, symbol, first, last)
    n_bars = _sums(silence.chance_of_bar, symbol, first, last)
    jump, surge = _resumed(bars, silence, closes, (symbol, first, last))
    unknown = np.full(len(first), np.nan)
    return Runs(
        symbol, session, first, last, closes[last],
        np.where(np.isnan(log_chance), _chance_in_own_session(grid, bars, (symbol, session, first, last)), log_chance),
        shares, n_bars, unknown, unknown, jump, surge,
    )  # fmt: skip


def _sums(values: Floats, symbol: Ints, first: Ints, last: Ints) -> Floats:
    """Return the sums from the first to the last place of each run, both included."""
    total = np.pad(np.cumsum(np.nan_to_num(values), axis=1), ((0, 0), (1, 0)))
    return np.asarray(total[symbol, last + 1] - total[symbol, first])


def _chance_in_own_session(grid: Grid, bars: Bars, runs: tuple[Ints, Ints, Ints, Ints]) -> Floats:
    """Return the chance of each run by its session's other minutes; NaN where none of them has a bar."""
    symbol, session, first, last = runs
    length = last - first + 1
    rest = grid.by_session(np.ones_like(bars.traded))[symbol, session] - length
    silent = grid.by_session(~bars.traded)[symbol, session] - length
    log_silent = np.log((silent + 0.5) / (rest + 1))
    return np.where(rest > silent, length * log_silent, np.nan)


def _resumed(bars: Bars, silence: Silence, closes: Mask, runs: tuple[Ints, Ints, Ints]) -> tuple[Floats, Floats]:
    """Return how far the price had moved and how much was traded when trading went on; NaN where it did not that day."""
    symbol, first, last = runs
    place = np.arange(bars.traded.shape[1])
    before = np.maximum.accumulate(np.where(bars.traded, place, -1), axis=1)[symbol, first]
    after = np.minimum(last + 1, len(place) - 1)
    goes_on = ~closes[last] & bars.traded[symbol, after]
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.abs(np.log(bars.open[symbol, after] / bars.close[symbol, np.maximum(before, 0)]))
        steps = np.abs(np.diff(np.log(bars.close), axis=1))
        steps[steps == 0] = np.nan
        of_symbol = np.array([np.median(one[~np.isnan(one)]) if (~np.isnan(one)).any() else np.nan for one in steps])
        # A price that wanders freely is further away the longer nobody looks, by the square root of the time.
        usual = of_symbol[symbol] * np.sqrt(last - first + 2)
        jump = np.where(goes_on & (before >= 0), moved / usual, np.nan)
        of_a_bar = silence.shares[symbol, after] / silence.chance_of_bar[symbol, after]
        surge = np.where(goes_on, bars.volume[symbol, after] / of_a_bar, np.nan)
    return jump, np.where(np.isfinite(surge), surge, np.nan)
