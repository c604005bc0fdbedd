"""What a watch list asks for, made so: instruments entered, and a request for each history that nobody has asked for yet.

Elsewhere: what a line is (domain/watch_list.py), the folder of such files (defs/watch_lists.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import batched

from sqlalchemy import Connection

from tickstock_assets.domain.errors import (
    ConfigError,
    ProviderError,
    QuotaExhaustedError,
    TransientProviderError,
)
from tickstock_assets.domain.exchanges import calendar_of
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.domain.watch_list import Wanted
from tickstock_assets.loading.backfills import DATASETS, within, without_bars
from tickstock_assets.loading.calendar import know_sessions
from tickstock_assets.loading.load import Loader, Outcome
from tickstock_assets.storage import backfill_requests, bars, requested_history
from tickstock_assets.storage.retry import in_transaction

# A provider is asked for so many instruments, and a request names so many, at a time.
LINES_AT_A_TIME = 50
# Of minutes, where a line does not say.
MINUTE_YEARS = 2
# After a fault of the moment.
TRY_AGAIN_AFTER = timedelta(minutes=15)


@dataclass
class Watched:
    """What became of lines.

    Attributes:
        new: symbols that were not known before.
        requests: ids of those entered.
        n_asked_before: lines whose history was asked for already.
        problems: by line, what is wrong.
        left: lines for which the provider gave nothing, with the reason.
        continues_at: when it may (UTC); None where nothing is left, or it refuses until somebody changes something.
        met_a_fault: whether that was a fault of the moment, after which `continues_at` is a guess, and no used-up budget.
    """

    new: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    n_asked_before: int = 0
    problems: dict[int, str] = field(default_factory=dict)
    left: dict[int, str] = field(default_factory=dict)
    continues_at: datetime | None = None
    met_a_fault: bool = False


@dataclass
class _Answers(Outcome):
    """What providers have answered, and whether one refuses until somebody changes something, such as its key."""

    is_refused: bool = False

    def note(self, problem: str, error: ProviderError) -> None:
        super().note(problem, error)
        self.is_refused |= not isinstance(error, QuotaExhaustedError | TransientProviderError)


@dataclass(frozen=True)
class _History:
    """Symbols whose bars are asked for over the same days; `asked_from` None is as far back as there is."""

    timeframe: Timeframe
    symbols: Sequence[str]
    days: tuple[date, date]
    asked_from: date | None


def take(
    loader: Loader,
    wanted: Sequence[Wanted],
    reason: str,
    first_partition: date,
    become_partitions: Callable[[Sequence[str]], object],
) -> Watched:
    """Enter the instruments of lines and request their history; what an earlier time got done is not done again.

    Args:
        loader: whom to ask for instruments that are not known.
        wanted: the lines.
        reason: of the requests.
        first_partition: first day that can be requested.
        become_partitions: makes symbols partitions, which a request needs.
    """
    result = Watched()
    for lines in batched(wanted, LINES_AT_A_TIME):
        if result.left:
            # A budget, or the provider, is away, or it refuses: nobody need be asked for the rest.
            result.left |= dict.fromkeys((one.line for one in lines), next(iter(result.left.values())))
            continue
        known = _known(loader, lines, result)
        become_partitions(sorted({one.symbol for one in known}))
        for history in _histories(loader, known, first_partition, result):
            n_new, request = in_transaction(
                loader.engine, partial(_request, history=history, reason=reason), loader.run
            )
            result.n_asked_before += len(history.symbols) - n_new
            result.requests += [request] if request else []
    return result


def _known(loader: Loader, lines: Sequence[Wanted], result: Watched) -> list[Wanted]:
    """Return the lines whose instruments are in the database, after the providers were asked for those that were not."""
    with loader.engine.connect() as connection:
        before = set(bars.symbols(connection)["symbol"])
    outcome = _Answers()
    symbols = list(dict.fromkeys(one.symbol for one in lines))
    found_by_now = set(loader.know(symbols, outcome))
    result.new += sorted(found_by_now - before)
    known = found_by_now - _without_actions(loader, sorted(found_by_now), outcome)
    for one in lines:
        if one.symbol in outcome.unknown:
            result.problems[one.line] = outcome.unknown[one.symbol]
        elif one.symbol not in known:
            result.left[one.line] = "; ".join(outcome.problems)
    if result.left and not outcome.is_refused:
        result.continues_at = outcome.continues_at or datetime.now(UTC) + TRY_AGAIN_AFTER
        result.met_a_fault = outcome.continues_at is None
    with loader.engine.connect() as connection:
        exchanges = bars.exchanges(connection, symbols)
    for one in lines:
        found = exchanges.get(one.symbol)
        if one.symbol in known and one.exchange and found and not _is_same_calendar(one.exchange, found):
            result.problems[one.line] = f"{one.symbol}: expected exchange {found}, found {one.exchange}; correct it"
    return [one for one in lines if one.symbol in known and one.line not in result.problems]


def _without_actions(loader: Loader, symbols: Sequence[str], outcome: Outcome) -> set[str]:
    """Ask for splits and dividends of symbols that no bar is stored of yet, and return those that may lack theirs.

    What is measured on bars is measured on adjusted ones.
    """
    fresh = without_bars(loader, DATASETS.values(), symbols)
    if not outcome.problems:
        loader.load_actions(fresh, outcome)
    return set(fresh) if outcome.problems else set()


def _is_same_calendar(one: str, other: str) -> bool:
    try:
        return calendar_of(one) is calendar_of(other)
    except ConfigError:
        return False


def _histories(loader: Loader, lines: Sequence[Wanted], first_partition: date, result: Watched) -> Iterator[_History]:
    """Yield what lines ask for, those of equal days together; note those that ask for days that nobody has."""
    by_span: dict[tuple[Timeframe, date | None], list[Wanted]] = {}
    for one in lines:
        by_span.setdefault((one.timeframe, one.start), []).append(one)
    for (timeframe, start), of_span in by_span.items():
        try:
            first, last = _usual_span(loader, timeframe)
            days = within(loader.lineup, DATASETS[timeframe], first_partition, (start or first, last))
        except ConfigError as error:
            result.problems |= {one.line: f"{one.symbol}: {error}" for one in of_span}
            continue
        # Without a start: of days as far back as there is, of minutes some years.
        asked_from = start if timeframe == "1d" else days[0]
        yield _History(timeframe, [one.symbol for one in of_span], days, asked_from)


def _usual_span(loader: Loader, timeframe: Timeframe) -> tuple[date, date]:
    first, last = loader.lineup.span(DATASETS[timeframe])
    if timeframe == "1m":
        first = max(first, date(last.year - MINUTE_YEARS, last.month, min(last.day, 28)))
    return first, last


def _request(connection: Connection, history: _History, reason: str) -> tuple[int, str | None]:
    """Enter a request for the symbols whose history nobody has asked for, and note that somebody has."""
    new = requested_history.not_asked_for(connection, history.symbols, history.timeframe, history.asked_from)
    if not new:
        return 0, None
    know_sessions(connection, *history.days)
    request = backfill_requests.enter(connection, new, history.timeframe, *history.days, reason=reason)
    requested_history.note(connection, new, history.timeframe, history.asked_from)
    return len(new), request
