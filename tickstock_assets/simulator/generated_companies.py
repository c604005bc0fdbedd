"""Invented companies S0001, S0002, ... with plausible daily bars over the sessions of the New York Stock Exchange.

Every tenth (S0005, S0015, ...) splits two for one in the middle of the range and every tenth (S0010, S0020, ...) pays a
dividend every 63 sessions, so that whoever forgets to ask for unadjusted prices has wrong ones.
"""

import functools
from datetime import date

import numpy as np
import pandas as pd

from tickstock_assets.simulator.calendar import sessions_between
from tickstock_assets.simulator.companies import Company, Dividend, Split

EXCHANGES = ("XNAS", "XNYS", "ARCX")
SESSIONS_A_QUARTER = 63
CASH = 0.25


def generated_companies(count: int, start: date, end: date) -> list[Company]:
    """Return companies S0001 to S`count` that trade from the first to the last session of a range."""
    if not count:
        return []
    sessions = sessions_between(start, end)["session"]
    days = [day.date() for day in sessions]
    middle = days[len(days) // 2]
    companies = []
    for number in range(1, count + 1):
        splits = (Split(middle, 1, 2),) if number % 10 == 5 else ()
        paid = days[SESSIONS_A_QUARTER // 2 :: SESSIONS_A_QUARTER] if number % 10 == 0 else []
        companies.append(
            Company(
                ticker=f"S{number:04}",
                name=f"Simulated Company {number} Inc.",
                exchange=EXCHANGES[number % len(EXCHANGES)],
                list_date=None,
                make_daily=functools.partial(invented_bars, number, sessions, splits),
                splits=splits,
                dividends=tuple(Dividend(day, CASH) for day in paid),
            )
        )
    return companies


def invented_bars(number: int, sessions: "pd.Series[pd.Timestamp]", splits: tuple[Split, ...] = ()) -> pd.DataFrame:
    """Return a random walk of daily bars: date, open, high, low, close on the cent, volume in whole shares."""
    # RandomState and not Generator: only its stream is promised never to change with NumPy's version.
    random = np.random.RandomState(number)
    n_bars = len(sessions)
    volatility = 0.008 + 0.0005 * (number % 40)
    close = (20 + number % 180) * np.exp(np.cumsum(random.normal(0, volatility, n_bars)))
    open_ = np.concatenate([close[:1], close[:-1]]) * np.exp(random.normal(0, volatility / 3, n_bars))
    high = np.maximum(open_, close) * np.exp(np.abs(random.normal(0, volatility / 2, n_bars)))
    low = np.minimum(open_, close) * np.exp(-np.abs(random.normal(0, volatility / 2, n_bars)))
    volume = (200_000 + 7_919 * (number % 500)) * np.exp(random.normal(0, 0.3, n_bars))
    for split in splits:
        after = (sessions >= pd.Timestamp(split.execution_date)).to_numpy()
        ratio = np.where(after, split.split_to / split.split_from, 1)
        open_, high, low, close, volume = open_ / ratio, high / ratio, low / ratio, close / ratio, volume * ratio
    cents = {name: np.maximum(np.round(values, 2), 0.01) for name, values in
             {"open": open_, "high": high, "low": low, "close": close}.items()}  # fmt: skip
    return pd.DataFrame({"date": sessions.to_numpy(), **cents, "volume": np.round(volume)})
