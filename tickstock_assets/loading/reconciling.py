"""Two providers' bars of the same days, as they are landed, put before the reconciliation; what it leaves open is entered.

Nobody is asked for anything here. Elsewhere: how differences are explained (domain/reconciliation), how findings are kept
(storage/quality_findings.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from itertools import batched, combinations
from pathlib import Path
from typing import Self

import pandas as pd
from sqlalchemy import Connection, Engine, text

from tickstock_assets.domain.reconciliation import Reconciliation, Side, reconcile
from tickstock_assets.domain.reconciliation.report import SUSPICIONS
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE
from tickstock_assets.domain.windows import WHOLE_MARKET, Window, merge_neighbours, not_covered, span_of
from tickstock_assets.loading.deliveries import deliveries
from tickstock_assets.loading.lineup import Lineup, source_of
from tickstock_assets.loading.validating import broken_rules
from tickstock_assets.providers.base import Dataset, Provider, no_bars
from tickstock_assets.storage import audit, bars, ledger, quality_findings
from tickstock_assets.storage.quality_findings import FindingCounts
from tickstock_assets.storage.retry import in_transaction

type Pair = tuple[Provider, Provider]
type Minutes = Mapping[Side, pd.DataFrame]

DISAGREEMENT = "provider_disagreement"
RULES = (DISAGREEMENT, *SUSPICIONS)
# The bars of so many symbols are held at a time.
SYMBOLS_AT_A_TIME = 25
SIDES: tuple[Side, Side] = ("left", "right")
STORED_MINUTES = """
    SELECT timestamp, open::float8, high::float8, low::float8, close::float8, volume::float8, source FROM ohlcv_1min
    WHERE symbol = :symbol AND timestamp >= CAST(:first AS timestamp) AT TIME ZONE 'America/New_York'
      AND timestamp < (CAST(:last AS timestamp) + interval '1 day') AT TIME ZONE 'America/New_York'
    ORDER BY timestamp
