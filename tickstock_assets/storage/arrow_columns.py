"""Columns of pandas as those of Arrow."""

from typing import Any

import pandas as pd
import pyarrow as pa


def arrow_column(values: "pd.Series[Any]", kind: pa.DataType) -> pa.Array:
    """Return values as a type of Arrow: days of moments, whole numbers of floats, texts of categories, null for NaN."""
    if kind == pa.date32():
        return pa.array(values.to_numpy("datetime64[D]"), kind)
    found = pa.array(values, from_pandas=True)
    return (found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found).cast(kind)
