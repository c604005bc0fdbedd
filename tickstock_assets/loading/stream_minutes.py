"""The live feed's minute bars and holes, on their way into the database: they wait in memory while it is away."""

import logging
import threading
from collections.abc import Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from tickstock_assets.domain import schemas
from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.domain.exchanges import DEFAULT_EXCHANGE, FIRST_DAY, LAST_DAY
from tickstock_assets.loading.calendar import know_sessions
from tickstock_assets.loading.removed_minutes import without_removed
from tickstock_assets.loading.validating import keep_valid
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.live import PUBLISHED_AFTER_CLOSE
from tickstock_assets.providers.polygon_messages import EXCHANGE_ZONE, SOURCE
from tickstock_assets.providers.polygon_stream import Missed
from tickstock_assets.storage import audit, backfill_requests, bars
from tickstock_assets.storage.bulk import MergeCounts, merge
from tickstock_assets.storage.ledger import Source
from tickstock_assets.storage.ticks import may_pass

log = logging.getLogger(__name__)

TABLE = "ohlcv_1min"
# Beyond so many, whoever brings more waits for the database.
MOST_WAITING = 100_000


class StreamMinutes:
    """Takes minute bars and holes from one thread, and stores them from another."""

    def __init__(self, engine: Engine, symbols: Sequence[str], run: audit.Run) -> None:
        """Store in `engine`; holes are of `symbols`; `run` stands in the audit trail."""
        self._engine, self._symbols, self._run = engine, symbols, run
        self._frames: list[pd.DataFrame] = []
        self._holes: list[Missed] = []
        self._changed = threading.Condition()
        self._storing = threading.Lock()
        self._is_given_up = False
        self.counts, self.rejected, self.holes = MergeCounts(), 0, 0

    @property
    def waiting(self) -> int:
        """Minute bars that are not stored yet."""
        with self._changed:
            return sum(map(len, self._frames))

    def take(self, minutes: pd.DataFrame) -> None:
        """Take minute bars as `polygon_messages.read` gives them; held back while `MOST_WAITING` wait."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_given_up or sum(map(len, self._frames)) < MOST_WAITING)
            self._frames.append(minutes)

    def missed(self, hole: Missed) -> None:
        """Take a hole: a request to load its sessions' minutes will be entered."""
        with self._changed:
            self._holes.append(hole)

    def store(self) -> bool:
        """Store what waits; False where the database could not be reached. One thread at a time, others wait for it.

        Raises:
            sqlalchemy.exc.DBAPIError: it was, and refused.
        """
        # Two at once would both take what waits first, and the later one then drop as much of what came meanwhile.
        with self._storing:
            return self._store()

    def _store(self) -> bool:
        with self._changed:
            frames, holes = list(self._frames), list(self._holes)
        if not frames and not holes:
            return True
        try:
            with self._engine.begin() as connection:
                audit.begin(connection, self._run)
                counts, rejected = self._store_minutes(connection, frames)
                for hole in holes:
                    _request(connection, self._symbols, hole)
        except (DBAPIError, psycopg.Error, DatabaseError) as error:
            if not may_pass(error):
                raise
            return False
        with self._changed:
            del self._frames[: len(frames)], self._holes[: len(holes)]
            self.counts += counts
            self.rejected += rejected
            self.holes += len(holes)
            self._changed.notify_all()
        return True

    def give_up(self) -> None:
        """Say what is not stored, when nobody will try again, and let go whoever waits to bring more."""
        with self._changed:
            self._is_given_up = True
            self._changed.notify_all()
        waiting, holes = self.waiting, [f"{hole.since:%Y-%m-%d %H:%M:%S}" for hole in self._holes]
        if waiting or holes:
            log.warning(
                "The database could not be reached: %d minute bars and the holes since [%s] UTC are lost here; load the day "
                "again, `tickstock load --timeframe minute --symbols %s`",
                waiting, ", ".join(holes), ",".join(self._symbols),
            )  # fmt: skip

    def _store_minutes(self, connection: Connection, frames: Sequence[pd.DataFrame]) -> tuple[MergeCounts, int]:
        if not frames:
            return MergeCounts(), 0
        # Of a bar that is told again, the newest counts.
        minutes = pd.concat(frames).drop_duplicates(["symbol", "timestamp"], keep="last").reset_index(drop=True)
        # A day beyond every calendar has no session, so its bars are set aside like those of a holiday.
        days = minutes.loc[minutes["date"].between(FIRST_DAY, LAST_DAY), "date"]
        first, last = (days.min().date(), days.max().date()) if len(days) else (date.max, date.min)
        if first <= last:
            know_sessions(connection, first, last)
        sessions = bars.sessions(connection, DEFAULT_EXCHANGE, first, last)
        source = Source(SOURCE, Dataset.MINUTE_BARS.value, "stream")
        valid, rejected = keep_valid(connection, source, minutes, schemas.minute_bars(sessions))
        valid = without_removed(connection, valid)
        counts = merge(connection, TABLE, valid.drop(columns="date").assign(source=SOURCE))
        if counts.written:
            symbols = sorted(set(valid["symbol"]))
            particulars = {**vars(counts), "source": SOURCE, "symbols": symbols, "first": first, "last": last}
            audit.record(connection, "load", (TABLE, TABLE), "merge", particulars)
        return counts, rejected


def _request(connection: Connection, symbols: Sequence[str], hole: Missed) -> None:
    def day(moment: datetime) -> date:
        return moment.astimezone(ZoneInfo(EXCHANGE_ZONE)).date()

    first, last = day(hole.since), day(hole.until)
    know_sessions(connection, first, last)
    closes = bars.sessions(connection, DEFAULT_EXCHANGE, first, last)["close"]
    # Before, the vendor has nothing of the day, and who works on the request would find it done.
    published = None if closes.empty else closes.iloc[-1].to_pydatetime() + PUBLISHED_AFTER_CLOSE
    reason = f"live feed: cut from {hole.since:%Y-%m-%d %H:%M:%S} to {hole.until:%Y-%m-%d %H:%M:%S} UTC"
    entered = backfill_requests.enter(connection, symbols, "1m", first, last, reason=reason, not_before=published)
    log.warning("%s; request %s is to load the minutes of %s again", reason, entered, ", ".join(symbols))
