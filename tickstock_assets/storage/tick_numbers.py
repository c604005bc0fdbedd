"""Trade ids for feeds that give none: the number of a tick among those of its symbol, moment and exchange, from 0."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tickstock_assets.storage.tick_spill import Segment

GROUP = ["symbol", "timestamp", "exchange"]
# Moments whose last number is remembered; a tick that comes later than so many others begins at 0 again.
MOST_REMEMBERED = 100_000


class TradeNumbers:
    """Remembers how many ticks of a moment there were, over batches; not for several threads at once."""

    def __init__(self, left: Iterable[Segment] = ()) -> None:
        """Begin after the ticks of segments that an earlier writer left."""
        # A `pd.Timestamp` of whole microseconds is the same key as its datetime.
        self._next: dict[tuple[object, ...], int] = {}
        for segment in left:
            frame = segment.table().select([*GROUP, "trade_id"]).to_pandas()
            numbers = pd.to_numeric(frame["trade_id"], errors="coerce")
            self._remember((numbers + 1).groupby([frame[name] for name in GROUP]).max().dropna().items())

    def next(self, symbol: str, moment: datetime, exchange: str) -> str:
        """Return the number of one tick."""
        key = (symbol, moment, exchange)
        number = self._next.get(key, 0)
        self._remember([(key, number + 1)])
        return str(number)

    def numbered(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch of `tick_spill.TICKS` in which every tick has a trade_id."""
        frame = batch.select(GROUP).to_pandas()
        is_missing = batch["trade_id"].is_null().to_numpy(zero_copy_only=False)
        without = frame[is_missing]
        groups = without.groupby(GROUP, sort=False, dropna=False)
        counts = groups.size()
        before = np.array([self._next.get(key, 0) for key in counts.index], np.int64)
        numbers = before[groups.ngroup().to_numpy()] + groups.cumcount().to_numpy()
        self._remember((counts + before).items())
        ids = batch["trade_id"].to_numpy(zero_copy_only=False).copy()
        ids[is_missing] = numbers.astype(str)
        place = batch.schema.get_field_index("trade_id")
        return batch.set_column(place, batch.schema.field(place), pa.array(ids, pa.string()))

    def _remember(self, after: Iterable[tuple[Any, int]]) -> None:
        for key, number in after:
            self._next.pop(key, None)
            self._next[key] = int(number)
        while len(self._next) > MOST_REMEMBERED:
            del self._next[next(iter(self._next))]
