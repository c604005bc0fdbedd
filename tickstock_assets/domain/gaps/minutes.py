"""Missing minutes: found in whole arrays, gathered into runs, and put down to what they come from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from tickstock_assets.domain.gaps.rows import GapClass, gap_rows, number
from tickstock_assets.domain.gaps.runs import Bars, Runs, find_runs
from tickstock_assets.domain.gaps.silence import Floats, Grid, Mask, habits, usual
from tickstock_assets.domain.gaps.tape import LOG_HOLE, Tape, runs_that_fit, tape
from tickstock_assets.domain.sessions import expected_minutes, session_of

# A silence less likely than this is not the symbol's habit: a liquid symbol has 100,000 minutes a year, an illiquid one
# 20,000 silent runs.
LOG_SURPRISING = np.log(1e-6)
# A limit-up/limit-down pause lasts at least five minutes; a shorter silence is no halt.
HALT_MINUTES = 5
# A halt ends in an auction or with news: a move of so many usual ones, or so many times the usual volume.
JUMP_MOVES, SURGE = 6.0, 8.0
# The chance of a halt in a session that lacks shares of some other run: few sessions of few symbols have one, and one after
# which trading resumes as after a halt is one as likely as not.
LOG_HALT, LOG_HALT_THAT_RESUMED = np.log(1e-5), np.log(1e-2)
# A circuit breaker stops the whole market for 15 minutes; the first and the last may have a trade.
BREAKER_MINUTES = (14, 16)
# The market is silent when at most so much of its usual number of symbols trades, and it is one from so many on.
SILENT_MARKET, LEAST_MARKET = 0.1, 3
NO_TRADE, HALT, HOLE, NOT_YET = range(4)
NAMES: tuple[GapClass, ...] = ("no_trade", "halt", "provider_hole", "not_yet_published")


@dataclass(frozen=True)
class MinuteEvidence:
    """What is known of some symbols of an exchange over a span of sessions.

    Attributes:
        symbols: whose minutes.
        sessions: as `session_of` takes them, those around the span included, so that habits can be told; none closed.
        wanted: (n_symbols, n_sessions), whose missing minutes are to be told.
        minutes: stored bars: symbol, timestamp (UTC), open, close, volume, trades_count (NaN where not told).
        official: daily bars that are not made from minutes: symbol, date, volume, trades_count.
        market: under the minute (UTC), how many symbols of the exchange have a bar in it.
        settled: the last session of which a provider changes nothing any more.
    """

    symbols: Sequence[str]
    sessions: pd.DataFrame
    wanted: Mask
    minutes: pd.DataFrame
    official: pd.DataFrame
    market: pd.Series
    settled: date


def minute_gaps(known: MinuteEvidence) -> pd.DataFrame:
    """Return the missing minutes of regular hours, as `gap_rows` gives them.

    A row is a run of missing minutes, except that those in which nobody traded are one row a session: its evidence has
    `runs`, the minute of the session at which each begins and how many it has.
    """
    expected = expected_minutes(known.sessions)
    stamps = expected["timestamp"].to_numpy("datetime64[us]")
    grid = _grid(known.sessions, expected)
    if not len(stamps):
        return gap_rows([])
    bars = _bars(known, stamps)
    official = _not_repeated(_of_sessions(known, known.official, known.official["date"], "volume"))
    with np.errstate(divide="ignore", invalid="ignore"):
        activity = np.nan_to_num(official / usual(official), nan=1.0, posinf=1.0)
    totals = _totals(known)
    found_tape = tape(official, grid.by_session(bars.volume), totals["volume"])
    runs = find_runs(grid, bars, known.wanted, habits(grid, bars.traded, bars.volume, activity))
    runs = runs.among(_market(known, grid, stamps), bars, grid)
    kinds = _classes(known, grid, runs, found_tape)
    trades = _of_sessions(known, known.official, known.official["date"], "trades_count") - totals["trades_count"]
    return gap_rows(_rows(_Told(known, grid, stamps, runs, found_tape, official, trades), kinds))


def _grid(sessions: pd.DataFrame, expected: pd.DataFrame) -> Grid:
    place = np.searchsorted(sessions["session"].to_numpy(), expected["session"].to_numpy())
    first = np.searchsorted(place, place)
    return Grid(place.astype(np.int64), np.arange(len(place)) - first, len(sessions))


def _bars(known: MinuteEvidence, stamps: np.ndarray) -> Bars:
    """Return the bars of regular hours as arrays of (n_symbols, n_minutes)."""
    moments = known.minutes["timestamp"].to_numpy("datetime64[us]")
    place = np.searchsorted(stamps, moments)
    symbol = pd.Categorical(known.minutes["symbol"], categories=list(known.symbols)).codes
    regular = (place < len(stamps)) & (stamps[np.minimum(place, len(stamps) - 1)] == moments) & (symbol >= 0)
    where = symbol[regular], place[regular]
    traded = np.zeros((len(known.symbols), len(stamps)), np.bool_)
    traded[where] = True
    values = {}
    for name, empty in (("volume", 0.0), ("open", np.nan), ("close", np.nan)):
        values[name] = np.full(traded.shape, empty)
        values[name][where] = known.minutes[name].to_numpy(np.float64)[regular]
    return Bars(traded, values["volume"], values["open"], values["close"])


def _totals(known: MinuteEvidence) -> Mapping[str, Floats]:
    """Return shares and trades in all minutes, extended hours included, as (n_symbols, n_sessions)."""
    placed = session_of(known.minutes["timestamp"], known.sessions)["session"]
    sums = known.minutes.groupby(["symbol", placed.to_numpy()])[["volume", "trades_count"]].sum(min_count=1)
    flat = sums.rename_axis(["symbol", "date"]).reset_index()
    return {
        "volume": np.nan_to_num(_of_sessions(known, flat, flat["date"], "volume")),
        "trades_count": _of_sessions(known, flat, flat["date"], "trades_count"),
    }


def _of_sessions(known: MinuteEvidence, rows: pd.DataFrame, days: pd.Series, column: str) -> Floats:
    """Return a column as (n_symbols, n_sessions); NaN where there is no row."""
    values = np.full((len(known.symbols), len(known.sessions)), np.nan)
    symbol = pd.Categorical(rows["symbol"], categories=list(known.symbols)).codes
    place = pd.Index(known.sessions["session"]).get_indexer(pd.Index(days))
    there = (symbol >= 0) & (place >= 0)
    values[symbol[there], place[there]] = rows[column].to_numpy(np.float64)[there]
    return values


def _not_repeated(volume: Floats) -> Floats:
    """Return official volumes without those that are the session's before to the share: stale bars say nothing."""
    repeats = np.zeros(volume.shape, np.bool_)
    repeats[:, 1:] = volume[:, 1:] == volume[:, :-1]
    return np.where(repeats & (volume > 0), np.nan, volume)


