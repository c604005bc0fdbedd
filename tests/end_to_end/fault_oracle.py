"""What the tables must hold after a load from a simulator that misbehaved: its market's frames, less what its record says.

The package's part is only the simulator. Of the tables it reads the ledger, for which windows were answered by which call.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
from sqlalchemy import Engine, text

from tickstock_assets.simulator import Fault, Simulator

NEW_YORK = "America/New_York"
DAILY, MINUTES = "daily_bars", "minute_bars"
TABLES = {DAILY: "ohlcv_daily", MINUTES: "ohlcv_1min"}
VALUES = ["open", "high", "low", "close", "volume"]
RULES = {
    Fault.ZERO_PRICE: "non_positive_price",
    Fault.NEGATIVE_PRICE: "non_positive_price",
    Fault.HIGH_BELOW_LOW: "high_below_low",
    Fault.HOLIDAY_BAR: "not_a_session",
    Fault.REUSED_TICKER: "before_ticker",
    Fault.DUPLICATE_ROWS: "duplicate_key",
}
# A row that breaks several is named by the first.
PRECEDENCE = list(dict.fromkeys(RULES.values()))
# The true row does not get in; of a repeated one the first does, and the others never were true.
KEEPS_OUT = {Fault.ZERO_PRICE, Fault.NEGATIVE_PRICE, Fault.HIGH_BELOW_LOW, Fault.MISSING_MINUTES}
OTHER_VALUES = {Fault.LATE_CORRECTION, Fault.REPLACED_FILE}
FAILED = {
    Fault.TOO_MANY_REQUESTS, Fault.TOO_MANY_REQUESTS_WITH_TIME, Fault.SERVER_ERROR, Fault.CUT, Fault.TRUNCATED_JSON,
    Fault.ERROR_IN_200, Fault.EXPIRED_KEY,
}  # fmt: skip
OF_THE_WHOLE_MARKET = {"grouped_daily", "day_aggs_v1", "minute_aggs_v1"}

# Dataset, symbol, start in Unix milliseconds; a daily bar starts at midnight in New York.
Key = tuple[str, str, int]
# Vendor, route, symbol (empty for the whole market) and window, as the simulator names what was asked.
Identity = tuple[str, str, str, str]


@dataclass(frozen=True)
class Ordered:
    """What somebody wanted to be loaded."""

    dataset: str
    symbols: Sequence[str]
    start: date
    end: date


@dataclass(frozen=True)
class Landed:
    """A window of the ledger, and which answer it holds; the symbol is None for the whole market."""

    dataset: str
    symbol: str | None
    start: date
    end: date
    source: str
    identity: Identity


class Loads:
    """What each load landed, the oldest answer first, to be noted after each."""

    def __init__(self) -> None:
        self.landed: list[list[Landed]] = []
        self._known: set[tuple[str, int]] = set()

    def note(self, engine: Engine) -> None:
        """Read off the ledger what was landed since the last time."""
        now = _landed(engine)
        self.landed.append([one for key, one in now.items() if key not in self._known])
        self._known |= now.keys()


class Expected:
    """What must be stored and what must be in quarantine, of some orders, after some loads.

    Where a load has several answers for a day, as when a key is refused half-way and the rest is asked of the whole market,
    only the newest is read.
    """

    def __init__(
        self, simulator: Simulator, loads: Loads, orders: Iterable[Ordered], only_regular_before: date
    ) -> None:
        self._simulator, self._market = simulator, simulator.market
        self._only_regular_before = only_regular_before
        self._days: dict[tuple[str, str], set[date]] = defaultdict(set)
        for order in orders:
            span = {day.date() for day in pd.date_range(order.start, order.end)}
            for symbol in order.symbols:
                self._days[order.dataset, symbol] |= span
        self._loads = loads.landed
        self._answers = Counter(
            (str(call.vendor), call.route, call.symbol, call.window)
            for call in simulator.record.calls
            if call.status == 200 and not FAILED & set(call.faults)
        )
        self._impossible: dict[tuple[Identity, Key], set[str]] = {}
        self._wrong = self._wrong_rows()

    def rows(self, dataset: str) -> dict[Key, dict[str, float]]:
        """Return the true rows of what was ordered."""
        rows: dict[Key, dict[str, float]] = {}
        for symbol in sorted(symbol for name, symbol in self._days if name == dataset):
            frame = self._frame(dataset, symbol)
            starts = _milliseconds(frame["date"].dt.tz_localize(NEW_YORK) if dataset == DAILY else frame["timestamp"])
            names = [*VALUES, "vwap", "trades_count"]
            for start, *values in zip(starts, *(frame[name].tolist() for name in names), strict=True):
                rows[dataset, symbol, start] = dict(zip(names, values, strict=True))
        return rows

    def kept_out(self, true: Iterable[Key]) -> set[Key]:
        """Return the true rows that every answer had impossible or not at all."""
        known = set(true)
        return {
            key
            for key, faults in self._wrong.items()
            if key in known and all(self._is_wrong(landed, faults, KEEPS_OUT) for landed in self._answering(key))
        }

    def other_values(self, true: Iterable[Key]) -> set[Key]:
        """Return the true rows that some answer had with other values, and none has been asked for again."""
        known = set(true)
        return {
            key
            for key, faults in self._wrong.items()
            if key in known and any(self._is_wrong(landed, faults, OTHER_VALUES) for landed in self._answering(key))
        }

    def quarantine(self) -> set[tuple[str, str, str, date, str]]:
        """Return dataset, source, symbol, day and rule of the rows that must have been set aside."""
        found = set()
        for key, faults in self._wrong.items():
            if _day(key) not in self._days.get(key[:2], set()):
                continue
            for landed in self._answering(key):
                # That a row is a former company's is told of its first answer only.
                named = {
                    RULES[fault]
                    for identity, fault in faults
                    if fault in RULES and (identity == landed.identity or fault is Fault.REUSED_TICKER)
                }
                if named:
                    named |= self._impossible.get((landed.identity, key), set())
                    found.add((key[0], landed.source, key[1], _day(key), min(named, key=PRECEDENCE.index)))
        return found

    def _frame(self, dataset: str, symbol: str) -> pd.DataFrame:
        days = self._days[dataset, symbol]
        if dataset == DAILY:
            frame = self._market.daily(symbol)
            return frame[frame["date"].dt.date.isin(days)]
        frame = self._market.minutes(symbol, min(days), max(days))
        local = frame["timestamp"].dt.tz_convert(NEW_YORK)
        minute = local.dt.hour * 60 + local.dt.minute
        # Alpha Vantage is asked for regular hours, and the days that only it has are no half days.
        regular = minute.between(9 * 60 + 30, 16 * 60 - 1) | (frame["date"].dt.date >= self._only_regular_before)
        return frame[frame["date"].dt.date.isin(days) & regular]

    def _wrong_rows(self) -> dict[Key, set[tuple[Identity, Fault]]]:
        wrong: dict[Key, set[tuple[Identity, Fault]]] = defaultdict(set)
        for row in self._simulator.record.wrong_rows:
            # Another ticker's answer is refused as a whole.
            if row.fault is not Fault.WRONG_SYMBOL:
                symbol = "" if row.route in OF_THE_WHOLE_MARKET else row.symbol
                dataset = DAILY if row.timeframe == "1d" else MINUTES
                whose = (row.sent or row.true or {})["symbol"]
                identity = (str(row.vendor), row.route, symbol, row.window)
                key = (dataset, whose, row.start_ms)
                wrong[key].add((identity, row.fault))
                # The bar of a holiday may repeat one that is impossible besides.
                self._impossible[identity, key] = _impossible(row.sent)
        return wrong

    def _answering(self, key: Key) -> list[Landed]:
        """Return the answers that were read for a row, one a load and source."""
        dataset, symbol, _ = key
        day = _day(key)
        read: dict[tuple[int, str], Landed] = {}
        for number, load in enumerate(self._loads):
            for one in load:
                if one.dataset == dataset and one.symbol in {symbol, None} and one.start <= day <= one.end:
                    read[number, one.source] = one
        return list(read.values())

    def _is_wrong(self, landed: Landed, faults: set[tuple[Identity, Fault]], kinds: set[Fault]) -> bool:
        # The second answer to the same question is right.
        return self._answers[landed.identity] < 2 and any((landed.identity, kind) in faults for kind in kinds)


def stored(engine: Engine, dataset: str) -> dict[Key, Any]:
    """Return the rows of a table."""
    moment = "date::timestamp AT TIME ZONE 'America/New_York'" if dataset == DAILY else "timestamp"
    query = f"SELECT (extract(epoch FROM {moment}) * 1000)::bigint AS ms, * FROM {TABLES[dataset]}"
    with engine.connect() as connection:
        return {(dataset, row.symbol, row.ms): row for row in connection.execute(text(query))}


def set_aside(engine: Engine) -> set[tuple[str, str, str, date, str]]:
    """Return dataset, source, symbol, day and rule of every bar in quarantine."""
    query = "SELECT dataset, source, symbol, date, rule FROM quarantined_bars WHERE timeframe IS NOT NULL"
    with engine.connect() as connection:
        return {tuple(row) for row in connection.execute(text(query))}  # type: ignore[misc]


def is_equal(found: Any, true: dict[str, float]) -> bool:
    """Return whether a stored row has the true values, as far as its source tells them."""
    if any(float(getattr(found, name)) != true[name] for name in VALUES):
        return False
    if found.source == "alpha_vantage":
        return found.vwap is None and found.trades_count is None
    # Files have no volume-weighted price.
    return found.trades_count == true["trades_count"] and (found.vwap is None or float(found.vwap) == true["vwap"])


def _impossible(row: dict[str, Any] | None) -> set[str]:
    if row is None:
        return set()
    found = {"non_positive_price"} if min(row[name] for name in VALUES[:4]) <= 0 else set()
    return found | ({"high_below_low"} if row["high"] < row["low"] else set())


def _landed(engine: Engine) -> dict[tuple[str, int], Landed]:
    """Return every landed window, the oldest answer first, under its id and how often it was asked for."""
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT * FROM load_ledger WHERE status = 'landed' ORDER BY finished_at, id")
        ).all()
    return {
        (str(row.id), row.attempts): Landed(
            row.dataset, row.symbol, row.window_start, row.window_end, row.provider, _identity(row)
        )
        for row in rows
    }


def _identity(row: Any) -> Identity:
    is_day = row.dataset == DAILY
    first = f"{row.window_start}..{row.window_start}+0"
    match row.provider, row.route:
        case "polygon", "by_symbol":
            route = "aggregates_day" if is_day else "aggregates_minute"
            return "polygon", route, row.symbol, f"{row.window_start}..{row.window_end}+0"
        case "polygon", "grouped_daily":
            return "polygon", "grouped_daily", "", first
        case "polygon", "flat_files":
            return "flat_files", "day_aggs_v1" if is_day else "minute_aggs_v1", "", first
        case _ if is_day:
            return "alpha_vantage", "TIME_SERIES_DAILY", row.symbol, "1999-11-01..2100-01-01+0"
    month = pd.Period(row.window_start, freq="M")
    span = f"{month.start_time.date()}..{month.end_time.date()}+0"
    return "alpha_vantage", "TIME_SERIES_INTRADAY", row.symbol, span


def _milliseconds(moments: "pd.Series[pd.Timestamp]") -> list[int]:
    naive = moments.dt.tz_convert("UTC").dt.tz_localize(None)
    found: list[int] = naive.to_numpy().astype("datetime64[ms]").astype("int64").tolist()
    return found


def _day(key: Key) -> date:
    return pd.Timestamp(key[2], unit="ms", tz="UTC").tz_convert(NEW_YORK).date()
