"""The market that the simulated vendors know: companies, bars of days and minutes. It is also what tests compare with."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from typing import cast

import numpy as np
import pandas as pd

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.minute_walk import minute_bars
from tickstock_assets.simulator.asks import Timeframe
from tickstock_assets.simulator.bars import MILLISECONDS_A_DAY, VALUES, Bars, midnight
from tickstock_assets.simulator.calendar import sessions_between
from tickstock_assets.simulator.companies import Company, split_adjusted
from tickstock_assets.simulator.draws import draw
from tickstock_assets.simulator.generated_companies import generated_companies, invented_bars
from tickstock_assets.simulator.sample_companies import sample_companies

FIRST_DAY, LAST_DAY = date(2019, 1, 2), date(2023, 12, 29)
# Whose bars stand under a reused ticker before its present holder's.
PREVIOUS_HOLDER = 9_999
# Invented trading outside of the session: minutes before the open and after the close, and shares traded in them.
EXTENDED_MINUTES, EXTENDED_SHARES = 90, 120.0


class Market:
    """Companies and their bars, all of it the same whenever it is made with the same arguments."""

    def __init__(
        self,
        generated: int = 0,
        start: date = FIRST_DAY,
        end: date = LAST_DAY,
        *,
        sample: bool = True,
        extended_hours: bool = False,
        fractional_volume: float = 0.0,
        reused: Iterable[str] = (),
        delisted: Mapping[str, date] | None = None,
        seed: int = 0,
    ) -> None:
        """Make a market.

        Args:
            generated: number of invented companies, S0001 and so on, with daily bars from `start` to `end`.
            start: their first day, in New York.
            end: their last day.
            sample: whether it has the five companies of the sample data, 2000-03-01 to 2013-03-01.
            extended_hours: whether some minutes trade before and after the sessions; daily bars do not count them.
            fractional_volume: share of days, from 0 to 1, on which fractions of shares trade.
            reused: tickers that another company had before; FB has a listing date, an invented company gets the
                middle of its range.
            delisted: last day of trading by ticker.
            seed: of the days with fractions.

        Raises:
            ConfigError: a ticker of `reused` or `delisted` is not in the market.
        """
        companies = [*(sample_companies() if sample else []), *generated_companies(generated, start, end)]
        self.companies = {company.ticker: company for company in companies}
        self.extended_hours, self.fractional_volume, self.seed = extended_hours, fractional_volume, seed
        self.previous_holders: dict[str, Company] = {}
        for ticker, day in (delisted or {}).items():
            self.companies[ticker] = replace(self.company(ticker), delisted=day)
        for ticker in reused:
            self._reuse(ticker)
        # Kept with the market and not with the class, so that they go when it goes.
        self._daily_series = functools.cache(self._make_daily_series)
        self._listed_series = functools.cache(self._make_listed_series)
        self._lifetime = functools.cache(self._months_listed)
        self._month_of_minutes = functools.lru_cache(maxsize=128)(self._make_month_of_minutes)

    # --- what a client should have in the end

    @property
    def tickers(self) -> list[str]:
        """All tickers, also of delisted companies, in order."""
        return sorted(self.companies)

    def daily(self, ticker: str) -> pd.DataFrame:
        """Return a company's daily bars as traded.

        Returns:
            symbol, date (datetime64, midnight without a zone), open, high, low, close, volume, vwap, trades_count.
        """
        bars = self.daily_series(ticker)
        return pd.DataFrame({"symbol": ticker, "date": bars.days(), **bars.columns})

    def minutes(self, ticker: str, first: date, last: date) -> pd.DataFrame:
        """Return a company's minute bars as traded, of the days from first to last.

        Returns:
            symbol, date, timestamp (UTC, start of the minute), open, high, low, close, volume, vwap, trades_count; with
            extended hours where the market has them.
        """
        bars = Bars.joined(ticker, [part.cut(i, j) for part, i, j in self.window(ticker, "1m", first, last, own=True)])
        return pd.DataFrame({"symbol": ticker, "date": bars.days(), "timestamp": bars.moments(), **bars.columns})

    def splits(self) -> pd.DataFrame:
        """Return symbol, execution_date, split_from, split_to of all companies."""
        return pd.DataFrame(
            [
                (company.ticker, pd.Timestamp(split.execution_date), split.split_from, split.split_to)
                for company in self.companies.values()
                for split in company.splits
            ],
            columns=["symbol", "execution_date", "split_from", "split_to"],
        )

    def dividends(self) -> pd.DataFrame:
        """Return symbol, ex_dividend_date, cash_amount of all companies."""
        return pd.DataFrame(
            [
                (company.ticker, pd.Timestamp(dividend.ex_dividend_date), dividend.cash_amount)
                for company in self.companies.values()
                for dividend in company.dividends
            ],
            columns=["symbol", "ex_dividend_date", "cash_amount"],
        )

    # --- what the vendors serve

    def company(self, ticker: str) -> Company:
        """Return the company that has a ticker now; ConfigError when none has."""
        if ticker not in self.companies:
            raise ConfigError(f"{ticker}: expected a ticker of the simulated market, found none of that name")
        return self.companies[ticker]

    def window(
        self, ticker: str, timeframe: Timeframe, first: date, last: date, *, adjusted: bool = False, own: bool = False
    ) -> list[tuple[Bars, int, int]]:
        """Return the bars of a ticker from one day to another, as parts: bars and the slice of them that is inside.

        A reused ticker's window has the earlier company's bars too, unless `own`.
        """
        if ticker not in self.companies or last < first:
            return []
        from_ms, to_ms = midnight(first), midnight(last) + MILLISECONDS_A_DAY - 1
        if timeframe == "1d":
            parts = [self._listed_series(ticker, adjusted=adjusted, own=own)]
        else:
            months = pd.period_range(first, last, freq="M")
            lived = self._lifetime(ticker, own=own)
            inside = [month for month in months if lived[0] <= month <= lived[1]]
            parts = [self._month_of_minutes(ticker, month, adjusted=adjusted, own=own) for month in inside]
        cuts = [(part, *part.positions(from_ms, to_ms)) for part in parts]
        return [(part, i, j) for part, i, j in cuts if i < j]

    def day(self, timeframe: Timeframe, day: date, *, adjusted: bool = False) -> list[tuple[Bars, int, int]]:
        """Return the bars of one day of the whole market, in the order of the tickers."""
        if timeframe == "1m":
            return [part for ticker in self.tickers for part in self.window(ticker, "1m", day, day, adjusted=adjusted)]
        start_ms = midnight(day)
        series = (self._listed_series(ticker, adjusted=adjusted, own=False) for ticker in self.tickers)
        cuts = [(bars, *bars.positions(start_ms, start_ms)) for bars in series]
        return [(bars, i, j) for bars, i, j in cuts if i < j]

    def sessions(self) -> list[date]:
        """Return the days on which any company has a bar."""
        series = (self._listed_series(ticker, adjusted=False, own=False) for ticker in self.tickers)
        start_ms = np.unique(np.concatenate([np.empty(0, np.int64), *(bars.start_ms for bars in series)]))
        return [day.date() for day in Bars("", start_ms, {}).days()]

    def regular_hours(self, parts: list[tuple[Bars, int, int]]) -> list[tuple[Bars, int, int]]:
        """Return the minute bars of parts that lie within the sessions."""
        if not self.extended_hours:
            return parts
        return [(regular, 0, len(regular)) for regular in (_within_sessions(bars.cut(i, j)) for bars, i, j in parts)]

    def daily_series(self, ticker: str) -> Bars:
        """Return a company's daily bars as traded, with fractions of shares where the market has them."""
        return self._daily_series(ticker)

    def first_bar_ms(self, ticker: str) -> int:
        """Return when the present holder of a ticker begins; bars before are another company's."""
        return int(self.company(ticker).daily.start_ms[0]) if ticker in self.previous_holders else 0

    def _reuse(self, ticker: str) -> None:
        present = self.company(ticker)
        frame = present.make_daily()
        if present.list_date is None:
            present = replace(present, list_date=frame["date"].iloc[len(frame) // 2].date())
            self.companies[ticker] = present
        changed = cast(date, present.list_date)
        start = min(frame["date"].iloc[0].date(), date(changed.year - 1, changed.month, 1))
        sessions = sessions_between(start, changed)["session"].iloc[:-1]
        self.previous_holders[ticker] = Company(
            ticker=ticker,
            name=f"Former {ticker} Holdings Ltd.",
            exchange="XNYS",
            list_date=None,
            make_daily=functools.partial(invented_bars, PREVIOUS_HOLDER, sessions),
            delisted=sessions.iloc[-1].date(),
        )

    def _make_daily_series(self, ticker: str) -> Bars:
        return self._with_fractions(self.company(ticker).daily)

    def _make_listed_series(self, ticker: str, *, adjusted: bool, own: bool) -> Bars:
        """Return all daily bars under a ticker."""
        bars = self.daily_series(ticker)
        if ticker in self.previous_holders and not own:
            bars = Bars.joined(ticker, [self.previous_holders[ticker].daily, bars])
        return split_adjusted(bars, self.company(ticker).splits) if adjusted else bars

    def _months_listed(self, ticker: str, *, own: bool) -> tuple[pd.Period, pd.Period]:
        days = self._listed_series(ticker, adjusted=False, own=own).days()
        return days[0].to_period("M"), days[-1].to_period("M")

    def _make_month_of_minutes(self, ticker: str, month: pd.Period, *, adjusted: bool, own: bool) -> Bars:
        daily = self._listed_series(ticker, adjusted=False, own=own)
        daily = daily.cut(*daily.positions(midnight(month.start_time.date()), midnight(month.end_time.date())))
        frame = pd.DataFrame({"date": daily.days(), **daily.columns})
        sessions = sessions_between(month.start_time.date(), month.end_time.date())
        parts = [minute_bars(ticker, frame, sessions)]
        if self.extended_hours:
            parts += [_outside(ticker, frame, sessions, when) for when in ("open", "close")]
        minutes = pd.concat(parts).sort_values("timestamp", kind="stable")
        start_ms = minutes["timestamp"].dt.tz_localize(None).to_numpy().astype("datetime64[ms]").astype(np.int64)
        bars = Bars(ticker, start_ms, {name: minutes[name].to_numpy(np.float64) for name in VALUES})
        return split_adjusted(bars, self.company(ticker).splits) if adjusted else bars

    def _with_fractions(self, bars: Bars) -> Bars:
        if not self.fractional_volume:
            return bars
        lots = [draw(self.seed, "fractional", bars.symbol, start) for start in bars.start_ms.tolist()]
        quarters = [1 + int(lot * 1e6) % 3 if lot < self.fractional_volume else 0 for lot in lots]
        values = bars.columns | {"volume": bars.columns["volume"] + np.array(quarters) / 4}
        return Bars(bars.symbol, bars.start_ms, values)


def _within_sessions(bars: Bars) -> Bars:
    days = bars.days()
    sessions = sessions_between(days[0].date(), days[-1].date()).set_index("session")
    of_bar = sessions.reindex(days)
    moments = bars.moments()
    inside = (moments >= pd.DatetimeIndex(of_bar["open"])) & (moments < pd.DatetimeIndex(of_bar["close"]))
    return Bars(bars.symbol, bars.start_ms[inside], {name: column[inside] for name, column in bars.columns.items()})


def _outside(ticker: str, daily: pd.DataFrame, sessions: pd.DataFrame, when: str) -> pd.DataFrame:
    """Return some minutes before the open or after the close, around that price."""
    length = pd.Timedelta(minutes=EXTENDED_MINUTES)
    begin = sessions["open"] - length if when == "open" else sessions["close"]
    price = daily[when]
    quiet = pd.DataFrame(
        {
            "date": daily["date"],
            "open": price,
            "high": (price * 1.001).round(2).clip(lower=price),
            "low": (price * 0.999).round(2).clip(upper=price),
            "close": price,
            "volume": EXTENDED_SHARES,
        }
    )
    return minute_bars(f"{ticker} around the {when}", quiet, sessions.assign(open=begin, close=begin + length))
