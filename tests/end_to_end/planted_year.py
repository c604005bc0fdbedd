"""An invented year of a small market, and the defects planted into it; imports nothing of the package.

Twelve symbols share a market factor; six trade in nearly every minute, three in most, three now and then. Daily bars are
the sums of the minutes that were traded, as a vendor's official bars are: a hole cut into the minutes leaves them as they
are, a halt does not, as nothing was traded in it.
"""

from dataclasses import dataclass, field

import exchange_calendars
import numpy as np
import pandas as pd

YEAR = 2024
# Trades a minute at noon.
RATES = {f"P{number:02}": rate for number, rate in enumerate([40.0] * 6 + [4.0] * 3 + [0.5] * 3)}
BARS = ["symbol", "date", "timestamp", "open", "high", "low", "close", "volume", "vwap", "trades_count"]


@dataclass
class Planted:
    """The market as a provider tells it, and what is wrong with it.

    Attributes:
        minutes: columns BARS; prices in USD, volume in shares.
        daily: the same without timestamp.
        sessions: open and close (UTC) under the date.
        splits: symbol, execution_date, split_from, split_to: those that are known.
        events: class (hole, halt, holiday_bar, spike, daily_spike, stale, daily_stale, split, volume), symbol, start and
            end (first and last minute, UTC, or days at midnight UTC): one row a planted defect.
    """

    minutes: pd.DataFrame
    daily: pd.DataFrame
    sessions: pd.DataFrame
    splits: pd.DataFrame
    events: pd.DataFrame = field(default_factory=pd.DataFrame)

    def of(self, kind: str) -> pd.DataFrame:
        """Return the planted defects of a class."""
        return self.events[self.events["class"] == kind].reset_index(drop=True)


def planted_year(seed: int) -> Planted:
    """Return the year with every class of defect planted."""
    return _Planter(np.random.default_rng(seed)).plant()


def year_sessions() -> pd.DataFrame:
    """Return open and close (UTC) of the year's XNYS sessions under their date."""
    calendar = exchange_calendars.get_calendar("XNYS", start=f"{YEAR - 1}-12-01", end=f"{YEAR + 1}-01-31")
    schedule = calendar.schedule.loc[f"{YEAR}-01-01" : f"{YEAR}-12-31"]
    return pd.DataFrame({"open": schedule["open"], "close": schedule["close"]})


