"""The order of sources, which SQL alone knows: the function `source_rank`."""

from typing import Any

import pandas as pd

from tickstock_assets.storage.arrow import ArrowPool


def in_rank_order(pool: ArrowPool, sources: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return sources as ordered categories, the one that ranks first being the least; in the alphabet where two rank the same."""
    names = sources.unique().tolist()
    if len(names) > 1:
        found = pool.read(
            'SELECT name FROM unnest($1::text[]) AS name ORDER BY source_rank(name), name COLLATE "C"', [names]
        )
        names = found["name"].to_pylist()
    return sources.astype(pd.CategoricalDtype(names, ordered=True))