def _market(known: MinuteEvidence, grid: Grid, stamps: np.ndarray) -> tuple[Floats, Floats]:
    """Return how many symbols trade in each minute, and how many usually do in the minutes of its session."""
    counts = known.market.reindex(pd.DatetimeIndex(stamps, tz="UTC")).fillna(0).to_numpy(np.float64)
    alive = pd.Series(counts).where(counts > 0).groupby(grid.session).median()
    # A session that nobody has bars of is measured by the others.
    usual_count = alive.fillna(alive.median()).fillna(0).to_numpy(np.float64)
    return np.asarray(counts, np.float64), np.asarray(usual_count[grid.session], np.float64)


def _classes(known: MinuteEvidence, grid: Grid, runs: Runs, found_tape: Tape) -> np.ndarray:
    """Return the class of each run as its place in NAMES."""
    place = runs.symbol, runs.session
    is_surprising = runs.log_chance < LOG_SURPRISING
    is_long = runs.n_minutes >= HALT_MINUTES
    market_silent = (runs.others_trading <= SILENT_MARKET) & (runs.others >= LEAST_MARKET)
    resumed = (runs.jump >= JUMP_MOVES) | (runs.surge >= SURGE)
    is_breaker = market_silent & (runs.n_minutes >= BREAKER_MINUTES[0]) & (runs.n_minutes <= BREAKER_MINUTES[1])
    halted = is_long & (is_surprising | market_silent)
    kinds = np.where(halted, HALT, NO_TRADE)
    # Without a tape, a silence that is neither habit nor ends as a halt does is a hole.
    is_hole = ~found_tape.is_known[place] & is_surprising & ~(is_breaker | (is_long & resumed & ~market_silent))
    as_halt = np.where(is_long, np.where(resumed | is_breaker, LOG_HALT_THAT_RESUMED, LOG_HALT), -np.inf)
    log_natural = np.fmax(runs.log_chance, as_halt)
    short = found_tape.is_short[place]
    of_session = runs.symbol * grid.n_sessions + runs.session
    edges = np.flatnonzero(np.diff(of_session[short], prepend=-1, append=-1))
    places = np.flatnonzero(short)
    for first, last in pairwise(edges):
        one = places[first:last]
        missing = float(found_tape.missing[runs.symbol[one[0]], runs.session[one[0]]])
        natural = np.nan_to_num(log_natural[one], nan=LOG_HOLE)
        is_hole[one] = runs_that_fit(missing, runs.shares[one], runs.bars[one], natural)
    kinds[is_hole] = HOLE
    is_open = known.sessions["session"].to_numpy("datetime64[D]")[runs.session] > np.datetime64(known.settled, "D")
    kinds[is_hole & is_open & runs.reaches_close] = NOT_YET
    return kinds