class _Planter:
    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.sessions = year_sessions()
        self.events: list[dict[str, object]] = []
        # Every minute of the year's regular hours, and which session it is of.
        grids = [pd.date_range(row.open, row.close, freq="min", inclusive="left") for row in self.sessions.itertuples()]
        self.grid = pd.DatetimeIndex(np.concatenate([grid.tz_localize(None).to_numpy() for grid in grids]), tz="UTC")
        self.day = np.repeat(np.arange(len(grids)), [len(grid) for grid in grids])
        self.minute = np.concatenate([np.arange(len(grid)) for grid in grids])
        self.length = np.array([len(grid) for grid in grids])

    def plant(self) -> Planted:
        market = self.random.normal(0, 0.00025, len(self.grid)) + self._overnight(0.004)
        frames = [self._traded(symbol, rate, market) for symbol, rate in RATES.items()]
        minutes = pd.concat(frames, ignore_index=True)
        daily = _daily(minutes)
        splits = pd.DataFrame(columns=["symbol", "execution_date", "split_from", "split_to"])
        minutes, daily, splits = self._split(minutes, daily, splits)
        self._crowds(minutes, daily)
        daily = self._daily_defects(daily)
        minutes = self._minute_defects(minutes)
        minutes, daily = self._holiday_bars(minutes, daily)
        return Planted(
            minutes.sort_values(["symbol", "timestamp"], kind="stable").reset_index(drop=True)[BARS],
            daily.sort_values(["symbol", "date"], kind="stable").reset_index(drop=True),
            self.sessions,
            splits,
            pd.DataFrame(self.events),
        )

    def _overnight(self, deviation: float) -> np.ndarray:
        return np.where(self.minute == 0, self.random.normal(0, deviation, len(self.grid)), 0.0)

    def _traded(self, symbol: str, rate: float, market: np.ndarray) -> pd.DataFrame:
        """Return a symbol's minute bars as they were traded; halts are of this stage, as nothing is traded in them."""
        length = self.length[self.day]
        busy = 1 + 2 * ((2 * self.minute - length) / length) ** 2
        trades = self.random.poisson(rate * busy * self.random.gamma(20, 1 / 20, len(self.length))[self.day])
        steps = market + self.random.normal(0, 0.0004, len(self.grid)) + self._overnight(0.008)
        if rate > 10:
            for _ in range(2):
                start = self._place(room=60)
                silent = slice(start, start + int(self.random.integers(5, 45)))
                trades[silent] = 0
                steps[silent] = 0
                steps[silent.stop] += self.random.choice([-1, 1]) * self.random.uniform(0.01, 0.04)
                self._note("halt", symbol, self.grid[silent][0], self.grid[silent][-1])
        log_price = np.log(self.random.uniform(20, 300)) + np.cumsum(steps)
        noise = np.abs(self.random.normal(0, 0.0003, (4, len(self.grid))))
        close = np.exp(log_price)
        open_ = np.exp(log_price - steps * (self.minute > 0) * 0.9)
        high, low = np.maximum(open_, close) * (1 + noise[0]), np.minimum(open_, close) * (1 - noise[1])
        sizes = np.maximum(1, np.rint(self.random.lognormal(4.5, 0.5, len(self.grid))))
        frame = pd.DataFrame(
            {
                "symbol": symbol,
                "date": self.sessions.index[self.day],
                "timestamp": self.grid,
                **{name: np.round(price, 2) for name, price in (("open", open_), ("high", high), ("low", low))},
                "close": np.round(close, 2),
                "volume": sizes * trades,
                "trades_count": trades.astype(float),
            }
        )
        frame["vwap"] = ((frame["high"] + frame["low"] + frame["close"]) / 3).round(4)
        return frame[trades > 0]

    def _place(self, room: int) -> int:
        """Return the index of a minute that has `room` minutes of its session behind it and some before it."""
        while True:
            index = int(self.random.integers(0, len(self.grid)))
            if self.minute[index] >= 15 and self.minute[index] + room < self.length[self.day[index]]:
                return index

    def _note(self, kind: str, symbol: str, start: pd.Timestamp, end: pd.Timestamp) -> None:
        moments = [pd.Timestamp(moment) for moment in (start, end)]
        start, end = (moment if moment.tzinfo else moment.tz_localize("UTC") for moment in moments)
        self.events.append({"class": kind, "symbol": symbol, "start": start, "end": end})

    def _split(
        self, minutes: pd.DataFrame, daily: pd.DataFrame, splits: pd.DataFrame
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Split eight symbols 2:1, of which two are recorded."""
        for number, symbol in enumerate(list(RATES)[:5] + list(RATES)[6:9]):
            day = self.sessions.index[int(self.random.integers(40, 210))]
            for frame in (minutes, daily):
                after = (frame["symbol"] == symbol) & (frame["date"] >= day)
                for price in ("open", "high", "low", "close", "vwap"):
                    frame.loc[after, price] = (frame.loc[after, price] / 2).round(4)
                frame.loc[after, "volume"] *= 2
            if number < 2:
                splits = pd.concat(
                    [
                        splits,
                        pd.DataFrame(
                            {"symbol": [symbol], "execution_date": [day], "split_from": [1.0], "split_to": [2.0]}
                        ),
                    ],
                    ignore_index=True,
                )
            else:
                self._note("split", symbol, day, day)
        return minutes, daily, splits

    def _quiet_days(self, symbol: str, count: int) -> int:
        """Return the place in the year of a day that has so many without an event of this symbol around it."""
        taken = [
            (pd.Timestamp(str(event["start"])).tz_localize(None), pd.Timestamp(str(event["end"])).tz_localize(None))
            for event in self.events
            if event["symbol"] == symbol and event["class"] in {"split", "daily_spike", "daily_stale", "volume"}
        ]
        while True:
            place = int(self.random.integers(25, len(self.sessions) - count - 12))
            first, last = self.sessions.index[place - 8], self.sessions.index[place + count + 8]
            if not any(start <= last and end >= first for start, end in taken):
                return place

    def _crowds(self, minutes: pd.DataFrame, daily: pd.DataFrame) -> None:
        """Let each symbol trade many times its volume on one day."""
        for symbol in RATES:
            day = self.sessions.index[self._quiet_days(symbol, 1)]
            factor = int(self.random.integers(10, 30))
            for frame in (minutes, daily):
                frame.loc[(frame["symbol"] == symbol) & (frame["date"] == day), "volume"] *= factor
            self._note("volume", symbol, day, day)

    def _daily_defects(self, daily: pd.DataFrame) -> pd.DataFrame:
        daily = daily.set_index(["symbol", "date"]).sort_index()
        days = self.sessions.index
        for symbol in RATES:
            for _ in range(2):
                place = self._quiet_days(symbol, 1)
                factor = 1 + self.random.choice([-1, 1]) * self.random.uniform(0.12, 0.4)
                row = daily.loc[(symbol, days[place])].copy()
                row["close"] = round(row["close"] * factor, 2)
                row["high"], row["low"] = max(row["high"], row["close"]), min(row["low"], row["close"])
                daily.loc[(symbol, days[place])] = row
                self._note("daily_spike", symbol, days[place], days[place])
            count = int(self.random.integers(4, 10))
            place = self._quiet_days(symbol, count)
            for day in days[place + 1 : place + count]:
                daily.loc[(symbol, day)] = daily.loc[(symbol, days[place])]
            self._note("daily_stale", symbol, days[place], days[place + count - 1])
        return daily.reset_index()

    def _minute_defects(self, minutes: pd.DataFrame) -> pd.DataFrame:
        """Cut holes, raise spikes and repeat bars; each in a session of its own."""
        taken = {(event["symbol"], pd.Timestamp(str(event["start"])).date()) for event in self.events}
        parts = []
        for symbol, of_symbol in minutes.groupby("symbol", sort=True):
            frame = of_symbol.sort_values("timestamp").reset_index(drop=True)
            rate = RATES[str(symbol)]
            by_day = {day: places.to_numpy() for day, places in frame.groupby("date").groups.items()}
            free = [day for day in self.sessions.index if (symbol, day.date()) not in taken and day in by_day]
            free = [free[place] for place in self.random.permutation(len(free))]
            dropped: list[int] = []
            for length in [1, 1, 2, 3, 5, 8, 15, 30, 60, 120, None]:
                bars = by_day[free.pop()]
                if rate < 1 and (length or 400) < 15:
                    continue  # who trades every other minute may well be silent for ten
                gone = self._hole(frame, bars, length)
                dropped += gone.tolist()
                moments = frame["timestamp"].iloc[gone]
                self._note("hole", str(symbol), moments.iloc[0], moments.iloc[-1])
            for _ in range(6):
                bars = by_day[free.pop()]
                place = int(bars[int(self.random.integers(2, len(bars) - 2))])
                factor = 1 + self.random.choice([-1, 1]) * self.random.uniform(0.03, 0.15)
                frame.loc[place, "close"] = round(frame["close"].iloc[place] * factor, 2)
                frame.loc[place, "high"] = max(frame["high"].iloc[place], frame["close"].iloc[place])
                frame.loc[place, "low"] = min(frame["low"].iloc[place], frame["close"].iloc[place])
                self._note("spike", str(symbol), frame["timestamp"].iloc[place], frame["timestamp"].iloc[place])
            if rate > 10:
                for count in (12, 25, 50):
                    bars = by_day[free.pop()]
                    first = int(bars[int(self.random.integers(2, len(bars) - count - 2))])
                    told = ["open", "high", "low", "close", "volume", "vwap", "trades_count"]
                    frame.loc[first + 1 : first + count - 1, told] = frame.loc[first, told].to_numpy()
                    last = frame["timestamp"].iloc[first + count - 1]
                    self._note("stale", str(symbol), frame["timestamp"].iloc[first], last)
            parts.append(frame.drop(index=dropped))
        return pd.concat(parts, ignore_index=True)

    def _hole(self, frame: pd.DataFrame, bars: np.ndarray, length: int | None) -> np.ndarray:
        """Return the places of the bars of a session that lie in a span of so many minutes, or all; at least one."""
        if length is None:
            return bars
        moments = frame["timestamp"].iloc[bars]
        while True:
            start = moments.iloc[int(self.random.integers(0, len(moments)))]
            inside = ((moments >= start) & (moments < start + pd.Timedelta(minutes=length))).to_numpy()
            if inside.sum() >= max(1, length // 4 if len(moments) < 300 else 1):
                return bars[inside]

    def _holiday_bars(self, minutes: pd.DataFrame, daily: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Put bars of the session before on holidays: a daily one, and some minutes."""
        weekdays = pd.bdate_range(f"{YEAR}-01-02", f"{YEAR}-12-31")
        holidays = weekdays.difference(self.sessions.index)
        for symbol in RATES:
            for holiday in holidays[np.sort(self.random.choice(len(holidays), 3, replace=False))]:
                before = self.sessions.index[self.sessions.index.searchsorted(holiday) - 1]
                like = daily[(daily["symbol"] == symbol) & (daily["date"] == before)].assign(date=holiday)
                if not like.empty:
                    daily = pd.concat([daily, like], ignore_index=True)
                    self._note("holiday_bar", symbol, holiday, holiday)
                bars = minutes[(minutes["symbol"] == symbol) & (minutes["date"] == before)].head(5)
                moved = bars.assign(date=holiday, timestamp=bars["timestamp"] + (holiday - before))
                minutes = pd.concat([minutes, moved], ignore_index=True)
                for moment in moved["timestamp"]:
                    self._note("holiday_bar", symbol, moment, moment)
        return minutes, daily


def _daily(minutes: pd.DataFrame) -> pd.DataFrame:
    """Return the official daily bars of what was traded."""
    worth = minutes["vwap"] * minutes["volume"]
    grouped = minutes.assign(worth=worth).sort_values("timestamp").groupby(["symbol", "date"], sort=True)
    daily = grouped.agg(
        open=("open", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        volume=("volume", "sum"),
        worth=("worth", "sum"),
        trades_count=("trades_count", "sum"),
    )
    daily["vwap"] = (daily["worth"] / daily["volume"]).round(4)
    return daily.drop(columns="worth").reset_index()
