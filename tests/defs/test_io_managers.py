"""What the I/O manager answers for when it writes."""

from datetime import date

import pandas as pd

from tickstock_assets.defs.io_managers import TABLES, _scope
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage.bulk import Scope

WINDOWS = [Window("AAPL", date(2024, 1, 1), date(2024, 12, 31))]
SPLITS = pd.DataFrame({"symbol": ["AAPL"], "source": ["sample"]})


def test_raw_bars_answer_for_nothing_so_none_is_ever_removed() -> None:
    assert _scope(TABLES["ohlcv_daily"], pd.DataFrame(), WINDOWS) is None


def test_derived_rows_answer_for_their_window_even_when_there_are_none() -> None:
    assert _scope(TABLES["bar_features"], pd.DataFrame(), WINDOWS) == Scope(WINDOWS, "timestamp", {"timeframe": ["1d"]})


def test_splits_answer_for_the_symbols_of_their_source_that_are_listed() -> None:
    assert _scope(TABLES["splits"], SPLITS, None) == Scope(where={"source": ["sample"], "symbol": ["AAPL"]})


def test_an_empty_answer_of_a_provider_removes_no_split() -> None:
    assert _scope(TABLES["splits"], SPLITS.head(0), None) is None
