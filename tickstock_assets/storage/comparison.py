"""Which rows of two Arrow tables have the same key, and which of those differ."""

import json
from collections.abc import Sequence
from decimal import Context, Decimal
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tickstock_assets.storage.table_columns import Column

type Codes = npt.NDArray[np.int64]
type Flags = npt.NDArray[np.bool_]

ABSENT = -1
MOST_DIGITS = 2_000


def _number(text: str) -> Decimal:
    # PostgreSQL writes 1e2 as 100 and -0.0 as 0.0.
    number = Decimal(text).normalize(Context(prec=MOST_DIGITS))
    return number or Decimal(0)


# Documents whose contents are equal become equal: members in order, numbers by their value.
_LOAD = partial(
    json.loads, parse_int=_number, parse_float=_number, object_pairs_hook=lambda members: sorted(dict(members).items())
)


def key_codes(columns: Sequence[pd.Series | pa.ChunkedArray]) -> Codes:
    """Return one integer a row that sorts as the row's key does; -1 where a part of the key is missing."""
    combined: Codes | None = None
    missing: Flags | None = None
    for column in columns:
        values = column.to_pandas() if isinstance(column, pa.ChunkedArray) else column
        codes, uniques = pd.factorize(values, sort=True)
        if combined is None or missing is None:
            combined, missing = codes.astype(np.int64), codes < 0
        else:
            combined = combined * np.int64(len(uniques) + 1) + codes
            missing |= codes < 0
    if combined is None or missing is None:
        return np.empty(0, np.int64)
    return np.where(missing, ABSENT, combined)


def positions(incoming: pa.Table, stored: pa.Table, key: Sequence[Column]) -> Codes:
    """Return for every incoming row the place of the stored one with its key, -1 where there is none.

    Keys are unique on both sides.
    """
    if not stored.num_rows:
        return np.full(incoming.num_rows, ABSENT, np.int64)
    names = [column.name for column in key]
    # What was read in the order in which it was written needs no search.
    if incoming.num_rows == stored.num_rows and all(incoming[name].equals(stored[name]) for name in names):
        return np.arange(incoming.num_rows, dtype=np.int64)
    both = [pa.chunked_array(incoming[name].chunks + stored[name].chunks, incoming[name].type) for name in names]
    codes = key_codes(both)
    ours, theirs = codes[: incoming.num_rows], codes[incoming.num_rows :]
    order = np.argsort(theirs, kind="stable")
    place = np.minimum(np.searchsorted(theirs, ours, sorter=order), len(theirs) - 1)
    found = order[place]
    return np.where(theirs[found] == ours, found, ABSENT)


def differing(incoming: pa.Table, stored: pa.Table, columns: Sequence[Column]) -> Flags:
    """Return which rows, already paired, differ in one of the columns; a missing value equals a missing one."""
    differs = np.zeros(incoming.num_rows, np.bool_)
    for column in columns:
        differs |= _differ(incoming[column.name], stored[column.name], is_json=column.type in {"jsonb", "_text"})
    return differs


def _differ(ours: pa.ChunkedArray, theirs: pa.ChunkedArray, *, is_json: bool) -> Flags:
    if is_json:
        ours, theirs = _normalised_json(ours), _normalised_json(theirs)
    if ours.equals(theirs):
        return np.zeros(len(ours), np.bool_)
    unequal = pc.fill_null(pc.not_equal(ours, theirs), fill_value=False)
    one_missing = pc.not_equal(pc.is_null(ours), pc.is_null(theirs))
    flags: Flags = pc.or_(unequal, one_missing).to_numpy()
    return flags


def _normalised_json(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the documents as texts that are equal when the contents are."""
    encoded = values.combine_chunks().dictionary_encode()
    texts = [repr(_LOAD(text)) for text in encoded.dictionary.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string()).take(encoded.indices)])
