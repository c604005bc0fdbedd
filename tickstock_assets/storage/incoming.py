"""The frame that a merge is given, pandas or Arrow, as Arrow batches in the order of the table's key."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.storage.comparison import key_codes
from tickstock_assets.storage.copying import conform
from tickstock_assets.storage.table_columns import Target

NO_SYMBOL = ""


class Incoming:
    """Rows for a table, checked to have its key, each once."""

    def __init__(self, target: Target, frame: pd.DataFrame | pa.Table) -> None:
        """Raise ContractError when a key is incomplete or stands twice."""
        self.target = target
        self._frame = frame
        self._order = self._key_order()

    def __len__(self) -> int:
        return len(self._frame)

    def symbols(self) -> set[str]:
        """Return the symbols that rows belong to, an empty text among them where rows belong to none."""
        if not self.target.has_symbol:
            return {NO_SYMBOL}
        column = self._frame["symbol"]
        unique = column.unique().to_pylist() if isinstance(column, pa.ChunkedArray) else column.unique().tolist()
        return {symbol if isinstance(symbol, str) else NO_SYMBOL for symbol in unique}

    def batches(self, n_rows: int) -> Iterator[pa.Table]:
        """Yield the rows in the order of the key, so many at a time."""
        for start in range(0, len(self), n_rows):
            stop = min(start + n_rows, len(self))
            if self._order is not None:
                yield self._conformed(self._frame.take(self._order[start:stop]))
            elif isinstance(self._frame, pa.Table):
                yield self._conformed(self._frame.slice(start, stop - start))
            else:
                yield self._conformed(self._frame.iloc[start:stop])

    def by_symbol(self) -> dict[str, npt.NDArray[np.intp]]:
        """Return where the rows of each symbol are."""
        symbols = self._series("symbol")
        return {str(symbol): np.asarray(places) for symbol, places in symbols.groupby(symbols).indices.items()}

    def rows(self, places: npt.NDArray[np.intp]) -> pa.Table:
        """Return these rows."""
        return self._conformed(self._frame.take(places))

    def _conformed(self, rows: pd.DataFrame | pa.Table) -> pa.Table:
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
        return conform(self.target.name, table, self.target.columns)

    def _series(self, name: str) -> "pd.Series[Any]":
        column = self._frame[name]
        if isinstance(column, pa.ChunkedArray):
            return column.to_pandas()  # type: ignore[no-any-return]
        if isinstance(column.dtype, pd.CategoricalDtype):
            # Categories have an order of their own.
            return column.astype(column.cat.categories.dtype)
        return column

    def _key_order(self) -> npt.NDArray[np.intp] | None:
        """Return the order of the rows by key, None where they are in it."""
        names = [column.name for column in self.target.key]
        if self._is_one_row_with(names):
            return None
        key = [self._series(name) for name in names]
        codes = key_codes(key)
        if (codes < 0).any():
            raise ContractError(
                f"{self.target.name}: expected the key ({', '.join(names)}) in every row, found a row without"
            )
        if (np.diff(codes) > 0).all():
            return None
        order = np.argsort(codes, kind="stable")
        twice = np.flatnonzero(np.diff(codes[order]) == 0)
        if len(twice):
            found = ", ".join(str(part.iloc[order[twice[0]]]) for part in key)
            raise ContractError(
                f"{self.target.name}: expected every key ({', '.join(names)}) once, found {found} twice"
            )
        return order

    def _is_one_row_with(self, names: Sequence[str]) -> bool:
        frame = self._frame
        return len(frame) == 1 and isinstance(frame, pa.Table) and not any(frame[name].null_count for name in names)
