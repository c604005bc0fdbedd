"""Gaps that close by themselves: looked for after a load, asked for again, and given up loudly when nobody has them.

The state is in `data_gaps`, and each step of a tick is a transaction that leaves it as the next one wants to find it: a tick
that is killed anywhere is simply followed by another.

Elsewhere: the attempts (storage/gap_attempts.py), the requests' runs (sensors.py), what a run does (gap_healing.py).
"""

from datetime import UTC, datetime, timedelta
from itertools import batched

import dagster as dg
import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.defs.assets.gaps import last_look
from tickstock_assets.defs.jobs import GAPS
from tickstock_assets.defs.lost_retries import is_waited_for
from tickstock_assets.defs.request_runs import GAP_HEALING
from tickstock_assets.defs.resources import engine, lineup
from tickstock_assets.defs.run_records import ended_at
from tickstock_assets.loading.gap_finding import Reach
from tickstock_assets.settings import settings
from tickstock_assets.storage import audit, backfill_requests, gap_attempts
from tickstock_assets.storage.retry import in_transaction

# What a tick deals with; the others are dealt with by the next ones.
GAPS_A_TICK = 1_000
SYMBOLS_A_REQUEST = 50
# A load is over when it has been quiet for so long; one that takes all day is looked at so long after its first bars.
QUIET = timedelta(minutes=2)
LOOK_EVERY = timedelta(hours=1)
# One that failed leaves holes unknown until it is repeated.
LOOK_AGAIN_AFTER = timedelta(minutes=15)
# The change after which a run looks.
LOOK_TAG = "tickstock/looks_after"


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Enters requests to fetch the bars of gaps again, waits longer after each, and gives up after "
    "TICKSTOCK_GAP_ATTEMPTS.",
)
def heal_gaps(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Give up what has been tried often enough, and have the rest tried that is due."""
    run = audit.Run("sensor heal_gaps", "")
    most = settings().gap_attempts
    given_up = in_transaction(engine(), lambda connection: gap_attempts.give_up(connection, most), run)
    for sentence in given_up:
        context.log.error("Given up: %s", sentence)
    settled = Reach.of(lineup()).settled
    entered = in_transaction(
        engine(),
        lambda connection: _enter(connection, gap_attempts.due(connection, settled, most, GAPS_A_TICK)),
        run,
    )
    said = [f"Entered {len(entered)} requests for {sum(entered)} gaps"] if entered else []
    if given_up:
        said.append(f"gave up {len(given_up)} gaps, the first {given_up[0]}")
    with engine().connect() as connection:
        return dg.SkipReason("; ".join(said) or _what_is_waited_for(connection))


def _enter(connection: Connection, due: pd.DataFrame) -> list[int]:
    """Enter a request for the gaps of some symbols at a time, and count an attempt of each; return how many gaps each has."""
    entered: list[int] = []
    for timeframe, of_timeframe in due.groupby("timeframe"):
        for symbols in batched(sorted(of_timeframe["symbol"].unique()), SYMBOLS_A_REQUEST):
            gaps = of_timeframe[of_timeframe["symbol"].isin(symbols)]
            days = gaps["day"].dt.date
            number = gaps["attempts"].max() + 1
            request = backfill_requests.enter(
                connection, symbols, str(timeframe), days.min(), days.max(),
                kind="gaps", reason=f"attempt {number} at {len(gaps)} gaps",
            )  # fmt: skip
            gap_attempts.try_under(connection, request, gaps["id"].tolist())
            entered.append(len(gaps))
    return entered


def _what_is_waited_for(connection: Connection) -> str:
    n_open, n_given_up = gap_attempts.still_open(connection), gap_attempts.given_up(connection)
    if not n_open:
        return "No gap is open that a provider may fill"
    return (
        f"No gap is due: {n_open - n_given_up} open ones wait for an attempt or for its end, {n_given_up} are given up"
    )


@dg.sensor(
    job=GAPS,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Looks for gaps after bars were stored, once that has been quiet for two minutes, an hour later at the latest.",
)
def look_for_gaps(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Start the job that finds and classes gaps where there is something new to look at.

    The run's key is the moment of the last change and the number of the look, so a tick that is killed before its run is
    made asks for the same one.
    """
    looked, now = last_look(context.instance), datetime.now(UTC)
    with engine().connect() as connection:
        changes = _changes(connection, looked)
    if changes is None:
        since = f"since {looked:%Y-%m-%d %H:%M} UTC" if looked else "yet"
        return dg.SkipReason(f"No bars were stored {since}")
    first, changed = changes
    if now - changed < QUIET and now - first < LOOK_EVERY:
        return dg.SkipReason(f"Bars were stored at {changed:%H:%M:%S} UTC; waiting until that is over")
    unfinished = dg.RunsFilter(job_name=GAPS.name, statuses=NOT_FINISHED)
    if context.instance.get_runs(unfinished, limit=1):
        return dg.SkipReason("A look is under way")
    moment = changed.isoformat()
    # After whichever change: while bars are stored all day, each tick finds a later one.
    newest = context.instance.get_runs(dg.RunsFilter(job_name=GAPS.name), limit=1)
    if newest and (said := _why_not_yet(context.instance, newest[0], moment, now)):
        return dg.SkipReason(said)
    earlier = context.instance.get_runs(dg.RunsFilter(job_name=GAPS.name, tags={LOOK_TAG: moment}))
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=f"{moment}/{len(earlier) + 1}", tags={LOOK_TAG: moment})]
    )


def _why_not_yet(instance: dg.DagsterInstance, look: dg.DagsterRun, moment: str, now: datetime) -> str | None:
    """Return why nobody looks now after a look that ended without success; None where somebody is to."""
    if look.is_success:
        return None
    if look.status == dg.DagsterRunStatus.CANCELED and look.tags.get(LOOK_TAG) == moment:
        return "The last look was cancelled; the next one follows on the next change"
    ended = ended_at(instance, look)
    if not is_waited_for(instance, look) and (ended is None or now - ended >= LOOK_AGAIN_AFTER):
        return None
    how = "was cancelled" if look.status == dg.DagsterRunStatus.CANCELED else "failed"
    return f"The last look {how}; the next one is due {LOOK_AGAIN_AFTER.total_seconds() / 60:.0f} minutes after it"


NOT_FINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def _changes(connection: Connection, since: datetime | None) -> tuple[datetime, datetime] | None:
    """Return when bars were stored or removed first and last after a moment, other than by healing, which looks by itself."""
    first, last = connection.execute(
        text("""
            SELECT min(timestamp), max(timestamp) FROM audit_trail
            WHERE entity_type IN ('ohlcv_daily', 'ohlcv_1min') AND event_type IN ('load', 'removal')
              AND actor <> :healing AND timestamp > coalesce(CAST(:since AS timestamptz), '-infinity')
        """),
        {"healing": f"dagster {GAP_HEALING}", "since": since},
    ).one()
    return None if last is None else (first, last)
