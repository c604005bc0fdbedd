"""Finding gaps: what the database has is read by the batch, classed by the kernel, and entered; a batch is a transaction.

Elsewhere: what a gap is and why (domain/gaps), what a load asks for again (gaps.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import batched

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.exchanges import calendar_of
from tickstock_assets.domain.gaps import (
    BY_CALENDAR,
    DayEvidence,
    GapClass,
    MinuteEvidence,
    calendar_gaps,
    daily_gaps,
    minute_gaps,
)
from tickstock_assets.domain.gaps.silence import SESSIONS_AROUND, Mask
from tickstock_assets.domain.sessions import CLOSED_BY_OVERRIDE
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.domain.windows import ONE_DAY, Window, merge_neighbours, span_of
from tickstock_assets.loading.landed_days import Landed
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.storage import audit, data_gaps, gap_evidence, removal, sessions
from tickstock_assets.storage.data_gaps import GapCounts, Stretch
from tickstock_assets.storage.gap_evidence import Life
from tickstock_assets.storage.minutes_dropped import dropped_before
from tickstock_assets.storage.retry import in_transaction

# Of minutes, a quarter of 50 symbols at a time is 1.3 million bars in memory; of days, all years of 500.
SYMBOLS_AT_A_TIME: Mapping[Timeframe, int] = {"1m": 50, "1d": 500}
# Sessions before and after a span that show what is usual: of minutes ten, of days 63, with weekends and holidays.
AROUND: Mapping[Timeframe, timedelta] = {"1m": timedelta(days=2 * SESSIONS_AROUND), "1d": timedelta(days=100)}

type OnBatch = Callable[[str, GapCounts], object]


@dataclass(frozen=True)
class Reach:
    """Up to when bars can be there: `horizon` is the last day, and up to `settled` nothing changes any more."""

    horizon: date
    settled: date

    @classmethod
    def of(cls, lineup: Lineup) -> "Reach":
        """Return how far the providers reach now."""
        now = datetime.now(UTC)
        settled = max(min(one.settled_until(now), one.horizon()) for one in lineup)
        return cls(lineup.horizon(), settled)


def find_gaps(
    engine: Engine,
    windows: Sequence[Window],
    timeframe: Timeframe,
    reach: Reach,
    *,
    landed: Landed | None = None,
    run: audit.Run | None = None,
    on_batch: OnBatch | None = None,
) -> GapCounts:
    """Look for the missing bars of some windows, class them, and bring the table of gaps to what is found.

    A symbol's days count from its first stored bar (of daily bars also from its listing) to its delisting, and of minutes
    from where none have been dropped for their age.

    Args:
        engine: of the database.
        windows: whose bars, and which days, as they were asked of a provider.
        timeframe: 1m or 1d.
        reach: of the providers.
        landed: the payloads, which tell of days that look like nobody's wish to trade whether a provider ever sent a bar.
        run: under whose name it stands in the audit trail.
        on_batch: hears of each batch, by its name, and what became of it.
    """
    total = GapCounts()
    with engine.connect() as connection:
        lives = gap_evidence.lives(connection, timeframe, sorted({window.symbol for window in windows}))
        kept = dropped_before(connection) if timeframe == "1m" else None
    wanted = merge_neighbours(_alive(windows, lives, reach.horizon, kept))
    for exchange in sorted({lives[window.symbol].exchange for window in wanted}):
        of_exchange = [window for window in wanted if lives[window.symbol].exchange == exchange]
        for name, batch in _batches(of_exchange, timeframe):
            found = in_transaction(
                engine,
                lambda connection, exchange=exchange, batch=batch: _Look(  # type: ignore[misc]
                    connection, exchange, batch, timeframe, reach, lives, landed
                ).enter(),
                run,
            )
            total += found
            if on_batch is not None:
                on_batch(f"{exchange} {name}", found)
    return total


def windows_to_look_at(connection: Connection, timeframe: Timeframe, since: datetime | None) -> list[Window]:
    """Return the days of symbols that were stored, or whose sessions were changed, after a moment; None for all."""
    return merge_neighbours(gap_evidence.changed_windows(connection, timeframe, since))


def _alive(
    windows: Sequence[Window], lives: Mapping[str, Life], horizon: date, kept_from: datetime | None
) -> Iterator[Window]:
    for window in windows:
        life = lives.get(window.symbol)
        if life is None:
            continue
        first = max(window.start, life.first, (kept_from.date() + ONE_DAY) if kept_from else date.min)
        last = min(window.end, life.last or horizon, horizon)
        if first <= last:
            yield Window(window.symbol, first, last)


def _batches(windows: Sequence[Window], timeframe: Timeframe) -> Iterator[tuple[str, list[Window]]]:
    """Yield the windows of some symbols at a time, of minutes by the quarter."""
    quarters: dict[str, list[Window]] = {}
    for window in windows:
        if timeframe == "1d":
            quarters.setdefault("all", []).append(window)
            continue
        for quarter in pd.period_range(window.start, window.end, freq="Q"):
            part = Window(
                window.symbol,
                max(window.start, quarter.start_time.date()),
                min(window.end, quarter.end_time.date()),
            )
            quarters.setdefault(str(quarter), []).append(part)
    for name, of_quarter in sorted(quarters.items()):
        symbols = sorted({window.symbol for window in of_quarter})
        for group in batched(symbols, SYMBOLS_AT_A_TIME[timeframe]):
            chosen = set(group)
            yield f"{name} {group[0]}..{group[-1]}", [window for window in of_quarter if window.symbol in chosen]


@dataclass(frozen=True)
class _Look:
    """One batch: some symbols of one exchange over a span of days."""

    connection: Connection
    exchange: str
    windows: list[Window]
    timeframe: Timeframe
    reach: Reach
    lives: Mapping[str, Life]
    landed: Landed | None

    def enter(self) -> GapCounts:
        """Find the gaps of the batch and enter them."""
        found = pd.concat(
            [
                self._minutes() if self.timeframe == "1m" else self._days(),
                calendar_gaps(self.exchange, self._calendar(timedelta()), self.windows, self.timeframe),
            ],
            ignore_index=True,
        )
        return data_gaps.enter(self.connection, found, self.timeframe, self._stretches())

    def _span(self, around: timedelta) -> tuple[date, date]:
        first, last = span_of(self.windows)
        return first - around, last + around

    def _calendar(self, around: timedelta) -> pd.DataFrame:
        return sessions.overview(self.connection, self.exchange, *self._span(around))

    def _sessions(self) -> pd.DataFrame:
        """Return the sessions of the batch and those around it."""
        known = self._calendar(AROUND[self.timeframe])
        is_there = (known["kind"] != CLOSED_BY_OVERRIDE) & (known["session"] <= pd.Timestamp(self.reach.horizon))
        return known[is_there].reset_index(drop=True)

    def _symbols(self) -> list[str]:
        return sorted({window.symbol for window in self.windows})

    def _mask(self, symbols: Sequence[str], days: pd.Series, windows: Sequence[Window]) -> Mask:
        """Return which sessions of which symbols lie in windows."""
        mask = np.zeros((len(symbols), len(days)), np.bool_)
        place = {symbol: row for row, symbol in enumerate(symbols)}
        for window in windows:
            low, high = days.searchsorted([pd.Timestamp(window.start), pd.Timestamp(window.end + ONE_DAY)])
            mask[place[window.symbol], low:high] = True
        return mask

    def _minutes(self) -> pd.DataFrame:
        symbols, known = self._symbols(), self._sessions()
        if known.empty:
            return pd.DataFrame()
        begins = known["extended_open"].fillna(known["open"]).iloc[0]
        ends = known["extended_close"].fillna(known["close"]).iloc[-1]
        read = gap_evidence.MinuteSpan(self.exchange, symbols, begins, ends)
        found = minute_gaps(
            MinuteEvidence(
                symbols=symbols,
                sessions=known,
                wanted=self._mask(symbols, known["session"], self.windows),
                minutes=gap_evidence.minutes(self.connection, read),
                official=gap_evidence.official_bars(self.connection, symbols, *self._span(AROUND["1m"])),
                market=gap_evidence.symbols_by_minute(self.connection, read),
                settled=self.reach.settled,
            )
        )
        return _removed_by_a_person(self.connection, _contradicted_by_trades(self.connection, found))

    def _days(self) -> pd.DataFrame:
        symbols, known = self._symbols(), self._sessions()
        if known.empty:
            return pd.DataFrame()
        first, last = known["session"].iloc[0].date(), known["session"].iloc[-1].date()
        whole = _alive([Window(symbol, first, last) for symbol in symbols], self.lives, self.reach.horizon, None)
        expected = self._mask(symbols, known["session"], list(whole))
        wanted = self._mask(symbols, known["session"], self.windows)
        stored = gap_evidence.days(self.connection, symbols, first, last)
        market = gap_evidence.symbols_by_day(self.connection, self.exchange, known["session"])
        found = daily_gaps(
            DayEvidence(
                symbols=symbols,
                sessions=known,
                expected=expected,
                wanted=wanted,
                stored=stored,
                minutes=gap_evidence.minutes_of_days_without_a_bar(self.connection, symbols, self._span(timedelta())),
                market=market["with_a_bar"],
                listed=market["listed"],
                settled=self.reach.settled,
            )
        )
        return found if self.landed is None else _contradicted_by_payloads(self.connection, found, self.landed)

    def _stretches(self) -> list[Stretch]:
        """Return what was looked at as moments: days of the exchange's own clock."""
        zone = calendar_of(self.exchange).tz

        def midnight(day: date) -> datetime:
            return datetime.combine(day, datetime.min.time(), zone)

        return [(one.symbol, midnight(one.start), midnight(one.end + ONE_DAY)) for one in self.windows]


