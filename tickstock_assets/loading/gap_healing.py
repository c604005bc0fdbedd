"""Asking once more for the bars of gaps: their days alone are fetched, stored and rolled up, and then looked at again.

Whether a gap is filled is told by that look, and never by what was fetched.

Elsewhere: which gaps, and when they are given up (storage/gap_attempts.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from sqlalchemy import Engine

from tickstock_assets.domain.windows import Window, merge_neighbours
from tickstock_assets.loading.coverage import common_days
from tickstock_assets.loading.fetching import Landing, land_missing
from tickstock_assets.loading.gap_finding import Reach, find_gaps
from tickstock_assets.loading.landed_days import Landed
from tickstock_assets.loading.lineup import Lineup, source_of
from tickstock_assets.loading.storing import Stored, store
from tickstock_assets.providers.base import Dataset
from tickstock_assets.storage import audit, bars, gap_attempts, rollups
from tickstock_assets.storage.backfill_requests import BackfillRequest
from tickstock_assets.storage.retry import in_transaction
from tickstock_assets.storage.rollups import RollupCounts

DATASETS: Mapping[str, Dataset] = {"1d": Dataset.DAILY_BARS, "1m": Dataset.MINUTE_BARS}


@dataclass
class Healing:
    """What became of the gaps of a request.

    Attributes:
        tried: the gaps as they were found open: id, symbol, timeframe, class, day, gap_start, missing_bars, attempts.
        filled_before: those that were filled by then, as by a try that was stopped: symbol, day, healed_at.
        still_open: ids of those that are not filled.
        landing: what was fetched.
        stored: what became of the rows.
        rolled_up: of minutes, what was made of them.
    """

    tried: pd.DataFrame
    filled_before: pd.DataFrame
    still_open: set[str] = field(default_factory=set)
    landing: Landing = field(default_factory=Landing)
    stored: Stored = field(default_factory=Stored)
    rolled_up: RollupCounts | None = None

    @property
    def healed(self) -> pd.DataFrame:
        """The gaps that this try filled."""
        return self.tried[~self.tried["id"].isin(self.still_open)]


@dataclass(frozen=True)
class Healer:
    """Whom to ask, and where to put it.

    Attributes:
        lineup: providers, best first.
        engine: of the database.
        folder: where payloads are landed.
        run: under whose name it stands in the audit trail.
    """

    lineup: Lineup
    engine: Engine
    folder: Path
    run: audit.Run | None = None

    def heal(self, request: BackfillRequest) -> Healing:
        """Try the open gaps of a request; what was landed since it was entered is not asked for again.

        A budget that ends, or a provider that refuses, is in the landing; what came before is stored and looked at.
        """
        dataset, landed = DATASETS[request.timeframe], Landed(self.lineup, self.folder)
        with self.engine.connect() as connection:
            tried = gap_attempts.of_request(connection, request.id)
            filled_before = gap_attempts.filled_since(connection, request.id, request.created_at)
            windows = windows_of_gaps(tried)
            to_ask = landed.not_since(connection, dataset, windows, request.created_at)
        result = Healing(tried, filled_before)
        if tried.empty:
            return result
        result.landing = land_missing(
            self.lineup, self.engine, self.folder, to_ask, dataset, recheck=to_ask, run=self.run
        )
        result.stored = store(self.lineup, self.engine, self.folder, windows, dataset, new=True, run=self.run)
        if dataset is Dataset.MINUTE_BARS:
            result.rolled_up = rollups.roll_up_intraday(self.engine, self.run, windows)
            result.rolled_up += rollups.roll_up_daily(self.engine, self.run, windows)
        find_gaps(self.engine, windows, request.timeframe, Reach.of(self.lineup), landed=landed, run=self.run)
        self._note(request, dataset, result)
        return result

    def _note(self, request: BackfillRequest, dataset: Dataset, result: Healing) -> None:
        """See which gaps are still open, and say of each what came of asking."""
        with self.engine.connect() as connection:
            left = gap_attempts.of_request(connection, request.id)
            sources = [source_of(one, dataset) for one in self.lineup if one.routes(dataset)]
            rejected = bars.quarantined(connection, sources, windows_of_gaps(left))
        result.still_open = set(left["id"])
        who = " and ".join(dict.fromkeys(one.provider for one in sources))
        answers = [
            _answer(Window(symbol, day, day), result.landing.failed, rejected, who)
            for symbol, day in zip(left["symbol"], left["day"].dt.date, strict=True)
        ]
        in_transaction(
            self.engine,
            lambda connection: gap_attempts.note_answers(connection, left["id"].tolist(), answers),
            self.run,
        )


def windows_of_gaps(gaps: pd.DataFrame) -> list[Window]:
    """Return the fewest windows that have the days of gaps."""
    days = gaps["day"].dt.date
    return merge_neighbours(Window(*each) for each in zip(gaps["symbol"], days, days, strict=True))


def _answer(day: Window, failed: Mapping[Window, str], rejected: pd.DataFrame, who: str) -> str:
    """Return in words why a day's gap is still open."""
    refused: Sequence[str] = [reason for window, reason in failed.items() if common_days([window], day)]
    if refused:
        return refused[0]
    of_day = rejected[(rejected["symbol"] == day.symbol) & (rejected["date"] == pd.Timestamp(day.start))]
    if len(of_day):
        return f"what {who} sent of {day.start} is in quarantine: {of_day['reason'].iloc[0]}"
    return f"{who} answered for {day.start} without them"
