"""Hard rules of stored rows, as functions: windows in, the rows that break the rule out, and how many were looked at.

A check shows what they find, and what is downstream of a partition asks them too. Whoever calls gives a part of the
symbols at a time: rows are held in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd
from sqlalchemy import Connection

from tickstock_assets.domain import schemas
from tickstock_assets.domain.quality import violations
from tickstock_assets.domain.sessions import session_of
from tickstock_assets.domain.windows import ONE_DAY, Window, merge_neighbours, rows_inside
from tickstock_assets.loading.coverage import by_year
from tickstock_assets.loading.trade_bars import MADE_OF_TRADES
from tickstock_assets.storage import bars, minutes, rule_breaks


@dataclass(frozen=True)
class Judged:
    """The rows that break a rule, with a symbol and a date, session or timestamp where they have one; and of how many."""

    offending: pd.DataFrame
    checked: int


def daily_bars_keep_contract(connection: Connection, windows: Sequence[Window]) -> Judged:
    """Hold daily bars against their contract, each against the sessions of its symbol's exchange."""
    rows = bars.daily_bars(connection, windows)
    if rows.empty:
        return Judged(rows, 0)
    exchange = rows["symbol"].map(bars.exchanges(connection, rows["symbol"].unique().tolist()))
    first, last = rows["date"].min().date(), rows["date"].max().date()
    broken = [
        violations(of_exchange, schemas.daily_bars(bars.sessions(connection, str(name), first, last)["session"]))
        for name, of_exchange in rows.groupby(exchange)
    ]
    return Judged(pd.concat(broken).sort_index(), len(rows))


def minute_bars_keep_contract(connection: Connection, windows: Sequence[Window], source: str = "") -> Judged:
    """Hold minute bars against their contract, a year of a symbol at a time.

    Args:
        connection: open.
        windows: which days of which symbols.
        source: of sources that begin so.
    """
    exchanges = bars.exchanges(connection, {window.symbol for window in windows})
    broken: list[pd.DataFrame] = []
    n_checked = 0
    for window in _held(connection, windows, source):
        for year in by_year(window):
            rows = minutes.minute_bars(connection, [year])
            rows = rows[rows["source"].str.startswith(source)]
            n_checked += len(rows)
            if rows.empty:
                continue
            sessions = bars.sessions(connection, exchanges[window.symbol], year.start, year.end)
            dated = rows.assign(date=session_of(rows["timestamp"], sessions)["session"])
            broken.append(violations(dated, schemas.minute_bars(sessions)))
    return Judged(pd.concat(broken) if broken else pd.DataFrame(), n_checked)


def features_keep_contract(connection: Connection, windows: Sequence[Window]) -> Judged:
    """Hold the features of daily bars against their contract."""
    rows = bars.bar_features(connection, "1d", windows)
    return Judged(violations(rows, schemas.BAR_FEATURES), len(rows))


def patterns_keep_contract(connection: Connection, windows: Sequence[Window]) -> Judged:
    """Hold the detections on daily bars against their contract."""
    rows = bars.patterns(connection, "1d", windows)
    return Judged(violations(rows, schemas.PATTERNS), len(rows))


def every_bar_has_features(connection: Connection, windows: Sequence[Window]) -> Judged:
    """Find daily bars without features, and features without a bar."""
    stamps = _closes_stamped_in(connection, windows)[["symbol", "timestamp"]]
    joined = stamps.merge(rule_breaks.keys_of_features(connection, windows), how="outer", indicator="found_in")
    unmatched = joined[joined["found_in"] != "both"]
    found_in = unmatched["found_in"].map({"left_only": "bars", "right_only": "features"})
    return Judged(unmatched.assign(found_in=found_in), len(joined))


def patterns_are_known_at_close(connection: Connection, windows: Sequence[Window]) -> Judged:
    """Find detections that are known before the close of the bar that completes them."""
    closes = _closes_stamped_in(connection, windows)
    joined = bars.patterns(connection, "1d", windows).merge(closes, how="left", on=["symbol", "timestamp"])
    early = joined[~(joined["known_at"] >= joined["session_close"])]
    return Judged(early[["symbol", "timestamp", "pattern", "variant", "known_at", "session_close"]], len(joined))


def sessions_keep_contract(connection: Connection) -> Judged:
    """Hold the calendar of every exchange against its contract."""
    exchanges = sorted(set(bars.exchanges(connection).values()))
    of_exchange = {name: bars.sessions(connection, name, date.min, date.max) for name in exchanges}
    broken = [violations(rows, schemas.SESSIONS).assign(exchange=name) for name, rows in of_exchange.items()]
    return Judged(pd.concat(broken) if broken else pd.DataFrame(), sum(map(len, of_exchange.values())))


def minutes_of_trades_keep_contract(connection: Connection, windows: Sequence[Window]) -> Judged:
    """Do the same for those that were made from trades."""
    return minute_bars_keep_contract(connection, windows, MADE_OF_TRADES)


def _closes_stamped_in(connection: Connection, windows: Sequence[Window]) -> pd.DataFrame:
    """Return the closes of the bars that are stamped within windows, in UTC as what hangs on them.

    A session that opens on the day before in UTC may be in a window while its bar is stamped outside of it.
    """
    wider = merge_neighbours(Window(one.symbol, one.start - ONE_DAY, one.end + ONE_DAY) for one in windows)
    return rows_inside(rule_breaks.closes_of_bars(connection, wider), "timestamp", windows)


def _held(connection: Connection, windows: Sequence[Window], source: str) -> list[Window]:
    """Return the parts of windows in which minutes of such sources are stored, so that empty years cost nothing."""
    stored = minutes.sources_of_minutes(connection, windows)
    found = stored[stored["source"].str.startswith(source)]
    first, last = (found.groupby("symbol")[name].agg(how).dt.date for name, how in (("first", "min"), ("last", "max")))
    return [
        Window(window.symbol, max(window.start, first[window.symbol]), min(window.end, last[window.symbol]))
        for window in windows
        if window.symbol in first.index
    ]