def _contradicted_by_trades(connection: Connection, found: pd.DataFrame) -> pd.DataFrame:
    """Return the gaps, those as holes that look like a halt while trades of it are stored."""
    halts = found[found["class"] == "halt"]
    if halts.empty:
        return found
    n_trades = pd.Series(gap_evidence.trades_within(connection, halts), halts.index)
    traded = n_trades[n_trades > 0]
    told = [{"trades_stored": int(trades)} for trades in traded]
    return _as(found, halts.loc[traded.index], "provider_hole", told)


def _contradicted_by_payloads(connection: Connection, found: pd.DataFrame, landed: Landed) -> pd.DataFrame:
    """Return the missing days, those as holes that look like a habit while a provider has sent a bar of them."""
    habits = found[found["class"] == "no_trade"]
    if habits.empty:
        return found
    days = [date.fromisoformat(evidence["session"]) for evidence in habits["evidence"]]
    wanted = [Window(symbol, day, day) for symbol, day in zip(habits["symbol"], days, strict=True)]
    sent = set(landed.days_sent(connection, wanted).itertuples(index=False, name=None))
    is_sent = [(one.symbol, pd.Timestamp(one.start)) in sent for one in wanted]
    return _as(found, habits[is_sent], "provider_hole", [{"was_sent_before": True}] * sum(is_sent))


def _removed_by_a_person(connection: Connection, found: pd.DataFrame) -> pd.DataFrame:
    """Return the missing minutes, those as removed that lie within a stretch that a person removed."""
    possible = found[~found["class"].isin(BY_CALENDAR)]
    reasons: dict[int, str] = {}
    for one in removal.kept_away(connection, possible["symbol"].unique().tolist()):
        of_stretch = possible[(possible["symbol"] == one.symbol) & (possible["gap_start"] >= one.start)]
        reasons |= dict.fromkeys(of_stretch.index[of_stretch["gap_end"] < one.end], one.reason)
    removed = found.loc[sorted(reasons)]
    return _as(found, removed, "removed", [{"reason": reasons[place]} for place in removed.index])


def _as(
    found: pd.DataFrame, chosen: pd.DataFrame, kind: GapClass, told: Sequence[Mapping[str, object]]
) -> pd.DataFrame:
    """Return the gaps, some of them of another class, with what tells so in their evidence."""
    evidence = [{**known, **more} for known, more in zip(chosen["evidence"], told, strict=True)]
    found.loc[chosen.index, "class"] = kind
    found.loc[chosen.index, "evidence"] = pd.Series(evidence, chosen.index, dtype=object)
    return found
