"""What a person removed is left out of what is stored, whoever sends it.

Elsewhere: removing, and allowing it again (storage/removal.py).
"""

import numpy as np
import pandas as pd
from sqlalchemy import Connection

from tickstock_assets.storage import removal


def without_removed(connection: Connection, bars: pd.DataFrame) -> pd.DataFrame:
    """Return minute bars (symbol, timestamp) without those of stretches that a person removed."""
    stretches = removal.kept_away(connection, bars["symbol"].unique().tolist()) if len(bars) else []
    is_removed = np.zeros(len(bars), np.bool_)
    for one in stretches:
        within = (bars["timestamp"] >= one.start) & (bars["timestamp"] < one.end)
        is_removed |= (within & (bars["symbol"] == one.symbol)).to_numpy()
    return bars[~is_removed] if is_removed.any() else bars
