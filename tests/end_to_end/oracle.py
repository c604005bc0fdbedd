"""The vendored file computed a second time, with csv, pandas, TA-Lib and exchange_calendars: what the demo must store.

Imports nothing of the package. Where the kernels choose one way, this chooses another: prices are brought to one share
unit for the whole history at once, rolling sums are pandas', ATR is TA-Lib's own.
"""

import csv
import gzip
from collections.abc import Sequence
from datetime import UTC, date
from pathlib import Path
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd
import talib

FILE = Path(__file__).parents[2] / "tickstock_assets" / "sample_data" / "stocks.csv.gz"
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
N_BARS = 12_154

# Two shares for one, from the issue and the companies' own announcements.
SPLITS = (("AAPL", date(2000, 6, 21)), ("AAPL", date(2005, 2, 28)), ("MSFT", date(2003, 2, 18)))
RATIO = 2

CROSSOVERS = ((5, 20), (20, 50), (50, 200))
TIE = 1e-9

# How many candles a pattern is made of; bars that only give it context are not among them.
PATTERNS_OF_CANDLES = {
    1: "BELTHOLD CLOSINGMARUBOZU DOJI DRAGONFLYDOJI GRAVESTONEDOJI HAMMER HANGINGMAN HIGHWAVE INVERTEDHAMMER "
    "LONGLEGGEDDOJI LONGLINE MARUBOZU RICKSHAWMAN SHOOTINGSTAR SHORTLINE SPINNINGTOP TAKURI",
    2: "COUNTERATTACK DARKCLOUDCOVER DOJISTAR ENGULFING HARAMI HARAMICROSS HOMINGPIGEON INNECK KICKING KICKINGBYLENGTH "
    "MATCHINGLOW ONNECK PIERCING SEPARATINGLINES THRUSTING",
    3: "2CROWS 3BLACKCROWS 3INSIDE 3OUTSIDE 3STARSINSOUTH 3WHITESOLDIERS ABANDONEDBABY ADVANCEBLOCK EVENINGDOJISTAR "
    "EVENINGSTAR GAPSIDESIDEWHITE HIKKAKE IDENTICAL3CROWS MORNINGDOJISTAR MORNINGSTAR STALLEDPATTERN STICKSANDWICH "
    "TASUKIGAP TRISTAR UNIQUE3RIVER UPSIDEGAP2CROWS XSIDEGAP3METHODS",
    4: "3LINESTRIKE CONCEALBABYSWALL HIKKAKEMOD",
    5: "BREAKAWAY LADDERBOTTOM MATHOLD RISEFALL3METHODS",
}
CANDLES = {f"CDL{name}": n for n, names in PATTERNS_OF_CANDLES.items() for name in names.split()}


def file_rows() -> list[dict[str, str]]:
    """Return the file's rows as text."""
    with gzip.open(FILE, "rt", newline="") as file:
        return list(csv.DictReader(file))


def sessions() -> pd.DataFrame:
    """Return date, timestamp (open, UTC) and session_close (UTC) of every NYSE session of the file's years."""
    schedule = exchange_calendars.get_calendar("XNYS", start="2000-01-01", end="2013-12-31").schedule
    return pd.DataFrame(
        {
            "date": [session.date() for session in schedule.index],
            "timestamp": schedule["open"].dt.as_unit("us").array,
            "session_close": schedule["close"].dt.as_unit("us").array,
        }
    )


def bars() -> pd.DataFrame:
    """Return the bars as traded, with open and close of their session and how many shares one has become."""
    table = pd.DataFrame(
        {
            "symbol": row["Ticker"],
            "date": (day := date.fromisoformat(row["Date"])),
            **{name.lower(): float(row[name]) for name in ("Open", "High", "Low", "Close", "Volume")},
            "adj_close": float(row["Adj Close"]),
            "split_factor": float(RATIO ** sum(row["Ticker"] == symbol and day >= on for symbol, on in SPLITS)),
        }
        for row in file_rows()
    )
    placed = table.merge(sessions(), how="left", on="date", validate="many_to_one")
    assert not placed["timestamp"].isna().any()
    return placed.sort_values(["symbol", "date"], ignore_index=True)


def features(as_traded: pd.DataFrame) -> pd.DataFrame:
    """Return the features of each bar, in the order of the bars."""
    return pd.concat([_features_of_one(own) for _, own in as_traded.groupby("symbol")], ignore_index=True)


def _features_of_one(own: pd.DataFrame) -> pd.DataFrame:
    # Prices in the shares of the last bar, the way charts show them.
    to_last = own["split_factor"] / own["split_factor"].iloc[-1]
    high, low, close = (own[name] * to_last for name in ("high", "low", "close"))
    spread, volume = high - low, own["volume"] / to_last
    true_range = pd.Series(talib.TRANGE(high.to_numpy(), low.to_numpy(), close.to_numpy()), own.index)
    atr = pd.Series(talib.ATR(high.to_numpy(), low.to_numpy(), close.to_numpy(), timeperiod=14), own.index)
    return pd.DataFrame(
        {
            "symbol": own["symbol"],
            "timestamp": own["timestamp"],
            "spread": spread / to_last,
            "spread_ratio": spread / spread.rolling(20).mean().shift(),
            "volume_ratio": volume / volume.rolling(20).mean().shift(),
            # TA-Lib has none for the first bar, which has no close before it.
            "true_range": true_range.fillna(spread.iloc[:1]) / to_last,
            "atr_14": atr / to_last,
            "log_return": np.log(close / close.shift()),
        }
    )


