"""The tape: whether a session's minutes add up to its official bar, and which silent runs the missing shares fit."""

from dataclasses import dataclass

import numpy as np

from tickstock_assets.domain.gaps.silence import Floats, Mask

# An official bar may count what minutes do not, such as the auctions and the hours outside of the regular ones; then the
# minutes add up to a share of it. Where at least so many sessions add up to the last share, all are to.
EXACT_SESSIONS = 0.2
EXACT = 1e-9
# Volumes are stored with eight decimals and vendors round shares, so less than half a share is nothing.
LEAST_SHARES = 0.5
# How far from its median the share of intact sessions strays, in standard deviations, as far as they can be estimated
# from the median deviation: of 250 sessions of 100 symbols two are further off by chance.
DEVIATIONS = 4.0
MAD_TO_DEVIATION = 1.4826
# The shares traded in many minutes are known to within a factor e**this; in few, as far as those of single bars, which are
# as far apart as their mean, average out.
VOLUME_DEVIATION = 0.4
# What an unexplained silence is put down to where the tape lacks shares: as likely a hole as anything of its length, so
# that each further hole needs the shares to speak for it.
LOG_HOLE = np.log(1e-3)
# More runs than this are not tried in all combinations; the least likely silences are.
MOST_RUNS = 10


@dataclass(frozen=True)
class Tape:
    """Of each symbol and session, (n_symbols, n_sessions).

    Attributes:
        is_known: whether there is an official bar.
        missing: shares that the minutes lack; NaN where there is no official bar.
        tolerance: so many may be missing by the tape's own noise.
        usual_share: of the official volume that is usually in minutes.
    """

    is_known: Mask
    missing: Floats
    tolerance: Floats
    usual_share: Floats

    @property
    def is_short(self) -> Mask:
        """Return where shares are missing."""
        return self.is_known & (self.missing > self.tolerance)


def tape(official: Floats, *minutes: Floats) -> Tape:
    """Return how far the minutes add up.

    Args:
        official: (n_symbols, n_sessions), shares of the official bar; NaN where there is none.
        minutes: the same of minutes, once of each selection that the official bar may be of, such as the regular ones and
            all: of each symbol that one counts whose share in the official bar varies least.
    """
    shares, noises = zip(*(_usual_share(official, selection) for selection in minutes), strict=True)
    steadiest = np.argmin(noises, axis=0)[None]
    share, noise, found = (np.take_along_axis(np.stack(one), steadiest, axis=0)[0] for one in (shares, noises, minutes))
    return Tape(
        is_known=~np.isnan(official),
        missing=official * share - found,
        tolerance=np.maximum(LEAST_SHARES, DEVIATIONS * noise * np.nan_to_num(official)),
        usual_share=np.broadcast_to(share, official.shape),
    )


def _usual_share(official: Floats, minutes: Floats) -> tuple[Floats, Floats]:
    """Return of each symbol what share of the official volume is in minutes, and its deviation: both (n_symbols, 1)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where((official > 0) & (minutes > 0), minutes / official, np.nan)
    usual, noise = np.ones((len(official), 1)), np.zeros((len(official), 1))
    for place, of_symbol in enumerate(share):
        known = of_symbol[~np.isnan(of_symbol)]
        if known.size and (np.abs(known - 1) <= EXACT).mean() < EXACT_SESSIONS:
            usual[place] = np.median(known)
            noise[place] = MAD_TO_DEVIATION * np.median(np.abs(known - usual[place]))
    return usual, noise


def runs_that_fit(missing: float, shares: Floats, bars: Floats, log_natural: Floats) -> Mask:
    """Return which silent runs of a session are holes, given the shares that are missing in all.

    Each choice of runs is weighed: how well the shares expected in them fit those missing, how likely the other runs are
    as they are, and that fewer holes are likelier than more.

    Args:
        missing: shares, above 0.
        shares: (n_runs,), expected in each.
        bars: (n_runs,), expected in each.
        log_natural: (n_runs,), logarithm of the chance of each without a hole.
    """
    least_likely = np.argsort(log_natural, kind="stable")[:MOST_RUNS]
    chosen = np.arange(1, 2 ** len(least_likely))[:, None] >> np.arange(len(least_likely)) & 1
    expected = chosen @ np.maximum(shares[least_likely], LEAST_SHARES)
    deviation = np.sqrt(VOLUME_DEVIATION**2 + 1 / np.maximum(chosen @ bars[least_likely], 1))
    fit = -0.5 * (np.log(missing / expected) / deviation) ** 2 - np.log(deviation)
    score = fit + chosen.sum(axis=1) * LOG_HOLE + (1 - chosen) @ log_natural[least_likely]
    # Beyond those tried in combination, a silence that is less likely than a hole is one.
    holes = log_natural < LOG_HOLE if len(shares) > MOST_RUNS else np.zeros(len(shares), np.bool_)
    holes[least_likely] = chosen[np.argmax(score)].astype(np.bool_)
    return holes
