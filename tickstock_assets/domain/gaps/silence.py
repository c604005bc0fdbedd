"""How likely it is that nobody traded: a symbol's silence at a time of day, from its own sessions nearby.

A minute is silent or not; whether it is depends on the time of day, on how much is traded that day, and on whether the
minute before was silent, as silence comes in runs. So the chance of a silent run is that of a first silent minute times
that of each further one, both counted in the sessions around, the own one left out: a hole cannot explain itself. Of the
sessions around the most silent fifth is left out too, as those may have holes of their own.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

type Floats = npt.NDArray[np.float64]
type Ints = npt.NDArray[np.int64]
type Mask = npt.NDArray[np.bool_]

# Half an hour: short enough that the habits of open, noon and close stay apart, long enough to count in.
BUCKET_MINUTES = 30
# Two weeks before and after.
SESSIONS_AROUND = 10
TRIMMED_SHARE = 0.2
# What a silent minute after a silent one is taken for until some have been seen: as likely as any.
PRIOR_PAIRS = 2.0
# A day's activity is trusted within these; it makes silence likelier on quiet days and never less likely.
LEAST_ACTIVITY = 0.05


@dataclass(frozen=True)
class Grid:
    """The expected minutes of some sessions, one after another.

    Attributes:
        session: of each minute, the place of its session, from 0.
        minute: of each minute, how many minutes of its session came before it.
        n_sessions: how many sessions.
    """

    session: Ints
    minute: Ints
    n_sessions: int

    @property
    def n_buckets(self) -> int:
        """Return how many buckets the longest session has."""
        return int(self.minute.max(initial=0)) // BUCKET_MINUTES + 1

    @property
    def cell(self) -> Ints:
        """Return of each minute its session and bucket as one number."""
        return self.session * self.n_buckets + self.minute // BUCKET_MINUTES

    def totals(self, values: npt.NDArray[np.generic]) -> Floats:
        """Return the sums of (n_symbols, n_minutes) by session and bucket: (n_symbols, n_sessions, n_buckets)."""
        cells = self.cell
        starts = np.flatnonzero(np.diff(cells, prepend=-1))
        sums = np.zeros((len(values), self.n_sessions * self.n_buckets))
        if len(starts):
            sums[:, cells[starts]] = np.add.reduceat(values, starts, axis=1, dtype=np.float64)
        return sums.reshape(len(values), self.n_sessions, self.n_buckets)

    def by_session(self, values: npt.NDArray[np.generic]) -> Floats:
        """Return the sums of (n_symbols, n_minutes) by session: (n_symbols, n_sessions)."""
        return np.asarray(self.totals(values).sum(axis=2))

    def spread(self, of_cells: Floats) -> Floats:
        """Return to each minute the value of its session and bucket."""
        return of_cells.reshape(len(of_cells), -1)[:, self.cell]


@dataclass(frozen=True)
class Silence:
    """Of each symbol and minute, (n_symbols, n_minutes).

    Attributes:
        log_first: natural logarithm of the chance that it is silent.
        log_next: the same where the minute before was silent.
        shares: expected.
    """

    log_first: Floats
    log_next: Floats
    shares: Floats

    @property
    def chance_of_bar(self) -> Floats:
        """Return the chance that it is not silent."""
        return np.asarray(-np.expm1(self.log_first))


def habits(grid: Grid, traded: Mask, volume: Floats, activity: Floats) -> Silence:
    """Return what is usual around each minute; NaN where no session around has a bar.

    Args:
        grid: n_minutes of n_sessions.
        traded: (n_symbols, n_minutes), whether there is a bar.
        volume: (n_symbols, n_minutes), shares; 0 where there is none.
        activity: (n_symbols, n_sessions), what is traded that day to what is usual.
    """
    silent = ~traded
    after_silent = silent & np.roll(silent, 1, axis=1) & (grid.minute > 0)
    counts = np.stack(
        [grid.totals(values) for values in (np.ones_like(traded), silent, after_silent, volume)]
    )  # (4, n_symbols, n_sessions, n_buckets)
    has_bars = grid.by_session(traded) > 0
    minutes, n_silent, n_pairs, shares = _of_sessions_around(counts, has_bars)
    with np.errstate(divide="ignore", invalid="ignore"):
        first = (n_silent + 0.5) / (minutes + 1)
        following = (n_pairs + PRIOR_PAIRS * first) / (n_silent + PRIOR_PAIRS)
        usual_shares = shares / minutes
    unknown = minutes == 0
    first[unknown] = following[unknown] = usual_shares[unknown] = np.nan
    # Arrivals by chance are half as many on half as active a day: the chance of none is then the square root.
    quieter = np.clip(activity, LEAST_ACTIVITY, 1)[:, :, None]
    return Silence(
        grid.spread(np.log(first) * quieter),
        grid.spread(np.log(np.maximum(first, following)) * quieter),
        grid.spread(usual_shares * np.maximum(activity, LEAST_ACTIVITY)[:, :, None]),
    )


def usual(of_sessions: Floats) -> Floats:
    """Return the median over the sessions around each, the own one left out; NaN where none is known.

    Args:
        of_sessions: (n_symbols, n_sessions), NaN where not known.
    """
    place, is_there = _around(of_sessions.shape[1])
    near = np.where(is_there, of_sessions[:, place], np.nan)
    ordered = np.sort(near, axis=2)  # NaN last
    known = np.count_nonzero(~np.isnan(near), axis=2)
    middle = [
        np.take_along_axis(ordered, np.maximum(k, 0)[:, :, None], 2)[:, :, 0] for k in ((known - 1) // 2, known // 2)
    ]
    return np.where(known > 0, (middle[0] + np.where(known > 1, middle[1], middle[0])) / 2, np.nan)


def _around(n_sessions: int) -> tuple[Ints, Mask]:
    """Return the places of the sessions around each, (n_sessions, 2 * SESSIONS_AROUND), and which of them there are."""
    steps = np.concatenate([np.arange(-SESSIONS_AROUND, 0), np.arange(1, SESSIONS_AROUND + 1)])
    place = np.arange(n_sessions)[:, None] + steps
    is_there = (place >= 0) & (place < n_sessions)
    return np.clip(place, 0, max(n_sessions - 1, 0)), is_there


def _of_sessions_around(counts: Floats, has_bars: Mask) -> Floats:
    """Return the sums of counts over the sessions around each that have bars, the most silent ones left out.

    Args:
        counts: (4, n_symbols, n_sessions, n_buckets): minutes, silent ones, silent after silent, shares.
        has_bars: (n_symbols, n_sessions).
    """
    place, is_there = _around(counts.shape[2])
    near = counts[:, :, place]  # (4, n_symbols, n_sessions, n_around, n_buckets)
    counted = (has_bars[:, place] & is_there)[..., None] & (near[0] > 0)
    share = np.where(counted, near[1] / np.maximum(near[0], 1), np.inf)
    rank = np.argsort(np.argsort(share, axis=2, kind="stable"), axis=2, kind="stable")
    n_kept = np.ceil((1 - TRIMMED_SHARE) * counted.sum(axis=2, keepdims=True))
    return np.asarray(np.where(counted & (rank < n_kept), near, 0).sum(axis=3))
