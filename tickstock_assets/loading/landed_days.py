"""What landed payloads tell of days: whether a provider ever sent a bar of them, and which were landed since a moment."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pandas as pd
from sqlalchemy import Connection

from tickstock_assets.domain.errors import LandingError
from tickstock_assets.domain.windows import WHOLE_MARKET, Window, not_covered
from tickstock_assets.loading.coverage import common_days
from tickstock_assets.loading.lineup import Lineup, source_of
from tickstock_assets.providers.base import Dataset
from tickstock_assets.storage import landing, ledger


@dataclass(frozen=True)
class Landed:
    """Where payloads of a lineup are."""

    lineup: Lineup
    folder: Path

    def days_sent(self, connection: Connection, wanted: Sequence[Window]) -> pd.DataFrame:
        """Return symbol and date (datetime64) of the wanted days of which any landed payload has a daily bar.

        Also a payload that a newer one has taken the place of counts: who has sent a bar once knew that there was trading.
        One that is not on the disk any more says nothing.
        """
        symbols = sorted({window.symbol for window in wanted})
        found = [pd.DataFrame({"symbol": pd.Series(dtype="str"), "date": pd.Series(dtype="datetime64[us]")})]
        for provider in self.lineup:
            for entry in ledger.landed(connection, source_of(provider, Dataset.DAILY_BARS), symbols):
                if not (days := common_days(wanted, entry.window)):
                    continue
                try:
                    raw = landing.read(self.folder, entry.file.path, entry.file.sha256)
                except LandingError:
                    continue
                rows = provider.parse(Dataset.DAILY_BARS, raw)
                chosen = pd.MultiIndex.from_tuples([(one.symbol, pd.Timestamp(one.start)) for one in _days(days)])
                rows = rows[pd.MultiIndex.from_frame(rows[["symbol", "date"]]).isin(chosen)]
                found.append(rows[["symbol", "date"]].astype({"date": "datetime64[us]"}))
        return pd.concat(found, ignore_index=True).drop_duplicates(ignore_index=True)

    def not_since(
        self, connection: Connection, dataset: Dataset, wanted: Sequence[Window], since: datetime
    ) -> list[Window]:
        """Return the parts of windows that nothing was landed of since a moment."""
        symbols = sorted({window.symbol for window in wanted})
        entries = [
            entry
            for provider in self.lineup
            for entry in ledger.landed(connection, source_of(provider, dataset), symbols)
            if entry.landed_at >= since
        ]
        fresh = [
            replace(entry.window, symbol=symbol)
            for entry in entries
            for symbol in (symbols if entry.window.symbol == WHOLE_MARKET else [entry.window.symbol])
        ]
        return not_covered(wanted, fresh)


def _days(windows: Sequence[Window]) -> list[Window]:
    return [
        Window(window.symbol, day.date(), day.date())
        for window in windows
        for day in pd.date_range(window.start, window.end)
    ]
