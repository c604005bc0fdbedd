"""New symbols: each becomes a partition, and the history of one that nobody has asked for yet is asked for, once.

Changed ones: the history of a symbol that is on another exchange, or trades again, is asked for again: it lacks sessions.

Elsewhere: who asks otherwise: `tickstock load` and `backfill`, watch lists (watch_lists.py).
"""

from datetime import date

import dagster as dg
from sqlalchemy import Connection, text

from tickstock_assets.defs.partitions import FIRST_DAY, SYMBOLS, known_symbols
from tickstock_assets.defs.resources import engine, lineup
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.loading.backfills import DATASETS, within
from tickstock_assets.loading.calendar import know_sessions
from tickstock_assets.providers.base import Dataset
from tickstock_assets.storage import audit, backfill_requests, requested_history
from tickstock_assets.storage.retry import in_transaction

# What a tick deals with; the others are dealt with by the next ones.
SYMBOLS_A_TICK = 1_000


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes partitions of new symbols, and requests the daily history of those that nobody has asked for; of those "
    "that are on another exchange, or trade again, all that was asked for.",
)
def new_symbols(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Add partitions, then enter a request for what is new and note so in the same transaction.

    Partitions come first, since a request of a symbol that is none would fail; a tick that is killed in between finds the
    symbols new once more.
    """
    with engine().connect() as connection:
        listed = connection.execute(text("SELECT symbol FROM symbols ORDER BY symbol")).scalars().all()
    known = set(known_symbols(context.instance))
    added = [symbol for symbol in listed if symbol not in known][:SYMBOLS_A_TICK]
    if added:
        context.instance.add_dynamic_partitions(str(SYMBOLS.name), added)
    first, last = lineup().span(Dataset.DAILY_BARS)
    span = within(lineup(), Dataset.DAILY_BARS, FIRST_DAY, (first, last))
    partitions = known | set(added)
    run = audit.Run("sensor new_symbols", "")
    requested = in_transaction(engine(), lambda connection: _request(connection, partitions, span), run)
    changed = in_transaction(engine(), lambda connection: _request_again(connection, partitions), run)
    said = [f"{len(added)} symbols are partitions now"] if added else []
    if requested:
        said.append(f"the history of {len(requested)} was requested, the first {requested[0]}")
    if changed:
        said.append(f"that of {len(changed)} which changed was requested again, the first {changed[0]}")
    return dg.SkipReason("; ".join(said) or f"None of {len(listed)} symbols is new")


def _request(connection: Connection, partitions: set[str], span: tuple[date, date]) -> list[str]:
    """Enter one request for the new symbols among the partitions, and return them."""
    new = [symbol for symbol in requested_history.new_symbols(connection, SYMBOLS_A_TICK) if symbol in partitions]
    if new:
        know_sessions(connection, *span)
        backfill_requests.enter(connection, new, "1d", *span, reason=f"{len(new)} new symbols")
        requested_history.note(connection, new, "1d", None)
    return new


def _request_again(connection: Connection, partitions: set[str]) -> list[str]:
    """Enter requests for the history of symbols that changed, and return them."""
    changed = [
        (symbol, timeframe, start)
        for symbol, timeframe, start in requested_history.changed_symbols(connection, SYMBOLS_A_TICK)
        if symbol in partitions
    ]
    alike: dict[tuple[Timeframe, date | None], list[str]] = {}
    for symbol, timeframe, start in changed:
        alike.setdefault((timeframe, start), []).append(symbol)
    for (timeframe, start), symbols in alike.items():
        dataset = DATASETS[timeframe]
        # Minutes may be of a provider that is not asked any more.
        if not any(provider.routes(dataset) for provider in lineup()):
            continue
        first, last = lineup().span(dataset)
        span = within(lineup(), dataset, FIRST_DAY, (min(start or first, last), last))
        know_sessions(connection, *span)
        backfill_requests.enter(connection, symbols, timeframe, *span, reason=f"{len(symbols)} changed symbols")
    requested_history.see(connection, [(symbol, timeframe) for symbol, timeframe, _ in changed])
    return sorted({symbol for symbol, _, _ in changed})