def detections(as_traded: pd.DataFrame) -> pd.DataFrame:
    """Return every candlestick and crossover: key, direction, score, known_at, prices in the bar's own shares."""
    found = [row for _, own in as_traded.groupby("symbol") for row in _detections_of_one(own.reset_index(drop=True))]
    keys = ["symbol", "timestamp", "pattern", "variant"]
    return pd.DataFrame(found).sort_values(keys, ignore_index=True)


def _detections_of_one(own: pd.DataFrame) -> list[dict[str, Any]]:
    factor = own["split_factor"]
    # The file's prices have up to four decimals. As whole ten-thousandths in the shares of the first bar each is exact,
    # and so is every sum of them. As plain float64 a tie (a shadow exactly twice the body, a body exactly at the
    # average) falls to either side: 47 detections of these five histories come out otherwise.
    whole = {name: (own[name] * 10_000).round() * factor for name in ("open", "high", "low", "close")}
    assert all((prices == prices.round()).all() for prices in whole.values())
    found = []
    for pattern, candles in CANDLES.items():
        scores = getattr(talib, pattern)(*(whole[name].to_numpy() for name in ("open", "high", "low", "close")))
        for bar in np.flatnonzero(scores):
            span = candles
            if abs(scores[bar]) == 200:
                # A hikkake confirmed: the bars since it was complete count as well. TA-Lib is silent on a history's
                # first bars; one that was complete there (FB, 2012-05-24) is taken to be as old as one can be, three bars.
                span += next((back for back in (1, 2, 3) if scores[bar - back]), 3)
            found.append((int(bar), span, pattern, "", int(scores[bar])))
    for fast, slow in CROSSOVERS:
        found += [
            (bar, 2, "ma_crossover", f"{fast}/{slow}", score) for bar, score in _crossovers(whole["close"], fast, slow)
        ]
    at, lows, highs = own.to_dict("records"), whole["low"].tolist(), whole["high"].tolist()
    return [
        {
            "symbol": at[bar]["symbol"],
            "timestamp": at[bar]["timestamp"],
            "pattern": pattern,
            "variant": variant,
            "direction": "bullish" if score > 0 else "bearish",
            "score": score,
            "known_at": at[bar]["session_close"],
            "entry_price": at[bar]["close"],
            "stop_loss": (min(lows[bar - span + 1 : bar + 1]) if score > 0 else max(highs[bar - span + 1 : bar + 1]))
            / at[bar]["split_factor"]
            / 10_000,
        }
        for bar, span, pattern, variant, score in found
    ]


def _crossovers(close: pd.Series, fast: int, slow: int) -> list[tuple[int, int]]:
    """Return (bar, 100 or -100) for each bar on which the fast average is first seen on the other side."""
    mean_fast, mean_slow = close.rolling(fast).mean(), close.rolling(slow).mean()
    crossings = []
    last_side, last_bar = 0, -1
    for bar, (quick, lazy) in enumerate(zip(mean_fast, mean_slow, strict=True)):
        if np.isnan(lazy) or abs(quick - lazy) <= TIE * lazy:
            continue
        side = 1 if quick > lazy else -1
        if side == -last_side and bar - last_bar <= slow:
            crossings.append((bar, 100 * side))
        last_side, last_bar = side, bar
    return crossings


def dividends(as_traded: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the cash dividends that Adj Close holds beyond the splits, per share of the ex-date."""
    growth = as_traded["adj_close"] / as_traded["close"] / as_traded["split_factor"]
    # A dividend of d lifts adjusted over traded by 1 + d / close.
    cash = (growth / growth.groupby(as_traded["symbol"]).shift() - 1) * as_traded["close"]
    paid = as_traded.assign(cash_amount=cash.round(6))[cash > 1e-6]
    return as_plain_rows(
        paid.rename(columns={"date": "ex_dividend_date"}), ["symbol", "ex_dividend_date", "cash_amount"]
    )


def continuous(as_traded: pd.DataFrame) -> pd.DataFrame:
    """Return the bars with prices in the shares of the first one."""
    factor = as_traded["split_factor"]
    return as_traded.assign(**{name: as_traded[name] * factor for name in ("open", "high", "low", "close")})


def as_plain_rows(frame: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows of Python's own types, times as datetime."""

    def plain(value: Any) -> Any:
        return value.to_pydatetime().astimezone(UTC) if isinstance(value, pd.Timestamp) else value

    return [
        {name: plain(value) for name, value in zip(columns, row, strict=True)}
        for row in frame[list(columns)].astype(object).itertuples(index=False)
    ]