@dataclass(frozen=True)
class _Told:
    known: MinuteEvidence
    grid: Grid
    stamps: np.ndarray
    runs: Runs
    tape: Tape
    official: Floats
    missing_trades: Floats

    @cached_property
    def days(self) -> list[str]:
        """Return the date of each session."""
        return list(self.known.sessions["session"].dt.strftime("%Y-%m-%d"))

    def of_session(self, run: np.intp) -> dict[str, Any]:
        """Return what is known of the whole session of a run."""
        where = self.runs.symbol[run], self.runs.session[run]
        found: dict[str, Any] = {"session": self.days[where[1]]}
        if self.tape.is_known[where]:
            found |= {
                "official_shares": number(self.official[where]),
                "missing_shares": number(self.tape.missing[where]),
                "tolerated_shares": number(self.tape.tolerance[where]),
                "usual_share_in_minutes": number(self.tape.usual_share[where]),
                "missing_trades": number(self.missing_trades[where]),
            }
        return found

    def of_run(self, run: np.intp) -> dict[str, Any]:
        """Return what is known of one run."""
        runs = self.runs
        return {
            "log10_chance": number(runs.log_chance[run] / np.log(10)),
            "expected_shares": number(runs.shares[run]),
            "expected_bars": number(runs.bars[run]),
            "other_symbols": number(runs.others[run]),
            "others_trading": number(runs.others_trading[run]),
            "jump_in_usual_moves": number(runs.jump[run]),
            "volume_after_to_usual": number(runs.surge[run]),
        }


def _rows(told: _Told, kinds: np.ndarray) -> Iterator[dict[str, Any]]:
    runs, symbols = told.runs, told.known.symbols
    silent = kinds == NO_TRADE
    for run in np.flatnonzero(~silent):
        yield {
            "symbol": symbols[runs.symbol[run]],
            "gap_start": told.stamps[runs.first[run]],
            "gap_end": told.stamps[runs.last[run]],
            "missing_bars": runs.n_minutes[run],
            "class": NAMES[kinds[run]],
            "evidence": told.of_session(run) | told.of_run(run),
        }
    of_session = (runs.symbol * told.grid.n_sessions + runs.session)[silent]
    edges = np.flatnonzero(np.diff(of_session, prepend=-1, append=-1))
    places = np.flatnonzero(silent)
    for first, last in pairwise(edges):
        one = places[first:last]
        least = np.nanmin(runs.log_chance[one], initial=0.0)
        begins = told.grid.minute[runs.first[one]]
        yield {
            "symbol": symbols[runs.symbol[one[0]]],
            "gap_start": told.stamps[runs.first[one[0]]],
            "gap_end": told.stamps[runs.last[one[-1]]],
            "missing_bars": runs.n_minutes[one].sum(),
            "class": "no_trade",
            "evidence": told.of_session(one[0])
            | {
                "runs": np.column_stack([begins, runs.n_minutes[one]]).tolist(),
                "least_log10_chance": number(least / np.log(10)),
            },
        }