"""


@dataclass(frozen=True)
class Comparison:
    """What two providers, by their names, have of one symbol."""

    left: str
    right: str
    report: Reconciliation


@dataclass
class Reconciled:
    """What was compared, without the single bars, and what became of the findings."""

    comparisons: list[Comparison] = field(default_factory=list)
    findings: FindingCounts = field(default_factory=FindingCounts)


@dataclass(frozen=True)
class Recorded:
    """What is known of symbols besides their bars: splits, dividends, sessions, and whose a ticker is since when."""

    splits: pd.DataFrame
    dividends: pd.DataFrame
    sessions: pd.DataFrame
    since: Mapping[str, pd.Timestamp]

    @classmethod
    def of(cls, connection: Connection, first: date, last: date) -> Self:
        """Return what the database has, the sessions of a span of days."""
        return cls(
            bars.splits(connection),
            bars.dividends(connection),
            bars.sessions(connection, DEFAULT_EXCHANGE, first, last),
            bars.tickers_since(connection),
        )


def compare(
    engine: Engine,
    folder: Path,
    pair: Pair,
    windows: Sequence[Window],
    dataset: Dataset = Dataset.DAILY_BARS,
    *,
    bars_shown: int | None = 20,
) -> Iterator[Comparison]:
    """Yield what is told of each symbol that both providers have landed bars of.

    Rows that break the contract of their stage are left out; they are in quarantine already. Where daily bars are not
    explained without, they are compared once more with the minute bars that there are.

    Args:
        engine: of the database.
        folder: where payloads are landed.
        pair: left and right.
        windows: whose bars, and which days; those that both have landed count.
        dataset: bars of which kind.
        bars_shown: how many unexplained bars a report has; None for all.
    """
    with engine.connect() as connection:
        days = days_of_both(connection, pair, dataset, windows)
        if not days:
            return
        recorded = Recorded.of(connection, *span_of(days))
    sides = [_valid_bars(engine, folder, provider, dataset, days, recorded=recorded) for provider in pair]
    left, right = ({str(symbol): rows for symbol, rows in side.groupby("symbol")} for side in sides)
    for symbol in sorted(left.keys() & right.keys()):
        told = partial(
            reconcile,
            left[symbol],
            right[symbol],
            splits=recorded.splits,
            dividends=recorded.dividends,
            sessions=recorded.sessions,
            bars_shown=bars_shown,
        )
        report = told()
        if dataset is Dataset.DAILY_BARS and report.matched and not report.explained:
            of_symbol = [window for window in days if window.symbol == symbol]
            minutes = _minutes(engine, folder, pair, of_symbol, recorded)
            report = told(minutes=minutes) if minutes else report
        yield Comparison(pair[0].name, pair[1].name, report)


def reconcile_landed(lineup: Lineup, engine: Engine, folder: Path, run: audit.Run | None = None) -> Reconciled:
    """Compare all daily bars that are landed from two of the providers, and enter what stays unexplained.

    Each unexplained bar is a finding, and so is each split or dividend that is only suspected. A finding of a symbol that
    is compared, and is not found any more, is resolved.
    """
    result = Reconciled()
    pairs = list(combinations(lineup, 2))
    with engine.connect() as connection:
        symbols = [_symbols_of_both(connection, pair, Dataset.DAILY_BARS) for pair in pairs]
    if not any(symbols):
        return result
    first, last = lineup.span(Dataset.DAILY_BARS)
    for group in batched(sorted(set().union(*symbols)), SYMBOLS_AT_A_TIME):
        compared = [
            comparison
            for pair, of_pair in zip(pairs, symbols, strict=True)
            for comparison in compare(
                engine, folder, pair, [Window(one, first, last) for one in group if one in of_pair], bars_shown=None
            )
        ]
        with engine.connect() as connection:
            sessions = bars.sessions(connection, DEFAULT_EXCHANGE, first, last)
        enter = partial(
            quality_findings.enter, found=findings(compared, sessions), rules=RULES, timeframe="1d", symbols=group
        )
        result.findings += in_transaction(engine, enter, run)
        result.comparisons += [replace(one, report=replace(one.report, unexplained=())) for one in compared]
    return result


def findings(comparisons: Sequence[Comparison], sessions: pd.DataFrame) -> pd.DataFrame:
    """Return what stays open as rows of findings; where several pairs disagree on a bar it is one row.

    Args:
        comparisons: of daily bars, with all their unexplained bars.
        sessions: session and open (UTC), of all their days.
    """
    opens = dict(zip(sessions["session"].dt.date, sessions["open"], strict=True))
    found: dict[tuple[str, pd.Timestamp, str], dict[str, tuple[str, object]]] = {}
    for one in comparisons:
        names = f"{one.left} and {one.right}"
        for bar in one.report.unexplained:
            values = {
                name: {one.left: bar.left[name], one.right: bar.right[name], "relative_difference": bar.residual[name]}
                for name in bar.fields
            }
            said = ", ".join(
                f"{name} is {bar.left[name]:.10g} at {one.left}, {bar.right[name]:.10g} at {one.right}"
                for name in bar.fields
            )
            found.setdefault((one.report.symbol, opens[bar.time], DISAGREEMENT), {})[names] = (said, values)
        for explanation in one.report.explanations:
            if explanation.is_suspicion:
                said = f"{explanation.sentence} (left is {one.left}, right is {one.right})"
                key = (one.report.symbol, opens[explanation.last], explanation.cause)
                found.setdefault(key, {})[names] = (said, dict(explanation.evidence))
    return pd.DataFrame(
        [
            {
                "symbol": symbol,
                "timestamp": timestamp,
                "rule": rule,
                "severity": "warning",
                "source": None,
                "reason": "; ".join(said for said, _ in by_pair.values()),
                "evidence": {names: evidence for names, (_, evidence) in by_pair.items()},
            }
            for (symbol, timestamp, rule), by_pair in found.items()
        ]
    )


def days_of_both(connection: Connection, pair: Pair, dataset: Dataset, windows: Sequence[Window]) -> list[Window]:
    """Return the parts of windows that both providers have landed."""
    days = list(windows)
    for provider in pair:
        days = _common(days, _landed(connection, provider, dataset, {window.symbol for window in days}))
    return days


def _common(windows: Sequence[Window], others: Sequence[Window]) -> list[Window]:
    return not_covered(windows, not_covered(windows, others))


def _landed(
    connection: Connection, provider: Provider, dataset: Dataset, symbols: set[str], *, whole_market: bool = True
) -> list[Window]:
    """Return the days of symbols that a provider has landed; without `whole_market` those asked for by symbol only."""
    if not symbols or not provider.routes(dataset):
        return []
    entries = ledger.landed(connection, source_of(provider, dataset), symbols)
    found = [entry.window for entry in entries if entry.window.symbol != WHOLE_MARKET]
    # Neighbouring days become one before every symbol gets its copy.
    days = merge_neighbours(entry.window for entry in entries if entry.window.symbol == WHOLE_MARKET)
    if whole_market:
        found += [replace(window, symbol=symbol) for window in days for symbol in symbols]
    return merge_neighbours(found)


def _symbols_of_both(connection: Connection, pair: Pair, dataset: Dataset) -> set[str]:
    """Return the known symbols that both providers have landed something of."""
    known = set(bars.symbols(connection)["symbol"])
    for provider in pair:
        source = source_of(provider, dataset)
        symbols = connection.execute(
            text("""
                SELECT DISTINCT symbol FROM load_ledger WHERE status = 'landed'
                  AND provider = :provider AND dataset = :dataset AND source_version = :version
            """),
            vars(source),
        ).scalars()
        landed = set(symbols)
        # NULL stands for the whole market.
        known = known if None in landed else known & landed
    return known


def _valid_bars(
    engine: Engine, folder: Path, provider: Provider, dataset: Dataset, days: Sequence[Window], *, recorded: Recorded
) -> pd.DataFrame:
    valid = [no_bars(dataset)]
    for delivery in deliveries(provider, dataset, engine, folder, days):
        frame = delivery.frame
        rows = frame.drop(index=broken_rules(frame, dataset, recorded.sessions, recorded.since).index)
        valid += [rows] if len(rows) else []
    return pd.concat(valid[1:] or valid, ignore_index=True)


def _minutes(engine: Engine, folder: Path, pair: Pair, days: Sequence[Window], recorded: Recorded) -> Minutes:
    """Return the minute bars of one or both sides, as far as there are any of these days of one symbol.

    Stored ones are a side's where nobody else's are among them: elsewhere its own are incomplete, as the best source wins.
    Landed ones count where they were asked for by symbol: a file of the whole market is not opened for one.
    """
    found: dict[Side, pd.DataFrame] = {}
    dataset, symbol = Dataset.MINUTE_BARS, days[0].symbol
    with engine.connect() as connection:
        span = {"symbol": symbol, "first": days[0].start, "last": days[-1].end}
        numbers = dict.fromkeys(["open", "high", "low", "close", "volume"], "float64")
        stored = bars.query(connection, STORED_MINUTES, span, {"timestamp": bars.UTC, **numbers, "source": "str"})
        landed = [_common(days, _landed(connection, one, dataset, {symbol}, whole_market=False)) for one in pair]
    sources = set(stored["source"])
    for side, provider, windows in zip(SIDES, pair, landed, strict=True):
        if sources == {provider.name}:
            found[side] = stored
        elif windows:
            rows = _valid_bars(engine, folder, provider, dataset, windows, recorded=recorded)
            found |= {side: rows} if len(rows) else {}
    return found
